"""One measured figure beside what was promised of it."""

from __future__ import annotations

import random
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum


class Verdict(StrEnum):
    """unclear: the machine is too noisy to tell. noted: for information, nothing was promised. failed: not measured."""

    MET = "met"
    MISSED = "missed"
    UNCLEAR = "unclear"
    NOTED = "noted"
    FAILED = "failed"


@dataclass(frozen=True)
class Figure:
    """name: what was measured. measured, target: as shown. value: the number that was judged. how: conditions."""

    name: str
    measured: str
    target: str
    verdict: Verdict
    how: str = ""
    value: float | None = None


def below(
    name: str, value: float, limit: float, show: Callable[[float], str], *, more: str = "", how: str = ""
) -> Figure:
    """Judge a value that is to be less than its limit. more: shown behind the value."""
    verdict = Verdict.MET if value < limit else Verdict.MISSED
    return Figure(name, f"{show(value)}{more}", f"< {show(limit)}", verdict, how, value)


def at_least(
    name: str, value: float, limit: float, show: Callable[[float], str], *, more: str = "", how: str = ""
) -> Figure:
    """Judge a value that is to reach its limit."""
    verdict = Verdict.MET if value >= limit else Verdict.MISSED
    return Figure(name, f"{show(value)}{more}", f">= {show(limit)}", verdict, how, value)


def noted(name: str, value: float, show: Callable[[float], str], *, more: str = "", how: str = "") -> Figure:
    """A value of which nothing was promised."""
    return Figure(name, f"{show(value)}{more}", "", Verdict.NOTED, how, value)


def failed(name: str, why: str) -> Figure:
    return Figure(name, "not measured", "", Verdict.FAILED, why)


def milliseconds(seconds: float) -> str:
    return f"{seconds * 1000:.1f} ms" if seconds < 0.1 else f"{seconds * 1000:.0f} ms"


def seconds(value: float) -> str:
    return f"{value:.2f} s"


def megabytes(value: float) -> str:
    return f"{value / 1e6:.0f} MB"


def percent(value: float) -> str:
    return f"{value:.1f} %"


def rate(value: float) -> str:
    return f"{value:,.0f}/s"


def plain(value: float) -> str:
    return f"{value:.3f}"


def p90(values: Sequence[float]) -> float:
    """The smallest value that nine tenths of them do not exceed."""
    ordered = sorted(values)
    return ordered[max(0, -(-len(ordered) * 9 // 10) - 1)]


@dataclass(frozen=True)
class Ratio:
    """The median of pairs' ratios, and the bounds within which it falls in 95 of 100 redraws of the pairs (bootstrap).

    The two runs of a pair follow one another, so that a machine that is slow for a while is slow for both; the
    ratio of the two medians has several times the spread on a machine that others use too.
    """

    value: float
    low: float
    high: float
    of_medians: float

    def verdict(self, least: float, most: float) -> Verdict:
        if least <= self.value <= most:
            return Verdict.MET
        return Verdict.UNCLEAR if self.low <= most and self.high >= least else Verdict.MISSED


def ratio_of(above: Sequence[float], under: Sequence[float]) -> Ratio:
    """above, under: what the pairs' runs gave, in the order in which they ran."""
    ratios = [a / u for a, u in zip(above, under, strict=True)]
    chance = random.Random(1)
    redrawn = sorted(statistics.median(chance.choices(ratios, k=len(ratios))) for _ in range(1000))
    of_medians = statistics.median(above) / statistics.median(under)
    return Ratio(statistics.median(ratios), redrawn[25], redrawn[974], of_medians)
