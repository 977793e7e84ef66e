"""Months of points in one bounded SQLite file, apart from the store of resources.

One thread writes at a time; any thread reads, on connections of its own. Minutes are rows for half an hour or so, then
columns in blocks (store.series_block), in three tiers (store.series_fold).
"""

from __future__ import annotations

import sqlite3
import threading
import time
from collections.abc import Callable, Collection, Mapping
from contextlib import closing
from pathlib import Path

import structlog

from cachekeep.domain.metrics import MINUTE_S, Column, Point, Subject
from cachekeep.domain.world import WorldError
from cachekeep.store.series_file import Damaged, exchange, identity, is_damage, open_series, put_back
from cachekeep.store.series_fold import DAY_S, HOUR_S, Retention, bound, expire, fold, roll, to_roll, transaction
from cachekeep.store.series_minute import pack_minute
from cachekeep.store.series_names import Names
from cachekeep.store.series_read import Asked, Blocks, Reading
from cachekeep.store.series_readers import Readers
from cachekeep.store.series_salvage import salvage, salvaged_names

__all__ = ["Retention", "SeriesFile"]

log = structlog.get_logger()

# Of minutes that cannot be written: about three hours of 200 nodes.
WAITING_BYTES = 16 << 20
_ROW_BYTES = 150
# A subject's minutes are folded when there are so many, or when they are so old.
FOLD_MINUTES = 45
FOLD_AFTER_S = 7200
# Each write tends so large a part of the subjects: each has its turn before its minutes are much more.
_PART = 45
# What a full disk kept from being saved is tried again every so many writes, for about a day.
SALVAGE_EVERY, _SALVAGE_TRIES = 10, 144
_LOSSES, _LOSSES_TOLD = 100, 3
# How far retention moves on at once: a clock that jumps ahead for a while must not cost the history.
ADVANCE_S = 6 * HOUR_S
_FOREVER = 1 << 53


class SeriesFile:
    """Implements domain.metric_ports.SeriesStore. Raises WorldError when the file is of a newer Cachekeep, or cannot be
    opened."""

    def __init__(self, path: Path, retention: Retention | None = None, clock: Callable[[], float] = time.time) -> None:
        self._path, self._retention, self._clock = path, retention or Retention(), clock
        self._lock = threading.RLock()
        self._readers = Readers(path)
        self._blocks = Blocks()
        # Minutes by start, packed by subject. Replaced, never changed in place: readers look without the lock.
        self._pending: dict[int, dict[int, bytes]] = {}
        self._waiting: str | None = None
        self._dropped = 0
        # What became of the file, by what happened to it.
        self._told: dict[str, str] = {}
        # Damaged files that are yet to be saved from, and how often that was tried.
        self._unsaved: dict[Path, int] = {}
        self._writes = 0
        self._losses: dict[tuple[int, int], str] = {}
        self._refused: str | None = None
        self._suspect = False
        self._advanced_hour = -1
        # How many rows a subject has, and the start of the last one.
        self._unfolded: dict[int, tuple[int, int]] = {}
        try:
            self._open()
        except sqlite3.Error as error:
            raise WorldError(f"the metrics file {path} cannot be opened: {error}") from error

    def _open(self) -> None:
        try:
            self._connect(open_series(self._path))
            try:
                self._names = Names(self._db)
                self._count_rows()
            except BaseException:
                # Before the file is moved aside: closing it tends its log.
                self._db.close()
                raise
        except (Damaged, sqlite3.DatabaseError) as error:
            if not isinstance(error, Damaged) and not is_damage(error):
                raise
            with closing(salvaged_names(self._path)) as saved:
                self._names = Names(saved, damaged=True)
            self._save_from(self._start_anew())

    def _connect(self, db: sqlite3.Connection) -> None:
        self._db = db
        # None when the file is in its place and could not be opened.
        self._opened: tuple[tuple[int, int] | None, ...] | None = identity(self._path)

    def _count_rows(self) -> None:
        rows = self._db.execute("SELECT subject, count(*), max(start) FROM minute GROUP BY subject")
        self._unfolded = {subject: (count, last) for subject, count, last in rows}

    def _start_anew(self) -> Path:
        aside, db = exchange(self._path)
        self._connect(db)
        # Numbers in memory go on: blocks, and minutes that wait, have them.
        self._names.all_unsaved()
        self._unsaved[aside] = 0
        return aside

    def _save_from(self, aside: Path) -> None:
        try:
            kept = salvage(aside, self._db, self._lost)
            self._count_rows()
        except (sqlite3.Error, OSError) as error:
            self._unsaved[aside] += 1
            again = "this is tried again every few minutes"
            if self._unsaved[aside] >= _SALVAGE_TRIES:
                self._unsaved.pop(aside)
                again = "this is not tried again"
            saved = f"what can be read of it could not be saved, is there room on the disk? {error}; {again}"
        else:
            self._unsaved.pop(aside)
            saved = f"{kept['block']} blocks and {kept['minute']} minutes of it could be read and were kept"
        self._tell(aside.name, f"the metrics file was damaged: it is now {aside.name}; {saved}")

    def _tell(self, what: str, sentence: str) -> None:
        self._told[what] = sentence
        log.error("the metrics file was exchanged", sentence=sentence)

    @property
    def trouble(self) -> str | None:
        losses = list(self._losses.values())
        told = losses[:_LOSSES_TOLD] + ([f"and {len(losses) - _LOSSES_TOLD} more"] if losses[_LOSSES_TOLD:] else [])
        return "; ".join(t for t in (self._waiting, *self._told.values(), self._refused, *told) if t) or None

    def close(self) -> None:
        with self._lock:
            self._readers.close()
            self._db.close()

    # Writing.

    def write(self, start: int, rows: Mapping[Subject, Mapping[str, Point]]) -> None:
        with self._lock:
            now = self._clock()
            self._refused = self._refusal(start, now)
            if self._refused is None:
                self._keep(start - start % MINUTE_S, rows)
            self._attempt(self._store)
            if self._pending and self._waiting is None:
                # Into the file that took the place of a damaged one.
                self._attempt(self._store)
            if self._waiting is None:
                self._attempt(lambda: self._tend(now))
            self._writes += 1
            if self._unsaved and self._writes % SALVAGE_EVERY == 0:
                self._save_from(next(iter(self._unsaved)))

    def _refusal(self, start: int, now: float) -> str | None:
        if start > now + DAY_S:
            return f"a minute was refused that begins at {_time(start)}, more than a day from now: check the clock"
        if start < now - self._retention.fine_days * DAY_S:
            return (
                f"a minute was refused that begins at {_time(start)}: minutes are kept for "
                f"{self._retention.fine_days} days"
            )
        return None

    def _attempt(self, work: Callable[[], None]) -> None:
        try:
            if self._suspect:
                raise Damaged("a read found damage")
            work()
            self._waiting, self._dropped = None, 0
        except (sqlite3.Error, OSError, Damaged, WorldError) as error:
            if isinstance(error, Damaged) or is_damage(error):
                self._replace_file()
                return
            dropped = f" ({self._dropped} older ones were dropped)" if self._dropped else ""
            self._waiting = (
                f"{len(self._pending)} minutes of metrics wait in memory{dropped}: {self._path.name} cannot be "
                f"written: {error}"
            )

    def _replace_file(self) -> None:
        self._suspect = True
        try:
            with self._readers.shut_out():
                self._db.close()
                aside = self._start_anew()
            self._suspect, self._waiting = False, None
            self._save_from(aside)
        except (sqlite3.Error, OSError, Damaged) as error:
            self._waiting = f"the metrics file is damaged and cannot be replaced: {error}"

    def _store(self) -> None:
        if self._opened is None or identity(self._path) != self._opened:
            with self._readers.shut_out():
                self._restore()
        self._flush()

    def _restore(self) -> None:
        """Somebody deleted or replaced the file: what is written into the one that is still open would be lost."""
        if self._opened is not None:
            try:
                foreign = put_back(self._db, self._path, self._opened)
            except (sqlite3.Error, OSError) as error:
                raise OSError(f"it was deleted or replaced, and cannot be written anew: {error}") from error
            # Done, whether it can be opened now or not.
            self._opened = None
            self._db.close()
            moved = f"; what was put in its place is now {foreign.name}" if foreign else ""
            sentence = "the metrics file was deleted or replaced while it was in use: all of it was written anew"
            self._tell("restored", sentence + moved)
        self._connect(open_series(self._path))

    def _keep(self, start: int, rows: Mapping[Subject, Mapping[str, Point]]) -> None:
        hour = start - start % HOUR_S
        packed = dict(self._pending.get(start, {}))
        for subject, points in rows.items():
            number = self._names.see(subject, hour, points)
            metrics = self._names.metrics
            packed[number] = pack_minute({metrics[name]: point for name, point in points.items()})
        pending = self._pending | {start: packed}
        while len(pending) > 1 and _size(pending) > WAITING_BYTES:
            pending.pop(min(pending))
            self._dropped += 1
        self._pending = pending

    def _flush(self) -> None:
        rows = [(number, start, body) for start, minute in self._pending.items() for number, body in minute.items()]
        with transaction(self._db):
            self._names.store(self._db)
            self._db.executemany("INSERT OR REPLACE INTO minute VALUES (?,?,?)", rows)
        self._names.stored()
        for number, start, _ in rows:
            count, last = self._unfolded.get(number, (0, 0))
            self._unfolded[number] = (count + 1, max(last, start))
        self._pending = {}

    def compact(self, now: float) -> None:
        """All at once that `write` does bit by bit: fold, roll up, forget."""
        with self._lock:
            for number in list(self._unfolded):
                self._fold(number)
            self._age(now, 1 << 30)

    def _tend(self, now: float) -> None:
        part = 1 + len(self._unfolded) // _PART
        due = [n for n, (count, last) in self._unfolded.items() if count >= FOLD_MINUTES or last < now - FOLD_AFTER_S]
        due.sort(key=lambda n: -self._unfolded[n][0])
        for number in due[:part]:
            self._fold(number)
        self._age(now, part)

    def _fold(self, number: int) -> None:
        fold(self._db, number, self._lost)
        self._unfolded.pop(number, None)

    def _age(self, now: float, most: int) -> None:
        for subject, span in to_roll(self._db, int(now), most):
            roll(self._db, subject, span, self._lost)
        gone = expire(self._db, self._horizon(now), self._retention, 2 * most)
        gone |= bound(self._db, self._retention.most_bytes)
        for number in gone:
            self._forget(number)

    def _forget(self, number: int) -> None:
        """A subject that has no points any more is none."""
        for table in ("block", "minute"):
            if self._db.execute(f"SELECT 1 FROM {table} WHERE subject=? LIMIT 1", (number,)).fetchone():  # noqa: S608
                return
        if not any(number in minute for minute in self._pending.values()):
            self._db.execute("DELETE FROM subject WHERE id=?", (number,))
            self._names.forget(number)

    def _horizon(self, now: float) -> int:
        """The time that retention goes by. Never ahead of the clock, and at most ADVANCE_S further each hour."""
        row = self._db.execute("SELECT value FROM meta WHERE name='horizon'").fetchone()
        if row is not None and int(now) // HOUR_S == self._advanced_hour:
            return min(int(now), int(row[0]))
        self._advanced_hour = int(now) // HOUR_S
        horizon = int(now) if row is None else max(int(row[0]), min(int(now), int(row[0]) + ADVANCE_S))
        self._db.execute("INSERT OR REPLACE INTO meta VALUES ('horizon', ?)", (horizon,))
        return min(int(now), horizon)

    def _lost(self, number: int, start: int, end: int) -> None:
        if (number, start) in self._losses or len(self._losses) >= _LOSSES:
            return
        sentence = (
            f"metrics of {self._names.subject(number) or 'an unknown node'} from {_time(start)} to {_time(end)} were "
            "damaged in the file; what could not be read is a gap, or shown coarser"
        )
        self._losses[number, start] = sentence
        log.error("metrics were damaged", sentence=sentence)

    # Reading.

    def subjects(self, region: str | None = None) -> list[Subject]:
        return self._names.subjects(region)

    def names(self, subject: Subject, since: int = 0) -> frozenset[str]:
        return self._names.of(subject, since - since % HOUR_S)

    def read(self, subject: Subject, names: Collection[str], start: int, end: int, period: int) -> dict[str, Column]:
        if period <= 0 or period % MINUTE_S:
            raise ValueError(f"a period is a multiple of {MINUTE_S} seconds, not {period}")
        found = {name: Column([], [], [], [], []) for name in names}
        number, metrics = self._names.number(subject), self._names.metrics
        wanted = {metrics[name]: name for name in names if name in metrics}
        asked = Asked(number or 0, max(0, start), min(end, _FOREVER), period)
        if number is None or not wanted or asked.start >= asked.end:
            return found
        waiting = {at: rows[number] for at, rows in self._pending.items() if number in rows}
        try:
            with self._readers.one() as db:
                columns = Reading(db, asked, waiting, self._lost, self._blocks).columns(wanted)
        except sqlite3.Error as error:
            self._suspect |= is_damage(error)
            log.warning("metrics cannot be read", subject=str(subject), reason=str(error))
            raise WorldError(f"the metrics file cannot be read now: {error}; ask again in a minute") from error
        return found | {wanted[i]: column for i, column in columns.items()}


def _size(pending: Mapping[int, Mapping[int, bytes]]) -> int:
    return sum(len(body) + _ROW_BYTES for minute in pending.values() for body in minute.values())


def _time(at: int) -> str:
    return time.strftime("%Y-%m-%dT%H:%MZ", time.gmtime(at))
