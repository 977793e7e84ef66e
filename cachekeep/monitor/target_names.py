"""Gives the nodes of a watched target names that they keep, as ElastiCache would name them. Pure.

A single node is NAME; members of a replication group are NAME-001, NAME-002; those of a cluster NAME-0001-001 by the
shard in which they were first seen; nodes of Memcached are 0001, 0002, ... of the cluster NAME. A node is known again
by its own host name, else by its address; so names outlive fail-overs. Called by monitor.targets.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import replace
from itertools import count

from cachekeep.domain.metric_ports import Explored, FoundNode
from cachekeep.domain.metrics import WatchedNode

MEMCACHED = "memcached"


def named(
    name: str, before: Sequence[WatchedNode], explored: Explored, kept: Collection[WatchedNode]
) -> tuple[WatchedNode, ...]:
    """The nodes under their names: those of before in their order, then new ones. Of before, those that were not found
    stay only if they are in `kept`."""
    if len(before) == 1 and len(explored.nodes) == 1 and not explored.clustered:
        # A single node that moved, as AWS replaces them behind one name.
        return (_as_found(before[0], explored.nodes[0], before[0].shard),)
    known = {node: _known(node, before) for node in explored.nodes}
    now = {old: found for found, old in known.items() if old is not None}
    left = [node for node in before if node in now or node in kept]
    shards = _shards(explored.nodes, known, left) if explored.clustered else {}
    nodes = [_as_found(node, now[node], shards.get(now[node].shard, "")) if node in now else node for node in left]
    for found in explored.nodes:
        if known[found] is None:
            shard = shards.get(found.shard, "")
            nodes.append(_new(name, found, shard, nodes, explored))
    return tuple(nodes)


def _known(found: FoundNode, before: Sequence[WatchedNode]) -> WatchedNode | None:
    for node in before:
        same_name = found.host_name and (found.host_name, found.address.port) == (node.host_name, node.address.port)
        if same_name:
            return node
    return next((node for node in before if node.address == found.address), None)


def _as_found(node: WatchedNode, found: FoundNode, shard: str) -> WatchedNode:
    return replace(node, address=found.address, host_name=found.host_name, shard=shard)


def _shards(
    found: Sequence[FoundNode], known: dict[FoundNode, WatchedNode | None], left: Sequence[WatchedNode]
) -> dict[str, str]:
    """The target's own number of each shard: that of its nodes that are known, else a free one."""
    numbers: dict[str, str] = {}
    for node in found:
        old = known[node]
        if old is not None and old.shard and node.shard not in numbers and old.shard not in numbers.values():
            numbers[node.shard] = old.shard
    taken = {*numbers.values(), *(node.shard for node in left)}
    for node in found:
        if node.shard not in numbers:
            number = next(free for n in count(1) if (free := f"{n:04d}") not in taken)
            numbers[node.shard] = number
            taken.add(number)
    return numbers


def _new(name: str, found: FoundNode, shard: str, others: Sequence[WatchedNode], explored: Explored) -> WatchedNode:
    taken = {(node.cluster_id, node.node_id) for node in others}
    if explored.engine == MEMCACHED:
        free = ((name, f"{n:04d}") for n in count(1))
    elif shard:
        free = ((f"{name}-{shard}-{n:03d}", "0001") for n in count(1))
    elif len(explored.nodes) == 1 and not others:
        free = ((name, "0001") for _ in count(1))
    else:
        # A node that was alone is the first one.
        alone = (name, "0001") in taken
        free = ((f"{name}-{n:03d}", "0001") for n in count(2 if alone else 1))
    cluster_id, node_id = next(one for one in free if one not in taken)
    return WatchedNode(cluster_id, node_id, found.address, found.host_name, shard)
