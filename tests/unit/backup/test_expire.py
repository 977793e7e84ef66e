"""Which backups are removed: never the last good one, never one that may be being written."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st
from small_backup import NOW_MS as WRITTEN_MS
from small_backup import head, small, write_segments, write_whole

from cachekeep.backup.catalog import Generation, Objects, Repository, Status
from cachekeep.backup.expire import ALIVE_MS, Keep, KeepError, expire, keep_of, moment_ms, plan
from cachekeep.backup.writer import GenerationWriter
from cachekeep.blob.memory import MemoryBlobs

NOW = datetime(2026, 11, 22, 21, tzinfo=UTC)
NOW_MS = int(NOW.timestamp() * 1000)


def made(status: Status, **ago: float) -> Generation:
    """A generation that began so long ago."""
    moment = NOW - timedelta(**ago)
    return Generation(f"{moment:%Y%m%dT%H%M%S}.000Z-0000000{status.value[0]}", status, None, None, Objects())


def left(generations: list[Generation], rule: str) -> list[Generation]:
    gone = {removal.name for removal in plan(generations, keep_of(rule), NOW_MS)}
    return [one for one in generations if one.name not in gone]


@pytest.mark.parametrize(
    ("text", "keep"),
    [
        ("7", Keep(last=7)),
        ("30d", Keep(days=30)),
        ("last=3, daily=7,weekly=4,monthly=6", Keep(last=3, daily=7, weekly=4, monthly=6)),
        ("30d,monthly=12", Keep(days=30, monthly=12)),
    ],
)
def test_a_rule_is_read_as_it_is_meant(text: str, keep: Keep) -> None:
    assert keep_of(text) == keep
    assert keep_of(str(keep)) == keep


@pytest.mark.parametrize(
    "text", ["", "0", "0d", "last=0", "-1", "daily", "hourly=3", "3,last=4", "daily=7,", "7w", "٣"]
)
def test_what_is_no_rule_is_refused_with_what_there_is(text: str) -> None:
    with pytest.raises(KeepError, match=r"30d|twice"):
        keep_of(text)


def test_the_newest_stay() -> None:
    days = [made(Status.COMPLETE, days=day) for day in range(6)]
    assert left(days, "2") == days[:2]
    assert left(days, "3d") == days[:4]


def test_the_newest_of_each_day_week_and_month_stays() -> None:
    hours = [made(Status.COMPLETE, hours=hour) for hour in range(0, 24 * 90, 8)]
    kept = left(hours, "daily=3,weekly=3,monthly=3")
    assert [moment_ms(one.name) for one in kept] == [
        int(moment.timestamp() * 1000)
        for moment in [
            datetime(2026, 11, 22, 21, tzinfo=UTC),  # a Sunday: day, week and month
            datetime(2026, 11, 21, 21, tzinfo=UTC),
            datetime(2026, 11, 20, 21, tzinfo=UTC),
            datetime(2026, 11, 15, 21, tzinfo=UTC),
            datetime(2026, 11, 8, 21, tzinfo=UTC),
            datetime(2026, 10, 31, 21, tzinfo=UTC),
            datetime(2026, 9, 30, 21, tzinfo=UTC),
        ]
    ]


def test_one_with_gaps_counts_only_while_no_complete_one_covers_its_period() -> None:
    gaps_today, whole_today = made(Status.GAPS, hours=1), made(Status.COMPLETE, hours=2)
    gaps_before = made(Status.GAPS, days=1)
    gaps_old, whole_old = made(Status.GAPS, days=2), made(Status.COMPLETE, days=2, hours=1)
    everything = [gaps_today, whole_today, gaps_before, gaps_old, whole_old]
    assert left(everything, "daily=9") == [whole_today, gaps_before, whole_old]
    assert left(everything, "2") == [gaps_today, whole_today]
    assert left(everything, "9") == [gaps_today, whole_today, whole_old]


def test_the_newest_complete_one_stays_whatever_the_rule() -> None:
    old = made(Status.COMPLETE, days=400)
    newer = [made(Status.GAPS, days=day) for day in range(1, 5)]
    assert old in left([*newer, old], "1")
    assert left([old], "1d") == [old]
    assert left([made(Status.GAPS, days=400)], "1d") != []


def test_what_is_unfinished_or_damaged_goes_once_a_newer_one_is_complete() -> None:
    whole = made(Status.COMPLETE, days=2)
    older = [made(Status.UNFINISHED, days=3), made(Status.DAMAGED, days=4)]
    newer = [made(Status.DAMAGED, days=1), made(Status.UNFINISHED, hours=30)]
    assert left([*newer, whole, *older], "9") == [*newer, whole]
    assert left(older, "1") == older, "nothing better is there"


def test_one_that_may_be_being_written_stays() -> None:
    running, whole = made(Status.UNFINISHED, hours=23), made(Status.COMPLETE, hours=1)
    assert left([whole, running], "1") == [whole, running]
    long_running = made(Status.UNFINISHED, days=9)
    both = [long_running, whole]
    assert [one.name for one in plan(both, keep_of("1"), NOW_MS)] == [long_running.name]
    assert plan(both, keep_of("1"), NOW_MS, {long_running.name: NOW_MS - ALIVE_MS + 1}) == []


@given(
    st.lists(st.tuples(st.sampled_from(Status), st.integers(0, 60 * 24)), max_size=12, unique_by=lambda one: one[1]),
    st.sampled_from(["1", "3d", "last=1,daily=2", "weekly=1", "daily=1,monthly=1"]),
)
def test_a_good_one_is_always_left_and_every_removal_says_why(ages: list[tuple[Status, int]], rule: str) -> None:
    generations = [made(status, hours=hour) for status, hour in ages]
    removals = plan(generations, keep_of(rule), NOW_MS)
    kept = left(generations, rule)
    assert all(removal.reason for removal in removals)
    for status in (Status.COMPLETE, Status.GAPS):
        if any(one.status is Status.COMPLETE for one in generations):
            newest = max(one.name for one in generations if one.status is Status.COMPLETE)
            assert newest in [one.name for one in kept]
        elif any(one.status is status for one in generations):
            assert kept
    again = plan(kept, keep_of(rule), NOW_MS)
    assert again == [], "the same rule finds nothing more to remove"


def test_what_is_planned_is_removed_and_a_dry_run_removes_nothing() -> None:
    blobs = MemoryBlobs()
    old = write_whole(blobs)
    repository = Repository.open(blobs)
    later = GenerationWriter.begin(repository, head(), now_ms=lambda: WRITTEN_MS + ALIVE_MS)
    write_segments(later)
    later.finish()
    assert [removal.name for removal in expire(repository, keep_of("1"), dry_run=True)] == [old]
    assert len(repository.generations()) == 2
    assert [removal.name for removal in expire(repository, keep_of("1"))] == [old]
    assert [one.name for one in repository.generations()] == [later.name]
    assert not blobs.list(old)


def test_an_unfinished_one_that_was_written_to_lately_is_not_removed() -> None:
    blobs, running = small(finished=False)
    repository = Repository.open(blobs)
    later = GenerationWriter.begin(repository, head(), now_ms=lambda: WRITTEN_MS + 3 * ALIVE_MS)
    later.finish()
    assert expire(repository, keep_of("1"), now_ms=lambda: WRITTEN_MS + ALIVE_MS) == []
    assert [one.name for one in expire(repository, keep_of("1"), now_ms=lambda: WRITTEN_MS + 2 * ALIVE_MS)] == [running]
