"""ModifyReplicationGroup: settings, roles, node type, engine and version. Cluster mode has a file of its own."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from cachekeep.api import capacity, choose, transit
from cachekeep.api.context import Call
from cachekeep.api.guards import guard_changed
from cachekeep.api.ops.engine_versions import Change, asked_change, asks_to_stay, claim_second_instances, taken_back
from cachekeep.api.ops.group_cluster_mode import asked_mode, change_mode
from cachekeep.api.ops.members import find_group, members_of, require_available, shown
from cachekeep.api.ops.upkeep import modified_upkeep
from cachekeep.api.present import Shape
from cachekeep.api.secondaries import refuse_alone
from cachekeep.api.surroundings import refuse_surroundings
from cachekeep.domain.cache_cluster import CacheCluster, Pending, Status
from cachekeep.domain.faults import Fault, invalid_combination, invalid_value
from cachekeep.domain.ports import Transaction
from cachekeep.domain.replication_group import ClusterMode, HandOver, ReplicationGroup
from cachekeep.plan.nodes import with_node_type
from cachekeep.plan.transit import with_transit
from cachekeep.plan.upgrades import begin, without_engine


def modify_replication_group(call: Call) -> Shape:
    """What needs no engine, and roles, change at once; the rest waits for the window unless ApplyImmediately."""
    group = find_group(call, call.params["ReplicationGroupId"])
    require_available(group)
    refuse_surroundings(call)
    refuse_alone(call, group)
    return modified(call, group)


def modified(call: Call, group: ReplicationGroup) -> Shape:
    """The same for a group that is available, whoever asks: for a member of a global datastore, that does."""
    mode = asked_mode(call, group)
    if mode is not None:
        return change_mode(call, group, mode)
    members = members_of(call.services.store, group)
    change = asked_change(call, group, members)
    new = guard_changed(call, replace(group, **_plain_changes(call, group, members, change)))
    regrouped = new.user_group_ids != group.user_group_ids
    new = replace(new, user_groups_before=group.user_group_ids if regrouped else None)
    pending = _pending(call, group, members, change)
    _check_alone(call, pending, change)
    new = _with_hand_over(call, new)
    with call.services.store.transaction() as work:
        new, changed = _applied(call, work, group, replace(new, pending=pending))
        work.replace(group, new)
        for old, member in zip(members_of(work, group), changed, strict=True):
            work.replace(old, member)
        return shown(call, new, changed)


def _applied(
    call: Call, work: Transaction, group: ReplicationGroup, new: ReplicationGroup
) -> tuple[ReplicationGroup, list[CacheCluster]]:
    """The group and its members after the request. ApplyImmediately applies this request and everything that waited."""
    at_once = bool(call.flag("ApplyImmediately"))
    members = [replace(m, parameter_group=new.parameter_group, upkeep=new.upkeep) for m in members_of(work, group)]
    members = [replace(m, auth_tokens=new.auth_tokens, auth_token_at=new.auth_token_at) for m in members]
    if new.pending.version is not None:
        members = claim_second_instances(call, work, new, members, at_once=at_once)
    else:
        members = taken_back(work, members)
    if at_once and new.pending.anything:
        new, members = _begun(call, work, new, members)
    else:
        members = [replace(m, pending=replace(m.pending, node_type=new.pending.node_type)) for m in members]
        if (
            new.parameter_group != group.parameter_group
            or new.node_groups != group.node_groups
            or new.user_group_ids != group.user_group_ids
            or new.auth_tokens != group.auth_tokens
        ):
            new = replace(new, status=Status.MODIFYING)
    # A hand-over concerns the shard, not what its members are.
    if new.status is Status.MODIFYING and new.parameter_group != group.parameter_group:
        members = [replace(m, status=Status.MODIFYING) for m in members]
    return new, members


def _begun(
    call: Call, work: Transaction, group: ReplicationGroup, members: Sequence[CacheCluster]
) -> tuple[ReplicationGroup, list[CacheCluster]]:
    """Everything that waits is what is wanted now."""
    pending = group.pending
    if pending.version is not None:
        begun = begin(group, members, call.services.clock.now())
        work.release(begun.released)
        group, members = begun.group, begun.members
    else:
        members = [with_node_type(m, pending.node_type or group.node_type) for m in members]
    automatic = group.automatic_failover if pending.automatic_failover is None else pending.automatic_failover
    node_type = pending.node_type or group.node_type
    group = replace(group, node_type=node_type, automatic_failover=automatic, pending=Pending())
    group, members = with_transit(group, members, pending.transit)
    return replace(group, status=Status.MODIFYING), list(members)


def _plain_changes(
    call: Call, group: ReplicationGroup, members: Sequence[CacheCluster], change: Change | None
) -> dict[str, Any]:
    """New values that need no engine, or are applied to it while it runs (the parameter group)."""
    changes: dict[str, Any] = {"upkeep": modified_upkeep(call, group)}
    named = call.text("SnapshottingClusterId")
    if named is not None:
        changes["snapshotting_cluster"] = _snapshotting_cluster(call, group, named.lower())
    description = call.text("ReplicationGroupDescription")
    if description is not None:
        changes["description"] = description
    if call.text("CacheParameterGroupName") is not None and change is None:
        choice = choose.EngineChoice(group.engine, group.version)
        parameters = choose.choose_parameter_group(call, choice, group.cluster_mode, group.parameter_group)
        choose.check_switch(call, group.parameter_group, parameters, clustered=group.clustered)
        changes["parameter_group"] = parameters.name
    return changes | _failover_changes(call, group)


def _snapshotting_cluster(call: Call, group: ReplicationGroup, name: str) -> str:
    """Raises InvalidParameterCombination with cluster mode, as AWS; CacheClusterNotFound; InvalidParameterValue."""
    if group.cluster_mode is ClusterMode.ENABLED:
        raise invalid_combination(
            "SnapshottingClusterId cannot be set for replication groups with cluster mode enabled."
        )
    if name not in group.member_ids:
        if call.services.store.get(CacheCluster, call.region, name) is None:
            raise Fault("CacheClusterNotFound", f"CacheCluster not found: {name[:60]}")
        raise invalid_value(f"Cache cluster {name} is not a member of replication group {group.id}.")
    return name


def _failover_changes(call: Call, group: ReplicationGroup) -> dict[str, Any]:
    automatic = call.flag("AutomaticFailoverEnabled")
    if automatic is False and group.cluster_mode is not ClusterMode.DISABLED:
        raise invalid_combination(
            f"Turning off automatic failover for replication group {group.id} with cluster mode "
            f"{group.cluster_mode.value} is not supported."
        )
    after = group.automatic_failover if automatic is None else automatic
    fewest = min(len(shard.member_ids) for shard in group.node_groups)
    if after and fewest < 2 and group.cluster_mode is not ClusterMode.ENABLED:
        raise invalid_combination(
            "When using automatic failover, there must be at least 2 cache clusters in the replication group."
        )
    multi_az = call.flag("MultiAZEnabled")
    if multi_az and not after:
        raise invalid_combination("Multi-AZ needs AutomaticFailoverEnabled to be true.")
    if multi_az and fewest < 2:
        raise invalid_combination("Multi-AZ needs at least one replica in each node group.")
    if not after:
        return {"multi_az": False}
    return {} if multi_az is None else {"multi_az": multi_az}


def _pending(call: Call, group: ReplicationGroup, members: Sequence[CacheCluster], change: Change | None) -> Pending:
    """What waits after this request: what waited before, with what it adds or takes back."""
    pending = group.pending
    name = call.text("CacheNodeType")
    if name is not None:
        node_type = choose.choose_node_type(call, name)
        capacity.check_growth(call, group, node_type.name, len(group.member_ids))
        parameters = call.parameter_group(call.text("CacheParameterGroupName") or group.parameter_group)
        if name != group.node_type and change is None:
            capacity.check_data_fits(call, members, node_type, parameters)
        pending = replace(pending, node_type=None if name == group.node_type else name)
    automatic = call.flag("AutomaticFailoverEnabled")
    if automatic is not None:
        pending = replace(pending, automatic_failover=None if automatic == group.automatic_failover else automatic)
    encrypted = transit.asked_change(call, group)
    if encrypted is not None:
        pending = replace(pending, transit=None if encrypted is group.transit else encrypted)
    if change is not None:
        return change.waiting(pending)
    return without_engine(pending) if asks_to_stay(call, group) else pending


def _check_alone(call: Call, pending: Pending, change: Change | None) -> None:
    """Raises InvalidParameterCombination: a change of version copies every node, so nothing else may go on beside it.

    Source: ElastiCache guide, "Version management": a pending scale-up blocks an upgrade, and the reverse.
    """
    if pending.version is None:
        return
    if pending.node_type is not None:
        raise invalid_combination(
            "A change of the engine version and a change of the node type exclude each other: apply or take back the "
            "one that waits first (by naming the present node type, or the present version)."
        )
    if change is not None and call.text("PrimaryClusterId") is not None:
        raise invalid_combination("PrimaryClusterId cannot be used together with a change of the engine version.")


def _with_hand_over(call: Call, group: ReplicationGroup) -> ReplicationGroup:
    """PrimaryClusterId: that replica shall be primary. Done at once, as it costs clients some milliseconds only."""
    name = call.text("PrimaryClusterId")
    if name is None:
        return group
    name = name.lower()
    shard = group.shard_of(name)
    if shard is None:
        if call.services.store.get(CacheCluster, call.region, name) is None:
            raise Fault("CacheClusterNotFound", f"CacheCluster not found: {name[:60]}")
        raise invalid_value(f"Cache cluster {name} is not a member of replication group {group.id}.")
    if shard.primary_id == name:
        return group
    at_once = bool(call.flag("ApplyImmediately"))
    asked = call.flag("AutomaticFailoverEnabled")
    automatic = asked if at_once and asked is not None else group.automatic_failover
    if automatic or group.multi_az:
        why = "Multi-AZ" if group.multi_az else "automatic failover"
        raise invalid_combination(
            f"A replica of {group.id} cannot be promoted while {why} is on: turn it off first, or let TestFailover "
            "choose one."
        )
    return group.with_shard(replace(shard, hand_over=HandOver(to=name)))
