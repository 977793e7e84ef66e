"""The trail of requests on disk: `audit.log` and `audit-refused.log` in the state directory, one JSON object a line.

What was done and what was refused have files of their own: a key that may do nothing can have thousands of requests
refused in a minute, and must not push out what others did. Files are 0600 and only ever appended to. Full ones are
renamed to audit.log.1 (the newest) to audit.log.4; what is older goes, so that each kind stays below five times
MOST_BYTES. A line is not forced to the disk: it survives the service, not a loss of power.
What cannot be written is counted, and the next line that can be is preceded by one that says how many are missing:
a full disk stops nobody's cache. Implements domain.identity.Trail.
"""

from __future__ import annotations

import heapq
import json
import os
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from threading import Lock
from typing import Any

import structlog

from cachekeep.domain.identity import OK, TrailEntry

log = structlog.get_logger()

FILE_NAME = "audit.log"
REFUSED_NAME = "audit-refused.log"
MOST_BYTES = 16 << 20
KEPT = 4
LOST = "lines-lost"


class TrailFile:
    """most_bytes: of one file. Safe to call from several threads."""

    def __init__(self, state_dir: Path, most_bytes: int = MOST_BYTES) -> None:
        self._done = _Lines(state_dir / FILE_NAME, most_bytes)
        self._refused = _Lines(state_dir / REFUSED_NAME, most_bytes)

    def write(self, entry: TrailEntry) -> None:
        (self._done if entry.outcome == OK else self._refused).write(entry)

    def close(self) -> None:
        self._done.close()
        self._refused.close()


class _Lines:
    """Entries of one kind: a file, and the older ones beside it."""

    def __init__(self, path: Path, most_bytes: int) -> None:
        self._path, self._most_bytes = path, most_bytes
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
            older = self._path.with_name(f"{self._path.name}.{number}")
            newer = self._path.with_name(f"{self._path.name}.{number - 1}") if number > 1 else self._path
            with suppress(FileNotFoundError):
                newer.rename(older)
        return self._open()

    def _close(self) -> None:
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None


def read_trail(state_dir: Path) -> Iterator[dict[str, Any]]:
    """All lines that are kept, oldest first; a line that broke off is passed over. Raises OSError."""
    return heapq.merge(_read(state_dir / FILE_NAME), _read(state_dir / REFUSED_NAME), key=_at)


def _read(newest: Path) -> Iterator[dict[str, Any]]:
    paths = [newest.with_name(f"{newest.name}.{number}") for number in range(KEPT, 0, -1)]
    for path in [*paths, newest]:
        with suppress(FileNotFoundError), path.open("rb") as file:
            for line in file:
                with suppress(ValueError):
                    page = json.loads(line)
                    if isinstance(page, dict):
                        yield page


def _at(page: dict[str, Any]) -> float:
    at = page.get("at")
    return float(at) if isinstance(at, int | float) else 0.0
