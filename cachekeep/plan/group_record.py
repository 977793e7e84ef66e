"""From what a round decided and saw to values and events: roles, statuses, who is gone, how far a change is. Pure.

Called by plan.replication_group. Event texts are AWS's where they are known: ElastiCache guide, "Testing automatic
failover", "Event notifications".
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from cachekeep.domain.cache_cluster import CacheCluster, NodeStatus, Status
from cachekeep.domain.nodes import NOTHING_SEEN, NodeKey
from cachekeep.domain.replication_group import ClusterMode, NodeGroup, ReplicationGroup
from cachekeep.domain.restore import RestorePhase
from cachekeep.plan import engine_change
from cachekeep.plan.cache_cluster import recheck_s
from cachekeep.plan.cluster_mode import ClusterPlan
from cachekeep.plan.decision import Decision
from cachekeep.plan.member import Member, Phase, ShardPlan, in_stages
from cachekeep.plan.nodes import node_as_seen
from cachekeep.plan.story import Story
from cachekeep.plan.transit import switch_in_place

# Progress is stored in steps of so many percent: every step is a write.
PROGRESS_STEP = 5.0


@dataclass(frozen=True)
class Round:
    """What one round decided, by shard id, and for the cluster as a whole."""

    members: Mapping[str, tuple[Member, ...]]
    plans: Mapping[str, ShardPlan]
    cluster: ClusterPlan


def record(before: Story, story: Story, found: Round) -> Decision:
    """before: as stored. story: with what was changed before the shards were planned."""
    for shard in before.group.node_groups:
        story = _record_shard(story, shard.id, found)
    story = _record_resharding(story, found)
    settled = _is_settled(story, found)
    if settled and story.group.restore is not None and not story.group.restore.seeded:
        # Everything is in place but the keys.
        waits = replace(story.group.restore, phase=RestorePhase.FILL)
        story = story.with_group(replace(story.group, restore=waits))
    elif settled:
        story = _settle(story)
    steps = tuple(item for plan in found.plans.values() for item in plan.steps) + found.cluster.steps
    new_members = list(story.members.values())
    puts = [c for c in new_members if before.members.get(c.id) != c]
    drops = tuple(c for name, c in before.members.items() if name not in story.members)
    return Decision(
        stages=in_stages(steps),
        puts=(*((story.group,) if story.group != before.group else ()), *puts),
        drops=drops,
        released=story.released,
        events=story.events,
        recheck_s=recheck_s(story.look, settled=settled and not _goes_on(story)),
        sentence=_sentence(found),
        notes=story.notes,
    )


def _goes_on(story: Story) -> bool:
    """Something outside the group is waited for, of which nobody tells."""
    migration, upstream = story.group.migration, story.look.upstream
    if (migration is not None and not migration.rests) or (upstream is not None and upstream.failing_over):
        return True
    if upstream is None or upstream.source is None:
        return False
    primary = story.members[story.group.primary_id]
    facts = story.look.nodes.get(primary.key(primary.nodes[0]), NOTHING_SEEN).facts
    return facts is None or not facts.link_up


def _sentence(found: Round) -> str:
    """What is done and waited for, shard by shard where they differ."""
    said = {plan.sentence: shard_id for shard_id, plan in found.plans.items() if not plan.settled}
    told = [text if len(found.plans) == 1 else f"{shard_id}: {text}" for text, shard_id in said.items()]
    if not found.cluster.settled and found.cluster.sentence:
        told.append(found.cluster.sentence)
    if told:
        return "; ".join(told[:4]) + (f"; and {len(told) - 4} more" if len(told) > 4 else "")
    return next(iter(found.plans.values())).sentence if found.plans else ""


def _record_shard(story: Story, shard_id: str, found: Round) -> Story:
    plan = found.plans[shard_id]
    shard = story.group.shard(shard_id)
    if shard is None:
        return story
    former = story.members[shard.primary_id]
    succeeding = any(phase is Phase.ROLE for phase, _ in plan.steps)
    if plan.lost and _just_ended(story, shard):
        story = story.tell(f"No node of node group {shard_id} has its data any more: it starts empty")
    if plan.refuge is not None and _just_ended(story, shard):
        story = story.tell(
            f"No node of node group {shard_id} has its data any more, and a secondary of {story.group.global_id} has: "
            "fail over to it, or disassociate it to start empty"
        )
    if plan.behind:
        text = f"At least {plan.behind} bytes of the replication stream of {former.id} are lost with it"
        story = story.tell(text)
    story = _record_primary(story, shard_id, plan.primary)
    story = _record_gone(story, plan.removed)
    shard = story.group.shard(shard_id)
    if shard is None:
        return story
    for cluster in story.of_shard(shard):
        # A primary that is being succeeded is told of after its successor, as AWS does.
        if succeeding and cluster.id == former.id:
            continue
        seen, told = node_as_seen(cluster, cluster.nodes[0], story.look, settled=plan.settled)
        story = story.with_member(seen).tell_member(cluster.id, *told)
    return engine_change.swap_replicas(story, shard, list(found.members[shard_id]))


def _just_ended(story: Story, shard: NodeGroup) -> bool:
    return any(
        c.nodes[0].process is not None and story.look.nodes.get(c.key(c.nodes[0]), NOTHING_SEEN).process is None
        for c in story.of_shard(shard)
    )


def _record_primary(story: Story, shard_id: str, primary: NodeKey) -> Story:
    """The roles as seen: of members, and of the two instances of a member."""
    shard = story.group.shard(shard_id)
    cluster = story.members.get(primary.cluster_id)
    if shard is None or cluster is None:
        return story
    if cluster.spare is not None and primary == cluster.key(cluster.spare.node):
        story = _record_instance(story, cluster)
    if primary.cluster_id == shard.primary_id:
        return story
    # AWS's words: ElastiCache guide, "Testing automatic failover".
    text = f"Failover from primary node {shard.primary_id} to replica node {primary.cluster_id} completed"
    story = story.tell_member(primary.cluster_id, text).tell(text)
    cluster = story.members[primary.cluster_id]
    if cluster.status is Status.DELETING:
        # It was to be deleted, but turned out to have the only copy of the data.
        story = story.with_member(replace(cluster, status=Status.MODIFYING))
    return _record_wish(story, shard, primary.cluster_id)


def _record_instance(story: Story, cluster: CacheCluster) -> Story:
    change = story.group.engine_change
    planned = change is not None and change.done_at is None and engine_change.coming(cluster) is not None
    forwards = change is not None and change.version >= change.before_version
    if not planned and cluster.spare is not None:
        what = f"{cluster.spare.engine.label} {cluster.spare.version}"
        story = story.tell(f"Only the instance of {cluster.id} with {what} had the data: it has taken over")
    story = engine_change.swapped(story, cluster.id, keep_former=planned and forwards)
    return story if planned else engine_change.rolled_back_by_need(story)


def _record_wish(story: Story, shard: NodeGroup, new_primary: str) -> Story:
    """The hand-over that was asked for is done, or made pointless by a failover."""
    wish = shard.hand_over
    done = wish is not None and (wish.test or wish.to == new_primary)
    changed = replace(shard, primary_id=new_primary, hand_over=None if done else wish)
    story = story.with_shard(changed)
    if wish is None or not wish.test:
        return story
    old = story.members[shard.primary_id]
    node = old.nodes[0]
    if node.process is None:
        return story
    # TestFailover replaces the node that was the primary.
    node = replace(node, status=NodeStatus.CREATING, recovering=True, reboot_from=node.process)
    story = story.with_member(old.with_node(node))
    return story.tell_member(old.id, f"Recovering cache nodes {node.node_id}")


def _record_gone(story: Story, removed: tuple[NodeKey, ...]) -> Story:
    for key in removed:
        cluster = story.members.get(key.cluster_id)
        if cluster is None:
            continue
        if cluster.spare is not None and key == cluster.key(cluster.spare.node):
            kept = {cluster.nodes[0].published, cluster.nodes[0].address}
            story = story.with_member(replace(cluster, spare=None))
            story = story.release(*(address for address in cluster.spare.addresses if address not in kept))
            continue
        if cluster.spare is not None:
            # Its second instance goes first.
            story = story.with_member(replace(cluster, spare=replace(cluster.spare, leaving=True)))
            continue
        story = story.without_member(cluster.id).tell_member(cluster.id, "Cache cluster deleted")
    emptied = [s for s in story.group.node_groups if s.leaving and not s.member_ids]
    if emptied:
        left = tuple(s for s in story.group.node_groups if s not in emptied)
        story = story.with_group(replace(story.group, node_groups=left))
        for shard in emptied:
            story = story.tell(f"Removed node group {shard.id}")
    return story


def _record_resharding(story: Story, found: Round) -> Story:
    group = story.group
    if group.resharding is None:
        return story
    to_move = found.cluster.to_move
    total = max(group.resharding_slots, to_move)
    moved = 100.0 * (total - to_move) / total if total else 0.0
    shown = moved - moved % PROGRESS_STEP
    if total != group.resharding_slots or shown > group.resharding:
        story = story.with_group(replace(group, resharding=shown, resharding_slots=total))
        story = story.note(f"{total - to_move} of {total} slots are moved")
    return story


def _is_settled(story: Story, found: Round) -> bool:
    change = story.group.engine_change
    return (
        found.cluster.settled
        and all(plan.settled for plan in found.plans.values())
        and switch_in_place(story.group, list(story.members.values()), story.look)
        and (change is None or change.done_at is not None)
        and not any(s.leaving or s.hand_over is not None for s in story.group.node_groups)
        and not any(engine_change.coming(c) is not None for c in story.members.values())
    )


def _settle(story: Story) -> Story:
    """Everything is in place: status words become `available`, and the events say what has come."""
    group = story.group
    for cluster in list(story.members.values()):
        if cluster.status is Status.CREATING:
            zone = cluster.nodes[0].zone
            story = story.tell_member(
                cluster.id, "Cache cluster created", f"Added cache node 0001 in availability zone {zone}"
            )
        ready = replace(cluster, status=_rest(group), node_type_before=None, seed=None)
        story = story.with_member(ready)
    if group.status is Status.CREATING:
        story = story.tell(f"Replication group {group.id} created")
    elif group.status is Status.MODIFYING:
        story = story.tell(f"Modification of replication group {group.id} completed")
    elif group.status is Status.MIGRATING and group.migration is None:
        # AWS's words: ElastiCache guide, "Completing the data migration".
        story = story.tell_user(f"Complete Migration successful for {group.id}")
    if group.resharding is not None:
        story = story.tell(f"Slot migration of replication group {group.id} completed")
    return _settle_mode(
        story.with_group(replace(group, status=_rest(group), resharding=None, resharding_slots=0, restore=None))
    )


def _rest(group: ReplicationGroup) -> Status:
    """Where everything is in place. A snapshot that is being taken, or a migration, ends by itself and is no change."""
    if group.status is Status.SNAPSHOTTING or (group.migration is not None and not group.migration.rests):
        return group.status
    return Status.AVAILABLE


def _settle_mode(story: Story) -> Story:
    """A change of cluster mode is done: endpoints that the new mode does not have are given back.

    The engine gives such an address up in the next round; until then nobody gets it, since it is seen to be busy.
    """
    group = story.group
    if group.mode_before is None:
        return story
    new = replace(group, mode_before=None)
    if group.cluster_mode is ClusterMode.DISABLED:
        new = replace(new, configuration_endpoint=None)
        new = replace(new, node_groups=tuple(replace(shard, slots=()) for shard in new.node_groups))
    elif group.cluster_mode is ClusterMode.ENABLED:
        new = replace(new, primary_endpoint=None, reader_endpoint=None)
    return story.with_group(new).release(*(address for address in group.endpoints if address not in new.endpoints))
