"""Compacted backups: the same at every kept moment."""

from __future__ import annotations

import itertools
import threading
from pathlib import Path

import pytest
from followed_backup import (
    BEFORE,
    GAP,
    OURS,
    PARTS,
    START,
    Part,
    flushed,
    followed_parts,
    functions,
    gone,
    moments,
    piece,
    put,
    read,
    same,
    state_at,
    write,
)
from hypothesis import given, settings
from hypothesis import strategies as st
from small_backup import KEY, NOW_MS, head

from cachekeep.backup import compact_plan
from cachekeep.backup.catalog import CatalogError, Repository, Status
from cachekeep.backup.catalog_chain import verify_chain
from cachekeep.backup.catalog_objects import Gap
from cachekeep.backup.compact import compact, followed
from cachekeep.backup.contents import GenerationContents
from cachekeep.backup.lease import LEASE_MS, moment_ms
from cachekeep.backup.moments import coverage_of
from cachekeep.backup.pacing import Halted
from cachekeep.backup.writer import GenerationWriter
from cachekeep.blob.local import LocalBlobs
from cachekeep.blob.memory import MemoryBlobs
from cachekeep.codec.record import NO_EXPIRY, Kind
from cachekeep.codec.seal import KeyFile
from cachekeep.domain.blobs import BlobInfo


def repository(secret: KeyFile | None = None) -> Repository:
    return Repository.create(MemoryBlobs(), secret)


def as_read(repository: Repository, name: str, at_ms: int) -> dict[tuple[int, bytes], bytes]:
    """What a restore would read at that moment."""
    contents = GenerationContents(repository, name, at_ms=at_ms)
    found: dict[tuple[int, bytes], bytes] = {}
    databases = contents.databases()
    for record in itertools.chain.from_iterable(contents.batches()):
        assert record.db in databases
        found.pop((record.db, record.key), None)
        if record.kind == Kind.UPSERT and (record.expires_ms == NO_EXPIRY or record.expires_ms > at_ms):
            found[record.db, record.key] = record.payload
    return found


@pytest.mark.parametrize("secret", [None, KEY], ids=["open", "sealed"])
@pytest.mark.parametrize("ago", [None, 0, 13, 25, 30, 47, 70, 500])
def test_every_moment_from_the_first_kept_one_is_as_it_was(ago: int | None, secret: KeyFile | None) -> None:
    opened = repository(secret)
    name = write(opened, PARTS, [BEFORE, GAP])
    done = compact(opened, name, before_ms=None if ago is None else OURS + ago)
    since = {None: 0, 0: 0, 13: 13, 25: 40, 30: 40, 47: 47, 70: 70, 500: 70}[ago] + START
    (left,) = opened.generations()
    assert (done.made, done.since_ms, done.until_ms) == (left.name, since, START + 70)
    assert left.status is Status.COMPLETE
    assert verify_chain(opened, left.name) == []
    new = read(opened, left.name)
    same(PARTS, new, since)
    assert len(new) < len(PARTS)
    for at in {since, START + 50, START + 70} & set(range(since, START + 71)):
        assert as_read(opened, left.name, at) == {key: value for key, (value, _) in state_at(PARTS, at)[0].items()}
    assert opened.blobs.list(name) == []


def test_source_verdict_gaps_and_where_it_came_from_are_kept() -> None:
    opened = repository()
    name = write(opened, PARTS, [BEFORE, GAP])
    old = opened.generation(name)
    made = compact(opened, name).made
    assert made
    new = opened.generation(made)
    assert old.head
    assert old.end
    assert new.head
    assert new.end
    assert new.head.databases == {"0": 3, "5": 1}, "the keys that its base has"
    assert (new.head.source, new.head.options, new.head.began_ms) == (
        old.head.source,
        old.head.options,
        old.head.began_ms,
    )
    assert moment_ms(made) == moment_ms(name) - 1
    assert (new.end.ended_ms, new.end.skipped) == (old.end.ended_ms, old.end.skipped)
    noted = Gap(start_ms=START + 20, end_ms=START + 40, reason="the source was away")
    covered = coverage_of(opened, new)
    assert covered.gaps == [noted]
    assert covered.noted == (noted,), "one that ended before the first kept moment is left out"


def test_a_database_that_only_changes_filled_is_known_once_its_changes_are_in_the_base() -> None:
    opened = repository()
    made = compact(opened, write(opened, PARTS), before_ms=OURS + 60).made
    assert made
    assert 7 in GenerationContents(opened, made).databases()
    assert as_read(opened, made, START + 70)[7, b"n"] == b"new"


def test_what_has_expired_at_the_first_kept_moment_is_left_out_and_what_expires_later_stays() -> None:
    opened = repository()
    early = put(b"early", b"1", START - 1, expires_ms=START + 5)
    late = put(b"late", b"1", START - 1, expires_ms=START + 15)
    name = write(opened, [Part("base", (early, late), db=0), Part("changes", (), (START, START + 20))])
    made = compact(opened, name, before_ms=OURS + 10).made
    assert made
    base = [record for part in read(opened, made) if part.kind == "base" for record in part.records]
    assert base == [late]


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_random_histories_are_the_same_at_every_kept_moment(data: st.DataObject) -> None:
    parts = data.draw(followed_parts())
    before = data.draw(st.one_of(st.none(), st.integers(START - 5, START + 90)))
    opened = repository()
    name = write(opened, parts)
    try:
        done, refused = compact(opened, name, before_ms=before), ""
    except CatalogError as error:
        done, refused = None, str(error)
    if done is None:
        assert "a flush of database" in refused, "the one thing that must not be out of order"
        assert [one.name for one in opened.generations()] == [name]
        same(parts, read(opened, name), 0)
        return
    assert verify_chain(opened, done.made or name) == []
    new = read(opened, done.made or name)
    same(parts, new, done.since_ms)
    at = data.draw(st.sampled_from([moment for moment in moments(parts) if moment >= done.since_ms]))
    expected = {key: value for key, (value, _) in state_at(parts, at)[0].items()}
    assert as_read(opened, done.made or name, at) == expected
    again = compact(opened, done.made or name, before_ms=before)
    same(parts, read(opened, again.made or again.name), again.since_ms)


def test_a_flush_of_database_0_that_stands_behind_functions_does_not_take_them_away() -> None:
    """What the random histories found once: the flush counts at the first kept moment, which is START + 7."""
    parts = [
        Part("base", (put(b"a", b"1", START - 5), put(b"a", b"2", START - 5)), db=0),
        Part("base", (put(b"a", b"3", START - 5, db=1),), db=1),
        Part("changes", (), (START, START)),
        Part("changes", (put(b"a", b"4", START + 1), gone(b"a", START + 1)), None),
        Part("functions", (functions(b"lib", START + 8),)),
        Part("changes", (put(b"a", b"5", START + 7), gone(b"a", START + 7), gone(b"a", START + 16)), None),
        Part(
            "changes",
            (
                flushed(START + 2),
                flushed(START + 19),
                put(b"c", b"6", START + 19, db=1),
                put(b"a", b"7", START + 21),
            ),
            (START + 7, START + 21),
        ),
        Part("changes", (gone(b"d", START + 27, db=1),), (START + 28, START + 35)),
    ]
    opened = repository()
    done = compact(opened, write(opened, parts), before_ms=START - 3)
    assert (done.made is not None, done.since_ms) == (True, START + 7)
    new = read(opened, done.made or "")
    same(parts, new, START + 7)
    assert [state_at(new, START + after)[1] for after in (7, 8, 21, 35)] == [None, b"lib", b"lib", b"lib"]


def test_functions_that_held_only_between_the_compared_moments_are_kept() -> None:
    parts = [
        Part("base", (put(b"a", b"1", START - 5),), db=0),
        Part("changes", (), (START, START)),
        Part("functions", (functions(b"short", START + 31), functions(b"long", START + 33))),
        Part("changes", (flushed(START + 2),), (START + 7, START + 30)),
        Part("functions", (functions(b"long", START + 33),)),
        Part("changes", (), (START + 30, START + 800)),
    ]
    opened = repository()
    done = compact(opened, write(opened, parts), before_ms=OURS + 7)
    assert done.made
    same(parts, read(opened, done.made), START + 7)


def test_one_that_is_being_written_is_told_so_and_left_alone() -> None:
    opened = repository()
    name = write(opened, PARTS, ended=False)
    last = OURS + 70
    with pytest.raises(CatalogError, match=r"being written.*rollover"):
        compact(opened, name, now_ms=lambda: last + LEASE_MS - 1)
    done = compact(opened, name, now_ms=lambda: last + LEASE_MS + 8)
    assert done.made
    assert opened.generation(done.made).status is Status.COMPLETE
    same(PARTS, read(opened, done.made), START)


def test_one_whose_capture_said_that_it_stopped_is_compacted_at_once() -> None:
    opened = repository()
    name = write(opened, PARTS, [{"event": "sealed", "at_ms": START + 71}], ended=False)
    assert compact(opened, name, now_ms=lambda: START + 72).made


def test_one_that_was_gone_on_with_after_it_stopped_is_being_written() -> None:
    opened = repository()
    name = write(opened, PARTS, [{"event": "sealed", "at_ms": START - 5000}], ended=False)
    with pytest.raises(CatalogError, match="being written"):
        compact(opened, name, now_ms=lambda: START + 72)


def test_an_open_one_with_a_tail_that_is_not_covered_ends_with_a_gap() -> None:
    opened = repository()
    parts = [*PARTS, Part("changes", (put(b"t", b"tail", START + 99),), None)]
    lost = {"event": "gap", "start_ms": START + 71, "end_ms": None, "reason": "it went away", "lane": None}
    name = write(opened, parts, [lost, {"event": "sealed", "at_ms": START + 100}], ended=False)
    made = compact(opened, name, now_ms=lambda: START + 101).made
    assert made
    new = opened.generation(made)
    assert (new.status, [gap.reason for gap in new.end.gaps] if new.end else None) == (Status.GAPS, ["it went away"])
    same(parts, read(opened, made), START)


def test_what_cannot_be_compacted_is_refused_with_the_reason() -> None:
    opened = repository()
    plain = GenerationWriter.begin(opened, head(), now_ms=lambda: NOW_MS)
    plain.finish()
    with pytest.raises(CatalogError, match="not followed"):
        compact(opened, plain.name)
    assert followed(opened) == []
    nothing = write(opened, [Part("base", (put(b"a", b"1", START),), db=0)])
    with pytest.raises(CatalogError, match="covers no moment"):
        compact(opened, nothing)
    opened.blobs.delete(f"{nothing}/00000001.json")
    with pytest.raises(CatalogError, match=r"00000001|entries"):
        compact(opened, nothing)


def test_a_dry_run_writes_nothing() -> None:
    opened = repository()
    name = write(opened, PARTS)
    before = opened.blobs.list()
    done = compact(opened, name, before_ms=OURS + 40, dry_run=True)
    assert (done.made, done.since_ms, done.note) == (None, START + 40, None)
    assert opened.blobs.list() == before


def test_a_second_time_there_is_nothing_to_gain() -> None:
    opened = repository()
    made = compact(opened, write(opened, PARTS), before_ms=OURS + 13).made
    assert made
    again = compact(opened, made, before_ms=OURS + 13)
    assert again.made is None
    assert again.note
    assert "nothing to gain" in again.note


def test_a_stop_leaves_the_old_one() -> None:
    opened, stop = repository(), threading.Event()
    name = write(opened, PARTS)
    with pytest.raises(Halted, match="as it was"):
        compact(opened, name, stop=stop, progress=lambda _: stop.set())
    assert [one.name for one in opened.generations()] == [name]


def test_the_passes_of_a_polled_source_stay_apart() -> None:
    opened = repository()
    parts = [Part("base", (put(b"a", b"0", START),), (START, START), 0)]
    passes = range(START + 10, START + 60, 10)
    parts += [Part("changes", (put(b"a", b"%d" % at, at - 2),), (at, at)) for at in passes]
    name = write(opened, parts, follow="poll")
    done = compact(opened, name, before_ms=OURS + 18)
    assert done.made
    new = read(opened, done.made)
    same(parts, new, START + 20)
    assert len(new) < len(parts)


def test_segments_stay_of_a_bounded_size(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compact_plan, "SEGMENT_BYTES", 400)
    opened = repository()
    ticks = range(0, 200, 10)
    parts = [Part("base", (put(b"a", b"0", START),), (START, START), 0)]
    parts += [Part("changes", (put(b"k%d" % at, b"v", START + at + 5),), (START + at, START + at + 10)) for at in ticks]
    made = compact(opened, write(opened, parts)).made
    assert made
    new = read(opened, made)
    same(parts, new, START)
    assert 3 < len(new) <= len(parts) / 2


def test_commands_of_a_stream_are_joined_as_they_came() -> None:
    opened = repository()
    rdb = [Part("rdb", (piece(b"REDIS%d" % n, START),), lane="n1") for n in range(2)]
    commands = [
        Part("commands", (piece(b"c%d" % n, START + n), piece(b"d", START + n)), (START + n, START + n + 1), lane="n1",
             position=f"{'ab' * 20}:{n}")
        for n in range(12)
    ]  # fmt: skip
    after_gap = Part("commands", (piece(b"z", START + 40),), (START + 39, START + 41), lane="n1", position="cd:99")
    name = write(opened, [*rdb, *commands, after_gap], [GAP], follow="psync")
    done = compact(opened, name, before_ms=OURS + 5)
    assert done.made
    assert done.note
    assert (done.since_ms, done.segments) == (START, (15, 4))
    new = read(opened, done.made)
    assert new[:2] == rdb
    assert [one.covers for one in new[2:]] == [(START, START + 12), (START + 39, START + 41)]
    assert [one.position for one in new[2:]] == [f"{'ab' * 20}:11", "cd:99"]
    joined = [record for one in new[2:] for record in one.records]
    assert joined == [record for one in (*commands, after_gap) for record in one.records]
    assert coverage_of(opened, opened.generation(done.made)).gaps[0].reason == "the source was away"


def test_values_in_pieces_and_a_folder_on_disk(tmp_path: Path) -> None:
    opened = Repository.create(LocalBlobs(tmp_path / "backups"))
    large = bytes(range(256)) * (40_000)  # more than one piece
    parts = [
        Part("base", (put(b"large", large, START - 1),), db=0),
        Part("changes", (put(b"a", b"1", START + 1),), (START, START + 10)),
        Part("changes", (put(b"large", large[::-1], START + 15),), (START + 10, START + 20)),
    ]
    done = compact(opened, write(opened, parts), before_ms=OURS + 5)
    assert done.made
    same(parts, read(opened, done.made), START + 5)
    assert (done.bytes[1] or 0) > 0
    folders = {info.name.partition("/")[0] for info in opened.blobs.list()}
    assert folders == {done.made, "repository.json"}
    assert all(isinstance(info, BlobInfo) for info in opened.blobs.list())
