"""Whose measurements a right-sizing goes by: the nodes of a group, a Memcached cluster or a watched target, by shard.

Pure. Called by report.right_size.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from cachekeep.domain.engine import Engine
from cachekeep.domain.faults import Fault
from cachekeep.domain.metrics import Subject
from cachekeep.domain.serverless import backing_id, serverless_name

# How ElastiCache names the nodes of a group with cluster mode: `orders-0002-001`.
_SHARD = re.compile(r"-([0-9]{4})-[0-9]{3}\Z")


@dataclass(frozen=True)
class Members:
    """shards: of each its nodes; of Memcached a shard of one for each node. replicas: of the shard that has most.

    node_type: "" where nobody said it. kind: group, cluster, serverless or watched.
    """

    id: str
    kind: str
    region: str
    engine: Engine
    node_type: str
    shards: tuple[tuple[Subject, ...], ...]

    @property
    def replicas(self) -> int:
        return max(len(shard) for shard in self.shards) - 1

    @property
    def subjects(self) -> list[Subject]:
        return [subject for shard in self.shards for subject in shard]


def members_of(kind: str, resource: Mapping[str, Any]) -> Members:
    """resource: as the status page tells it. Raises Fault when it has no nodes or its engine is not known yet."""
    name, engine = resource["id"], resource["engine"]
    nodes = [node for node in resource["nodes"] if node["spare"] is None]
    if not nodes or not engine:
        raise Fault("InvalidReplicationGroupState", f"{name} has no nodes that were ever seen; try again later.")
    by_shard: dict[str, list[Subject]] = {}
    for place, node in enumerate(nodes):
        shard = str(place) if engine == Engine.MEMCACHED else _shard(node)
        by_shard.setdefault(shard, []).append(Subject(resource["region"], node["id"], node["node_id"]))
    shards = tuple(tuple(shard) for _, shard in sorted(by_shard.items()))
    return Members(name, kind, resource["region"], Engine(engine), resource["node_type"], shards)


def named(resources: Sequence[tuple[str, Mapping[str, Any]]], region: str, name: str) -> Members:
    """Of kinds and resources, the one of that name, or the group that has such a member. Raises
    ResourceNotFoundFault."""
    asked, here = name.lower(), [(kind, one) for kind, one in resources if one["region"] == region]
    for kind, one in here:
        if one["id"] == asked:
            return members_of(kind, one)
    for _, one in here:
        if one["id"] == backing_id(asked):
            # Nobody chose the node type of what is behind it.
            return members_of("serverless", {**one, "node_type": ""})
    for kind, one in here:
        if any(node["id"] == asked for node in one["nodes"]):
            return members_of(kind, one)
    have = ", ".join(serverless_name(one["id"]) for _, one in here[:20])
    raise Fault(
        "ResourceNotFoundFault",
        f"There is no group, cluster or watched target {name[:60]!r} in {region}; there is {have or 'none'}.",
        404,
    )


def _shard(node: Mapping[str, Any]) -> str:
    found = _SHARD.search(node["id"])
    return str(node.get("shard") or (found[1] if found else ""))
