"""Which generation has the moment that a user names, and which moment by the source's clock that is.

Users name moments by this machine's clock; a generation knows them by its source's. Its head has both clocks at its
beginning, and so their difference. Called by the commands, through `cachekeep.backups`.
"""

from __future__ import annotations

import re
import time
from collections.abc import Collection, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from datetime import datetime
from typing import NamedTuple

import msgspec

from cachekeep.backup.catalog import CatalogError, CatalogFault, Generation, Repository, Status, entry_object, load
from cachekeep.backup.catalog_objects import DamagedObjectError, Entry, Gap, Head
from cachekeep.backup.compare import HASH_WITH_EXPIRY
from cachekeep.backup.contents import Contents
from cachekeep.backup.coverage import Stretch, clock_ahead_ms, gap_of, gaps_of, moment_text, nearest, stretches, without
from cachekeep.backup.living import LivingContents
from cachekeep.backup.reader import read_log
from cachekeep.backup.routing import Routes
from cachekeep.backup.shifted import Shifted
from cachekeep.codec.dump import DumpError, HashValue, decode, encode, rdb_version
from cachekeep.codec.record import NO_EXPIRY, Record
from cachekeep.domain.blobs import BlobError
from cachekeep.domain.remote import Refusal

TOLD_SKEW_MS = 1000  # clocks that differ by less are neither corrected nor worth a word
_READ_AT_ONCE = 16
_CLOCK_ROUNDS = 3
_RFC3339 = re.compile(r"(\d{4}-\d\d-\d\d)[Tt ](\d\d:\d\d:\d\d)(?:\.(\d{1,9}))?([Zz]|[+-]\d\d:\d\d)?", re.ASCII)
_SPAN = re.compile(r"(\d+(?:\.\d+)?)(ms|w|d|h|m|s)", re.ASCII)
_AGO = re.compile(r"-((?:[\d.]+[a-z]+)+)|((?:[\d.]+[a-z]+ ?)+?) ?ago", re.ASCII)
_SEGMENT = re.compile(
    r"(\d{8,18}-[0-9a-f]{6})(?:\.seg)?|(?=0\d{7,17}(?:\.|$))0+([1-9]\d*)(?:\.json)?|#([1-9]\d{0,17})", re.ASCII
)
_OF_ONE = re.compile(r"(\d{8}T\d{6}\.\d{3}Z-[0-9a-f]{8})[/ ]?(.+)", re.ASCII)
_UNITS_MS = {"ms": 1, "s": 1000, "m": 60_000, "h": 3_600_000, "d": 86_400_000, "w": 7 * 86_400_000}
_FORMS = "2026-11-22T21:00:00.123Z (or +01:00 in place of Z), 5m ago, -90s, now, latest, or a segment such as #12"
_LONGEST_MS = 1 << 50


class MomentError(ValueError):
    """Not a moment. Says what there is."""


@dataclass(frozen=True)
class Moment:
    """What was asked for: one of these. ms: by this machine's clock. segment: a name, or `#` and an entry's number.

    Neither: the latest that can be restored. generation: the name of the one that the segment is of, if it was said.
    """

    ms: int | None = None
    segment: str | None = None
    generation: str | None = None


class Found(NamedTuple):
    """A generation's name, and the moment by its source's clock."""

    name: str
    at_ms: int


def moment_of(text: str, now_ms: int) -> Moment:
    """What a user wrote, see _FORMS. now_ms: by this machine's clock. Raises MomentError.

    Fractions of a ms are cut off.
    """
    text = text.strip()
    if text in ("latest", "now"):
        return Moment()
    named = _OF_ONE.fullmatch(text)
    if segment := _SEGMENT.fullmatch(named[2] if named else text):
        number = segment[2] or segment[3]
        return Moment(segment=segment[1] or f"#{number}", generation=named[1] if named else None)
    if named:
        raise MomentError(f"{text!r} is no segment: write {named[1]}/#12, or --id {named[1]} --at '#12'")
    if written := _RFC3339.fullmatch(text):
        return Moment(_absolute_ms(text, *written.groups()))
    if ago := _AGO.fullmatch(text):
        return Moment(max(0, now_ms - _span_ms(text, ago[1] or ago[2])))
    raise MomentError(f"{text!r} is no moment; write {_FORMS}")


@dataclass(frozen=True)
class Coverage:
    """What a generation covers. Stretches and gaps in order of time, in ms by the source's clock."""

    generation: Generation
    entries: tuple[Entry, ...]
    stretches: tuple[Stretch, ...]
    noted: tuple[Gap, ...]

    @property
    def gaps(self) -> list[Gap]:
        return gaps_of(self.stretches, self.noted, polled=self.method == "poll")

    @property
    def method(self) -> str | None:
        head = self.generation.head
        return head.options.get("follow") if head else None

    @property
    def skew_ms(self) -> int:
        """How far the source's clock was ahead of this machine's."""
        return skew_ms(self.generation.head)

    @property
    def latest_ms(self) -> int | None:
        return self.stretches[-1].until_ms if self.stretches else None

    def ours(self, ms: int) -> str:
        """A moment of the source as this machine's clock has it."""
        return moment_text(ms - self.skew_ms)


def coverage_of(repository: Repository, generation: Generation) -> Coverage:
    """Raises BlobError. What lies behind a damaged entry is not taken for covered; damaged logs tell no reasons."""
    entries = _entries(repository, generation)
    noted: list[Gap] = list(generation.end.gaps) if generation.end else []
    doubts: list[Gap] = []
    for number in sorted(generation.objects.logs):
        try:
            lines = read_log(repository, generation.name, number)
        except (DamagedObjectError, BlobError):  # `verify` names what is damaged
            continue
        noted += [gap for line in lines if (gap := gap_of(line))]
        doubts += [doubt for line in lines if (doubt := gap_of(line, "doubt"))]
    left = without(stretches(entries), doubts)
    return Coverage(generation, tuple(entries), tuple(left), tuple(dict.fromkeys([*doubts, *noted])))


def skew_ms(head: Head | None) -> int:
    """How far the source's clock was ahead of this machine's when the generation began, as far as that is known."""
    return clock_ahead_ms(head) or 0


def skew_told(head: Head | None) -> str | None:
    """A sentence, where the clocks differed by a second or more."""
    ahead_ms = skew_ms(head)
    if abs(ahead_ms) < TOLD_SKEW_MS:
        return None
    way = "ahead of" if ahead_ms > 0 else "behind"
    return (
        f"the source's clock was {abs(ahead_ms) / 1000:.1f} s {way} this machine's: moments are told by this machine's"
    )


def last_moment_ms(repository: Repository, generation: Generation) -> int | None:
    """The latest restorable moment of a followed generation, by the source's clock; None when there is none.

    Entries are read from the last on, as few as will do. Raises BlobError.
    """
    for number in sorted(generation.objects.entries, reverse=True):
        try:
            entry = load(repository.blobs, entry_object(generation.name, number), Entry)
        except CatalogError:
            return coverage_of(repository, generation).latest_ms
        if entry.covers:
            return entry.covers[1]
    return None


class OnClock(Shifted):
    """Contents whose expiries are told by a clock that is by_ms ahead of the one that told them. See Contents."""

    def __init__(self, contents: Contents, by_ms: int) -> None:
        super().__init__(contents)
        self._by_ms = by_ms
        self.scope: frozenset[int] | None = getattr(contents, "scope", None)

    @property
    def unread(self) -> dict[str, int]:
        return dict(getattr(self._contents, "unread", {}))

    def batches(self, databases: Collection[int] | None = None, match: bytes | None = None) -> Iterator[list[Record]]:
        for records in self._contents.batches(databases, match):
            yield [_moved(record, self._by_ms) for record in records]

    def again(self, records: list[Record]) -> list[Record]:
        as_there = [_moved(record, -self._by_ms) for record in records]
        return [_moved(record, self._by_ms) for record in self._contents.again(as_there)]


def by_clock_of(routes: Routes, contents: Contents) -> tuple[Contents, int]:
    """The contents with expiries by the endpoint's clock, and by how many ms that moved them.

    They are moved where the clocks, the source's when it was captured and the endpoint's now, differ by a second or
    more and by more than they can be measured. Raises RemoteError.
    """
    ahead_ms = getattr(contents, "clock_ahead_ms", None)
    if isinstance(contents, LivingContents):
        ahead_ms = contents.captured_ms - time.time_ns() // 1_000_000
    if ahead_ms is None or abs(routes.survey.clock_ahead_ms - ahead_ms) < TOLD_SKEW_MS:
        return contents, 0
    measured = _clock_ahead_ms(routes)
    if measured is None or abs(by_ms := measured[0] - ahead_ms) < max(TOLD_SKEW_MS, measured[1]):
        return contents, 0
    return OnClock(contents, by_ms), by_ms


def _clock_ahead_ms(routes: Routes) -> tuple[int, int] | None:
    """How far the endpoint's clock is ahead of this machine's, and the error of that; None where it does not tell."""
    connection = routes.side(routes.places()[0], 0)
    best: tuple[int, int] | None = None
    for _ in range(_CLOCK_ROUNDS):
        asked = time.time_ns()
        try:
            seconds, micro = connection.ask("TIME")
        except Refusal:
            return None
        answered = time.time_ns()
        there_ns = int(seconds) * 1_000_000_000 + int(micro) * 1000
        error_ms = -(-(answered - asked) // 2_000_000)
        if best is None or error_ms < best[1]:
            best = (there_ns - (asked + answered) // 2) // 1_000_000, error_ms
    return best


def _moved(record: Record, by_ms: int) -> Record:
    if record.expires_ms != NO_EXPIRY:
        record = msgspec.structs.replace(record, expires_ms=record.expires_ms + by_ms)
    if record.payload[:1] != bytes((HASH_WITH_EXPIRY,)):
        return record
    try:
        value = decode(record.payload, verify_checksum=False)
        if not isinstance(value, HashValue):
            return record
        fields = tuple((name, held, None if at is None else at + by_ms) for name, held, at in value.fields)
        moved = encode(replace(value, fields=fields), rdb_version(record.payload))
    except DumpError:  # what cannot be read is told when it is to be written
        return record
    return msgspec.structs.replace(record, payload=moved)


def find(repository: Repository, moment: Moment, generation: str | None = None) -> Found:
    """The generation to restore the moment from, the newest that covers it. generation: the whole name of the only one.

    Raises CatalogError: ABSENT, nothing was followed; STATE, a gap, with the nearest restorable moments and why, or
    several sources; BlobError.
    """
    if moment.generation and generation not in (None, moment.generation):
        what = f"the segment is of {moment.generation}, and --id names {generation}"
        raise CatalogError(CatalogFault.STATE, what, "leave one of the two away")
    generation = generation or moment.generation
    followed = [one for one in repository.generations() if one.head and one.head.options.get("follow")]
    if generation is None:
        chosen = [one for one in followed if one.status is not Status.DAMAGED]
        if followed and not chosen:
            what = f"{followed[-1].name} is damaged ({followed[-1].problems[0]}), and nothing else here was followed"
            raise CatalogError(CatalogFault.DAMAGED, what, "name it with --id to have moments from before the damage")
        _refuse_several_sources(chosen)
    else:
        chosen = [repository.generation(generation)]
    covered = [coverage_of(repository, one) for one in chosen]
    known = [one for one in covered if one.stretches]
    if not known:
        what = f"{generation or 'no backup here'} {'covers no moment' if generation else 'was followed'}"
        advice = "`backup run --follow` makes such; leave --at away to take the newest good one as it is"
        raise CatalogError(CatalogFault.ABSENT, what, advice)
    if moment.segment:
        return _of_segment(known, moment.segment)
    if moment.ms is None:
        best = max(known, key=lambda one: (one.latest_ms or 0) - one.skew_ms)
        return Found(best.generation.name, best.latest_ms or 0)
    for one in reversed(known):
        if any(moment.ms + one.skew_ms in stretch for stretch in one.stretches):
            return Found(one.generation.name, moment.ms + one.skew_ms)
    others = [] if generation is None else [one for one in followed if one.name != generation]
    raise _in_a_gap(known, moment.ms, _elsewhere(repository, others, chosen, moment.ms))


def _in_a_gap(known: Sequence[Coverage], ms: int, elsewhere: str | None) -> CatalogError:
    """ms: by this machine's clock, as all in the sentence."""
    near = [(one, *nearest(one.stretches, ms + one.skew_ms)) for one in known]
    before = max(((early - one.skew_ms, one) for one, early, _ in near if early is not None), key=_moment, default=None)
    after = min(((late - one.skew_ms, one) for one, _, late in near if late is not None), key=_moment, default=None)
    sides = [f"{moment_text(side[0])} {word} it" for side, word in ((before, "before"), (after, "after")) if side]
    what = (
        f"{moment_text(ms)} cannot be restored: {_why(before, after, ms)}; the nearest that can: {' and '.join(sides)}"
    )
    choices = " or ".join(f"--at {moment_text(side[0])}" for side in (before, after) if side)
    return CatalogError(CatalogFault.STATE, what, elsewhere or f"use {choices}")


def _moment(side: tuple[int, Coverage]) -> int:
    return side[0]


def _why(before: tuple[int, Coverage] | None, after: tuple[int, Coverage] | None, ms: int) -> str:
    if before is None:
        return "nothing was followed yet"
    one = before[1]
    source_ms = ms + one.skew_ms
    reasons = [gap.reason for gap in one.gaps if gap.start_ms <= source_ms and (gap.end_ms or source_ms) >= source_ms]
    if reasons:
        return f"it is in a gap ({reasons[0]})"
    if after is None:
        open_ = one.generation.status is Status.OPEN
        return "the backup has not come so far" + ("" if open_ else f": {one.generation.name} ended before")
    if one.method == "poll":
        return "the source was polled, and it lies between two passes"
    return "nobody followed the source then"


def _elsewhere(
    repository: Repository, others: Iterable[Generation], chosen: Sequence[Generation], ms: int
) -> str | None:
    """Advice: another generation of the same source has it."""
    sources = {one.head.source for one in chosen if one.head}
    for one in others:
        if one.head and one.head.source in sources and one.status is not Status.DAMAGED:
            covered = coverage_of(repository, one)
            if any(ms + covered.skew_ms in stretch for stretch in covered.stretches):
                return f"{one.name} has it: leave --id away, or name that"
    return None


def _of_segment(known: Sequence[Coverage], segment: str) -> Found:
    """The moment up to which an entry covers; `#12` is of the newest generation that has it."""
    for one in reversed(known):
        for entry in one.entries:
            if segment not in (entry.segment, f"#{entry.number}"):
                continue
            if entry.covers:
                return Found(one.generation.name, entry.covers[1])
            later = next((other for other in one.entries if other.covers and other.number > entry.number), None)
            what = f"{one.generation.name} covers no moment with its entry {entry.number}, {entry.kind} {entry.segment}"
            advice = (
                f"the next one that does is #{later.number}" if later else "`backup show` has the moments there are"
            )
            raise CatalogError(CatalogFault.STATE, what, advice)
    names = ", ".join(one.generation.name for one in known[-3:])
    raise CatalogError(CatalogFault.ABSENT, f"no followed backup has a segment {segment}", f"looked at: {names}")


def _refuse_several_sources(followed: Sequence[Generation]) -> None:
    sources = sorted({one.head.source for one in followed if one.head})
    if len(sources) > 1:
        what = f"several sources were followed into this place: {', '.join(sources[:5])}"
        raise CatalogError(CatalogFault.STATE, what, "name a backup of the one that you mean with --id")


def _entries(repository: Repository, generation: Generation) -> list[Entry]:
    """As far as they are whole and without a hole."""
    names = [entry_object(generation.name, number) for number in sorted(generation.objects.entries)]

    def read(name: str) -> Entry | None:
        try:
            return load(repository.blobs, name, Entry)
        except CatalogError:
            return None

    with ThreadPoolExecutor(_READ_AT_ONCE, thread_name_prefix="entries") as pool:
        read_ones = list(pool.map(read, names))
    found: list[Entry] = []
    for entry in read_ones:
        if entry is None or entry.number != len(found) + 1:
            break
        found.append(entry)
    return found


def _absolute_ms(text: str, day: str, clock: str, fraction: str | None, zone: str | None) -> int:
    if zone is None:
        raise MomentError(f"{text!r} has no time zone: add Z for UTC, or one such as +01:00")
    try:
        whole = datetime.fromisoformat(f"{day}T{clock}{zone.upper().replace('Z', '+00:00')}")
    except ValueError as error:
        raise MomentError(f"{text!r} is no moment ({error}); write {_FORMS}") from None
    ms = int(whole.timestamp()) * 1000 + int((fraction or "0").ljust(3, "0")[:3])
    if ms < 0:
        raise MomentError(f"{text!r} is before 1970")
    return ms


def _span_ms(text: str, spans: str) -> int:
    """`2h30m` -> 9,000,000."""
    parts = _SPAN.findall(spans)
    if "".join(f"{number}{unit}" for number, unit in parts) != spans.replace(" ", ""):
        raise MomentError(f"{text!r} is no moment: spans of time are written with w, d, h, m, s or ms; {_FORMS}")
    return round(min(sum(float(number) * _UNITS_MS[unit] for number, unit in parts), _LONGEST_MS))
