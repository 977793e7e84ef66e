"""Log streams as files of this machine, 0600, of bounded size. Used by notify.log_destinations. Blocks on the disk."""

from __future__ import annotations

import errno
import hashlib
import os
import stat
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import quote

from cachekeep.domain.log_delivery import LogLine
from cachekeep.domain.log_ports import LogStream
from cachekeep.domain.ports import WorldError

FILE_BYTES = 16 * 1024 * 1024
# STREAM.log, then STREAM.log.1 (the youngest) to .4.
OLD_FILES = 4
_LONGEST_NAME = 180


class LogFiles:
    """root: the folder of all; below it destination type, region, log group or delivery stream, and the stream."""

    def __init__(self, root: Path, file_bytes: int = FILE_BYTES) -> None:
        self._root = root
        self._file_bytes = file_bytes

    def path(self, stream: LogStream) -> Path:
        """Of the file that is written to now."""
        where = self._root / stream.delivery.destination_type.value / stream.region
        return where / _folder_name(stream.delivery.destination) / f"{stream.name}.log"

    def append(self, stream: LogStream, lines: Sequence[LogLine]) -> None:
        """All or nothing. Raises WorldError."""
        path = self.path(stream)
        data = "".join(f"{line.text}\n" for line in lines).encode()
        try:
            _make_private(path.parent, self._root)
            if path.exists() and path.stat().st_size + len(data) > self._file_bytes:
                _rotate(path)
            _append(path, data)
        except OSError as error:
            raise WorldError(f"cannot write {path}: {error.strerror}; free space, or delete old logs there") from error


def _append(path: Path, data: bytes) -> None:
    # Not blocking: a pipe in the place of the file would hold this thread until somebody reads it.
    flags = os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    descriptor = os.open(path, flags, 0o600)
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise OSError(errno.EINVAL, "it is no file")
        before = status.st_size
        if data and before and os.pread(descriptor, 1, before - 1) != b"\n":
            data = b"\n" + data  # what was killed in the middle of a line must not take the next one with it
        try:
            left = memoryview(data)
            while left:
                left = left[os.write(descriptor, left) :]
            os.fdatasync(descriptor)
        except OSError:
            # Half a batch would be there twice when it comes again.
            os.ftruncate(descriptor, before)
            raise
    finally:
        os.close(descriptor)


def _rotate(path: Path) -> None:
    for number in range(OLD_FILES - 1, 0, -1):
        old = path.with_name(f"{path.name}.{number}")
        if old.exists():
            old.replace(path.with_name(f"{path.name}.{number + 1}"))
    path.replace(path.with_name(f"{path.name}.1"))


def _make_private(folder: Path, root: Path) -> None:
    for part in (*reversed([p for p in folder.parents if p.is_relative_to(root)]), folder):
        part.mkdir(mode=0o700, exist_ok=True)


def _folder_name(name: str) -> str:
    """One name of a folder for any log group: `/a/b` becomes `%2Fa%2Fb`, and `..` no way out."""
    written = quote(name, safe="#")
    if not written.strip("."):
        written = written.replace(".", "%2E")
    if len(written) <= _LONGEST_NAME:
        return written
    # The end tells groups apart; what was left out is told by a number.
    return f"{written[-_LONGEST_NAME + 20 :]}-{_number(name):016x}"


def _number(text: str) -> int:
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8])
