"""The trail of requests on disk: `<state dir>/audit.log`, 0600, one JSON object a line, only ever appended to.

Full files are renamed to audit.log.1 (the newest) to audit.log.4; what is older goes, so that all of it stays below
five times MOST_BYTES. A line is not forced to the disk: it survives the service, not a loss of power.
What cannot be written is counted, and the next line that can be is preceded by one that says how many are missing:
a full disk stops nobody's cache. Implements domain.identity.Trail.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from threading import Lock
from typing import Any

import structlog

from cachekeep.domain.identity import TrailEntry

log = structlog.get_logger()

FILE_NAME = "audit.log"
MOST_BYTES = 16 << 20
KEPT = 4
LOST = "lines-lost"


class TrailFile:
    """most_bytes: of one file. Safe to call from several threads."""

    def __init__(self, state_dir: Path, most_bytes: int = MOST_BYTES) -> None:
        self._path, self._most_bytes = state_dir / FILE_NAME, most_bytes
        self._lock = Lock()
        self._descriptor: int | None = None
        self._size = 0
        self._lost = 0
        self._lost_since = 0.0
        self._torn = False

    def write(self, entry: TrailEntry) -> None:
        line = json.dumps(asdict(entry), ensure_ascii=True, separators=(",", ":")).encode() + b"\n"
        with self._lock:
            try:
                self._append(self._told(entry.at) + line)
            except OSError as error:
                if not self._lost:
                    self._lost_since = entry.at
                    log.warning("the audit log cannot be written; requests go on", reason=error.strerror)
                self._lost += 1
                self._close()
            else:
                if self._lost:
                    log.warning("the audit log is written again", lost=self._lost)
                self._lost = 0

    def close(self) -> None:
        with self._lock:
            self._close()

    def _told(self, now: float) -> bytes:
        if not self._lost:
            return b""
        page = {"at": now, "action": LOST, "count": self._lost, "since": self._lost_since}
        return json.dumps(page, separators=(",", ":")).encode() + b"\n"

    def _append(self, data: bytes) -> None:
        if self._descriptor is not None and os.fstat(self._descriptor).st_nlink == 0:
            self._close()  # somebody took the file away
        descriptor = self._open() if self._descriptor is None else self._descriptor
        if self._size and self._size + len(data) > self._most_bytes:
            descriptor = self._rotate()
        if self._torn:
            data = b"\n" + data
        while data:
            written = os.write(descriptor, data)
            self._size += written
            # What broke off in the middle of a line must not take the next one with it.
            self._torn = written < len(data)
            data = data[written:]

    def _open(self) -> int:
        descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        try:
            os.fchmod(descriptor, 0o600)
            self._size = os.fstat(descriptor).st_size
            self._torn = self._size > 0 and os.pread(descriptor, 1, self._size - 1) != b"\n"
        except OSError:
            os.close(descriptor)
            raise
        self._descriptor = descriptor
        return descriptor

    def _rotate(self) -> int:
        self._close()
        for number in range(KEPT, 0, -1):
            older = self._path.with_name(f"{FILE_NAME}.{number}")
            newer = self._path.with_name(f"{FILE_NAME}.{number - 1}") if number > 1 else self._path
            with suppress(FileNotFoundError):
                newer.rename(older)
        return self._open()

    def _close(self) -> None:
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None


def read_trail(state_dir: Path) -> Iterator[dict[str, Any]]:
    """All lines that are kept, oldest first; a line that broke off is passed over. Raises OSError."""
    paths = [state_dir / f"{FILE_NAME}.{number}" for number in range(KEPT, 0, -1)]
    for path in [*paths, state_dir / FILE_NAME]:
        with suppress(FileNotFoundError), path.open("rb") as file:
            for line in file:
                with suppress(ValueError):
                    page = json.loads(line)
                    if isinstance(page, dict):
                        yield page
