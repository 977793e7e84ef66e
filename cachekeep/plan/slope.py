"""Steady growth of a metric, told from noise, sawteeth, steps and gaps. Pure; called by plan.verdict.

The rate is Theil and Sen's: the median of the slopes between all pairs of points, which a few outliers cannot move.
Growth is steady when all of this holds: enough points in each quarter of the time, each quarter's median clearly above
the last one's (a step or a sawtooth fails here), points close to the line (noise fails here), and no drop at the end
(a restart fails here).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from statistics import median

# Fewer points in a quarter of the time say nothing of it.
_LEAST_IN_QUARTER = 2
_LEAST_POINTS = 10
# More points add work (it grows with their square) and no certainty.
_MOST_POINTS = 60
# What each quarter has to add of the whole rise; an even line adds a third from median to median.
_LEAST_SHARE = 0.12
_MOST_RESIDUAL = 0.15
_MOST_DROP = 0.35
# Points that fill less of the time than this were not watched for long enough.
_LEAST_SPAN = 0.5


@dataclass(frozen=True)
class Growth:
    """per_s: in the values' unit."""

    per_s: float


def steady_growth(
    starts: Sequence[float], values: Sequence[float], *, over_s: float, least_rise: float
) -> Growth | None:
    """The growth of the last over_s seconds before the newest point, or None when it is not steady.

    starts: seconds, ascending. least_rise: a smaller rise is no growth, in the values' unit.
    """
    if not starts:
        return None
    since = starts[-1] - over_s
    points = [(at, value) for at, value in zip(starts, values, strict=True) if at >= since]
    span = points[-1][0] - points[0][0]
    if len(points) < _LEAST_POINTS or span < over_s * _LEAST_SPAN:
        return None
    middles = _middles(points, span)
    if middles is None:
        return None
    rise = middles[-1] - middles[0]
    if rise < least_rise or rise <= 0:
        return None
    if any(later - earlier < _LEAST_SHARE * rise for earlier, later in pairwise(middles)):
        return None
    points = _thinned(points)
    per_s = _rate(points)
    level = median(value - per_s * at for at, value in points)
    residuals = [value - level - per_s * at for at, value in points]
    if median(map(abs, residuals)) > _MOST_RESIDUAL * rise or residuals[-1] < -_MOST_DROP * rise:
        return None
    return Growth(per_s)


def seconds_until(limit: float, value: float, growth: Growth) -> float:
    """How long until value reaches limit at this rate; 0 when it is there."""
    return max(0.0, limit - value) / growth.per_s


def duration_text(seconds: float) -> str:
    """A duration for people, rounded: `3 h`, `25 min`, `12 days`."""
    if seconds < 90:
        return f"{max(1, round(seconds))} s"
    if seconds < 5400:
        return f"{round(seconds / 60)} min"
    if seconds < 2 * 86400:
        return f"{round(seconds / 3600)} h"
    return f"{round(seconds / 86400)} days"


def _middles(points: Sequence[tuple[float, float]], span: float) -> list[float] | None:
    """The medians of the four quarters of the time, or None where one has too few points."""
    quarters: list[list[float]] = [[], [], [], []]
    for at, value in points:
        quarters[min(3, int(4 * (at - points[0][0]) / span))].append(value)
    if min(map(len, quarters)) < _LEAST_IN_QUARTER:
        return None
    return [median(quarter) for quarter in quarters]


def _thinned(points: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """At most _MOST_POINTS of them, evenly taken, the newest among them."""
    if len(points) <= _MOST_POINTS:
        return list(points)
    step = (len(points) - 1) / (_MOST_POINTS - 1)
    return [points[round(number * step)] for number in range(_MOST_POINTS)]


def _rate(points: Sequence[tuple[float, float]]) -> float:
    return median(
        (later[1] - earlier[1]) / (later[0] - earlier[0])
        for number, earlier in enumerate(points)
        for later in points[number + 1 :]
    )
