"""One node's minute: takes a reading each second and gives the points when the minute ends. Pure.

Called by monitor.collect. A second without an answer is a gap in the gauges; a minute that was not watched as a whole
has no counters.
"""

from __future__ import annotations

from collections.abc import Mapping

from cachekeep.codec.info_view import InfoView
from cachekeep.domain.metric_ports import ProcessReading
from cachekeep.domain.metrics import Buckets, Metric, Point
from cachekeep.monitor import readings
from cachekeep.monitor.counters import Counters
from cachekeep.monitor.latencies import Latencies
from cachekeep.monitor.readings import Fields, Vocabulary, number


class Gathering:
    """speaks_resp: Valkey or Redis; else Memcached."""

    def __init__(self, vocabulary: Vocabulary, *, speaks_resp: bool) -> None:
        self._vocabulary, self._speaks_resp = vocabulary, speaks_resp
        # Count, sum, least, most of the minute so far, by metric. Lists, as they are touched for every node and second.
        self._gauges: dict[str, list[float]] = {}
        self._counters, self._stream = Counters(), Counters()
        self._traffic, self._allowances = Counters(), Counters()
        self._latencies = Latencies(vocabulary.families)
        self._cpu: tuple[float, str, float] | None = None
        self.now: dict[str, float] = {}
        self.minute: dict[str, float] = {}

    def see(self, at: float, fields: Fields, process: ProcessReading | None, more: Mapping[str, float]) -> None:
        """A look at `at` (seconds since 1970, of a clock that does not jump). more: gauges that others measured."""
        gauges_of = readings.gauges_of_engine if self._speaks_resp else readings.gauges_of_memcached
        gauges = {**gauges_of(fields, self._vocabulary), **more, "Answering": 1.0}
        run = fields.get("run_id") or fields.get("pid", "")
        up_s = number(fields, "uptime_in_seconds") or number(fields, "uptime") or 0.0
        self._of_cpu(at, run, fields, gauges)
        if process is not None:
            gauges["SwapUsage"] = float(process.swap_bytes)
        counters_of = readings.counters_of_engine if self._speaks_resp else readings.counters_of_memcached
        self._counters.see(at, run, up_s, lambda: _without_stream(counters_of(fields, self._vocabulary)))
        offset = number(fields, "master_repl_offset")
        if offset is not None:
            # An offset belongs to its stream: a replica that joins another one takes over that one's.
            stream = f"{run} {fields.get('master_replid', '')} {fields.get('role', '')}"
            self._stream.see(at, stream, 1e9, lambda: {"ReplicationBytes": offset})
        self._add(gauges)
        if isinstance(fields, InfoView):
            fields.fold()  # it is kept until the next look, for its counters

    def silent(self) -> None:
        """It did not answer this second."""
        self._add({"Answering": 0.0})

    def count(self, at: float, packets: Mapping[str, float]) -> None:
        """Counters of the node's traffic, from a meter that runs as long as we do."""
        self._traffic.see(at, "meter", 1e9, lambda: packets)

    def exceeded(self, at: float, allowances: Mapping[str, float]) -> None:
        """Counters of the machine."""
        self._allowances.see(at, "machine", 1e9, lambda: allowances)

    def close(self, end: float, latencies: Mapping[str, Buckets] | None) -> dict[str, Point]:
        """The points of the minute that ends at `end`; nothing is kept of it but what the next one starts from.

        latencies: the engine's distributions at its end, by command; None when they could not be read.
        """
        points = {name: Point(count, total, least, most) for name, (count, total, least, most) in self._gauges.items()}
        self._gauges = {}
        increases: dict[str, float] = {}
        for counters in (self._counters, self._stream, self._traffic, self._allowances):
            increases |= counters.close(end) or {}
        computed = readings.ratios(increases, self._vocabulary.families)
        told = {name: value for name, value in increases.items() if not name.startswith("usec:")}
        self.minute = {**told, **computed}
        points |= {name: Point.of(value) for name, value in self.minute.items()}
        return points | self._latencies.close(latencies, increases)

    def totals(self) -> dict[str, float]:
        """Counters since the first look; they never decrease."""
        sums: dict[str, float] = {}
        for counters in (self._counters, self._stream, self._traffic, self._allowances):
            sums |= counters.totals()
        return {name: value for name, value in sums.items() if not name.startswith("usec:")}

    def distributions(self) -> Mapping[str, Point]:
        """How long reads and writes took, of all whole minutes so far."""
        return dict(self._latencies.totals)

    def _add(self, gauges: dict[str, float]) -> None:
        """gauges is kept."""
        self.now, kept = gauges, self._gauges
        for name, value in gauges.items():
            statistics = kept.get(name)
            if statistics is None:
                kept[name] = [1.0, value, value, value]
                continue
            statistics[0] += 1.0
            statistics[1] += value
            if value < statistics[2]:
                statistics[2] = value
            elif value > statistics[3]:
                statistics[3] = value

    def _of_cpu(self, at: float, run: str, fields: Fields, gauges: dict[str, float]) -> None:
        """EngineCPUUtilization over the time since the last look of the same run."""
        system, user = number(fields, "used_cpu_sys_main_thread"), number(fields, "used_cpu_user_main_thread")
        if system is None or user is None:
            return
        spent = system + user
        if self._cpu is not None and self._cpu[1] == run and at > self._cpu[0]:
            gauges["EngineCPUUtilization"] = 100.0 * max(0.0, spent - self._cpu[2]) / (at - self._cpu[0])
        self._cpu = (at, run, spent)


def _without_stream(counters: dict[str, float]) -> dict[str, float]:
    counters.pop("ReplicationBytes", None)
    return counters


def merged(points: Mapping[str, Point], others: Mapping[str, Point], metrics: Mapping[str, Metric]) -> dict[str, Point]:
    """Two subjects' points as those of one group: statistic sets add up. Distributions too."""
    found = dict(points)
    for name, point in others.items():
        mine = found.get(name)
        if name in metrics and mine is not None:
            found[name] = Point(
                mine.count + point.count,
                mine.total + point.total,
                min(mine.least, point.least),
                max(mine.most, point.most),
                _added(mine.buckets, point.buckets),
            )
        elif name in metrics:
            found[name] = point
    return found


def _added(one: Buckets, two: Buckets) -> Buckets:
    sums: dict[float, float] = {}
    for bound, count in (*one, *two):
        sums[bound] = sums.get(bound, 0.0) + count
    return tuple(sorted(sums.items()))
