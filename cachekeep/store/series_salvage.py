"""Saving what can be read of a damaged file of series into the one in its place. Called by store.series.

Errors of the damaged file cost a row; those of the file that is written to are the caller's, and nothing was changed
then: it is to be tried again when there is room.
"""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import closing, suppress
from pathlib import Path

from cachekeep.store.series_file import SCHEMA
from cachekeep.store.series_fold import Loss, merge, transaction

_NAMES = {"metric": "id, name", "subject": "id, region, name, node, seen"}
_POINTS = {"minute": "subject, start, body", "block": "subject, resolution, start, until, rolled, body"}
# Salvaging ends some time, whatever is left.
_MOST_FAILURES = 5000
_MOST_ROWS = 1 << 50
# Not damage: somebody looks at the file, or its log cannot be opened, as there is no room or no file descriptor.
_NOT_DAMAGE = frozenset(
    {
        sqlite3.SQLITE_BUSY,
        sqlite3.SQLITE_LOCKED,
        sqlite3.SQLITE_FULL,
        sqlite3.SQLITE_CANTOPEN,
        sqlite3.SQLITE_IOERR_WRITE,
        sqlite3.SQLITE_IOERR_SHMOPEN,
        sqlite3.SQLITE_IOERR_SHMSIZE,
    }
)


def salvaged_names(damaged: Path) -> sqlite3.Connection:
    """Subjects and metrics in a file of memory: blocks are of their numbers, whether these can be stored now or not.
    Raises sqlite3.OperationalError."""
    found = sqlite3.connect(":memory:", isolation_level=None)
    found.executescript(SCHEMA)
    _copy(damaged, found, _NAMES, lambda *_: None)
    return found


def salvage(damaged: Path, into: sqlite3.Connection, lost: Loss) -> dict[str, int]:
    """Copy every row that can be read; what is there already stays, blocks of the same hours are put together. Returns
    how many, by table. All or nothing: raises sqlite3.Error or OSError when there is no room."""
    needed, free = damaged.stat().st_size, shutil.disk_usage(damaged.parent).free
    if needed > free:
        # Before the rest of the disk is filled in vain, each time anew.
        raise OSError(f"{needed >> 20} MiB are needed, {free >> 20} MiB are free")
    with transaction(into):
        return _copy(damaged, into, _NAMES | _POINTS, lost)


def _copy(damaged: Path, into: sqlite3.Connection, tables: dict[str, str], lost: Loss) -> dict[str, int]:
    kept = dict.fromkeys(tables, 0)
    with closing(sqlite3.connect(damaged, isolation_level=None)) as old:
        for table, columns in tables.items():
            marks = ",".join("?" * (columns.count(",") + 1))
            for row in _readable(old, table, columns):
                with suppress(sqlite3.IntegrityError):
                    if table != "block" or not _merged(into, row, lost):
                        # Names come from the tables above.
                        into.execute(f"INSERT OR IGNORE INTO {table} ({columns}) VALUES ({marks})", row)  # noqa: S608
                    kept[table] += 1
    return kept


def _merged(into: sqlite3.Connection, row: tuple[object, ...], lost: Loss) -> bool:
    """Whether there was a block of these hours, which has this one's points too now."""
    subject, resolution, start, _, _, body = row
    if not (isinstance(subject, int) and isinstance(resolution, int) and isinstance(start, int)):
        return False
    return isinstance(body, bytes) and merge(into, (subject, resolution, start), body, lost)


def _readable(db: sqlite3.Connection, table: str, columns: str) -> Iterator[tuple[object, ...]]:
    """The rows by row id. Where one cannot be read, those behind it are tried, ever further on."""
    last, step, failures = 0, 1, 0
    query = f"SELECT rowid, {columns} FROM {table} NOT INDEXED WHERE rowid>? ORDER BY rowid"  # noqa: S608
    while failures < _MOST_FAILURES and last < _MOST_ROWS:
        try:
            for row in db.execute(query, (last,)):
                last, step = row[0], 1
                yield row[1:]
            return
        except sqlite3.DatabaseError as error:
            code = getattr(error, "sqlite_errorcode", 0)
            if code in _NOT_DAMAGE or code & 0xFF in _NOT_DAMAGE:
                raise
            failures += 1
            last, step = last + step, 2 * step
