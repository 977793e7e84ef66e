"""Does what is asked for fit this machine, and in which zone is a node shown? Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from cachekeep.domain.cache_cluster import CacheCluster
from cachekeep.domain.engine import Engine
from cachekeep.domain.faults import Fault
from cachekeep.domain.parameters import NodeType

_ZONE_LETTERS = "abc"


@dataclass(frozen=True)
class Machine:
    """memory_bytes: of the whole machine. overcommit: how many times that may be promised to nodes in all,
    since a node type is a ceiling that a development cache seldom reaches."""

    memory_bytes: int
    overcommit: float

    @property
    def promised_at_most(self) -> int:
        return int(self.memory_bytes * self.overcommit)


def node_bytes(engine: Engine, node_type: NodeType) -> int:
    """What one node of this type may grow to."""
    return node_type.maxmemory_bytes if engine.speaks_resp else node_type.memcached_bytes


def promised_bytes(clusters: Iterable[CacheCluster], node_types: Mapping[str, NodeType]) -> int:
    """What all nodes together may grow to, what waits for a maintenance window included."""
    return sum(
        (len(c.nodes) + len(c.pending.nodes_to_add) + sum(s is not None for s in (c.spare, c.pending.spare)))
        * (c.memory_bytes or max(node_bytes(c.engine, node_types[t]) for t in _node_types(c)))
        for c in clusters
    )


def _node_types(cluster: CacheCluster) -> list[str]:
    """All that its nodes have or may come to have."""
    coming = cluster.scaling.node_type if cluster.scaling is not None else None
    return [t for t in (cluster.node_type, cluster.pending.node_type, coming) if t is not None]


def growth_bytes(engine: Engine, now: str, waits: str | None, wanted: str, node_types: Mapping[str, NodeType]) -> int:
    """What one node of type `now` (or of `waits`, once the window opens) needs more to become `wanted`; 0 if less."""
    held = max(node_bytes(engine, node_types[t]) for t in (now, waits) if t is not None)
    return max(node_bytes(engine, node_types[wanted]) - held, 0)


def check_capacity(machine: Machine, promised: int, node_type: str, more: int) -> None:
    """Raises InsufficientCacheClusterCapacity, with a sentence that says what would help."""
    if promised + more <= machine.promised_at_most:
        return
    gib = 1 << 30
    raise Fault(
        "InsufficientCacheClusterCapacity",
        f"The requested nodes of type {node_type} ask for {more / gib:.2f} GiB; {promised / gib:.2f} GiB are "
        f"promised already, and this machine of {machine.memory_bytes / gib:.2f} GiB promises at most "
        f"{machine.promised_at_most / gib:.2f} GiB (overcommit factor {machine.overcommit:g}). Choose a smaller node "
        "type, delete a cache, or raise the overcommit setting.",
    )


def zones_of(region: str) -> tuple[str, ...]:
    """The availability zones that a region is shown to have."""
    return tuple(region + letter for letter in _ZONE_LETTERS)


def spread(region: str, count: int, asked: tuple[str, ...], *, several: bool) -> list[str]:
    """A zone for each of `count` nodes: those asked for first, else one zone or (several) all in turn."""
    zones = zones_of(region) if several else zones_of(region)[:1]
    return [asked[i] if i < len(asked) else zones[i % len(zones)] for i in range(count)]
