"""A followed generation in a few lines, what it has at a moment by code of its own, and random ones. Not a test."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import msgspec
from hypothesis import strategies as st
from small_backup import LANE, NOW_MS, head

from cachekeep.backup.catalog import Repository
from cachekeep.backup.catalog_objects import KindName
from cachekeep.backup.lease import LEASE_MS
from cachekeep.backup.reader import GenerationReader
from cachekeep.backup.writer import GenerationWriter, SegmentWriter
from cachekeep.codec.record import NO_EXPIRY, Kind, Record

START = NOW_MS + 1000
State = dict[tuple[int, bytes], tuple[bytes, int]]


@dataclass(frozen=True)
class Part:
    """A segment to be."""

    kind: KindName
    records: tuple[Record, ...] = ()
    covers: tuple[int, int] | None = None
    db: int | None = None
    lane: str = LANE
    position: str | None = None


def put(key: bytes, value: bytes, at_ms: int, *, db: int = 0, expires_ms: int = NO_EXPIRY) -> Record:
    return Record(int(Kind.UPSERT), db, expires_ms, at_ms, key, value)


def gone(key: bytes, at_ms: int, db: int = 0) -> Record:
    return Record(int(Kind.TOMBSTONE), db, NO_EXPIRY, at_ms, key, b"")


def flushed(at_ms: int, db: int = 0) -> Record:
    return Record(int(Kind.FLUSHED), db, NO_EXPIRY, at_ms, b"", b"")


def functions(payload: bytes, at_ms: int) -> Record:
    return Record(int(Kind.FUNCTIONS), 0, NO_EXPIRY, at_ms, b"", payload)


def piece(data: bytes, at_ms: int) -> Record:
    return Record(int(Kind.PIECE), 0, NO_EXPIRY, at_ms, b"", data)


def write(
    repository: Repository,
    parts: Sequence[Part],
    log: Sequence[dict[str, Any]] = (),
    *,
    follow: str = "tracking",
    ended: bool = True,
) -> str:
    """Returns its name."""
    options: Any = {"method": "scan", "databases": None, "match": None, "follow": follow, "limits": []}
    told = msgspec.structs.replace(head(), options=options)
    writer = GenerationWriter.begin(repository, told, now_ms=lambda: NOW_MS)
    for part in parts:
        with SegmentWriter(writer, part.kind, part.lane, part.db, frame_bytes=80) as segment:
            segment.add(part.records)
            segment.close(covers=part.covers, position=part.position)
    if log:
        writer.log(log)
    if ended:
        writer.finish(ended_ms=NOW_MS + 500_000, skipped={"too large": 1})
    return writer.name


def read(repository: Repository, name: str) -> list[Part]:
    """What is stored."""
    reader = GenerationReader.open(repository, name, unfinished=True)
    parts = []
    for place in reader.chain.places:
        assert place.entry is not None
        number = place.number
        kinds: tuple[KindName, ...] = (place.kind,)
        batches = reader.numbered(kinds, lambda other, number=number: other.number == number)  # type: ignore[misc]
        records = tuple(record for _, batch in batches for record in batch)
        entry = place.entry
        parts.append(Part(place.kind, records, entry.covers, entry.db, entry.lane, entry.position))
    return parts


def moments(parts: Sequence[Part]) -> list[int]:
    """All that are covered."""
    covers = [part.covers for part in parts if part.covers]
    return sorted({moment for since, until in covers for moment in range(since, until + 1)})


def state_at(parts: Sequence[Part], at_ms: int) -> tuple[State, bytes | None]:
    """Keys and functions, by the rule of the format: the entries up to the first that covers the moment, in order."""
    read_parts: list[Part] = []
    for part in parts:
        read_parts.append(part)
        if part.covers and part.covers[0] <= at_ms <= part.covers[1]:
            break
    copied: State = {}
    changed: dict[tuple[int, bytes], tuple[bytes, int] | None] = {}
    libraries: bytes | None = None
    for part in read_parts:
        for one in part.records:
            key = (one.db, one.key)
            if part.kind == "base":
                copied[key] = (one.payload, one.expires_ms)
            elif one.captured_ms > at_ms:
                continue
            elif one.kind == Kind.FUNCTIONS:
                libraries = one.payload
            elif one.kind == Kind.FLUSHED:
                copied = {other: value for other, value in copied.items() if other[0] != one.db}
                changed = {other: value for other, value in changed.items() if other[0] != one.db}
            else:
                changed[key] = None if one.kind == Kind.TOMBSTONE else (one.payload, one.expires_ms)
    whole = {**copied, **changed}
    living = {key: it for key, it in whole.items() if it and (it[1] == NO_EXPIRY or it[1] > at_ms)}
    return living, libraries


_keys = st.sampled_from([b"a", b"b", b"c", b"", b"\xff\0d"])
_values = st.binary(min_size=1, max_size=6)


@st.composite
def _record(draw: st.DrawFn, since_ms: int, until_ms: int, *, disorder: int) -> Record:
    at_ms = draw(st.integers(since_ms - disorder, until_ms))
    db = draw(st.integers(0, 1))
    match draw(st.sampled_from("uuuuuutttffn")):
        case "u":
            expires_ms = draw(st.sampled_from([NO_EXPIRY, NO_EXPIRY, at_ms + draw(st.integers(0, 40))]))
            return put(draw(_keys), draw(_values), at_ms, db=db, expires_ms=expires_ms)
        case "t":
            return gone(draw(_keys), at_ms, db)
        case "f":
            return flushed(at_ms, db)
        case _:
            return functions(draw(_values), at_ms)


@st.composite
def followed_parts(draw: st.DrawFn) -> list[Part]:
    """A copy, changes before its end, then stretches and gaps. disorder: records that are older than their place."""
    disorder = draw(st.sampled_from([0, 0, 12]))
    parts: list[Part] = []
    for db in range(2):
        copied = [put(key, draw(_values), START - 5, db=db) for key in draw(st.lists(_keys, max_size=6))]
        parts.append(Part("base", tuple(copied), db=db))
        early = draw(st.lists(_record(START - 9, START, disorder=0), max_size=2))
        parts += _of_kinds(early, None)
    now_ms = START
    parts.append(Part("changes", (), (START, START)))
    for _ in range(draw(st.integers(1, 8))):
        since_ms, until_ms = now_ms, now_ms + draw(st.integers(0, 12))
        if draw(st.integers(0, 4)) == 0:
            since_ms, until_ms = since_ms + 7, until_ms + 9
        records = draw(st.lists(_record(now_ms + 1, until_ms + 1, disorder=disorder), max_size=5))
        # Of a time that was measured before: everything of it is known.
        records = [one for one in records if disorder or now_ms < one.captured_ms <= until_ms]
        if not disorder:
            records.sort(key=lambda one: one.captured_ms)
        covers = (since_ms, until_ms) if draw(st.integers(0, 5)) else None
        parts += _of_kinds(records, covers)
        now_ms = max(now_ms, until_ms) if covers else now_ms
    return parts


def _of_kinds(records: Sequence[Record], covers: tuple[int, int] | None) -> list[Part]:
    libraries = tuple(one for one in records if one.kind == Kind.FUNCTIONS)
    changes = tuple(one for one in records if one.kind != Kind.FUNCTIONS)
    return [*([Part("functions", libraries)] if libraries else []), replace(Part("changes", changes), covers=covers)]


OURS = START - 7  # by this machine's clock: the source's is 7 ms ahead
LATER = NOW_MS + 2 * LEASE_MS
GAP = {"event": "gap", "start_ms": START + 20, "end_ms": START + 40, "reason": "the source was away", "lane": None}
BEFORE = {"event": "gap", "start_ms": START - 30, "end_ms": START - 20, "reason": "long ago", "lane": None}
PARTS = [
    Part("base", (put(b"a", b"1", START - 4), put(b"b", b"2", START - 4), put(b"x", b"9", START - 4)), db=0),
    Part("base", (put(b"o", b"other", START - 3, db=5),), db=5),
    Part("changes", (put(b"a", b"early", START - 1),), (START, START + 10)),
    Part("functions", (functions(b"lib1", START + 11),)),
    Part("changes", (gone(b"b", START + 12), put(b"e", b"soon", START + 14, expires_ms=START + 30)), None),
    Part("changes", (put(b"n", b"new", START + 15, db=7),), (START + 10, START + 20)),
    Part("changes", (put(b"a", b"found", START + 38),), None),
    Part("changes", (flushed(START + 45, 5), put(b"a", b"last", START + 46)), (START + 40, START + 50)),
    Part("changes", (), (START + 50, START + 60)),
    Part("functions", (functions(b"lib2", START + 61),)),
    Part("changes", (put(b"big", bytes(range(200)), START + 62),), (START + 60, START + 70)),
]


def same(old: list[Part], new: list[Part], since_ms: int) -> None:
    """At every moment that was covered from there on, by code that shares nothing with the product."""
    kept = [moment for moment in moments(old) if moment >= since_ms]
    assert moments(new) == kept
    for moment in kept:
        assert state_at(new, moment) == state_at(old, moment), moment - START
