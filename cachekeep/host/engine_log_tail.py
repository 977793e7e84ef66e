"""Reads on in the engine logs of nodes, across restarts and new files. Implements domain.log_ports.EngineLogs.

An engine appends; before a start a long log is replaced by its own last MiB (folder.bound_log), which is a new file:
then one reads on behind the last line that was read, wherever that stands now.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import BinaryIO

from cachekeep.domain.log_delivery import EngineLogRead, Position
from cachekeep.domain.nodes import NodeKey
from cachekeep.domain.world import WorldError
from cachekeep.host.folder import folder_of

MOST_BYTES = 256 * 1024
LONGEST_LINE = 64 * 1024
# Of the last line that was read so much is remembered as tells it apart: it begins with its time.
_REMEMBERED = 256


class EngineLogFiles:
    """root: the folder of all nodes."""

    def __init__(self, root: Path) -> None:
        self._root = root.resolve()

    def read(self, key: NodeKey, since: Position) -> EngineLogRead:
        path = folder_of(self._root, key) / "engine.log"
        try:
            with path.open("rb") as file:
                return _read(file, since)
        except FileNotFoundError:
            return EngineLogRead()
        except OSError as error:
            raise WorldError(f"cannot read {path}: {error.strerror}; it is tried again") from error


def _read(file: BinaryIO, since: Position) -> EngineLogRead:
    inode, size = os.fstat(file.fileno()).st_ino, os.fstat(file.fileno()).st_size
    offset = int(since.get("offset", 0))
    if since and (inode != since.get("inode") or size < offset):
        offset = _behind(file, str(since.get("last", "")))
    file.seek(offset)
    data = file.read(MOST_BYTES)
    lines: list[tuple[str, Position]] = []
    while data:
        line, newline, data = data.partition(b"\n")
        if not newline and len(line) < LONGEST_LINE:
            break  # still being written
        offset += len(line) + len(newline)
        text = line.decode("utf-8", "replace")
        lines.append((text, {"inode": inode, "offset": offset, "last": text[:_REMEMBERED]}))
    return EngineLogRead(tuple(lines))


def _behind(file: BinaryIO, last: str) -> int:
    """Behind the line that begins with `last`; the beginning of the file if it is not there."""
    if not last:
        return 0
    data = file.read()
    found = data.rfind(last.encode())
    end = data.find(b"\n", found) if found >= 0 else -1
    return end + 1
