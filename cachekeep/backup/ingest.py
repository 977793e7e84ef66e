"""A folder of the seed's JSON files -> a new backup. Only that format is read: docs/formats/seed-json.md.

All files are read and proved before the repository is touched: what is wrong in one leaves no trace there. Of a key
that stands several times, as in every folder of the live script, the last one is kept.
"""

from __future__ import annotations

import tempfile
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Literal

from cachekeep.backup.catalog import CatalogError, CatalogFault, Repository
from cachekeep.backup.catalog_objects import EngineName, Gap, Head, Lane
from cachekeep.backup.interruptions import Journal, now_ms
from cachekeep.backup.progress import OnProgress, Progress, unheard
from cachekeep.backup.spool import Spool
from cachekeep.backup.writer import GenerationWriter, SegmentWriter
from cachekeep.codec.dump import rdb_version
from cachekeep.codec.record import NO_EXPIRY, Kind, Record
from cachekeep.codec.seed_json import (
    MANIFEST,
    Chunk,
    Part,
    SeedFileError,
    in_order,
    read_chunk,
    read_entries,
    read_manifest,
)
from cachekeep.domain.blobs import BlobError

LANE = "import"
_SEGMENT_BYTES = 256 << 20
_FUNCTIONS_VERSION = 10
# The oldest server that writes each RDB version: told as the source's engine, for those who look for one that loads it.
_ENGINES: tuple[tuple[int, EngineName, str], ...] = (
    (80, "valkey", "9.0"),
    (12, "redis", "7.4"),
    (11, "valkey", "7.2"),
    (10, "redis", "7.0"),
)
_OLDEST_ENGINE: tuple[EngineName, str] = ("redis", "5.0")


@dataclass(frozen=True)
class IngestReport:
    """keys: written, per database. gone: keys that the files say were gone. skipped: keys per reason.

    missing: names of files that should be there and are not; then the backup is one with gaps.
    """

    generation: str
    verdict: Literal["complete", "gaps"]
    files: int
    keys: dict[int, int]
    gone: int
    skipped: dict[str, int]
    missing: tuple[str, ...]
    functions: bool


@dataclass(frozen=True)
class _Listed:
    """What is in the folder: chunks in order, the files that ought to be there, function libraries."""

    parts: list[Part]
    missing: tuple[str, ...]
    keys: Mapping[str, int]
    functions: bytes | None


@dataclass
class _Told:
    """What the chunks told besides their records. Moments in ms since 1970."""

    version: int = 0
    first_ms: int = 0
    last_ms: int = 0
    gone: int = 0


def ingest(folder: Path, repository: Repository, progress: OnProgress = unheard) -> IngestReport:
    """Import the folder as a new backup. Raises CatalogError: ABSENT; DAMAGED, which names the file; BlobError."""
    journal, told = Journal(), _Told()
    with tempfile.TemporaryDirectory(prefix="cachekeep-import-") as scratch, Spool(Path(scratch)) as spool:
        with _told_of_files(folder):
            listed = _listed(folder)
            for part in listed.parts:
                spool.add(_records(_chunk(folder, part, listed.keys), journal, told))
                progress(Progress("read", spool.records, 0))
        keys = Counter(record.db for batch in spool.winners() for record in batch)
        if listed.functions:
            told.version = max(told.version, _FUNCTIONS_VERSION)
        writer = GenerationWriter.begin(repository, _head(folder, keys, told))
        with ExitStack() as undo:
            undo.callback(_remove, repository, writer.name)
            _write_functions(writer, listed.functions, told)
            _write_keys(writer, spool, progress, keys.total())
            journal.generation = writer
            journal.flush()
            gaps = [
                Gap(start_ms=told.first_ms, end_ms=told.last_ms, reason=f"{name} is missing", lane=LANE)
                for name in listed.missing
            ]
            end = writer.finish(gaps, skipped=journal.skipped, vanished=told.gone)
            undo.pop_all()
    files, written, skipped = len(listed.parts), dict(sorted(keys.items())), dict(journal.skipped)
    has_functions = listed.functions is not None
    return IngestReport(
        writer.name, end.verdict, files, written, told.gone, skipped, listed.missing, functions=has_functions
    )


def _listed(folder: Path) -> _Listed:
    names = {entry.name for entry in folder.iterdir()}
    parts, keys, functions = in_order(names), dict[str, int](), None
    if MANIFEST in names:
        found, functions = read_manifest((folder / MANIFEST).read_bytes())
        keys = dict(found)
        strange = [part.file for part in parts if part.file not in keys]
        if strange:
            raise SeedFileError(f"{strange[0]} is not of the export that {MANIFEST} describes")
    elif not parts:
        raise CatalogError(
            CatalogFault.ABSENT,
            f"{folder} has no redis_backup_db*_part_*.json",
            "only that format is imported; of an RDB file, take a backup from an engine that has loaded it",
        )
    expected = {Part(part.db, number) for part in parts for number in range(1, part.number)} - set(parts)
    missing = dict.fromkeys([*(part.file for part in sorted(expected)), *sorted(keys.keys() - names)])
    return _Listed(parts, tuple(missing), keys, functions)


def _chunk(folder: Path, part: Part, keys: Mapping[str, int]) -> Chunk:
    chunk = read_chunk((folder / part.file).read_bytes(), part)
    promised = keys.get(part.file, len(chunk.data))
    if promised != len(chunk.data):
        raise SeedFileError(f"{part.file} has {len(chunk.data)} keys, and {MANIFEST} says {promised}")
    return chunk


def _records(chunk: Chunk, journal: Journal, told: _Told) -> list[Record]:
    """Upserts and tombstones; what has no value is told to the journal."""
    moment, part = chunk.generated_ms, chunk.part
    told.first_ms, told.last_ms = min(told.first_ms or moment, moment), max(told.last_ms, moment)
    records = []
    for found in read_entries(chunk):
        if found.payload is not None:
            told.version = max(told.version, rdb_version(found.payload))
            records.append(Record(int(Kind.UPSERT), part.db, found.expires_ms, moment, found.key, found.payload))
        elif found.reason is None:
            told.gone += 1
            records.append(Record(int(Kind.TOMBSTONE), part.db, NO_EXPIRY, moment, found.key, b""))
        else:
            journal.skip(part.db, found.key, found.reason)
    return records


def _head(folder: Path, keys: Mapping[int, int], told: _Told) -> Head:
    engine, version = next(((name, least) for since, name, least in _ENGINES if told.version >= since), _OLDEST_ENGINE)
    return Head(
        source=f"import:{folder.absolute().name}",
        engine=engine,
        engine_version=version,
        mode="standalone",
        lanes=(Lane(lane=LANE),),
        databases={str(db): count for db, count in sorted(keys.items())},
        began_ms=now_ms(),
        source_began_ms=told.first_ms,
        options={"method": "import"},
    )


def _write_functions(writer: GenerationWriter, functions: bytes | None, told: _Told) -> None:
    if functions is not None:
        with SegmentWriter(writer, "functions", LANE) as segment:
            segment.add([Record(int(Kind.FUNCTIONS), 0, NO_EXPIRY, told.last_ms, b"", functions)])
            segment.close()


def _write_keys(writer: GenerationWriter, spool: Spool, progress: OnProgress, total: int) -> None:
    """A run of segments for each database: they come one after the other, in the order of the files."""
    done = size = 0
    for db, batches in groupby((batch for batch in spool.winners() if batch), key=lambda batch: batch[0].db):
        segment = SegmentWriter(writer, "base", LANE, db)
        try:
            for batch in batches:
                if segment.bytes > _SEGMENT_BYTES:
                    segment.close()
                    segment = SegmentWriter(writer, "base", LANE, db)
                segment.add(batch)
                done, size = done + len(batch), size + sum(len(record.payload) for record in batch)
                progress(Progress("write", done, size, total))
            segment.close("0")
        finally:
            segment.abandon()


def _remove(repository: Repository, name: str) -> None:
    """What is left of a failed import is unfinished anyway, so a store that is gone is no new trouble."""
    with suppress(BlobError):
        repository.remove(name)


@contextmanager
def _told_of_files(folder: Path) -> Iterator[None]:
    try:
        yield
    except SeedFileError as error:
        what = f"nothing of {folder} was imported: {error}"
        raise CatalogError(CatalogFault.DAMAGED, what, "move that file away to import the others") from error
    except OSError as error:
        what = f"{folder} cannot be imported: {error.filename or 'temporary files'}: {error.strerror or error}"
        raise CatalogError(CatalogFault.ABSENT, what, "is this the folder of the JSON files?") from error
