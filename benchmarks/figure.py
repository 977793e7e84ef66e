"""One measured figure beside what was promised of it."""

from __future__ import annotations

import random
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum


class Verdict(StrEnum):
    """noted: measured for information, nothing was promised. failed: could not be measured."""

    MET = "met"
    MISSED = "missed"
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


def ratio_of_medians(above: Sequence[float], under: Sequence[float]) -> tuple[float, float, float]:
    """The ratio, and the bounds within which it falls in 95 of 100 redraws of the same pairs (bootstrap).

    Pairs were measured one right after the other, so they are redrawn as pairs.
    """
    pairs = list(zip(above, under, strict=True))
    chance = random.Random(1)

    def ratio(drawn: Sequence[tuple[float, float]]) -> float:
        return statistics.median(a for a, _ in drawn) / statistics.median(u for _, u in drawn)

    redrawn = sorted(ratio(chance.choices(pairs, k=len(pairs))) for _ in range(1000))
    return ratio(pairs), redrawn[25], redrawn[974]
