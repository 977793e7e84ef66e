"""Making minutes into blocks, blocks of hours into blocks of days, and fine points into coarse ones.

Called by store.series, on the one connection that writes. Each function is one transaction that replaces its input by
its output, so a time has its points once, in one resolution, whenever the process dies.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager

from cachekeep.codec.columns import ColumnDamaged
from cachekeep.domain.metrics import MINUTE_S, Column, Point
from cachekeep.store.series_block import Block, pack_block, unpack_minute
from cachekeep.store.series_roll import EMPTY, in_order, joined, rolled, without

HOUR_S = 3600
DAY_S = 86400


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


def fold_hour(db: sqlite3.Connection, subject: int, hour: int) -> int:
    """The minutes of an hour become a block, or part of the block that is there. Returns how many were too late: where
    only coarser points are left, a minute cannot be placed any more."""
    rows = db.execute(
        "SELECT start, body FROM minute WHERE subject=? AND start>=? AND start<?", (subject, hour, hour + HOUR_S)
    ).fetchall()
    there = db.execute(
        "SELECT rowid, start, span, resolution, body FROM block WHERE subject=? AND start<=? AND start+span>?"
        " ORDER BY start DESC LIMIT 1",
        (subject, hour, hour),
    ).fetchone()
    late = bool(there) and there[3] != MINUTE_S
    with transaction(db):
        if rows and not late:
            rowid, start, span, _, body = there or (None, hour, HOUR_S, MINUTE_S, None)
            columns = overlaid(_all_columns(body, start, MINUTE_S) if body else {}, dict(_minutes(rows)))
            if rowid is not None:
                db.execute("DELETE FROM block WHERE rowid=?", (rowid,))
            _insert(db, subject, start, span, MINUTE_S, columns)
        db.execute("DELETE FROM minute WHERE subject=? AND start>=? AND start<?", (subject, hour, hour + HOUR_S))
    return len(rows) if late else 0


def roll_day(db: sqlite3.Connection, subject: int, day: int, resolution: int) -> None:
    """All blocks of a day become one of that resolution (seconds)."""
    blocks = db.execute(
        "SELECT start, resolution, body FROM block WHERE subject=? AND start>=? AND start<? ORDER BY start",
        (subject, day, day + DAY_S),
    ).fetchall()
    parts: dict[int, list[Column]] = {}
    for start, found, body in blocks:
        for number, column in _all_columns(body, start, found).items():
            parts.setdefault(number, []).append(column)
    columns = {number: rolled(joined(part), resolution) for number, part in parts.items()}
    with transaction(db):
        db.execute("DELETE FROM block WHERE subject=? AND start>=? AND start<?", (subject, day, day + DAY_S))
        _insert(db, subject, day, DAY_S, resolution, columns)


def overlaid(columns: dict[int, Column], minutes: dict[int, dict[int, Point]]) -> dict[int, Column]:
    """columns with these minutes in place of what they say of the same minutes."""
    if not minutes:
        return columns
    fresh: dict[int, list[tuple[int, Point]]] = {}
    for start in sorted(minutes):
        for number, point in minutes[start].items():
            fresh.setdefault(number, []).append((start, point))
    first = min(minutes)
    result: dict[int, Column] = {}
    for number in columns.keys() | fresh.keys():
        old = columns.get(number, EMPTY)
        new = _column(fresh.get(number, ()))
        if not len(old) or old.starts[-1] < first:
            both = [c for c in (old, new) if len(c)]
            result[number] = joined(both) if both else EMPTY
        else:
            result[number] = in_order(joined([without(old, minutes), new]))
    return result


def _column(points: list[tuple[int, Point]] | tuple[()]) -> Column:
    return Column(
        [start for start, _ in points],
        [p.count for _, p in points],
        [p.total for _, p in points],
        [p.least for _, p in points],
        [p.most for _, p in points],
        {start: p.buckets for start, p in points if p.buckets},
    )


def _minutes(rows: list[tuple[int, bytes]]) -> Iterator[tuple[int, dict[int, Point]]]:
    for start, body in rows:
        try:
            yield start, unpack_minute(body)
        except ColumnDamaged:
            continue  # a gap is all that can be told of it


def _all_columns(body: bytes, start: int, resolution: int) -> dict[int, Column]:
    """Those that can be read."""
    found: dict[int, Column] = {}
    try:
        block = Block(body, start, resolution)
    except ColumnDamaged:
        return found
    for number in block.ids:
        try:
            column = block.column(number)
        except ColumnDamaged:
            continue
        if column is not None:
            found[number] = column
    return found


def _insert(
    db: sqlite3.Connection, subject: int, start: int, span: int, resolution: int, columns: dict[int, Column]
) -> None:
    columns = {number: column for number, column in columns.items() if len(column)}
    if columns:
        body = pack_block(columns, start, resolution)
        db.execute("INSERT INTO block VALUES (?,?,?,?,?)", (subject, start, span, resolution, body))
