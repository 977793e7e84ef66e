"""Lag in time from offsets."""

from __future__ import annotations

import pytest

from cachekeep.monitor.lag import UNHEARD_S, PrimaryOffsets


@pytest.fixture
def offsets() -> PrimaryOffsets:
    made = PrimaryOffsets()
    for at, offset in ((10, 100), (11, 100), (12, 300), (13, 500)):
        made.see(at, offset)
    return made


@pytest.mark.parametrize(
    ("offset", "lag"), [(500, 0.0), (900, 0.0), (300, 1.5), (400, 1.0), (100, 2.5), (200, 2.0), (50, 3.5)]
)
def test_lag_is_the_time_since_the_primary_had_that_offset(offsets: PrimaryOffsets, offset: int, lag: float) -> None:
    assert offsets.lag_s(13.5, offset) == pytest.approx(lag)


def test_who_follows_a_primary_that_is_not_heard_of_falls_behind(offsets: PrimaryOffsets) -> None:
    assert offsets.lag_s(13.0 + UNHEARD_S, 500) == 0.0
    assert offsets.lag_s(73.0, 500) == 60.0


def test_without_a_primary_nothing_is_known() -> None:
    assert PrimaryOffsets().lag_s(1.0, 5) is None


def test_a_stream_that_starts_anew_forgets_the_old_one(offsets: PrimaryOffsets) -> None:
    offsets.see(14, 0)
    assert offsets.lag_s(15.0, 0) == 0.0
