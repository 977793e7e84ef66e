"""What there is to put back or to compare: the keys of a backup or of a living endpoint. For restore, verify, diff.

A backup that was scanned is read from its segments. One that has the engine's own RDB file is loaded into an engine
that runs for a while, and read from there: this program never parses an RDB.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from typing import Protocol

from cachekeep.backup.catalog import CatalogError, CatalogFault, Repository, Status
from cachekeep.backup.catalog_chain import Finding, Place
from cachekeep.backup.glob_match import matcher
from cachekeep.backup.latest import Latest
from cachekeep.backup.living import LivingContents
from cachekeep.backup.reader import GenerationReader, OnDamage
from cachekeep.backup.scratch_lanes import ScratchLanes
from cachekeep.backup.survey_types import Survey
from cachekeep.codec.segment import Kind, Record
from cachekeep.domain.remote import Remote, ScratchEngines

_UPSERT = int(Kind.UPSERT)
_ESCAPED = re.compile(rb"\\x([0-9a-f]{2})")


class Contents(Protocol):
    """Keys with their values and expiries, and function libraries."""

    @property
    def name(self) -> str: ...

    @property
    def captured_ms(self) -> int:
        """The moment up to which it knows, by the source's clock."""
        ...

    @property
    def total_keys(self) -> int | None:
        """An estimate."""
        ...

    @property
    def damaged(self) -> bool:
        """True once something could not be read."""
        ...

    def databases(self) -> Sequence[int]:
        """Those that may have keys."""
        ...

    def functions(self) -> bytes | None:
        """What FUNCTION DUMP gave; None where it was not asked."""
        ...

    def batches(self, databases: Collection[int] | None = None, match: bytes | None = None) -> Iterator[list[Record]]:
        """Upserts and tombstones in the order of truth; a tombstone is the only record of its key."""
        ...

    def again(self, records: list[Record]) -> list[Record]:
        """The same keys, of one database, as they are now; those that are gone are left out."""
        ...

    def born(self, db: int, keys: list[bytes]) -> set[bytes]:
        """Those of the keys that it has by now, though `batches` did not give them."""
        ...

    def why_partial(self, match: bytes | None) -> str | None:
        """Why a key that is not in here may be in the source all the same; None when it cannot."""
        ...


@contextmanager
def open_generation(
    repository: Repository,
    name: str,
    scratch: ScratchEngines,
    *,
    unfinished: bool = False,
    on_damage: OnDamage | None = None,
) -> Iterator[GenerationContents]:
    """A backup. on_damage: told of everything that is damaged, and what is whole is read; without it, damage raises.

    Raises CatalogError, BlobError, SegmentError; ScratchError when an RDB file is in it and no engine loads it.
    """
    with ScratchLanes(scratch) as lanes:
        contents = GenerationContents(repository, name, lanes, unfinished=unfinished, on_damage=on_damage)
        yield contents


def contents_of(remote: Remote, survey: Survey) -> LivingContents:
    """What an endpoint has now, on all its primaries."""
    return LivingContents(remote, survey)


class GenerationContents:
    """See Contents. scope: databases that the backup was limited to, None: all."""

    def __init__(
        self,
        repository: Repository,
        name: str,
        lanes: ScratchLanes,
        *,
        unfinished: bool = False,
        on_damage: OnDamage | None = None,
    ) -> None:
        self.name, self.damaged, self._on_damage, self._lanes = name, False, on_damage, lanes
        self.reader = GenerationReader.open(
            repository, name, unfinished=unfinished, on_damage=self._note_damage if on_damage else None
        )
        generation = self.reader.chain.generation
        self.head, self.end, self._status = generation.head, generation.end, generation.status
        options = self.head.options if self.head else {}
        databases = options.get("databases")
        self.scope: frozenset[int] | None = None if databases is None else frozenset(databases)
        self._match: str | None = options.get("match")
        entries = self.reader.chain.entries
        self._rdb_lanes = list(dict.fromkeys(entry.lane for entry in entries if entry.kind == "rdb"))
        self._latest: Latest | None = None

    @property
    def glob(self) -> bytes | None:
        """What keys had to match to be copied. Bytes that are no UTF-8 are written as `\\xff` in head.json."""
        if self._match is None:
            return None
        return _ESCAPED.sub(lambda found: bytes((int(found[1], 16),)), self._match.encode())

    @property
    def captured_ms(self) -> int:
        moments = [entry.last_ms for entry in self.reader.chain.entries if entry.last_ms is not None]
        return max(moments, default=self.head.source_began_ms if self.head else 0)

    @property
    def total_keys(self) -> int | None:
        if self._rdb_lanes:
            return sum(self.head.databases.values()) if self.head else None
        return sum(entry.records for entry in self.reader.chain.entries if entry.kind in ("base", "changes"))

    def databases(self) -> Sequence[int]:
        known = {entry.db for entry in self.reader.chain.entries if entry.db is not None}
        known |= {int(number) for number in (self.head.databases if self.head else ())}
        known |= self._changes().databases
        return sorted(known if self.scope is None else known & self.scope)

    def functions(self) -> bytes | None:
        payload: bytes | None = None
        if self._rdb_lanes:
            payload = self._lanes.functions(self.reader, self._rdb_lanes[0])
        for record in self.reader.records(("functions",)):
            payload = record.payload if record.kind == Kind.FUNCTIONS else payload
        return payload

    def batches(self, databases: Collection[int] | None = None, match: bytes | None = None) -> Iterator[list[Record]]:
        chosen = _chooser(databases, match)
        latest = self._changes()
        for lane in self._rdb_lanes:
            for records in self._lanes.batches(self.reader, lane, databases, match):
                if left := latest.of_base(records):
                    yield left

        def holds(place: Place) -> bool:
            """Whether its records may be wanted: a segment of the copy is of one database."""
            db = place.entry.db if place.entry else None
            return not latest.is_void(db, place.number) and (None in (db, databases) or db in (databases or ()))

        for number, records in self.reader.numbered(("base",), holds):
            if {record.kind for record in records} - {_UPSERT} or not all(record.payload for record in records):
                what = f"{self.name}: entry {number} has records that do not belong there"
                raise CatalogError(CatalogFault.DAMAGED, what, "take another backup")
            if left := chosen(latest.of_base(records)):
                yield left
        if latest:
            for records in latest.of_changes(self.reader.numbered(("changes",))):
                if left := chosen(records):
                    yield left

    def again(self, records: list[Record]) -> list[Record]:
        return records

    def born(self, db: int, keys: list[bytes]) -> set[bytes]:
        return set()

    def why_partial(self, match: bytes | None) -> str | None:
        if self._status is not Status.COMPLETE:
            return f"{self.name} is {'unfinished' if self.end is None else self._status.value}"
        if self.damaged:
            return f"parts of {self.name} are damaged"
        if self.end and (skipped := sum(self.end.skipped.values())):
            return f"{skipped} keys could not be copied into {self.name}"
        if self._match is not None and self._match != (match or b"").decode("utf-8", "backslashreplace"):
            return f"{self.name} has only keys that match {self._match}"
        return None

    def _changes(self) -> Latest:
        if self._latest is None:
            self._latest = Latest.of(self.reader.numbered(("changes",)))
        return self._latest

    def _note_damage(self, finding: Finding) -> None:
        self.damaged = True
        if self._on_damage:
            self._on_damage(finding)


def _chooser(databases: Collection[int] | None, match: bytes | None) -> Callable[[list[Record]], list[Record]]:
    """A function that leaves of records those that are asked for."""
    if databases is None and match is None:
        return lambda records: records
    matches = matcher(match) if match is not None else (lambda key: True)
    return lambda records: [
        record for record in records if (databases is None or record.db in databases) and matches(record.key)
    ]
