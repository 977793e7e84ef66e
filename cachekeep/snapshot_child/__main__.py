"""`python -m cachekeep.snapshot_child`: an order from standard input, what comes of it on standard output.

When the pipe closes by which it was given (snapshot_child.pipes), the work halts and what is half done is removed. On
standard output:

    {"began": "<generation>"}          before its first byte is written
    {"done": {...}}                    see domain.snapshot_work.Outcome
    {"failed": "...", "again": true}   again: the same order may succeed later
"""

from __future__ import annotations

import os

from cachekeep.backup.catalog import CatalogError
from cachekeep.backup.copy_types import Stopped
from cachekeep.backup.pacing import Halted
from cachekeep.codec.segment import SegmentError
from cachekeep.domain.blobs import BlobError
from cachekeep.domain.remote import Refusal, RemoteError, ScratchError
from cachekeep.domain.snapshot_work import WorkFailed
from cachekeep.snapshot_child.order import carried_out
from cachekeep.snapshot_child.pipes import given, tell


def main() -> int:
    os.umask(0o077)
    wish, stop = given()
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


if __name__ == "__main__":
    # Not sys.exit: the thread that reads would hold it up.
    os._exit(main())
