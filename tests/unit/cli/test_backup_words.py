"""Words that backup commands share: numbers with their nouns, nodes; and lines of a log as people read them."""

from __future__ import annotations

import pytest

from cachekeep.backup.coverage import Stretch, longest_between
from cachekeep.cli.backup.catalog import _sentence
from cachekeep.cli.backup.words import counted, where

NOON = 1_795_435_200_000  # 2026-11-23T12:00:00Z


def test_one_is_not_many() -> None:
    assert [counted(number, "key") for number in (0, 1, 2000)] == ["0 keys", "1 key", "2,000 keys"]
    assert [counted(number, "whole pass", "whole passes") for number in (1, 2)] == ["1 whole pass", "2 whole passes"]


def test_the_node_is_named_where_there_are_several() -> None:
    assert [where(lane) for lane in (None, "only", "127.0.0.1:7000")] == ["", "", " (127.0.0.1:7000)"]


@pytest.mark.parametrize(
    ("line", "text"),
    [
        ({"event": "sealed", "at_ms": NOON}, "sealed 2026-11-23T12:00:00Z"),
        (
            {"event": "interruption", "start_ms": NOON, "end_ms": NOON + 5000, "reason": "it went", "lane": "only"},
            "interruption 2026-11-23T12:00:00Z to 2026-11-23T12:00:05Z: it went",
        ),
        (
            {"event": "gap-open", "at_ms": NOON + 9000, "start_ms": NOON, "reason": "gone", "lane": "127.0.0.1:7000"},
            "gap-open 2026-11-23T12:00:00Z: lane 127.0.0.1:7000, gone",
        ),
        ({"event": "skipped", "db": 0, "key": "a", "reason": "no"}, "skipped: db 0, key a, no"),
        ({"event": "other", "until_ms": NOON}, "other: until 2026-11-23T12:00:00Z"),
    ],
)
def test_lines_of_a_log_have_moments_that_people_read(line: dict[str, object], text: str) -> None:
    assert _sentence(line, None) == text


def test_the_recovery_point_is_the_longest_of_the_last_distances() -> None:
    moments = [Stretch(at, at, number) for number, at in enumerate((0, 500_000, 500_040, 500_050))]
    assert longest_between(moments) == 500_000
    assert longest_between(moments, last=3) == 40
    assert longest_between(moments[:1]) is None
