"""The life of a cluster of its own: one Valkey or Redis node. Pure; called by control."""

from __future__ import annotations

from dataclasses import replace

from cachekeep.domain.cache_cluster import CacheCluster, Status
from cachekeep.domain.events import Event, SourceType
from cachekeep.domain.nodes import NOTHING_SEEN
from cachekeep.domain.restore import RestorePhase
from cachekeep.plan import upgrades, windows
from cachekeep.plan.decision import REST_S, SOON_S, Decision, Look
from cachekeep.plan.member import Shard, ShardPlan
from cachekeep.plan.nodes import (
    GIVE_UP_AFTER,
    StoredMember,
    failure_sentence,
    node_as_seen,
    removal_steps,
    seed_failure,
    shard_member,
    stop_steps,
    too_small_sentence,
    with_node_type,
)
from cachekeep.plan.shard import plan_shard


def cluster_event(cluster: CacheCluster, look: Look, message: str) -> Event:
    return Event(look.now, cluster.region, SourceType.CACHE_CLUSTER, cluster.id, message)


def plan_cluster(cluster: CacheCluster, look: Look) -> Decision:
    """The next steps of a single-node cluster."""
    match cluster.status:
        case Status.DELETING:
            return delete(cluster, look)
        case Status.CREATE_FAILED:
            return Decision(stages=stop_steps([cluster], look), recheck_s=REST_S, sentence="create-failed")
        case _:
            return _keep(cluster, look)


def delete(cluster: CacheCluster, look: Look) -> Decision:
    """Processes, then folders, then the record."""
    stages = removal_steps([cluster], look)
    if stages:
        return Decision(stages=stages, recheck_s=SOON_S, sentence=f"deleting {cluster.id}")
    return Decision(
        drops=(cluster,),
        forget=True,
        events=(cluster_event(cluster, look, "Cache cluster deleted"),),
        sentence=f"{cluster.id} is gone",
    )


def create_failure(cluster: CacheCluster, look: Look) -> Decision | None:
    """create-failed, with the engine's own words, once a new cluster's engine has failed to start often enough."""
    if cluster.status is not Status.CREATING:
        return None
    for node in cluster.nodes:
        seen = look.nodes.get(cluster.key(node), NOTHING_SEEN)
        text = seed_failure(cluster, seen)
        if seen.process is None and seen.failures >= GIVE_UP_AFTER:
            text = failure_sentence(cluster, node, seen)
        if text:
            return Decision(
                stages=stop_steps([cluster], look),
                puts=(
                    replace(
                        cluster,
                        status=Status.CREATE_FAILED,
                        restore=None,
                        seed=None,
                        restore_failed=cluster.restore is not None,
                    ),
                ),
                events=(cluster_event(cluster, look, f"Failed to create cache cluster {cluster.id}. {text}"),),
                sentence=text,
            )
    return None


def _keep(cluster: CacheCluster, look: Look) -> Decision:
    failed = create_failure(cluster, look)
    if failed is not None:
        return failed
    if cluster.restore is not None and cluster.restore.phase is RestorePhase.PREPARE:
        # What runs was to load from a pipe that nobody writes any more.
        waiting = f"waiting for the data of {cluster.restore.label}"
        return Decision(stages=stop_steps([cluster], look), recheck_s=REST_S, sentence=waiting)
    if windows.is_due(cluster, look.now):
        begun = upgrades.begin_single(cluster) if cluster.pending.version is not None else cluster
        return Decision(
            puts=(with_node_type(begun, begun.pending.node_type or begun.node_type),),
            events=(cluster_event(cluster, look, "Applying modifications in the maintenance window"),),
            recheck_s=0.0,
            sentence="applying pending modifications",
        )
    text, old_type = too_small_sentence(cluster, look)
    if text is not None and old_type is not None:
        message = f"Failed applying modification to cache node type to {cluster.node_type}. {text}"
        return Decision(
            puts=(replace(cluster, node_type=old_type, node_type_before=None, status=Status.AVAILABLE),),
            events=(cluster_event(cluster, look, message),),
            recheck_s=0.0,
            sentence=text,
        )
    member = StoredMember(cluster, cluster.nodes[0])
    plan = plan_shard(Shard((shard_member(member, look),), member.key, fence_after_s=look.limits.hang_s))
    return _record(cluster, plan, look)


def _record(cluster: CacheCluster, plan: ShardPlan, look: Look) -> Decision:
    new, texts = node_as_seen(cluster, cluster.nodes[0], look, settled=plan.settled)
    settled = plan.settled and (new.restore is None or new.restore.seeded)
    if settled:
        new, more = settle(new)
        texts += more
    elif plan.settled and new.restore is not None:
        # Everything is in place but the keys.
        new = replace(new, restore=replace(new.restore, phase=RestorePhase.FILL))
    return Decision(
        stages=plan.stages,
        puts=(new,) if new != cluster else (),
        events=tuple(cluster_event(cluster, look, text) for text in texts),
        recheck_s=recheck_s(look, settled=plan.settled),
        sentence=plan.sentence,
    )


def settle(cluster: CacheCluster) -> tuple[CacheCluster, list[str]]:
    """Everything is in place: `available`, and what there is to tell."""
    texts: list[str] = []
    if cluster.status is Status.CREATING:
        texts.append("Cache cluster created")
        texts += [f"Added cache node {n.node_id} in availability zone {n.zone}" for n in cluster.nodes]
    elif cluster.status is Status.MODIFYING:
        texts.append(f"Modification of cache cluster {cluster.id} completed")
    rest = Status.SNAPSHOTTING if cluster.status is Status.SNAPSHOTTING else Status.AVAILABLE
    return replace(cluster, status=rest, node_type_before=None, seed=None, restore=None), texts


def recheck_s(look: Look, *, settled: bool) -> float:
    """When to look again: soon while something is on its way, at the end of the hold if that is all there is."""
    if settled:
        return REST_S
    on_the_way = [key for key, seen in look.nodes.items() if not seen.serving and key not in look.hold_s]
    if on_the_way or not look.hold_s:
        return SOON_S
    return max(min(look.hold_s.values()), SOON_S)
