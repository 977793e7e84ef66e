"""Daily snapshots in their windows, and the end of those whose days are over. Called by snapshots.service."""

from __future__ import annotations

from dataclasses import replace

import structlog

from cachekeep.domain.cache_cluster import CacheCluster
from cachekeep.domain.ports import Store, Transaction
from cachekeep.domain.replication_group import ReplicationGroup
from cachekeep.domain.snapshot import Snapshot, SnapshotSource, SnapshotStatus
from cachekeep.plan.snapshots import (
    Source,
    automatic_name,
    held_for,
    is_daily_due,
    is_over,
    snapshot_of_cluster,
    snapshot_of_group,
)

log = structlog.get_logger()


def take_daily(store: Store, now: float) -> None:
    """Ask for what is due, and for the deletion of what is over."""
    snapshots = store.all(Snapshot)
    groups = store.all(ReplicationGroup)
    alone = [c for c in store.all(CacheCluster) if c.replication_group_id is None and c.engine.speaks_resp]
    sources: dict[tuple[str, str, bool], Source] = {(g.region, g.id, True): g for g in groups}
    sources |= {(c.region, c.id, False): c for c in alone}
    for snapshot in snapshots:
        source = sources.get((snapshot.region, snapshot.source_id, snapshot.group_id is not None))
        if is_over(snapshot, source, now):
            log.info("a daily snapshot is over", snapshot=snapshot.name)
            with store.transaction() as work:
                work.replace(snapshot, replace(snapshot, status=SnapshotStatus.DELETING))
    for (region, name, is_group), source in sources.items():
        own = [s for s in snapshots if (s.region, s.source_id, s.group_id is not None) == (region, name, is_group)]
        if is_daily_due(source, own, now):
            with store.transaction() as work:
                hold(work, source, automatic_name(source, now), SnapshotSource.AUTOMATED, now)


def hold(work: Transaction, source: Source, name: str, kind: SnapshotSource, now: float) -> Snapshot:
    """Store a snapshot of this source as `creating`, and the source as held for it."""
    if isinstance(source, ReplicationGroup):
        members = {m.id: m for n in source.member_ids if (m := work.get(CacheCluster, source.region, n)) is not None}
        snapshot = snapshot_of_group(source, members, name, kind, now)
        for member in members.values():
            work.replace(member, held_for(snapshot, member))
    else:
        snapshot = snapshot_of_cluster(source, None, name, kind, now)
    work.insert(snapshot)
    work.replace(source, held_for(snapshot, source))
    return snapshot
