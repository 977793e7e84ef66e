"""Does what is asked for fit: the machine's memory, and the data that is there already? Asked before anything begins.

What is seen of the nodes is the last look; the planner looks again before it acts.
"""

from __future__ import annotations

from collections.abc import Iterable

from cachekeep.api.context import Call
from cachekeep.domain.cache_cluster import CacheCluster
from cachekeep.domain.engine import Engine, EngineVersion
from cachekeep.domain.faults import invalid_combination, invalid_value
from cachekeep.domain.nodes import NOTHING_SEEN, NodeFacts
from cachekeep.domain.parameters import NodeType, ParameterGroup
from cachekeep.domain.replication_group import ReplicationGroup
from cachekeep.plan.parameters import engine_config
from cachekeep.plan.placement import Machine, check_capacity, growth_bytes, node_bytes, promised_bytes


def check_fits(call: Call, engine: Engine, node_type: NodeType, count: int) -> None:
    """Raises InsufficientCacheClusterCapacity when this machine cannot promise that much memory."""
    each = node_bytes(engine, node_type)
    if each == 0:
        raise invalid_value(f"The node type {node_type.name} is not supported for engine {engine.value}.")
    check_more(call, node_type.name, each * count)


def check_members_fit(call: Call, group: ReplicationGroup, count: int) -> None:
    """The same for `count` more members of a group, with their second instances if a change of engine waits."""
    node_type = group.pending.node_type or group.node_type
    instances = count * (1 if group.pending.version is None else 2)
    check_fits(call, group.engine, call.services.catalog.node_types[node_type], instances)


def check_growth(call: Call, resource: ReplicationGroup | CacheCluster, wanted: str, nodes: int) -> None:
    """Raises InsufficientCacheClusterCapacity when `nodes` nodes cannot be promised the memory of type `wanted`."""
    more = growth_bytes(
        resource.engine, resource.node_type, resource.pending.node_type, wanted, call.services.catalog.node_types
    )
    if more:
        check_more(call, wanted, more * nodes)


def check_more(call: Call, node_type: str, more_bytes: int) -> None:
    """Raises InsufficientCacheClusterCapacity when `more_bytes` cannot be promised beside what is promised already."""
    check_capacity(call.services.machine, _promised(call), node_type, more_bytes)


def could_promise(call: Call, more_bytes: int) -> bool:
    machine: Machine = call.services.machine
    return _promised(call) + more_bytes <= machine.promised_at_most


def _promised(call: Call) -> int:
    """What all nodes may grow to, second instances included."""
    return promised_bytes(call.services.store.all(CacheCluster), call.services.catalog.node_types)


def facts_of(call: Call, cluster: CacheCluster) -> NodeFacts | None:
    """What the only node of a Valkey or Redis cluster said last; None when it does not answer."""
    return call.services.seen().get(cluster.key(cluster.nodes[0]), NOTHING_SEEN).facts


def room_bytes(
    call: Call, node_type: NodeType, parameters: ParameterGroup, engine: Engine, version: EngineVersion
) -> int:
    """maxmemory of a node of that type whose parameter group is `parameters`."""
    family = call.services.catalog.families[parameters.family]
    return int(engine_config(family, parameters.values, node_type, engine, version)["maxmemory"])


def check_data_fits(call: Call, clusters: Iterable[CacheCluster], node_type: NodeType, group: ParameterGroup) -> None:
    """Raises InvalidParameterCombination when the data of one of the nodes is larger than such a node holds."""
    why = why_too_small(call, clusters, node_type, group)
    if why is not None:
        raise invalid_combination(why)


def why_too_small(
    call: Call, clusters: Iterable[CacheCluster], node_type: NodeType, group: ParameterGroup
) -> str | None:
    for cluster in clusters:
        facts = facts_of(call, cluster)
        room = cluster.memory_bytes or room_bytes(call, node_type, group, *cluster.runs)
        if facts is not None and facts.used_memory_bytes > room:
            return (
                f"{cluster.id} uses {facts.used_memory_bytes} bytes, and a node of type {node_type.name} with the "
                f"parameter group {group.name} holds {room}. Choose a larger node type, or remove data first."
            )
    return None
