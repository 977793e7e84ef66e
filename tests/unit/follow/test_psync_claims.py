"""Lanes that seal side by side: what their entries say is never less than before, and never more than is durable."""

from __future__ import annotations

import random
from functools import partial

import pytest

from cachekeep.backup.catalog import Repository
from cachekeep.backup.catalog_objects import Head, Lane
from cachekeep.backup.coverage import contradictions, stretches
from cachekeep.backup.writer import GenerationWriter, SegmentWriter
from cachekeep.blob.memory import MemoryBlobs
from cachekeep.codec.record import NO_EXPIRY, Kind, Record
from cachekeep.follow.psync_cover import Cover


def generation(lanes: str) -> GenerationWriter:
    head = Head(
        source="redis://source",
        engine="valkey",
        engine_version="9.1.0",
        mode="cluster",
        lanes=tuple(Lane(lane=lane, run_id="") for lane in lanes),
        databases={},
        began_ms=1,
        source_began_ms=1,
    )
    return GenerationWriter.begin(Repository.create(MemoryBlobs()), head)


def segment(writer: GenerationWriter, lane: str, came_ms: int) -> SegmentWriter:
    made = SegmentWriter(writer, "commands", lane)
    made.add([Record(int(Kind.PIECE), 0, NO_EXPIRY, came_ms, b"", b"x")])
    return made


def test_lanes_that_seal_together_see_each_other_whichever_is_first() -> None:
    cover, writer = Cover("ab"), generation("ab")
    for lane in "ab":
        cover.reach(lane, 50, changed=True)
        segment(writer, lane, 50).close(covers=partial(cover.with_segment, lane, 50))
        cover.kept(lane, 50)
    for lane in "ab":
        cover.reach(lane, 200, changed=True)
    one, other = segment(writer, "a", 200), segment(writer, "b", 200)
    assert other.close(covers=partial(cover.with_segment, "b", 200)).covers == (50, 50)
    assert one.close(covers=partial(cover.with_segment, "a", 200)).covers == (50, 200)
    cover.kept("a", 200)
    assert cover.durable == (50, 50)
    cover.kept("b", 200)
    assert cover.durable == (50, 200)


@pytest.mark.parametrize("seed", range(40))
def test_no_order_of_seals_lets_the_claims_fall_or_durable_run_ahead_of_them(seed: int) -> None:
    draw = random.Random(seed)
    cover, writer = Cover("abc", limited=draw.random() < 0.5), generation("abc")
    sealing: dict[str, tuple[int, SegmentWriter]] = {}
    written: dict[str, int] = {}
    mark: dict[str, int] = {}
    for now_ms in range(1, 400):
        lane = draw.choice("abc")
        match draw.randint(0, 4):
            case 0:
                mark[lane] = now_ms
                cover.reach(lane, now_ms, changed=True)
            case 1:
                cover.allow(now_ms)
            case 2 if lane in mark and lane not in sealing and lane not in written:
                sealing[lane] = mark[lane], segment(writer, lane, mark[lane])
            case 3 if lane in sealing:
                written[lane], made = sealing.pop(lane)
                made.close(covers=partial(cover.with_segment, lane, written[lane]))
            case 4 if lane in written:
                cover.kept(lane, written.pop(lane))
        if durable := cover.durable:
            assert durable[1] <= stretches(writer.entries)[-1].until_ms
    for _, made in sealing.values():
        made.abandon()
    assert contradictions(writer.entries, []) == []
    assert len(writer.entries) > 10


def test_what_became_allowed_after_the_last_entry_is_not_durable_but_unclaimed() -> None:
    cover = Cover("a", limited=True)
    cover.allow(100)
    cover.reach("a", 90, changed=True)
    cover.reach("a", 150, changed=True)
    assert cover.with_segment("a", 150) == (90, 100)
    cover.kept("a", 150)
    assert not cover.unclaimed
    cover.allow(200)
    assert (cover.durable, cover.known, cover.unclaimed) == ((90, 100), (90, 150), True)
    assert cover.with_segment("a", 150) == (90, 150)
    cover.kept("a", 150)
    assert (cover.durable, cover.unclaimed) == ((90, 150), False)


def test_a_mark_is_never_earlier_than_the_one_before() -> None:
    cover = Cover("a")
    cover.go_on((50, 90))
    cover.reach("a", 70, changed=True)
    assert cover.reached("a") == 90
    assert cover.with_segment("a", cover.reached("a")) == (50, 90)
