"""Members of a global datastore as their regions see them: how a secondary is made, and what is not theirs to change.

Source: ElastiCache guide, "Prerequisites and limitations" of global datastores.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from cachekeep.api.context import Call
from cachekeep.domain.cache_cluster import CacheCluster, Status
from cachekeep.domain.faults import Fault, invalid_combination, invalid_value
from cachekeep.domain.global_group import EVERYWHERE, MOST_SECONDARIES, GlobalGroup, GlobalMember
from cachekeep.domain.parameters import ParameterGroup
from cachekeep.domain.ports import Store, Transaction
from cachekeep.domain.replication_group import ReplicationGroup

# What a member changes only together with all others, by ModifyGlobalReplicationGroup.
_TOGETHER = ("CacheNodeType", "Engine", "EngineVersion", "CacheParameterGroupName", "ClusterMode")


def find_global(call: Call, name: str) -> GlobalGroup:
    """Raises GlobalReplicationGroupNotFoundFault."""
    found = call.services.store.get(GlobalGroup, EVERYWHERE, name.lower())
    if found is None:
        raise Fault("GlobalReplicationGroupNotFoundFault", f"Global replication group {name[:80]} not found.")
    return found


def not_now(found: GlobalGroup, why: str) -> Fault:
    return Fault("InvalidGlobalReplicationGroupState", f"Global replication group {found.id} {why}.")


def quiet(call: Call) -> GlobalGroup:
    """The datastore, while nothing is being done with it as a whole. Raises its faults."""
    found = find_global(call, call.params["GlobalReplicationGroupId"])
    if found.failing_over_to is not None:
        raise not_now(found, f"fails over to {found.failing_over_to}: wait until that is done")
    if found.leaving is not None:
        raise not_now(found, f"lets {found.leaving} go: wait until that is done")
    return found


def group_of(stored: Store | Transaction, member: GlobalMember) -> ReplicationGroup | None:
    return stored.get(ReplicationGroup, member.region, member.group_id)


def like_its_primary(call: Call) -> Call:
    """A CreateReplicationGroup of a secondary, with what it takes over from the primary filled in.

    Raises the fault of a datastore that cannot have another, and InvalidParameterCombination for what differs.
    """
    name = call.text("GlobalReplicationGroupId")
    if name is None:
        return call
    found = find_global(call, name)
    primary = group_of(call.services.store, found.primary)
    _check_room(call, found, primary)
    if primary is None:
        return call
    shared: Mapping[str, Any] = {
        "Engine": primary.engine.value,
        "EngineVersion": str(primary.version),
        "CacheNodeType": primary.node_type,
        "AtRestEncryptionEnabled": primary.at_rest,
        "TransitEncryptionEnabled": primary.transit.encrypted,
        **({"TransitEncryptionMode": primary.transit.value} if primary.transit.encrypted else {}),
    }
    different = [key for key, value in shared.items() if call.params.get(key, value) != value]
    if different:
        raise invalid_combination(
            f"A secondary of {found.id} is like its primary: {', '.join(different)} must be left out, or be those of "
            f"{found.primary}."
        )
    for key in ("PrimaryClusterId", "CacheParameterGroupName", "NodeGroupConfiguration"):
        if call.params.get(key):
            raise invalid_combination(f"{key} cannot be used together with GlobalReplicationGroupId.")
    return replace(call, params={**call.params, **shared, **_shards_like(call, found, primary)})


def _shards_like(call: Call, found: GlobalGroup, primary: ReplicationGroup) -> Mapping[str, Any]:
    """The parameters of cluster mode: the mode and the number of node groups are the primary's."""
    mode, count = primary.cluster_mode.value, len(primary.node_groups)
    if (call.text("ClusterMode") or mode) != mode or (call.number("NumNodeGroups") or count) != count:
        raise invalid_combination(
            f"{found.id} has cluster mode {mode} and {count} node groups, and so have all its secondaries."
        )
    return {"ClusterMode": mode, "NumNodeGroups": count} if primary.clustered else {}


def _check_room(call: Call, found: GlobalGroup, primary: ReplicationGroup | None) -> None:
    if found.deleting or found.failing_over_to is not None or found.leaving is not None or primary is None:
        raise not_now(found, "is being changed: wait until that is done")
    if primary.status is not Status.AVAILABLE:
        raise not_now(found, f"has a primary that is {primary.status.value}: it must be available")
    if call.region in {member.region for member in found.members}:
        raise invalid_value(f"Global replication group {found.id} has a member in {call.region} already.")
    if len(found.secondaries) >= MOST_SECONDARIES:
        raise invalid_value(f"A global replication group can have at most {MOST_SECONDARIES} secondaries.")


def join(call: Call, work: Transaction, group: ReplicationGroup) -> ReplicationGroup:
    """The new group as a secondary of its datastore; as it is for one that was not asked to be."""
    name = call.text("GlobalReplicationGroupId")
    if name is None:
        return group
    found = find_global(call, name)
    primary = group_of(work, found.primary)
    if primary is None:
        raise not_now(found, "has no primary")
    if _guarded(group) != _guarded(primary):
        raise invalid_combination(
            f"Either all members of {found.id} have users or an AUTH token, or none has: {found.primary} has "
            f"{'one' if _guarded(primary) else 'none'}."
        )
    member = GlobalMember(group.region, group.id)
    work.replace(found, replace(found, secondaries=(*found.secondaries, member)))
    parameters = copied_parameters(call, work, found, primary, group.region)
    return replace(group, global_id=found.id, parameter_group=parameters)


def _guarded(group: ReplicationGroup) -> bool:
    """Clients are asked who they are."""
    return bool(group.user_group_ids or group.auth_tokens)


def copied_parameters(call: Call, work: Transaction, found: GlobalGroup, primary: ReplicationGroup, region: str) -> str:
    """The name of the group in `region` that has the values of the primary's: a default one is there already."""
    values = work.get(ParameterGroup, primary.region, primary.parameter_group)
    if values is None:
        return primary.parameter_group
    name = _copy_name(found)
    text = f"Parameters of the global datastore {found.id}"
    copy = replace(values, region=region, name=name, description=text, tags={})
    old = work.get(ParameterGroup, region, name)
    if old is None:
        work.insert(copy)
    elif old != copy:
        work.replace(old, copy)
    return name


def fan_out(call: Call, work: Transaction, changed: ParameterGroup) -> None:
    """New values of a parameter group that the primary of a datastore runs with reach its secondaries' copies."""
    for found in work.all(GlobalGroup):
        primary = group_of(work, found.primary)
        if primary is None or (primary.region, primary.parameter_group) != (changed.region, changed.name):
            continue
        for member in found.secondaries:
            group = group_of(work, member)
            if group is not None and group.parameter_group == _copy_name(found):
                copied_parameters(call, work, found, primary, member.region)


def share_parameters(call: Call, work: Transaction, found: GlobalGroup) -> None:
    """The primary comes to run with a copy as well, of the values that it has: it is about to be a secondary, and what
    others of its region do with its group is not for all regions then."""
    primary = group_of(work, found.primary)
    if primary is None:
        return
    name = copied_parameters(call, work, found, primary, primary.region)
    if name == primary.parameter_group:
        return
    work.replace(primary, replace(primary, parameter_group=name))
    for cluster in (work.get(CacheCluster, primary.region, member) for member in primary.member_ids):
        if cluster is not None:
            work.replace(cluster, replace(cluster, parameter_group=name))


def refuse_copy(call: Call, group: ParameterGroup) -> None:
    """Raises InvalidCacheParameterGroupState for the copy of a secondary: it has what the primary's group has."""
    for found in call.services.store.all(GlobalGroup):
        primary = group_of(call.services.store, found.primary)
        if group.name != _copy_name(found) or primary is None:
            continue
        if group.region in {member.region for member in found.secondaries}:
            raise Fault(
                "InvalidCacheParameterGroupState",
                f"{group.name} has the values of the primary of {found.id}: change {primary.parameter_group} in "
                f"{primary.region} instead.",
            )


def _copy_name(found: GlobalGroup) -> str:
    """Of the parameter group of a member that is not its own."""
    return f"global-datastore-{found.id}"


def refuse_alone(call: Call, group: ReplicationGroup) -> None:
    """Raises InvalidParameterCombination for a change that all members must make together."""
    asked = [name for name in _TOGETHER if call.params.get(name) is not None]
    if group.global_id and asked:
        raise invalid_combination(
            f"Replication group {group.id} is a member of the global datastore {group.global_id}: {', '.join(asked)} "
            "can be changed for all members only, by ModifyGlobalReplicationGroup."
        )


def refuse_associated(group: ReplicationGroup, what: str) -> None:
    """Raises InvalidReplicationGroupState for a member."""
    if group.global_id:
        raise Fault(
            "InvalidReplicationGroupState",
            f"Replication group {group.id} is a member of the global datastore {group.global_id} and cannot be {what}: "
            "disassociate it first, or delete the global datastore.",
        )
