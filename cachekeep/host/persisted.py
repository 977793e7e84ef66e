"""What persistence left in the folder of a node that runs no more, and which of it the next process loads.

Called by host.local. An engine with `appendonly yes` loads its append-only file and nothing else, and starts empty when
it has none, even beside a good dump.rdb; without, it loads dump.rdb and nothing else. So what is loaded must not follow
from the settings of now: the newer of the two files decides, and the process is started with what loads it.
Source: aof.c loadAppendOnlyFiles, server.c loadDataFromDisk; tried on Redis 6.2.5 and 7.0.15, Valkey 8.1.8 and 9.1.2.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path

from cachekeep.domain.nodes import NodeSpec
from cachekeep.domain.world import WorldError
from cachekeep.host import keeping
from cachekeep.host.folder import remove_data
from cachekeep.host.scratch_aof import AOF_FOLDER, AOF_NAME

AOF, RDB, NOTHING = "aof", "rdb", ""
_MANIFEST = f"{AOF_NAME}.manifest"
_NAMED = re.compile(r"^file (\S+) seq [0-9]+ type [bi]", re.MULTILINE)
# The moment of the fork is in the head of the file: a short integer, or a text once it does not fit any more.
_FORKED = re.compile(rb"\xfa\x05ctime(?:\xc2(.{4})|[\x01-\x3f]([0-9]+))", re.DOTALL)
_HEAD_BYTES = 1024
# The kernel stamps files by a clock that is read a few times a second.
_CLOCK_STEP_S = 0.1


def kept_in(folder: Path, config: Mapping[str, str]) -> str:
    """See Host.kept. A broken append-only file counts: the engine is to refuse it, and nobody to start without."""
    if not keeping.keeps(config):
        return NOTHING
    appended = _appended_at(folder)
    if any(keeping.is_old(folder, name) for name in (AOF_NAME, keeping.MANIFEST)):
        appended = None
    # An append-only file that is not old was written on purpose, by whomever; a dump.rdb by any snapshot.
    forked = (
        None if keeping.kept_nothing(folder) or keeping.is_old(folder, "dump.rdb") else forked_at(folder / "dump.rdb")
    )
    if appended is None:
        return RDB if forked is not None else NOTHING
    # With both on, the append-only file has all that a snapshot has, and it was written to after the snapshot began,
    # unless nothing changed. One that was switched off was not.
    return AOF if forked is None or appended + _CLOCK_STEP_S >= forked else RDB


def to_load(spec: NodeSpec, folder: Path, what: str) -> NodeSpec:
    """The spec of a process that loads `what`; it is for whoever compares settings to bring about those of `spec`.

    Removes what might be loaded instead, and what a killed process was still writing: with nothing kept, an engine
    would load a dump.rdb of any age. Raises WorldError for an append-only file without its manifest, which engines
    from 7.0 on take for none.
    """
    _remove_unfinished(folder)
    if what == NOTHING:
        remove_data(folder)
    if what == RDB:
        _remove_aof(folder)
        return replace(spec, config={**spec.config, "appendonly": "no"})
    if what == AOF:
        inside = folder / AOF_FOLDER
        if not (inside / _MANIFEST).exists() and not _filled(folder / AOF_NAME):
            raise WorldError(
                f"{inside} has an append-only file but no {_MANIFEST}, so {spec.key} would start empty; "
                "put the manifest back, or remove that folder to start without this data"
            )
        return replace(spec, config={**spec.config, "appendonly": "yes"})
    return spec


def _appended_at(folder: Path) -> float | None:
    """When the append-only file was written to last, in seconds since 1970; None when there is none."""
    written = [stamp for path in _aof_files(folder) if (stamp := _modified_at(path)) is not None]
    return max(written, default=None)


def _aof_files(folder: Path) -> Iterator[Path]:
    """Those that an engine would load; without a manifest, the filled ones that it would pass over."""
    if _filled(folder / AOF_NAME):  # of 6.2, which makes an empty one before it has anything to write
        yield folder / AOF_NAME
    inside = folder / AOF_FOLDER
    try:
        manifest = (inside / _MANIFEST).read_text("utf-8", "replace")
    except (FileNotFoundError, NotADirectoryError):
        yield from (path for path in inside.glob(f"{AOF_NAME}.*.aof") if _filled(path))
        return
    found = [inside / name for name in _NAMED.findall(manifest)]
    yield from (path for path in found if path.exists())
    if not any(path.exists() for path in found):
        yield inside / _MANIFEST


def forked_at(dump: Path) -> float | None:
    """The moment that the data in dump.rdb is of, in seconds since 1970; None when there is no such file.

    A pipe that a node is to begin with is none, and opening it would wait for whoever writes."""
    if not dump.is_file():
        return None
    try:
        with dump.open("rb") as file:
            found = _FORKED.search(file.read(_HEAD_BYTES))
    except FileNotFoundError:
        return None
    if found is None:
        return _modified_at(dump)
    return float(int.from_bytes(found[1], "little") if found[1] is not None else int(found[2]))


def _modified_at(path: Path) -> float | None:
    try:
        return path.stat().st_mtime
    except FileNotFoundError:
        return None


def _filled(path: Path) -> bool:
    try:
        return path.stat().st_size > 0
    except (FileNotFoundError, NotADirectoryError):
        return False


def _remove_aof(folder: Path) -> None:
    if (folder / AOF_FOLDER).is_dir():
        shutil.rmtree(folder / AOF_FOLDER)
    (folder / AOF_NAME).unlink(missing_ok=True)


def _remove_unfinished(folder: Path) -> None:
    """Delete what a killed process was still writing: snapshots, rewritings, manifests."""
    for pattern in ("temp-*", "nodes.conf.tmp*", f"{AOF_FOLDER}/temp[-_]*"):
        for path in folder.glob(pattern):
            path.unlink(missing_ok=True)
