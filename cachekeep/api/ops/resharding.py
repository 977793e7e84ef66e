"""ModifyReplicationGroupShardConfiguration: more shards, fewer, or the same with evenly divided slots."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from cachekeep.api import capacity, choose, quota
from cachekeep.api.context import Call
from cachekeep.api.ops.members import (
    find_group,
    free_names,
    group_event,
    insert_members,
    members_of,
    refuse_later,
    require_available,
    shown,
)
from cachekeep.api.present import Shape
from cachekeep.api.shards import check_shard_id
from cachekeep.domain.cache_cluster import CacheCluster, Status
from cachekeep.domain.faults import invalid_combination, invalid_value
from cachekeep.domain.nodes import NodeFacts
from cachekeep.domain.ports import Transaction
from cachekeep.domain.replication_group import ClusterMode, NodeGroup, ReplicationGroup
from cachekeep.domain.slots import Slots, count_of, numbers_of
from cachekeep.plan.parameters import engine_config
from cachekeep.plan.placement import spread
from cachekeep.plan.rebalance import rebalance

# What an engine in cluster mode uses without any key, beside its replication backlog: measured 2-3 MB.
_EMPTY_BYTES = 3 << 20


@dataclass(frozen=True)
class _NewShard:
    """A shard to come. zones: of its members; () for any."""

    id: str
    zones: tuple[str, ...] = ()


@dataclass(frozen=True)
class Resharding:
    """coming: new shards, each of `size` members. wanted: the slots of every shard that is to be there."""

    coming: tuple[_NewShard, ...]
    wanted: Mapping[str, Slots]
    size: int


def modify_replication_group_shard_configuration(call: Call) -> Shape:
    """Stored as wanted: new shards with new members, slots for each shard, and which shards leave. Control moves the
    slots, then ends what leaves."""
    group = find_group(call, call.params["ReplicationGroupId"])
    if group.global_id:
        raise invalid_value(
            f"Replication group {group.id} is a member of the global datastore {group.global_id}: its node groups are "
            "changed for all members, by IncreaseNodeGroupsInGlobalReplicationGroup and the like."
        )
    asked = resharding_asked(call, group)
    with call.services.store.transaction() as work:
        new = reshard(call, work, group, asked)
        return shown(call, new, members_of(work, new))


def resharding_asked(call: Call, group: ReplicationGroup) -> Resharding:
    """What the request comes to. Raises its faults."""
    refuse_later(call, "ModifyReplicationGroupShardConfiguration")
    require_available(group)
    if group.cluster_mode is not ClusterMode.ENABLED:
        raise invalid_combination(
            f"Replication group {group.id} has cluster mode {group.cluster_mode.value}: only cluster mode enabled has "
            "several node groups."
        )
    count = call.params["NodeGroupCount"]
    if count < 1:
        raise invalid_value("NodeGroupCount must be at least 1.")
    quota.check_node_groups(call, count)
    staying = _staying(call, group, count)
    coming = _coming(call, group, count)
    now = {shard.id: shard.slots for shard in group.node_groups}
    wanted = rebalance(now, [*staying, *(shard.id for shard in coming)])
    _check_data(call, group, now, wanted)
    size = min(len(shard.member_ids) for shard in group.node_groups)
    _check_size(call, group, len(coming) * size)
    return Resharding(tuple(coming), wanted, size)


def reshard(call: Call, work: Transaction, group: ReplicationGroup, asked: Resharding) -> ReplicationGroup:
    """Stored as wanted."""
    shards = [
        replace(shard, slots=asked.wanted.get(shard.id, ()), leaving=shard.id not in asked.wanted)
        for shard in group.node_groups
    ]
    shards += [_inserted(call, work, group, shard, asked.wanted[shard.id], asked.size) for shard in asked.coming]
    shards.sort(key=lambda shard: shard.id)
    new = replace(group, node_groups=tuple(shards), status=Status.MODIFYING, resharding=0.0)
    work.replace(group, new)
    before, after = len(group.node_groups), len(asked.wanted)
    text = f"Resharding of replication group {group.id} from {before} to {after} node groups started"
    work.add_event(group_event(call, group, text))
    return new


def _staying(call: Call, group: ReplicationGroup, count: int) -> list[str]:
    """The ids of the present shards that stay."""
    have = [shard.id for shard in group.node_groups]
    remove, retain = call.texts("NodeGroupsToRemove"), call.texts("NodeGroupsToRetain")
    if count >= len(have):
        if remove or retain:
            raise invalid_combination(
                "NodeGroupsToRemove and NodeGroupsToRetain are only used when NodeGroupCount becomes smaller."
            )
        return have
    if bool(remove) == bool(retain):
        raise invalid_combination(
            f"To go from {len(have)} to {count} node groups, use either NodeGroupsToRemove or NodeGroupsToRetain."
        )
    parameter, named = ("NodeGroupsToRemove", remove) if remove else ("NodeGroupsToRetain", retain)
    unknown = [name for name in named if name not in have]
    if unknown:
        raise invalid_value(f"Replication group {group.id} has no node group {unknown[0][:40]} ({parameter}).")
    must = len(have) - count if remove else count
    if len(set(named)) != must:
        raise invalid_combination(
            f"To go from {len(have)} to {count} node groups, {parameter} must name {must}, and it names "
            f"{len(set(named))}."
        )
    return [name for name in have if (name in named) != bool(remove)]


def _coming(call: Call, group: ReplicationGroup, count: int) -> list[_NewShard]:
    """New shards with the ids and zones of ReshardingConfiguration, else with the next free numbers."""
    have = [shard.id for shard in group.node_groups]
    entries: Sequence[Mapping[str, Any]] = call.params.get("ReshardingConfiguration") or []
    more = max(count - len(have), 0)
    if entries and not more:
        raise invalid_combination("ReshardingConfiguration is only used when NodeGroupCount becomes larger.")
    new = [entry for entry in entries if entry.get("NodeGroupId") not in have]
    if len(entries) == count and len(new) > more:
        # AWS takes one entry for each node group: those without an id stand first for the present ones.
        new = new[len(new) - more :]
    if entries and len(new) != more:
        raise invalid_combination(
            f"ReshardingConfiguration describes {len(new)} new node groups, and {more} are to come."
        )
    names = [entry.get("NodeGroupId") for entry in new] or [None] * more
    for name in names:
        if name is not None:
            check_shard_id(name)
    free = (name for number in range(1, 10_000) if (name := f"{number:04d}") not in {*have, *names})
    ids = [name or next(free) for name in names]
    if len(set(ids)) != len(ids):
        raise invalid_value("ReshardingConfiguration names a node group twice.")
    zones = [choose.check_zones(call, *(entry.get("PreferredAvailabilityZones") or ())) for entry in new]
    return [_NewShard(name, asked) for name, asked in zip(ids, zones or [()] * more, strict=True)]


def _inserted(
    call: Call, work: Transaction, group: ReplicationGroup, shard: _NewShard, slots: Slots, size: int
) -> NodeGroup:
    """A new shard with as many members as the smallest has."""
    if shard.zones and len(shard.zones) != size:
        raise invalid_combination(
            f"PreferredAvailabilityZones of node group {shard.id} names {len(shard.zones)} zones for {size} nodes."
        )
    names = free_names(work, group, NodeGroup(shard.id, (), ""), size)
    zones = spread(group.region, size, shard.zones, several=True)
    insert_members(call, work, group, list(zip(names, zones, strict=True)))
    return NodeGroup(shard.id, tuple(names), names[0], slots)


def _check_size(call: Call, group: ReplicationGroup, more: int) -> None:
    if more:
        # The operation declares no fault for the nodes of one group alone.
        quota.check_group_nodes(call, len(group.member_ids) + more, "NodeQuotaForCustomerExceeded")
        quota.check_more_nodes(call, more)
        capacity.check_members_fit(call, group, more)


def _check_data(call: Call, group: ReplicationGroup, now: Mapping[str, Slots], wanted: Mapping[str, Slots]) -> None:
    """Raises InvalidParameterCombination when a shard would get more data than it holds.

    How much is in a slot is not known: what a shard uses is divided by its slots. What cannot be seen is left out.
    """
    node_type = call.services.catalog.node_types[group.node_type]
    parameters = call.parameter_group(group.parameter_group)
    family = call.services.catalog.families[parameters.family]
    config = engine_config(family, parameters.values, node_type, group.engine, group.version)
    room, idle = int(config["maxmemory"]), _EMPTY_BYTES + int(config.get("repl-backlog-size", "0"))
    members = {m.id: m for m in members_of(call.services.store, group)}
    owned = {name: numbers_of(slots) for name, slots in now.items()}
    held = {shard.id: _data_bytes(_seen(call, shard, members), idle) for shard in group.node_groups}
    for name, slots in wanted.items():
        get = numbers_of(slots)
        gained = get - owned.get(name, frozenset())
        if not gained:
            continue
        expected = idle + sum(
            held[other] * len(get & mine) // max(count_of(now[other]), 1) for other, mine in owned.items()
        )
        if expected > room:
            raise invalid_combination(
                f"Node group {name} would have to hold about {expected} bytes, and a node of type {group.node_type} "
                f"with the parameter group {parameters.name} holds {room}. Keep more node groups, choose a larger node "
                "type, or remove data first."
            )


def _seen(call: Call, shard: NodeGroup, members: Mapping[str, CacheCluster]) -> NodeFacts | None:
    """What the shard's primary says; of it alone, as its replicas hold the same."""
    primary = members.get(shard.primary_id)
    return None if primary is None else capacity.facts_of(call, primary)


def _data_bytes(facts: NodeFacts | None, idle: int) -> int:
    """What the keys use, without what an empty engine does."""
    if facts is None or facts.keys == 0:
        return 0
    return max(facts.used_memory_bytes - idle, 0)
