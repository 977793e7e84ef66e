"""How much work the expressions of one request may be, counted before it is done. Pure, and the same on any machine.

Called by plan.metric_math. A unit is about 0.1 microseconds of one core of a small machine; the weights are measured.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from cachekeep.plan.metric_functions import FOLDS, TIME_PARTS, Series, Value, same_times
from cachekeep.plan.metric_math_parse import MathError

# Less than two seconds: requests of others wait meanwhile.
MAX_WORK: Final = 12_000_000
# One operator, function or name, whatever it is over.
STEP: Final = 40
# Of an array, and of one without points, too: as many points as take as long.
_SERIES: Final = 20
# Units a point. What is not here takes _PLAIN.
_PLAIN: Final = 3
# An operator that need not look for what is at the same time.
_QUICK: Final = 2
_WEIGHTS: Final[Mapping[str, int]] = {
    "^": 8,
    "LOG": 8,
    "LOG10": 8,
    "FILL": 9,
    **dict.fromkeys(TIME_PARTS, 8),
    **dict.fromkeys(("<", ">", "<=", ">=", "==", "!=", "&&", "||"), 3),
}
_LIGHT: Final = frozenset({"METRIC_COUNT", "FIRST", "LAST", "PERIOD", "SLICE", "REMOVE_EMPTY"})
# Over an array: for each time at which any of the series has a point, besides _PLAIN a point.
_TIME, _DEVIATION_TIME = 13, 18


class Work:
    """What is left to do. Each method raises MathError when nothing is."""

    def __init__(self, most: int) -> None:
        self._left = most

    def step(self) -> None:
        self._spend(STEP)

    def listed(self, of: Value, looked_at: int = 0) -> None:
        """An array is made, of so many that were looked at."""
        self._spend(series_in(of) * _SERIES + looked_at)

    def combined(self, sign: str, left: Value, right: Value) -> None:
        """An operator; between an array and something else, the something else is gone through for each series."""
        if isinstance(left, float) and isinstance(right, float):
            return
        times = max(series_in(left), series_in(right), 1)
        points = sum(points_in(side) * (1 if isinstance(side, tuple) else times) for side in (left, right))
        self._spend(points * _WEIGHTS.get(sign, _QUICK if _side_by_side(left, right) else _PLAIN))

    def applied(self, name: str, *values: Value) -> None:
        """A function over what it is given."""
        if name in _LIGHT:
            self._spend(sum(map(series_in, values)) * _SERIES)
            return
        self._spend(sum(map(points_in, values)) * _WEIGHTS.get(name, _PLAIN))
        for value in values if name in FOLDS else ():
            if isinstance(value, tuple):
                self._across(name, value)

    def folded(self, name: str, series: Sequence[Series], numbers: int) -> None:
        """MAX(m1, m2, 5): several series, and numbers, each at the times of the first one."""
        self._spend((points_in(tuple(series)) + numbers * points_in(series[0])) * _PLAIN)
        self._across(name, series)

    def _across(self, name: str, array: Sequence[Series]) -> None:
        if not array:
            return
        times = len(array[0].starts) if same_times(array) else len(set[int]().union(*(one.starts for one in array)))
        self._spend(times * (_DEVIATION_TIME if name == "STDDEV" else _TIME))

    def filled(self, of: Value, grid: int) -> None:
        """FILL or TIME_SERIES: points that are there, and a grid of so many."""
        self._spend((points_in(of) + grid) * _WEIGHTS["FILL"])

    def _spend(self, units: int) -> None:
        self._left -= units
        if self._left < 0:
            raise MathError("The expressions take too many datapoints; ask for less time, or for longer periods")


def _side_by_side(left: Value, right: Value) -> bool:
    if isinstance(left, Series) and isinstance(right, Series):
        return left.starts is right.starts
    return isinstance(left, float) or isinstance(right, float)


def series_in(value: Value) -> int:
    if isinstance(value, tuple):
        return len(value)
    return int(isinstance(value, Series))


def points_in(value: Value) -> int:
    """With what each series takes by itself."""
    if isinstance(value, tuple):
        return sum([len(series.starts) for series in value]) + _SERIES * len(value)
    return len(value.starts) + _SERIES if isinstance(value, Series) else 1
