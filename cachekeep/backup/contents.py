"""What there is to put back or to compare: the keys of a backup or of a living endpoint. For restore, verify, diff.

A backup that was scanned is read from its segments. One that has the engine's own RDB file is loaded into an engine
that runs for a while, and read from there: this program never parses an RDB.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from typing import Protocol

import msgspec

from cachekeep.backup.catalog import CatalogError, CatalogFault, Repository, Status
from cachekeep.backup.catalog_chain import Finding, Place
from cachekeep.backup.catalog_objects import KindName
from cachekeep.backup.coverage import clock_ahead_ms, last_entry_for, moment_text, nearest, stretches
from cachekeep.backup.glob_match import matcher
from cachekeep.backup.latest import Latest
from cachekeep.backup.living import LivingContents
from cachekeep.backup.reader import GenerationReader, OnDamage
from cachekeep.backup.scratch_lanes import ScratchLanes
from cachekeep.backup.survey_types import Survey
from cachekeep.codec.record import Kind, Record
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
    at_ms: int | None = None,
) -> Iterator[GenerationContents]:
    """A backup. on_damage: told of everything that is damaged, and what is whole is read; without it, damage raises.

    at_ms: as the source was at that moment of its own clock; None: at the last moment that is covered, or all there is
    where nothing was followed. Raises CatalogError (STATE: the moment is not covered), BlobError, SegmentError;
    ScratchError when an RDB file is in it and no engine loads it.
    """
    contents = GenerationContents(repository, name, unfinished=unfinished, on_damage=on_damage, at_ms=at_ms)
    with ScratchLanes(scratch, until_ms=contents.at_ms) as lanes:
        contents.lanes = lanes
        yield contents


def contents_of(remote: Remote, survey: Survey) -> LivingContents:
    """What an endpoint has now, on all its primaries."""
    return LivingContents(remote, survey)


class GenerationContents:
    """See Contents. scope: databases that the backup was limited to, None: all.

    at_ms: the moment that it is read at, by the source's clock; None where nothing was followed. What was captured
    later is left out. lanes: where the engine's own files are loaded, set before the keys of such are read.
    """

    lanes: ScratchLanes

    def __init__(
        self,
        repository: Repository,
        name: str,
        *,
        unfinished: bool = False,
        on_damage: OnDamage | None = None,
        at_ms: int | None = None,
    ) -> None:
        self.name, self.damaged, self._on_damage = name, False, on_damage
        on_damage = self._note_damage if on_damage else None
        self.reader = _reader(repository, name, unfinished=unfinished, on_damage=on_damage)
        generation = self.reader.chain.generation
        self.head, self.end, self._status = generation.head, generation.end, generation.status
        options = self.head.options if self.head else {}
        databases = options.get("databases")
        self.scope: frozenset[int] | None = None if databases is None else frozenset(databases)
        self._match: str | None = options.get("match")
        self.at_ms = self._moment(at_ms, unfinished=unfinished)
        entries = self.reader.chain.entries
        # All that is known of the moment is in the entries up to this one.
        self._last_entry = None if self.at_ms is None else last_entry_for(entries, self.at_ms)
        self._rdb_lanes = list(dict.fromkeys(entry.lane for entry in entries if entry.kind == "rdb"))
        self._latest: Latest | None = None

    def _moment(self, at_ms: int | None, *, unfinished: bool) -> int | None:
        """The one to read at. Raises CatalogError(STATE)."""
        found = stretches(self.reader.chain.entries)
        if at_ms is None:
            if not found and self._status is Status.OPEN and not unfinished:
                advice = (
                    "let `backup run --follow` go on until its copy is whole, or ask for an unfinished one explicitly"
                )
                raise CatalogError(CatalogFault.STATE, f"{self.name} is open and covers no moment yet", advice)
            return found[-1].until_ms if found else None
        before, after = nearest(found, at_ms)
        if before == after == at_ms:
            return at_ms
        ahead_ms = self.clock_ahead_ms or 0
        near = " and ".join(moment_text(one - ahead_ms) for one in (before, after) if one is not None)
        what = f"{self.name} does not cover {moment_text(at_ms - ahead_ms)}"
        raise CatalogError(CatalogFault.STATE, what, f"the nearest that it does: {near}" if near else "it covers none")

    @property
    def is_streamed(self) -> bool:
        """The engine's own file with the commands that came after it."""
        return any(entry.kind == "commands" for entry in self.reader.chain.entries)

    @property
    def glob(self) -> bytes | None:
        """What keys had to match to be copied. Bytes that are no UTF-8 are written as `\\xff` in head.json."""
        if self._match is None:
            return None
        return _ESCAPED.sub(lambda found: bytes((int(found[1], 16),)), self._match.encode())

    @property
    def captured_ms(self) -> int:
        if self.at_ms is not None:
            return self.at_ms
        moments = [entry.last_ms for entry in self.reader.chain.entries if entry.last_ms is not None]
        return max(moments, default=self.head.source_began_ms if self.head else 0)

    @property
    def total_keys(self) -> int | None:
        if self._rdb_lanes:
            return sum(self.head.databases.values()) if self.head else None
        places = self.reader.chain.places
        read = [place.entry for place in places if place.kind in ("base", "changes") and self._is_asked_for(place)]
        return sum(entry.records for entry in read if entry)

    @property
    def clock_ahead_ms(self) -> int | None:
        """By how much the source's clock was ahead of this machine's when it began; None where that is not known."""
        return clock_ahead_ms(self.head)

    def databases(self) -> Sequence[int]:
        known = {entry.db for entry in self.reader.chain.entries if entry.db is not None}
        known |= {int(number) for number in (self.head.databases if self.head else ())}
        known |= self._changes().databases
        if self.is_streamed:  # a command may have made others
            for lane in self._rdb_lanes:
                known.update(self.lanes.loaded(self.reader, lane).databases())
        return sorted(known if self.scope is None else known & self.scope)

    def functions(self) -> bytes | None:
        payload: bytes | None = None
        if self._rdb_lanes:
            payload = self.lanes.functions(self.reader, self._rdb_lanes[0])
        for _, records in self._read("functions"):
            for record in records:
                payload = record.payload if record.kind == Kind.FUNCTIONS else payload
        return payload

    def batches(self, databases: Collection[int] | None = None, match: bytes | None = None) -> Iterator[list[Record]]:
        chosen = _chooser(databases, match)
        latest = self._changes()
        for lane in self._rdb_lanes:
            for records in self.lanes.batches(self.reader, lane, databases, match):
                if left := latest.of_base(records):
                    yield left

        def holds(place: Place) -> bool:
            """Whether its records may be wanted: a segment of the copy is of one database."""
            db = place.entry.db if place.entry else None
            if self._last_entry is not None and place.number > self._last_entry:
                return False
            return not latest.is_void(db, place.number) and (None in (db, databases) or db in (databases or ()))

        for number, records in self.reader.numbered(("base",), holds):
            if {record.kind for record in records} - {_UPSERT} or not all(record.payload for record in records):
                what = f"{self.name}: entry {number} has records that do not belong there"
                raise CatalogError(CatalogFault.DAMAGED, what, "take another backup")
            if left := chosen(latest.of_base(records)):
                yield left
        if latest:
            for records in latest.of_changes(self._read("changes")):
                if left := chosen(records):
                    yield left

    def again(self, records: list[Record]) -> list[Record]:
        return records

    def born(self, db: int, keys: list[bytes]) -> set[bytes]:
        return set()

    def why_partial(self, match: bytes | None) -> str | None:
        if self.damaged or self._status is Status.DAMAGED:
            return f"parts of {self.name} are damaged"
        if self.at_ms is None and self._status is not Status.COMPLETE:
            return f"{self.name} is {'unfinished' if self.end is None else self._status.value}"
        if skipped := self._skipped():
            return f"{skipped} keys could not be copied into {self.name}"
        if self._match is not None and self._match != (match or b"").decode("utf-8", "backslashreplace"):
            return f"{self.name} has only keys that match {self._match}"
        return None

    def _changes(self) -> Latest:
        if self._latest is None:
            self._latest = Latest.of(self._read("changes"))
        return self._latest

    def _read(self, kind: KindName) -> Iterator[tuple[int, list[Record]]]:
        """Records with the number of their entry, up to the moment."""
        for number, records in self.reader.numbered((kind,), self._is_asked_for):
            at_ms = self.at_ms
            yield number, records if at_ms is None else [one for one in records if one.captured_ms <= at_ms]

    def _is_asked_for(self, place: Place) -> bool:
        """Whether its records may be of the moment or before it."""
        if self.at_ms is None:
            return True
        if self._last_entry is not None and place.number > self._last_entry:
            return False
        return place.entry is None or place.entry.first_ms is None or place.entry.first_ms <= self.at_ms

    def _skipped(self) -> int:
        """Keys that could not be read; of an open one, as far as its logs tell."""
        if self.end is not None:
            return sum(self.end.skipped.values())
        lines = [line for line in self.reader.log_lines() if line.get("event") in ("skipped", "skipped-unnamed")]
        return sum(int(line.get("keys", 1)) for line in lines)

    def _note_damage(self, finding: Finding) -> None:
        self.damaged = True
        if self._on_damage:
            self._on_damage(finding)


def _reader(repository: Repository, name: str, *, unfinished: bool, on_damage: OnDamage | None) -> GenerationReader:
    """Of one that is being written a listing may show an object and not one before it: then it is read once more."""
    try:
        return GenerationReader.open(repository, name, unfinished=unfinished, on_damage=on_damage)
    except CatalogError as error:
        if error.fault is not CatalogFault.DAMAGED or repository.generation(name).objects.end:
            raise
    return GenerationReader.open(repository, name, unfinished=unfinished, on_damage=on_damage)


class Selected:
    """Contents of which some keys are wanted only: those of some databases, like a glob, or one key. See Contents.

    key: it alone, under another name if `name` is given; `batches` raises CatalogError(ABSENT) where it is not there,
    unless it may be.
    """

    def __init__(
        self,
        contents: Contents,
        *,
        databases: Collection[int] | None = None,
        match: bytes | None = None,
        key: bytes | None = None,
        name: bytes | None = None,
        may_be_absent: bool = False,
    ) -> None:
        self._contents, self._databases = contents, databases
        self._match = match if key is None else literal(key)
        self._new_name, self._required = name, None if may_be_absent else key
        self.name = contents.name
        self.scope: frozenset[int] | None = getattr(contents, "scope", None)
        self.clock_ahead_ms: int | None = getattr(contents, "clock_ahead_ms", None)

    @property
    def captured_ms(self) -> int:
        return self._contents.captured_ms

    @property
    def total_keys(self) -> int | None:
        return None

    @property
    def damaged(self) -> bool:
        return self._contents.damaged

    def databases(self) -> Sequence[int]:
        return [db for db in self._contents.databases() if self._databases is None or db in self._databases]

    def functions(self) -> bytes | None:
        return None

    def batches(self, databases: Collection[int] | None = None, match: bytes | None = None) -> Iterator[list[Record]]:
        chosen, found = _chooser(databases, match), False
        for records in self._contents.batches(self._databases, self._match):
            found = found or any(one.kind == _UPSERT for one in records)
            if self._new_name is not None:
                records = [msgspec.structs.replace(one, key=self._new_name) for one in records]
            if left := chosen(records):
                yield left
        if self._required is not None and not found:
            key = self._required.decode("utf-8", "backslashreplace")
            what = f"{self.name} has no key {key} as of {moment_text(self.captured_ms - (self.clock_ahead_ms or 0))}"
            raise CatalogError(CatalogFault.ABSENT, what, "nothing was written; name another moment, or see --db")

    def again(self, records: list[Record]) -> list[Record]:
        return records

    def born(self, db: int, keys: list[bytes]) -> set[bytes]:
        return set()

    def why_partial(self, match: bytes | None) -> str | None:
        return self._contents.why_partial(self._match)


def literal(key: bytes) -> bytes:
    """The glob that this key alone matches."""
    return re.sub(rb"([*?\[\]\\^-])", rb"\\\1", key)


def _chooser(databases: Collection[int] | None, match: bytes | None) -> Callable[[list[Record]], list[Record]]:
    """A function that leaves of records those that are asked for."""
    if databases is None and match is None:
        return lambda records: records
    matches = matcher(match) if match is not None else (lambda key: True)
    return lambda records: [
        record for record in records if (databases is None or record.db in databases) and matches(record.key)
    ]
