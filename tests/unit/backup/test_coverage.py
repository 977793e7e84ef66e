"""Stretches of entries, the gaps between them, and claims that cannot be true."""

from __future__ import annotations

from cachekeep.backup.catalog_objects import Entry, Gap
from cachekeep.backup.coverage import (
    UNSAID,
    Stretch,
    contradictions,
    gap_of,
    gaps_of,
    last_entry_for,
    moment_text,
    nearest,
    stretches,
    unexplained,
)


def entry(number: int, covers: tuple[int, int] | None = None, kind: str = "changes", **more: object) -> Entry:
    known = {"first_ms": None, "last_ms": None, "lane": "only"} | more
    return Entry(
        number=number,
        segment=f"{number:08d}-9f3c1a",
        kind=kind,  # type: ignore[arg-type]
        db=None,
        cursor=None,
        bytes=1,
        digest="0" * 64,
        frames=1,
        records=1,
        previous="0" * 64,
        covers=covers,
        **known,  # type: ignore[arg-type]
    )


def gap(start_ms: int, end_ms: int | None, reason: str = "the source was away", lane: str | None = None) -> Gap:
    return Gap(start_ms=start_ms, end_ms=end_ms, reason=reason, lane=lane)


def test_stretches_that_touch_are_one_and_a_hole_makes_two() -> None:
    entries = [entry(1, kind="base"), entry(2, (100, 200)), entry(3, (200, 300)), entry(4), entry(5, (301, 400))]
    assert stretches(entries) == [Stretch(100, 300, 3), Stretch(301, 400, 5)]
    assert stretches(entries[:1]) == []


def test_the_nearest_restorable_moments_are_those_on_both_sides_of_a_hole() -> None:
    found = [Stretch(100, 200, 1), Stretch(300, 300, 2)]
    assert nearest(found, 150) == (150, 150)
    assert nearest(found, 250) == (200, 300)
    assert nearest(found, 99) == (None, 100)
    assert nearest(found, 301) == (300, None)
    assert nearest([], 1) == (None, None)


def test_a_moment_needs_the_entries_up_to_the_first_that_covers_it() -> None:
    entries = [entry(1, kind="base"), entry(2, (100, 200)), entry(3, (200, 300))]
    assert [last_entry_for(entries, moment) for moment in (99, 100, 200, 201, 301)] == [None, 2, 2, 3, None]


def test_a_hole_has_the_reason_that_the_log_notes_for_it() -> None:
    found = [Stretch(100, 200, 1), Stretch(300, 400, 2), Stretch(500, 600, 3)]
    noted = [gap(200, 300, lane="a"), gap(210, 290, "it was restarted", lane="a"), gap(650, None, "nobody runs")]
    assert gaps_of(found, noted) == [
        gap(200, 300, "the source was away; it was restarted", "a"),
        gap(400, 500, UNSAID),
        gap(650, None, "nobody runs"),
    ]
    assert len(unexplained(gaps_of(found, noted))) == 1


def test_a_gap_in_which_a_run_ended_explains_the_hole_that_it_began_and_no_later_one() -> None:
    found = [Stretch(10_000, 20_000, 1), Stretch(30_000, 40_000, 2), Stretch(50_000, 60_000, 3)]
    assert gaps_of(found, [gap(20_000, None, "stopped")]) == [
        gap(20_000, 30_000, "stopped"),
        gap(40_000, 50_000, UNSAID),
    ]


def test_between_two_polls_is_no_gap_unless_one_is_noted() -> None:
    found = [Stretch(100, 100, 1), Stretch(200, 200, 2), Stretch(300, 300, 3)]
    assert gaps_of(found, [], polled=True) == []
    assert gaps_of(found, [gap(210, 290)], polled=True) == [gap(200, 300)]


def test_claims_that_agree_with_each_other_and_the_log_are_not_contradicted() -> None:
    entries = [
        entry(1, kind="base", first_ms=10, last_ms=90),
        entry(2, (100, 200), first_ms=20, last_ms=180),
        entry(3, (200, 300)),
        entry(4, (400, 500)),
    ]
    assert contradictions(entries, [gap(300, 400), gap(500, None)]) == []


def test_claims_that_cannot_be_true_are_named_with_their_entry() -> None:
    backwards = [entry(1, (200, 100))]
    shrinking = [entry(1, (100, 300)), entry(2, (100, 200))]
    too_early = [entry(1, kind="base", first_ms=10, last_ms=9000), entry(2, (100, 9500))]
    assert [[number for number, _ in contradictions(one, [])] for one in (backwards, shrinking, too_early)] == [
        [1],
        [2],
        [2],
    ]
    ((number, what),) = contradictions([entry(1, (100, 300))], [gap(150, 200)])
    assert number is None
    assert "the source was away" in what


def test_nodes_with_clocks_of_their_own_do_not_contradict_a_stretch() -> None:
    entries = [
        entry(1, kind="base", first_ms=10, last_ms=9000, lane="a"),
        entry(2, kind="base", first_ms=10, last_ms=90, lane="b"),
        entry(3, (100, 9500), lane="a"),
    ]
    assert contradictions(entries, []) == []


def test_a_line_of_a_log_is_a_gap_or_none() -> None:
    line = {"event": "gap", "at_ms": 5, "start_ms": 1, "end_ms": None, "reason": "why", "lane": None}
    assert gap_of(line) == gap(1, None, "why")
    assert gap_of({"event": "interruption", "start_ms": 1, "end_ms": 2, "reason": "why", "lane": "only"}) is None
    assert gap_of({"event": "gap"}) is None


def test_a_moment_is_written_to_the_millisecond() -> None:
    assert moment_text(1_795_381_200_007) == "2026-11-22T21:00:00.007Z"
    assert moment_text(0) == "1970-01-01T00:00:00.000Z"
    assert moment_text(1 << 62) == f"{1 << 62} ms after 1970"
