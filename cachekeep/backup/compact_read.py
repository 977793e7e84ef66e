"""The records of a followed generation with the moment from which on a reader sees them. Called by backup.compact_*.

A reader of a moment stops at the first entry that covers it. So a record that was captured before, and written behind
that entry, is seen from the moment after: that is the moment which it has here, and in the segment that it moves to.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

import msgspec

from cachekeep.backup.catalog import Repository
from cachekeep.backup.catalog_chain import Place, verified_frames
from cachekeep.backup.reader import Joiner
from cachekeep.codec.record import Record


def records_of(
    repository: Repository, name: str, place: Place, check: Callable[[], None] = lambda: None
) -> Iterator[list[Record]]:
    """Of one segment, a frame at a time, large values whole. check: called before each.

    Raises SegmentError, BlobError.
    """
    joiner = Joiner()
    for frame in verified_frames(repository, name, place):
        check()
        yield joiner.feed(frame.decode(repository.sealer))


def covered_before(places: Iterable[Place]) -> dict[int, int]:
    """By number of a place: the latest moment that places before it cover; -1 for none."""
    found: dict[int, int] = {}
    until_ms = -1
    for place in places:
        found[place.number] = until_ms
        if place.entry and place.entry.covers:
            until_ms = max(until_ms, place.entry.covers[1])
    return found


def seen_from(records: list[Record], covered_ms: int) -> list[Record]:
    """covered_ms: what entries before theirs cover."""
    return [
        record if record.captured_ms > covered_ms else msgspec.structs.replace(record, captured_ms=covered_ms + 1)
        for record in records
    ]
