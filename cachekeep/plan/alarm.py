"""The state that an alarm's datapoints put it into, and the reason in CloudWatch's words. Pure.

Source: CloudWatch user guide, "Configuring how CloudWatch alarms treat missing data" (How alarm state is evaluated
when data is missing; Avoiding premature transitions to alarm state). Where its last sentence on M out of N alarms
disagrees with the fifth row of its second table, the table is followed. Called by monitor.alarms.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import assert_never

from cachekeep.domain.alarms import Alarm, AlarmState, Comparison, MetricQuery, MissingData

# So many periods before the wanted ones are looked at too, in case some of those have no data: the guide's examples
# retrieve 5 for an alarm of 3; CloudWatch does not tell the number for others.
EXTRA_PERIODS = 2
DEFAULT_PERIOD_S = 60

_WORDS = {
    Comparison.GREATER_OR_EQUAL: "greater than or equal to",
    Comparison.GREATER: "greater than",
    Comparison.LESS: "less than",
    Comparison.LESS_OR_EQUAL: "less than or equal to",
}


@dataclass(frozen=True)
class Judgement:
    """state None: the alarm keeps its state, and what it says of it."""

    state: AlarmState | None
    reason: str = ""
    reason_data: str = ""


@dataclass(frozen=True)
class _Point:
    start: int
    value: float
    breaches: bool


def period_of(alarm: Alarm) -> int:
    """Seconds: that of its metrics, and never below a minute, as points are of minutes."""
    return max([DEFAULT_PERIOD_S, *(query.period for query in alarm.queries if query.period)])


def evaluation_range(alarm: Alarm) -> int:
    """How many of the most recent periods are looked at."""
    return alarm.evaluation_periods + EXTRA_PERIODS


def judge(alarm: Alarm, values: Sequence[float | None], end: int, now: float) -> Judgement:
    """What the values say. values: one per period, oldest first, the last of them ending at `end`; at most
    evaluation_range are used. end, now: seconds since 1970."""
    period = period_of(alarm)
    recent = list(values)[-evaluation_range(alarm) :]
    first = end - len(recent) * period
    seen = [
        _Point(first + index * period, value, breaches(alarm.comparison, value, alarm.threshold))
        for index, value in enumerate(recent)
        if value is not None
    ]
    points = seen[-alarm.evaluation_periods :]
    filled = alarm.evaluation_periods - len(points)
    state = _state(alarm, points, filled, end)
    if state is None:
        return Judgement(None)
    return Judgement(state, _reason(alarm, state, points, filled), _reason_data(alarm, points, now))


def breaches(comparison: Comparison, value: float, threshold: float) -> bool:
    match comparison:
        case Comparison.GREATER_OR_EQUAL:
            return value >= threshold
        case Comparison.GREATER:
            return value > threshold
        case Comparison.LESS:
            return value < threshold
        case Comparison.LESS_OR_EQUAL:
            return value <= threshold
        case _:
            assert_never(comparison)


def _state(alarm: Alarm, points: Sequence[_Point], filled: int, end: int) -> AlarmState | None:
    breaching = sum(point.breaches for point in points)
    if alarm.treat_missing is MissingData.BREACHING:
        breaching += filled
    if breaching >= alarm.datapoints_to_alarm:
        return AlarmState.ALARM
    if not filled or alarm.treat_missing in (MissingData.BREACHING, MissingData.NOT_BREACHING):
        return AlarmState.OK
    if breaching < len(points):
        return AlarmState.OK
    if alarm.treat_missing is MissingData.IGNORE:
        return None
    if not points:
        return AlarmState.INSUFFICIENT_DATA
    # All that is there breaches, and it is less than M. The next point may be a good one, so the alarm waits until it
    # should have come.
    age = (end - points[0].start) // period_of(alarm)
    return AlarmState.ALARM if age >= alarm.datapoints_to_alarm else None


def _reason(alarm: Alarm, state: AlarmState, points: Sequence[_Point], filled: int) -> str:
    if state is AlarmState.INSUFFICIENT_DATA:
        return f"Insufficient Data: {_counted(filled)} {_were(filled)} unknown."
    treated = ""
    if filled and alarm.treat_missing in (MissingData.BREACHING, MissingData.NOT_BREACHING):
        as_what = "Breaching" if alarm.treat_missing is MissingData.BREACHING else "NonBreaching"
        treated = f" and {filled} missing datapoint{'' if filled == 1 else 's'} {_were(filled)} treated as [{as_what}]"
    if not points:
        return f"Threshold Crossed: no datapoints were received for {_periods(alarm.evaluation_periods)}{treated}."
    alarmed = state is AlarmState.ALARM
    told = [point for point in reversed(points) if point.breaches is alarmed] or list(reversed(points))
    # Where none of the points is what decided (the missing ones did), they are told as what they are.
    negated = "" if told[0].breaches else "not "
    listed = ", ".join(f"{_number(point.value)} ({_moment(point.start)})" for point in told)
    least = alarm.datapoints_to_alarm if alarmed else alarm.evaluation_periods - alarm.datapoints_to_alarm + 1
    change = "OK -> ALARM" if alarmed else "ALARM -> OK"
    return (
        f"Threshold Crossed: {len(told)} out of the last {_counted(alarm.evaluation_periods, always_many=True)} "
        f"[{listed}] {_were(len(told))} {negated}{_WORDS[alarm.comparison]} the threshold "
        f"({_number(alarm.threshold)}){treated} (minimum {_counted(least)} for {change} transition)."
    )


def _reason_data(alarm: Alarm, points: Sequence[_Point], now: float) -> str:
    newest_first = list(reversed(points))
    metric = _metric(alarm)
    page: dict[str, object] = {"version": "1.0", "queryDate": aws_time(now)}
    if points:
        page["startDate"] = aws_time(points[0].start)
    if metric is not None and alarm.single:
        page |= {"unit": metric.unit} if metric.unit else {}
        page["statistic"] = metric.statistic
    page |= {
        "period": period_of(alarm),
        "recentDatapoints": [point.value for point in points],
        "threshold": alarm.threshold,
        "evaluatedDatapoints": [{"timestamp": aws_time(p.start), "value": p.value} for p in newest_first],
    }
    return json.dumps(page, separators=(",", ":"))


def _metric(alarm: Alarm) -> MetricQuery | None:
    return next((query for query in alarm.queries if query.metric), None)


def aws_time(at: float) -> str:
    """`2026-11-23T10:00:00.000+0000`, as CloudWatch writes times into texts."""
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%dT%H:%M:%S.%f")[:-3] + "+0000"


def _moment(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).strftime("%d/%m/%y %H:%M:%S")


def _number(value: float) -> str:
    return repr(float(value))


def _counted(number: int, *, always_many: bool = False) -> str:
    return f"{number} datapoint{'' if number == 1 and not always_many else 's'}"


def _periods(number: int) -> str:
    return f"{number} period{'' if number == 1 else 's'}"


def _were(number: int) -> str:
    return "was" if number == 1 else "were"
