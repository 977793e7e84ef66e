"""Further access keys on disk: `<state dir>/keys.json`, 0600, replaced whole. Written by `cachekeep keys` alone.

A user has a name, a policy (None: may do everything) and up to two keys, each with its own secret: to rotate, a second
key is made, and the first is good for a while longer. `former_root` are keys of the first-start kind that were rotated
out. The secrets are as plain as they must be to verify signatures with; hence the mode.
"""

from __future__ import annotations

import fcntl
import json
import os
import re
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cachekeep.codec.policy_document import PolicyError, read_policy
from cachekeep.domain.identity import ROOT

FILE_NAME = "keys.json"
FORMAT = 1
MOST_USERS = 1000
MOST_KEYS = 2
_NAME = re.compile(r"[A-Za-z0-9+=,.@_-]{1,64}")
_KEY_ID = re.compile(r"[\x21-\x7e]{1,128}")


class KeyFileError(Exception):
    """The file cannot be used; the text says why and what to do. Never repeats a secret."""


@dataclass(frozen=True)
class Key:
    """until: seconds since 1970 after which it is good no more, None for no end."""

    id: str
    secret: str = field(repr=False)
    created_at: float
    until: float | None = None

    def is_good(self, now: float) -> bool:
        return self.until is None or now < self.until


@dataclass(frozen=True)
class User:
    """policy: the document as it was given, None for one that may do everything."""

    name: str
    keys: tuple[Key, ...]
    policy: str | None
    created_at: float

    def __post_init__(self) -> None:
        # IAM's rule for user names.
        if not _NAME.fullmatch(self.name) or self.name == ROOT:
            raise KeyFileError(f"{self.name[:64]!r} cannot name a key: 1 to 64 letters, digits and +=,.@_-, not root")
        if not 0 < len(self.keys) <= MOST_KEYS:
            raise KeyFileError(f"{self.name} must have 1 to {MOST_KEYS} keys")


@dataclass(frozen=True)
class KeyFile:
    users: tuple[User, ...] = ()
    former_root: tuple[Key, ...] = ()

    def __post_init__(self) -> None:
        if len(self.users) > MOST_USERS:
            raise KeyFileError(f"there are at most {MOST_USERS} users; remove some first")
        ids = [key.id for key in self.all_keys()]
        names = [user.name.lower() for user in self.users]
        if len(set(ids)) != len(ids) or len(set(names)) != len(names):
            raise KeyFileError("a name or the id of a key stands twice")

    def all_keys(self) -> Iterator[Key]:
        for user in self.users:
            yield from user.keys
        yield from self.former_root


def read(path: Path) -> KeyFile:
    """An empty one where there is none. Raises KeyFileError for a file that is broken or that others can read."""
    try:
        with path.open("rb") as file:
            mode = stat.S_IMODE(os.fstat(file.fileno()).st_mode)
            text = file.read()
    except FileNotFoundError:
        return KeyFile()
    except OSError as error:
        raise KeyFileError(f"{path} cannot be read: {error.strerror}") from None
    if mode & 0o077:
        raise KeyFileError(f"{path} is readable by others (mode {mode:04o}): run chmod 600 {path}")
    try:
        return _decoded(json.loads(text))
    except KeyFileError as error:
        raise KeyFileError(f"{path}: {error}") from None
    except PolicyError as error:
        raise KeyFileError(f"{path}: a policy in it is not understood: {error}") from None
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        # Not the reason itself: it may quote what stands there.
        raise KeyFileError(f"{path} is not a file of keys; put back a good copy, or delete it and add keys") from None


def _decoded(page: Any) -> KeyFile:  # noqa: ANN401 - as JSON has it
    if page["format"] != FORMAT:
        raise KeyFileError("written by a newer Cachekeep")
    for user in page["users"]:
        if user["policy"] is not None:
            read_policy(user["policy"])
    users = tuple(
        User(str(u["name"]), tuple(map(_key, u["keys"])), u["policy"], float(u["created_at"])) for u in page["users"]
    )
    return KeyFile(users, tuple(map(_key, page["former_root"])))


def _key(page: Any) -> Key:  # noqa: ANN401 - as JSON has it
    until = page["until"]
    key = Key(page["id"], page["secret"], float(page["created_at"]), None if until is None else float(until))
    if not _KEY_ID.fullmatch(key.id) or not isinstance(key.secret, str) or len(key.secret) < 8:
        raise KeyFileError("a key in it is not usable")
    return key


def write(path: Path, content: KeyFile) -> None:
    """0600 and whole, or not at all. Raises OSError."""
    page = {
        "format": FORMAT,
        "users": [
            {
                "name": user.name,
                "created_at": user.created_at,
                "policy": user.policy,
                "keys": [_page_of(key) for key in user.keys],
            }
            for user in content.users
        ],
        "former_root": [_page_of(key) for key in content.former_root],
    }
    partial = path.with_suffix(".partial")
    partial.unlink(missing_ok=True)
    descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w") as file:
        json.dump(page, file, indent=1)
        file.flush()
        os.fsync(file.fileno())
    partial.rename(path)


def _page_of(key: Key) -> dict[str, object]:
    return {"id": key.id, "secret": key.secret, "created_at": key.created_at, "until": key.until}


@contextmanager
def locked(state_dir: Path) -> Iterator[None]:
    """One writer at a time."""
    descriptor = os.open(state_dir / "keys.lock", os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
    with os.fdopen(descriptor, "w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
