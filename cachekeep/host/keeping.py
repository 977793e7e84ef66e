"""Whether a node's process keeps its data on disk, and which files of its folder are from before it did.

Called by host.local. Files that lie beside a process without persistence are of any age: a snapshot's, those of its
start, those of a time when persistence was on. Once it is switched on they look like the process's own until it has
written new ones, and a kill meanwhile must not bring that old data back. `keeping.json` in the node's folder:

    {"appendonly": "no", "save": "", "old": [["dump.rdb", 1234, 1700000000000000000]]}

old: name, number and last change of what is not to be loaded. By identity and not by age: clocks are set back.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from cachekeep.host.folder import read_json, write_json
from cachekeep.host.scratch_aof import AOF_FOLDER, AOF_NAME

FILE = "keeping.json"
MANIFEST = f"{AOF_FOLDER}/{AOF_NAME}.manifest"
_DATA = ("dump.rdb", AOF_NAME, MANIFEST)
_NAMES = ("appendonly", "save")


def keeps(config: Mapping[str, Any]) -> bool:
    """Whether an engine with these directives keeps anything."""
    return config.get("appendonly", "no") == "yes" or bool(config.get("save"))


def begin(folder: Path, config: Mapping[str, str]) -> None:
    """Write down what a process is about to be started for. Raises OSError."""
    write_json(folder / FILE, {"appendonly": config.get("appendonly", "no"), "save": config.get("save", ""), "old": []})


def note(folder: Path, values: Mapping[str, str], *, done: bool) -> bool:
    """See Host.note_keeping. Without a record, as of a process that an earlier Cachekeep started, nothing is said."""
    path, record = folder / FILE, read_json(folder / FILE)
    told = {name: values[name] for name in _NAMES if name in values and (done or keeps({name: values[name]}))}
    if not record or not told:
        return False
    after = record | told
    if keeps(record) != keeps(after):
        after["old"] = [[name, *found] for name in _DATA if (found := _identity(folder / name)) is not None]
    if after != record:
        write_json(path, after)
    return keeps(after) and not keeps(record)


def kept_nothing(folder: Path) -> bool:
    """Whether the last process is known to have had no persistence."""
    record = read_json(folder / FILE)
    return bool(record) and not keeps(record)


def is_old(folder: Path, name: str) -> bool:
    """Whether the file is of a time before the last process kept anything."""
    found, old = _identity(folder / name), read_json(folder / FILE).get("old", [])
    return found is not None and [name, *found] in old


def _identity(path: Path) -> tuple[int, int] | None:
    try:
        found = path.stat()
    except (FileNotFoundError, NotADirectoryError):
        return None
    return found.st_ino, found.st_mtime_ns
