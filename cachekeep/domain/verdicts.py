"""Verdicts on metrics, and the thresholds that they follow. Pure.

A threshold comes from data/thresholds.json; `read_thresholds` turns the file's content into values and is strict.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from cachekeep.domain.metrics import Tier

_COMPARE: Mapping[str, Callable[[float, float], bool]] = {
    ">": operator.gt,
    ">=": operator.ge,
    "<": operator.lt,
    "<=": operator.le,
}
_RANKS = {"unknown": 0, "safe": 1, "warning": 2, "risk": 3}
STATISTICS = ("now", "average", "maximum")


class Level(StrEnum):
    """How a metric stands. unknown: nothing can be said; it never hides what is known to be worse or better."""

    SAFE = "safe"
    WARNING = "warning"
    RISK = "risk"
    UNKNOWN = "unknown"

    @property
    def rank(self) -> int:
        """Higher is worse; unknown is below safe, so that the worst of several is what is known."""
        return _RANKS[self]


def worst(levels: Iterable[Level]) -> Level:
    """The worst of them; unknown when there are none, or nothing is known of any."""
    return max(levels, key=lambda level: level.rank, default=Level.UNKNOWN)


@dataclass(frozen=True)
class Bound:
    """Where a class begins, in the metric's unit: `>= 60`. The comparison says whose the border itself is."""

    comparison: str
    value: float

    def __post_init__(self) -> None:
        if self.comparison not in _COMPARE:
            raise ValueError(f"no such comparison: {self.comparison!r}")

    @classmethod
    def parse(cls, text: str) -> Bound:
        """Read `>= 60`. Raises ValueError."""
        comparison, _, value = text.partition(" ")
        return cls(comparison, float(value))

    def holds(self, value: float) -> bool:
        return _COMPARE[self.comparison](value, self.value)

    @property
    def upward(self) -> bool:
        """High values are the bad ones."""
        return self.comparison.startswith(">")

    def __str__(self) -> str:
        return f"{self.comparison} {self.value:.15g}"


@dataclass(frozen=True)
class GrowthRule:
    """Steady growth as a flag of its own. over_s: the time looked at. least_rise: less within it is no growth.

    level: what growth alone is, or None where only the time until `limit` counts: a warning when that is reached
    within warning_within_s, a risk within risk_within_s.
    """

    over_s: int
    least_rise: float
    level: Level | None = None
    limit: float | None = None
    warning_within_s: float = 0.0
    risk_within_s: float = 0.0


@dataclass(frozen=True)
class SpikeRule:
    """A warning when the last points are `times` what is usual (the median of before) and above `floor` per minute.

    least_points: with fewer minutes of history nothing is usual yet.
    """

    times: float
    floor: float
    least_points: int


@dataclass(frozen=True)
class Need:
    """The metric says something only while another one holds; reason: why, in a sentence."""

    metric: str
    bound: Bound
    reason: str


@dataclass(frozen=True)
class Threshold:
    """One line of the seed's tables. unit: Percent, Bytes, Count, Milliseconds or Ratio.

    warning, risk: where these classes begin; None where the seed states no number. lower: a warning on the other side
    (fragmentation below 1). statistic: what of the last over_s seconds is judged: `now` the last value, else their
    `average` or `maximum`. share: bounds on the percentage of the node type's baseline bandwidth. on_primary_only: says
    nothing on a replica. reading: which reading of the sources was taken and why. ours: what no source states.
    """

    metric: str
    namespace: str
    title: str
    tier: Tier
    unit: str
    means: str
    next: str
    causes: tuple[str, ...]
    source: str
    warning: Bound | None = None
    risk: Bound | None = None
    lower: Bound | None = None
    share_warning: Bound | None = None
    share_risk: Bound | None = None
    statistic: str = "now"
    over_s: int = 0
    growth: GrowthRule | None = None
    spike: SpikeRule | None = None
    needs: tuple[Need, ...] = ()
    on_primary_only: bool = False
    reading: str = ""
    ours: str = ""
    absent: str = "nothing was measured"

    def __post_init__(self) -> None:
        if self.statistic not in STATISTICS or (self.statistic != "now" and self.over_s <= 0):
            raise ValueError(f"{self.metric}: statistic {self.statistic!r} over {self.over_s} s")
        if (self.warning is None) != (self.risk is None):
            raise ValueError(f"{self.metric}: warning and risk come together")
        if trouble := disorder(self.warning, self.risk):
            raise ValueError(f"{self.metric}: {trouble}")


@dataclass(frozen=True)
class Verdict:
    """number: the value judged, in the threshold's unit; None when there is none. value: it for people.

    sentence: what is the case. cause: what likely brings it about here, "" when all is well. next: what to do.
    """

    metric: str
    title: str
    tier: Tier
    level: Level
    value: str
    sentence: str
    means: str
    cause: str = ""
    next: str = ""
    evidence: tuple[str, ...] = ()
    number: float | None = None


@dataclass(frozen=True)
class ThresholdOverrides:
    """The numbers that a group, a cluster or a watched target has of its own: metric -> `warning`, `risk` or both.

    owner_since: when their owner was made (seconds since 1970). One that is made anew under the name has none of them.
    """

    region: str
    id: str
    owner_since: float
    values: Mapping[str, Mapping[str, float]]


def disorder(warning: Bound | None, risk: Bound | None) -> str | None:
    """Why these two bounds make no sense together, or None: a risk is at or beyond where the warning begins."""
    if warning is None or risk is None:
        return None
    if warning.upward != risk.upward:
        return "warning and risk point in different directions"
    if warning.upward and warning.value > risk.value:
        return f"the warning at {warning.value:.15g} lies above the risk at {risk.value:.15g}"
    if not warning.upward and warning.value < risk.value:
        return f"the warning at {warning.value:.15g} lies below the risk at {risk.value:.15g}"
    return None


def read_thresholds(raw: Mapping[str, Any]) -> tuple[Threshold, ...]:
    """The thresholds of the data file's content, in its order. Raises KeyError, TypeError, ValueError if malformed."""
    if not raw["source"] or not raw["as_of"]:
        raise ValueError("source and as_of must be given")
    found = tuple(_threshold(entry, raw["source"]) for entry in raw["thresholds"])
    if len({threshold.metric for threshold in found}) != len(found):
        raise ValueError("a metric stands twice")
    return found


def _threshold(entry: Mapping[str, Any], source: str) -> Threshold:
    given = {"source": source, **entry}
    for name in ("warning", "risk", "lower", "share_warning", "share_risk"):
        if name in given:
            given[name] = Bound.parse(given[name])
    given["tier"] = Tier(given["tier"])
    given["causes"] = tuple(given["causes"])
    given["needs"] = tuple(
        Need(need["metric"], Bound.parse(need["bound"]), need["reason"]) for need in given.get("needs", ())
    )
    if "growth" in given:
        growth = dict(given["growth"])
        given["growth"] = GrowthRule(**{**growth, "level": Level(growth["level"]) if "level" in growth else None})
    if "spike" in given:
        given["spike"] = SpikeRule(**given["spike"])
    return Threshold(**given)
