"""What a request means for snapshots: those that it takes, copies and removes. Pure."""

from __future__ import annotations

from cachekeep.domain.snapshot import Snapshot, SnapshotStatus
from cachekeep.plan.previews.scene import Part, Scene


def snapshots(scene: Scene) -> list[Part]:
    """One part for each that comes, or goes; of a final one the source's own part tells."""
    old, new = scene.before.snapshots, scene.after.snapshots
    parts = []
    for name in sorted(new.keys() | old.keys()):
        before, after = old.get(name), new.get(name)
        if before is None and after is not None:
            if after.final:
                continue
            parts.append(_copied(after) if after.copy_of else _taken(scene, after))
        elif before is not None and after is not None and after.export and not before.export:
            text = f"The data of {name} is written as RDB files, one of each node group: {after.export}-NNNN.rdb."
            parts.append(Part((text,), undo=("Delete the files.",)))
        elif before is not None and (after is None or (after.status is _GOING and before.status is not _GOING)):
            parts.append(_removed(scene, before))
    return parts


_GOING = SnapshotStatus.DELETING


def _taken(scene: Scene, snapshot: Snapshot) -> Part:
    where = ", ".join(dict.fromkeys(_reader(scene, shard.cluster_id) for shard in snapshot.shards))
    source = snapshot.source_id
    return Part(
        (
            f"{where}: the engine saves what it holds, as for a replica that synchronises, and sends it.",
            f"Every byte of it is read back; then snapshot {snapshot.name} is available. Meanwhile {source} serves "
            "and takes no other changes.",
        ),
        undo=(f"Delete the snapshot {snapshot.name}.",),
    )


def _reader(scene: Scene, cluster_id: str) -> str:
    """A replica in sync, where there is one; the last word has the moment at which it is taken."""
    cluster = scene.before.clusters.get(cluster_id)
    group = scene.before.groups.get(cluster.replication_group_id or "") if cluster is not None else None
    if group is None:
        return cluster_id
    shard = next((shard for shard in group.node_groups if cluster_id in shard.member_ids), None)
    if shard is None or cluster_id != shard.primary_id:
        return cluster_id
    replicas = scene.replicas_in_sync(shard)
    return replicas[0].id if replicas else cluster_id


def _copied(snapshot: Snapshot) -> Part:
    text = f"{snapshot.name} becomes a further name of the data of {snapshot.copy_of}, which is read once more."
    return Part((text,), undo=(f"Delete the snapshot {snapshot.name}.",))


def _removed(scene: Scene, snapshot: Snapshot) -> Part:
    others = [
        other.name
        for other in scene.after.snapshots.values()
        if other.generation and other.generation == snapshot.generation and other.name != snapshot.name
    ]
    if others:
        return Part((f"The name {snapshot.name} goes; the data stays, as {others[0]} has it too.",))
    return Part(
        (f"Snapshot {snapshot.name} goes, and its data.",),
        undo=("Not at all.",),
        warnings=(f"Nothing brings the data of {snapshot.name} back.",),
    )
