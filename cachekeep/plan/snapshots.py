"""What is decided about snapshots: what one records of its source, whom it is read from, and when daily ones are due.

Pure; called by api.ops.snapshots and by the service cachekeep.snapshots. Sources: ElastiCache guide, "Snapshot and
restore" (windows, retention, replicas before primaries, `automatic.ID-YYYY-MM-DD-HH-MM`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta

from cachekeep.domain.cache_cluster import CacheCluster, Status
from cachekeep.domain.nodes import NOTHING_SEEN, NodeKey, ObservedNode, Role
from cachekeep.domain.replication_group import NodeGroup, ReplicationGroup
from cachekeep.domain.serverless import backing_id, is_behind_serverless, serverless_name
from cachekeep.domain.snapshot import ShardSnapshot, Snapshot, SnapshotSource, SnapshotStatus

DAY_S = 86400.0
Source = ReplicationGroup | CacheCluster


def snapshot_of_group(
    group: ReplicationGroup, members: Mapping[str, CacheCluster], name: str, source: SnapshotSource, now: float
) -> Snapshot:
    """A new snapshot, `creating`. members: of the group, by id."""
    return Snapshot(
        region=group.region,
        name=name,
        source=source,
        requested_at=now,
        group_id=group.id,
        cluster_id=None,
        engine=group.engine,
        version=group.version,
        node_type=group.node_type,
        port=group.port,
        parameter_group=group.parameter_group,
        subnet_group=group.subnet_group,
        upkeep=group.upkeep,
        source_created_at=group.created_at,
        zone=members[group.primary_id].nodes[0].zone,
        shards=tuple(_shard(members, shard) for shard in group.node_groups),
        description=group.description,
        cluster_mode=group.cluster_mode,
        automatic_failover=group.automatic_failover,
        multi_az=group.multi_az,
        substitute=group.substitute,
        substitute_version=group.substitute_version,
    )


def _shard(members: Mapping[str, CacheCluster], shard: NodeGroup) -> ShardSnapshot:
    primary = members[shard.primary_id]
    replicas = [members[name] for name in shard.member_ids if name != shard.primary_id and name in members]
    zones = tuple(member.nodes[0].zone for member in (primary, *replicas))
    return ShardSnapshot(shard.id, primary.id, primary.nodes[0].created_at, shard.slots, zones)


def snapshot_of_cluster(
    cluster: CacheCluster, group: ReplicationGroup | None, name: str, source: SnapshotSource, now: float
) -> Snapshot:
    """A new snapshot of one node, `creating`. group: that it is a member of, None for a cluster of its own."""
    node = cluster.nodes[0]
    shard = ShardSnapshot("0001", cluster.id, node.created_at, (), (node.zone,))
    return Snapshot(
        region=cluster.region,
        name=name,
        source=source,
        requested_at=now,
        group_id=None if group is None else group.id,
        cluster_id=cluster.id,
        engine=cluster.engine,
        version=cluster.version,
        node_type=cluster.node_type,
        port=cluster.port,
        parameter_group=cluster.parameter_group,
        subnet_group=cluster.subnet_group,
        upkeep=cluster.upkeep,
        source_created_at=cluster.created_at,
        zone=node.zone,
        shards=(shard,),
        description="" if group is None else group.description,
        automatic_failover=group is not None and group.automatic_failover,
        substitute=cluster.substitute,
        substitute_version=cluster.substitute_version,
    )


def read_from(
    snapshot: Snapshot,
    shard: NodeGroup,
    members: Mapping[str, CacheCluster],
    seen: Mapping[NodeKey, ObservedNode],
    preferred: str | None = None,
) -> CacheCluster | None:
    """The member to read a shard from; None while none serves.

    A final snapshot is read from the primary, which has the freshest data. Any other from the replica that was named,
    else from the one in sync that is furthest, and only where there is none from the primary.
    """

    def look(member: CacheCluster) -> ObservedNode:
        return seen.get(member.key(member.nodes[0]), NOTHING_SEEN)

    primary = members.get(shard.primary_id)
    if primary is not None and not look(primary).serving:
        primary = None
    wanted = snapshot.cluster_id or preferred
    if snapshot.final or wanted == shard.primary_id:
        return primary
    replicas = []
    for name in shard.member_ids:
        facts = look(members[name]).facts if name in members else None
        in_sync = facts is not None and facts.role is Role.REPLICA and facts.link_up and not facts.loading
        if in_sync and members[name].status is not Status.DELETING:
            replicas.append((name == wanted, facts.offset if facts else 0, name))
    return members[max(replicas)[2]] if replicas else primary


def automatic_name(source: Source, now: float) -> str:
    """`automatic.demo-2026-11-23-05-00`; of what is behind a serverless cache, as such snapshots are kept."""
    name = f"automatic.{serverless_name(source.id)}-{datetime.fromtimestamp(now, UTC):%Y-%m-%d-%H-%M}"
    return backing_id(name) if is_behind_serverless(source.id) else name


def window_opened_at(window: str, now: float) -> float | None:
    """When the daily window that is open at `now` opened, in seconds since 1970; None while it is closed."""
    start, _, end = window.partition("-")
    first, last = (int(text[:2]) * 60 + int(text[3:]) for text in (start, end))
    length_s = (last - first) % 1440 * 60
    midnight = datetime.fromtimestamp(now, UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    for day in (0, 1):  # one that began yesterday may still be open
        opened = (midnight - timedelta(days=day)).timestamp() + first * 60
        if opened <= now < opened + length_s:
            return opened
    return None


def is_daily_due(source: Source, snapshots: Sequence[Snapshot], now: float) -> bool:
    """Whether the daily snapshot of an available group or cluster is to be taken now.

    snapshots: all of the source. One that was taken since the window opened is today's.
    """
    if source.status is not Status.AVAILABLE or source.upkeep.snapshot_retention < 1:
        return False
    opened = window_opened_at(source.upkeep.snapshot_window, now)
    if opened is None:
        return False
    taken = [s.requested_at for s in snapshots if s.source is SnapshotSource.AUTOMATED]
    return max(taken, default=0.0) < opened


def is_over(snapshot: Snapshot, source: Source | None, now: float) -> bool:
    """Whether an automatic snapshot is to go: its days are over, or its source was deleted.

    source: what it is of, as it is now, None when that is gone. With retention switched off meanwhile, the days count
    that it was taken under.
    """
    if snapshot.source is not SnapshotSource.AUTOMATED or snapshot.status is not SnapshotStatus.AVAILABLE:
        return False
    if source is None or source.created_at != snapshot.source_created_at:
        return True
    return now >= ends_at(snapshot, source)


def ends_at(snapshot: Snapshot, source: Source | None) -> float:
    """When the days of an automatic snapshot are over, in seconds since 1970; by its own where its source is gone."""
    days = source.upkeep.snapshot_retention if source is not None else 0
    return snapshot.requested_at + (days or snapshot.upkeep.snapshot_retention) * DAY_S


def copy_of(original: Snapshot, name: str, tags: Mapping[str, str], now: float) -> Snapshot:
    """A further name of the same data, `creating` until that was read again."""
    return replace(
        original,
        name=name,
        source=SnapshotSource.MANUAL,
        status=SnapshotStatus.CREATING,
        requested_at=now,
        copy_of=original.name,
        final=False,
        tags=tags,
    )


def held_for(snapshot: Snapshot, source: Source) -> Source:
    """The source while the snapshot is taken: nothing else may be changed, and a final one says so."""
    final = snapshot.name if snapshot.final else ""
    if isinstance(source, ReplicationGroup):
        return replace(source, status=Status.SNAPSHOTTING, final_snapshot=final)
    return replace(source, status=Status.SNAPSHOTTING, final_snapshot=final)
