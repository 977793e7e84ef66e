"""What was measured of a group's nodes, as right-sizing wants it: peaks, growth, and what to know of them.

Pure but for reading the series; slow for long windows, so it belongs in a thread. Called by report.right_size.

Which readings: of CPU, commands and network the peak is the busiest five minutes on average; shorter spikes do not
size a cache. Of connections it is the highest moment, as a connection too many is refused. Growth is the median of what
the memory grew from any hour to the same hour of a later day, so that the rhythm of the day is none.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from statistics import median

from cachekeep.domain.engine import Engine
from cachekeep.domain.metric_ports import SeriesStore
from cachekeep.domain.metrics import MINUTE_S, Column, Current, Subject
from cachekeep.plan.right_size_shapes import Observed
from cachekeep.report.right_size_members import Members

DAY_S = 86400
HOUR_S = 3600
BUSY_S = 300
_RESP_HOURS = ("BytesUsedForCache", "IsMaster", "MemoryFragmentationRatio", "CurrConnections", "Evictions")
_RESP_BUSY = ("EngineCPUUtilization", "NetworkBytesIn", "NetworkBytesOut", "ProcessedCommands")
_MEMCACHED_HOURS = ("BytesUsedForCacheItems", "CurrConnections", "Evictions")
_MEMCACHED_BUSY = ("NetworkBytesIn", "NetworkBytesOut", "CmdGets", "CmdSet", "CmdTouch")
# A shorter history is taken by minutes.
_SHORT_S = 6 * HOUR_S
# Pairs of hours that are whole days apart; fewer say nothing of growth.
_LEAST_PAIRS = 6
# What came before says little of how it goes on, and pairs are many.
_GROWTH_DAYS = 30
# Below it the ratio tells the size of the engine's program, not how its memory is fragmented.
_LEAST_FRAGMENTED_BYTES = 64 * 1024**2
_SKEW = 1.25


@dataclass(frozen=True)
class History:
    """observed: for the plan. begin, end: of what was found, seconds since 1970; both 0 without any. notes: sentences
    on how far to go by it."""

    observed: Observed
    begin: int = 0
    end: int = 0
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class _Node:
    """hours: columns of an hour a point. busy: of five minutes. Of a short history both of a minute."""

    subject: Subject
    hours: Mapping[str, Column]
    busy: Mapping[str, Column]

    @property
    def used(self) -> Column:
        return self.hours.get("BytesUsedForCache") or self.hours.get("BytesUsedForCacheItems") or Column()

    @property
    def first(self) -> int:
        """When what was measured begins; by the shorter periods where they tell it, as an hour is long."""
        return min((column.starts[0] for column in self.busy.values() if len(column)), default=self.used.starts[0])


def history_of(
    members: Members,
    series: SeriesStore,
    current: Callable[[Subject], Current | None],
    now: float,
    window_s: float,
) -> History:
    """Of the last window_s seconds. Where nothing was recorded yet, what is seen now is taken."""
    hour_s, busy_s = (HOUR_S, BUSY_S) if window_s >= _SHORT_S else (MINUTE_S, MINUTE_S)
    begin, end = max(0, math.ceil((now - window_s) / hour_s) * hour_s), int(now) + 1
    memcached = members.engine is Engine.MEMCACHED
    hours, busy = (_MEMCACHED_HOURS, _MEMCACHED_BUSY) if memcached else (_RESP_HOURS, _RESP_BUSY)

    def read(subject: Subject) -> _Node:
        slow, quick = series.read(subject, hours, begin, end, hour_s), series.read(subject, busy, begin, end, busy_s)
        return _Node(subject, slow, quick)

    shards = [[read(subject) for subject in shard] for shard in members.shards]
    nodes = [node for shard in shards for node in shard]
    used = used_by_hour(shards)
    if not used:
        return _of_now(members, current)
    # Of the node that has most points.
    measured_s = busy_s * max(len(column) for node in nodes for column in node.busy.values())
    observed = _observed(members, nodes, used, end, min(measured_s, window_s))
    first = min(node.first for node in nodes if len(node.used))
    last = min(end, max(used) + hour_s)
    return History(observed, first, last, tuple(_notes(shards, observed, last - first)))


def _observed(
    members: Members, nodes: Sequence[_Node], used: Mapping[int, float], end: int, window_s: float
) -> Observed:
    recent = {at: size for at, size in used.items() if end - _GROWTH_DAYS * DAY_S <= at <= end - HOUR_S}
    commands = ("CmdGets", "CmdSet", "CmdTouch") if members.engine is Engine.MEMCACHED else ("ProcessedCommands",)
    return Observed(
        members.engine,
        members.node_type,
        len(members.shards),
        members.replicas,
        used_bytes=max(used.values()),
        growth_bytes_per_day=growth_per_day(recent) if recent else None,
        fragmentation_ratio=_worst(map(_fragmentation, nodes)),
        ops_per_s=_sum_peak(nodes, commands),
        engine_cpu_pct=_worst(_busiest(node, "EngineCPUUtilization") for node in nodes),
        connections=_worst(max(node.hours["CurrConnections"].most, default=None) for node in nodes),
        bytes_in_per_s=_per_s(_worst(_busiest(node, "NetworkBytesIn") for node in nodes)),
        bytes_out_per_s=_per_s(_worst(_busiest(node, "NetworkBytesOut") for node in nodes)),
        window_s=window_s,
    )


def used_by_hour(shards: Sequence[Sequence[_Node]]) -> dict[int, float]:
    """Used memory of all shards, by hour: of each shard the peak of the node that was its primary for most of it, or of
    all its nodes where that is not known."""
    sums: defaultdict[int, float] = defaultdict(float)
    for shard in shards:
        for at, size in _shard_by_hour(shard).items():
            sums[at] += size
    return dict(sums)


def growth_per_day(used: Mapping[int, float]) -> float | None:
    """Bytes a day; None with less than a day of history."""
    rates = [
        (used[later] - size) / ((later - at) / DAY_S)
        for at, size in used.items()
        for later in range(at + DAY_S, max(used) + 1, DAY_S)
        if later in used
    ]
    return median(rates) if len(rates) >= _LEAST_PAIRS else None


def _shard_by_hour(shard: Sequence[_Node]) -> dict[int, float]:
    told: defaultdict[int, list[tuple[bool, float]]] = defaultdict(list)
    for node in shard:
        ruled = node.hours.get("IsMaster", Column())
        primary = {at for at, share in zip(ruled.starts, ruled.average(), strict=True) if share >= 0.5}
        for at, most in zip(node.used.starts, node.used.most, strict=True):
            told[at].append((at in primary, most))
    return {at: max(sizes)[1] for at, sizes in told.items()}


def _fragmentation(node: _Node) -> float | None:
    """The highest hour, of those in which the node held at least half of its peak."""
    peak = max(node.used.most, default=0.0)
    ratio = node.hours.get("MemoryFragmentationRatio")
    if ratio is None or peak < _LEAST_FRAGMENTED_BYTES:
        return None
    full = {at for at, most in zip(node.used.starts, node.used.most, strict=True) if most >= peak / 2}
    return max((r for at, r in zip(ratio.starts, ratio.average(), strict=True) if at in full), default=None)


def _full(column: Column) -> list[tuple[int, float]]:
    """Averages of the periods that were watched for at least half of their time."""
    least = max(column.count, default=0.0) / 2
    return [(at, mean) for at, mean, n in zip(column.starts, column.average(), column.count, strict=True) if n >= least]


def _busiest(node: _Node, name: str) -> float | None:
    column = node.busy.get(name)
    return max((mean for _, mean in _full(column)), default=None) if column is not None else None


def _sum_peak(nodes: Iterable[_Node], names: Sequence[str]) -> float | None:
    """Of counters per minute, what all nodes did per second in the busiest five minutes."""
    sums: defaultdict[int, float] = defaultdict(float)
    for node in nodes:
        for name in names:
            for at, mean in _full(node.busy[name]):
                sums[at] += mean
    return _per_s(max(sums.values(), default=None))


def _per_s(per_minute: float | None) -> float | None:
    return None if per_minute is None else per_minute / 60


def _worst(values: Iterable[float | None]) -> float | None:
    return max((value for value in values if value is not None), default=None)


def _of_now(members: Members, current: Callable[[Subject], Current | None]) -> History:
    seen = {subject: found.values for subject in members.subjects if (found := current(subject)) is not None}
    field = "BytesUsedForCacheItems" if members.engine is Engine.MEMCACHED else "BytesUsedForCache"
    held = [[seen[s][field] for s in shard if field in seen.get(s, {})] for shard in members.shards]
    observed = Observed(
        members.engine,
        members.node_type,
        len(members.shards),
        members.replicas,
        sum(max(sizes) for sizes in held) if all(held) else None,
        engine_cpu_pct=_worst(values.get("EngineCPUUtilization") for values in seen.values()),
        ops_per_s=sum(values.get("CommandsPerSecond", 0.0) for values in seen.values()) or None,
        connections=_worst(values.get("CurrConnections") for values in seen.values()),
    )
    return History(observed, notes=("nothing was recorded yet: this is what is seen now, so come back later",))


def _notes(shards: Sequence[Sequence[_Node]], observed: Observed, span_s: int) -> Iterator[str]:
    if span_s < DAY_S:
        yield f"only {_span(span_s)} of history: the peaks of a day, and growth, are not in it"
    elif observed.window_s < span_s / 2:
        yield f"of {_span(span_s)} only {_span(observed.window_s)} were measured: peaks may have been missed"
    blind = [str(node.subject.id) for shard in shards for node in shard if not len(node.used)]
    if blind:
        yield f"nothing was recorded of {', '.join(blind[:10])}"
    evicted = sum(sum(node.hours["Evictions"].total) for shard in shards for node in shard if "Evictions" in node.hours)
    if evicted:
        yield f"{evicted:,.0f} keys were evicted: the load wants more memory than was seen, by how much is not known"
    peaks = [max(_shard_by_hour(shard).values(), default=0.0) for shard in shards]
    even = sum(peaks) / len(peaks)
    if len(peaks) > 1 and max(peaks) > _SKEW * even:
        yield f"the fullest shard holds {max(peaks) / even:.1f} times as much as an even one: leave room for it"


def _span(seconds: float) -> str:
    if seconds < 5400:
        return f"{max(1, round(seconds / 60))} min"
    return f"{seconds / HOUR_S:.1f} h" if seconds < 2 * DAY_S else f"{seconds / DAY_S:.1f} days"
