"""The engine's own RDB files of a backup, loaded and read by SCAN, one lane at a time. Called by backup.contents.

One engine runs at most: a cluster's lanes are loaded one after the other.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from contextlib import AbstractContextManager
from itertools import chain

from cachekeep.backup.catalog import CatalogError, CatalogFault
from cachekeep.backup.living import LivingContents
from cachekeep.backup.reader import GenerationReader
from cachekeep.backup.survey import survey
from cachekeep.codec.segment import Record
from cachekeep.domain.engine import Engine
from cachekeep.domain.remote import Remote, ScratchEngines, ScratchError

_LEAST_DATABASES = 16
_MAGICS = (b"REDIS", b"VALKEY")


class ScratchLanes:
    """Use as a context: what runs ends with it."""

    def __init__(self, scratch: ScratchEngines) -> None:
        self._scratch = scratch
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
        return self.loaded(reader, lane).batches(databases, match)

    def loaded(self, reader: GenerationReader, lane: str) -> LivingContents:
        """An engine with this lane's file. Raises ScratchError, CatalogError, SegmentError, BlobError."""
        if self._contents is None or self._lane != lane:
            self._end()
            self._contents = self._load(reader, lane)
            self._lane = lane
        return self._contents

    def _load(self, reader: GenerationReader, lane: str) -> LivingContents:
        head = reader.chain.generation.head
        if head is None:
            raise CatalogError(
                CatalogFault.DAMAGED, f"{reader.name} has no whole head.json", "nothing says how to load it"
            )
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
        databases = max([_LEAST_DATABASES, *(int(number) + 1 for number in head.databases)])
        running = self._scratch.loaded(chain([first], pieces), install, databases)
        remote = running.__enter__()
        self._running = running
        return LivingContents(remote, survey(remote))

    def _end(self) -> None:
        running, self._running, self._contents = self._running, None, None
        if running:
            running.__exit__(None, None, None)


def rdb_file_version(first: bytes) -> int | None:
    """By the file's first bytes, `REDIS0010` or `VALKEY080`; None when they are not those of an RDB file."""
    for magic in _MAGICS:
        digits = first[len(magic) : 9]
        if first.startswith(magic) and digits.isdigit():
            return int(digits)
    return None
