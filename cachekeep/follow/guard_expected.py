"""What an endpoint has to have after an upgrade: its state at the last covered moment, and all changes announced since.

What a pass over all keys found after the outage is left out: that is what the endpoint came back with, which is the
thing to be judged. So is the emptying of a database: a replica that copies an empty primary announces one too, and
nobody can tell it from a FLUSHALL. `emptied_since` has it, as a doubt. Called by follow.guard; reads a backup only.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence

from cachekeep.backup.catalog import Repository
from cachekeep.backup.catalog_chain import Place as EntryPlace
from cachekeep.backup.contents import GenerationContents
from cachekeep.backup.glob_match import matcher
from cachekeep.backup.latest import Latest
from cachekeep.backup.reader import GenerationReader
from cachekeep.codec.record import Kind, Record
from cachekeep.follow.guard_meaning import meaning
from cachekeep.follow.guard_types import Place

RECONCILE = "#reconcile"
_OF_KEYS = frozenset((int(Kind.UPSERT), int(Kind.TOMBSTONE)))


class Expected:
    """See backup.contents.Contents. at: the state at moment_ms (source's clock). entries: how many of them it knows."""

    def __init__(self, at: GenerationContents, repository: Repository, moment_ms: int) -> None:
        self._at, self._repository, self.moment_ms = at, repository, moment_ms
        self.name, self.damaged = at.name, False
        self._reader = GenerationReader.open(repository, at.name, unfinished=True)
        self.entries = max((place.number for place in self._reader.chain.places), default=0)
        self._latest = Latest.of(self._announced())

    @property
    def captured_ms(self) -> int:
        return self.moment_ms

    @property
    def total_keys(self) -> int | None:
        return self._at.total_keys

    def databases(self) -> Sequence[int]:
        return sorted({*self._at.databases(), *self._latest.databases})

    def functions(self) -> bytes | None:
        return self._at.functions()

    def batches(self, databases: Collection[int] | None = None, match: bytes | None = None) -> Iterator[list[Record]]:
        """Every key once, but for those that the state itself has twice."""
        latest = self._latest
        for records in self._at.batches(databases, match):
            if left := latest.of_base(records):
                yield left
        matches = matcher(match) if match is not None else (lambda key: True)
        for records in latest.of_changes(self._announced()):
            left = [one for one in records if (databases is None or one.db in databases) and matches(one.key)]
            if left:
                yield left

    def again(self, records: list[Record]) -> list[Record]:
        return records

    def born(self, db: int, keys: list[bytes]) -> set[bytes]:
        return set()

    def why_partial(self, match: bytes | None) -> str | None:
        return None

    def older(self) -> Iterator[list[Record]]:
        """Every value that the generation has of moments before, in order."""
        for _, records in self._reader.numbered(("base", "changes")):
            if left := [one for one in records if one.kind == Kind.UPSERT and one.captured_ms <= self.moment_ms]:
                yield left

    def written_since(self, moment_ms: int) -> set[Place]:
        """Keys that clients wrote after this moment (source's clock)."""
        batches = (records for _, records in self._announced())
        return {(one.db, one.key) for records in batches for one in records if one.captured_ms > moment_ms}

    def _announced(self) -> Iterator[tuple[int, list[Record]]]:
        for number, records in self._reader.numbered(("changes",), _is_announced):
            if left := [one for one in records if one.captured_ms > self.moment_ms and one.kind in _OF_KEYS]:
                yield number, left


def signalled_since(
    repository: Repository, name: str, entry: int, ours: Mapping[Place, bytes | None] | None = None
) -> Iterator[Place]:
    """Database and key of every change that entries after this one have and no pass over all keys found.

    ours: what we wrote ourselves, as `meaning` tells it, None for keys that we deleted: those are no changes. A key may
    come twice. A database that was emptied as a whole is not among them: see `emptied_since`.
    Raises CatalogError, BlobError, SegmentError.
    """
    ours = ours or {}
    reader = GenerationReader.open(repository, name, unfinished=True)
    for _, records in reader.numbered(("changes",), lambda place: place.number > entry and _is_announced(place)):
        for record in records:
            place = record.db, record.key
            if record.kind in _OF_KEYS and (place not in ours or ours[place] != _told(record)):
                yield place


def emptied_since(repository: Repository, name: str, moment_ms: int) -> set[int]:
    """Databases that were emptied as a whole after this moment (source's clock). Raises as signalled_since."""
    reader = GenerationReader.open(repository, name, unfinished=True)
    batches = (records for _, records in reader.numbered(("changes",)))
    flushed = (one for records in batches for one in records if one.kind == Kind.FLUSHED)
    return {one.db for one in flushed if one.captured_ms > moment_ms}


def _is_announced(place: EntryPlace) -> bool:
    return place.entry is not None and not place.entry.lane.endswith(RECONCILE)


def _told(record: Record) -> bytes | None:
    return meaning(record.payload, record.captured_ms) if record.kind == Kind.UPSERT else None
