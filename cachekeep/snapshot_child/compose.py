"""What the orders work on, put together: the repository, engines, buckets. Called within snapshot_child only.

Not through cachekeep.backups, which brings every command's parts along: a process for each order is to start quickly.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import msgspec

from cachekeep.backup.catalog import Repository
from cachekeep.blob.local import LocalBlobs
from cachekeep.domain.blobs import BlobStore
from cachekeep.domain.nodes import Address

if TYPE_CHECKING:
    from cachekeep.backup.survey_types import Survey
    from cachekeep.remote.open import RespRemote

_S3 = "s3://"
_TIMEOUT_S = 60.0


class Wish(msgspec.Struct, frozen=True):
    """What standard input says. repository, staging: folders. buckets: name -> folder or s3://bucket/prefix.

    tls: the engines, `host:port`, that are talked to by TLS. authority: the file of the one that they are proved by.
    nodes: the folder below which the engines of this machine have theirs; "" where they are not to be read.
    """

    kind: str
    order: msgspec.Raw
    repository: str
    staging: str
    buckets: dict[str, str]
    user: str | None = None
    password: str | None = None
    tls: tuple[str, ...] = ()
    authority: str = ""
    nodes: str = ""


class Engine(NamedTuple):
    """A running engine, and what was found out about it."""

    remote: RespRemote
    survey: Survey


def repository_of(wish: Wish) -> Repository:
    """Made when it is not there. Raises CatalogError, BlobError."""
    return Repository.open_or_create(LocalBlobs(Path(wish.repository)))


def engine_at(wish: Wish, address: Address) -> Engine:
    """Raises RemoteError."""
    from cachekeep.backup.survey import survey

    remote = remote_at(wish, address)
    return Engine(remote, survey(remote))


def remote_at(wish: Wish, address: Address) -> RespRemote:
    """Not connected to yet."""
    from cachekeep.remote.open import open_remote

    scheme = "rediss" if str(address) in wish.tls else "redis"
    authority = wish.authority or None
    return open_remote(
        f"{scheme}://{address}", user=wish.user, password=wish.password, ca=authority, timeout_s=_TIMEOUT_S
    )


def bucket(wish: Wish, name: str) -> BlobStore | None:
    """What stands for the bucket; None where the settings name none of this name. Raises BlobError."""
    where = wish.buckets.get(name)
    if where is None:
        return None
    if not where.startswith(_S3):
        return LocalBlobs(Path(where))
    from cachekeep import backups

    return backups.blobs(backups.Place(where))
