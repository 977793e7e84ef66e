"""The functions of metric math over time series: pure, and one pass of plain Python per point at most.

Called by plan.metric_math. A point that cannot be computed (a division by zero, a missing operand) is absent.
Source: CloudWatch guide "Using math expressions with CloudWatch metrics", table of functions.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from itertools import pairwise
from typing import Final, TypeAlias

from cachekeep.plan.metric_math_parse import MathError


@dataclass(frozen=True)
class Series:
    """One time series. starts: seconds since 1970, ascending; period: seconds. Both sequences are of one length."""

    label: str
    period: int
    starts: Sequence[int]
    values: Sequence[float]


@dataclass(frozen=True)
class Window:
    """What is asked for: start <= point < end, in seconds since 1970."""

    start: int
    end: int

    def grid(self, period: int) -> range:
        return range(-(-self.start // period) * period, self.end, period)


Value: TypeAlias = "float | Series | tuple[Series, ...]"
_Numbers = Callable[[float, float], float]


def _power(left: float, right: float) -> float:
    found = left**right
    return found if isinstance(found, float) else math.nan  # a root of a negative number


OPERATORS: Final[Mapping[str, _Numbers]] = {
    "+": operator.add,
    "-": operator.sub,
    "*": operator.mul,
    "/": operator.truediv,
    "^": _power,
    "<": lambda a, b: float(a < b),
    ">": lambda a, b: float(a > b),
    "<=": lambda a, b: float(a <= b),
    ">=": lambda a, b: float(a >= b),
    "==": lambda a, b: float(a == b),
    "!=": lambda a, b: float(a != b),
    "&&": lambda a, b: float(bool(a) and bool(b)),
    "||": lambda a, b: float(bool(a) or bool(b)),
}


def combine(sign: str, left: Value, right: Value) -> Value:
    """An operator between numbers, series and arrays; of two series where both have a point."""
    compute = OPERATORS[sign]
    if isinstance(left, tuple):
        if isinstance(right, tuple):
            raise MathError(f"The operator {sign} cannot be applied to two arrays of time series")
        return tuple(_series(combine(sign, item, right)) for item in left)
    if isinstance(right, tuple):
        return tuple(_series(combine(sign, left, item)) for item in right)
    if isinstance(left, Series) and isinstance(right, Series):
        starts, a, b = aligned(left, right)
        return _computed(left, starts, compute, a, b, max(left.period, right.period))
    if isinstance(left, Series):
        assert not isinstance(right, Series)  # noqa: S101 - for the type checker
        return _computed(left, left.starts, compute, left.values, (right,) * len(left.values), left.period)
    if isinstance(right, Series):
        return _computed(right, right.starts, compute, (left,) * len(right.values), right.values, right.period)
    try:
        return finite(compute(left, right))
    except (ZeroDivisionError, OverflowError):
        raise MathError(f"{left:g} {sign} {right:g} cannot be computed") from None


def aligned(left: Series, right: Series) -> tuple[Sequence[int], Sequence[float], Sequence[float]]:
    """The times at which both have a point, and the values of each there."""
    if left.starts is right.starts or left.starts == right.starts:
        return left.starts, left.values, right.values
    at = dict(zip(right.starts, right.values, strict=True))
    kept = [(s, v, at[s]) for s, v in zip(left.starts, left.values, strict=True) if s in at]
    return [k[0] for k in kept], [k[1] for k in kept], [k[2] for k in kept]


def _computed(
    like: Series, starts: Sequence[int], compute: _Numbers, a: Sequence[float], b: Sequence[float], period: int
) -> Series:
    try:
        values = list(map(compute, a, b))
    except (ZeroDivisionError, OverflowError):
        safe = _ratio if compute is operator.truediv else partial(_or_nan, compute)
        values = list(map(safe, a, b))
    return _kept(Series(like.label, period, starts, values))


def _ratio(left: float, right: float) -> float:
    """An exception for each point would take ten times as long."""
    return left / right if right else math.nan


def _or_nan(compute: _Numbers, left: float, right: float) -> float:
    try:
        return compute(left, right)
    except (ZeroDivisionError, OverflowError):
        return math.nan


def _kept(series: Series) -> Series:
    """Without the points that are no numbers."""
    if all(map(math.isfinite, series.values)):
        return series
    pairs = [(s, v) for s, v in zip(series.starts, series.values, strict=True) if math.isfinite(v)]
    return Series(series.label, series.period, [p[0] for p in pairs], [p[1] for p in pairs])


def finite(value: float) -> float:
    """The number itself. Raises MathError for what is none."""
    if not math.isfinite(value):
        raise MathError("The result is not a number")
    return value


def _series(value: Value) -> Series:
    assert isinstance(value, Series)  # noqa: S101 - an operator gives a series for a series
    return value


def _deviation(values: Sequence[float]) -> float:
    """Of the population. In two passes of floats: the exact one of the standard library takes six times as long."""
    mean = math.fsum(values) / len(values)
    return math.sqrt(math.fsum([(value - mean) * (value - mean) for value in values]) / len(values))


# Of one series, point by point.
EACH: Final[Mapping[str, Callable[[float], float]]] = {
    "ABS": abs,
    "CEIL": lambda v: float(math.ceil(v)),
    "FLOOR": lambda v: float(math.floor(v)),
    "LOG": lambda v: math.log(v) if v > 0 else math.nan,
    "LOG10": lambda v: math.log10(v) if v > 0 else math.nan,
}
# Of all points of a series, to a number; and of an array, at each time over those that have a point there.
FOLDS: Final[Mapping[str, Callable[[Sequence[float]], float]]] = {
    "SUM": math.fsum,
    "AVG": lambda values: math.fsum(values) / len(values),
    "MIN": min,
    "MAX": max,
    "STDDEV": _deviation,
}


def each(name: str, series: Series) -> Series:
    return _kept(Series(series.label, series.period, series.starts, list(map(EACH[name], series.values))))


def number_of(name: str, number: float) -> float:
    """One of EACH, of a number."""
    return finite(EACH[name](number))


def number_of_all(name: str, values: Sequence[float]) -> float:
    """One of FOLDS, of numbers."""
    return finite(summary(name, values))


def summary(name: str, values: Sequence[float]) -> float:
    """One of FOLDS, of the points of a series; not a number where there is none."""
    try:
        return FOLDS[name](values)
    except (OverflowError, ValueError):  # a sum beyond what a number can be
        return math.nan


def fold(name: str, value: Series | tuple[Series, ...]) -> Value:
    compute = partial(summary, name)
    if isinstance(value, Series):
        if not value.values:
            raise MathError(f"{name} of a time series without datapoints has no value")
        return finite(compute(value.values))
    if not value:
        return Series(name, 60, (), ())
    period = max(item.period for item in value)
    if same_times(value):
        starts = value[0].starts
        columns = zip(*(item.values for item in value), strict=True)
        return _kept(Series(name, period, starts, [compute(at) for at in columns]))
    found: dict[int, list[float]] = {}
    for item in value:
        for start, number in zip(item.starts, item.values, strict=True):
            found.setdefault(start, []).append(number)
    times = sorted(found)
    return _kept(Series(name, period, times, [compute(found[start]) for start in times]))


def same_times(series: Sequence[Series]) -> bool:
    """Whether all have their points at the same times; so for none at all."""
    return all(one.starts == series[0].starts for one in series)


def differences(name: str, series: Series) -> Series:
    """DIFF, RATE and DIFF_TIME: from each point to the next; the first has none."""
    starts, values = series.starts, series.values
    seconds = [float(b - a) for a, b in pairwise(starts)]
    if name == "DIFF_TIME":
        return Series(series.label, series.period, starts[1:], seconds)
    steps = [b - a for a, b in pairwise(values)]
    if name == "RATE":
        steps = [step / span for step, span in zip(steps, seconds, strict=True)]
    return _kept(Series(series.label, series.period, starts[1:], steps))


def running_sum(series: Series) -> Series:
    total, sums = 0.0, []
    for value in series.values:
        total += value
        sums.append(total)
    return _kept(Series(series.label, series.period, series.starts, sums))


_PARTS: Final[Mapping[str, Callable[[datetime], float]]] = {
    "MINUTE": lambda at: at.minute,
    "HOUR": lambda at: at.hour,
    "DAY": lambda at: at.isoweekday(),
    "DATE": lambda at: at.day,
    "MONTH": lambda at: at.month,
    "YEAR": lambda at: at.year,
    "EPOCH": lambda at: at.timestamp(),
}
TIME_PARTS: Final = frozenset(_PARTS)


def time_part(name: str, series: Series) -> Series:
    """In UTC. DAY: Monday is 1, Sunday 7."""
    part = _PARTS[name]
    values = [float(part(datetime.fromtimestamp(start, UTC))) for start in series.starts]
    return Series(series.label, series.period, series.starts, values)


def fill(series: Series, filler: float | str | Series, window: Window) -> Series:
    """Each period of the window without a point gets one: a number, or REPEAT or LINEAR of its neighbours."""
    known = dict(zip(series.starts, series.values, strict=True))
    grid = sorted({*window.grid(series.period), *series.starts})
    if isinstance(filler, Series):
        other = dict(zip(filler.starts, filler.values, strict=True))
        pairs = [(s, known.get(s, other.get(s, math.nan))) for s in grid]
    elif filler == "REPEAT":
        pairs, last = [], math.nan
        for start in grid:
            last = known.get(start, last)
            pairs.append((start, last))
    elif filler == "LINEAR":
        pairs = list(zip(grid, _between(series, grid), strict=True))
    elif isinstance(filler, str):
        raise MathError("FILL takes a number, a time series, REPEAT or LINEAR")
    else:
        pairs = [(s, known.get(s, filler)) for s in grid]
    return _kept(Series(series.label, series.period, [p[0] for p in pairs], [p[1] for p in pairs]))


def _between(series: Series, grid: Sequence[int]) -> list[float]:
    """On the line between the point before and the one after; nothing outside of the first and the last."""
    found, at, starts, values = [], 0, series.starts, series.values
    for time in grid:
        while at < len(starts) and starts[at] < time:
            at += 1
        if at < len(starts) and starts[at] == time:
            found.append(values[at])
        elif 0 < at < len(starts):
            share = (time - starts[at - 1]) / (starts[at] - starts[at - 1])
            found.append(values[at - 1] + share * (values[at] - values[at - 1]))
        else:
            found.append(math.nan)
    return found


def choose(condition: Series | float, yes: Series | float, no: Series | float) -> Series | float:
    """IF: where the condition is not 0, `yes`. Absent where the condition, or what it chooses, is."""
    if not isinstance(condition, Series):
        return yes if condition else no
    a, b = _lookup(yes, condition), _lookup(no, condition)
    chosen = [a(start) if value else b(start) for start, value in zip(condition.starts, condition.values, strict=True)]
    return _kept(Series(condition.label, condition.period, condition.starts, chosen))


def _lookup(value: Series | float, like: Series) -> Callable[[int], float]:
    if not isinstance(value, Series):
        return lambda start: value
    at = dict(zip(value.starts, value.values, strict=True))
    return lambda start: at.get(start, math.nan)


def constant(number: float, window: Window, period: int) -> Series:
    starts = window.grid(period)
    return Series("TIME_SERIES", period, starts, [number] * len(starts))


def ordered(series: tuple[Series, ...], by: str, descending: bool, most: int | None) -> tuple[Series, ...]:
    """SORT. Series without points, or with a sum beyond what a number can be, come last, whichever the direction."""
    if by not in FOLDS:
        raise MathError("SORT takes AVG, MIN, MAX, SUM or STDDEV")
    keys = [summary(by, one.values) if one.values else math.nan for one in series]
    full = [(key, one) for key, one in zip(keys, series, strict=True) if math.isfinite(key)]
    full.sort(key=lambda pair: pair[0], reverse=descending)
    rest = [one for key, one in zip(keys, series, strict=True) if not math.isfinite(key)]
    return (*(one for _, one in full), *rest)[:most]
