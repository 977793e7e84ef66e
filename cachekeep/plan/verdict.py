"""The verdict on one metric of one node: threshold, history, growth, spikes. Pure; called by plan.health.

Every rule that applies gives a level and half a sentence; the worst level is the verdict, and the sentence tells all
rules that are not safe. Nothing measured, or nothing that the value could be compared with, is unknown.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from math import inf, isfinite
from statistics import fmean, median
from typing import Any

from cachekeep.domain.metrics import MINUTE_S, Column
from cachekeep.domain.verdicts import Bound, Level, Threshold, Verdict, disorder, worst
from cachekeep.plan.slope import Growth, duration_text, seconds_until, steady_growth

Finding = tuple[Level, str]
# The first minute that is measured begins somewhere within it.
_LEAST_POINTS = 2
_WORDS = {">": "above", ">=": "at or above", "<": "below", "<=": "at or below"}
_SIZES = (("TiB", 2.0**40), ("GiB", 2.0**30), ("MiB", 2.0**20), ("KiB", 2.0**10))


@dataclass(frozen=True)
class Context:
    """What a metric is judged against. now: seconds since 1970. values: those of the node's last reading, by name.

    role: `primary`, `replica` or "". baseline_bytes_per_s: of the node type's network, None where not known.
    trouble: why the node cannot be asked now, in a sentence. untold: metrics that such a node never has -> why.
    """

    now: float
    values: Mapping[str, float] = field(default_factory=dict)
    role: str = ""
    baseline_bytes_per_s: float | None = None
    trouble: str | None = None
    untold: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Past:
    """What the last hours say of one metric; good until the next point comes, and a fraction of the points' size.

    recent: the threshold's statistic of its last minutes, a whole one at least. usual: the median of before. None where
    there are too few points, and for growth where it is not steady.
    """

    recent: float | None = None
    usual: float | None = None
    growth: Growth | None = None


NO_PAST = Past()


def past_of(threshold: Threshold, column: Column, now: float) -> Past:
    """column: of the last hours, in minutes. now: seconds since 1970. The bounds of the threshold do not matter."""
    if not column.starts:
        return NO_PAST
    averages = column.average()
    return Past(
        _recent(threshold, column, averages, now),
        _usual(threshold, column, averages, now),
        _growth(threshold, column, averages, now),
    )


def judge(threshold: Threshold, current: float | None, past: Past, context: Context) -> Verdict:
    """The verdict, without a likely cause (plan.causes adds it). current: the last value."""
    if context.trouble is not None:
        return _unknown(threshold, context.trouble)
    if threshold.on_primary_only and context.role == "replica":
        return _unknown(threshold, "it tells nothing on a replica")
    value = _judged_value(threshold, current, past)
    if value is None:
        return _unknown(threshold, context.untold.get(threshold.metric, threshold.absent))
    if threshold.statistic != "now" and past.recent is None:
        return _unknown(threshold, "not measured for a whole minute yet", value)
    for need in threshold.needs:
        other = value if need.metric == threshold.metric else context.values.get(need.metric)
        if other is not None and not need.bound.holds(other):
            return _unknown(threshold, need.reason, value)
    findings = [
        *_by_bounds(threshold, value),
        *_by_share(threshold, value, context.baseline_bytes_per_s),
        *_by_history(threshold, value, past),
        *_by_growth(threshold, value, past),
    ]
    if not findings:
        return _unknown(threshold, "there is no number to compare it with, and too little history", value)
    level = worst(finding for finding, _ in findings)
    said = [text for finding, text in findings if finding is not Level.SAFE] or [findings[0][1]]
    return _verdict(threshold, level, "; ".join(said), value)


def overridden(thresholds: Sequence[Threshold], overrides: Mapping[str, Any]) -> tuple[Threshold, ...]:
    """The thresholds with a group's own numbers: {metric: {"warning": x, "risk": y}}, one of them or both.

    The comparisons stay. A metric without fixed bounds gets `>=` and `>` (per minute, in its unit) and needs both.
    Raises ValueError with a sentence.
    """
    by_name = {threshold.metric: threshold for threshold in thresholds}
    for name, given in overrides.items():
        if name not in by_name:
            raise ValueError(f"there is no threshold for {name!r}; there is one for {', '.join(sorted(by_name))}")
        by_name[name] = _with(by_name[name], given)
    return tuple(by_name[threshold.metric] for threshold in thresholds)


def baseline_bytes_per_s(network: str) -> float | None:
    """Of a node type's network performance: `5 Gbps baseline / 10 Gbps burst`, `25 Gbps`. None for `Up to 10 Gigabit`
    or `Moderate`, which name no baseline."""
    match = re.match(r"([0-9.]+) Gbps", network)
    return float(match[1]) * 1e9 / 8 if match else None


def value_text(threshold: Threshold, value: float) -> str:
    """The value for people, with its unit."""
    text = _in_unit(threshold.unit, value)
    return f"{text} a minute" if threshold.spike else text


def _with(threshold: Threshold, given: object) -> Threshold:
    if not isinstance(given, Mapping) or not given or set(given) - {"warning", "risk"}:
        raise ValueError(f"{threshold.metric}: give warning, risk or both, each a number")
    most = 100.0 if threshold.unit == "Percent" else float("inf")
    for name, value in given.items():
        if isinstance(value, bool) or not isinstance(value, int | float) or not isfinite(_as_float(value)):
            raise ValueError(f"{threshold.metric}: {name} is not a number")
        if not 0 <= value <= most:
            raise ValueError(f"{threshold.metric}: {name} is not within 0 and {most:g}: {value:g}")
    if threshold.warning is None and len(given) < 2:
        raise ValueError(f"{threshold.metric} has no numbers of its own: give both warning and risk")
    old_warning, old_risk = threshold.warning or Bound(">=", 0), threshold.risk or Bound(">", 0)
    warning = Bound(old_warning.comparison, float(given.get("warning", old_warning.value)))
    risk = Bound(old_risk.comparison, float(given.get("risk", old_risk.value)))
    if trouble := disorder(warning, risk):
        raise ValueError(f"{threshold.metric}: {trouble}")
    return replace(threshold, warning=warning, risk=risk)


def _as_float(value: float) -> float:
    """An integer of JSON may be larger than any float: infinite, then."""
    try:
        return float(value)
    except OverflowError:
        return inf


def _recent(threshold: Threshold, column: Column, averages: Sequence[float], now: float) -> float | None:
    if threshold.statistic == "now" or len(column) < _LEAST_POINTS:
        return None
    values = averages if threshold.statistic == "average" else column.most
    # A point's minute has to begin within the time, so that a five minute average has at most five minutes in it.
    recent = [value for at, value in zip(column.starts, values, strict=True) if now - threshold.over_s <= at <= now]
    if not recent:
        return None
    return fmean(recent) if threshold.statistic == "average" else max(recent)


def _usual(threshold: Threshold, column: Column, averages: Sequence[float], now: float) -> float | None:
    """The points that are judged are no part of it."""
    if threshold.spike is None:
        return None
    before = [value for at, value in zip(column.starts, averages, strict=True) if at < now - threshold.over_s]
    return median(before) if len(before) >= threshold.spike.least_points else None


def _growth(threshold: Threshold, column: Column, averages: Sequence[float], now: float) -> Growth | None:
    rule = threshold.growth
    # A history that ended long ago does not grow any more.
    if rule is None or column.starts[-1] < now - rule.over_s / 4:
        return None
    return steady_growth(column.starts, averages, over_s=rule.over_s, least_rise=rule.least_rise)


def _judged_value(threshold: Threshold, current: float | None, past: Past) -> float | None:
    if threshold.statistic == "now" or past.recent is None:
        return current
    if threshold.statistic == "maximum" and current is not None:
        return max(past.recent, current)
    return past.recent


def _by_bounds(threshold: Threshold, value: float) -> list[Finding]:
    if threshold.warning is None or threshold.risk is None:
        return []
    if threshold.risk.holds(value):
        return [(Level.RISK, _beyond(threshold, threshold.risk))]
    if threshold.warning.holds(value):
        return [(Level.WARNING, _beyond(threshold, threshold.warning))]
    if threshold.lower and threshold.lower.holds(value):
        return [(Level.WARNING, _beyond(threshold, threshold.lower))]
    return [(Level.SAFE, f"a warning begins {_beyond(threshold, threshold.warning)}")]


def _beyond(threshold: Threshold, bound: Bound) -> str:
    return f"{_WORDS[bound.comparison]} {_in_unit(threshold.unit, bound.value)}"


def _by_share(threshold: Threshold, value: float, baseline: float | None) -> list[Finding]:
    if threshold.share_warning is None or threshold.share_risk is None or not baseline:
        return []
    share = 100 * value / MINUTE_S / baseline
    text = f"{share:.3g} % of the node type's baseline bandwidth"
    for level, bound in ((Level.RISK, threshold.share_risk), (Level.WARNING, threshold.share_warning)):
        if bound.holds(share):
            return [(level, text)]
    return [(Level.SAFE, text)]


def _by_history(threshold: Threshold, value: float, past: Past) -> list[Finding]:
    """Compare with what is usual."""
    rule, usual = threshold.spike, past.usual
    if rule is None or usual is None:
        return []
    if value > max(rule.floor, rule.times * usual):
        times = f"{value / usual:.2g} times" if usual else "far above"
        return [(Level.WARNING, f"a spike: {times} what is usual ({value_text(threshold, usual)})")]
    return [(Level.SAFE, f"no spike; usual is {value_text(threshold, usual)}")]


def _by_growth(threshold: Threshold, value: float, past: Past) -> list[Finding]:
    rule, growth = threshold.growth, past.growth
    if rule is None or growth is None:
        return []
    if rule.level is not None:
        return [(rule.level, _growing(threshold, growth))]
    if rule.limit is None or value >= rule.limit:
        return []
    left_s = seconds_until(rule.limit, value, growth)
    if left_s > rule.warning_within_s:
        return []
    level = Level.RISK if left_s <= rule.risk_within_s else Level.WARNING
    return [(level, f"{_growing(threshold, growth)}, full in about {duration_text(left_s)} at this rate")]


def _growing(threshold: Threshold, growth: Growth) -> str:
    rise = _in_unit(threshold.unit, growth.per_s * 3600)
    return f"growing steadily by {rise.replace(' %', ' percentage points')} an hour"


def _in_unit(unit: str, value: float) -> str:
    match unit:
        case "Percent":
            return f"{value:.3g} %"
        case "Bytes":
            for name, size in _SIZES:
                if value >= size:
                    return f"{value / size:.3g} {name}" if value < 1000 * size else f"{value / size:.0f} {name}"
            return f"{value:.0f} B"
        case "Milliseconds":
            return duration_text(value / 1000) if value >= 1000 else f"{value:.0f} ms"
        case "Ratio":
            return f"{value:.2f}"
        case _:
            return f"{value:,.0f}"


def _unknown(threshold: Threshold, why: str, value: float | None = None) -> Verdict:
    return _verdict(threshold, Level.UNKNOWN, why, value)


def _verdict(threshold: Threshold, level: Level, why: str, value: float | None) -> Verdict:
    text = "-" if value is None else value_text(threshold, value)
    sentence = f"{threshold.title} is {level}: " + (why if value is None else f"{text}; {why}")
    return Verdict(
        threshold.metric, threshold.title, threshold.tier, level, text, sentence, threshold.means, number=value
    )
