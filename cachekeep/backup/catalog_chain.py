"""What is in one generation: its entries in order, what of it is damaged and where, where a copy can be resumed.

Called by backup.reader, backup.writer and the commands `show` and `verify`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from cachekeep.backup.catalog import (
    Generation,
    Repository,
    end_problems,
    entry_object,
    segment_object,
)
from cachekeep.backup.catalog_objects import (
    DamagedObjectError,
    Entry,
    Head,
    KindName,
    LogEnd,
    chain_digest,
    fetch,
    parse_object,
)
from cachekeep.codec.segment import Frame, SegmentError, SegmentHeader, SegmentReader
from cachekeep.domain.blobs import BlobError, BlobFault


@dataclass(frozen=True)
class Finding:
    """One thing that is wrong. Numbers are None where they do not apply."""

    generation: str
    what: str
    entry: int | None = None
    segment: str | None = None
    frame: int | None = None
    offset: int | None = None

    def __str__(self) -> str:
        return f"{self.generation}: {self.what}"


@dataclass(frozen=True)
class Place:
    """A segment's place in the order of truth. entry None: its entry is damaged, and end.json told of it."""

    number: int
    segment: str
    kind: KindName
    entry: Entry | None


@dataclass(frozen=True)
class Chain:
    """A generation read through: places in order, and what is wrong with head, entries, end and logs.

    last: digest of the last entry's bytes (of the head's without entries), for the next one; None when damaged.
    """

    generation: Generation
    places: tuple[Place, ...]
    findings: tuple[Finding, ...]
    last: str | None

    @property
    def entries(self) -> list[Entry]:
        """The intact ones, in order."""
        return [place.entry for place in self.places if place.entry]


@dataclass(frozen=True)
class ResumePoint:
    """cursor: where SCAN goes on; complete: it came back to 0. Only of use while the node's run_id is the same."""

    cursor: str
    complete: bool


def resume_points(entries: Sequence[Entry]) -> dict[tuple[str, int], ResumePoint]:
    """Per lane and database, how far a scan had come."""
    return {
        (entry.lane, entry.db): ResumePoint(entry.cursor, entry.cursor == "0")
        for entry in entries
        if entry.kind == "base" and entry.db is not None and entry.cursor is not None
    }


def read_chain(repository: Repository, name: str) -> Chain:
    """Every entry of the generation, checked against its predecessor. Raises CatalogError(ABSENT), BlobError."""
    generation = repository.generation(name)
    findings: list[Finding] = []
    places: list[Place] = []
    end, objects = generation.end, generation.objects
    promised = end.segments if end else ()
    previous, last = _head_digest(repository, generation, findings), 0
    for number in sorted({*objects.entries, *range(1, len(promised) + 1)}):
        if number != last + 1:
            findings.append(Finding(name, f"entries {last + 1} to {number - 1} are missing", entry=last + 1))
            previous = None
        last = number
        entry, data = _entry(repository, name, number, findings)
        if entry and data:
            if previous not in (None, entry.previous):
                what = f"{entry_object(name, number)} does not continue the one before it"
                findings.append(Finding(name, what, entry=number, segment=entry.segment))
            findings += _size_findings(name, entry, objects.segments)
            places.append(Place(number, entry.segment, entry.kind, entry))
        elif number <= len(promised):
            segment, _, kind = promised[number - 1]
            places.append(Place(number, segment, kind, None))
        previous = chain_digest(data) if entry and data else None
    findings += _end_findings(repository, generation, places, previous)
    return Chain(generation, tuple(places), tuple(findings), previous)


def verify_chain(
    repository: Repository, name: str, *, contents: bool = True, progress: Callable[[Place], None] | None = None
) -> list[Finding]:
    """Everything that is wrong with a generation, read to its last byte; none when nothing is.

    contents: also unseal (with the key), decompress and count records; else digests only. progress is told of every
    segment after it was read.
    """
    chain = read_chain(repository, name)
    findings = list(chain.findings)
    for place in chain.places:
        damages: list[Finding] = []
        for _ in verified_frames(repository, name, place, damages.append, contents=contents):
            pass
        findings += damages
        if progress:
            progress(place)
    return findings


def verified_frames(
    repository: Repository,
    name: str,
    place: Place,
    on_damage: Callable[[Finding], None] | None = None,
    *,
    contents: bool = False,
) -> Iterator[Frame]:
    """The whole frames of a segment; at its end it is held against its entry.

    Without on_damage the first damage raises SegmentError. contents: decode as well, to see whether that works.
    """
    header = SegmentHeader(name, place.segment, repository.sealing is not None)
    told = 0

    def tell(error: SegmentError) -> None:
        nonlocal told
        told += 1
        if on_damage is None:
            raise error
        what = f"entry {place.number}, {error}"
        on_damage(Finding(name, what, place.number, place.segment, error.frame, error.offset))

    try:
        reader = SegmentReader(repository.blobs.open(segment_object(name, place.segment)), header)
    except BlobError as error:
        if error.fault is not BlobFault.MISSING:
            raise
        tell(SegmentError("the file is missing", header.name, 0))
        return
    records = 0
    for frame in reader.frames(tell):
        records += frame.records
        if contents and (repository.sealer or not header.sealed):
            try:
                frame.decode(repository.sealer)
            except SegmentError as error:
                tell(error)
                continue
        yield frame
    if place.entry and not told and (what := _other_than(place.entry, reader, records)):
        tell(SegmentError(what, header.name, reader.bytes, reader.frames_read))


def _other_than(entry: Entry, reader: SegmentReader, records: int) -> str | None:
    """Why a segment of which every frame is whole is not the one that its entry describes; None when it is."""
    have = (reader.bytes, reader.frames_read, records)
    want = (entry.bytes, entry.frames, entry.records)
    if have != want:
        return "{} bytes, {} frames, {} records are there; the entry says {}, {}, {}".format(*have, *want)
    if reader.digest != entry.digest:
        return "the file is not the one that the entry describes: another digest"
    return None


def _head_digest(repository: Repository, generation: Generation, findings: list[Finding]) -> str | None:
    """What entry 1 has to carry; None when the head is damaged."""
    name = generation.name
    try:
        data = _fetched(repository, f"{name}/head.json")
        head = parse_object(data, Head)
    except DamagedObjectError as error:
        findings.append(Finding(name, f"{name}/head.json: {error}"))
        return None
    if head.generation != name:
        findings.append(Finding(name, f"{name}/head.json belongs to {head.generation}"))
    return chain_digest(data)


def _entry(
    repository: Repository, name: str, number: int, findings: list[Finding]
) -> tuple[Entry, bytes] | tuple[None, None]:
    where = entry_object(name, number)
    try:
        data = _fetched(repository, where)
        entry = parse_object(data, Entry)
        if entry.number != number:
            raise DamagedObjectError(f"it is entry {entry.number}")
    except DamagedObjectError as error:
        findings.append(Finding(name, f"{where}: {error}", entry=number))
        return None, None
    return entry, data


def _fetched(repository: Repository, where: str) -> bytes:
    try:
        return fetch(repository.blobs, where)
    except BlobError as error:
        if error.fault is not BlobFault.MISSING:
            raise
        raise DamagedObjectError("it is missing") from error


def _size_findings(name: str, entry: Entry, segments: Mapping[str, int]) -> Iterator[Finding]:
    have = segments.get(entry.segment)
    if have != entry.bytes:
        state = "is missing" if have is None else f"has {have} bytes and should have {entry.bytes}"
        what = f"entry {entry.number}, {segment_object(name, entry.segment)} {state}"
        yield Finding(name, what, entry.number, entry.segment)


def _end_findings(
    repository: Repository, generation: Generation, places: Sequence[Place], last: str | None
) -> Iterator[Finding]:
    """end.json against the entries, and the logs that it names."""
    name, end, objects = generation.name, generation.end, generation.objects
    if end is None:
        if objects.end:
            yield from (Finding(name, text) for text in generation.problems if "end.json" in text)
        for number in objects.logs:
            yield from _log_findings(repository, name, f"log-{number:08d}.jsonl", None)
        return
    named = {segment for segment, _, _ in end.segments}
    for text in end_problems(name, end, objects):
        if not any(segment_object(name, segment) in text for segment in named):
            yield Finding(name, text)
    for place, (segment, size, kind) in zip(places, end.segments, strict=False):
        entry = place.entry
        if entry and (entry.segment, entry.bytes, entry.kind) != (segment, size, kind):
            yield Finding(name, f"{name}/end.json describes another entry {place.number}", entry=place.number)
    if last not in (None, end.last):
        yield Finding(name, f"{name}/end.json does not continue the last entry", entry=len(places))
    for log, digest in end.logs.items():
        yield from _log_findings(repository, name, log, digest)


def _log_findings(repository: Repository, name: str, log: str, digest: str | None) -> Iterator[Finding]:
    try:
        data = _fetched(repository, f"{name}/{log}")
        parse_object(data, LogEnd)
        if digest not in (None, chain_digest(data)):
            raise DamagedObjectError("it is not the one that end.json names")
    except DamagedObjectError as error:
        yield Finding(name, f"{name}/{log}: {error}")
