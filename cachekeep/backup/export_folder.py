"""A folder of files that appears whole or not at all, and files in it. Called by backup.export and what it writes with.

Nobody but the owner may read them: 0700 and 0600. A process that is killed leaves a hidden folder
`.<name>.<pid>.<random>.partial`, which the next export to the same name removes.
"""

from __future__ import annotations

import glob
import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import msgspec

from cachekeep.backup.catalog import CatalogError, CatalogFault
from cachekeep.backup.interruptions import key_fields

_BUFFER_BYTES = 1 << 20


@contextmanager
def staging(folder: Path) -> Iterator[Path]:
    """A hidden folder that takes the name `folder` at the end of the block, or is removed when that raises.

    Raises CatalogError(STATE) where `folder` is no empty one, and for every OSError within the block.
    """
    folder = folder.absolute()
    _require_free(folder)
    hidden = folder.with_name(f".{folder.name}.{os.getpid()}.{secrets.token_hex(4)}.partial")
    try:
        folder.parent.mkdir(0o700, parents=True, exist_ok=True)
        _sweep(folder)
        hidden.mkdir(0o700)
        yield hidden
        _sync_folder(hidden)
        # Takes the place of an empty folder, and fails where something came into it meanwhile.
        hidden.rename(folder)
        _sync_folder(folder.parent)
    except OSError as error:
        what = f"{folder} cannot be written: {error.strerror or error}"
        raise CatalogError(CatalogFault.STATE, what, "make room or choose another folder; nothing was left") from error
    finally:
        shutil.rmtree(hidden, ignore_errors=True)


def _sweep(folder: Path) -> None:
    """Remove what exports to this folder left whose process is gone."""
    for left in folder.parent.glob(f".{glob.escape(folder.name)}.*.partial"):
        pid = left.name.split(".")[-3]
        try:
            os.kill(int(pid), 0)
        except (ValueError, ProcessLookupError):
            shutil.rmtree(left, ignore_errors=True)
        except OSError:
            continue  # somebody else's process


class DurableFile:
    """A new file, written from front to back. Raises OSError."""

    def __init__(self, path: Path) -> None:
        self.name = path.name
        self._file = open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb", _BUFFER_BYTES)  # noqa: SIM115, PTH123

    def write(self, data: bytes) -> None:
        self._file.write(data)

    def finish(self) -> None:
        """Make it durable."""
        self._file.flush()
        os.fsync(self._file.fileno())
        self._file.close()

    def abandon(self) -> None:
        """Close it, whatever is lost; nothing when it is finished."""
        with suppress(OSError):  # what is still buffered does not fit on a full disk; it is closed all the same
            self._file.close()


class SkippedKeys:
    """The file that names every key that was not written, and why: JSON lines. There is none without such keys."""

    NAME = "cachekeep_skipped.jsonl"

    def __init__(self, folder: Path) -> None:
        self._path, self._file = folder / self.NAME, list[DurableFile]()

    def add(self, db: int | None, key: bytes | None, reason: str) -> None:
        """db and key None: function libraries."""
        if not self._file:
            self._file.append(DurableFile(self._path))
        named: dict[str, Any] = {} if key is None else {"db": db, **key_fields(key)}
        self._file[0].write(msgspec.json.encode(named | {"reason": reason}) + b"\n")

    def finish(self) -> list[str]:
        for file in self._file:
            file.finish()
        return [file.name for file in self._file]

    def abandon(self) -> None:
        for file in self._file:
            file.abandon()


def _require_free(folder: Path) -> None:
    try:
        taken = folder.is_symlink() or (folder.exists() and (not folder.is_dir() or any(folder.iterdir())))
    except OSError as error:
        raise CatalogError(
            CatalogFault.STATE, f"{folder} cannot be read: {error.strerror}", "choose another folder"
        ) from error
    if taken:
        raise CatalogError(
            CatalogFault.STATE, f"{folder} is there already, and no empty folder", "choose another folder, or empty it"
        )


def _sync_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
