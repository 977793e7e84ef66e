"""Which series a namespace, a metric's name and dimensions stand for, and what a statistic of them is.

Node series have the dimensions CacheClusterId and CacheNodeId; CacheClusterId alone stands for all nodes of a cluster,
merged. ReplicationGroupId and ServerlessCacheName stand for what is measured of one as a whole.
Called by the reading operations.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from operator import truediv
from typing import Final

from cachekeep.api.cloudwatch.call import CloudWatchServices, validation_error
from cachekeep.domain.alarms import Dimensions
from cachekeep.domain.metrics import MINUTE_S, Buckets, Column, Subject
from cachekeep.domain.serverless import backing_id

STATISTICS: Final = ("SampleCount", "Average", "Sum", "Minimum", "Maximum")
_PERCENTILE = re.compile(r"p([0-9]{1,2}(?:\.[0-9]{1,10})?|100)")
_HIGH_RESOLUTION: Final = frozenset({1, 5, 10, 20, 30})
LONGEST_KEPT_S: Final = 455 * 86400


def percentile_of(statistic: str) -> float | None:
    """99.0 for p99; None for what is no percentile."""
    found = _PERCENTILE.fullmatch(statistic)
    return float(found[1]) if found else None


def check_statistic(statistic: str) -> None:
    """Raises ValidationError. Trimmed means and their kin are not computed here, and say so."""
    if statistic not in STATISTICS and percentile_of(statistic) is None:
        raise validation_error(
            f"The value {statistic[:60]} for parameter Stat is not supported: use {', '.join(STATISTICS)} or pNN.NN."
        )


def check_period(period: int) -> int:
    """The period to read with. Periods under a minute are allowed, and answered with the minutes that there are:
    nothing here is kept at high resolution, and AWS answers so, too. Raises ValidationError."""
    if period in _HIGH_RESOLUTION:
        return MINUTE_S
    if period < MINUTE_S or period % MINUTE_S:
        raise validation_error("Period must be 1, 5, 10, 20, 30 or a multiple of 60.")
    if period > LONGEST_KEPT_S:
        raise validation_error(f"Period must be at most {LONGEST_KEPT_S}.")
    return period


def rounded(start: float, now: float, period: int) -> int:
    """The start of the time asked for, rounded down as AWS does by its age, then to a multiple of the period."""
    age = now - start
    step = MINUTE_S if age < 15 * 86400 else 300 if age < 63 * 86400 else 3600
    at = max(int(start), int(now) - LONGEST_KEPT_S - 86400)
    return at // step * step // period * period


def subjects_of(known: Sequence[Subject], dimensions: Dimensions) -> list[Subject]:
    """Those that the dimensions stand for; none for dimensions that nothing here has."""
    by_name = dict(dimensions)
    match sorted(by_name):
        case ["CacheClusterId"]:
            return [s for s in known if s.id == by_name["CacheClusterId"] and s.node_id]
        case ["CacheClusterId", "CacheNodeId"]:
            cluster, node = by_name["CacheClusterId"], by_name["CacheNodeId"]
            return [s for s in known if s.id == cluster and s.node_id == node and node]
        case ["ReplicationGroupId"]:
            return [s for s in known if s.id == by_name["ReplicationGroupId"] and not s.node_id]
        case ["ServerlessCacheName"]:
            backing = backing_id(by_name["ServerlessCacheName"])
            return [s for s in known if s.id == backing and not s.node_id]
    return []


class Columns:
    """Reads the columns of one request, each subject once for all the metrics that the request names."""

    def __init__(
        self, services: CloudWatchServices, region: str, start: float, end: float, names: Collection[str]
    ) -> None:
        self._services = services
        self._known = services.series.subjects(region)
        self._now = services.now()
        self._start, self._end = start, end
        self._names = frozenset(names) & services.metrics.keys()
        self._read: dict[tuple[Subject, int, int], Mapping[str, Column]] = {}

    def column(
        self, namespace: str, name: str, dimensions: Dimensions, period: int, unit: str | None, align: int = 0
    ) -> Column:
        """Without points for a metric, dimensions or a unit that are not there: AWS answers so.

        align: begin at a multiple of this, where a longer period than that of the column is to be made of it."""
        metric = self._services.metrics.get(name)
        if metric is None or metric.namespace != namespace or unit not in (None, metric.unit):
            return Column()
        columns = [self._of(subject, name, period, align or period) for subject in subjects_of(self._known, dimensions)]
        filled = [column for column in columns if len(column)]
        if len(filled) < 2:
            return filled[0] if filled else Column()
        return merged(filled)

    def _of(self, subject: Subject, name: str, period: int, align: int) -> Column:
        if name not in self._names:  # found by a search
            return self._fetch(subject, {name}, period, align).get(name, Column())
        key = (subject, period, align)
        if key not in self._read:
            self._read[key] = self._fetch(subject, self._names, period, align)
        return self._read[key].get(name, Column())

    def _fetch(self, subject: Subject, names: Collection[str], period: int, align: int) -> Mapping[str, Column]:
        start = rounded(self._start, self._now, align)
        end = min(int(-(-self._end // 1)), int(self._now) + MINUTE_S)
        return self._services.series.read(subject, names, start, end, period) if start < end else {}

    def values(
        self, namespace: str, name: str, dimensions: Dimensions, statistic: str, period: int, unit: str | None
    ) -> tuple[Sequence[int], Sequence[float]]:
        """Starts of periods and the statistic in each, in order of time."""
        wanted = percentile_of(statistic)
        column = self.column(namespace, name, dimensions, period, unit)
        if wanted is None:
            return column.starts, statistic_of(column, statistic)
        minutes = column
        if period > MINUTE_S and len(column.buckets) < len(column):
            minutes = self.column(namespace, name, dimensions, MINUTE_S, unit, period)
        return column.starts, percentiles(column, minutes, period, wanted)


def statistic_of(column: Column, statistic: str) -> Sequence[float]:
    match statistic:
        case "Average":
            return list(map(truediv, column.total, column.count))
        case "Sum":
            return column.total
        case "Minimum":
            return column.least
        case "Maximum":
            return column.most
    return column.count


def merged(columns: Sequence[Column]) -> Column:
    """As if all samples had been of one: counts and sums add up."""
    found: dict[int, tuple[float, float, float, float]] = {}
    buckets: dict[int, dict[float, float]] = {}
    for column in columns:
        rows = zip(column.starts, column.count, column.total, column.least, column.most, strict=True)
        for start, count, total, least, most in rows:
            old = found.get(start)
            found[start] = (
                (count, total, least, most)
                if old is None
                else (old[0] + count, old[1] + total, min(old[2], least), max(old[3], most))
            )
        for start, of_period in column.buckets.items():
            sums = buckets.setdefault(start, {})
            for bound, count in of_period:
                sums[bound] = sums.get(bound, 0.0) + count
    starts = sorted(found)
    counts, totals, lows, highs = zip(*(found[start] for start in starts), strict=True)
    return Column(starts, counts, totals, lows, highs, {s: tuple(sorted(b.items())) for s, b in buckets.items()})


def percentiles(column: Column, minutes: Column, period: int, wanted: float) -> list[float]:
    """Of each period: within its buckets where it has some, else of the averages of its minutes."""
    averages: dict[int, list[float]] = {}
    for start, average in zip(minutes.starts, minutes.average(), strict=True):
        averages.setdefault(start // period * period, []).append(average)
    found = []
    for number, start in enumerate(column.starts):
        buckets = column.buckets.get(start)
        if buckets:
            found.append(within(buckets, column.least[number], column.most[number], wanted))
        else:
            fallback = [column.total[number] / column.count[number]]
            found.append(of_sorted(sorted(averages.get(start, fallback)), wanted))
    return found


def within(buckets: Buckets, least: float, most: float, wanted: float) -> float:
    """Interpolated between the bounds of the bucket that the percentile falls into."""
    rank = sum(count for _, count in buckets) * wanted / 100
    below, low = 0.0, min(least, buckets[0][0])
    for bound, count in buckets:
        if count and below + count >= rank:
            value = low + (bound - low) * max(rank - below, 0.0) / count
            return min(max(value, least), most)
        below, low = below + count, bound
    return most


def of_sorted(values: Sequence[float], wanted: float) -> float:
    """Interpolated between the closest ranks."""
    place = (len(values) - 1) * wanted / 100
    low = int(place)
    high = min(low + 1, len(values) - 1)
    return values[low] + (values[high] - values[low]) * (place - low)
