"""Reading points: which block of which tier tells of which hours, and putting them together. Reads one connection.

Called by store.series, in any thread. For each six hours the coarsest tier that the period is a multiple of is taken,
as it is the quickest; a finer one where the coarser is not up to date; what is left where the finer one is gone.
"""

from __future__ import annotations

import sqlite3
import threading
from collections import OrderedDict
from collections.abc import Collection, Mapping
from dataclasses import dataclass

from cachekeep.codec.columns import ColumnDamaged
from cachekeep.domain.metrics import MINUTE_S, Column
from cachekeep.store.series_block import Block
from cachekeep.store.series_fold import FINE_SPAN_S, SPANS, Loss
from cachekeep.store.series_minute import Minute, runs_of, unpack_minute
from cachekeep.store.series_run import Calendar, Run, column_of, cut, in_order, joined, replaced, rolled

# Of blocks that were read lately: what a dashboard asks for again and again.
BLOCKS_BYTES = 16 << 20
# Resolution and start of a block.
_Key = tuple[int, int]


@dataclass(frozen=True)
class Asked:
    """What is read: periods of `period` seconds that begin within start <= t < end."""

    subject: int
    start: int
    end: int
    period: int

    @property
    def first(self) -> int:
        """Where the first whole period begins."""
        return -(-self.start // self.period) * self.period

    @property
    def last(self) -> int:
        """Where the last period ends."""
        return -(-self.end // self.period) * self.period


@dataclass(frozen=True)
class _Piece:
    """What a block is to tell: of start <= t < end."""

    key: _Key
    start: int
    end: int


class Blocks:
    """Blocks that were read lately, with the columns that were decoded of them; bounded in bytes. Any thread.

    A block is asked of the file each time, and taken from here only when its bytes are the same.
    """

    def __init__(self, most_bytes: int = BLOCKS_BYTES) -> None:
        self._most_bytes = most_bytes
        self._lock = threading.Lock()
        # With what they took when they were weighed last; the one that was asked for longest ago comes first.
        self._blocks: OrderedDict[tuple[int, _Key], tuple[Block, int]] = OrderedDict()
        self._kept_bytes = 0

    def block(self, subject: int, key: _Key, body: bytes) -> Block:
        """Raises ColumnDamaged."""
        with self._lock:
            known = self._blocks.get((subject, key))
            if known is not None and known[0].is_of(body):
                self._blocks.move_to_end((subject, key))
                return known[0]
        made = Block(body, key[1], key[0])
        with self._lock:
            self._set((subject, key), made)
            self._blocks.move_to_end((subject, key))
        return made

    def weigh(self, subject: int, keys: Collection[_Key]) -> None:
        """After a read: these blocks may have more decoded columns now. Keeps to the bound."""
        with self._lock:
            for key in keys:
                known = self._blocks.get((subject, key))
                if known is not None:
                    self._set((subject, key), known[0])
            while self._kept_bytes > self._most_bytes:
                _, (_, weight) = self._blocks.popitem(last=False)
                self._kept_bytes -= weight

    def _set(self, key: tuple[int, _Key], block: Block) -> None:
        before = self._blocks.get(key)
        weight = block.kept_bytes
        self._kept_bytes += weight - (before[1] if before is not None else 0)
        self._blocks[key] = block, weight


class Reading:
    """One read of one subject, within one transaction. waiting: minutes that are not in the file yet, by start."""

    def __init__(
        self, db: sqlite3.Connection, asked: Asked, waiting: Mapping[int, bytes], lost: Loss, blocks: Blocks
    ) -> None:
        self._db, self._asked, self._lost, self._blocks = db, asked, lost, blocks
        self._calendar = Calendar()
        self._opened: dict[_Key, Block | None] = {}
        self._minutes = self._stored_minutes(waiting)
        self._until: dict[_Key, int] = {}
        self._current: set[int] = set()
        self._find_blocks()

    def columns(self, wanted: Collection[int]) -> dict[int, Column]:
        """By id of the metric; absent where there is no point."""
        fresh = runs_of(self._minutes, self._calendar, wanted)
        parts = self._parts(wanted, frozenset())
        found = {}
        for number in wanted:
            run = self._assembled(parts[number], fresh.get(number))
            if run is not None and len(run.starts):
                found[number] = column_of(run)
        self._blocks.weigh(self._asked.subject, self._opened)
        return found

    def _stored_minutes(self, waiting: Mapping[int, bytes]) -> dict[int, Minute]:
        subject, start, last = self._asked.subject, self._asked.start, self._asked.last
        rows = self._db.execute(
            "SELECT start, body FROM minute WHERE subject=? AND start>=? AND start<?", (subject, start, last)
        )
        bodies = dict(rows.fetchall()) | {at: body for at, body in waiting.items() if start <= at < last}
        found = {}
        for at in sorted(bodies):
            try:
                found[at] = unpack_minute(bodies[at])
            except ColumnDamaged:
                self._lost(subject, at, at + MINUTE_S)
        return found

    def _find_blocks(self) -> None:
        """Sets which blocks there are, and the six hours of which the coarser tiers say the same as the minutes."""
        for resolution, span in SPANS.items():
            rows = self._db.execute(
                "SELECT start, until, rolled FROM block WHERE subject=? AND resolution=? AND start>? AND start<?",
                (self._asked.subject, resolution, self._asked.start - span, self._asked.last),
            ).fetchall()
            for start, until, is_rolled in rows:
                self._until[resolution, start] = until
                if resolution == MINUTE_S and is_rolled:
                    self._current.add(start)
        for minute in self._minutes:
            self._current.discard(minute - minute % FINE_SPAN_S)

    def _parts(self, wanted: Collection[int], excluded: frozenset[_Key]) -> dict[int, list[tuple[int, Run]]]:
        """Resolutions and runs in order of time, by metric. Where bytes are damaged, of what else there is."""
        parts: dict[int, list[tuple[int, Run]]] = {number: [] for number in wanted}
        damaged: dict[int, set[_Key]] = {}
        for piece in self._pieces(excluded):
            block = self._block(piece.key)
            for number in wanted:
                try:
                    if block is None:
                        raise ColumnDamaged("no block")
                    run = block.run(number)
                except ColumnDamaged:
                    damaged.setdefault(number, set()).add(piece.key)
                    self._lost(self._asked.subject, piece.key[1], self._until[piece.key])
                    continue
                if run is not None:
                    parts[number].append((piece.key[0], cut(run, piece.start, piece.end, self._calendar)))
        for number, keys in damaged.items():
            parts |= self._parts([number], excluded | keys)
        return parts

    def _block(self, key: _Key) -> Block | None:
        if key not in self._opened:
            row = self._db.execute(
                "SELECT body FROM block WHERE subject=? AND resolution=? AND start=?", (self._asked.subject, *key)
            ).fetchone()
            try:
                self._opened[key] = self._blocks.block(self._asked.subject, key, row[0])
            except ColumnDamaged:
                self._opened[key] = None
        return self._opened[key]

    def _pieces(self, excluded: frozenset[_Key]) -> list[_Piece]:
        there = {key: until for key, until in self._until.items() if key not in excluded}
        spans: set[int] = set()
        for (_, start), until in there.items():
            spans.update(range(max(start, self._asked.start // FINE_SPAN_S * FINE_SPAN_S), until, FINE_SPAN_S))
        period = self._asked.period
        order = sorted(SPANS, key=lambda resolution: (period % resolution > 0, abs(period - resolution)))
        pieces: list[_Piece] = []
        for span in sorted(spans):
            key = self._chosen(span, order, there)
            end = span + FINE_SPAN_S
            if key is None or span >= self._asked.last:
                continue
            if pieces and pieces[-1].key == key and pieces[-1].end == span:
                pieces[-1] = _Piece(key, pieces[-1].start, end)
            else:
                pieces.append(_Piece(key, span, end))
        return pieces

    def _chosen(self, span: int, order: list[int], there: Mapping[_Key, int]) -> _Key | None:
        minutes_only = (MINUTE_S, span) in there and span not in self._current
        for resolution in order:
            if resolution > MINUTE_S and minutes_only:
                continue
            key = (resolution, span - span % SPANS[resolution])
            if there.get(key, -1) > span:
                return key
        return None

    def _assembled(self, parts: list[tuple[int, Run]], fresh: Run | None) -> Run | None:
        asked, calendar = self._asked, self._calendar
        by_resolution: dict[int, list[Run]] = {}
        for resolution, run in parts:
            if len(run.starts):
                by_resolution.setdefault(resolution, []).append(run)
        whole = {resolution: joined(found, calendar) for resolution, found in by_resolution.items()}
        fine = self._with_minutes(whole.pop(MINUTE_S, None), fresh)
        if fine is not None:
            whole[MINUTE_S] = fine
        runs = []
        for resolution, run in whole.items():
            exact = asked.period % resolution == 0
            run = cut(run, *((asked.first, asked.last) if exact else (asked.start, asked.end)), calendar)
            if len(run.starts):
                runs.append(rolled(run, asked.period, calendar) if exact and resolution < asked.period else run)
        if len(runs) < 2:
            return runs[0] if runs else None
        both = in_order(joined(runs, calendar), calendar)
        # A period whose points are of two tiers.
        return both if calendar.in_order(both.starts) else rolled(both, 1, calendar)

    def _with_minutes(self, run: Run | None, fresh: Run | None) -> Run | None:
        if run is None or not self._minutes:
            return run or fresh
        if run.starts[-1] >= next(iter(self._minutes)):
            return replaced(run, fresh, self._minutes, self._calendar)
        return run if fresh is None else joined([run, fresh], self._calendar)
