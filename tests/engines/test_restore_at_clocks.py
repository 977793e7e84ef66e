"""Followed sources restored where clocks differ: expiries move by as much, or stay. Real servers."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from backup_samples import FUTURE_MS, records_of
from followed import VERSION, Story, at, put_back, string
from wrong_clock import WrongClock

from cachekeep.backup.contents import contents_of, open_generation
from cachekeep.backup.diff import diff
from cachekeep.backup.restore import restore
from cachekeep.backup.survey import survey
from cachekeep.host.scratch import LocalScratch
from cachekeep.remote.open import open_remote


@pytest.mark.parametrize("ahead_s", [3600.0, -40.0])
def test_expiries_move_with_a_targets_clock_that_is_wrong(
    pair: Any,
    tmp_path: Path,
    scratch: LocalScratch,
    fresh_address: Callable[..., Any],
    ahead_s: float,
) -> None:
    source, c, target, t = pair
    c.execute_command("SET", "text", 1)
    c.execute_command("PEXPIREAT", "text", FUTURE_MS)
    c.execute_command("HSET", "hash", "f", 1, "g", 2)
    c.execute_command("HPEXPIREAT", "hash", FUTURE_MS, "FIELDS", 1, "f")
    story = Story(tmp_path / "place", source).add("base", at(records_of(c, VERSION), -9), db=0)
    story.add("changes", string(c, b"never", 1, 50), (0, 100))
    with WrongClock.before(fresh_address().host, target, ahead_s) as door:
        remote = open_remote(door.url)
        with open_generation(*story.made, scratch) as contents:
            report = restore(contents, remote, survey(remote))
            again = restore(contents, remote, survey(remote))
            compared = diff(contents, remote, survey(remote))
        living = open_remote(source.url)
        others = diff(contents_of(living, survey(living)), remote, survey(remote))
    expected = FUTURE_MS + ahead_s * 1000
    slack_ms = 900
    assert abs(report.clock_shift_ms - ahead_s * 1000) < slack_ms
    assert abs(t.execute_command("PEXPIRETIME", "text") - expected) < slack_ms
    (field,) = t.execute_command("HPEXPIRETIME", "hash", "FIELDS", 1, "f")
    assert abs(field - expected) < slack_ms
    assert t.execute_command("PEXPIRETIME", "never") == -1
    # A field's expiry is compared exactly, and the distance of the clocks is measured anew.
    assert again.databases[0].kept >= 2
    assert [what for _, key, what in compared.named if key != b"hash"] == []
    assert abs(others.clock_shift_ms - ahead_s * 1000) < slack_ms
    assert [what for _, key, what in others.named if key != b"hash"] == []


def test_a_source_whose_clock_was_wrong_is_restored_by_the_targets(
    pair: Any, tmp_path: Path, scratch: LocalScratch
) -> None:
    source, c, target, t = pair
    c.execute_command("SET", "text", 1)
    c.execute_command("PEXPIREAT", "text", FUTURE_MS)
    story = Story(tmp_path / "place", source, ahead_ms=60_000)
    story.add("base", at(records_of(c, VERSION), -9), db=0).add("changes", string(c, b"b", 1, 50), (0, 100))
    report = put_back(story, target, scratch, 50)
    assert abs(report.clock_shift_ms + 60_000) < 900
    assert abs(t.execute_command("PEXPIRETIME", "text") - (FUTURE_MS - 60_000)) < 900


def test_clocks_less_than_a_second_apart_leave_expiries_as_they_are(
    pair: Any, tmp_path: Path, scratch: LocalScratch, fresh_address: Callable[..., Any]
) -> None:
    source, c, target, t = pair
    c.execute_command("SET", "text", 1)
    c.execute_command("PEXPIREAT", "text", FUTURE_MS)
    story = Story(tmp_path / "place", source, ahead_ms=400)
    story.add("base", at(records_of(c, VERSION), -9), db=0).add("changes", string(c, b"b", 1, 50), (0, 100))
    with WrongClock.before(fresh_address().host, target, 0.1) as door:
        remote = open_remote(door.url)
        with open_generation(*story.made, scratch) as contents:
            assert restore(contents, remote, survey(remote)).clock_shift_ms == 0
    assert t.execute_command("PEXPIRETIME", "text") == FUTURE_MS
