"""The port for what keeps a backup's objects: a folder, an S3 bucket, memory. Protocol and error only; stdlib only.

An object is whole or not there: a reader never meets half of one, whatever happens to its writer. Every call blocks
until the world has answered, ends by itself, and may come from any thread.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from enum import Enum
from typing import NamedTuple, Protocol

_PART = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]{0,199}\Z")


class BlobFault(Enum):
    """What kind of trouble. UNREACHABLE is everything that may pass by itself."""

    MISSING = "missing"
    EXISTS = "exists"
    FORBIDDEN = "forbidden"
    FULL = "full"
    UNREACHABLE = "unreachable"


class BlobError(Exception):
    """A store of objects did not do what was asked. Says what, where, and what to do; never a credential."""

    def __init__(self, fault: BlobFault, what: str, advice: str) -> None:
        super().__init__(f"{what}; {advice}")
        self.fault, self.what, self.advice = fault, what, advice


class BlobInfo(NamedTuple):
    """An object's name and size in bytes."""

    name: str
    size: int


class BlobStore(Protocol):
    """Objects by name. A name is parts joined by `/`; see `check_name`."""

    def put(self, name: str, data: bytes | Iterable[bytes], *, new: bool = False) -> None:
        """Keep the object: durable when this returns, and not there at all when it raises or dies.

        data given in parts is never held whole. What the iterable raises ends the put and is raised here. An object
        of this name is replaced; with `new` that is BlobError(EXISTS) instead, even when two try at once: for small
        objects, so parts are joined.
        """
        ...

    def get(self, name: str) -> bytes:
        """The whole object, for small ones. Raises BlobError(MISSING)."""
        ...

    def open(self, name: str) -> Iterator[bytes]:
        """Its bytes in chunks of up to some MiB. Raises BlobError(MISSING) at once, others also later."""
        ...

    def list(self, folder: str = "") -> Sequence[BlobInfo]:
        """All objects below the folder ("" for all), sorted by name. A folder without objects does not exist."""
        ...

    def delete(self, name: str) -> None:
        """Remove the object; nothing to do when it is not there."""
        ...

    def exists(self, name: str) -> bool: ...


def check_name(name: str) -> str:
    """The name, unless it could mean another place or a hidden file: then ValueError (a bug of the caller)."""
    if not name or not all(_PART.match(part) for part in name.split("/")):
        raise ValueError(f"not a name for an object: {name!r}")
    return name
