"""Generations of followed sources, made by hand as a capture would make them, and records to fill them with."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from backup_samples import records_of

from cachekeep.backup.catalog import Repository
from cachekeep.backup.catalog_objects import Head, Lane
from cachekeep.backup.contents import open_generation
from cachekeep.backup.restore import RestoreOptions, RestoreReport, restore
from cachekeep.backup.survey import survey
from cachekeep.backup.writer import GenerationWriter, SegmentWriter
from cachekeep.blob.local import LocalBlobs
from cachekeep.codec.record import NO_EXPIRY, Kind, Record
from cachekeep.host.scratch import LocalScratch
from cachekeep.remote.open import open_remote

VERSION = "9.1"
T0 = 1_795_381_200_000  # 2026-11-22T21:00:00Z by the source's clock


class Story:
    """A followed generation, written as a capture would. Moments in ms after T0."""

    def __init__(
        self,
        folder: Path,
        server: Any,
        method: str = "tracking",
        ahead_ms: int = 0,
        repository: Repository | None = None,
    ) -> None:
        seen = survey(open_remote(server.url))
        self.repository = repository or Repository.open_or_create(LocalBlobs(folder))
        head = Head(
            source=seen.name,
            engine=seen.target.engine.value,
            engine_version=str(seen.target.version),
            mode=seen.mode,
            lanes=(Lane(lane="only"),),
            databases={str(db): size.keys for db, size in seen.databases.items()},
            began_ms=T0 - ahead_ms,
            source_began_ms=T0,
            options={
                "method": "scan",
                "databases": None,
                "match": None,
                "follow": method,
                "limits": ["sees no dreams"],
            },
        )
        self.writer = GenerationWriter.begin(self.repository, head)
        self.name = self.writer.name

    def add(
        self, kind: Any, records: list[Record], covers: tuple[int, int] | None = None, db: int | None = None
    ) -> Story:
        with SegmentWriter(self.writer, kind, "only", db) as segment:
            segment.add(records)
            stretch = None if covers is None else (T0 + covers[0], T0 + covers[1])
            segment.close("0" if kind == "base" else None, covers=stretch)
        return self

    def gap(self, start: int, end: int | None, reason: str) -> Story:
        end_ms = None if end is None else T0 + end
        self.writer.log([{"event": "gap", "start_ms": T0 + start, "end_ms": end_ms, "reason": reason, "lane": None}])
        return self

    @property
    def made(self) -> tuple[Repository, str]:
        return self.repository, self.name


def at(records: list[Record], after: int) -> list[Record]:
    """As if they had been captured then."""
    return [
        Record(one.kind, one.db, one.expires_ms, T0 + after, one.key, one.payload)  # what a capture stamps
        for one in records
    ]


def gone(key: bytes, after: int, db: int = 0) -> Record:
    return Record(int(Kind.TOMBSTONE), db, NO_EXPIRY, T0 + after, key, b"")


def flushed(after: int, db: int = 0) -> Record:
    return Record(int(Kind.FLUSHED), db, NO_EXPIRY, T0 + after, b"", b"")


def string(c: Any, key: bytes, value: object, after: int) -> list[Record]:
    """Set it at the source; the record of that."""
    c.execute_command("SET", key, value)
    return at(records_of(c, VERSION, keys=[key]), after)


def put_back(story: Story, server: Any, scratch: LocalScratch, after: int | None, **options: Any) -> RestoreReport:
    """Restore it, as it was then or at the latest moment."""
    remote = open_remote(server.url)
    at_ms = None if after is None else T0 + after
    with open_generation(*story.made, scratch, at_ms=at_ms) as contents:
        return restore(contents, remote, survey(remote), RestoreOptions(**options))
