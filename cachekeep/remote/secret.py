"""Passwords from files."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import NamedTuple

from cachekeep.remote.url import UrlError

_LIMIT_BYTES = 1 << 16


class FilePassword(NamedTuple):
    """open_to_others: the group or anyone else may read the file. Read all the same; the caller warns."""

    text: str
    open_to_others: bool

    def __repr__(self) -> str:
        return "<FilePassword>"


def password_from_file(path: Path | str) -> FilePassword:
    """The text of the file without one newline at its end. Raises UrlError, which says what is wrong with the file.

    A file that others may read is taken: secrets that orchestrators mount are often so.
    """
    try:
        with Path(path).expanduser().open("rb") as file:
            mode = os.fstat(file.fileno()).st_mode
            held = file.read(_LIMIT_BYTES + 1)
    except OSError as error:
        why = error.strerror or "no such path"
        raise UrlError(f"the password file {path} cannot be read: {why}; name a file that this user may read") from None
    try:
        text = held.decode("utf-8")
    except UnicodeDecodeError:
        raise UrlError(f"the password file {path} holds bytes that are no UTF-8") from None
    if len(held) > _LIMIT_BYTES:
        raise UrlError(f"the password file {path} is longer than 64 KiB: is it the right one?")
    text = text.removesuffix("\n").removesuffix("\r")
    if not text or "\0" in text:
        raise UrlError(f"the password file {path} {'holds no text' if text else 'is empty'}")
    return FilePassword(text, bool(mode & (stat.S_IRWXG | stat.S_IRWXO)))
