"""The RDB file that an engine of this machine writes itself, by BGSAVE, read while it is being written.

Called by backup.copy_nodes. Beside PSYNC this costs the engine nothing but the fork: there every byte of the file goes
through the thread that serves its clients. The file stays where it is; it is the engine's.
Source: rdb.c rdbSaveBackground and rdbSave: the child writes `temp-<pid>.rdb` in `dir`, makes it durable, and gives it
the name in `dbfilename` only when it is whole; when it fails it deletes it. server.c: writes are refused after a BGSAVE
that failed only where `save` has points. Same in Redis 5.0-7.2 and Valkey 7.2-9.1.
"""

from __future__ import annotations

import os
import re
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

from cachekeep.backup.psync import PIECE_BYTES, proved
from cachekeep.codec.info import parse_info
from cachekeep.domain.remote import Connection, Refusal, RemoteError, RemoteFault, understood

_TEMPORARY = re.compile(r"temp-[0-9]+\.rdb\Z")
_LOOK_EVERY_S = 0.01
_ASK_EVERY_S = 0.5
# The file and what is made of it, at most as large as the data in memory, each.
_ROOM = 2


def own_file(
    connection: Connection, root: Path, used_bytes: int, wait: Callable[[float], None]
) -> Iterator[bytes] | None:
    """The file in pieces of at most 1 MiB; the engine has forked when this returns. None: read it by PSYNC instead.

    Only of engines whose folder is below root and that keep nothing on disk: there a BGSAVE that fails has no
    consequences, and no file that it leaves is ever loaded. used_bytes: of memory. wait: so many seconds; raises what
    ends the copy. Raises RemoteError. The pieces raise it too, when the engine or its BGSAVE ends too soon.
    """
    folder = _folder(connection, root, used_bytes)
    if folder is None:
        return None
    known = {path.name: _identity(path) for path in folder.glob("*.rdb")}
    try:
        connection.ask("BGSAVE")
    except Refusal:
        return None  # another child is at work, as for a replica: PSYNC waits for its end
    return proved(_Saving(connection, folder, known, wait).pieces(), connection.address)


def _folder(connection: Connection, root: Path, used_bytes: int) -> Path | None:
    try:
        asked = {name: _setting(connection, name) for name in ("dir", "dbfilename", "save", "appendonly")}
    except Refusal:
        return None
    folder = Path(asked.pop("dir"))
    if asked != {"dbfilename": "dump.rdb", "save": "", "appendonly": "no"}:
        return None
    if not folder.is_relative_to(root) or not folder.is_dir():
        return None
    return folder if shutil.disk_usage(folder).free > _ROOM * used_bytes else None


def _setting(connection: Connection, name: str) -> str:
    with understood(connection.address):
        found = connection.ask("CONFIG", "GET", name)
        pairs = found if isinstance(found, dict) else dict([found])
        return _text(pairs[name.encode()])


def _text(reply: bytes) -> str:
    return reply.decode("utf-8", "surrogateescape")


def _identity(path: Path) -> tuple[int, int] | None:
    """Of the file that has the name now: number and last change. None when there is none."""
    try:
        found = path.stat()
    except FileNotFoundError:
        return None
    return found.st_ino, found.st_mtime_ns


class _Saving:
    """A BGSAVE that was begun. known: what was in the folder before, by name."""

    def __init__(
        self,
        connection: Connection,
        folder: Path,
        known: dict[str, tuple[int, int] | None],
        wait: Callable[[float], None],
    ) -> None:
        self._connection, self._folder, self._known, self._wait = connection, folder, known, wait
        self._whole = folder / "dump.rdb"
        self._asked_at = time.monotonic()

    def pieces(self) -> Iterator[bytes]:
        fd = self._opened()
        try:
            yield from self._read(fd)
        finally:
            os.close(fd)

    def _opened(self) -> int:
        """The file, as soon as it is there."""
        while True:
            runs = self._runs()
            for path in (*self._folder.glob("temp-*.rdb"), self._whole):
                new = path == self._whole or _TEMPORARY.match(path.name) is not None
                if new and (now := _identity(path)) is not None and now != self._known.get(path.name):
                    with suppress(FileNotFoundError):  # it has its last name since
                        return os.open(path, os.O_RDONLY | os.O_CLOEXEC)
            if not runs:
                raise self._broken()
            self._wait(_LOOK_EVERY_S)

    def _read(self, fd: int) -> Iterator[bytes]:
        at, runs = 0, True
        while True:
            # Asked before it is read: whole then means that what is read now is all.
            whole = self._is_whole(fd)
            left = os.fstat(fd).st_size - at
            if left >= PIECE_BYTES or (whole and left):
                piece = os.pread(fd, PIECE_BYTES, at)
                at += len(piece)
                yield piece
            elif whole:
                return
            elif not runs:
                raise self._broken()
            else:
                self._wait(_LOOK_EVERY_S)
                runs = self._runs()

    def _is_whole(self, fd: int) -> bool:
        named = _identity(self._whole)
        return named is not None and named[0] == os.fstat(fd).st_ino

    def _runs(self) -> bool:
        """Whether BGSAVE goes on, asked now and then. Raises RemoteError when the engine is gone."""
        if time.monotonic() - self._asked_at < _ASK_EVERY_S:
            return True
        self._asked_at = time.monotonic()
        with understood(self._connection.address):
            found = parse_info(_text(self._connection.ask("INFO", "persistence")))
        return found.get("rdb_bgsave_in_progress") == "1"

    def _broken(self) -> RemoteError:
        what = f"{self._connection.address}: its BGSAVE ended without a file; its log says why"
        return RemoteError(RemoteFault.UNREACHABLE, what, "copy again")
