"""What a chart of one metric shows: a line for each node of a cache, and the bands of its verdicts.

Two steps, because series may be read in any thread and everything else may not: `ask` on the event loop says whom and
what to read, `draw` reads and may be called in a thread. Called by the composition root for the dashboard.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from cachekeep.domain.metric_ports import Gauges, SeriesStore
from cachekeep.domain.metrics import Column, Current, Metric, MetricKind, Subject
from cachekeep.domain.ports import WorldError
from cachekeep.domain.verdicts import Threshold
from cachekeep.report.health_members import members_of

# More lines than this nobody can tell apart; a note says how many there are.
MOST_LINES = 48
# A chart has at most about this many points of each line.
MOST_POINTS = 500
_PERIODS = (60, 300, 900, 3600, 3 * 3600, 6 * 3600, 86400)
# Metrics that are judged as a percentage of something, by the metric that has that percentage.
_JUDGED_AS = {"CurrConnections": "ConnectionsUsagePercentage", "FreeableMemory": "FreeableMemoryPercentage"}
Json = dict[str, Any]


@dataclass(frozen=True)
class Chart:
    """One that was asked for. subjects: whose lines, with their labels. peaks: the largest of each period is drawn
    instead of the average. total: how many nodes there are."""

    metric: Metric
    title: str
    subjects: tuple[tuple[Subject, str], ...]
    bands: tuple[Json, ...]
    total: int
    peaks: bool = False


def ask(gauges: Gauges, metric: Metric, region: str, name: str, thresholds: Mapping[str, Threshold]) -> Chart:
    """thresholds: of the group, by metric."""
    nodes = members_of(gauges, region, name)
    threshold = thresholds.get(_JUDGED_AS.get(metric.name, metric.name))
    scale = _scale([node.current for node in nodes], metric.name)
    return Chart(
        metric,
        threshold.title if threshold is not None and metric.name not in _JUDGED_AS else metric.name,
        tuple((node.subject, node.label) for node in nodes[:MOST_LINES]),
        tuple(bands_of(threshold, scale)) if threshold is not None and scale is not None else (),
        len(nodes),
        peaks=threshold is not None and threshold.statistic == "maximum",
    )


def draw(series: SeriesStore, chart: Chart, start: float, end: float) -> Json:
    """JSON values, as the dashboard's `chart` wants them: a line has None where a period of it has no point.

    start, end: seconds since 1970. Counters are per minute, whatever the period. The note says so when points
    cannot be read.
    """
    period = period_of(end - start)
    since, until = int(start // period) * period, int(end)
    name = chart.metric.name
    trouble = ""
    columns = {label: Column() for _, label in chart.subjects}
    try:
        for subject, label in chart.subjects:
            columns[label] = series.read(subject, (name,), since, until, period).get(name, Column())
    except WorldError as error:
        trouble = f"{error}"
    starts = _times(columns.values(), period)
    more = f"{len(chart.subjects)} of {chart.total} nodes are drawn" if chart.total > len(chart.subjects) else ""
    return {
        "metric": name,
        "title": chart.title,
        "unit": chart.metric.unit,
        "per_minute": chart.metric.kind is MetricKind.COUNTER,
        "period": period,
        "from": since,
        "to": until,
        "starts": starts,
        "series": [
            {"label": label, "values": _values(column, starts, peaks=chart.peaks)} for label, column in columns.items()
        ],
        "bands": list(chart.bands),
        "judged_by": _JUDGED_AS.get(name, name),
        "note": trouble or more,
    }


def period_of(length_s: float) -> int:
    """Seconds: the finest with which so long a time has at most about MOST_POINTS points."""
    return next((period for period in _PERIODS if length_s / period <= MOST_POINTS), _PERIODS[-1])


def bands_of(threshold: Threshold, scale: float = 1.0) -> list[Json]:
    """Where each verdict is on the scale of values, from low to high; an open end is None. Empty where growth or a
    spike is what counts, and no number. scale: values drawn per unit of the threshold."""
    if threshold.warning is None or threshold.risk is None:
        return []
    warning, risk = threshold.warning.value * scale, threshold.risk.value * scale
    if not threshold.warning.upward:
        return [_band("risk", None, risk), _band("warning", risk, warning), _band("safe", warning, None)]
    lower = None if threshold.lower is None else threshold.lower.value * scale
    below = [] if lower is None else [_band("warning", None, lower)]
    return [*below, _band("safe", lower, warning), _band("warning", warning, risk), _band("risk", risk, None)]


def _band(level: str, low: float | None, high: float | None) -> Json:
    return {"level": level, "from": low, "to": high}


def _scale(currents: Sequence[Current], name: str) -> float | None:
    """What one percent is where a metric is judged as a percentage; None as long as that is not known."""
    share = _JUDGED_AS.get(name)
    if share is None:
        return 1.0
    for current in currents:
        value, percent = current.values.get(name), current.values.get(share)
        if value and percent:
            return value / percent
    return None


def _times(columns: Iterable[Column], period: int) -> list[int]:
    """Every moment that any line has, and one without a point in each gap, so that no line is drawn across it."""
    times: list[int] = []
    for at in sorted({start for column in columns for start in column.starts}):
        if times and at - times[-1] > period:
            times.append(times[-1] + period)
        times.append(at)
    return times


def _values(column: Column, starts: Sequence[int], *, peaks: bool) -> list[float | None]:
    known = dict(zip(column.starts, column.most if peaks else column.average(), strict=True))
    return [known.get(at) for at in starts]
