"""Steady growth, and what only looks like it."""

from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cachekeep.plan.slope import Growth, duration_text, seconds_until, steady_growth

HOUR = 3600.0
MINUTES = [60.0 * at for at in range(60)]
seeds = st.integers(0, 2**32)


def growth(values: list[float], starts: list[float] | None = None, least_rise: float = 1.0) -> Growth | None:
    return steady_growth(starts or MINUTES[: len(values)], values, over_s=HOUR, least_rise=least_rise)


@given(seeds, st.floats(2, 1e6), st.floats(-1e6, 1e6))
@settings(max_examples=60, deadline=None)
def test_a_line_with_some_noise_grows_at_its_rate(seed: int, rise: float, base: float) -> None:
    draw = random.Random(seed)
    found = growth([base + rise * at / 59 + draw.uniform(-0.05, 0.05) * rise for at in range(60)])
    assert found is not None
    assert found.per_s == pytest.approx(rise / MINUTES[-1], rel=0.2)


@given(seeds)
@settings(max_examples=60, deadline=None)
def test_gaps_do_not_hide_growth(seed: int) -> None:
    draw = random.Random(seed)
    kept = sorted(
        {0, 59, *draw.sample(range(0, 15), 7), *draw.sample(range(15, 30), 7), *draw.sample(range(30, 60), 20)}
    )
    found = growth([float(at) for at in kept], [60.0 * at for at in kept])
    assert found is not None
    assert found.per_s == pytest.approx(1 / 60)


@given(st.lists(st.floats(0, 1), min_size=1, max_size=60))
def test_what_moves_less_than_the_least_rise_does_not_grow(values: list[float]) -> None:
    assert growth(values, least_rise=1.01) is None


@given(seeds, st.floats(1, 1e6))
@settings(max_examples=100, deadline=None)
def test_noise_does_not_grow(seed: int, size: float) -> None:
    draw = random.Random(seed)
    # Pairs that mirror each other: no seed can make a trend of them.
    noise = [sign * draw.uniform(0.2, 1) * size for _ in range(30) for sign in (1, -1)]
    assert growth(noise, least_rise=0.0) is None


@given(st.integers(2, 15), st.floats(1, 1000), st.integers(0, 59))
def test_a_sawtooth_does_not_grow(teeth: int, size: float, phase: int) -> None:
    length = 60 / teeth
    assert growth([size * ((at + phase) % length) for at in range(60)]) is None


@given(st.integers(0, 60), st.floats(1, 1e9))
def test_a_step_does_not_grow(at: int, size: float) -> None:
    assert growth([0.0] * at + [size] * (60 - at)) is None


@given(st.integers(1, 30))
def test_a_restart_ends_growth(since: int) -> None:
    assert growth([float(at) for at in range(60 - since)] + [float(at) for at in range(since)]) is None


@given(st.lists(st.floats(-1e6, 1e6), min_size=10, max_size=60))
def test_nothing_grows_both_ways(values: list[float]) -> None:
    assert growth(values) is None or growth(values[::-1]) is None


def test_a_few_points_say_nothing() -> None:
    assert growth([]) is None
    assert growth([float(at) for at in range(9)]) is None
    assert growth([float(at) for at in range(20)]) is None, "a third of the time"
    assert growth([5.0, *map(float, range(50, 60))], [0.0, *MINUTES[50:60]]) is None, "a gap with one point before it"


def test_a_long_history_is_thinned_and_only_its_end_counts() -> None:
    values = [1000.0 - at for at in range(7200)] + [float(at) for at in range(3600)]
    found = steady_growth(range(len(values)), values, over_s=3500, least_rise=1)
    assert found is not None
    assert found.per_s == pytest.approx(1)


def test_the_time_until_full_is_told_in_words() -> None:
    rate = Growth(0.001)
    assert seconds_until(100, 89.2, rate) == pytest.approx(10800)
    assert seconds_until(100, 120, rate) == 0
    assert [duration_text(s) for s in (0, 60, 600, 10800, 864000)] == ["1 s", "60 s", "10 min", "3 h", "10 days"]
