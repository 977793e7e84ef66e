"""A backup as files that others read: the seed's JSON, an RDB file, commands for `redis-cli --pipe`.

The folder has its name only when everything in it is durable. What cannot be written is named, in the report and in a
file of the folder.
"""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, Protocol, TypeVar

from cachekeep.backup.export_files import Files, JsonFiles, RdbFiles, RespFiles
from cachekeep.backup.export_folder import SkippedKeys, staging
from cachekeep.backup.progress import OnProgress, Progress, unheard
from cachekeep.backup.spool import Spool
from cachekeep.codec.dump import DumpError, Target, Unrepresentable, rdb_version, rdb_version_of
from cachekeep.codec.record import Kind, Record

Format = Literal["json", "rdb", "resp"]
_LEAST_VERSION, _FUNCTIONS_VERSION = 9, 10
_FOOTER_BYTES = 10
T = TypeVar("T")


class Exportable(Protocol):
    """What is exported; `backup.contents.Contents` is one. captured_ms: the moment up to which it knows."""

    @property
    def name(self) -> str: ...

    @property
    def captured_ms(self) -> int: ...

    @property
    def total_keys(self) -> int | None: ...

    def functions(self) -> bytes | None:
        """What FUNCTION DUMP gave."""
        ...

    def batches(self) -> Iterator[list[Record]]:
        """In the order of truth; read once."""
        ...


@dataclass(frozen=True)
class ExportReport:
    """written: keys per database. skipped: keys per reason, each named in the file SkippedKeys.NAME.

    functions: whether function libraries were written. files: their names; bytes: of all.
    """

    generation: str
    format: Format
    folder: str
    files: tuple[str, ...]
    bytes: int
    written: dict[int, int]
    functions: bool
    skipped: dict[str, int]


def export(
    contents: Exportable,
    folder: Path,
    format: Format,
    *,
    target: Target | None = None,
    progress: OnProgress = unheard,
) -> ExportReport:
    """Write the files. folder: absent or empty. target: what is to load them; default: what the backup came from.

    Raises CatalogError(STATE) for a folder that is in use or cannot be written, and what the contents raise.
    """
    if target is not None:
        rdb_version_of(target)  # refuses what is too old for everything
    with staging(folder) as hidden:
        spool_folder = hidden / "spool"
        spool_folder.mkdir(0o700)
        with Spool(spool_folder) as spool:
            version = _read(contents, spool, progress)
            functions = _libraries(contents.functions())
            needed = max(version, _LEAST_VERSION, _FUNCTIONS_VERSION if functions else 0)
            outcome = _Outcome(SkippedKeys(hidden))
            files = _files(format, hidden, contents.captured_ms, needed, target)
            try:
                _write(spool, files, functions, outcome, progress)
                names = (*files.finish(), *outcome.names.finish())
            finally:
                files.abandon()
                outcome.names.abandon()
        shutil.rmtree(spool_folder)
        size = sum((hidden / name).stat().st_size for name in names)
    written = dict(sorted(outcome.written.items()))
    return ExportReport(
        contents.name, format, str(folder), names, size, written, outcome.functions, dict(outcome.skipped)
    )


@dataclass
class _Outcome:
    """What became of each key."""

    names: SkippedKeys
    written: Counter[int] = field(default_factory=Counter)
    skipped: Counter[str] = field(default_factory=Counter)
    functions: bool = False

    def skip(self, db: int | None, key: bytes | None, reason: str) -> None:
        self.skipped[reason] += 1
        self.names.add(db, key, reason)


def _read(contents: Exportable, spool: Spool, progress: OnProgress) -> int:
    """Returns the highest RDB version among the payloads."""
    version = size = 0
    for batch in contents.batches():
        records = [record for record in batch if record.kind != Kind.FUNCTIONS]
        spool.add(records)
        for record in records:
            size += len(record.payload)
            if record.kind == Kind.UPSERT and len(record.payload) > _FOOTER_BYTES + 1:
                version = max(version, rdb_version(record.payload))
        progress(Progress("read", spool.records, size, contents.total_keys))
    return version


def _write(spool: Spool, files: Files, functions: bytes | None, outcome: _Outcome, progress: OnProgress) -> None:
    if functions is not None:
        refusal = _refusal(files.functions, functions)
        outcome.functions = refusal is None
        if refusal is not None:
            outcome.skip(None, None, f"function libraries: {refusal}")
    keys = size = 0
    for batch in spool.winners():
        for record in batch:
            refusal = _refusal(files.add, record)
            if refusal is None:
                outcome.written[record.db] += 1
            else:
                outcome.skip(record.db, record.key, refusal)
            size += len(record.payload)
        keys += len(batch)
        progress(Progress("write", keys, size))


def _refusal(write: Callable[[T], None], what: T) -> str | None:
    try:
        write(what)
    except (Unrepresentable, DumpError) as error:
        return str(error)
    return None


def _files(format_: Format, folder: Path, captured_ms: int, needed: int, target: Target | None) -> Files:
    match format_:
        case "json":
            return JsonFiles(folder, captured_ms)
        case "rdb":
            version = needed if target is None else rdb_version_of(target)
            return RdbFiles(folder, captured_ms, version, target)
        case "resp":
            return RespFiles(folder, target)


def _libraries(payload: bytes | None) -> bytes | None:
    """None for a payload of FUNCTION DUMP that has none: a footer alone."""
    return payload if payload is not None and len(payload) > _FOOTER_BYTES else None
