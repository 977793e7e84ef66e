"""Hand-overs of the primary's role that were asked for: TestFailover and PrimaryClusterId. Pure."""

from __future__ import annotations

from cachekeep.domain.cache_cluster import CacheCluster
from cachekeep.domain.replication_group import HandOver, NodeGroup, ReplicationGroup
from cachekeep.plan.previews import figures, words
from cachekeep.plan.previews.scene import Gap, Part, Scene, gap


def hand_overs(scene: Scene, old: ReplicationGroup, new: ReplicationGroup) -> list[Part]:
    """One part for each shard that shall get another primary."""
    parts = []
    for shard in new.node_groups:
        before = old.shard(shard.id)
        if shard.hand_over is not None and (before is None or before.hand_over is None):
            parts.append(_hand_over(scene, new, shard, shard.hand_over))
    return parts


def switch_gap(group: ReplicationGroup, shard: NodeGroup) -> Gap:
    """The pause of a planned change of primary."""
    figure = figures.CLUSTER_SWITCH_OVER if group.clustered else figures.SWITCH_OVER
    return gap(figure, f"writes to shard {shard.id}")


def switch_steps(group: ReplicationGroup, shard: NodeGroup, heir: str) -> list[str]:
    """What a planned change of primary consists of."""
    if group.clustered:
        return [
            f"Shard {shard.id}: {heir} asks {shard.primary_id} to stop taking writes, and takes over its slots once it "
            "has every one of them; clients are sent on with MOVED."
        ]
    moves = "the primary endpoint moves to it" if group.primary_endpoint else "its own address is the one to write to"
    return [
        f"Writes are paused at {shard.primary_id}; once {heir} has every one of them it becomes the primary, and "
        f"{moves}.",
        "Connections through the primary endpoint are cut once; clients reconnect to the same address.",
    ]


def _hand_over(scene: Scene, group: ReplicationGroup, shard: NodeGroup, wish: HandOver) -> Part:
    ready = scene.replicas_in_sync(shard)
    heir = scene.before.clusters.get(wish.to) if wish.to else (ready[0] if ready else None)
    name = wish.to or (heir.id if heir else "the best replica")
    steps = switch_steps(group, shard, name)
    others = len(shard.member_ids) - 2
    if others > 0:
        verb = "follows" if others == 1 else "follow"
        steps.append(f"The other {words.several(others, 'replica')} {verb} {name} without a new copy of the data.")
    steps.append(_what_becomes_of_the_old(scene, shard, test=wish.test))
    undo = f"Hand back by ModifyReplicationGroup with PrimaryClusterId={shard.primary_id} (automatic failover off), "
    undo += "or by another TestFailover." if group.automatic_failover else "at any time."
    return Part(tuple(steps), (switch_gap(group, shard),), (undo,), _doubts(scene, heir, ready), most_s=1.0)


def _what_becomes_of_the_old(scene: Scene, shard: NodeGroup, *, test: bool) -> str:
    if not test:
        return f"{shard.primary_id} stays as a replica."
    data = scene.data_bytes(scene.primary(shard))
    copies = "" if data is None else f" ({words.size(data)}, about {words.seconds(figures.copy_s(data))})"
    return f"The node of {shard.primary_id} is replaced: it ends, and a new one copies the data as a replica{copies}."


def _doubts(scene: Scene, heir: CacheCluster | None, ready: list[CacheCluster]) -> tuple[str, ...]:
    if heir is None:
        return ("No replica is in sync now: the hand-over waits until one is.",)
    if heir not in ready:
        return (f"{heir.id} is not in sync now: the hand-over waits until it is.",)
    return ()
