"""A small repository with everything in it, in memory, and what it must read as."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

from cachekeep.backup.catalog import Repository
from cachekeep.backup.catalog_objects import Gap, Head, Lane
from cachekeep.backup.writer import GenerationWriter, SegmentWriter
from cachekeep.blob.memory import MemoryBlobs
from cachekeep.codec.record import NO_EXPIRY, Kind, Record, pieces
from cachekeep.codec.seal import KeyFile, Secret

if TYPE_CHECKING:
    from cachekeep.domain.blobs import BlobStore

KEY = KeyFile(bytes(range(32)))
NOW_MS = 1_795_381_200_123
LANE = "127.64.0.3:6379"


def head() -> Head:
    return Head(
        source="redis://127.64.0.3:6379",
        engine="valkey",
        engine_version="9.1.2",
        mode="standalone",
        lanes=(Lane(lane=LANE, run_id="ab" * 20),),
        databases={"0": 3, "5": 1},
        began_ms=NOW_MS,
        source_began_ms=NOW_MS + 7,
    )


def upsert(key: bytes, payload: bytes, db: int = 0, expires_ms: int = NO_EXPIRY) -> Record:
    return Record(Kind.UPSERT, db, expires_ms, NOW_MS, key, payload)


def tombstone(key: bytes, db: int = 0) -> Record:
    return Record(Kind.TOMBSTONE, db, NO_EXPIRY, NOW_MS + 5, key, b"")


BASE = [upsert(b"a", b"\0\x03one"), upsert(b"", b"\0\x01x", expires_ms=NOW_MS + 9), upsert(b"\xff\0", b"two" * 9)]
OTHER = [upsert(b"a", b"\0\x05other", db=5)]
BIG = upsert(b"big", bytes(range(100, 160)))
CHANGES = [tombstone(b"a"), BIG, Record(Kind.FLUSHED, 5, NO_EXPIRY, NOW_MS + 6, b"", b"")]
TRUTH = [*BASE, *OTHER, *CHANGES]
LOG = [{"event": "interrupted", "from_ms": 1, "until_ms": 2}, {"event": "skipped", "key": "YQ==", "reason": "gone"}]


def cut_up(records: list[Record]) -> list[Record]:
    """With the big value in pieces of a few bytes, as a value of many MiB would be."""
    return [piece for record in records for piece in (pieces(record, 24) if record is BIG else [record])]


def write_segments(generation: GenerationWriter) -> None:
    """Three segments, the longer ones with a frame per record or two; a log."""
    with SegmentWriter(generation, "base", LANE, 0, frame_bytes=40) as segment:
        segment.add(BASE)
        segment.close("0")
    generation.log(LOG)
    with SegmentWriter(generation, "base", LANE, 5) as segment:
        segment.add(OTHER)
        segment.close("17")
    with SegmentWriter(generation, "changes", LANE, None, frame_bytes=50) as segment:
        segment.add(cut_up(CHANGES))
        segment.close()


def write_whole(blobs: BlobStore, secret: Secret | None = None, gaps: tuple[Gap, ...] = ()) -> str:
    """A repository with one finished generation; returns its name."""
    repository = Repository.open_or_create(blobs, secret)
    generation = GenerationWriter.begin(repository, head(), now_ms=itertools.count(NOW_MS).__next__)
    write_segments(generation)
    generation.finish(gaps, ended_ms=NOW_MS + 100, vanished=1, skipped={"gone": 1}, keyspace={"0": {"keys": 3}})
    return generation.name


def small(secret: Secret | None = None, *, finished: bool = True) -> tuple[MemoryBlobs, str]:
    blobs = MemoryBlobs()
    name = write_whole(blobs, secret)
    if not finished:
        blobs.delete(f"{name}/end.json")
    return blobs, name
