"""Short chaos runs with fixed seeds; `make chaos` runs longer ones with others."""

from __future__ import annotations

from ipaddress import IPv4Network
from pathlib import Path

import pytest

from . import report
from .run import Plan, run


@pytest.mark.parametrize(
    ("seed", "seconds", "groups"),
    [pytest.param(1, 20.0, 2, id="short"), pytest.param(2, 90.0, 3, id="long", marks=pytest.mark.slow)],
)
def test_nothing_acknowledged_is_lost_but_by_deaths(
    seed: int, seconds: float, groups: int, tmp_path: Path, loopback_range: IPv4Network
) -> None:
    outcome = run(Plan(seed, seconds, groups), tmp_path, loopback_range)
    assert not outcome.wrong, "\n".join(report.lines(outcome, seed))
