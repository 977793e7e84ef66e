"""A file of real blocks that is given up when the disk is full, so that the store can still write. Adapter."""

from __future__ import annotations

import os
from pathlib import Path

BALLAST_BYTES = 4 << 20


class Ballast:
    """4 MiB beside the store. Released once per full disk, written anew as soon as there is room again."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._held = path.exists()

    def release(self) -> bool:
        """Give the blocks back. False when there were none to give."""
        if not self._held:
            return False
        self._path.unlink(missing_ok=True)
        self._held = False
        return True

    def restore(self) -> None:
        """Take the blocks, if they are not held and the disk has at least four times as much free."""
        if self._held:
            return
        room = os.statvfs(self._path.parent)
        if room.f_bavail * room.f_frsize < 4 * BALLAST_BYTES:
            return
        partial = self._path.with_suffix(".partial")
        try:
            with partial.open("wb") as file:
                # Real bytes: a sparse file would hold nothing.
                file.write(os.urandom(BALLAST_BYTES))
                os.fsync(file.fileno())
            partial.rename(self._path)
        except OSError:
            partial.unlink(missing_ok=True)
            return
        self._held = True
