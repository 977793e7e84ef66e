"""Moments as users write them, and the generation that has them."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from small_backup import KEY, LANE, NOW_MS, head, upsert

from cachekeep import backups
from cachekeep.backup.catalog import CatalogError, CatalogFault, Repository, Status
from cachekeep.backup.coverage import moment_text
from cachekeep.backup.moments import Moment, MomentError, coverage_of, find, last_moment_ms, moment_of, skew_told
from cachekeep.backup.writer import GenerationWriter, SegmentWriter
from cachekeep.blob.memory import MemoryBlobs

SKEW_MS = 7  # of small_backup.head


class Place:
    """A repository in memory, and followed generations in it that begin a second apart."""

    def __init__(self, secret: Any = None) -> None:
        self.repository = Repository.create(MemoryBlobs(), secret)
        self._began_ms = NOW_MS

    def follow(
        self, *covers: tuple[int, int] | None, method: str | None = "tracking", gaps: Any = (), **more: Any
    ) -> str:
        """Each of covers is an entry; None one that covers nothing. In ms after NOW_MS by the source's clock."""
        finish = more.pop("finish", False)
        options = {"method": "scan", "follow": method, "limits": ["a limit"]} if method else {"method": "scan"}
        made = msgspec.structs.replace(head(), options=options, **more)
        self._began_ms += 1000
        generation = GenerationWriter.begin(self.repository, made, now_ms=lambda: self._began_ms)
        for stretch in (None, *covers):
            with SegmentWriter(generation, "changes" if stretch else "base", LANE, None if stretch else 0) as segment:
                segment.add([upsert(b"k", b"\0\x01v")])
                segment.close(covers=None if stretch is None else (NOW_MS + stretch[0], NOW_MS + stretch[1]))
        if gaps:
            generation.log(
                [{"event": "gap", "start_ms": NOW_MS + a, "end_ms": NOW_MS + b, "reason": c} for a, b, c in gaps]
            )
        if finish:
            generation.finish(ended_ms=self._began_ms + 500)
        return generation.name

    def find(self, after_ms: int, generation: str | None = None) -> tuple[str, int]:
        """after_ms: after NOW_MS by the source's clock; returned likewise."""
        name, at_ms = find(self.repository, Moment(NOW_MS + after_ms - SKEW_MS), generation)
        return name, at_ms - NOW_MS


@pytest.mark.parametrize(
    ("text", "ms"),
    [
        ("2026-11-22T21:00:00.123Z", NOW_MS),
        ("2026-11-22t21:00:00.123z", NOW_MS),
        ("2026-11-22 22:00:00.123+01:00", NOW_MS),
        ("2026-11-22T16:30:00.1239-04:30", NOW_MS),
        ("2026-11-22T21:00:00Z", NOW_MS - 123),
        ("2026-11-22T21:00:00.1Z", NOW_MS - 23),
        ("5m ago", NOW_MS - 300_000),
        ("-90s", NOW_MS - 90_000),
        ("2h30m ago", NOW_MS - 9_000_000),
        ("1d 2h ago", NOW_MS - 93_600_000),
        ("1.5s ago", NOW_MS - 1500),
        ("-20ms", NOW_MS - 20),
        ("9999999999w ago", 0),
    ],
)
def test_moments_are_read_as_they_are_written(text: str, ms: int) -> None:
    assert moment_of(text, NOW_MS) == Moment(ms)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("2026-11-22T21:00:00", "time zone"),
        ("2026-11-22 21:00:00.5", "time zone"),
        ("2026-11-22", "no moment"),
        ("2026-13-22T21:00:00Z", "no moment"),
        ("1969-12-31T23:59:59Z", "before 1970"),
        ("yesterday", "no moment"),
        ("5 minutes ago", "no moment"),
        ("5m", "no moment"),
        ("-5m ago", "no moment"),
        ("5y ago", "no moment"),
        ("1.2.3s ago", "no moment"),
        ("#0", "no moment"),
        ("", "no moment"),
        ("-" + "9" * 400 + "x", "no moment"),
    ],
)
def test_what_is_no_moment_is_refused_with_the_forms(text: str, says: str) -> None:
    with pytest.raises(MomentError, match=says):
        moment_of(text, NOW_MS)


def test_segments_and_the_latest_are_moments() -> None:
    assert moment_of(" latest ", NOW_MS) == Moment()
    assert moment_of("00000012-9f3c1a", NOW_MS) == Moment(segment="00000012-9f3c1a")
    assert moment_of("#12", NOW_MS) == Moment(segment="#12")
    assert moment_of("now", NOW_MS) == Moment()


@pytest.mark.parametrize(
    ("text", "segment", "generation"),
    [
        ("00000012", "#12", None),
        ("00000012.json", "#12", None),
        ("00000012-9f3c1a.seg", "00000012-9f3c1a", None),
        ("20261122T210000.123Z-0123abcd/00000012-9f3c1a", "00000012-9f3c1a", "20261122T210000.123Z-0123abcd"),
        ("20261122T210000.123Z-0123abcd/#7", "#7", "20261122T210000.123Z-0123abcd"),
        ("20261122T210000.123Z-0123abcd#7", "#7", "20261122T210000.123Z-0123abcd"),
        ("20261122T210000.123Z-0123abcd 00000007", "#7", "20261122T210000.123Z-0123abcd"),
    ],
)
def test_a_segment_may_be_named_by_its_number_or_with_its_generation(
    text: str, segment: str, generation: str | None
) -> None:
    assert moment_of(text, NOW_MS) == Moment(segment=segment, generation=generation)


def test_what_is_no_segment_of_a_generation_is_refused_with_the_form() -> None:
    with pytest.raises(MomentError, match=r"20261122T210000\.123Z-0123abcd/#12"):
        moment_of("20261122T210000.123Z-0123abcd/nothing", NOW_MS)
    for text in ("20261122", "00000000", "12"):
        with pytest.raises(MomentError, match="a segment such as #12"):
            moment_of(text, NOW_MS)


def test_a_moment_is_found_in_the_newest_generation_that_covers_it() -> None:
    place = Place()
    old = place.follow((100, 200), (200, 300), finish=True)
    new = place.follow((250, 400))
    assert place.find(100) == (old, 100)
    assert place.find(249) == (old, 249)
    assert place.find(250) == (new, 250)
    assert place.find(400) == (new, 400)
    assert place.find(260, old) == (old, 260)


def test_the_latest_moment_is_that_of_all_generations() -> None:
    place = Place()
    longest = place.follow((100, 900))
    place.follow((200, 300), finish=True)
    assert find(place.repository, Moment()) == (longest, NOW_MS + 900)


def test_a_moment_in_a_gap_is_refused_with_the_nearest_two_and_the_reason() -> None:
    place = Place()
    place.follow((100, 200), (300, 400), gaps=[(200, 300, "the source was restarted")])
    with pytest.raises(CatalogError) as refused:
        place.find(250)
    assert refused.value.fault is CatalogFault.STATE
    before, after = (moment_text(NOW_MS + one - SKEW_MS) for one in (200, 300))
    assert "the source was restarted" in refused.value.what
    assert f"{before} before it and {after} after it" in refused.value.what
    assert refused.value.advice == f"use --at {before} or --at {after}"
    for text, at in ((before, 200), (after, 300)):
        assert find(place.repository, moment_of(text, 0)).at_ms == NOW_MS + at, "what is advised is what works"


@pytest.mark.parametrize(
    ("at", "says"),
    [
        (50, "nothing was followed yet"),
        (250, "nobody followed the source then"),
        (500, "has not come so far"),
    ],
)
def test_a_moment_outside_of_all_generations_says_why(at: int, says: str) -> None:
    place = Place()
    place.follow((100, 200), finish=True)
    place.follow((300, 400))
    with pytest.raises(CatalogError, match=says):
        place.find(at)


def test_a_moment_between_two_polls_is_between_two_passes() -> None:
    place = Place()
    place.follow((100, 100), (200, 200), method="poll")
    assert place.find(200)[1] == 200
    with pytest.raises(CatalogError, match="between two passes"):
        place.find(150)


def test_another_generation_that_has_the_moment_is_named() -> None:
    place = Place()
    old, new = place.follow((100, 200)), place.follow((300, 400))
    with pytest.raises(CatalogError, match=f"{old} has it"):
        place.find(150, new)


def test_a_segment_means_the_moment_up_to_which_it_covers() -> None:
    place = Place()
    name = place.follow((100, 200), (200, 300))
    entries = coverage_of(place.repository, place.repository.generation(name)).entries
    for segment in ("#2", entries[1].segment):
        assert find(place.repository, Moment(segment=segment)) == (name, NOW_MS + 200)
    newer = place.follow((500, 600))
    assert find(place.repository, Moment(segment="#2")).name == newer
    assert find(place.repository, moment_of(f"{name}/00000002", 0)) == (name, NOW_MS + 200)
    assert find(place.repository, moment_of(f"{name}/#2", 0), name) == (name, NOW_MS + 200)
    with pytest.raises(CatalogError, match=f"of {name}, and --id names {newer}"):
        find(place.repository, moment_of(f"{name}/#2", 0), newer)
    with pytest.raises(CatalogError, match="the next one that does is #2"):
        find(place.repository, Moment(segment="#1"))
    with pytest.raises(CatalogError, match="no followed backup has a segment #9"):
        find(place.repository, Moment(segment="#9"))


def test_several_sources_are_not_mixed_up() -> None:
    place = Place()
    one = place.follow((100, 200))
    other = place.follow((100, 200), source="redis://127.64.0.9:6379")
    with pytest.raises(CatalogError, match=r"127\.64\.0\.3.*127\.64\.0\.9.*--id"):
        place.find(150)
    assert place.find(150, one) == (one, 150)
    assert place.find(150, other) == (other, 150)


def test_where_nothing_was_followed_no_moment_can_be_restored() -> None:
    place = Place()
    name = place.follow(method=None, finish=True)
    for generation in (None, name):
        with pytest.raises(CatalogError, match="--follow") as refused:
            find(place.repository, Moment(NOW_MS), generation)
        assert refused.value.fault is CatalogFault.ABSENT


def test_moments_of_this_machine_become_those_of_a_source_with_another_clock() -> None:
    place = Place()
    name = place.follow((100, 200), source_began_ms=NOW_MS + 60_000)
    assert find(place.repository, Moment(NOW_MS + 150 - 60_000), name) == (name, NOW_MS + 150)
    one = place.repository.generation(name)
    assert "60.0 s ahead of" in (skew_told(one.head) or "")
    assert coverage_of(place.repository, one).ours(NOW_MS + 60_000) == moment_text(NOW_MS)
    assert skew_told(head()) is None


def test_the_last_moment_is_had_without_the_entries_before() -> None:
    place = Place()
    one = place.repository.generation(place.follow((100, 200), (200, 300), None))
    for number in (1, 2):
        place.repository.blobs.delete(f"{one.name}/{number:08d}.json")
    assert last_moment_ms(place.repository, one) == NOW_MS + 300
    bare = place.repository.generation(place.follow(None))
    assert last_moment_ms(place.repository, bare) is None


def test_what_lies_behind_a_damaged_entry_is_not_taken_for_covered() -> None:
    place = Place()
    name = place.follow((100, 200), (200, 300), (300, 400))
    damaged = place.repository.blobs.get(f"{name}/00000003.json").replace(b'"changes"', b'"charges"')
    place.repository.blobs.put(f"{name}/00000003.json", damaged)
    covered = coverage_of(place.repository, place.repository.generation(name))
    assert (covered.latest_ms, len(covered.entries)) == (NOW_MS + 200, 2)


def test_gaps_of_a_sealed_repository_are_read_from_its_logs() -> None:
    place = Place(KEY)
    name = place.follow((100, 200), (300, 400), gaps=[(200, 300, "secret reason")])
    (gap,) = coverage_of(place.repository, place.repository.generation(name)).gaps
    assert gap.reason == "secret reason"


def test_the_newest_good_one_is_the_one_that_knows_the_latest_moment() -> None:
    """A copy ends 500 ms after its beginning, and each begins a second after the one before."""
    place = Place()
    followed = place.follow((100, 1400))
    assert backups.generation(place.repository).name == followed
    copy = place.follow(method=None, finish=True)
    assert backups.generation(place.repository).name == copy
    place.follow(None)
    assert backups.generation(place.repository).name == copy, "what covers no moment yet is not good"
    later = place.follow((100, 9000))
    assert backups.generation(place.repository).name == later
    assert backups.generation(place.repository, copy).status is Status.COMPLETE
    assert backups.chosen(place.repository) == (later, None)
    assert backups.chosen(place.repository, at="latest") == (later, NOW_MS + 9000)
    assert backups.chosen(place.repository, followed[:23], "#2") == (followed, NOW_MS + 1400)
