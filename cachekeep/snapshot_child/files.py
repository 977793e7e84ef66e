"""RDB files of snapshots: out of a generation into files and wish, and out of buckets into a generation.

Called by snapshot_child.order. A file has its name only when it is whole and durable.
"""

from __future__ import annotations

import os
import re
import shutil
import threading
import zlib
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import chain
from pathlib import Path
from typing import IO

from cachekeep.backup.catalog import Repository
from cachekeep.backup.catalog_objects import Head, Lane
from cachekeep.backup.copy_types import Stopped
from cachekeep.backup.interruptions import now_ms
from cachekeep.backup.writer import GenerationWriter, SegmentWriter
from cachekeep.codec.dump import DumpError
from cachekeep.codec.rdb_head import RdbHead, read_rdb_head
from cachekeep.codec.record import NO_EXPIRY, Kind, Record
from cachekeep.domain.blobs import BlobError, BlobFault, BlobStore
from cachekeep.domain.engine import Engine
from cachekeep.domain.snapshot_work import ExportOrder, LaneDone, Outcome, UnpackOrder, WorkFailed
from cachekeep.snapshot_child.compose import Wish, bucket
from cachekeep.snapshot_child.lanes import stream

# What a generation that was made of files names as its source.
FILES = "files"
_HEAD_BYTES = 1 << 20
_PIECE_BYTES = 1 << 20
_FOLDER = re.compile(r"[a-z0-9.-]{1,200}\Z")


def unpack(repository: Repository, order: UnpackOrder, staging: Path, stop: threading.Event) -> tuple[LaneDone, ...]:
    """Every lane's RDB file in its folder of the staging area. Raises WorkFailed for data that is damaged, OSError."""
    if not _FOLDER.match(order.folder):
        raise ValueError(f"cannot be the name of a folder: {order.folder!r}")
    folder = staging / order.folder
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(0o700, parents=True)
    try:
        return tuple(
            _unpack_lane(repository, order.generation, shard, lane, folder, stop) for shard, lane in order.lanes
        )
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise


def _unpack_lane(
    repository: Repository, generation: str, shard: str, lane: str, folder: Path, stop: threading.Event
) -> LaneDone:
    """Not synchronised with the disk: after a power cut the digest tells, and it is unpacked once more."""
    path, digest, size, first = folder / f"{shard}.rdb", 0, 0, b""

    def take(piece: bytes, before: int) -> int:
        _write(file, piece)
        return zlib.crc32(piece, before)

    with (
        open(path, "wb", buffering=0, opener=lambda name, flags: os.open(name, flags | os.O_EXCL, 0o600)) as file,
        ThreadPoolExecutor(1) as writing,
    ):
        taken: Future[int] | None = None
        for piece in stream(repository, generation, lane, stop):
            first = first or piece
            if taken is not None:
                digest = taken.result()
            # The next piece is proved and decompressed meanwhile.
            taken = writing.submit(take, piece, digest)
            size += len(piece)
        if taken is not None:
            digest = taken.result()
    if not size:
        raise WorkFailed(f"{generation} has no data of {lane}")
    return LaneDone(shard, lane, size, path=str(path), digest=f"{digest:08x}", keys=read_rdb_head(first).keys)


def _write(file: IO[bytes], piece: bytes) -> None:
    rest = memoryview(piece)
    while rest:
        rest = rest[file.write(rest) :]


def export(repository: Repository, order: ExportOrder, wish: Wish, stop: threading.Event) -> None:
    """One object for each shard. Raises WorkFailed when one of that name is there: nothing is written then."""
    place = _bucket(wish, order.bucket)
    names = [f"{order.name}-{shard}.rdb" for shard, _ in order.lanes]
    for name in names:
        if place.exists(name):
            raise WorkFailed(f"The S3 bucket {order.bucket} already contains an object with key {name}.")
    written: list[str] = []
    try:
        for name, (_, lane) in zip(names, order.lanes, strict=True):
            written.append(name)
            place.put(name, stream(repository, order.generation, lane, stop))
    except BaseException:
        for name in written:
            place.delete(name)
        raise


def take_in(
    repository: Repository,
    urls: tuple[str, ...],
    wish: Wish,
    began: Callable[[str], None],
    stop: threading.Event,
) -> Outcome:
    """A generation of RDB files: a lane for each. Raises WorkFailed for what is no RDB file of a known engine."""
    heads = [_head_of(url, wish) for url in urls]
    # The newest of the writers: what loads its file loads those of the others.
    newest = max(heads, key=lambda head: (head.rdb_version, head.writer is not None))
    engine, version = newest.writer or (Engine.REDIS, None)
    head = Head(
        source=FILES,
        engine="valkey" if engine is Engine.VALKEY else "redis",
        engine_version=str(version or "5.0"),
        mode="standalone",
        lanes=tuple(Lane(lane=url) for url in urls),
        databases={},
        began_ms=now_ms(),
        source_began_ms=now_ms(),
        options={"method": "psync"},
    )
    writer = GenerationWriter.begin(repository, head, named=began)
    try:
        lanes = tuple(_take_in_lane(writer, url, wish, stop) for url in urls)
        writer.finish()
    except BaseException:
        repository.remove(writer.name)
        raise
    return Outcome(writer.name, "psync", newest.rdb_version, engine.value, str(version or "5.0"), (), lanes=lanes)


def _take_in_lane(writer: GenerationWriter, url: str, wish: Wish, stop: threading.Event) -> LaneDone:
    size = 0
    with SegmentWriter(writer, "rdb", url) as segment:
        for chunk in _opened(url, wish):
            if stop.is_set():
                raise Stopped(writer.name, resumable=False)
            for at in range(0, len(chunk), _PIECE_BYTES):
                segment.add([Record(int(Kind.PIECE), 0, NO_EXPIRY, now_ms(), b"", chunk[at : at + _PIECE_BYTES])])
            size += len(chunk)
        segment.close()
    return LaneDone("", url, size)


def _head_of(url: str, wish: Wish) -> RdbHead:
    first = b""
    for chunk in _opened(url, wish):
        first += chunk
        if len(first) >= _HEAD_BYTES:
            break
    try:
        return read_rdb_head(first)
    except DumpError as error:
        raise WorkFailed(f"{url} cannot be loaded: {error}") from error


def _opened(url: str, wish: Wish) -> Iterator[bytes]:
    name, _, key = url.partition("/")
    try:
        return iter(chain(_bucket(wish, name).open(key)))
    except BlobError as error:
        if error.fault is not BlobFault.MISSING:
            raise
        raise WorkFailed(f"The S3 bucket {name} does not contain an object with key {key}.") from error
    except ValueError as error:
        raise WorkFailed(f"{url} names no object: {error}") from error


def _bucket(wish: Wish, name: str) -> BlobStore:
    found = bucket(wish, name)
    if found is None:
        raise WorkFailed(f"The S3 bucket {name} does not exist.")
    return found


def remove_folders(staging: Path, names: Iterable[str]) -> None:
    """Folders of the staging area."""
    for name in names:
        if _FOLDER.match(name):
            shutil.rmtree(staging / name, ignore_errors=True)
