"""Which moments streams cover: what every lane has, and nothing of which nobody knows when it was."""

from __future__ import annotations

from cachekeep.follow.psync_cover import RESOLUTION_MS, Cover


def test_nothing_is_covered_before_every_lane_has_reached_a_mark() -> None:
    cover = Cover(["a", "b"])
    assert cover.reach("a", 100, changed=True) is None
    assert cover.known is None
    cover.reach("b", 130, changed=True)
    assert cover.known is None  # a may have more until 130
    cover.reach("a", 150, changed=True)
    assert cover.known == (130, 130)
    assert cover.durable is None


def test_what_is_durable_is_what_the_slowest_lane_has_kept() -> None:
    cover = Cover(["a", "b"])
    for lane in "ab":
        cover.reach(lane, 100, changed=True)
    assert cover.with_segment("a", 100) is None
    cover.kept("a", 100)
    assert cover.with_segment("b", 100) == (100, 100)
    assert cover.kept("b", 100) == (100, 100)
    cover.reach("a", 300, changed=True)
    cover.reach("b", 200, changed=True)
    assert cover.known == (100, 200)
    assert cover.with_segment("a", 300) == (100, 100)
    cover.kept("a", 300)
    assert cover.kept("b", 200) == (100, 200)


def test_changes_that_came_late_and_together_break_the_stretch() -> None:
    cover = Cover(["a"])
    cover.reach("a", 100, changed=True)
    cover.kept("a", 100)
    later = 100 + RESOLUTION_MS
    assert cover.reach("a", later, changed=True) is None
    cover.kept("a", later)
    after = later + RESOLUTION_MS + 1
    assert cover.reach("a", after, changed=True) == (later, after)
    assert cover.known == (after, after)
    assert cover.with_segment("a", after) == (after, after)


def test_time_without_changes_is_covered_however_long() -> None:
    cover = Cover(["a"])
    cover.reach("a", 100, changed=True)
    assert cover.reach("a", 100 + 1000 * RESOLUTION_MS, changed=False) is None
    assert cover.known == (100, 100 + 1000 * RESOLUTION_MS)


def test_a_second_run_goes_on_with_the_last_stretch() -> None:
    cover = Cover(["a", "b"])
    cover.go_on((50, 90))
    assert cover.durable == (50, 90)
    cover.reach("a", 120, changed=True)
    assert cover.with_segment("a", 120) == (50, 90)
    cover.reach("b", 110, changed=False)
    assert cover.known == (50, 110)


def test_nothing_counts_that_is_later_than_what_is_allowed() -> None:
    cover = Cover(["a"], limited=True)
    cover.reach("a", 100, changed=True)
    assert cover.known is None
    cover.allow(90)
    assert cover.known is None
    cover.allow(140)
    cover.reach("a", 200, changed=True)
    assert cover.known == (100, 140)
