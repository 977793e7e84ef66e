"""The small JSON objects of a repository, and the digest that each carries of itself. Pure but for `fetch`.

An object is one line of compact JSON (a log: several) whose last member is `self`: blake2b-128 of all bytes before
`,"self":`. So a flipped or missing byte shows in every object, the last entry of an unfinished generation included.
Called by backup.catalog, backup.writer, backup.reader. Source of every field: docs/formats/segment.md.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from typing import Annotated, Any, Literal, TypedDict, TypeVar

import msgspec

from cachekeep.codec.seal import Sealing
from cachekeep.domain.blobs import BlobStore

FORMAT, VERSION = "cachekeep-backup", 1
# The end of a generation of a million segments has 30 MB; nothing else comes near.
OBJECT_LIMIT_BYTES = 64 << 20
REPOSITORY = "repository.json"
_SELF = re.compile(rb',"self":"([0-9a-f]{32})"}\n\Z')
_SELF_BYTES = len(',"self":""}\n') + 32

EngineName = Literal["redis", "valkey"]
Number = Annotated[str, msgspec.Meta(pattern="^[0-9]{1,9}$")]
VersionText = Annotated[str, msgspec.Meta(pattern=r"^[0-9]{1,4}(\.[0-9]{1,4}){0,3}$")]
Count = Annotated[int, msgspec.Meta(ge=0)]
Hex = Annotated[str, msgspec.Meta(pattern="^[0-9a-f]{64}$")]
SegmentName = Annotated[str, msgspec.Meta(pattern="^[0-9]{8,18}-[0-9a-f]{6}$")]
KindName = Literal["base", "rdb", "changes", "commands", "functions"]
T = TypeVar("T", bound=msgspec.Struct)


class DamagedObjectError(ValueError):
    """The bytes are not the object that was written. Says how that shows."""


class RepositoryObject(msgspec.Struct, frozen=True, kw_only=True):
    """repository.json."""

    format: str
    version: int
    created: str
    sealing: Sealing | None = None


class Options(TypedDict, total=False):
    """What decided which keys a copy has, and how it was taken. Others are kept and not looked at."""

    method: str
    databases: list[Count] | None
    match: str | None
    epochs: dict[str, int]
    follow: str
    limits: list[str]


class Lane(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One node of the source. slots: ranges `[first, last]` in cluster mode."""

    lane: str
    run_id: str = ""
    slots: tuple[tuple[Count, Count], ...] = ()


class Head(msgspec.Struct, frozen=True, kw_only=True):
    """head.json. source: the URL without credentials; databases: number of keys by INFO; both clocks in ms."""

    source: str
    engine: EngineName
    engine_version: VersionText
    mode: Literal["standalone", "cluster"]
    lanes: tuple[Lane, ...]
    databases: dict[Number, Count]
    began_ms: Count
    source_began_ms: Count
    options: Options = {}
    generation: str = ""
    sealing: Sealing | None = None


class Entry(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What makes a segment part of its generation. db None: records of several databases.

    covers: `[since, until]` in ms by the source's clock: with this entry and those before it, every change of those
    moments is known; both alike where only that one moment is. position: in a stream, what lies behind this segment.
    """

    number: Annotated[int, msgspec.Meta(ge=1)]
    segment: SegmentName
    kind: KindName
    lane: str
    db: Count | None
    cursor: str | None
    bytes: Count
    digest: Hex
    frames: Count
    records: Count
    first_ms: int | None
    last_ms: int | None
    previous: Hex
    covers: tuple[int, int] | None = None
    position: str | None = None


class Gap(msgspec.Struct, frozen=True, kw_only=True):
    """A stretch of time of which the generation does not know everything; end_ms None: until its end."""

    start_ms: int
    end_ms: int | None
    reason: str
    lane: str | None = None


class Total(msgspec.Struct, frozen=True, kw_only=True):
    kind: KindName
    db: Count | None
    entries: Count
    records: Count
    bytes: Count


class End(msgspec.Struct, frozen=True, kw_only=True):
    """end.json. segments: name, bytes and kind per entry; logs: digest per log object; last: of the last entry."""

    generation: str
    verdict: Literal["complete", "gaps"]
    gaps: tuple[Gap, ...]
    ended_ms: Count
    segments: tuple[tuple[SegmentName, Count, KindName], ...]
    totals: tuple[Total, ...]
    logs: dict[str, Hex]
    last: Hex
    skipped: dict[str, Count] = {}
    vanished: Count = 0
    keyspace: dict[Number, Any] = {}


class LogEnd(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The last line of log-*.jsonl. sealed: in a sealed repository, the lines before it, in base64."""

    generation: str
    number: Count
    lines: Count
    sealed: str = ""


def object_bytes(value: msgspec.Struct, before: bytes = b"") -> bytes:
    """The object as it is stored, behind other lines if it ends such."""
    body = before + msgspec.json.encode(value)[:-1]
    return body + b',"self":"' + _self_digest(body) + b'"}\n'


def parse_object(data: bytes, type_: type[T]) -> T:
    """The object in the last line. Raises DamagedObjectError. Members not known here are ignored, for later ones."""
    found = _SELF.search(data, max(0, len(data) - _SELF_BYTES))
    if not found:
        raise DamagedObjectError(f"it is cut off or damaged: {len(data)} bytes that do not end as they should")
    if _self_digest(data[: found.start()]) != found[1]:
        raise DamagedObjectError("it is damaged: its bytes do not match the digest that it carries")
    try:
        return msgspec.json.decode(data[data.rfind(b"\n", 0, -1) + 1 :], type=type_)
    except (msgspec.MsgspecError, RecursionError) as error:
        raise DamagedObjectError(f"it has contents that do not belong there: {error}") from error


def chain_digest(data: bytes) -> str:
    """What the next entry says of this object."""
    return hashlib.blake2b(data, digest_size=32).hexdigest()


def _self_digest(body: bytes) -> bytes:
    return hashlib.blake2b(body, digest_size=16).hexdigest().encode()


def fetch(blobs: BlobStore, name: str) -> bytes:
    """An object's bytes. Raises BlobError, or DamagedObjectError for more bytes than an object has."""
    held = bytearray()
    for chunk in blobs.open(name):
        held += chunk
        if len(held) > OBJECT_LIMIT_BYTES:
            raise DamagedObjectError(f"it has more than the {OBJECT_LIMIT_BYTES >> 20} MiB of the largest object")
    return bytes(held)


def totals_of(entries: Sequence[Entry]) -> tuple[Total, ...]:
    """Entries, records and bytes per kind and database, in order of first appearance."""
    groups: dict[tuple[KindName, int | None], list[Entry]] = {}
    for entry in entries:
        groups.setdefault((entry.kind, entry.db), []).append(entry)
    return tuple(
        Total(
            kind=kind,
            db=db,
            entries=len(group),
            records=sum(entry.records for entry in group),
            bytes=sum(entry.bytes for entry in group),
        )
        for (kind, db), group in groups.items()
    )
