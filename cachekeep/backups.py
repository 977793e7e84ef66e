"""Backups as a library, and the composition root of the `backup` commands: URLs and folders become ports.

    from cachekeep import backups

    source = backups.endpoint("rediss://user@cache.example:6379", backups.Access(password=secret))
    repository = backups.repository("s3://bucket/prefix", create=True)
    report = copy(source.remote, source.survey, repository, CopyOptions(), scratch=backups.scratch())

Needs no service. Everything that may go wrong is one of ERRORS, MISUSES and STOPS, whose text says what,
where and what to do.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import tempfile
import time
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import NamedTuple

from cachekeep.backup.catalog import CatalogError, CatalogFault, Generation, Repository, Status
from cachekeep.backup.copy_types import Stopped
from cachekeep.backup.expire import KeepError
from cachekeep.backup.moments import MomentError, find, last_moment_ms, moment_of, skew_ms
from cachekeep.backup.survey import survey
from cachekeep.backup.survey_types import Survey
from cachekeep.backup.walk import Halted
from cachekeep.blob.local import LocalBlobs
from cachekeep.blob.s3 import S3Blobs
from cachekeep.codec.dump import DumpError
from cachekeep.codec.seal import KeyFile, Passphrase, SealError, Secret
from cachekeep.codec.segment import SegmentError
from cachekeep.domain.blobs import BlobError, BlobStore
from cachekeep.domain.remote import Refusal, RemoteError, ScratchError
from cachekeep.host.installs import MachineCatalogue
from cachekeep.host.scratch import LocalScratch
from cachekeep.remote.open import RespRemote, open_remote, open_socket
from cachekeep.remote.secret import password_from_file
from cachekeep.remote.url import UrlError

ERRORS = (RemoteError, Refusal, CatalogError, BlobError, ScratchError, SealError, SegmentError, DumpError)
MISUSES = (UrlError, KeepError, MomentError)
STOPS = (Stopped, Halted)
__all__ = [
    "ERRORS",
    "MISUSES",
    "STOPS",
    "Access",
    "Chosen",
    "Endpoint",
    "Place",
    "UrlError",
    "chosen",
    "endpoint",
    "generation",
    "password_from_file",
    "read_secret",
    "repository",
    "scratch",
    "secret_of",
]
_S3 = "s3://"
_SECRET_FILE_LIMIT_BYTES = 1 << 16


@dataclass(frozen=True, repr=False)
class Access:
    """How to get into endpoints whose URL does not say. Never shown: its repr says nothing.

    ca, cert and cert_key: paths of PEM files. insecure: TLS without any proof of whose server it is.
    """

    user: str | None = None
    password: str | None = None
    ca: Path | None = None
    cert: Path | None = None
    cert_key: Path | None = None
    insecure: bool = False

    def with_environment(self, side: str) -> Access:
        """Where nothing was given: CACHEKEEP_<SIDE>_USER and CACHEKEEP_<SIDE>_PASSWORD. side: SOURCE or TARGET."""
        return replace(
            self,
            user=self.user or os.environ.get(f"CACHEKEEP_{side}_USER"),
            password=self.password or os.environ.get(f"CACHEKEEP_{side}_PASSWORD"),
        )


@dataclass(frozen=True)
class Place:
    """Where a repository is and how it is opened. s3_endpoint, s3_region: instead of AWS's own."""

    dest: str
    secret: Secret | None = field(default=None, repr=False)
    s3_endpoint: str | None = None
    s3_region: str | None = None


class Endpoint(NamedTuple):
    """An endpoint and what was found out about it. db: the one that its URL names."""

    remote: RespRemote
    survey: Survey
    db: int | None
    password_in_url: bool


def endpoint(url: str, access: Access | None = None, *, timeout_s: float = 30.0) -> Endpoint:
    """Connect, look, and say what it is. Raises RemoteError, UrlError."""
    access = access or Access()
    remote = open_remote(
        url,
        user=access.user,
        password=access.password,
        ca=access.ca,
        cert=access.cert,
        key=access.cert_key,
        insecure=access.insecure,
        timeout_s=timeout_s,
    )
    return Endpoint(remote, survey(remote), remote.db, remote.has_password_in_url)


class Chosen(NamedTuple):
    """A generation by its whole name, and the moment to read it at, by its source's clock; None: its last one."""

    name: str
    at_ms: int | None


def blobs(place: Place) -> BlobStore:
    """The store that `dest` names: a folder, or `s3://bucket/prefix`. Raises BlobError, UrlError."""
    if place.dest.startswith(_S3):
        bucket, _, prefix = place.dest.removeprefix(_S3).partition("/")
        if not bucket:
            raise UrlError(f"{place.dest} names no bucket: write s3://bucket/prefix")
        endpoint_url = place.s3_endpoint or os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL")
        return S3Blobs(bucket, prefix, endpoint=endpoint_url, region=place.s3_region)
    if "://" in place.dest:
        raise UrlError(f"{place.dest} is no place for a backup: name a folder or s3://bucket/prefix")
    return LocalBlobs(Path(place.dest).expanduser())


def repository(place: Place | str, *, create: bool = False, rescue: bool = False) -> Repository:
    """Open it; with `create`, make it where there is none. Raises CatalogError, BlobError, SealError."""
    place = Place(place) if isinstance(place, str) else place
    store = blobs(place)
    return (
        Repository.open_or_create(store, place.secret)
        if create
        else Repository.open(store, place.secret, rescue=rescue)
    )


def generation(opened: Repository, wanted: str | None = None, among: Collection[Status] = ()) -> Generation:
    """The one whose name begins so; else the newest of these states; else the good one that knows the latest moment.

    Good is one that is complete, and one that was followed and covers a moment; where there is none, the newest with
    gaps. Raises CatalogError: there is none, or several begin so; BlobError.
    """
    every = opened.generations()
    if wanted:
        return _named(every, wanted)
    if not among:
        known = [(moment, one.name, one) for one in every if (moment := _knows_until_ms(opened, one)) is not None]
        if known:
            return max(known, key=lambda row: row[:2])[2]
    if found := [one for one in every if one.status in (among or (Status.GAPS,))]:
        return found[-1]
    others = ", ".join(f"{one.name} ({one.status.value})" for one in every[-3:])
    what = f"no finished backup is here, only {others}" if every else "no backup is here yet"
    raise CatalogError(CatalogFault.ABSENT, what, "make one with `backup run`, or name one by its ID")


def chosen(
    opened: Repository, wanted: str | None = None, at: str | None = None, among: Collection[Status] = ()
) -> Chosen:
    """The generation, and the moment, that a user named. wanted, among: as of `generation`. at: `5m ago` and the like.

    Raises MomentError; CatalogError, for a moment in a gap with the nearest ones that are restorable; BlobError.
    """
    if at is None:
        return Chosen(generation(opened, wanted, among).name, None)
    moment = moment_of(at, time.time_ns() // 1_000_000)
    return Chosen(*find(opened, moment, generation(opened, wanted).name if wanted else None))


def secret_of(passphrase_file: Path | None, key_file: Path | None) -> Secret | None:
    """From a file, or from CACHEKEEP_BACKUP_PASSPHRASE; None when nothing is to be sealed. Raises SealError."""
    if passphrase_file and key_file:
        raise SealError("a passphrase and a key file are given: a repository is sealed with one of them")
    if key_file:
        return KeyFile(read_secret(key_file))
    if passphrase_file:
        return Passphrase(read_secret(passphrase_file).decode("utf-8", "strict").rstrip("\r\n"))
    text = os.environ.get("CACHEKEEP_BACKUP_PASSPHRASE")
    return Passphrase(text) if text else None


@contextmanager
def alone(place: Place, source: str) -> Iterator[None]:
    """Follow a source into a place only once on this machine. source: its URL without credentials.

    Raises CatalogError(STATE). Between machines the first entry that both try to write ends one of them.
    """
    where = place.dest if place.dest.startswith(_S3) else str(Path(place.dest).expanduser().resolve())
    folder = Path(tempfile.gettempdir()) / f"cachekeep-{os.getuid()}"
    folder.mkdir(mode=0o700, exist_ok=True)
    if folder.is_symlink() or folder.stat().st_uid != os.getuid():
        raise CatalogError(
            CatalogFault.STATE, f"{folder} belongs to somebody else", "set TMPDIR to a folder of your own"
        )
    name = hashlib.sha256(f"{where}\0{source}".encode()).hexdigest()[:32]
    number = os.open(folder / f"{name}.lock", os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        try:
            fcntl.flock(number, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            what = f"another command follows {source} into {place.dest}"
            raise CatalogError(CatalogFault.STATE, what, "let it go on, end it first, or name another place") from error
        yield
    finally:
        os.close(number)


def read_secret(path: Path) -> bytes:
    """The bytes of a small file. Raises SealError, which says what is wrong with it."""
    try:
        with path.expanduser().open("rb") as file:
            return file.read(_SECRET_FILE_LIMIT_BYTES)
    except OSError as error:
        raise SealError(f"cannot read {path}: {error.strerror}; name a file that this user may read") from None


def scratch() -> LocalScratch:
    """The engines of this machine, to load a copy into."""
    return LocalScratch(MachineCatalogue(), open_socket)


def _knows_until_ms(opened: Repository, one: Generation) -> int | None:
    """The latest moment that a good generation can be restored to, by this machine's clock."""
    if one.status in (Status.COMPLETE, Status.OPEN, Status.GAPS) and one.head and one.head.options.get("follow"):
        last_ms = last_moment_ms(opened, one)
        if last_ms is not None:
            return last_ms - skew_ms(one.head)
    return one.end.ended_ms if one.end and one.status is Status.COMPLETE else None


def _named(every: Sequence[Generation], wanted: str) -> Generation:
    found = [one for one in every if one.name.startswith(wanted)]
    if len(found) == 1:
        return found[0]
    how_many = f"{len(found)} backups have" if found else "no backup has"
    raise CatalogError(
        CatalogFault.ABSENT, f"{how_many} a name that begins with {wanted}", "`backup list` shows those there are"
    )
