"""What becomes of minutes: blocks of six hours, of which coarser points are made, and in the end nothing.

Called by store.series, on the one connection that writes, a few subjects at a time. Each step is one transaction, and
can be done again, so whenever the process dies nothing is lost or there twice.

Three tiers are kept side by side. A block of minutes is rolled up into the coarser ones when its hours are over, and
again when a late minute came into it; growing old then means to be deleted, tier by tier. While a tier overlaps a finer
one, reading takes whichever is the quicker, and the coarser one where bytes of the finer one were damaged.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

from cachekeep.codec.columns import ColumnDamaged
from cachekeep.domain.metrics import MINUTE_S
from cachekeep.store.series_block import Block, pack_block
from cachekeep.store.series_minute import Minute, runs_of, unpack_minute
from cachekeep.store.series_run import Calendar, Run, replaced, rolled

HOUR_S = 3600
DAY_S = 86400
# Seconds that a block of a resolution spans. The finest is the unit of everything else: it divides the others.
SPANS = {MINUTE_S: 6 * HOUR_S, 300: DAY_S, HOUR_S: 16 * DAY_S}
FINE_SPAN_S = SPANS[MINUTE_S]
# Late minutes of a block usually find it still open.
GRACE_S = 1800

# Tells of a subject's damaged bytes: subject's id, from, to.
Loss = Callable[[int, int, int], None]
# Subject's id, resolution, start.
_Key = tuple[int, int, int]


@dataclass(frozen=True)
class Retention:
    """Days that points of 60, 300 and 3600 seconds are kept: as CloudWatch does. most_bytes: of the file; when there
    is more, the oldest goes first."""

    fine_days: int = 15
    middle_days: int = 63
    coarse_days: int = 455
    most_bytes: int = 4 << 30

    def days(self) -> Mapping[int, int]:
        """By resolution."""
        return dict(zip(SPANS, (self.fine_days, self.middle_days, self.coarse_days), strict=True))


@contextmanager
def transaction(db: sqlite3.Connection) -> Iterator[None]:
    db.execute("BEGIN IMMEDIATE")
    try:
        yield
        db.execute("COMMIT")
    except BaseException:
        if db.in_transaction:
            db.execute("ROLLBACK")
        raise


def fold(db: sqlite3.Connection, subject: int, lost: Loss) -> None:
    """All minutes of a subject become blocks, or parts of those that are there."""
    spans: dict[int, dict[int, Minute]] = {}
    for start, body in db.execute("SELECT start, body FROM minute WHERE subject=? ORDER BY start", (subject,)):
        try:
            spans.setdefault(start - start % FINE_SPAN_S, {})[start] = unpack_minute(body)
        except ColumnDamaged:
            lost(subject, start, start + MINUTE_S)
    with transaction(db):
        for span, minutes in spans.items():
            calendar = Calendar()
            fresh = runs_of(minutes, calendar)
            _overlay(db, (subject, MINUTE_S, span), fresh, minutes, calendar, lost)
        db.execute("DELETE FROM minute WHERE subject=?", (subject,))


def roll(db: sqlite3.Connection, subject: int, span: int, lost: Loss) -> None:
    """The points of a block of minutes go into the coarser tiers, in place of what these have of its hours."""
    calendar = Calendar()
    row = db.execute(
        "SELECT body FROM block WHERE subject=? AND resolution=? AND start=?", (subject, MINUTE_S, span)
    ).fetchone()
    damage: list[tuple[int, int, int]] = []
    runs = _runs(row[0], (subject, MINUTE_S, span), lambda *where: damage.append(where)) if row else {}
    for where in damage:
        lost(*where)
    with transaction(db):
        for resolution, length in SPANS.items():
            if resolution > MINUTE_S:
                coarse = {number: rolled(run, resolution, calendar) for number, run in runs.items()}
                # What could not be read is left as the coarser tiers have it.
                replacing = range(span, span + FINE_SPAN_S, resolution)
                key = (subject, resolution, span - span % length)
                _overlay(db, key, coarse, replacing, calendar, lost, whole=not damage)
        db.execute("UPDATE block SET rolled=1 WHERE subject=? AND resolution=? AND start=?", (subject, MINUTE_S, span))


def merge(db: sqlite3.Connection, key: _Key, body: bytes, lost: Loss) -> bool:
    """Of a block that was saved late: its points go into the block that is there, whose own stay. Within a transaction.
    Returns whether there is one. Minutes are to be rolled up again then."""
    row = db.execute("SELECT body FROM block WHERE subject=? AND resolution=? AND start=?", key).fetchone()
    if row is None:
        return False
    if row[0] != body:
        calendar = Calendar()
        known = _runs(row[0], key, lost)
        fresh = {
            number: replaced(run, None, frozenset(known[number].starts), calendar) if number in known else run
            for number, run in _runs(body, key, lost).items()
        }
        _overlay(db, key, fresh, (), calendar, lost)
    return True


def to_roll(db: sqlite3.Connection, now: int, most: int) -> list[tuple[int, int]]:
    """Subjects and starts of blocks of minutes that are due, the oldest first."""
    return db.execute(
        "SELECT subject, start FROM block WHERE rolled=0 AND start<=? ORDER BY start LIMIT ?",
        (now - FINE_SPAN_S - GRACE_S, most),
    ).fetchall()


def expire(db: sqlite3.Connection, horizon: int, retention: Retention, most: int) -> set[int]:
    """Delete what is older than its tier is kept, at most so many blocks of a tier. Returns whose."""
    gone: set[int] = set()
    for resolution, days in retention.days().items():
        rows = db.execute(
            "SELECT rowid, subject FROM block WHERE resolution=? AND until<=? AND rolled=1 ORDER BY until LIMIT ?",
            (resolution, horizon - days * DAY_S, most),
        ).fetchall()
        db.executemany("DELETE FROM block WHERE rowid=?", [(row,) for row, _ in rows])
        gone.update(subject for _, subject in rows)
    return gone


def bound(db: sqlite3.Connection, most_bytes: int) -> set[int]:
    """Delete the oldest until no more is used. Returns whose."""
    gone: set[int] = set()
    while (excess := used_bytes(db) - most_bytes) > 0:
        found: list[tuple[int]] = []
        for table, age in (("block", "until"), ("minute", "start")):
            rows = db.execute(f"SELECT rowid, subject, length(body) FROM {table} ORDER BY {age}")  # noqa: S608
            for row, subject, length in rows:
                if excess <= 0:
                    break
                excess -= length
                found.append((row,))
                gone.add(subject)
            rows.close()
            db.executemany(f"DELETE FROM {table} WHERE rowid=?", found)  # noqa: S608
            if found:
                break
        if not found:
            break
    return gone


def used_bytes(db: sqlite3.Connection) -> int:
    """Pages that are deleted from are used again: the file does not grow while there are such."""
    pages, free, size = (
        int(db.execute(f"PRAGMA {what}").fetchone()[0]) for what in ("page_count", "freelist_count", "page_size")
    )
    return (pages - free) * size


def _overlay(
    db: sqlite3.Connection,
    key: _Key,
    fresh: Mapping[int, Run],
    replacing: Collection[int],
    calendar: Calendar,
    lost: Loss,
    *,
    whole: bool = True,
) -> None:
    """Write a block with these runs, and with what it had at other starts than those that they replace. whole: metrics
    without a run have no point at those starts; else nothing is known of them."""
    row = db.execute("SELECT body FROM block WHERE subject=? AND resolution=? AND start=?", key).fetchone()
    runs = dict(fresh)
    for number, run in (_runs(row[0], key, lost) if row else {}).items():
        if whole or number in fresh:
            run = replaced(run, fresh.get(number), replacing, calendar)
        runs[number] = run
    runs = {number: run for number, run in runs.items() if len(run.starts)}
    db.execute("DELETE FROM block WHERE subject=? AND resolution=? AND start=?", key)
    _, resolution, start = key
    # An empty block of minutes stays: the coarser tiers have yet to become empty, too.
    if runs or (row and resolution == MINUTE_S):
        until = max((run.starts[-1] for run in runs.values()), default=start) + resolution
        body = pack_block(runs, start, resolution)
        db.execute("INSERT INTO block VALUES (?,?,?,?,?,?)", (*key, until, resolution > MINUTE_S, body))


def _runs(body: bytes, key: _Key, lost: Loss) -> dict[int, Run]:
    """Those that can be read."""
    subject, resolution, start = key
    found: dict[int, Run] = {}
    try:
        block = Block(body, start, resolution)
    except ColumnDamaged:
        lost(subject, start, start + SPANS[resolution])
        return found
    for number in block.ids:
        try:
            run = block.run(number)
        except ColumnDamaged:
            lost(subject, start, start + SPANS[resolution])
            continue
        if run is not None:
            found[number] = run
    return found
