"""`python -m cachekeep.snapshot_child`: an order from standard input, what comes of it on standard output.

The first line of standard input is the order, with the password of the engines if there is one: neither argv nor
environment has a secret. The pipe stays open for as long as the service wants the work: when it closes, also because
the service was killed, the work halts and what is half done is removed.

    {"began": "<generation>"}          before its first byte is written
    {"done": {...}}                    see domain.snapshot_work.Outcome
    {"failed": "...", "again": true}   again: the same order may succeed later
"""

from __future__ import annotations

import os
import sys
import threading

import msgspec

from cachekeep.backup.catalog import CatalogError
from cachekeep.backup.copy_types import Stopped
from cachekeep.backup.pacing import Halted
from cachekeep.codec.segment import SegmentError
from cachekeep.domain.blobs import BlobError
from cachekeep.domain.remote import Refusal, RemoteError, ScratchError
from cachekeep.domain.snapshot_work import WorkFailed
from cachekeep.snapshot_child.compose import Wish
from cachekeep.snapshot_child.order import carried_out

# So long may what is half done take to be removed once the service is gone.
_END_S = 30.0


def main() -> int:
    os.umask(0o077)
    wish = msgspec.json.decode(sys.stdin.buffer.readline(), type=Wish)
    stop = threading.Event()
    threading.Thread(target=_await_end_of_input, args=(stop,), daemon=True).start()
    try:
        tell({"done": carried_out(wish, lambda generation: tell({"began": generation}), stop)})
    except (Stopped, Halted):
        tell({"failed": "it was stopped", "again": True})
    except WorkFailed as error:
        tell({"failed": str(error), "again": error.again})
    except (RemoteError, Refusal) as error:
        tell({"failed": str(error), "again": True})
    except _lasting() as error:
        tell({"failed": str(error), "again": False})
    return 0


def _lasting() -> tuple[type[Exception], ...]:
    """What the same order would fail of again. Asked only after a failure: most orders need none of these parts."""
    from cachekeep.codec.dump import DumpError

    return CatalogError, BlobError, ScratchError, SegmentError, DumpError, OSError


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


if __name__ == "__main__":
    # Not sys.exit: the thread that reads would hold it up.
    os._exit(main())
