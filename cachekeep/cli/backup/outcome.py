"""How backup commands end: errors as one sentence, exit codes that a script can trust, SIGINT and SIGTERM in order.

0: everything that was asked for is proved. 1: it failed. 2: the call is wrong. 4: done, with gaps, each named.
5: differences were found. 130: stopped by a signal; what was done is kept, the same call goes on.
"""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from cachekeep import backups
from cachekeep.cli.refusal import MISUSE, Refused

FAILED, GAPS, DIFFERENT, STOPPED = 1, 4, 5, 130
EXIT_CODES = (
    "[bold]Exit codes[/bold]  0 everything asked for is proved | 1 failed | 2 wrong call | 4 done with gaps, each "
    "named | 5 differences found | 130 stopped, the same call goes on"
)


@contextmanager
def told() -> Iterator[None]:
    """Turn what backups raise into one sentence and an exit code."""
    try:
        yield
    except backups.MISUSES as error:
        raise Refused(str(error), MISUSE) from error
    except backups.STOPS as error:
        raise Refused(str(error), STOPPED) from error
    except backups.ERRORS as error:
        raise Refused(str(error), FAILED) from error
    except OSError as error:  # of a folder that a command writes to
        what = f"{error.filename or 'a file'}: {error.strerror or error}"
        raise Refused(f"{what}; nothing half done is presented as done", FAILED) from error


@contextmanager
def stoppable() -> Iterator[threading.Event]:
    """The first SIGINT, SIGTERM or SIGHUP asks for an orderly end, the second ends at once.

    Where SIGHUP is ignored (nohup) it stays so.
    """
    stop = threading.Event()

    def ask(number: int, _: FrameType | None) -> None:
        if stop.is_set():
            os._exit(128 + number)
        stop.set()

    heeded = [signal.SIGINT, signal.SIGTERM]
    if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:
        heeded.append(signal.SIGHUP)
    before = {number: signal.signal(number, ask) for number in heeded}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
