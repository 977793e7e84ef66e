"""Objects as files below a folder: written under a temporary name beside, fsynced, renamed, folder fsynced.

Files are 0600 and folders 0700: a backup holds everything that the cache held. A temporary file is locked while its
writer lives, so that what a crash left behind can be told apart and removed.
"""

from __future__ import annotations

import errno
import fcntl
import os
import secrets
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from cachekeep.domain.blobs import BlobError, BlobFault, BlobInfo, check_name

CHUNK_BYTES = 1 << 20
_TEMPORARY = ".part-"
_FAULTS = {
    errno.ENOENT: (BlobFault.MISSING, "look whether the path is right"),
    errno.ENOTDIR: (BlobFault.FORBIDDEN, "a file stands where a folder is needed: name another folder"),
    errno.EISDIR: (BlobFault.FORBIDDEN, "a folder stands where a file is needed: name another folder"),
    errno.EACCES: (BlobFault.FORBIDDEN, "give this user the right to it, or run as its owner"),
    errno.EPERM: (BlobFault.FORBIDDEN, "give this user the right to it, or run as its owner"),
    errno.EROFS: (BlobFault.FORBIDDEN, "the file system is read-only: mount it writable or name another folder"),
    errno.ENOSPC: (BlobFault.FULL, "free space there, then run it again: it goes on where it stopped"),
    errno.EDQUOT: (BlobFault.FULL, "raise the quota or free space, then run it again: it goes on where it stopped"),
    errno.EFBIG: (BlobFault.FULL, "the file system or a limit does not allow files of this size"),
}
_PASSES = (BlobFault.UNREACHABLE, "look at the disk (dmesg), then run it again")


class LocalBlobs:
    """A BlobStore in a folder, which is made by the first put."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._swept: set[Path] = set()

    def put(self, name: str, data: bytes | Iterable[bytes], *, new: bool = False) -> None:
        path = self._path(name)
        parts = [data] if isinstance(data, bytes) else data
        with _told("write", path):
            _make_folders(path.parent)
            self._sweep(path.parent)
            fd, temporary = _temporary(path.parent)
        try:
            for part in parts:  # outside of `told`: what the caller's iterable raises is not ours to explain
                with _told("write", path):
                    _write(fd, part)
            with _told("write", path):
                os.fsync(fd)
                _publish(temporary, path, new=new)
        except BaseException:
            with suppress(OSError):
                temporary.unlink()
            raise
        finally:
            os.close(fd)

    def get(self, name: str) -> bytes:
        path = self._path(name)
        with _told("read", path):
            return path.read_bytes()

    def open(self, name: str) -> Iterator[bytes]:
        path = self._path(name)
        with _told("read", path):
            return _Chunks(path)

    def list(self, folder: str = "") -> list[BlobInfo]:
        top = self._path(folder) if folder else self._root
        with _told("list", top):
            return sorted(BlobInfo(path.relative_to(self._root).as_posix(), size) for path, size in _walk(top))

    def delete(self, name: str) -> None:
        path = self._path(name)
        with _told("delete", path):
            path.unlink(missing_ok=True)
            with suppress(FileNotFoundError):
                _fsync_folder(path.parent)
            with suppress(OSError):  # a folder without objects does not exist; not empty, or gone, is fine
                for folder in path.parents:
                    if folder == self._root:
                        break
                    folder.rmdir()

    def exists(self, name: str) -> bool:
        path = self._path(name)
        with _told("look for", path):
            try:
                path.stat()
            except (FileNotFoundError, NotADirectoryError):
                return False
            return True

    def _path(self, name: str) -> Path:
        return self._root / check_name(name)

    def _sweep(self, folder: Path) -> None:
        """Remove what dead writers left in the folder; once per folder."""
        if folder in self._swept:
            return
        for left in folder.glob(f"{_TEMPORARY}*"):
            with suppress(OSError):
                fd = os.open(left, os.O_RDWR | os.O_CLOEXEC)
                try:
                    fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    left.unlink()
                finally:
                    os.close(fd)
        self._swept.add(folder)


@contextmanager
def _told(doing: str, path: Path) -> Iterator[None]:
    """Turn an OSError into the sentence that says what to do."""
    try:
        yield
    except FileExistsError:
        raise BlobError(BlobFault.EXISTS, f"{path} is there already", "another writer made it") from None
    except OSError as error:
        # A name below an object's name: to a reader it is simply not there.
        reason = errno.ENOENT if doing == "read" and error.errno == errno.ENOTDIR else error.errno
        fault, advice = _FAULTS.get(reason or 0, _PASSES)
        raise BlobError(fault, f"cannot {doing} {path}: {error.strerror or error}", advice) from error


def _make_folders(folder: Path) -> None:
    """The folder and those above it, each durable in the one above."""
    if folder.is_dir():
        return
    _make_folders(folder.parent)
    with suppress(FileExistsError):
        folder.mkdir(mode=0o700)
    if not folder.is_dir():
        raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), str(folder))
    _fsync_folder(folder.parent)


def _temporary(folder: Path) -> tuple[int, Path]:
    while True:
        path = folder / f"{_TEMPORARY}{os.getpid()}-{secrets.token_hex(6)}"
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        with suppress(OSError):  # a file system without locks: then nothing is ever swept from it either
            fcntl.flock(fd, fcntl.LOCK_EX)
        if os.fstat(fd).st_nlink:
            return fd, path
        os.close(fd)  # another process swept it before it was locked


def _write(fd: int, part: bytes) -> None:
    view = memoryview(part)
    while view:
        view = view[os.write(fd, view) :]


def _publish(temporary: Path, path: Path, *, new: bool) -> None:
    """Give it its name. Whoever opens the name meets the old object or the new one, whole."""
    if path.is_dir():
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    if new and _linked(temporary, path):
        temporary.unlink()
    else:
        temporary.replace(path)
    _fsync_folder(path.parent)


def _linked(temporary: Path, path: Path) -> bool:
    """Give it a second name; unlike a rename this refuses one that is taken. False where no hard links exist."""
    try:
        path.hardlink_to(temporary)
    except OSError as error:
        if error.errno not in (errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS):
            raise
        if path.exists():
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(path)) from None
        return False
    return True


def _fsync_folder(folder: Path) -> None:
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


class _Chunks:
    """The chunks of a file. A reader that stops early closes it by letting go of it."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._fd: int | None = os.open(path, os.O_RDONLY | os.O_CLOEXEC)

    def __iter__(self) -> Iterator[bytes]:
        return self

    def __next__(self) -> bytes:
        if self._fd is not None:
            with _told("read", self._path):
                chunk = os.read(self._fd, CHUNK_BYTES)
            if chunk:
                return chunk
            self.close()
        raise StopIteration

    def close(self) -> None:
        fd, self._fd = getattr(self, "_fd", None), None
        if fd is not None:
            os.close(fd)

    __del__ = close


def _walk(top: Path) -> Iterator[tuple[Path, int]]:
    """Files below, without hidden ones; a file or folder that goes away meanwhile is left out."""
    try:
        entries = list(os.scandir(top))
    except FileNotFoundError:
        return
    for entry in entries:
        if entry.name.startswith("."):
            continue
        if entry.is_dir(follow_symlinks=False):
            yield from _walk(Path(entry.path))
        elif entry.is_file():
            with suppress(FileNotFoundError):
                yield Path(entry.path), entry.stat().st_size
