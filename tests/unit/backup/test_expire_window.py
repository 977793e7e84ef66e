"""Retention by recovery window: every restorable moment of it stays, and nothing that may be being written goes."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from followed_backup import PARTS as PARTS_TO_COMPACT
from followed_backup import START, Part, put, write
from hypothesis import given
from hypothesis import strategies as st
from small_backup import NOW_MS as WRITTEN_MS
from small_backup import head, write_segments

from cachekeep.backup.catalog import Generation, Objects, Repository, Status
from cachekeep.backup.compact import compact
from cachekeep.backup.expire import Keep, KeepError, expire, keep_of, moment_ms, plan
from cachekeep.backup.lease import LEASE_MS, is_alive, last_sign_ms
from cachekeep.backup.writer import GenerationWriter
from cachekeep.blob.memory import MemoryBlobs

NOW = datetime(2026, 11, 22, 21, tzinfo=UTC)
NOW_MS = int(NOW.timestamp() * 1000)
HOUR_MS = 3600 * 1000
OURS = START - 7  # by this machine's clock: the source's is 7 ms ahead
PARTS = [Part("base", (put(b"a", b"1", START - 1),), db=0), Part("changes", (), (START, START + 50))]


def made(status: Status, hours: float) -> Generation:
    """A generation that began so long ago."""
    moment = NOW - timedelta(hours=hours)
    return Generation(f"{moment:%Y%m%dT%H%M%S}.000Z-0000000{status.value[0]}", status, None, None, Objects())


def gone(generations: list[Generation], rule: str, covered: dict[str, int], written: dict[str, int]) -> list[str]:
    return [removal.name for removal in plan(generations, keep_of(rule), NOW_MS, written, covered)]


@pytest.mark.parametrize(
    ("text", "keep"),
    [
        ("window=7d,daily=30,weekly=8", Keep(window_hours=168, daily=30, weekly=8)),
        ("window=12h", Keep(window_hours=12)),
        ("window=36h,last=2", Keep(window_hours=36, last=2)),
    ],
)
def test_a_window_is_read_as_it_is_meant(text: str, keep: Keep) -> None:
    assert keep_of(text) == keep
    assert keep_of(str(keep)) == keep


@pytest.mark.parametrize("text", ["window", "window=", "window=7", "window=7w", "window=0d", "window=1d,window=2h"])
def test_what_is_no_window_is_refused_with_what_there_is(text: str) -> None:
    with pytest.raises(KeepError, match=r"window=7d|twice"):
        keep_of(text)


def test_what_covers_a_moment_of_the_window_stays_however_long_ago_it_began() -> None:
    old, long, newest = (made(Status.COMPLETE, hours) for hours in (300, 200, 1))
    covered = {old.name: NOW_MS - 25 * HOUR_MS, long.name: NOW_MS - 23 * HOUR_MS, newest.name: NOW_MS}
    assert gone([old, long, newest], "window=1d", covered, {}) == [old.name]
    assert gone([old, long, newest], "window=26h", covered, {}) == []


def test_beyond_the_window_the_newest_good_one_of_each_day_stays() -> None:
    every = [made(Status.COMPLETE, hours) for hours in range(0, 24 * 6, 12)]
    covered = {one.name: moment_ms(one.name) + 12 * HOUR_MS for one in every}
    # 21:00 is the newest of its day; the day in which the window begins has its newest one in it.
    left = [one for one in every if one.name not in gone(every, "window=36h,daily=4", covered, {})]
    assert [(NOW_MS - moment_ms(one.name)) // HOUR_MS for one in left] == [0, 12, 24, 36, 48, 72]


def test_a_copy_that_was_not_followed_stays_while_its_end_is_in_the_window() -> None:
    old, inside, newest = (made(Status.COMPLETE, hours) for hours in (30, 20, 1))
    assert gone([old, inside, newest], "window=1d", {}, {}) == [old.name]


def test_an_open_one_counts_as_good_once_it_covers_a_moment() -> None:
    whole, open_ = made(Status.COMPLETE, 24 * 40), made(Status.OPEN, 24 * 30)
    damaged = made(Status.DAMAGED, 24 * 35)
    covers = {open_.name: NOW_MS - 24 * 29 * HOUR_MS}
    assert gone([damaged, open_], "1", covers, {}) == [damaged.name]
    assert gone([damaged, open_], "1", {}, {}) == []
    assert gone([whole, open_], "1", covers, {}) == [], "the newest complete one stays as well"
    assert gone([whole, open_], "1", {}, {}) == []
    later = made(Status.COMPLETE, 24)
    assert gone([whole, open_, later], "1", covers, {}) == [whole.name, open_.name]


def test_an_open_one_that_may_be_being_written_stays_however_long_ago_it_began() -> None:
    live, whole = made(Status.OPEN, 24 * 50), made(Status.COMPLETE, 1)
    assert gone([live, whole], "1", {}, {live.name: NOW_MS - LEASE_MS + 1}) == []
    assert gone([live, whole], "1", {live.name: NOW_MS}, {live.name: NOW_MS - LEASE_MS + 1}) == []
    assert gone([live, whole], "1", {live.name: NOW_MS}, {live.name: NOW_MS - LEASE_MS}) == [live.name]


def test_a_damaged_one_that_covers_a_moment_of_the_window_stays() -> None:
    damaged, whole = made(Status.DAMAGED, 30), made(Status.COMPLETE, 1)
    assert gone([damaged, whole], "window=1d", {damaged.name: NOW_MS - 5 * HOUR_MS}, {}) == []
    assert gone([damaged, whole], "window=4h", {damaged.name: NOW_MS - 5 * HOUR_MS}, {}) == [damaged.name]


@given(
    st.lists(
        st.tuples(st.sampled_from(Status), st.integers(0, 600), st.integers(-1, 200), st.integers(0, 60)),
        max_size=12,
        unique_by=lambda one: one[1],
    ),
    st.sampled_from(["window=1d", "window=7d,daily=3", "window=12h,last=1", "window=2d,weekly=2"]),
)
def test_no_restorable_moment_of_the_window_is_lost(ages: list[tuple[Status, int, int, int]], rule: str) -> None:
    generations, covered, written = [], {}, {}
    for status, hours, covered_h, silent_h in ages:
        one = made(status, hours)
        generations.append(one)
        if covered_h >= 0:
            covered[one.name] = min(NOW_MS, moment_ms(one.name) + covered_h * HOUR_MS)
        written[one.name] = NOW_MS - silent_h * HOUR_MS
    removed = gone(generations, rule, covered, written)
    since_ms = NOW_MS - keep_of(rule).window_hours * HOUR_MS
    for one in generations:
        if covered.get(one.name, 0) >= since_ms:
            assert one.name not in removed
        if one.status in (Status.OPEN, Status.UNFINISHED) and written[one.name] > NOW_MS - LEASE_MS:
            assert one.name not in removed
    good = [
        one
        for one in generations
        if one.status is Status.COMPLETE or (one.status is Status.OPEN and one.name in covered)
    ]
    assert not good or max(one.name for one in good) not in removed
    left = [one for one in generations if one.name not in removed]
    assert gone(left, rule, covered, written) == [], "the same rule finds nothing more to remove"


def test_an_idle_open_one_stays_while_its_entries_say_that_it_lives() -> None:
    repository = Repository.create(MemoryBlobs())
    name = write(repository, PARTS, ended=False)
    later = GenerationWriter.begin(repository, head(), now_ms=lambda: WRITTEN_MS + LEASE_MS // 2)
    write_segments(later)
    later.finish(ended_ms=WRITTEN_MS + LEASE_MS // 2)
    one = repository.generation(name)
    assert last_sign_ms(repository, one) == START + 50, "what its last entry covers, though it has no record"
    last_ms = OURS + 50 + 7 + LEASE_MS
    assert expire(repository, keep_of("1"), now_ms=lambda: last_ms - 1) == []
    assert [removal.name for removal in expire(repository, keep_of("1"), now_ms=lambda: last_ms)] == [name]


def test_a_line_of_the_log_is_a_sign_of_life_and_a_sealed_one_is_the_last() -> None:
    repository = Repository.create(MemoryBlobs())
    away = [{"event": "interruption", "start_ms": START + 900, "end_ms": START + 1900, "reason": "away"}]
    living = repository.generation(write(repository, PARTS, away, ended=False))
    assert last_sign_ms(repository, living) == START + 1900
    stopped = repository.generation(write(repository, PARTS, [{"event": "sealed", "at_ms": START + 60}], ended=False))
    assert last_sign_ms(repository, stopped) is None
    assert not is_alive(stopped, None, START + 61)
    GenerationWriter.resume(repository, stopped.name).log([{"event": "resumed", "at_ms": START + 70}])
    assert last_sign_ms(repository, repository.generation(stopped.name)) == START + 70


def test_expire_reads_what_followed_ones_cover() -> None:
    repository = Repository.create(MemoryBlobs())
    old = write(repository, PARTS)
    newer = GenerationWriter.begin(repository, head(), now_ms=lambda: WRITTEN_MS + 50 * HOUR_MS)
    newer.finish(ended_ms=WRITTEN_MS + 50 * HOUR_MS)
    edge_ms = OURS + 50 + 24 * HOUR_MS
    assert expire(repository, keep_of("window=1d"), now_ms=lambda: edge_ms) == []
    # It ended later than what it covers: its end does not count.
    assert [one.name for one in expire(repository, keep_of("window=1d"), dry_run=True, now_ms=lambda: edge_ms + 1)] == [
        old
    ]
    assert [one.name for one in expire(repository, keep_of("window=1d"), now_ms=lambda: edge_ms + 1)] == [old]
    assert [one.name for one in repository.generations()] == [newer.name]


class Died(BaseException):
    """The process is gone."""


class Undying(MemoryBlobs):
    """Removes nothing: whoever tries dies."""

    def delete(self, name: str) -> None:
        raise Died


def test_what_an_interrupted_compaction_left_counts_as_one_with_its_origin() -> None:
    blobs = Undying()
    repository = Repository.create(blobs)

    def copied(hours: int) -> str:
        began_ms = WRITTEN_MS + hours * HOUR_MS
        writer = GenerationWriter.begin(repository, head(), now_ms=lambda: began_ms)
        writer.finish(ended_ms=began_ms)
        return writer.name

    old, older = copied(-1), copied(-2)
    origin = write(repository, PARTS_TO_COMPACT)
    with pytest.raises(Died):
        compact(repository, origin, before_ms=OURS + 13)
    (twin,) = {one.name for one in repository.generations()} - {old, older, origin}
    now_ms = WRITTEN_MS + 25 * HOUR_MS

    def gone_by(rule: str) -> list[str]:
        found = expire(repository, keep_of(rule), dry_run=True, now_ms=lambda: now_ms)
        return [removal.name for removal in found]

    assert gone_by("last=2") == [older]
    assert gone_by("last=1") == [older, old]
    assert gone_by("last=3") == []
    copied(20)
    assert gone_by("last=2") == [older, old]
    assert gone_by("last=1") == [older, old, twin, origin], "they go together"


def test_what_was_compacted_counts_by_itself_once_its_origin_counts_no_more() -> None:
    origin, twin, older = made(Status.DAMAGED, 3), made(Status.COMPLETE, 4), made(Status.COMPLETE, 50)
    every = [origin, twin, older]
    assert [one.name for one in plan(every, keep_of("1"), NOW_MS, {}, {}, {twin.name: origin.name})] == [older.name]
