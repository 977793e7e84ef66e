"""One pass over all keys of a node for one generation, some keys at a time. Called by follow.lane, in its thread.

base, gap: what differs from the generation is written. proof: nothing should differ but what was announced meanwhile;
what does is suspect, and looked at again by the lane.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from itertools import islice
from typing import Literal

from msgspec.structs import replace

from cachekeep.backup.scan import ScanBatch, batches_of, scan_batches
from cachekeep.backup.survey_types import Survey
from cachekeep.codec.record import Record
from cachekeep.domain.remote import Connection
from cachekeep.follow.index import PACKED, is_spread
from cachekeep.follow.keeping import Keeping

SweepKind = Literal["base", "gap", "proof"]


class Sweep:
    """swept: every key was read; what is left of a proof are its suspects."""

    def __init__(self, volume: Keeping, kind: SweepKind, keys_per_s: int | None, count: int) -> None:
        self.volume, self.kind, self._count = volume, kind, count
        self._rate = keys_per_s
        self._due_at = time.monotonic()
        self._steps: Iterator[int] | None = None
        self._suspects: dict[tuple[int, bytes], None] = {}
        # Of a proof: suspects as they were read again, and when that was.
        self.read: list[Record] = []
        self.read_ms = 0
        self.swept = self._ended = False
        self._lock = threading.Lock()
        self.keys = 0
        self._pass = 0

    @property
    def begun(self) -> bool:
        return self._steps is not None

    def begin(
        self,
        survey: Survey,
        lane: str,
        slots: tuple[tuple[int, int], ...] | None,
        connect: Callable[[int], Connection],
        databases: Callable[[], set[int]],
        on_note: Callable[[str], None],
        on_batch: Callable[[ScanBatch, int], None],
    ) -> None:
        """connect: the lane's connection in a database, made anew. on_batch: told of what was refused."""
        self._pass = self.volume.new_pass()
        self._steps = self._run(survey, lane, slots, connect, databases, on_note, on_batch)

    def step(self, slice_s: float) -> bool:
        """Go on for so long, as the pace allows. True when it is done. Raises RemoteError, BlobError."""
        assert self._steps is not None  # noqa: S101 - begun
        deadline = time.monotonic() + slice_s
        while (now := time.monotonic()) < deadline:
            if self._rate is not None and now < self._due_at:
                return False
            try:
                keys = next(self._steps)
            except StopIteration:
                self.swept = True
                if self.kind != "proof":
                    self._end(whole=True)
                return True
            self.keys += keys
            if self._rate is not None:
                self._due_at = max(self._due_at, now - 0.1) + keys / self._rate
        return False

    def over(self) -> None:
        """The last suspect of a proof is settled. Until then the pass goes on: what is in hand may have gone meanwhile,
        and the generation has to remember that it was announced.
        """
        self._end(whole=True)

    def give_up(self) -> None:
        """It will not come to its end."""
        self._end(whole=False)

    def take_suspects(self, number: int) -> list[tuple[int, bytes]]:
        """(database, key) that differ from what the generation has, each once."""
        some = list(islice(self._suspects, number))
        for one in some:
            del self._suspects[one]
        return some

    def explains(self, record: Record) -> bool:
        """Whether the generation knows the key as it was read, or it was announced since the pass began."""
        return self.volume.explains(record, self._pass)

    def is_unpacked(self, record: Record) -> bool:
        """SORT, which only reads, unpacks a sorted set: other bytes that mean the same. Observed from 6.2 to 9.1."""
        known = self.volume.index.known(record.db, [record.key]).get(record.key)
        return known is not None and bool(known.flags & PACKED) and is_spread(record)

    def missed(self, records: list[Record], lane: str) -> None:
        """Write those that nothing explains. Raises BlobError."""
        self.volume.missed(records, lane, self._pass)

    def _end(self, *, whole: bool) -> None:
        with self._lock:
            ended, self._ended = self._ended, True
        if self._steps is not None and not ended:
            self.volume.end_pass(whole=whole)

    def _run(
        self,
        survey: Survey,
        lane: str,
        slots: tuple[tuple[int, int], ...] | None,
        connect: Callable[[int], Connection],
        databases: Callable[[], set[int]],
        on_note: Callable[[str], None],
        on_batch: Callable[[ScanBatch, int], None],
    ) -> Iterator[int]:
        done: set[int] = set()
        while todo := sorted(databases() - done):
            for db in todo:
                with connect(db) as connection:
                    for batch in scan_batches(connection, survey, db=db, count=self._count, on_note=on_note):
                        self._take(survey, db, batch.records, lane)
                        on_batch(batch, db)
                        yield len(batch.records)
                done.add(db)
        if self.kind == "base":
            self.volume.close_bases(lane)
        yield from self._look_for_unseen(survey, lane, slots, connect, on_note, on_batch)

    def _look_for_unseen(
        self,
        survey: Survey,
        lane: str,
        slots: tuple[tuple[int, int], ...] | None,
        connect: Callable[[int], Connection],
        on_note: Callable[[str], None],
        on_batch: Callable[[ScanBatch, int], None],
    ) -> Iterator[int]:
        """Keys that the generation has and the pass did not meet: read by name, and gone if they are not there."""
        connection: Connection | None = None
        try:
            for db, keys in self.volume.index.unseen(self._pass, slots):
                if connection is None or connection.db != db:
                    if connection is not None:
                        connection.close()
                    connection = connect(db)
                there: set[bytes] = set()
                for batch in batches_of(connection, survey, keys, db=db, count=self._count, on_note=on_note):
                    self._take(survey, db, batch.records, lane)
                    on_batch(batch, db)
                    there.update(record.key for record in batch.records)
                    there.update(key for key, _ in batch.refused)
                absent = [key for key in keys if key not in there]
                if self.kind == "proof":
                    self._suspects.update(((db, key), None) for key in absent)
                else:
                    self.volume.gone(db, absent, self._now_ms(survey), lane, self._pass)
                yield len(keys)
        finally:
            if connection is not None:
                connection.close()

    @staticmethod
    def _now_ms(survey: Survey) -> int:
        return time.time_ns() // 1_000_000 + survey.clock_ahead_ms

    def _take(self, survey: Survey, db: int, records: list[Record], lane: str) -> None:
        now = self._now_ms(survey)
        records = [replace(record, captured_ms=now) for record in records]
        found = self.volume.found(db, records, lane, self._pass, suspect=self.kind == "proof")
        self._suspects.update(((db, key), None) for key in found)
