"""The verdict on a continuous backup, and what it does to the verdict on its group."""

from __future__ import annotations

import re
from typing import Any

import pytest

from cachekeep.domain.continuous import Standing
from cachekeep.domain.verdicts import Level
from cachekeep.plan.continuous import backup_verdict
from cachekeep.plan.health import NodeReading, assemble
from cachekeep.plan.verdict import Context

NOW = 1_795_000_000.0
FULL = "no space left on the device"


@pytest.mark.parametrize(
    ("standing", "level", "words"),
    [
        (Standing(NOW - 35), Level.UNKNOWN, "no moment can be restored yet, 35 s after the first copy began"),
        (Standing(NOW - 9e5), Level.UNKNOWN, "no moment can be restored yet"),
        (Standing(NOW - 60, True, NOW - 3), Level.SAFE, "3 s; running since 2026-11-18 11:05:40 UTC"),
        (Standing(NOW - 60, True, NOW + 5), Level.SAFE, "0 s; running since"),
        (Standing(NOW - 60, False, NOW - 3), Level.SAFE, "3 s; begun again, and not following yet"),
        (Standing(NOW - 9e5, True, NOW - 119), Level.SAFE, "119 s"),
        (Standing(NOW - 9e5, True, NOW - 120), Level.WARNING, "120 s; running since"),
        (Standing(NOW - 9e5, True, NOW - 600), Level.RISK, "600 s"),
        (Standing(NOW - 2, False, NOW - 20, trouble=FULL), Level.WARNING, f"not running since .*: {FULL}"),
        (Standing(NOW - 2, trouble=FULL), Level.WARNING, f"is warning: not running since .*: {FULL}"),
        (Standing(NOW - 600, trouble=FULL), Level.RISK, FULL),
        (Standing(NOW - 600, False, NOW - 700, trouble=FULL), Level.RISK, f"700 s; not running since .*: {FULL}"),
    ],
)
def test_a_backup_is_judged_by_how_far_behind_it_is(standing: Standing, level: Level, words: str) -> None:
    verdict = backup_verdict(standing, NOW)
    assert verdict.level is level
    assert pytest.approx(standing.lag_s(NOW)) == verdict.number
    assert re.search(words, verdict.sentence), verdict.sentence
    assert verdict.cause == standing.trouble
    assert bool(verdict.next) == (level in (Level.WARNING, Level.RISK))


def report(standing: Standing | None, **trouble: str) -> dict[str, Any]:
    nodes = [NodeReading("demo-001", Context(NOW, {}, "primary", trouble=trouble.get("trouble")))]
    verdict = None if standing is None else backup_verdict(standing, NOW)
    return assemble("demo", "us-east-1", NOW, nodes, (), verdict)


def test_a_group_is_no_better_than_its_backup() -> None:
    found = report(Standing(NOW - 600, False, NOW - 700, trouble=FULL))
    assert (found["level"], found["exit_code"], found["sentence"]) == ("risk", 2, "risk: Continuous Backup")
    assert found["continuous_backup"]["cause"] == FULL


def test_a_backup_that_goes_well_says_nothing_of_the_nodes() -> None:
    well = Standing(NOW - 60, True, NOW - 3)
    assert report(well)["level"] == report(None)["level"] == "unknown"
    silent = report(well, trouble="it does not answer")
    assert (silent["level"], silent["continuous_backup"]["level"]) == ("unknown", "safe")
    assert report(None)["continuous_backup"] is None
