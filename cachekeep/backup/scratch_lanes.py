"""The engine's own RDB files of a backup, loaded and read by SCAN, one lane at a time. Called by backup.contents.

One engine runs at most: a cluster's lanes are loaded one after the other. Where the lane was followed, the commands of
its replication stream are carried out after the RDB file, up to a moment.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from contextlib import AbstractContextManager
from itertools import chain

from cachekeep.backup.catalog import CatalogError, CatalogFault
from cachekeep.backup.catalog_objects import Head
from cachekeep.backup.living import LivingContents
from cachekeep.backup.reader import GenerationReader
from cachekeep.backup.replication_commands import timed_pieces, whole_commands
from cachekeep.backup.survey import survey
from cachekeep.codec.record import Record
from cachekeep.codec.slots import slot_of
from cachekeep.domain.engine import Engine, EngineVersion
from cachekeep.domain.remote import Remote, ScratchEngines, ScratchError

_LEAST_DATABASES = 16
# A stream may open a database that had no key when it began, and nothing says how many the source has.
_LEAST_DATABASES_REPLAYED = 1024
_MAGICS = (b"REDIS", b"VALKEY")


class ScratchLanes:
    """Use as a context: what runs ends with it. until_ms: commands that came later, by the source's clock, are left."""

    def __init__(self, scratch: ScratchEngines, until_ms: int | None = None) -> None:
        self._scratch, self._until_ms = scratch, until_ms
        self._lane: str | None = None
        self._running: AbstractContextManager[Remote] | None = None
        self._contents: LivingContents | None = None

    def __enter__(self) -> ScratchLanes:
        return self

    def __exit__(self, *exc: object) -> None:
        self._end()

    def functions(self, reader: GenerationReader, lane: str) -> bytes | None:
        return self.loaded(reader, lane).functions()

    def batches(
        self, reader: GenerationReader, lane: str, databases: Collection[int] | None, match: bytes | None
    ) -> Iterator[list[Record]]:
        """Of a node of a cluster that was followed, keys of its own slots alone: others are on their way to it."""
        found = self.loaded(reader, lane).batches(databases, match)
        slots = _own_slots(reader, lane)
        if not slots:
            return found
        return ([record for record in records if slot_of(record.key) in slots] for records in found)

    def loaded(self, reader: GenerationReader, lane: str) -> LivingContents:
        """An engine with this lane's file. Raises ScratchError, CatalogError, SegmentError, BlobError."""
        if self._contents is None or self._lane != lane:
            self._end()
            self._contents = self._load(reader, lane)
            self._lane = lane
        return self._contents

    def _load(self, reader: GenerationReader, lane: str) -> LivingContents:
        head = head_of(reader)
        pieces = reader.stream("rdb", lane)
        first = next(pieces, b"")
        version = rdb_file_version(first)
        if version is None:
            raise ScratchError(
                f"{reader.name}: what it has of {lane} does not begin as an RDB file; take another backup"
            )
        install = self._scratch.for_rdb(Engine(head.engine), version)
        if install is None:
            raise ScratchError(
                f"{reader.name} is an RDB file of version {version}, which {head.engine} {head.engine_version} wrote, "
                "and no engine on this machine loads it; install one of that version or newer"
            )
        known = max((int(number) + 1 for number in head.databases), default=0)
        rdb = chain([first], pieces)
        if any(place.kind == "commands" for place in reader.chain.places):
            came = timed_pieces(reader, lane, self._until_ms)
            commands = whole_commands(came, self._until_ms, relative=tells_time_left(head))
            databases = max(_LEAST_DATABASES_REPLAYED, known)
            running = self._scratch.replayed(rdb, commands, install, databases)
        else:
            running = self._scratch.loaded(rdb, install, max(_LEAST_DATABASES, known))
        remote = running.__enter__()
        self._running = running
        return LivingContents(remote, survey(remote))

    def _end(self) -> None:
        running, self._running, self._contents = self._running, None, None
        if running:
            running.__exit__(None, None, None)


def head_of(reader: GenerationReader) -> Head:
    """Raises CatalogError(DAMAGED)."""
    head = reader.chain.generation.head
    if head is None:
        raise CatalogError(CatalogFault.DAMAGED, f"{reader.name} has no whole head.json", "nothing says how to load it")
    return head


def tells_time_left(head: Head) -> bool:
    """Whether the source's stream says how long keys live on, and not until when."""
    return head.engine == "redis" and EngineVersion.parse(head.engine_version).major < 7


def _own_slots(reader: GenerationReader, lane: str) -> frozenset[int]:
    """Empty: all of them count."""
    head = head_of(reader)
    if not head.options.get("follow"):
        return frozenset()
    return frozenset(
        slot for one in head.lanes if one.lane == lane for first, last in one.slots for slot in range(first, last + 1)
    )


def rdb_file_version(first: bytes) -> int | None:
    """By the file's first bytes, `REDIS0010` or `VALKEY080`; None when they are not those of an RDB file."""
    for magic in _MAGICS:
        digits = first[len(magic) : 9]
        if first.startswith(magic) and digits.isdigit():
            return int(digits)
    return None
