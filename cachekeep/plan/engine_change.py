"""A change of engine or version of a group: second instances join as replicas of the new version, roles are handed to
them, and the former primary's instance stays in sync for a while, so that the change can be taken back. Pure.

Replicas before the primary, one at a time in each shard, shards side by side. Called by plan.replication_group.
"""

from __future__ import annotations

from dataclasses import replace

from cachekeep.domain.cache_cluster import CacheCluster, NodeStatus, Spare
from cachekeep.domain.nodes import NOTHING_SEEN, NodeKey
from cachekeep.domain.replication_group import EngineChange, NodeGroup, ReplicationGroup
from cachekeep.plan.member import Member, in_role
from cachekeep.plan.nodes import GIVE_UP_AFTER
from cachekeep.plan.story import Story
from cachekeep.plan.upgrades import expiring_fields_sentence


def coming(cluster: CacheCluster) -> Spare | None:
    """The instance that is to take the member's place, if there is one."""
    spare = cluster.spare
    return spare if spare is not None and not spare.former and not spare.leaving else None


def next_in_line(story: Story, shard: NodeGroup) -> CacheCluster | None:
    """The member whose second instance is brought up now: replicas in order, the primary last."""
    waiting = [c for c in story.of_shard(shard) if coming(c) is not None]
    return min(waiting, key=lambda c: (c.id == shard.primary_id, c.id), default=None)


def hand_over_target(story: Story, shard: NodeGroup) -> NodeKey | None:
    """The primary's second instance, once it is the only one left."""
    cluster = next_in_line(story, shard)
    if cluster is None or cluster.id != shard.primary_id or cluster.spare is None:
        return None
    return cluster.key(cluster.spare.node)


def swap_replicas(story: Story, shard: NodeGroup, members: list[Member]) -> Story:
    """A replica's second instance that is in sync takes its place; the first one leaves."""
    cluster = next_in_line(story, shard)
    if cluster is None or cluster.id == shard.primary_id or cluster.spare is None:
        return story
    by_key = {m.key: m for m in members}
    spare = by_key.get(cluster.key(cluster.spare.node))
    primary = by_key.get(story.members[shard.primary_id].key(story.members[shard.primary_id].nodes[0]))
    if spare is None or primary is None or not in_role(spare, primary):
        return story
    return swapped(story, cluster.id, keep_former=False)


def swapped(story: Story, cluster_id: str, *, keep_former: bool) -> Story:
    """The second instance of a member takes the place of the first, which becomes the second.

    The address that users know stays with the member.
    """
    cluster = story.members[cluster_id]
    spare = cluster.spare
    if spare is None:
        return story
    engine, version = cluster.runs
    old = cluster.nodes[0]
    known = old.published or old.address
    movable = known != spare.node.address and known.port == spare.node.address.port
    if keep_former and spare.reserve is None:
        # It stays at that address. In cluster mode clients learn addresses from the engines.
        movable = False
    node = replace(
        spare.node,
        published=known if movable else None,
        zone=old.zone,
        status=NodeStatus.AVAILABLE,
        created_at=story.look.now,
    )
    # A reboot that was asked for meanwhile was of the process that served: another one serves now.
    left = replace(old, published=None, status=NodeStatus.AVAILABLE, reboot_from=None, recovering=False)
    if keep_former and spare.reserve is not None:
        left = replace(left, address=spare.reserve)
    elif spare.reserve is not None:
        story = story.release(spare.reserve)
    former = Spare(left, engine, version, cluster.parameter_group, former=True, leaving=not keep_former)
    new = replace(
        cluster,
        nodes=(node,),
        spare=former,
        engine=spare.engine,
        version=spare.version,
        parameter_group=spare.parameter_group,
        substitute=None,
        substitute_version=None,
    )
    story = story.with_member(new).tell_member(
        cluster_id, f"Cache node {node.node_id} now runs {spare.engine.label} {spare.version}"
    )
    change = story.group.engine_change
    if change is not None and change.done_at is None:
        deadline = story.look.now + story.look.limits.sync_s
        story = story.with_group(replace(story.group, engine_change=replace(change, deadline=deadline)))
    return story


def advance(story: Story) -> Story:
    """Start the clock, notice the end, give up what does not come to one, release what is kept no longer."""
    change = story.group.engine_change
    if change is None:
        return _forget_leftovers(story)
    if change.done_at is not None:
        return _keep_or_release(story, change)
    if change.stopping:
        story = _let_go(story)
    if change.deadline == 0.0:
        deadline = story.look.now + story.look.limits.sync_s
        return story.with_group(replace(story.group, engine_change=replace(change, deadline=deadline)))
    left = [c for c in story.members.values() if coming(c) is not None]
    if not left:
        stopped = any((c.engine, c.version) != (change.engine, change.version) for c in story.members.values())
        return _stopped(story, change) if stopped else _done(story, change)
    reason = _why_given_up(story, change, left)
    return story if reason is None else _abandon(story, change, reason)


def _let_go(story: Story) -> Story:
    """A change that is to stop: second instances leave, but for that of a primary whose turn has come. The role may
    have gone to it already, seen or not yet; then it has what clients wrote since."""
    for shard in story.group.node_groups:
        turn = next_in_line(story, shard)
        for cluster in story.of_shard(shard):
            handing_over = turn is not None and cluster.id == turn.id == shard.primary_id
            if coming(cluster) is not None and cluster.spare is not None and not handing_over:
                story = story.with_member(replace(cluster, spare=replace(cluster.spare, leaving=True)))
    return story


def _stopped(story: Story, change: EngineChange) -> Story:
    """What runs the new version keeps it; the group is of the old one until the change is begun again."""
    new = sum((c.engine, c.version) == (change.engine, change.version) for c in story.members.values())
    text = (
        f"The change to {change.engine.label} {change.version} was stopped: {new} of {len(story.members)} nodes run it"
    )
    return story.with_group(replace(story.group, engine_change=None)).tell(text)


def _done(story: Story, change: EngineChange) -> Story:
    group = replace(
        story.group,
        engine=change.engine,
        version=change.version,
        parameter_group=change.parameter_group,
        substitute=None,
        substitute_version=None,
        engine_change=replace(change, done_at=story.look.now),
    )
    text = f"{group.id} runs {change.engine.label} {change.version}"
    if any(_is_former(c) for c in story.members.values()):
        minutes = story.look.limits.rollback_s / 60
        text += f"; {change.before_engine.label} {change.before_version} is kept in sync for {minutes:.0f} minutes"
    return story.with_group(group).tell(text)


def _is_former(cluster: CacheCluster) -> bool:
    return cluster.spare is not None and cluster.spare.former and not cluster.spare.leaving


def _why_given_up(story: Story, change: EngineChange, left: list[CacheCluster]) -> str | None:
    for cluster in left:
        seen = story.look.nodes.get(cluster.key(cluster.spare.node), NOTHING_SEEN) if cluster.spare else NOTHING_SEEN
        if seen.process is None and seen.failures >= GIVE_UP_AFTER:
            words = " | ".join(line.strip() for line in seen.log_tail[-3:]) or "it left no log"
            return f"the new node of {cluster.id} did not start ({words})"
        if seen.facts is not None and seen.facts.unexpected_errors:
            return (
                f"the new node of {cluster.id} could not carry out {seen.facts.unexpected_errors} commands that "
                f"{change.before_engine.label} {change.before_version} replicated"
            )
    forbidden = expiring_fields_sentence(_expiring_fields(story), change.engine, change.version)
    if forbidden is not None:
        return forbidden
    if story.look.now < change.deadline:
        return None
    names = ", ".join(sorted(c.id for c in left))
    return (
        f"the new nodes of {names} were not in sync within {story.look.limits.sync_s:g} s; data that "
        f"{change.engine.label} {change.version} does not know is the usual reason"
    )


def _expiring_fields(story: Story) -> int:
    facts = (story.look.nodes.get(c.key(c.nodes[0]), NOTHING_SEEN).facts for c in story.members.values())
    return max((found.expiring_fields for found in facts if found is not None), default=0)


def _abandon(story: Story, change: EngineChange, reason: str) -> Story:
    """Nothing was handed over yet where a second instance is still coming: the first ones go on."""
    for cluster in list(story.members.values()):
        if coming(cluster) is not None and cluster.spare is not None:
            story = story.with_member(replace(cluster, spare=replace(cluster.spare, leaving=True)))
    group = story.group
    stays = f"{group.engine.label} {group.version}"
    text = f"Failed applying modification of the engine to {change.engine.label} {change.version}: {reason}."
    return story.with_group(replace(group, engine_change=None)).tell(f"{text} It stays {stays}.")


def _keep_or_release(story: Story, change: EngineChange) -> Story:
    """The former instances go when their time is over, or when they are no faithful copies any more."""
    kept = [c for c in story.members.values() if _is_former(c)]
    done_at = change.done_at or 0.0
    why = None
    if story.look.now >= done_at + story.look.limits.rollback_s:
        why = "its time is over"
    for cluster in kept:
        seen = story.look.nodes.get(cluster.key(cluster.spare.node), NOTHING_SEEN) if cluster.spare else NOTHING_SEEN
        if seen.facts is not None and seen.facts.unexpected_errors:
            why = f"{seen.facts.unexpected_errors} commands of the new version were unknown to it, so its data differs"
        elif seen.process is None:
            why = "its process ended"
    if kept and why is None:
        return story
    for cluster in kept:
        if cluster.spare is not None:
            story = story.with_member(replace(cluster, spare=replace(cluster.spare, leaving=True)))
    story = story.with_group(replace(story.group, engine_change=None))
    if not kept:
        return story
    what = f"{change.before_engine.label} {change.before_version}"
    return story.tell(f"{what} is kept no longer, so the change cannot be taken back at once any more: {why}")


def _forget_leftovers(story: Story) -> Story:
    """A second instance without a change that explains it is on its way out."""
    for cluster in list(story.members.values()):
        if cluster.spare is not None and not cluster.spare.leaving:
            story = story.with_member(replace(cluster, spare=replace(cluster.spare, leaving=True)))
    return story


def rolled_back_by_need(story: Story) -> Story:
    """A primary died and only its former instance had the data: that version is the group's again."""
    shard = story.group.node_groups[0]
    head = story.members[shard.primary_id]
    group: ReplicationGroup = replace(
        story.group,
        engine=head.engine,
        version=head.version,
        parameter_group=head.parameter_group,
        engine_change=None,
    )
    return story.with_group(group)
