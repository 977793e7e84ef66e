"""What each process of this room has of the service: the wish that it is given, and whom it tells of it.

The first line of standard input is the wish, with the password of the engines if there is one: neither argv nor
environment has a secret. The pipe stays open for as long as the service wants the work; it closes also because the
service was killed.
"""

from __future__ import annotations

import os
import sys
import threading

import msgspec

from cachekeep.snapshot_child.compose import Wish

# So long may what is half done take to be sealed, or removed, once the service is gone.
_END_S = 30.0


def given() -> tuple[Wish, threading.Event]:
    """The wish, and what is set when it is not wanted any more. The process ends a while after that, done or not."""
    wish = msgspec.json.decode(sys.stdin.buffer.readline(), type=Wish)
    stop = threading.Event()
    threading.Thread(target=_await_end_of_input, args=(stop,), daemon=True).start()
    return wish, stop


def tell(line: object) -> None:
    """One line; nobody to tell it to is no error: the service is gone, and what stands in the store is taken up."""
    try:
        sys.stdout.buffer.write(msgspec.json.encode(line) + b"\n")
        sys.stdout.buffer.flush()
    except BrokenPipeError:
        return


def _await_end_of_input(stop: threading.Event) -> None:
    while os.read(0, 4096):
        continue
    stop.set()
    threading.Event().wait(_END_S)
    os._exit(1)
