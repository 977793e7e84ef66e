"""The source of a snapshot, before and after: available again, or on its way out. Called within a transaction."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from cachekeep.domain.cache_cluster import CacheCluster, Pending, Status
from cachekeep.domain.events import Event, SourceType
from cachekeep.domain.ports import Transaction
from cachekeep.domain.replication_group import ReplicationGroup
from cachekeep.domain.snapshot import Snapshot


def release(work: Transaction, snapshot: Snapshot, *, done: bool) -> None:
    """What was held in `snapshotting` for this snapshot is available again; after a final one that is done it goes.

    A final one that failed leaves its source as it was: data is not given up without the snapshot that was asked for.
    """
    deletes = snapshot.final and done
    group = work.get(ReplicationGroup, snapshot.region, snapshot.group_id) if snapshot.group_id else None
    if group is not None and group.status is Status.SNAPSHOTTING:
        for name in group.member_ids:
            member = work.get(CacheCluster, snapshot.region, name)
            if member is not None:
                kept = group.retain_primary and name == group.primary_id
                _release_cluster(work, member, deletes=deletes and not kept)
        shards = tuple(replace(shard, hand_over=None) for shard in group.node_groups) if deletes else group.node_groups
        new = replace(group, status=Status.DELETING if deletes else Status.AVAILABLE, node_groups=shards)
        retained = group.retain_primary and deletes
        work.replace(group, replace(new, final_snapshot="", retain_primary=retained))
    cluster = work.get(CacheCluster, snapshot.region, snapshot.cluster_id) if snapshot.cluster_id else None
    if cluster is not None and group is None:
        _release_cluster(work, cluster, deletes=deletes)


def _release_cluster(work: Transaction, cluster: CacheCluster, *, deletes: bool) -> None:
    if cluster.status is not Status.SNAPSHOTTING:
        return
    if not deletes:
        work.replace(cluster, replace(cluster, status=Status.AVAILABLE, final_snapshot=""))
        return
    spare = cluster.pending.spare.addresses if cluster.pending.spare is not None else ()
    work.release([*(node.address for node in cluster.pending.nodes_to_add), *spare])
    work.replace(cluster, replace(cluster, status=Status.DELETING, final_snapshot="", pending=Pending()))


def held(work: Transaction, snapshots: Iterable[Snapshot]) -> list[ReplicationGroup | CacheCluster]:
    """What is held in `snapshotting` though none of the snapshots that are being created is of it."""
    wanted = {(s.region, name) for s in snapshots for name in (s.group_id, s.cluster_id) if name}
    found: list[ReplicationGroup | CacheCluster] = []
    found += [g for g in work.all(ReplicationGroup) if g.status is Status.SNAPSHOTTING]
    alone = [c for c in work.all(CacheCluster) if c.replication_group_id is None]
    found += [c for c in alone if c.status is Status.SNAPSHOTTING]
    return [one for one in found if (one.region, one.id) not in wanted]


def event(snapshot: Snapshot, at: float, message: str) -> Event:
    """Of the cluster or group that the snapshot is of; of the snapshot itself where that is a serverless cache."""
    if snapshot.of_serverless:
        return Event(at, snapshot.region, SourceType.SERVERLESS_CACHE_SNAPSHOT, snapshot.told_name, message)
    kind = SourceType.REPLICATION_GROUP if snapshot.group_id else SourceType.CACHE_CLUSTER
    return Event(at, snapshot.region, kind, snapshot.source_id, message)
