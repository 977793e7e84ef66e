"""The mark in a node's folder that its data set was to be saved whole, by its engine, before that ended.

Called by host.local. The mark is made before the engine saves: alone it says what was wanted, not what came of it.
"""

from __future__ import annotations

import time
from pathlib import Path

from cachekeep.host import folder as files
from cachekeep.host.persisted import forked_at

FILE = "saved"


def is_marked(folder: Path) -> bool:
    return (folder / FILE).exists()


def is_saved(folder: Path) -> bool:
    """The mark counts only with data that is not older, even where another save, of a snapshot perhaps, ended after
    the mark. That is told in whole seconds."""
    try:
        marked = (folder / FILE).stat()
        if (folder / "dump.rdb").stat().st_mtime_ns < marked.st_mtime_ns:
            return False
    except FileNotFoundError:
        return False
    forked = forked_at(folder / "dump.rdb")
    return forked is not None and forked >= int(marked.st_mtime)


def started_since(folder: Path) -> bool:
    """Whether the node's process was recorded after the mark was made."""
    try:
        return (folder / "node.json").stat().st_mtime_ns > (folder / FILE).stat().st_mtime_ns
    except FileNotFoundError:
        return False


def mark(folder: Path, *, saved: bool) -> None:
    """Make the mark or remove it; durable when this returns. Raises WorldError."""
    with files.told_as_world_error("mark the data set in", folder):
        if saved:
            files.write_whole(folder / FILE, f"{time.time():.3f}\n")
        else:
            (folder / FILE).unlink(missing_ok=True)
        if folder.is_dir():
            files.sync_folder(folder)
