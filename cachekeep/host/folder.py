"""The folder of one node: what lies in it, and how each file is written. Called by host.local only.

root/<region>/<cluster id>/<node id>/ mode 0700, files 0600:

    node.json       the process that was started last: pid, start time, what it is
    engine.conf     Valkey and Redis: rendered anew at every start
    engine.log      the engine's log, and whatever it printed before it opened the log
    dump.rdb        data; `saved` beside it says that the data set is complete
    appendonlydir   data, with `appendonly yes` (before 7.0 one file, appendonly.aof)
    keeping.json    whether the process keeps its data, and which data files are from before (host.keeping)
    nodes.conf      in cluster mode: what the engine knows of its cluster, and its id
    responder.json  discovery responder: where it listens
    members.json    discovery responder: what it announces
"""

from __future__ import annotations

import errno
import json
import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from cachekeep.domain.nodes import NodeKey
from cachekeep.domain.world import WorldError

LOG_LIMIT_BYTES = 8 * 1024 * 1024
LOG_KEPT_BYTES = 1024 * 1024
_TAIL_BYTES = 64 * 1024
_PART = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}\Z")
_DATA = ("*.rdb", "*.aof", "*.manifest", "appendonlydir", "temp-*", "saved")
_FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})


@contextmanager
def told_as_world_error(doing: str, path: Path) -> Iterator[None]:
    """Turn an OSError into a WorldError that says what, where and what next."""
    try:
        yield
    except OSError as error:
        if error.errno in _FULL:
            advice = "free some space there or raise the limit"
        elif error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
            advice = "let the user that runs Cachekeep write there"
        elif error.errno in (errno.EMFILE, errno.ENFILE):
            advice = "raise the limit of open files (ulimit -n)"
        else:
            advice = "look at that path"
        raise WorldError(
            f"cannot {doing} {path}: {error.strerror or error}; {advice}, then it is tried again"
        ) from error


def folder_of(root: Path, key: NodeKey) -> Path:
    """Return the node's folder. Raises ValueError when a part of the key cannot be the name of one."""
    for part in (key.region, key.cluster_id, key.node_id):
        if not _PART.match(part):
            raise ValueError(f"cannot be the name of a folder: {part!r} in {key}")
    return root / key.region / key.cluster_id / key.node_id


def key_of(root: Path, folder: Path) -> NodeKey | None:
    """Return whose folder this is; None when it is not the folder of a node below root."""
    if not folder.is_relative_to(root):
        return None
    parts = folder.relative_to(root).parts
    if len(parts) != 3 or not all(_PART.match(part) for part in parts):
        return None
    return NodeKey(*parts)


def keys_below(root: Path) -> list[NodeKey]:
    """All nodes that have a folder below root, sorted."""
    found = (key_of(root, path) for path in root.glob("*/*/*") if path.is_dir())
    return sorted(key for key in found if key is not None)


def make_private(folder: Path, root: Path) -> None:
    """Make the folder and those between it and root, all for the owner alone."""
    root.mkdir(mode=0o700, parents=True, exist_ok=True)
    between = [folder, *folder.parents]
    for path in reversed(between[: between.index(root)]):
        path.mkdir(mode=0o700, exist_ok=True)
    folder.chmod(0o700)


def write_whole(path: Path, text: str) -> None:
    """Replace the file: a reader, or a service that starts after a crash, finds the old text or the new one."""
    temporary = path.with_name(f".{path.name}.new")
    try:
        with open(temporary, "w", encoding="utf-8", opener=_private) as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError:
        temporary.unlink(missing_ok=True)
        raise


def write_json(path: Path, value: dict[str, Any]) -> None:
    write_whole(path, json.dumps(value, indent=1) + "\n")


def read_json(path: Path) -> dict[str, Any]:
    """Return the object in the file; {} when there is no file or it holds something else."""
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    return value if isinstance(value, dict) else {}


def append_to(path: Path) -> int:
    """Return a descriptor that appends to the file."""
    return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)


def sync_folder(folder: Path) -> None:
    """Make the creation, renaming or deletion of files in the folder outlast a power cut."""
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def remove_data(folder: Path) -> None:
    """Delete every data file that an earlier process left, complete or not, and the mark `saved`."""
    for pattern in _DATA:
        for path in folder.glob(pattern):
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            else:
                path.unlink(missing_ok=True)


def remove_identity(folder: Path) -> None:
    """Delete what an earlier process knew of its cluster, its own id among it."""
    for path in folder.glob("nodes.conf*"):
        path.unlink(missing_ok=True)


def bound_log(log: Path) -> None:
    """Cut a log of more than 8 MiB down to its last MiB. Only while nothing writes to it."""
    if not log.exists() or log.stat().st_size <= LOG_LIMIT_BYTES:
        return
    kept = _end_of(log, LOG_KEPT_BYTES).partition(b"\n")[2]
    write_whole(log, kept.decode("utf-8", "replace"))


def last_lines(log: Path, lines: int) -> list[str]:
    """Return at most `lines` lines from the log's last 64 KiB, oldest first; [] when there is no log."""
    try:
        end = _end_of(log, _TAIL_BYTES)
    except OSError:
        return []
    return end.decode("utf-8", "replace").splitlines()[-lines:] if lines > 0 else []


def _end_of(path: Path, size: int) -> bytes:
    with path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - size))
        return file.read(size)


def _private(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_CLOEXEC, 0o600)
