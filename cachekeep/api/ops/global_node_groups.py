"""Node groups of a global datastore in cluster mode: more, fewer, or the same with evenly divided slots, everywhere.

Each member reshards by itself (ops.resharding); the copies follow where keys go. All are looked at before anything is
begun, and all is stored in one transaction.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from cachekeep.api.context import Call
from cachekeep.api.entry import Entry, Truth
from cachekeep.api.ops.resharding import reshard, resharding_asked
from cachekeep.api.present import Shape
from cachekeep.api.present_global import global_group
from cachekeep.api.secondaries import group_of, not_now, quiet
from cachekeep.domain.cache_cluster import Status
from cachekeep.domain.faults import Fault, invalid_combination, invalid_value
from cachekeep.domain.global_group import GlobalGroup, GlobalMember
from cachekeep.domain.replication_group import ClusterMode, ReplicationGroup

_PROOF = "tests/scenarios/test_global_clusters.py::test_node_groups_change_in_every_region"
_DECLARED = ("InvalidParameterValue", "InvalidGlobalReplicationGroupState")


def increase_node_groups_in_global_replication_group(call: Call) -> Shape:
    """RegionalConfigurations: ids and zones of the new node groups, by member."""
    found, groups = _members(call)
    count, have = call.params["NodeGroupCount"], len(groups[-1].node_groups)
    if count <= have:
        raise invalid_value(f"{found.id} has {have} node groups: NodeGroupCount must be more.")
    more = _by_member(call, found)
    return _resharded(call, found, groups, {"NodeGroupCount": count}, more)


def decrease_node_groups_in_global_replication_group(call: Call) -> Shape:
    """GlobalNodeGroupsToRemove, GlobalNodeGroupsToRetain: as GlobalNodeGroupId names them."""
    found, groups = _members(call)
    count, have = call.params["NodeGroupCount"], len(groups[-1].node_groups)
    if not 0 < count < have:
        raise invalid_value(f"{found.id} has {have} node groups: NodeGroupCount must be less, and at least 1.")
    remove, retain = call.texts("GlobalNodeGroupsToRemove"), call.texts("GlobalNodeGroupsToRetain")
    if bool(remove) == bool(retain):
        raise invalid_combination("Use either GlobalNodeGroupsToRemove or GlobalNodeGroupsToRetain.")
    names = [_local(found, name) for name in remove or retain]
    asked = {"NodeGroupCount": count, "NodeGroupsToRemove" if remove else "NodeGroupsToRetain": names}
    return _resharded(call, found, groups, asked, {}, declared=(*_DECLARED, "InvalidParameterCombination"))


def rebalance_slots_in_global_replication_group(call: Call) -> Shape:
    found, groups = _members(call)
    return _resharded(call, found, groups, {"NodeGroupCount": len(groups[-1].node_groups)}, {})


def _members(call: Call) -> tuple[GlobalGroup, list[ReplicationGroup]]:
    """The datastore and its groups, the primary last. Raises its faults."""
    found = quiet(call)
    groups = [g for m in (*found.secondaries, found.primary) if (g := group_of(call.services.store, m)) is not None]
    if not groups or groups[-1].cluster_mode is not ClusterMode.ENABLED:
        raise invalid_value(
            f"Global replication group {found.id} has cluster mode disabled, so it has one node group and no slots to "
            "move."
        )
    if not call.flag("ApplyImmediately"):
        raise invalid_value("ApplyImmediately must be true: a global replication group has no maintenance window.")
    for group in groups:
        if group.status is not Status.AVAILABLE:
            raise not_now(found, f"has the member {group.id} in {group.region}, which is {group.status.value}")
    return found, groups


def _by_member(call: Call, found: GlobalGroup) -> dict[GlobalMember, Mapping[str, Any]]:
    entries: Sequence[Mapping[str, Any]] = call.params.get("RegionalConfigurations") or []
    more: dict[GlobalMember, Mapping[str, Any]] = {}
    for entry in entries:
        member = GlobalMember(entry["ReplicationGroupRegion"], entry["ReplicationGroupId"].lower())
        if member not in found.members or member in more:
            raise invalid_value(f"RegionalConfigurations: {member} is not a member of {found.id}, or named twice.")
        more[member] = {"ReshardingConfiguration": entry["ReshardingConfiguration"]}
    named = {tuple(str(one.get("NodeGroupId")) for one in e["ReshardingConfiguration"]) for e in more.values()}
    if len(named) > 1 or (named and named != {("None",) * len(next(iter(named)))} and len(more) < len(found.members)):
        raise invalid_value("RegionalConfigurations must name the same new node groups for every member, or none.")
    return more


def _local(found: GlobalGroup, name: str) -> str:
    prefix = f"{found.id}-"
    if not name.startswith(prefix):
        raise invalid_value(f"{found.id} has no node group {name[:60]!r}.")
    return name.removeprefix(prefix)


def _resharded(
    call: Call,
    found: GlobalGroup,
    groups: Sequence[ReplicationGroup],
    asked: Mapping[str, Any],
    more: Mapping[GlobalMember, Mapping[str, Any]],
    *,
    declared: tuple[str, ...] = _DECLARED,
) -> Shape:
    """Faults that these operations do not have are told as an invalid value."""
    try:
        wanted = []
        for group in groups:
            member = GlobalMember(group.region, group.id)
            params = {"ReplicationGroupId": group.id, "ApplyImmediately": True, **asked, **more.get(member, {})}
            local = replace(call, region=group.region, params=params)
            wanted.append((local, group, resharding_asked(local, group)))
        with call.services.store.transaction() as work:
            for local, group, resharding in wanted:
                reshard(local, work, group, resharding)
    except Fault as fault:
        if fault.code in declared:
            raise
        raise invalid_value(str(fault)) from fault
    return {"GlobalReplicationGroup": global_group(call, found)}


OPERATIONS: Mapping[str, Entry] = {
    "DecreaseNodeGroupsInGlobalReplicationGroup": Entry(
        decrease_node_groups_in_global_replication_group, Truth.REAL, _PROOF, "In cluster mode, in every member."
    ),
    "IncreaseNodeGroupsInGlobalReplicationGroup": Entry(
        increase_node_groups_in_global_replication_group, Truth.REAL, _PROOF, "In cluster mode, in every member."
    ),
    "RebalanceSlotsInGlobalReplicationGroup": Entry(
        rebalance_slots_in_global_replication_group, Truth.REAL, _PROOF, "In cluster mode, in every member."
    ),
}
