"""What a generation has of every key: a digest per (database, key), in a file, so that memory does not grow with the
data. It tells what of a pass over all keys is new, which keys are gone, and which a change has been written of.

A file in a private temporary folder, made anew by each run from the generation itself; never trusted beyond that.
Safe to share between threads. About 60 bytes and the key itself are written per key.
"""

from __future__ import annotations

import hashlib
import sqlite3
import tempfile
import threading
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from cachekeep.codec.record import Record

_CACHE_KIB = 8 << 10
_ASKED_AT_ONCE = 500
_FOOTER_BYTES = 10  # version and checksum of DUMP
_STREAMS = frozenset((15, 19, 21))
# Whose order of elements depends on the process: hash tables.
_UNORDERED = frozenset((2, 4, 22, 25))
# Sorted sets, packed and not.
_PACKED, _SPREAD = frozenset((12, 17)), frozenset((3, 5))
# CHANGED: the last record is a change; FOUND: one that a pass wrote. SIGNALLED: it was announced.
STREAM, CHANGED, ABSENT, SIGNALLED, UNORDERED, FOUND, PACKED = 1, 2, 4, 8, 16, 32, 64
_TABLE = """
CREATE TABLE state (
  db INTEGER NOT NULL, key BLOB NOT NULL, slot INTEGER NOT NULL, digest INTEGER, flags INTEGER NOT NULL,
  pass INTEGER NOT NULL, seq INTEGER NOT NULL, PRIMARY KEY (db, key)) WITHOUT ROWID
"""
_PUT = """
INSERT INTO state VALUES (?, ?, ?, ?, ?, ?, ?)
ON CONFLICT (db, key) DO UPDATE SET digest = excluded.digest, flags = excluded.flags, pass = excluded.pass,
  seq = excluded.seq
"""


class Known(NamedTuple):
    """What the generation has of a key. digest None: not known. flags: of the constants above. pass_: the newest pass
    that met it or that went on when it was put; seq: when it was put.
    """

    digest: int | None
    flags: int
    pass_: int
    seq: int

    def announced_since(self, pass_: int) -> bool:
        """Whether the key was announced, and read, since that pass began: then the pass knows it no better."""
        return bool(self.flags & SIGNALLED) and self.pass_ >= pass_


class Put(NamedTuple):
    """One key as it was just written. digest None and ABSENT: a tombstone."""

    db: int
    key: bytes
    slot: int
    digest: int | None
    flags: int


def digest_of(record: Record, *, exact: bool = True) -> int:
    """Of an upsert: its value and its expiry (exact: to the ms; else only whether it has one), 63 bits."""
    expires = record.expires_ms if exact or record.expires_ms < 0 else 0
    hashed = hashlib.blake2b(
        record.payload[:-_FOOTER_BYTES], digest_size=8, salt=expires.to_bytes(8, "big", signed=True)
    )
    return int.from_bytes(hashed.digest(), "big") >> 1


def flags_of(record: Record) -> int:
    """STREAM, UNORDERED and PACKED, by the type of the payload."""
    kind = record.payload[0] if record.payload else 0
    packed = PACKED if kind in _PACKED else 0
    return (STREAM if kind in _STREAMS else 0) | (UNORDERED if kind in _UNORDERED else 0) | packed


def is_spread(record: Record) -> bool:
    """Whether it is a sorted set that is not packed."""
    return record.payload[:1] != b"" and record.payload[0] in _SPREAD


class Index:
    """`close` removes the file."""

    def __init__(self) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="cachekeep-index-", ignore_cleanup_errors=True)
        self._lock = threading.RLock()
        self._sql = sqlite3.connect(
            Path(self._folder.name) / "index.sqlite", isolation_level=None, check_same_thread=False
        )
        for pragma in ("journal_mode = OFF", "synchronous = OFF", f"cache_size = -{_CACHE_KIB}", "temp_store = FILE"):
            self._sql.execute(f"PRAGMA {pragma}")
        self._sql.execute(_TABLE)
        self._sql.execute("BEGIN")  # never committed: nobody else reads it, and it does not outlive us

    def close(self) -> None:
        with self._lock, suppress(sqlite3.ProgrammingError):  # closed already
            self._sql.close()
        self._folder.cleanup()

    def known(self, db: int, keys: Sequence[bytes]) -> dict[bytes, Known]:
        """Of those keys that the generation knows."""
        found: dict[bytes, Known] = {}
        with self._lock:
            for at in range(0, len(keys), _ASKED_AT_ONCE):
                some = keys[at : at + _ASKED_AT_ONCE]
                marks = ",".join("?" * len(some))
                query = f"SELECT key, digest, flags, pass, seq FROM state WHERE db = ? AND key IN ({marks})"  # noqa: S608
                for key, *rest in self._sql.execute(query, (db, *some)):
                    found[key] = Known(*rest)
        return found

    def with_known(self, records: Sequence[Record]) -> Iterator[tuple[Record, Known | None]]:
        """Each record, database by database, with what the generation knows of its key: None where that is nothing."""
        for db in dict.fromkeys(record.db for record in records):
            mine = [record for record in records if record.db == db]
            known = self.known(db, [record.key for record in mine])
            for record in mine:
                yield record, known.get(record.key)

    def put(self, puts: Iterable[Put], pass_: int, seq: int) -> None:
        with self._lock:
            rows = [(one.db, one.key, one.slot, one.digest, one.flags, pass_, seq) for one in puts]
            self._sql.executemany(_PUT, rows)

    def seen(self, db: int, keys: Iterable[bytes], pass_: int) -> None:
        """Those keys were found as they are known."""
        with self._lock:
            self._sql.executemany("UPDATE state SET pass = ? WHERE db = ? AND key = ?", [(pass_, db, k) for k in keys])

    def unseen(self, pass_: int, slots: Sequence[tuple[int, int]] | None) -> Iterator[tuple[int, list[bytes]]]:
        """(database, keys) that no pass from pass_ on has met, within the ranges of slots (None: all), page by page."""
        if slots is None:
            where = "1"
        else:
            where = " OR ".join(f"slot BETWEEN {first} AND {last}" for first, last in slots) or "0"
        query = (
            f"SELECT db, key FROM state WHERE (db, key) > (?, ?) AND pass < ? AND NOT flags & {ABSENT}"  # noqa: S608
            f" AND ({where}) ORDER BY db, key LIMIT {_ASKED_AT_ONCE}"
        )
        yield from self._pages(query, (pass_,))

    def streams(self) -> Iterator[tuple[int, list[bytes]]]:
        """All streams, page by page."""
        query = (
            f"SELECT db, key FROM state WHERE (db, key) > (?, ?) AND flags & {STREAM} AND NOT flags & {ABSENT}"  # noqa: S608
            f" ORDER BY db, key LIMIT {_ASKED_AT_ONCE}"
        )
        yield from self._pages(query, ())

    def databases(self) -> set[int]:
        """Those of which the generation has keys."""
        with self._lock:
            found, last = set[int](), -1
            while row := self._sql.execute("SELECT min(db) FROM state WHERE db > ?", (last,)).fetchone():
                if row[0] is None:
                    break
                last = row[0]
                found.add(last)
            return found

    def count(self, db: int) -> int:
        with self._lock:
            query = f"SELECT count(*) FROM state WHERE db = ? AND NOT flags & {ABSENT}"  # noqa: S608
            return int(self._sql.execute(query, (db,)).fetchone()[0])

    def count_in(self, slots: Sequence[tuple[int, int]]) -> int:
        """Keys of these ranges of slots, in all databases."""
        where = " OR ".join(f"slot BETWEEN {first} AND {last}" for first, last in slots) or "0"
        with self._lock:
            query = f"SELECT count(*) FROM state WHERE ({where}) AND NOT flags & {ABSENT}"  # noqa: S608
            return int(self._sql.execute(query).fetchone()[0])

    def flush(self, db: int, *, copied: bool = True) -> None:
        """The database was emptied. copied: what the base has of it is gone as well."""
        with self._lock:
            more = "" if copied else f" AND flags & {CHANGED}"
            self._sql.execute(f"DELETE FROM state WHERE db = ?{more}", (db,))  # noqa: S608

    def unknow(self, seq: int) -> None:
        """What was put since then may not have been stored: it counts as unknown, and as there."""
        with self._lock:
            query = f"UPDATE state SET digest = NULL, flags = flags & ~{ABSENT} | {CHANGED} WHERE seq >= ?"  # noqa: S608
            self._sql.execute(query, (seq,))

    def forget_absent(self, seq: int) -> None:
        """Keys whose tombstone was put before then."""
        with self._lock:
            self._sql.execute(f"DELETE FROM state WHERE flags & {ABSENT} AND seq < ?", (seq,))  # noqa: S608

    def _pages(self, query: str, more: tuple[int, ...]) -> Iterator[tuple[int, list[bytes]]]:
        last: tuple[int, bytes] = (-1, b"")
        while True:
            with self._lock:
                rows = self._sql.execute(query, (*last, *more)).fetchall()
            if not rows:
                return
            last = rows[-1]
            for db in dict.fromkeys(row[0] for row in rows):
                yield db, [key for at, key in rows if at == db]
