"""The life of a replication group: creating, available, modifying, deleting, create-failed. Pure; called by control.

Group and member clusters change together: a decision holds new values for all that differ.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from cachekeep.domain.cache_cluster import NOTHING_PENDING, CacheCluster, Status
from cachekeep.domain.events import Event, SourceType
from cachekeep.domain.nodes import NOTHING_SEEN, NodeKey
from cachekeep.domain.replication_group import ReplicationGroup
from cachekeep.domain.steps import Bind, Step
from cachekeep.plan import windows
from cachekeep.plan.cache_cluster import recheck_s
from cachekeep.plan.decision import REST_S, SOON_S, Decision, Look
from cachekeep.plan.nodes import (
    GIVE_UP_AFTER,
    StoredMember,
    failure_sentence,
    node_as_seen,
    removal_steps,
    shard_member,
    stop_steps,
    too_small_sentence,
    with_node_type,
)
from cachekeep.plan.shard import Shard, ShardPlan, plan_shard


@dataclass(frozen=True)
class _Story:
    """What one round knows; built up and turned into a Decision at the end."""

    group: ReplicationGroup
    members: tuple[CacheCluster, ...]
    look: Look

    def group_event(self, message: str) -> Event:
        return Event(self.look.now, self.group.region, SourceType.REPLICATION_GROUP, self.group.id, message)

    def member_event(self, cluster_id: str, message: str) -> Event:
        return Event(self.look.now, self.group.region, SourceType.CACHE_CLUSTER, cluster_id, message)


def plan_group(group: ReplicationGroup, members: Sequence[CacheCluster], look: Look) -> Decision:
    """members: in the order of group.member_ids. Raises ValueError when a member is missing."""
    if tuple(m.id for m in members) != group.member_ids:
        raise ValueError(f"{group.id} wants members {group.member_ids}")
    story = _Story(group, tuple(members), look)
    match group.status:
        case Status.DELETING:
            return _delete(story)
        case Status.CREATE_FAILED:
            return Decision(stages=stop_steps(story.members, look), recheck_s=REST_S, sentence="create-failed")
        case _:
            return _keep(story)


def _keep(story: _Story) -> Decision:
    group, look = story.group, story.look
    failed = _failure(story)
    if failed is not None:
        return failed
    if windows.is_due(group, look.now):
        return _apply_pending(story)
    too_small = _refuse_shrinking(story)
    if too_small is not None:
        return too_small
    shard = Shard(
        members=tuple(shard_member(StoredMember(c, c.nodes[0]), look) for c in story.members),
        primary=NodeKey(group.region, group.primary_id),
        primary_host=group.primary_endpoint.host if group.primary_endpoint else None,
        reader_host=group.reader_endpoint.host if group.reader_endpoint else None,
        forming=group.status is Status.CREATING,
    )
    return _record(story, plan_shard(shard))


def _record(story: _Story, plan: ShardPlan) -> Decision:
    """Turn what the shard's plan says, and what is seen, into values and events."""
    group, look = story.group, story.look
    events: list[Event] = []
    gone = {key.cluster_id for key in plan.removed}
    members = []
    for cluster in story.members:
        if cluster.id in gone:
            continue
        seen, told = node_as_seen(cluster, cluster.nodes[0], look, settled=plan.settled)
        members.append(seen)
        events += [story.member_event(cluster.id, text) for text in told]
    for cluster_id in sorted(gone):
        events.append(story.member_event(cluster_id, "Cache cluster deleted"))
    new = replace(group, member_ids=tuple(m for m in group.member_ids if m not in gone))
    if plan.primary.cluster_id != group.primary_id:
        new = replace(new, primary_id=plan.primary.cluster_id)
        # AWS's words: ElastiCache guide, "Testing automatic failover".
        text = f"Failover from primary node {group.primary_id} to replica node {new.primary_id} completed"
        events += [story.member_event(new.primary_id, text), story.group_event(text)]
        members = [_keep_primary(m, new.primary_id) for m in members]
    if plan.settled:
        new, members, more = _settle(story, new, members)
        events += more
    changed_members = [m for m, old in zip(members, _kept(story, gone), strict=True) if m != old]
    puts = (*((new,) if new != group else ()), *changed_members)
    return Decision(
        stages=plan.stages,
        puts=puts,
        drops=tuple(c for c in story.members if c.id in gone),
        events=tuple(events),
        recheck_s=recheck_s(look, settled=plan.settled),
        sentence=plan.sentence,
    )


def _keep_primary(cluster: CacheCluster, primary_id: str) -> CacheCluster:
    """A member that was to be deleted, but turned out to have the only copy of the data, stays."""
    if cluster.id != primary_id or cluster.status is not Status.DELETING:
        return cluster
    return replace(cluster, status=Status.MODIFYING)


def _kept(story: _Story, gone: set[str]) -> list[CacheCluster]:
    return [c for c in story.members if c.id not in gone]


def _settle(
    story: _Story, group: ReplicationGroup, members: list[CacheCluster]
) -> tuple[ReplicationGroup, list[CacheCluster], list[Event]]:
    """Everything is in place: status words become `available`, and the events say what has come."""
    events: list[Event] = []
    ready = []
    for cluster in members:
        if cluster.status is Status.CREATING:
            zone = cluster.nodes[0].zone
            events.append(story.member_event(cluster.id, "Cache cluster created"))
            events.append(story.member_event(cluster.id, f"Added cache node 0001 in availability zone {zone}"))
        ready.append(replace(cluster, status=Status.AVAILABLE, node_type_before=None))
    if group.status is Status.CREATING:
        events.append(story.group_event(f"Replication group {group.id} created"))
    elif group.status is Status.MODIFYING:
        events.append(story.group_event(f"Modification of replication group {group.id} completed"))
    return replace(group, status=Status.AVAILABLE), ready, events


def _failure(story: _Story) -> Decision | None:
    """A group whose engine will not start ends in create-failed, with the engine's own words."""
    if story.group.status is not Status.CREATING:
        return None
    for cluster in story.members:
        seen = story.look.nodes.get(cluster.key(cluster.nodes[0]), NOTHING_SEEN)
        if seen.process is None and seen.failures >= GIVE_UP_AFTER:
            text = failure_sentence(cluster, cluster.nodes[0], seen)
            return Decision(
                stages=stop_steps(story.members, story.look),
                puts=(
                    replace(story.group, status=Status.CREATE_FAILED),
                    *(replace(c, status=Status.CREATE_FAILED) for c in story.members),
                ),
                events=(
                    story.member_event(cluster.id, text),
                    story.group_event(f"Failed to create replication group {story.group.id}. {text}"),
                ),
                sentence=text,
            )
    return None


def _apply_pending(story: _Story) -> Decision:
    """The window is open (or everything was asked for at once): what waited becomes what is wanted."""
    group = story.group
    pending = group.pending
    node_type = pending.node_type or group.node_type
    failover = group.automatic_failover if pending.automatic_failover is None else pending.automatic_failover
    new = replace(
        group, node_type=node_type, automatic_failover=failover, pending=NOTHING_PENDING, status=Status.MODIFYING
    )
    members = tuple(with_node_type(c, node_type) for c in story.members)
    return Decision(
        puts=(new, *members),
        events=(story.group_event("Applying modifications in the maintenance window"),),
        recheck_s=0.0,
        sentence="applying pending modifications",
    )


def _refuse_shrinking(story: _Story) -> Decision | None:
    """A smaller node type that the data does not fit is taken back before any engine hears of it."""
    group = story.group
    for cluster in story.members:
        text, old_type = too_small_sentence(cluster, story.look)
        if text is not None and old_type is not None:
            return Decision(
                puts=(
                    replace(group, node_type=old_type, status=Status.AVAILABLE),
                    *(
                        replace(c, node_type=old_type, node_type_before=None, status=Status.AVAILABLE)
                        for c in story.members
                    ),
                ),
                events=(
                    story.group_event(f"Failed applying modification to cache node type to {group.node_type}. {text}"),
                ),
                recheck_s=0.0,
                sentence=text,
            )
    return None


def _delete(story: _Story) -> Decision:
    """Processes, then folders, then the records. A kept primary becomes a cluster of its own."""
    group, look = story.group, story.look
    kept = [c for c in story.members if group.retain_primary and c.id == group.primary_id]
    going = [c for c in story.members if c not in kept]
    stages = (*_give_up_endpoints(story, kept), *removal_steps(going, look))
    if stages:
        return Decision(stages=stages, recheck_s=SOON_S, sentence=f"deleting {group.id}")
    events = [story.member_event(c.id, "Cache cluster deleted") for c in going]
    events.append(story.group_event(f"Replication group {group.id} deleted"))
    freed = [
        replace(c, replication_group_id=None, status=Status.MODIFYING)
        if c.status is not Status.CREATING
        else replace(c, replication_group_id=None)
        for c in kept
    ]
    return Decision(
        puts=tuple(freed), drops=tuple(going), forget=True, events=tuple(events), sentence=f"{group.id} is gone"
    )


def _give_up_endpoints(story: _Story, kept: list[CacheCluster]) -> tuple[tuple[Step, ...], ...]:
    """The endpoints end with the group: a kept primary listens on its own address only, before they are released."""
    steps: list[Step] = []
    for cluster in kept:
        key, address = cluster.key(cluster.nodes[0]), cluster.nodes[0].address
        facts = story.look.nodes.get(key, NOTHING_SEEN).facts
        lost = tuple(h for h in facts.binds if h != address.host) if facts else ()
        if lost:
            steps.append(Bind(key, address, (address.host,), lost))
    return (tuple(steps),) if steps else ()
