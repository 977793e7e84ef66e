"""What a running capture shows: table, lines and JSON lines, from statuses alone; and its summary and exit code."""

from __future__ import annotations

import io
import json
import os
import re
import sys
import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from cachekeep.backup.catalog import Repository
from cachekeep.backup.catalog_objects import Head, Lane
from cachekeep.backup.moments import Moment, find
from cachekeep.backup.writer import GenerationWriter, SegmentWriter
from cachekeep.blob.memory import MemoryBlobs
from cachekeep.cli.backup.follow import Captured, Clocks, captured, code_of, summary
from cachekeep.cli.backup.follow_view import (
    JsonLines,
    Lines,
    LiveTable,
    choice_lines,
    line_of,
    moment_of,
    table_of,
    viewed,
)
from cachekeep.cli.backup.words import in_duration
from cachekeep.follow.types import Choice, FollowGap, FollowReport, FollowStatus

NOON = 1_795_435_200_000  # 2026-11-23T12:00:00Z
STATUS = FollowStatus(
    generation="20261123T115500Z-abcdef",
    method="tracking",
    phase="following",
    trouble=None,
    covered_since_ms=NOON,
    covered_until_ms=NOON + 200_123,
    durable_until_ms=NOON + 198_004,
    lag_ms=12.4,
    lag_p99_ms=45.6,
    changes=1_234_567,
    changes_per_s=2999.4,
    keys=1_000_000,
    gaps=2,
    queue_keys=17,
    bytes=5 << 20,
    missed=3,
    passes=4,
    uptime_s=500.0,
)
UNPROVED = replace(STATUS, covered_since_ms=None, covered_until_ms=None, durable_until_ms=None)
CHOICE = Choice("tracking", "CLIENT TRACKING: no PSYNC, since it is denied", ("a limit", "another [limit]"))


class Clock:
    """Seconds that pass when told so."""

    def __init__(self) -> None:
        self.now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


def drawn(status: FollowStatus) -> str:
    out = Console(file=io.StringIO(), width=160)
    out.print(table_of(status))
    assert isinstance(out.file, io.StringIO)
    return " ".join(out.file.getvalue().split())


def events(out: io.StringIO) -> list[dict[str, Any]]:
    return [json.loads(line) for line in out.getvalue().splitlines()]


@pytest.mark.parametrize("show", [line_of, drawn])
def test_every_figure_of_a_status_is_shown(show: Any) -> None:
    text = show(STATUS)
    for fact in (
        *(
            "20261123T115500Z-abcdef",
            "following",
            "tracking",
            "2026-11-23T12:03:20Z, every change since 2026-11-23T12:00:00Z",
        ),
        *("(3 min 20 s)", "durable until 2026-11-23T12:03:18Z", "12 ms", "46 ms", "1,234,567", "2,999/s"),
        *("queue 17", "gaps 2", "5.0 MiB", "missed 3", "4"),
    ):
        assert fact in text, (fact, text)


@pytest.mark.parametrize("show", [line_of, drawn])
def test_what_is_not_known_is_not_shown_as_a_number(show: Any) -> None:
    text = show(replace(UNPROVED, lag_ms=None, lag_p99_ms=None))
    assert "continuity is not proved now" in text
    assert "0 ms" not in text
    assert "1970" not in text
    assert "no moment read yet" in show(replace(UNPROVED, phase="copying"))


@pytest.mark.parametrize("show", [line_of, drawn])
def test_trouble_is_shown_as_it_was_told(show: Any) -> None:
    trouble = "127.0.0.1:6379 [gone] refuses the connection"
    assert trouble in show(replace(STATUS, phase="away", trouble=trouble))


def test_the_choice_has_its_reason_and_every_limit() -> None:
    lines = choice_lines("redis://127.0.0.1:6379", CHOICE, "http://127.0.0.1:9/metrics")
    assert lines[0] == f"following redis://127.0.0.1:6379 by tracking: {CHOICE.why}"
    assert [line.strip() for line in lines[1:]] == [
        "limit: a limit",
        "limit: another [limit]",
        "metrics at http://127.0.0.1:9/metrics",
    ]
    assert not any("metrics" in line for line in choice_lines("x", CHOICE, None))


def test_without_a_terminal_a_line_comes_every_ten_seconds_and_with_each_phase() -> None:
    out, clock = io.StringIO(), Clock()
    lines = Lines(out, clock)
    lines.status(replace(STATUS, phase="copying"))
    clock.now_s += 9
    lines.status(replace(STATUS, phase="copying"))
    lines.status(STATUS)
    clock.now_s += 9.5
    lines.status(STATUS)
    clock.now_s += 0.6
    lines.status(STATUS)
    assert [line.split()[1] for line in out.getvalue().splitlines()] == ["copying", "following", "following"]


def test_news_comes_at_once_with_its_time() -> None:
    out = io.StringIO()
    lines = Lines(out, Clock())
    lines.news("127.0.0.1:6379 went away")
    clock, sentence = out.getvalue().split(" ", 1)
    assert sentence == "127.0.0.1:6379 went away\n"
    assert len(clock) == len("12:00:00Z")


def test_a_program_gets_a_status_a_second() -> None:
    out, clock = io.StringIO(), Clock()
    lines = JsonLines(out, threading.Event(), clock)
    lines.choice("redis://127.0.0.1:6379", CHOICE, None)
    for _ in range(20):
        lines.status(STATUS)
        clock.now_s += 0.25
    lines.news("a new backup began")
    lines.status(replace(STATUS, phase="away", trouble="gone"))
    told = events(out)
    assert [one["event"] for one in told] == ["choice", *["status"] * 5, "news", "status"]
    assert all(one["at"].endswith("Z") for one in told)
    assert told[0]["limits"] == ["a limit", "another [limit]"]
    assert told[1]["covered_until_ms"] == STATUS.covered_until_ms
    assert told[-2]["text"] == "a new backup began"
    assert (told[-1]["phase"], told[-1]["trouble"]) == ("away", "gone")


def test_many_threads_write_whole_json_lines() -> None:
    out = io.StringIO()
    lines = JsonLines(out, threading.Event())
    threads = [threading.Thread(target=lambda: [lines.news("x" * 500) for _ in range(100)] and None) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(events(out)) == 800


def test_a_reader_of_json_lines_that_goes_away_stops_the_capture() -> None:
    reading, writing = os.pipe()
    os.close(reading)
    stop = threading.Event()
    with os.fdopen(writing, "w") as pipe:
        lines = JsonLines(pipe, stop)
        lines.news("nobody hears it")
        assert stop.is_set()
        assert lines.broken
        lines.news("nor this")


def test_a_reader_of_plain_lines_that_goes_away_stops_nothing() -> None:
    reading, writing = os.pipe()
    os.close(reading)
    with os.fdopen(writing, "w") as pipe:
        lines = Lines(pipe)
        lines.news("nobody hears it")
        lines.news("nor this")
        assert os.fstat(pipe.fileno()).st_rdev == Path(os.devnull).stat().st_rdev


def test_on_a_terminal_the_table_lives_below_the_news() -> None:
    out = Console(file=io.StringIO(), width=160, height=40, force_terminal=True, highlight=False)
    live = LiveTable(out)
    with live.live:
        live.choice("redis://127.0.0.1:6379", CHOICE, None)
        live.status(STATUS)
        live.news("a [bold] sentence")
        live.live.refresh()
        assert isinstance(out.file, io.StringIO)
        shown = out.file.getvalue()
    assert "another [limit]" in shown
    assert "a [bold] sentence" in shown
    assert shown.rindex("1,234,567") > shown.rindex("a [bold] sentence")


def test_where_there_is_no_terminal_lines_are_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stderr", io.StringIO())
    with viewed(as_json=False, stop=threading.Event()) as view:
        assert isinstance(view, Lines)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.4, "0 s"), (59.9, "59 s"), (60, "1 min 0 s"), (3661, "1 h 1 min"), (90_061, "1 d 1 h"), (-3, "0 s")],
)
def test_durations_are_for_people(seconds: float, text: str) -> None:
    assert in_duration(seconds) == text


def test_a_moment_is_exact_where_a_command_takes_it() -> None:
    assert moment_of(NOON + 7) == "2026-11-23T12:00:00Z"
    assert moment_of(NOON + 7, exact=True) == "2026-11-23T12:00:00.007Z"


def report(last: FollowStatus = STATUS, gaps: tuple[FollowGap, ...] = ()) -> FollowReport:
    return FollowReport(("20261123T115500Z-abcdef",), CHOICE, gaps, last, ("a note",))


def made(*stretches: tuple[int, int]) -> Captured:
    return Captured(stretches, stretches[-1][1] if stretches else None)


def polled(last: FollowStatus = STATUS, gaps: tuple[FollowGap, ...] = ()) -> FollowReport:
    return replace(report(replace(last, method="poll"), gaps), choice=replace(CHOICE, method="poll"))


@pytest.mark.parametrize("show", [line_of, drawn])
def test_what_was_read_is_told_apart_from_what_survives_a_crash(show: Any) -> None:
    assert re.search(r"read until 2026-11-23T12:03:20Z.*durable until 2026-11-23T12:03:18Z", show(STATUS))
    assert "covered" not in show(STATUS)
    assert "durable" not in show(replace(STATUS, durable_until_ms=None))


@pytest.mark.parametrize("show", [line_of, drawn])
def test_polling_tells_its_recovery_point_and_no_lag(show: Any) -> None:
    text = show(replace(STATUS, method="poll", lag_ms=61_200.0, lag_p99_ms=12_000.0))
    assert "read until 2026-11-23T12:03:20Z, that moment only" in text
    assert re.search("recovery point:? at most 1 min 2 s", text)
    assert "lag" not in text
    assert "at most" not in show(replace(STATUS, method="poll", lag_ms=None, lag_p99_ms=None))
    assert "at most" not in show(replace(STATUS, method="poll", passes=1))


@pytest.mark.parametrize("show", [line_of, drawn])
def test_psync_has_no_passes_and_no_queue_to_show(show: Any) -> None:
    text = show(replace(STATUS, method="psync", gaps=0))
    assert not re.search("pass|queue|missed|keys", text)
    assert re.search("no gaps|gaps none", text)


def test_the_exit_code_is_zero_only_for_proved_continuity_without_gaps() -> None:
    gap = FollowGap(NOON, NOON + 5, "the connection dropped", "only")
    assert code_of(report(), NOON) == 0
    assert code_of(report(gaps=(gap,)), NOON) == 4
    assert code_of(report(UNPROVED), NOON) == 4


def test_a_gap_that_began_before_the_run_is_told_and_is_not_its_fault() -> None:
    gap = FollowGap(NOON - 5000, NOON + 300, "nobody followed the source")
    resumed = report(gaps=(gap,))
    assert code_of(resumed, NOON) == 0
    text = "\n".join(summary(resumed, NOON, made((NOON + 300, NOON + 900)), "place"))
    assert "sealed, continuity proved" in text
    assert "gap since before this run 2026-11-23T11:59:55.000Z to 2026-11-23T12:00:00.300Z: nobody followed" in text


def test_the_summary_says_what_is_covered_what_is_missing_and_how_to_restore() -> None:
    gap = FollowGap(NOON + 1, NOON + 5, "the connection dropped", "only")
    open_gap = FollowGap(NOON + 9, None, "the queue was full")
    text = "\n".join(summary(report(gaps=(gap, open_gap)), NOON, made((NOON, NOON + 198_004)), "my backups"))
    assert "20261123T115500Z-abcdef  sealed, with gaps" in text
    assert "covered 2026-11-23T12:00:00.000Z to 2026-11-23T12:03:18.004Z (3 min 18 s)" in text
    assert "gap 2026-11-23T12:00:00.001Z to 2026-11-23T12:00:00.005Z: the connection dropped\n" in text
    assert "to the end: the queue was full" in text
    assert "cachekeep backup restore 'my backups' TARGET --at 2026-11-23T12:03:18.004Z" in text
    assert "the same call goes on" in text
    assert "a note" in text
    assert "3 changes were found" in text


def test_the_summary_of_an_unfinished_first_copy_promises_nothing() -> None:
    text = "\n".join(summary(report(UNPROVED), NOON, made(), "place"))
    assert "continuity not proved at the end" in text
    assert "no moment can be restored yet" in text
    assert "--at" not in text


def test_a_run_that_added_nothing_does_not_deny_earlier_ones() -> None:
    text = "\n".join(summary(report(UNPROVED), NOON, Captured((), NOON - 5000), "place"))
    assert "this run added no moment" in text
    assert "--at 2026-11-23T11:59:55.000Z" in text
    assert "no moment can be restored yet" not in text


def test_polling_claims_moments_and_no_continuity() -> None:
    moments = made(*[(NOON + at * 1000, NOON + at * 1000) for at in (0, 60, 75)])
    text = "\n".join(summary(polled(), NOON, moments, "place"))
    assert "sealed; polling: 3 moments, nothing is known between them" in text
    assert "proved" not in text
    assert "covered 2026-11-23T12:01:00.000Z, that moment only" in text
    assert "recovery point: at most 1 min 0 s" in text
    assert "no gaps" in text
    assert code_of(polled(), NOON) == 0
    gap = FollowGap(NOON + 1, NOON + 5, "gone")
    assert "sealed, with gaps; polling" in summary(polled(gaps=(gap,)), NOON, moments, "place")[0]


def test_one_is_not_many_and_psync_reads_no_keys() -> None:
    once = replace(STATUS, changes=1, keys=1, passes=1, missed=1)
    text = "\n".join(summary(report(once), NOON, made((NOON, NOON + 1)), "place"))
    assert "1 change by tracking" in text
    assert "1 key read in 1 whole pass, 5.0 MiB" in text
    assert "1 change was found" in text
    by_psync = replace(report(), choice=replace(CHOICE, method="psync"))
    assert "whole pass" not in "\n".join(summary(by_psync, NOON, made((NOON, NOON + 1)), "place"))


def test_the_lane_of_a_server_that_stands_alone_is_not_shown() -> None:
    gaps = tuple(FollowGap(NOON + 1, NOON + 5, "gone", lane) for lane in ("only", "127.0.0.1:7000"))
    text = "\n".join(summary(report(gaps=gaps), NOON, made((NOON, NOON + 9)), "place"))
    assert "gone\n" in text
    assert "(only)" not in text
    assert "gone (127.0.0.1:7000)" in text


def followed(repository: Repository, ahead_ms: int, *covers: tuple[int, int], method: str = "tracking") -> str:
    """A generation whose source's clock is so far ahead; covers by that clock."""
    head = Head(
        source="redis://127.0.0.1:6379",
        engine="valkey",
        engine_version="9.1.0",
        mode="standalone",
        lanes=(Lane(lane="only"),),
        databases={},
        began_ms=NOON,
        source_began_ms=NOON + ahead_ms,
        options={"method": "scan", "databases": None, "match": None, "follow": method, "limits": []},
    )
    writer = GenerationWriter.begin(repository, head)
    for stretch in covers:
        with SegmentWriter(writer, "changes", "only", None) as segment:
            segment.close(covers=stretch)
    return writer.name


def test_what_a_run_captured_is_what_its_generations_cover_by_this_clock_since_it_began() -> None:
    repository = Repository.create(MemoryBlobs())
    ahead = 90_000
    first = followed(
        *(repository, ahead, (NOON + ahead - 900, NOON + ahead + 100), (NOON + ahead + 300, NOON + ahead + 400))
    )
    second = followed(repository, -5000, (NOON - 5000 + 350, NOON - 5000 + 700))
    found = captured(repository, (first, second, "20261123T115500.000Z-00000000"), NOON)
    assert found.stretches == ((NOON, NOON + 100), (NOON + 300, NOON + 700))
    assert found.latest_ms == NOON + 700
    later = captured(repository, (first, second), NOON + 10_000)
    assert (later.stretches, later.latest_ms) == ((), NOON + 700)
    for at_ms in (found.stretches[0][1], found.latest_ms):
        assert find(repository, Moment(at_ms)).name in (first, second)


def test_statuses_and_reports_are_told_by_this_machines_clock() -> None:
    repository = Repository.create(MemoryBlobs())
    name = followed(repository, 3_600_000)
    clocks = Clocks(repository, 7)
    status = clocks.status(replace(STATUS, generation=name))
    moments = (status.covered_since_ms, status.covered_until_ms, status.durable_until_ms)
    assert moments == (NOON - 3_600_000, NOON + 200_123 - 3_600_000, NOON + 198_004 - 3_600_000)
    assert clocks.status(replace(UNPROVED, generation=name)).covered_until_ms is None
    assert clocks.status(replace(STATUS, generation="")).covered_since_ms == NOON - 7
    gaps = (FollowGap(NOON, NOON + 5, "a"), FollowGap(NOON + 9, None, "b"))
    moved = clocks.report(report(replace(STATUS, generation=name), gaps))
    assert [(gap.start_ms, gap.end_ms) for gap in moved.gaps] == [
        (NOON - 3_600_000, NOON + 5 - 3_600_000),
        (NOON + 9 - 3_600_000, None),
    ]
    assert moved.last == status
