"""How a command ends badly: one sentence on stderr and an exit code. Raised by commands, shown by cli.main."""

from __future__ import annotations

# The exit codes that scripts may rely on; 1: what was asked for did not work out.
MISUSE = 2
SERVICE_DOWN = 3
# As sysexits.h has it (EX_IOERR).
OUTPUT_FAILED = 74


class Refused(Exception):
    """The command cannot do what was asked; the text says why and what to do."""

    def __init__(self, text: str, code: int = MISUSE) -> None:
        super().__init__(text)
        self.code = code


class RefusedByService(Refused):
    """The service understood and said no, in its own words: the wish was wrong, nothing broke."""
