"""A stored global datastore as AWS's GlobalReplicationGroup shape, and what a member says of it.

Shape names: botocore elasticache 2015-02-02; status words: its CLI examples.
"""

from __future__ import annotations

from cachekeep.api.context import Call
from cachekeep.api.present import Shape
from cachekeep.domain.cache_cluster import CacheCluster, Status
from cachekeep.domain.global_group import EVERYWHERE, GlobalGroup, GlobalMember
from cachekeep.domain.replication_group import ReplicationGroup
from cachekeep.domain.slots import slots_text


def global_group(call: Call, found: GlobalGroup, *, with_members: bool = True) -> Shape:
    store = call.services.store
    groups = {m: store.get(ReplicationGroup, m.region, m.group_id) for m in found.members}
    primary = groups[found.primary]
    shape: Shape = {
        "GlobalReplicationGroupId": found.id,
        "GlobalReplicationGroupDescription": found.description,
        "Status": status(found, [g for g in groups.values() if g is not None]),
        "AuthTokenEnabled": primary is not None and bool(primary.auth_tokens),
        "TransitEncryptionEnabled": primary is not None and primary.transit.encrypted,
        "AtRestEncryptionEnabled": primary is not None and primary.at_rest,
        "ClusterEnabled": primary is not None and primary.clustered,
        "GlobalNodeGroups": _node_groups(found, primary),
        "Members": [_member(call, found, m, groups[m]) for m in found.members] if with_members else [],
        "ARN": f"arn:aws:elasticache::{call.services.account_id}:globalreplicationgroup:{found.id}",
    }
    if primary is not None:
        shape |= {
            "CacheNodeType": primary.node_type,
            "Engine": primary.engine.value,
            "EngineVersion": str(primary.version),
        }
    return shape


def status(found: GlobalGroup, groups: list[ReplicationGroup]) -> str:
    """One word for all members."""
    if found.deleting:
        return "deleting"
    changing = any(group.status is not Status.AVAILABLE for group in groups)
    if found.failing_over_to is not None or found.leaving is not None or changing:
        return "modifying"
    return "available" if found.secondaries else "primary-only"


def _node_groups(found: GlobalGroup, primary: ReplicationGroup | None) -> list[Shape]:
    if primary is None or not primary.clustered:
        return [{"GlobalNodeGroupId": f"{found.id}-0001", "Slots": "0-16383"}]
    return [
        {"GlobalNodeGroupId": f"{found.id}-{shard.id}", "Slots": slots_text(shard.slots)}
        for shard in primary.node_groups
        if not shard.leaving
    ]


def _member(call: Call, found: GlobalGroup, member: GlobalMember, group: ReplicationGroup | None) -> Shape:
    role = "PRIMARY" if member == found.primary else "SECONDARY"
    shape: Shape = {"ReplicationGroupId": member.group_id, "ReplicationGroupRegion": member.region, "Role": role}
    if group is None:
        return shape
    shape["AutomaticFailover"] = "enabled" if group.automatic_failover else "disabled"
    in_sync = _is_copied(found, group) if group.clustered else _in_sync(call, group)
    shape["Status"] = "associated" if member == found.primary or in_sync else "associating"
    if found.leaving == member:
        shape["Status"] = "disassociating"
    return shape


def _is_copied(found: GlobalGroup, group: ReplicationGroup) -> bool:
    known = group.mirrored
    return known is not None and known.in_sync and known.of == found.primary


def _in_sync(call: Call, group: ReplicationGroup) -> bool:
    """Its primary's link to the other region is up, as last seen."""
    primary = call.services.store.get(CacheCluster, group.region, group.primary_id)
    seen = call.services.seen().get(primary.key(primary.nodes[0])) if primary is not None else None
    up = seen is not None and seen.facts is not None and seen.facts.link_up
    return group.status is not Status.CREATING and up


def membership(call: Call, group: ReplicationGroup) -> Shape:
    """GlobalReplicationGroupInfo of a group; nothing for one that stands alone."""
    found = call.services.store.get(GlobalGroup, EVERYWHERE, group.global_id) if group.global_id else None
    if found is None:
        return {}
    role = "PRIMARY" if found.primary == GlobalMember(group.region, group.id) else "SECONDARY"
    return {
        "GlobalReplicationGroupInfo": {
            "GlobalReplicationGroupId": found.id,
            "GlobalReplicationGroupMemberRole": role,
        }
    }
