"""A series store that is deliberately dumb: every minute in a dictionary, every read walks all of them.

What SeriesFile is checked against, and a fake SeriesStore for whoever needs one. Forgets nothing; reads fail while
it has trouble.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

from cachekeep.domain.metrics import Column, Point, Subject
from cachekeep.domain.ports import WorldError

HOUR_S = 3600


def merged(points: Sequence[Point]) -> Point:
    """The statistic set of all of them."""
    buckets: dict[float, float] = {}
    for point in points:
        for bound, count in point.buckets:
            buckets[bound] = buckets.get(bound, 0.0) + count
    return Point(
        sum(p.count for p in points),
        sum(p.total for p in points),
        min(p.least for p in points),
        max(p.most for p in points),
        tuple(sorted(buckets.items())),
    )


def column_of(points: Mapping[int, Point]) -> Column:
    starts = sorted(points)
    return Column(
        starts,
        [points[s].count for s in starts],
        [points[s].total for s in starts],
        [points[s].least for s in starts],
        [points[s].most for s in starts],
        {s: points[s].buckets for s in starts if points[s].buckets},
    )


class DumbSeries:
    """Implements domain.metric_ports.SeriesStore."""

    def __init__(self) -> None:
        self.minutes: dict[tuple[Subject, int], Mapping[str, Point]] = {}
        self.trouble: str | None = None

    def write(self, start: int, rows: Mapping[Subject, Mapping[str, Point]]) -> None:
        for subject, points in rows.items():
            self.minutes[subject, start] = dict(points)

    def read(self, subject: Subject, names: Collection[str], start: int, end: int, period: int) -> dict[str, Column]:
        if self.trouble:
            raise WorldError(self.trouble)
        return {name: self._column(subject, name, start, end, period) for name in names}

    def _column(self, subject: Subject, name: str, start: int, end: int, period: int) -> Column:
        periods: dict[int, list[Point]] = {}
        for (whose, minute), points in sorted(self.minutes.items()):
            begin = minute - minute % period
            if whose == subject and name in points and start <= begin < end:
                periods.setdefault(begin, []).append(points[name])
        return column_of({begin: merged(found) for begin, found in periods.items()})

    def subjects(self, region: str | None = None) -> list[Subject]:
        return sorted({s for (s, _), points in self.minutes.items() if points and region in (None, s.region)})

    def names(self, subject: Subject, since: int = 0) -> frozenset[str]:
        hour = since - since % HOUR_S
        return frozenset(
            name for (s, minute), points in self.minutes.items() if s == subject and minute >= hour for name in points
        )

    def close(self) -> None:
        pass
