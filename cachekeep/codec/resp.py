"""Commands as bytes on the wire (RESP2). Pure. Replies are parsed where they are read, by libvalkey."""

from __future__ import annotations

from collections.abc import Iterable

from libvalkey import pack_command

Word = bytes | str | int


def pack(*words: Word) -> bytes:
    """One command. Text is UTF-8."""
    return pack_command(words)


def pack_all(commands: Iterable[tuple[Word, ...]]) -> bytes:
    """Several, to be sent at once."""
    return b"".join(map(pack_command, commands))
