"""What every key is at a few moments: a digest of each state, and the records that make up the first one.

Memory does not grow with the data: a row for each key and moment at which it is another goes to a file in a private
folder. No key and no value is in it, only digests with a secret of this run. Called by backup.compact and its proof.
"""

from __future__ import annotations

import hashlib
import sqlite3
from bisect import bisect_left
from collections.abc import Iterator, Sequence
from itertools import accumulate, groupby
from operator import itemgetter
from pathlib import Path
from typing import NamedTuple

from cachekeep.backup.catalog import CatalogError, CatalogFault
from cachekeep.backup.catalog_objects import KindName
from cachekeep.codec.record import NO_EXPIRY, Kind, Record

_CACHE_KIB = 16 << 10
_DIGEST_BYTES = 16
_BASE = -1
FUNCTIONS_DB = -1  # function libraries are kept like a key of no database
_TOMBSTONE, _FLUSHED, _FUNCTIONS = int(Kind.TOMBSTONE), int(Kind.FLUSHED), int(Kind.FUNCTIONS)
# moment: number of the first moment at which the record holds, or _BASE. value: a digest of key, payload and expiry;
# NULL: the key is gone.
_TABLES = (
    "CREATE TABLE last (key BLOB, moment INTEGER, number INTEGER, db INTEGER, value BLOB, expires INTEGER, "
    "PRIMARY KEY (key, moment)) WITHOUT ROWID",
    "CREATE TABLE chosen (db INTEGER, number INTEGER, PRIMARY KEY (db, number)) WITHOUT ROWID",
)
_PUT = (
    "INSERT INTO last VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT (key, moment) DO UPDATE SET number = excluded.number, "
    "value = excluded.value, expires = excluded.expires"
)


class _Row(NamedTuple):
    key: bytes
    moment: int
    number: int
    db: int
    value: bytes | None
    expires: int


class States:
    """`feed` all records in the order of truth, then `judge`; they are numbered from 0. `close` ends it.

    moments: rising. secret: the same where digests are to be compared. Raises sqlite3.Error, such as for a full disk.
    """

    def __init__(self, file: Path, moments: Sequence[int], secret: bytes) -> None:
        self._moments = list(moments)
        self._hasher = hashlib.blake2b(key=secret, digest_size=_DIGEST_BYTES)
        self._sql = sqlite3.connect(file, isolation_level=None)
        for pragma in ("journal_mode = OFF", "synchronous = OFF", f"cache_size = -{_CACHE_KIB}", "temp_store = FILE"):
            self._sql.execute(f"PRAGMA {pragma}")
        for table in _TABLES:
            self._sql.execute(table)
        self._sql.execute("BEGIN")  # never committed: nobody else reads it
        self.records = 0
        self._flushed: dict[tuple[int, int], int] = {}  # by database and moment: the last flush that counts then
        self._late_flush: dict[int, int] = {}  # the first flush after the first moment
        self._last_early = -1
        self.keys: dict[int, int] = {}
        self.digests: list[str] = []

    def __enter__(self) -> States:
        return self

    def __exit__(self, *_: object) -> None:
        self._sql.close()

    def feed(self, kind: KindName, records: Sequence[Record]) -> None:
        """kind: of their segment."""
        rows: list[tuple[bytes, int, int, int, bytes | None, int]] = []
        first_ms = self._moments[0]
        for number, record in enumerate(records, self.records):
            if kind == "base":
                rows.append(self._row(record, _BASE, number))
                continue
            moment = 0 if record.captured_ms <= first_ms else bisect_left(self._moments, record.captured_ms)
            if record.kind == _FLUSHED:
                self._sql.executemany(_PUT, rows)
                rows = []
                self._flush(record.db, moment, number)
                continue
            if moment == 0:
                self._last_early = number
            if moment < len(self._moments):
                rows.append(self._row(record, moment, number))
        self._sql.executemany(_PUT, rows)
        self.records += len(records)

    def judge(self) -> None:
        """Once all are fed: `digests` per moment, `keys` per database at the first, and which records are `chosen`.

        Raises CatalogError(STATE) where a flush after the first moment stands before a record that holds at it.
        """
        sums, chosen = [0] * len(self._moments), list[tuple[int, int]]()
        since = [0] * len(self._moments)  # of what stays as it is from that moment on
        flushed = {db for db, _ in self._flushed}
        for _, found in groupby(self._sql.execute("SELECT * FROM last ORDER BY key, moment"), itemgetter(0)):
            rows = [_Row(*row) for row in found]
            only = rows[0]
            if len(rows) == 1 and only.expires == NO_EXPIRY and only.db not in flushed:
                if only.value is not None:
                    since[max(only.moment, 0)] += int.from_bytes(only.value, "little")
                    if only.moment <= 0:
                        self._choose(only, chosen)
            else:
                self._judge(rows, sums, chosen)
            if len(chosen) > 10_000:
                self._sql.executemany("INSERT INTO chosen VALUES (?, ?)", chosen)
                chosen = []
        self._sql.executemany("INSERT INTO chosen VALUES (?, ?)", chosen)
        whole = [one + all_ for one, all_ in zip(sums, accumulate(since), strict=True)]
        self.digests = [f"{one % (1 << 8 * _DIGEST_BYTES):032x}" for one in whole]

    def chosen(self, db: int) -> Iterator[int]:
        """Numbers of the records that make up the first state of a database, or of FUNCTIONS_DB, rising."""
        for (number,) in self._sql.execute("SELECT number FROM chosen WHERE db = ? ORDER BY number", (db,)):
            yield number

    def is_void(self, record: Record, number: int) -> bool:
        """Of a change after the first moment: whether one that counts at that moment already stands behind it."""
        if number < self._flushed.get((_db_of(record), 0), -1):
            return True
        if number > self._last_early or record.kind == _FLUSHED:
            return False
        query = "SELECT number FROM last WHERE key = ? AND moment = 0"
        found = self._sql.execute(query, (self._key(record),)).fetchone()
        return found is not None and found[0] > number

    def _judge(self, rows: Sequence[_Row], sums: list[int], chosen: list[tuple[int, int]]) -> None:
        """One key at all moments."""
        for at, moment_ms in enumerate(self._moments):
            row = self._holds(rows, at)
            if row is None or row.value is None:
                continue
            lives = row.expires == NO_EXPIRY or row.expires > moment_ms
            if lives:
                sums[at] += int.from_bytes(row.value, "little")
            if at == 0 and (lives or row.expires == moment_ms):
                self._choose(row, chosen)

    def _holds(self, rows: Sequence[_Row], at: int) -> _Row | None:
        """The record that a key has at a moment: its last change, which goes before any copy of it, or its copy."""
        best: _Row | None = None
        for row in rows:
            if row.moment > at or row.number < self._flushed.get((row.db, at), -1):
                continue
            if best is None or best.moment == _BASE or row.number > best.number:
                best = row
        return best

    def _choose(self, row: _Row, chosen: list[tuple[int, int]]) -> None:
        if row.number > self._late_flush.get(row.db, row.number):
            what = f"a flush of database {row.db} stands before a record from before it, around the first kept moment"
            raise CatalogError(CatalogFault.STATE, what, "choose another moment; nothing was removed")
        if row.db != FUNCTIONS_DB:
            self.keys[row.db] = self.keys.get(row.db, 0) + 1
        chosen.append((row.db, row.number))

    def _flush(self, db: int, moment: int, number: int) -> None:
        if moment > 0:
            self._late_flush.setdefault(db, number)
        for at in range(moment, len(self._moments)):
            self._flushed[db, at] = number

    def _row(self, record: Record, moment: int, number: int) -> tuple[bytes, int, int, int, bytes | None, int]:
        db = _db_of(record)
        key = self._key(record)
        if record.kind == _TOMBSTONE:
            return key, moment, number, db, None, NO_EXPIRY
        hasher = self._hasher.copy()
        hasher.update(key + record.expires_ms.to_bytes(8, "little", signed=True))
        hasher.update(record.payload)
        return key, moment, number, db, hasher.digest(), record.expires_ms

    def _key(self, record: Record) -> bytes:
        hasher = self._hasher.copy()
        hasher.update(_db_of(record).to_bytes(5, "little", signed=True) + record.key)
        return hasher.digest()


def _db_of(record: Record) -> int:
    # A record of functions says database 0, but no flush of that takes them away.
    return FUNCTIONS_DB if record.kind == _FUNCTIONS else record.db
