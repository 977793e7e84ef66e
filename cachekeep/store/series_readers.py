"""Connections that read the file of series: a few are kept, and none is open while the file itself is exchanged.

Called by store.series, in any thread.
"""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_KEPT = 4
# Reads take some hundred milliseconds; one that takes longer puts the exchange off.
_END_WITHIN_S = 10.0


class Readers:
    """Connections to the file at `path`."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._kept: list[sqlite3.Connection] = []
        self._door = threading.Condition()
        self._reading = 0
        self._shut = False

    @contextmanager
    def one(self) -> Iterator[sqlite3.Connection]:
        """A connection of this thread's own for the while, in one transaction: a block and the minutes that it was made
        of are never seen both, or neither. Raises sqlite3.Error, also while readers are shut out."""
        with self._door:
            if self._shut:
                raise sqlite3.OperationalError("the file is being exchanged")
            self._reading += 1
            db = self._kept.pop() if self._kept else None
        try:
            db = db or _open(self._path)
            db.execute("BEGIN")
            yield db
            db.execute("COMMIT")
        except BaseException:
            if db is not None:
                db.close()
            raise
        else:
            self._keep(db)
        finally:
            with self._door:
                self._reading -= 1
                self._door.notify_all()

    @contextmanager
    def shut_out(self) -> Iterator[None]:
        """Nobody reads for the while, and no connection is left. Raises sqlite3.OperationalError when reads do not end.

        Why: a connection that is kept would go on with the former file, and answer without what was written since.
        """
        with self._door:
            self._shut = True
        try:
            with self._door:
                if not self._door.wait_for(lambda: not self._reading, _END_WITHIN_S):
                    raise sqlite3.OperationalError(f"a read has not ended for {_END_WITHIN_S:g} s")
            self.close()
            yield
        finally:
            with self._door:
                self._shut = False

    def close(self) -> None:
        """Those that nobody uses now."""
        with self._door:
            while self._kept:
                self._kept.pop().close()

    def _keep(self, db: sqlite3.Connection) -> None:
        with self._door:
            if len(self._kept) < _KEPT:
                self._kept.append(db)
                return
        db.close()


def _open(path: Path) -> sqlite3.Connection:
    return sqlite3.connect(
        f"{path.resolve().as_uri()}?mode=ro", uri=True, isolation_level=None, check_same_thread=False, timeout=5.0
    )
