"""The SQLite file of series: its schema, opening it, moving it aside, and whether it is still where it was opened.

Called by store.series. Layout: docs of the binary columns are in store.series_block.
"""

from __future__ import annotations

import sqlite3
import time
from contextlib import closing, suppress
from pathlib import Path

from cachekeep.domain.world import WorldError

SCHEMA_VERSION = 1
# until: when the last point of a block ends. rolled: a block of minutes that is in the coarser tiers as it stands.
SCHEMA = """
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
PAGE_BYTES = 8192
_ENDINGS = ("", "-wal", "-shm")


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
    db.executescript(SCHEMA)
    db.execute(f"PRAGMA user_version={SCHEMA_VERSION}")


def is_damage(error: BaseException) -> bool:
    """Whether SQLite says that the file's bytes are wrong, rather than that it cannot be reached or written."""
    return isinstance(error, sqlite3.DatabaseError) and (
        not isinstance(error, (sqlite3.OperationalError, sqlite3.IntegrityError, sqlite3.ProgrammingError))
        or "malformed" in str(error)
    )


def move_aside(path: Path, why: str = "damaged") -> Path:
    """Rename a file, with its write-ahead log, to `NAME.WHY-TIME`; returns the new path."""
    stamp = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())
    aside, number = path.with_name(f"{path.name}.{why}-{stamp}"), 1
    while aside.exists():
        number += 1
        aside = path.with_name(f"{path.name}.{why}-{stamp}-{number}")
    # The log first: without it the new file would begin with the old one's.
    for ending in ("-wal", ""):
        with suppress(FileNotFoundError):
            path.with_name(path.name + ending).rename(aside.with_name(aside.name + ending))
    path.with_name(path.name + "-shm").unlink(missing_ok=True)
    return aside


def exchange(path: Path) -> tuple[Path, sqlite3.Connection]:
    """Move a damaged file aside and begin a new one: where it is now, and the connection. Raises what open_series does;
    the damaged file is in its place then."""
    aside = move_aside(path)
    try:
        return aside, open_series(path)
    except BaseException:
        for ending in _ENDINGS:
            path.with_name(path.name + ending).unlink(missing_ok=True)
            with suppress(FileNotFoundError):
                aside.with_name(aside.name + ending).rename(path.with_name(path.name + ending))
        raise


def identity(path: Path) -> tuple[tuple[int, int] | None, ...]:
    """Of the file, its log and the index of that: devices and inodes; None for what is not there. A file that was
    deleted or replaced under a connection is written by it all the same, and gone when that ends. Raises OSError."""
    return tuple(_identity(path.with_name(path.name + ending)) for ending in _ENDINGS)


def put_back(db: sqlite3.Connection, path: Path, known: tuple[tuple[int, int] | None, ...]) -> Path | None:
    """Write all that `db` has to a new file at `path`, and leave it to be opened by whoever closes `db` then.

    known: its identity when it was opened. Returns where another file is now that stood there. Raises sqlite3.Error and
    OSError; then nothing was changed. Nobody may read meanwhile.
    """
    new = path.with_name(path.name + ".new")
    new.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    for ending in ("-journal", ""):
        new.with_name(new.name + ending).unlink(missing_ok=True)
    new.touch(mode=0o600)
    try:
        with closing(sqlite3.connect(new)) as copy:
            db.backup(copy)
    except BaseException:
        new.unlink(missing_ok=True)
        raise
    found = identity(path)
    is_foreign = found[0] not in (None, known[0])
    for ending, now, then in zip(_ENDINGS[1:], found[1:], known[1:], strict=True):
        # Any but a foreign file's own would be taken for the new file's.
        if not is_foreign or now == then:
            path.with_name(path.name + ending).unlink(missing_ok=True)
    aside = move_aside(path, "replaced") if is_foreign else None
    new.replace(path)
    return aside


def _identity(path: Path) -> tuple[int, int] | None:
    try:
        found = path.stat()
    except (FileNotFoundError, NotADirectoryError):
        return None
    return found.st_dev, found.st_ino
