"""Months of points in one bounded SQLite file, apart from the store of resources.

One thread writes at a time; any thread reads, on connections of its own. Minutes are rows until their hour is over,
then blocks of columns (store.series_block), of days later; old days keep coarser points (store.series_fold).
"""

from __future__ import annotations

import sqlite3
import threading
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import msgspec
import structlog

from cachekeep.codec.columns import ColumnDamaged
from cachekeep.domain.metrics import MINUTE_S, Column, Point, Subject
from cachekeep.store.series_block import Block, pack_minute, unpack_minute
from cachekeep.store.series_file import Damaged, is_damage, move_aside, open_reader, open_series, salvage
from cachekeep.store.series_fold import DAY_S, HOUR_S, fold_hour, overlaid, roll_day, transaction
from cachekeep.store.series_roll import cut, in_order, joined, rolled

log = structlog.get_logger()

MIDDLE_S = 300
COARSE_S = 3600
# Minutes of an hour that come this late still find it open.
GRACE_S = 300
PENDING_MINUTES = 360
# How far retention moves on at once: a clock that jumps ahead for a while must not cost the history.
ADVANCE_S = 6 * HOUR_S
_FOREVER = 1 << 53

_Seen = dict[int, int]
_seen_decoder = msgspec.msgpack.Decoder(_Seen)


@dataclass(frozen=True)
class Retention:
    """Days that points of 60, 300 and 3600 seconds are kept: as CloudWatch does. most_bytes: of the file; when there
    is more, the oldest goes first."""

    fine_days: int = 15
    middle_days: int = 63
    coarse_days: int = 455
    most_bytes: int = 4 << 30


class SeriesFile:
    """Implements domain.metric_ports.SeriesStore. Raises WorldError when the file is of a newer Cachekeep."""

    def __init__(self, path: Path, retention: Retention | None = None, clock: Callable[[], float] = time.time) -> None:
        self._path, self._retention, self._clock = path, retention or Retention(), clock
        self._lock = threading.RLock()
        self._readers: list[sqlite3.Connection] = []
        # Replaced, never changed in place: readers look without the lock.
        self._pending: dict[int, dict[int, bytes]] = {}
        self._waiting: str | None = None
        self._loss: str | None = None
        self._refused: str | None = None
        self._suspect = False
        self._advanced_hour = -1
        try:
            self._db = open_series(path)
            self._load()
        except (Damaged, sqlite3.DatabaseError) as error:
            if not isinstance(error, Damaged) and not is_damage(error):
                raise
            self._start_anew()

    def _load(self) -> None:
        self._metrics: dict[str, int] = dict(self._db.execute("SELECT name, id FROM metric").fetchall())
        self._subjects: dict[Subject, int] = {}
        self._seen: dict[int, _Seen] = {}
        for number, region, name, node, seen in self._db.execute("SELECT id, region, name, node, seen FROM subject"):
            self._subjects[Subject(region, name, node)] = number
            with suppress(msgspec.MsgspecError):
                self._seen[number] = _seen_decoder.decode(seen)
        self._stored_metrics, self._stored_subjects = len(self._metrics), set(self._subjects.values())
        self._open_hours: set[tuple[int, int]] = set()
        for subject, start in self._db.execute("SELECT subject, start FROM minute"):
            self._open_hours.add((subject, start - start % HOUR_S))
        self._unsaved: set[int] = set()

    def _start_anew(self) -> None:
        aside = move_aside(self._path)
        self._db = open_series(self._path)
        kept = salvage(aside, self._db)
        self._load()
        self._loss = (
            f"the metrics file was damaged: it is now {aside.name}; {kept['block']} blocks and {kept['minute']} "
            "minutes of it could be read and were kept"
        )
        log.error("the metrics file was damaged", sentence=self._loss)

    @property
    def trouble(self) -> str | None:
        return " ".join(t for t in (self._waiting, self._loss, self._refused) if t) or None

    def close(self) -> None:
        with self._lock:
            for reader in self._readers:
                reader.close()
            self._readers.clear()
            self._db.close()

    # Writing.

    def write(self, start: int, rows: Mapping[Subject, Mapping[str, Point]]) -> None:
        with self._lock:
            if start > self._clock() + DAY_S:
                self._refused = (
                    f"a minute was refused that begins at {start}, more than a day from now: check the clock"
                )
                return
            self._refused = None
            self._keep(start - start % MINUTE_S, rows)
            self._attempt(self._flush)
            if not self._waiting:
                self._attempt(lambda: self.compact(self._clock(), most=2 + len(self._open_hours) // 30))

    def _attempt(self, work: Callable[[], None]) -> None:
        try:
            if self._suspect:
                raise Damaged("a read found damage")
            work()
            self._waiting = None
        except (sqlite3.DatabaseError, OSError, Damaged) as error:
            if isinstance(error, Damaged) or is_damage(error):
                self._replace_file()
                return
            self._waiting = (
                f"{len(self._pending)} minutes of metrics wait in memory, the last {PENDING_MINUTES} are kept: "
                f"{self._path.name} cannot be written: {error}"
            )

    def _replace_file(self) -> None:
        self.close()
        try:
            self._start_anew()
            self._unsaved = set(self._subjects.values())
            self._suspect = False
        except (sqlite3.DatabaseError, OSError, Damaged) as error:
            self._suspect = True
            self._waiting = f"the metrics file is damaged and cannot be replaced: {error}"

    def _keep(self, start: int, rows: Mapping[Subject, Mapping[str, Point]]) -> None:
        hour = start - start % HOUR_S
        packed = dict(self._pending.get(start, {}))
        for subject, points in rows.items():
            number = self._subjects.setdefault(subject, max(self._subjects.values(), default=0) + 1)
            seen = self._seen.setdefault(number, {})
            numbered = {self._metrics.setdefault(name, len(self._metrics) + 1): p for name, p in points.items()}
            newer = {i: hour for i in numbered if seen.get(i, -1) < hour}
            if newer:
                self._seen[number] = seen | newer
                self._unsaved.add(number)
            packed[number] = pack_minute(numbered)
        pending = self._pending | {start: packed}
        while len(pending) > PENDING_MINUTES:
            pending.pop(min(pending))
        self._pending = pending

    def _flush(self) -> None:
        names = {number: subject for subject, number in self._subjects.items()}
        with transaction(self._db):
            self._db.executemany(
                "INSERT OR REPLACE INTO metric VALUES (?,?)",
                [(i, n) for n, i in self._metrics.items() if i > self._stored_metrics],
            )
            self._db.executemany(
                "INSERT OR REPLACE INTO subject VALUES (?,?,?,?,?)",
                [
                    (i, names[i].region, names[i].id, names[i].node_id, msgspec.msgpack.encode(self._seen[i]))
                    for i in self._unsaved
                ],
            )
            rows = [(i, start, body) for start, minute in self._pending.items() for i, body in minute.items()]
            self._db.executemany("INSERT OR REPLACE INTO minute VALUES (?,?,?)", rows)
        self._stored_metrics = len(self._metrics)
        self._unsaved.clear()
        self._open_hours |= {(i, start - start % HOUR_S) for i, start, _ in rows}
        self._pending = {}

    def compact(self, now: float, most: int = 1 << 30) -> None:
        """Fold, roll up and forget what is due; at most so many hours, and as many days by thirty."""
        with self._lock:
            complete = int(now) - GRACE_S
            due = sorted((h, i) for i, h in self._open_hours if h + HOUR_S <= complete)
            for hour, subject in due[:most]:
                if fold_hour(self._db, subject, hour):
                    self._refused = "minutes came too late: only coarser points of their day are left"
                self._open_hours.discard((subject, hour))
            days = max(1, most // 30)
            self._roll(MINUTE_S, HOUR_S, MINUTE_S, complete - DAY_S, days)
            horizon = self._horizon(now)
            self._roll(MINUTE_S, DAY_S, MIDDLE_S, horizon - self._retention.fine_days * DAY_S, days)
            self._roll(MIDDLE_S, DAY_S, COARSE_S, horizon - self._retention.middle_days * DAY_S, days)
            oldest = horizon - self._retention.coarse_days * DAY_S
            self._db.execute("DELETE FROM block WHERE start+span<=? AND start<?", (oldest, oldest))
            self._bound()

    def _roll(self, resolution: int, span: int, to: int, before: int, most: int) -> None:
        found = self._db.execute(
            "SELECT DISTINCT subject, start - start % 86400 FROM block WHERE resolution=? AND span=? AND start<?"
            " LIMIT ?",
            (resolution, span, before - before % DAY_S, most),
        ).fetchall()
        for subject, day in found:
            roll_day(self._db, subject, day, to)

    def _horizon(self, now: float) -> int:
        """The time that retention goes by. Never ahead of the clock, and at most ADVANCE_S further each hour."""
        row = self._db.execute("SELECT value FROM meta WHERE name='horizon'").fetchone()
        if row is not None and int(now) // HOUR_S == self._advanced_hour:
            return min(int(now), int(row[0]))
        self._advanced_hour = int(now) // HOUR_S
        horizon = int(now) if row is None else max(int(row[0]), min(int(now), int(row[0]) + ADVANCE_S))
        self._db.execute("INSERT OR REPLACE INTO meta VALUES ('horizon', ?)", (horizon,))
        return min(int(now), horizon)

    def _bound(self) -> None:
        while self._used_bytes() > self._retention.most_bytes:
            gone = self._db.execute(
                "DELETE FROM block WHERE rowid IN (SELECT rowid FROM block ORDER BY start LIMIT 50)"
            ).rowcount
            if not gone:
                return

    def _used_bytes(self) -> int:
        pages, free, size = (
            int(self._db.execute(f"PRAGMA {what}").fetchone()[0])
            for what in ("page_count", "freelist_count", "page_size")
        )
        return (pages - free) * size

    # Reading.

    def subjects(self, region: str | None = None) -> list[Subject]:
        return sorted(s for s, i in list(self._subjects.items()) if self._seen.get(i) and region in (None, s.region))

    def names(self, subject: Subject, since: int = 0) -> frozenset[str]:
        seen = self._seen.get(self._subjects.get(subject, 0), {})
        return frozenset(n for n, i in list(self._metrics.items()) if seen.get(i, -1) >= since - since % HOUR_S)

    def read(self, subject: Subject, names: Collection[str], start: int, end: int, period: int) -> dict[str, Column]:
        if period <= 0 or period % MINUTE_S:
            raise ValueError(f"a period is a multiple of {MINUTE_S} seconds, not {period}")
        found = {name: _listed(Column()) for name in names}
        number = self._subjects.get(subject)
        wanted = {self._metrics[name]: name for name in names if name in self._metrics}
        if number is None or not wanted or start >= end:
            return found
        last = min(end + -end % period, _FOREVER)
        pending = {at: rows[number] for at, rows in self._pending.items() if number in rows and start <= at < last}
        blocks, bodies = self._stored(number, max(0, start), last)
        minutes = _unpacked({**dict(bodies), **pending}, wanted)
        for i, name in wanted.items():
            found[name] = _assembled(blocks, minutes, i, start, end, period)
        return found

    def _stored(self, subject: int, start: int, end: int) -> tuple[list[tuple[int, Block]], list[tuple[int, bytes]]]:
        blocks: list[tuple[int, Block]] = []
        try:
            with self._reader() as db:
                rows = db.execute(
                    "SELECT start, resolution, body FROM block WHERE subject=? AND start>? AND start<? AND start+span>?"
                    " ORDER BY start",
                    (subject, start - DAY_S, end, start),
                ).fetchall()
                bodies = db.execute(
                    "SELECT start, body FROM minute WHERE subject=? AND start>=? AND start<?", (subject, start, end)
                ).fetchall()
        except sqlite3.DatabaseError as error:
            self._suspect |= is_damage(error)
            return [], []
        for at, resolution, body in rows:
            with suppress(ColumnDamaged):
                blocks.append((resolution, Block(body, at, resolution)))
        return blocks, bodies

    @contextmanager
    def _reader(self) -> Iterator[sqlite3.Connection]:
        """A connection of this thread's own for the while, in one transaction: a block and the minutes that it was made
        of are never seen both, or neither."""
        try:
            db = self._readers.pop()
        except IndexError:
            db = open_reader(self._path)
        try:
            db.execute("BEGIN")
            yield db
            db.execute("COMMIT")
        except BaseException:
            db.close()
            raise
        self._readers.append(db)


def _unpacked(bodies: Mapping[int, bytes], wanted: Collection[int]) -> dict[int, dict[int, Point]]:
    found = {}
    for start, body in bodies.items():
        with suppress(ColumnDamaged):
            found[start] = unpack_minute(body, wanted)
    return found


def _assembled(
    blocks: Sequence[tuple[int, Block]], minutes: dict[int, dict[int, Point]], i: int, start: int, end: int, period: int
) -> Column:
    parts: dict[int, list[Column]] = {}
    for resolution, block in blocks:
        with suppress(ColumnDamaged):
            column = block.column(i)
            if column is not None:
                parts.setdefault(resolution, []).append(column)
    last = end + -end % period
    fine = overlaid(
        {i: joined(parts.pop(MINUTE_S))} if MINUTE_S in parts else {},
        {s: {i: p[i]} if i in p else {} for s, p in minutes.items()},
    )
    columns = [rolled(cut(fine[i], start, last), period)] if i in fine else []
    for resolution, found in parts.items():
        columns.append(rolled(cut(joined(found), start, last), period if period % resolution == 0 else resolution))
    columns = [cut(column, start, end) for column in columns if len(column)]
    if len(columns) < 2:
        return _listed(columns[0]) if columns else _listed(Column())
    both = in_order(joined(columns))
    return _listed(rolled(both, period) if period % max(parts) == 0 else both)


def _listed(column: Column) -> Column:
    return Column(
        list(column.starts),
        list(column.count),
        list(column.total),
        list(column.least),
        list(column.most),
        column.buckets,
    )
