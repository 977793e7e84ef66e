"""DescribeReplicationGroups and DeleteReplicationGroup."""

from __future__ import annotations

from dataclasses import replace

from cachekeep.api.context import Call
from cachekeep.api.ops.members import find_group, leaving, members_of, pending_addresses, shown
from cachekeep.api.ops.snapshots import final_snapshot
from cachekeep.api.paging import page
from cachekeep.api.present import Shape
from cachekeep.api.present_group import replication_group
from cachekeep.api.secondaries import refuse_associated
from cachekeep.api.surroundings import refuse_surroundings
from cachekeep.domain.cache_cluster import CacheCluster, Pending, Status
from cachekeep.domain.faults import Fault, invalid_combination
from cachekeep.domain.replication_group import ClusterMode, ReplicationGroup
from cachekeep.domain.transit import Transit

# States of which nothing can be read for sure.
_UNREADY = tuple(status for status in Status if status is not Status.AVAILABLE)


def describe_replication_groups(call: Call) -> Shape:
    store = call.services.store
    wanted = call.text("ReplicationGroupId")
    if wanted is not None:
        there = [find_group(call, wanted)]
        members = {m.id: m for m in members_of(store, there[0])}
    else:
        there = [g for g in store.all(ReplicationGroup, call.region) if g.serverless is None]
        members = {c.id: c for c in store.all(CacheCluster, call.region)}
    groups, marker = page(call, there, lambda g: g.id)
    return {"Marker": marker, "ReplicationGroups": [replication_group(call, g, members) for g in groups]}


def delete_replication_group(call: Call) -> Shape:
    """Possible whatever is being done with the group: what is under way is given up."""
    group = find_group(call, call.params["ReplicationGroupId"])
    refuse_surroundings(call)
    if group.status is Status.DELETING:
        raise Fault(
            "InvalidReplicationGroupState",
            f"Replication group {group.id} has status deleting which is not valid for deletion.",
        )
    refuse_associated(group, "deleted")
    retain = bool(call.flag("RetainPrimaryCluster"))
    _check_retained(group, retain=retain)
    if group.status is Status.SNAPSHOTTING or (call.text("FinalSnapshotIdentifier") and group.status in _UNREADY):
        raise Fault(
            "InvalidReplicationGroupState",
            f"Replication group {group.id} has status {group.told_status.value} which is not valid for deletion"
            f"{'' if group.status is Status.SNAPSHOTTING else ' with a final snapshot'}.",
        )
    if call.text("FinalSnapshotIdentifier") is not None:
        return _delete_after_snapshot(call, group, retain=retain)
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


def _delete_after_snapshot(call: Call, group: ReplicationGroup, *, retain: bool) -> Shape:
    """The group serves until its final snapshot is available; to users it is being deleted already."""
    final_snapshot(call, group, retain=retain)
    new = find_group(call, group.id)
    return shown(call, new, members_of(call.services.store, new))


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
    if group.transit is Transit.PREFERRED:
        raise invalid_combination(
            "RetainPrimaryCluster is not possible while TransitEncryptionMode is preferred, which a node alone cannot "
            "serve: set required first, or disable TLS."
        )
