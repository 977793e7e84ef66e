"""The SQLite file of series: its schema, opening it, and saving what can be read of a damaged one.

Called by store.series. Layout: docs of the binary columns are in store.series_block.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing, suppress
from pathlib import Path

from cachekeep.domain.ports import WorldError

SCHEMA_VERSION = 1
# until: when the last point of a block ends. rolled: a block of minutes that is in the coarser tiers as it stands.
_SCHEMA = """
CREATE TABLE IF NOT EXISTS meta (name TEXT PRIMARY KEY, value INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS metric (id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE);
CREATE TABLE IF NOT EXISTS subject (
  id INTEGER PRIMARY KEY, region TEXT NOT NULL, name TEXT NOT NULL, node TEXT NOT NULL, seen BLOB NOT NULL,
  UNIQUE (region, name, node));
CREATE TABLE IF NOT EXISTS minute (subject INTEGER NOT NULL, start INTEGER NOT NULL, body BLOB NOT NULL);
CREATE UNIQUE INDEX IF NOT EXISTS minute_of_subject ON minute (subject, start);
CREATE TABLE IF NOT EXISTS block (
  subject INTEGER NOT NULL, resolution INTEGER NOT NULL, start INTEGER NOT NULL, until INTEGER NOT NULL,
  rolled INTEGER NOT NULL, body BLOB NOT NULL);
CREATE UNIQUE INDEX IF NOT EXISTS block_of_subject ON block (subject, resolution, start, until, rolled);
CREATE INDEX IF NOT EXISTS block_by_tier ON block (resolution, until);
CREATE INDEX IF NOT EXISTS block_by_age ON block (until);
CREATE INDEX IF NOT EXISTS block_to_roll ON block (start) WHERE rolled=0;
"""
_TABLES = {
    "metric": "id, name",
    "subject": "id, region, name, node, seen",
    "minute": "subject, start, body",
    "block": "subject, resolution, start, until, rolled, body",
}
PAGE_BYTES = 8192
# Salvaging ends some time, whatever is left.
_MOST_FAILURES = 5000
_MOST_ROWS = 1 << 50


class Damaged(Exception):
    """The file is not a whole SQLite database."""


def open_series(path: Path) -> sqlite3.Connection:
    """The connection that writes. Raises WorldError for a newer schema, Damaged, sqlite3.OperationalError."""
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    path.touch(mode=0o600)
    db = sqlite3.connect(path, isolation_level=None, check_same_thread=False, timeout=5.0)
    try:
        _prepare(db, path)
    except BaseException as error:
        db.close()
        if is_damage(error):
            raise Damaged(str(error)) from error
        raise
    return db


def _prepare(db: sqlite3.Connection, path: Path) -> None:
    db.execute(f"PRAGMA page_size={PAGE_BYTES}")
    db.execute("PRAGMA journal_mode=WAL")
    # A power cut may cost the last minutes; a kill costs nothing that was committed.
    db.execute("PRAGMA synchronous=NORMAL")
    db.execute(f"PRAGMA journal_size_limit={32 << 20}")
    found = db.execute("PRAGMA user_version").fetchone()[0]
    if found > SCHEMA_VERSION:
        raise WorldError(
            f"{path} was written by a newer Cachekeep (schema {found}, this one knows {SCHEMA_VERSION}): "
            "run that version, or choose another state directory"
        )
    db.executescript(_SCHEMA)
    db.execute(f"PRAGMA user_version={SCHEMA_VERSION}")


def open_reader(path: Path) -> sqlite3.Connection:
    return sqlite3.connect(
        f"{path.resolve().as_uri()}?mode=ro", uri=True, isolation_level=None, check_same_thread=False, timeout=5.0
    )


def is_damage(error: BaseException) -> bool:
    """Whether SQLite says that the file's bytes are wrong, rather than that it cannot be reached or written."""
    return isinstance(error, sqlite3.DatabaseError) and (
        not isinstance(error, (sqlite3.OperationalError, sqlite3.IntegrityError, sqlite3.ProgrammingError))
        or "malformed" in str(error)
    )


def move_aside(path: Path) -> Path:
    """Rename a damaged file, with its write-ahead log, to `NAME.damaged-TIME`; returns the new path."""
    stamp = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())
    aside, number = path.with_name(f"{path.name}.damaged-{stamp}"), 1
    while aside.exists():
        number += 1
        aside = path.with_name(f"{path.name}.damaged-{stamp}-{number}")
    # The log first: without it the new file would begin with the old one's.
    for ending in ("-wal", ""):
        with suppress(FileNotFoundError):
            path.with_name(path.name + ending).rename(aside.with_name(aside.name + ending))
    path.with_name(path.name + "-shm").unlink(missing_ok=True)
    return aside


def salvage(damaged: Path, into: sqlite3.Connection) -> dict[str, int]:
    """Copy every row that can be read. Returns how many, by table."""
    kept = dict.fromkeys(_TABLES, 0)
    with suppress(sqlite3.DatabaseError), closing(sqlite3.connect(damaged, isolation_level=None)) as old:
        for table, columns in _TABLES.items():
            marks = ",".join("?" * (columns.count(",") + 1))
            into.execute("BEGIN IMMEDIATE")
            for row in _readable(old, table, columns):
                with suppress(sqlite3.IntegrityError):
                    # Names come from _TABLES.
                    into.execute(f"INSERT OR IGNORE INTO {table} ({columns}) VALUES ({marks})", row)  # noqa: S608
                    kept[table] += 1
            into.execute("COMMIT")
    return kept


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
        except sqlite3.DatabaseError:
            failures += 1
            last, step = last + step, 2 * step
