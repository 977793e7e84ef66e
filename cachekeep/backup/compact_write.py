"""Write what a compaction keeps into its new generation: a base and the changes after it, or a stream. Called by
backup.compact.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from types import TracebackType

from cachekeep.backup.catalog import CatalogError, CatalogFault, Repository
from cachekeep.backup.catalog_chain import Chain, Place
from cachekeep.backup.catalog_objects import KindName
from cachekeep.backup.compact_plan import SEGMENT_BYTES, Group, Plan
from cachekeep.backup.compact_read import covered_before, records_of, seen_from
from cachekeep.backup.compact_state import FUNCTIONS_DB, States
from cachekeep.backup.writer import GenerationWriter, SegmentWriter
from cachekeep.codec.record import Kind, Record

_FUNCTIONS = int(Kind.FUNCTIONS)
_OF_KEYS: tuple[KindName, ...] = ("base", "changes", "functions")
Check = Callable[[], None]


class Source:
    """The generation that is compacted. check: called often; raises when the work is to stop."""

    def __init__(self, repository: Repository, read: Chain, plan: Plan, check: Check) -> None:
        self.repository, self.plan, self.check = repository, plan, check
        self.name, self.places = read.generation.name, read.places
        self._covered = covered_before(read.places)
        self._starts: dict[int, int] = {}

    def feed(self, states: States, on_read: Callable[[int, int], None] = lambda records, size: None) -> None:
        """All records that say what keys are. on_read: told of how many so far, and of their bytes as stored."""
        size = 0
        for place in self.places:
            if place.kind not in _OF_KEYS:
                continue
            if place.kind == "base" and self._covered[place.number] >= self.plan.since_ms:
                what = f"{self.name}: its copy was not whole yet at the first kept moment"
                raise CatalogError(CatalogFault.STATE, what, "choose a later moment; nothing was removed")
            self._starts[place.number] = states.records
            for records in self.records(place):
                states.feed(place.kind, records)
            size += place.entry.bytes if place.entry else 0
            on_read(states.records, size)
        states.judge()

    def records(self, place: Place) -> Iterator[list[Record]]:
        """As a reader of a moment sees them; see compact_read."""
        for records in records_of(self.repository, self.name, place, self.check):
            yield records if place.kind == "base" else seen_from(records, self._covered[place.number])

    def start_of(self, place: Place) -> int:
        return self._starts[place.number]


class Rolling:
    """Segments of one kind, one open at a time, each of one database (None: of several) and of a bounded size."""

    def __init__(self, writer: GenerationWriter, kind: KindName, lane: str, db: int | None = None) -> None:
        self._writer, self._kind, self._lane, self._db = writer, kind, lane, db
        self._open: SegmentWriter | None = None

    def __enter__(self) -> Rolling:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._open:
            self._open.abandon()

    def add(self, records: list[Record]) -> None:
        if self._open and self._kind == "base" and self._open.bytes >= SEGMENT_BYTES:
            self.close()
        if self._open is None:
            self._open = SegmentWriter(self._writer, self._kind, self._lane, self._db)
        self._open.add(records)

    def close(self, covers: tuple[int, int] | None = None) -> None:
        """Make what is open part of the generation; an empty segment where covers has to be said all the same."""
        if self._open is None and covers is not None:
            self.add([])
        if self._open:
            segment, self._open = self._open, None
            try:
                segment.close(covers=covers)
            finally:
                segment.abandon()


def write_base(writer: GenerationWriter, source: Source, states: States) -> None:
    """The state at the first kept moment. Its last segment covers that moment.

    A pass over the records for each database: a segment of a copy has to be of one, so that a flush of it can be told.
    """
    lane = _lane_of(source.places)
    with Rolling(writer, "functions", lane) as functions:
        for records in _chosen(source, states, FUNCTIONS_DB):
            functions.add(records)
        functions.close()
    databases = sorted(states.keys) or [0]
    for db in databases:
        with Rolling(writer, "base", lane, db) as base:
            for records in _chosen(source, states, db):
                base.add(records)
            first_ms = source.plan.since_ms
            base.close(covers=(first_ms, first_ms) if db == databases[-1] else None)


def write_changes(writer: GenerationWriter, source: Source, states: States) -> None:
    """What came after the first kept moment, a segment per group."""
    by_number = {place.number: place for place in source.places}
    for group in source.plan.groups:
        places = [by_number[entry.number] for entry in group.entries if entry.kind in ("changes", "functions")]
        with ExitStack() as stack:
            changes = stack.enter_context(Rolling(writer, "changes", group.lane))
            functions = stack.enter_context(Rolling(writer, "functions", group.lane))
            for records in _late(source, states, places):
                if left := [record for record in records if record.kind != _FUNCTIONS]:
                    changes.add(left)
                if found := [record for record in records if record.kind == _FUNCTIONS]:
                    functions.add(found)
            functions.close()
            changes.close(covers=group.covers)


def write_stream(writer: GenerationWriter, source: Source) -> None:
    """The same records in the same order, with commands in fewer segments."""
    by_number = {place.number: place for place in source.places}
    for group in source.plan.groups:
        first = group.entries[0]
        with SegmentWriter(writer, group.kind, group.lane, first.db) as segment:
            for entry in group.entries:
                for records in records_of(source.repository, source.name, by_number[entry.number], source.check):
                    segment.add(records)
            segment.close(first.cursor, covers=group.covers, position=group.position)


def _chosen(source: Source, states: States, db: int) -> Iterator[list[Record]]:
    """The records of one database that make up the first state; places without any are not read."""
    chosen = states.chosen(db)
    wanted = next(chosen, None)
    for place, end in _with_ends(source, states.records):
        if wanted is None or wanted >= end:
            continue
        number = source.start_of(place)
        for records in source.records(place):
            batch: list[Record] = []
            while wanted is not None and wanted < number + len(records):
                batch.append(records[wanted - number])
                wanted = next(chosen, None)
            number += len(records)
            if batch:
                yield batch


def _late(source: Source, states: States, places: Iterable[Place]) -> Iterator[list[Record]]:
    since_ms = source.plan.since_ms
    for place in places:
        number = source.start_of(place)
        for records in source.records(place):
            late = [
                record
                for at, record in enumerate(records, number)
                if record.captured_ms > since_ms and not states.is_void(record, at)
            ]
            number += len(records)
            if late:
                yield late


def _with_ends(source: Source, records: int) -> Iterator[tuple[Place, int]]:
    """Places of keys, with the number behind their last record."""
    places = [place for place in source.places if place.kind in _OF_KEYS]
    for place, after in zip(places, [*places[1:], None], strict=True):
        yield place, records if after is None else source.start_of(after)


def _lane_of(places: Iterable[Place]) -> str:
    return Group("base", [place.entry for place in places if place.entry and place.kind == "base"]).lane
