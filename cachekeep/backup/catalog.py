"""A repository of backups: create, open, list, remove. What is in one generation: backup.catalog_chain.

Nothing is presented as good that is not proved by a listing at least: a finished generation names every segment with
its size in end.json. Called by the commands; sees the world through a BlobStore only.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import Enum
from typing import TypeVar

import msgspec

from cachekeep.backup.catalog_objects import (
    FORMAT,
    REPOSITORY,
    VERSION,
    DamagedObjectError,
    End,
    Head,
    RepositoryObject,
    fetch,
    object_bytes,
    parse_object,
)
from cachekeep.codec.seal import GcmSealer, SealError, Sealing, Secret, WrongSecret, new_sealing, open_sealing
from cachekeep.domain.blobs import BlobError, BlobFault, BlobInfo, BlobStore

_NAME = re.compile(r"\d{8}T\d{6}\.\d{3}Z-[0-9a-f]{8}\Z")
_OBJECT = re.compile(r"(?:(head|end)\.json|(\d{8,18})\.json|(\d{8,18}-[0-9a-f]{6})\.seg|log-(\d{8,18})\.jsonl)\Z")
T = TypeVar("T", bound=msgspec.Struct)


class CatalogFault(Enum):
    ABSENT = "absent"
    DAMAGED = "damaged"
    NEWER = "newer"
    SECRET = "secret"  # noqa: S105 - the kind of a fault
    STATE = "state"


class CatalogError(Exception):
    """A repository or generation cannot be used as asked. Says what, where and what to do."""

    def __init__(self, fault: CatalogFault, what: str, advice: str) -> None:
        super().__init__(f"{what}; {advice}")
        self.fault, self.what, self.advice = fault, what, advice


class Status(Enum):
    """What may be said of a generation from a listing, its head and its end.

    OPEN: its source is or was being followed, and may be followed on; its entries say which moments it covers.
    """

    COMPLETE = "complete"
    OPEN = "open"
    GAPS = "gaps"
    UNFINISHED = "unfinished"
    DAMAGED = "damaged"


@dataclass(frozen=True)
class Objects:
    """What a listing has for one generation: sizes, of entries and logs by number, of segments by name."""

    entries: Mapping[int, int] = field(default_factory=dict)
    segments: Mapping[str, int] = field(default_factory=dict)
    logs: Mapping[int, int] = field(default_factory=dict)
    head: bool = False
    end: bool = False

    @classmethod
    def of(cls, names: Iterable[BlobInfo]) -> Objects:
        """names: without the generation's folder."""
        entries, segments, logs, single = dict[int, int](), dict[str, int](), dict[int, int](), set[str]()
        for name, size in names:
            if not (found := _OBJECT.match(name)):
                continue
            if found[1]:
                single.add(found[1])
            elif found[2]:
                entries[int(found[2])] = size
            elif found[3]:
                segments[found[3]] = size
            else:
                logs[int(found[4])] = size
        return cls(entries, segments, logs, "head" in single, "end" in single)


@dataclass(frozen=True)
class Generation:
    """A generation as `list` shows it. problems: sentences; none unless status is DAMAGED."""

    name: str
    status: Status
    head: Head | None
    end: End | None
    objects: Objects
    problems: tuple[str, ...] = ()


class Repository:
    """An opened repository. `sealer` is None when it is not sealed."""

    def __init__(self, blobs: BlobStore, sealing: Sealing | None, sealer: GcmSealer | None) -> None:
        self.blobs, self.sealing, self.sealer = blobs, sealing, sealer

    @classmethod
    def create(cls, blobs: BlobStore, secret: Secret | None = None) -> Repository:
        """A new one. Raises BlobError(EXISTS) where one is already."""
        sealing, sealer = new_sealing(secret) if secret else (None, None)
        created = datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        described = RepositoryObject(format=FORMAT, version=VERSION, created=created, sealing=sealing)
        blobs.put(REPOSITORY, object_bytes(described), new=True)
        return cls(blobs, sealing, sealer)

    @classmethod
    def open(cls, blobs: BlobStore, secret: Secret | None = None, *, rescue: bool = False) -> Repository:
        """An existing one. Raises CatalogError, a wrong secret before anything else is read; BlobError.

        rescue: when repository.json is lost or damaged, take what it said about the seal from a head.json.
        """
        try:
            described = load(blobs, REPOSITORY, RepositoryObject)
        except CatalogError:
            if not rescue:
                raise
            sealing = _rescued_sealing(blobs)
        else:
            if described.format != FORMAT or described.version != VERSION:
                raise CatalogError(
                    CatalogFault.NEWER,
                    f"{REPOSITORY} says {described.format} version {described.version}; this Cachekeep reads {VERSION}",
                    "update Cachekeep",
                )
            sealing = described.sealing
        return cls(blobs, sealing, _opened(sealing, secret))

    @classmethod
    def open_or_create(cls, blobs: BlobStore, secret: Secret | None = None) -> Repository:
        """The one that is there, or a new one, also when another run makes it at the same moment."""
        try:
            return cls.open(blobs, secret)
        except CatalogError as error:
            if error.fault is not CatalogFault.ABSENT:
                raise
        if any(generations_in(blobs)):
            raise CatalogError(
                CatalogFault.DAMAGED, f"{REPOSITORY} is lost", "open it with rescue, and write new backups elsewhere"
            )
        try:
            return cls.create(blobs, secret)
        except BlobError as taken:
            if taken.fault is not BlobFault.EXISTS:
                raise
            return cls.open(blobs, secret)

    def generations(self) -> list[Generation]:
        """All, oldest first."""
        return [self._summary(name, objects) for name, objects in sorted(generations_in(self.blobs).items())]

    def generation(self, name: str) -> Generation:
        """One. Raises CatalogError(ABSENT)."""
        objects = Objects.of(_relative(self.blobs, name)) if _NAME.match(name) else Objects()
        if not (objects.head or objects.entries or objects.end):
            raise CatalogError(
                CatalogFault.ABSENT, f"there is no backup {name!r}", "`backup list` shows those there are"
            )
        return self._summary(name, objects)

    def _summary(self, name: str, objects: Objects) -> Generation:
        """A listing made while somebody writes may have a later object and lack an earlier one: look twice."""
        found = summary(self.blobs, name, objects)
        if found.status is Status.DAMAGED and not objects.end:
            found = summary(self.blobs, name, Objects.of(_relative(self.blobs, name)))
        return found

    def remove(self, name: str) -> None:
        """Delete a generation, newest objects first: interrupted anywhere, what is left is an unfinished one."""
        if not _NAME.match(name):
            raise ValueError(f"not a generation's name: {name!r}")
        objects = Objects.of(_relative(self.blobs, name))
        waste = [*(segment_object(name, n) for n in objects.segments), *(log_object(name, n) for n in objects.logs)]
        entries = [entry_object(name, number) for number in sorted(objects.entries, reverse=True)]
        for target in [f"{name}/end.json", *entries, f"{name}/head.json", *waste]:
            self.blobs.delete(target)


def generation_name(now_ms: int) -> str:
    """A new name. Names sort by time; the random end tells two of the same millisecond apart."""
    moment = datetime.fromtimestamp(now_ms / 1000, UTC)
    return f"{moment:%Y%m%dT%H%M%S}.{now_ms % 1000:03d}Z-{secrets.token_hex(4)}"


def entry_object(generation: str, number: int) -> str:
    return f"{generation}/{number:08d}.json"


def segment_object(generation: str, segment: str) -> str:
    return f"{generation}/{segment}.seg"


def log_object(generation: str, number: int) -> str:
    return f"{generation}/log-{number:08d}.jsonl"


def load(blobs: BlobStore, name: str, type_: type[T]) -> T:
    """An object. Raises CatalogError: ABSENT or DAMAGED; BlobError when the store cannot tell."""
    try:
        return parse_object(fetch(blobs, name), type_)
    except DamagedObjectError as error:
        raise CatalogError(
            CatalogFault.DAMAGED, f"{name} cannot be read: {error}", "`backup verify` names what is still whole"
        ) from error
    except BlobError as error:
        if error.fault is not BlobFault.MISSING:
            raise
        raise CatalogError(
            CatalogFault.ABSENT, f"no {name} here: {error.what}", "is this the place of the backup?"
        ) from error


def generations_in(blobs: BlobStore) -> dict[str, Objects]:
    """What is there, by name; folders with nothing but waste are left out."""
    names: dict[str, list[BlobInfo]] = {}
    for name, size in blobs.list():
        folder, _, rest = name.partition("/")
        if _NAME.match(folder):
            names.setdefault(folder, []).append(BlobInfo(rest, size))
    found = {folder: Objects.of(rest) for folder, rest in names.items()}
    return {folder: objects for folder, objects in found.items() if objects.head or objects.entries or objects.end}


def summary(blobs: BlobStore, name: str, objects: Objects) -> Generation:
    """Head and end held against the listing."""
    problems: list[str] = []
    head, end = _loaded(blobs, name, "head", Head, problems), None
    if head and head.generation != name:
        problems.append(f"{name}/head.json belongs to {head.generation}")
    if objects.end:
        end = _loaded(blobs, name, "end", End, problems)
    if end:
        problems += end_problems(name, end, objects)
    problems += [f"{entry_object(name, number)} is missing" for number in _holes(objects.entries)]
    if problems:
        status = Status.DAMAGED
    elif end is None:
        status = Status.OPEN if head and head.options.get("follow") else Status.UNFINISHED
    else:
        status = Status(end.verdict)
    return Generation(name, status, head, end, objects, tuple(problems))


def end_problems(name: str, end: End, objects: Objects) -> list[str]:
    """What end.json promises and the listing does not show."""
    problems = [] if end.generation == name else [f"{name}/end.json belongs to {end.generation}"]
    if len(objects.entries) != len(end.segments):
        problems.append(f"{name} has {len(objects.entries)} entries and should have {len(end.segments)}")
    for segment, size, _ in end.segments:
        have = objects.segments.get(segment)
        if have is None:
            problems.append(f"{segment_object(name, segment)} is missing")
        elif have != size:
            problems.append(f"{segment_object(name, segment)} has {have} bytes and should have {size}")
    logs = {f"log-{number:08d}.jsonl" for number in objects.logs}
    problems += [f"{name}/{log} is missing" for log in end.logs if log not in logs]
    return problems


def _holes(numbers: Mapping[int, int]) -> list[int]:
    """Numbers from 1 that are not there though later ones are; at most a few, for a forged name may be huge."""
    present = sorted(numbers)
    expected, holes = 1, list[int]()
    for number in present:
        holes += range(expected, min(number, expected + 10))
        expected = number + 1
    return holes


def _loaded(blobs: BlobStore, name: str, which: str, type_: type[T], problems: list[str]) -> T | None:
    try:
        return load(blobs, f"{name}/{which}.json", type_)
    except CatalogError as error:
        problems.append(error.what)
        return None


def _relative(blobs: BlobStore, name: str) -> list[BlobInfo]:
    return [BlobInfo(info.name[len(name) + 1 :], info.size) for info in blobs.list(name)]


def _opened(sealing: Sealing | None, secret: Secret | None) -> GcmSealer | None:
    if sealing is None:
        if secret is not None:
            raise CatalogError(
                CatalogFault.SECRET, "this repository is not sealed", "leave out the passphrase or key file"
            )
        return None
    try:
        return open_sealing(sealing, secret)
    except WrongSecret as error:
        raise CatalogError(CatalogFault.SECRET, str(error), "nothing was read or written") from None
    except SealError as error:
        raise CatalogError(CatalogFault.DAMAGED, str(error), "update Cachekeep if a newer one wrote it") from None


def _rescued_sealing(blobs: BlobStore) -> Sealing | None:
    for name in sorted(generations_in(blobs)):
        if head := _loaded(blobs, name, "head", Head, []):
            return head.sealing
    raise CatalogError(CatalogFault.ABSENT, "neither repository.json nor any head.json is whole", "nothing can be read")
