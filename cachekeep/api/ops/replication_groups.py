"""DescribeReplicationGroups and DeleteReplicationGroup."""

from __future__ import annotations

from dataclasses import replace

from cachekeep.api import choose
from cachekeep.api.context import Call
from cachekeep.api.ops.members import find_group, leaving, members_of, pending_addresses, shown
from cachekeep.api.paging import page
from cachekeep.api.present import Shape
from cachekeep.api.present_group import replication_group
from cachekeep.domain.cache_cluster import CacheCluster, Pending, Status
from cachekeep.domain.faults import Fault, invalid_combination
from cachekeep.domain.replication_group import ClusterMode, ReplicationGroup


def describe_replication_groups(call: Call) -> Shape:
    store = call.services.store
    wanted = call.text("ReplicationGroupId")
    if wanted is not None:
        groups, marker = [find_group(call, wanted)], None
        members = {m.id: m for m in members_of(store, groups[0])}
    else:
        groups, marker = page(call, store.all(ReplicationGroup, call.region), lambda g: g.id)
        members = {c.id: c for c in store.all(CacheCluster, call.region)}
    return {"Marker": marker, "ReplicationGroups": [replication_group(call, g, members) for g in groups]}


def delete_replication_group(call: Call) -> Shape:
    """Possible whatever is being done with the group: what is under way is given up."""
    group = find_group(call, call.params["ReplicationGroupId"])
    choose.refuse_not_yet(call)
    if group.status is Status.DELETING:
        raise Fault(
            "InvalidReplicationGroupState",
            f"Replication group {group.id} has status deleting which is not valid for deletion.",
        )
    retain = bool(call.flag("RetainPrimaryCluster"))
    _check_retained(group, retain=retain)
    with call.services.store.transaction() as work:
        members = members_of(work, group)
        for member in members:
            work.release(pending_addresses(member.pending))
            kept = retain and member.id == group.primary_id
            work.replace(member, replace(member, pending=Pending()) if kept else leaving(member))
        shards = tuple(replace(shard, hand_over=None) for shard in group.node_groups)
        new = replace(group, status=Status.DELETING, retain_primary=retain, node_groups=shards)
        work.replace(group, new)
        return shown(call, new, members_of(work, new))


def _check_retained(group: ReplicationGroup, *, retain: bool) -> None:
    if not retain:
        return
    if group.status is not Status.AVAILABLE:
        raise Fault(
            "InvalidReplicationGroupState",
            f"Replication group {group.id} is {group.status.value}; its primary can be retained only when available.",
        )
    if group.cluster_mode is not ClusterMode.DISABLED:
        raise invalid_combination("RetainPrimaryCluster is not possible with cluster mode: a node alone is no cluster.")
