"""Whether a shape (node type, shards, replicas) would hold an observed load, and if not, why. Pure.

Assumptions, told with every result: keys and load spread evenly over shards; a core of every node type does as much as
one of the present node; every client connects to every node; with fewer replicas the busiest node takes over their
load, with more it keeps its own. Each demand falls, or stays, as shards are added. Called by plan.right_size.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from cachekeep.domain.engine import Engine
from cachekeep.domain.prices import NodeSpecs

GIB = 1024**3
# Source: API reference, CreateCacheCluster, NumCacheNodes. Of Valkey and Redis the quota is Goal.most_nodes.
MOST_MEMCACHED_NODES = 40
ASSUMPTIONS = (
    "keys and load spread evenly over the shards",
    "a core of every node type does as much as one of the present nodes",
    "Valkey and Redis execute commands on one core of a node, so more vCPUs do not lower the engine's CPU",
    "only the engine's main thread was measured: what the node does besides (snapshots, I/O threads) is left out",
    "every client connects to every node",
    "with fewer replicas the busiest node takes over their load",
    "network is compared with the baseline, not with what a node may burst to",
)


@dataclass(frozen=True)
class Observed:
    """What was measured; None for not known. Peaks over window_s seconds.

    used_bytes: used memory of all shards (of each its primary; of Memcached, all nodes). growth_bytes_per_day: of the
    same; below 0 counts as none. fragmentation_ratio: of the worst node. engine_cpu_pct: of the busiest node's main
    thread; of what else the node does nothing is known. ops_per_s: of all. connections, bytes_*_per_s: of the busiest
    node. shards: nodes of a Memcached cluster. node_type: "" for not known. Raises ValueError if negative, not a
    number, or without shards.
    """

    engine: Engine
    node_type: str = ""
    shards: int = 1
    replicas: int = 0
    used_bytes: float | None = None
    growth_bytes_per_day: float | None = None
    fragmentation_ratio: float | None = None
    ops_per_s: float | None = None
    engine_cpu_pct: float | None = None
    connections: float | None = None
    bytes_in_per_s: float | None = None
    bytes_out_per_s: float | None = None
    window_s: float = 0.0

    def __post_init__(self) -> None:
        if self.shards < 1 or self.replicas < 0:
            raise ValueError(f"a group has at least one shard and no negative replicas: {self.shards}, {self.replicas}")
        for name, value in vars(self).items():
            if not isinstance(value, float | int):
                continue
            if not math.isfinite(value) or (value < 0 and name != "growth_bytes_per_day"):
                raise ValueError(f"{name} must be a number of at least 0, not {value}")


@dataclass(frozen=True)
class Goal:
    """margin: what is left free above the peak (0.25: a quarter more). horizon_days: growth to hold. reserved: the
    share of maxmemory that AWS keeps for overhead. cpu_limit_pct: the seed's risk begins there, for engine CPU."""

    margin: float = 0.25
    horizon_days: float = 90.0
    reserved: float = 0.25
    cpu_limit_pct: float = 75.0
    most_nodes: int = 90

    def __post_init__(self) -> None:
        bounds = (
            ("margin", self.margin, 0, 10),
            ("horizon_days", self.horizon_days, 0, 3650),
            ("reserved", self.reserved, 0, 0.9),
            ("cpu_limit_pct", self.cpu_limit_pct, 1, 100),
            ("most_nodes", self.most_nodes, 1, 500),
        )
        for name, value, least, most in bounds:
            if not least <= value <= most:  # false for NaN too
                raise ValueError(f"{name} must be between {least} and {most}, not {value}")


@dataclass(frozen=True)
class Load:
    """Observed, with margin and growth in it. None: not known."""

    seen: Observed
    goal: Goal

    @property
    def most_nodes(self) -> int:
        """Of one cluster or group."""
        most = self.goal.most_nodes
        return min(most, MOST_MEMCACHED_NODES) if self.seen.engine is Engine.MEMCACHED else most

    @property
    def memory_bytes(self) -> float | None:
        """What all shards together must hold at the end of the horizon."""
        if self.seen.used_bytes is None:
            return None
        growth = max(0.0, self.seen.growth_bytes_per_day or 0.0) * self.goal.horizon_days
        return (self.seen.used_bytes + growth) * (1 + self.goal.margin)

    def engine_cores(self, shards: int, replicas: int) -> float | None:
        """Cores that the engine's main thread needs, on the busiest node of the shape."""
        if self.seen.engine_cpu_pct is None:
            return None
        return self._spread(self.seen.engine_cpu_pct / 100, shards, replicas)

    def gbps(self, shards: int, replicas: int) -> float | None:
        """In the busier direction; the one that is known where only one is."""
        known = [v for v in (self.seen.bytes_in_per_s, self.seen.bytes_out_per_s) if v is not None]
        return self._spread(max(known) * 8 / 1e9, shards, replicas) if known else None

    def connections(self, replicas: int) -> float | None:
        if self.seen.connections is None:
            return None
        return self.seen.connections * (1 + self.goal.margin) * self._taken_over(replicas)

    def _spread(self, amount: float, shards: int, replicas: int) -> float:
        return amount * (1 + self.goal.margin) * self._taken_over(replicas) * self.seen.shards / shards

    def _taken_over(self, replicas: int) -> float:
        return max(1.0, (1 + self.seen.replicas) / (1 + replicas))


def usable_bytes(specs: NodeSpecs, engine: Engine, goal: Goal) -> float:
    """What the keys of one node may take: maxmemory less the reserved share; of Memcached its whole cache memory.

    0 for not known. AWS's table has a slip for Memcached on c7gn.12xlarge, more than the node has: the node counts.
    """
    if engine is Engine.MEMCACHED:
        return min(specs.type.memcached_bytes, specs.type.memory_gib * GIB)
    return specs.type.maxmemory_bytes * (1 - goal.reserved)


def why_not(specs: NodeSpecs, engine: Engine, shards: int, replicas: int, load: Load) -> str | None:
    """The first demand that the shape does not meet, in a sentence; None when it holds all that is known."""
    return (
        _why_not_memory(specs, engine, shards, load)
        or _why_not_cpu(specs, engine, shards, replicas, load)
        or _why_not_connections(specs, replicas, load)
        or _why_not_network(specs, shards, replicas, load)
    )


def shape_name(node_type: str, shards: int, replicas: int, engine: Engine) -> str:
    """`2 shards x (1 + 1) cache.t4g.small`, or `3 x cache.t4g.small`."""
    if engine is Engine.MEMCACHED or (shards == 1 and replicas == 0):
        return f"{shards} x {node_type}"
    parts = f"{shards} shard{'s' if shards > 1 else ''} x (1 + {replicas})" if shards > 1 else f"(1 + {replicas})"
    return f"{parts} x {node_type}"


def _why_not_memory(specs: NodeSpecs, engine: Engine, shards: int, load: Load) -> str | None:
    if load.memory_bytes is None:
        return None
    need = load.memory_bytes / shards
    usable = usable_bytes(specs, engine, load.goal)
    each = " in each shard" if shards > 1 else ""
    if need > usable:
        if engine is Engine.MEMCACHED:
            return f"{_gib(usable)} of cache memory < {_gib(need)} needed{each}"
        share = 1 - load.goal.reserved
        return f"{_gib(specs.type.maxmemory_bytes)} x {share:g} usable = {_gib(usable)} < {_gib(need)} needed{each}"
    ratio = load.seen.fragmentation_ratio
    if engine is not Engine.MEMCACHED and ratio is not None and need * ratio > specs.type.maxmemory_bytes:
        return (
            f"{_gib(specs.type.maxmemory_bytes)} < {_gib(need * ratio)} resident{each}: "
            f"{_gib(need)} needed x fragmentation {ratio:.2f}"
        )
    return None


def _why_not_cpu(specs: NodeSpecs, engine: Engine, shards: int, replicas: int, load: Load) -> str | None:
    limit, each = load.goal.cpu_limit_pct, " on each shard" if shards > 1 else ""
    busy = load.engine_cores(shards, replicas) if engine.speaks_resp else None
    if busy is not None and busy * 100 > limit:
        return f"the engine's one core would be {busy * 100:.0f} % busy{each} > {limit:g} %"
    return None


def _why_not_connections(specs: NodeSpecs, replicas: int, load: Load) -> str | None:
    need = load.connections(replicas)
    if need is not None and need > specs.type.maxclients:
        return f"{specs.type.maxclients} connections allowed < {need:.0f} needed"
    return None


def _why_not_network(specs: NodeSpecs, shards: int, replicas: int, load: Load) -> str | None:
    need = load.gbps(shards, replicas)
    if need is not None and specs.network_gbps is not None and need > specs.network_gbps:
        each = " in each shard" if shards > 1 else ""
        return f"network baseline {specs.network_gbps:g} Gbps < {need:.3g} Gbps needed{each}"
    return None


def _gib(size: float) -> str:
    """Three digits behind the point for the small types: a difference must be seen."""
    return f"{size / GIB:.3f} GiB" if size < 16 * GIB else f"{size / GIB:.1f} GiB"
