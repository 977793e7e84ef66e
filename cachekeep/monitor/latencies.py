"""How long reads and writes took within a minute, from the engine's own distributions. Pure.

LATENCY HISTOGRAM counts since the engine's start, in buckets whose bounds are powers of two; a minute is the difference
of two of them. Where a count went down the engine was restarted or reset: then all that it shows is of this minute.
"""

from __future__ import annotations

from collections.abc import Mapping

from cachekeep.domain.metrics import Buckets, Point

_METRICS = {"SuccessfulReadRequestLatency": "GetType", "SuccessfulWriteRequestLatency": "SetType"}


class Latencies:
    """families: family -> commands; GetType and SetType are read and written ones."""

    def __init__(self, families: Mapping[str, frozenset[str]]) -> None:
        self._families = families
        self._before: dict[str, dict[float, float]] | None = None
        # All that was measured so far, by metric: never decreases.
        self.totals: dict[str, Point] = {}

    def close(self, now: Mapping[str, Buckets] | None, increases: Mapping[str, float]) -> dict[str, Point]:
        """Points of the minute; empty for the first one, and where nothing was read or written.

        increases: of the minute, with `usec:GetType`: what the sum of all samples is taken from.
        """
        if not now:
            self._before = None
            return {}
        counted = {metric: self._count(now, family) for metric, family in _METRICS.items()}
        before, self._before = self._before, counted
        if before is None:
            return {}
        found = {}
        for metric, family in _METRICS.items():
            buckets = _difference(before[metric], counted[metric])
            if buckets:
                found[metric] = _point(buckets, increases.get(f"usec:{family}"))
                self.totals[metric] = _joined(self.totals.get(metric), found[metric])
        return found

    def _count(self, now: Mapping[str, Buckets], family: str) -> dict[float, float]:
        commands = self._families.get(family, frozenset())
        sums: dict[float, float] = {}
        for command, buckets in now.items():
            if command.partition("|")[0] in commands:
                for bound, count in buckets:
                    sums[bound] = sums.get(bound, 0.0) + count
        return sums


def _difference(before: Mapping[float, float], now: Mapping[float, float]) -> Buckets:
    anew = any(now.get(bound, 0.0) < count for bound, count in before.items())
    pairs = ((bound, count - (0.0 if anew else before.get(bound, 0.0))) for bound, count in now.items())
    return tuple(sorted((bound, count) for bound, count in pairs if count > 0))


def _point(buckets: Buckets, usec: float | None) -> Point:
    """usec: the exact sum; without it each sample counts as the bound of its bucket. Failed commands are in it too,
    so it is kept between what the bounds allow. Engines count whole microseconds, so that the first bucket also has
    those that took next to none: the least is never above the mean."""
    count = sum(many for _, many in buckets)
    most = sum(bound * many for bound, many in buckets)
    total = most if usec is None or not 0 < usec <= most else usec
    return Point(count, total, min(buckets[0][0] / 2, total / count), buckets[-1][0], buckets)


def _joined(one: Point | None, two: Point) -> Point:
    if one is None:
        return two
    sums = dict(one.buckets)
    for bound, count in two.buckets:
        sums[bound] = sums.get(bound, 0.0) + count
    least, most = min(one.least, two.least), max(one.most, two.most)
    return Point(one.count + two.count, one.total + two.total, least, most, tuple(sorted(sums.items())))
