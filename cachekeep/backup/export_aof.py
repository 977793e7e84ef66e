"""A followed backup as the engine's own files: an RDB file and the commands after it, as an append-only file has them.

An engine from 7.0 on, started with `appendonly yes` in such a folder, has the data as of the chosen moment. Before
each run of commands stands when it came, as `#TS:<seconds>`: `valkey-check-aof --truncate-to-timestamp` goes back to
an earlier moment with it. Called by the commands.
Source: redis.io "Persistence"; src/aof.c genAofTimestampAnnotationIfNeeded, getAofManifestAsString.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from cachekeep.backup.catalog import CatalogError, CatalogFault, Repository
from cachekeep.backup.export_folder import DurableFile, staging
from cachekeep.backup.reader import GenerationReader
from cachekeep.backup.replication_commands import timed_commands, timed_pieces
from cachekeep.backup.scratch_lanes import head_of, tells_time_left

_FOLDER, _NAME = "appendonlydir", "appendonly.aof"
_BASE, _INCREMENT = f"{_NAME}.1.base.rdb", f"{_NAME}.1.incr.aof"
_MANIFEST = f"file {_BASE} seq 1 type b\nfile {_INCREMENT} seq 1 type i\n"


@dataclass(frozen=True)
class AofReport:
    """folders: per node of the source, the one that holds `appendonlydir`: what an engine's `dir` has to be."""

    generation: str
    folders: dict[str, str]
    bytes: int


def export_aof(repository: Repository, name: str, folder: Path, until_ms: int | None = None) -> AofReport:
    """Write them. folder: absent or empty; of a cluster each node has a folder of its own in it.

    until_ms: a moment by the source's clock that the backup covers; None: all that there is. Raises CatalogError
    (STATE: the backup has no RDB file, or the folder is in use or cannot be written), SegmentError, BlobError.
    """
    reader = GenerationReader.open(repository, name)
    lanes = list(
        dict.fromkeys(place.entry.lane for place in reader.chain.places if place.entry and place.kind == "rdb")
    )
    if not lanes:
        what = f"{name} has no RDB file: it was copied by SCAN"
        raise CatalogError(CatalogFault.STATE, what, "export it as `rdb`, `resp` or `json`")
    folders, size = dict[str, str](), 0
    with staging(folder) as hidden:
        for lane in lanes:
            place = "." if len(lanes) == 1 else lane.replace(":", "_").replace("/", "_")
            size += _export_lane(reader, lane, hidden / place / _FOLDER, until_ms)
            folders[lane] = str(folder / place)
    return AofReport(name, folders, size)


def _export_lane(reader: GenerationReader, lane: str, inside: Path, until_ms: int | None) -> int:
    """Returns the bytes written."""
    inside.mkdir(0o700, parents=True)
    pieces = timed_pieces(reader, lane, until_ms)
    commands = timed_commands(pieces, until_ms, relative=tells_time_left(head_of(reader)))
    size = _write(reader.stream("rdb", lane), inside / _BASE)
    size += _write(_annotated(commands), inside / _INCREMENT)
    return size + _write([_MANIFEST.encode()], inside / f"{_NAME}.manifest")


def _annotated(commands: Iterable[tuple[int, bytes]]) -> Iterator[bytes]:
    last_s = None
    for came_ms, data in commands:
        if (came_s := came_ms // 1000) != last_s:
            last_s = came_s
            yield b"#TS:%d\r\n" % came_s
        yield data


def _write(chunks: Iterable[bytes], path: Path) -> int:
    size, file = 0, DurableFile(path)
    try:
        for chunk in chunks:
            file.write(chunk)
            size += len(chunk)
        file.finish()
    finally:
        file.abandon()
    return size
