"""What is measured of a serverless cache as a whole, put together from the minutes of its nodes. Pure.

Called by monitor.collect. Values add up over nodes: data and keys are those of primaries, connections those of all.
ECPUs are an estimate. AWS counts, request by request, the kilobytes moved or the CPU time in units of a simple command,
whichever is more (ElastiCache pricing page); engines tell sums, so here the larger of the two sums of a node's minute
counts, which is never more than the sum of the larger ones.
"""

from __future__ import annotations

from collections.abc import Mapping

from cachekeep.domain.metrics import Metric, Point
from cachekeep.monitor.gathering import merged

ECPU, COMMANDS = "ElastiCacheProcessingUnits", "TotalCmdsCount"
# What a GET or SET of a small value takes at most on a machine that is not overloaded; a guess.
SIMPLE_USEC = 10.0
# What Cachekeep's own looks at a node move in a minute: measured 676 of a primary, 708 of a replica (Valkey 9.1).
OWN_KB = 700.0

_COUNTERS = (
    "CacheHits",
    "CacheMisses",
    "NewConnections",
    "Evictions",
    "Reclaimed",
    "NetworkBytesIn",
    "NetworkBytesOut",
)
_OF_MEMCACHED = {"CacheHits": "GetHits", "CacheMisses": "GetMisses", "BytesUsedForCache": "BytesUsedForCacheItems"}
_GAUGES = ("BytesUsedForCache", "CurrItems", "CurrVolatileItems")
_LATENCIES = ("SuccessfulReadRequestLatency", "SuccessfulWriteRequestLatency")
Points = Mapping[str, Point]


def with_node(cache: Points, node: Points, metrics: Mapping[str, Metric]) -> dict[str, Point]:
    """The cache's minute with that of one more node. metrics: all by name."""
    latencies = {name: node[name] for name in _LATENCIES if name in node}
    sums = {name: point for name, point in cache.items() if name not in _LATENCIES}
    for name, value in _share(node).items():
        old = sums.get(name)
        sums[name] = Point.of(value + (old.total if old is not None else 0.0))
    reads = sum(sums[name].total for name in ("CacheHits", "CacheMisses") if name in sums)
    if reads > 0:
        sums["CacheHitRate"] = Point.of(100.0 * sums["CacheHits"].total / reads)
    return sums | merged({name: cache[name] for name in _LATENCIES if name in cache}, latencies, metrics)


def _share(node: Points) -> dict[str, float]:
    """What the node adds. A counter's minute that was not watched as a whole adds nothing."""
    node = {**node, **{name: node[other] for name, other in _OF_MEMCACHED.items() if other in node}}
    primary = _mean(node, "IsMaster") != 0.0
    names = (*_COUNTERS, "CurrConnections", *(_GAUGES if primary else ()))
    found = {name: value for name in names if (value := _mean(node, name)) is not None}
    commands = _commands(node, primary=primary)
    if commands is not None:
        calls, usec = commands
        found[COMMANDS] = calls
        found[ECPU] = max(calls, usec / SIMPLE_USEC, _client_kb(node)) if calls else 0.0
    return found


def _commands(node: Points, *, primary: bool) -> tuple[float, float] | None:
    """Requests of clients and the time that they took in microseconds; None for a minute without counters.

    A replica's writes are its primary's; what Cachekeep asks itself neither reads nor writes keys.
    """
    if "CmdGets" in node:
        calls = sum(_mean(node, name) or 0.0 for name in ("CmdGets", "CmdSet", "CmdTouch"))
        return calls, 0.0
    families = ("GetType", "SetType") if primary else ("GetType",)
    if not any(f"{family}Cmds" in node for family in families):
        return None
    counts = {family: _mean(node, f"{family}Cmds") or 0.0 for family in families}
    usec = sum(count * (_mean(node, f"{family}CmdsLatency") or 0.0) for family, count in counts.items())
    return sum(counts.values()), usec


def _client_kb(node: Points) -> float:
    """Kilobytes moved for clients: without replication, which a primary sends once and its replica gets once."""
    moved = (_mean(node, "NetworkBytesIn") or 0.0) + (_mean(node, "NetworkBytesOut") or 0.0)
    return max(0.0, (moved - (_mean(node, "ReplicationBytes") or 0.0)) / 1024 - OWN_KB)


def _mean(node: Points, name: str) -> float | None:
    point = node.get(name)
    return point.total / point.count if point is not None and point.count else None
