"""The life of a replication group: creating, available, modifying, deleting, create-failed. Pure; called by control.

Group and member clusters change together: a decision holds new values for all that differ.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from cachekeep.domain.cache_cluster import NOTHING_PENDING, CacheCluster, Status
from cachekeep.domain.nodes import NOTHING_SEEN, Address, NodeKey
from cachekeep.domain.replication_group import HandOver, NodeGroup, ReplicationGroup
from cachekeep.domain.restore import RestorePhase
from cachekeep.domain.slots import SLOTS, numbers_of
from cachekeep.domain.steps import Bind, Remove, Step, Stop
from cachekeep.plan import engine_change, migration, upgrades, windows
from cachekeep.plan.cluster_mode import ClusterPlan, ClusterShard, plan_cluster_mode
from cachekeep.plan.decision import REST_S, SOON_S, Decision, Look
from cachekeep.plan.group_record import Round, record
from cachekeep.plan.latch import may_follow, with_latch
from cachekeep.plan.member import Member, Phase, Shard, ShardPlan
from cachekeep.plan.nodes import (
    GIVE_UP_AFTER,
    failure_sentence,
    removal_steps,
    seed_failure,
    shard_members,
    stop_steps,
    too_small_sentence,
    with_node_type,
)
from cachekeep.plan.shard import plan_shard
from cachekeep.plan.story import Story
from cachekeep.plan.transit import with_switch, with_transit
from cachekeep.plan.upstream import Upstream


def plan_group(group: ReplicationGroup, members: Sequence[CacheCluster], look: Look) -> Decision:
    """members: in the order of group.member_ids. Raises ValueError when a member is missing."""
    if tuple(m.id for m in members) != group.member_ids:
        raise ValueError(f"{group.id} wants members {group.member_ids}")
    primary = next(m for m in members if m.id == group.primary_id)
    decision = _plan(Story(group, {m.id: m for m in members}, look))
    decision = with_latch(group, primary.key(primary.nodes[0]), look, decision)
    return with_switch(group, members, look, decision)


def _plan(story: Story) -> Decision:
    group, members, look = story.group, list(story.members.values()), story.look
    match group.status:
        case Status.DELETING:
            return _delete(story)
        case Status.CREATE_FAILED:
            return Decision(stages=stop_steps(members, look), recheck_s=REST_S, sentence="create-failed")
        case _:
            return _keep(story)


def _keep(story: Story) -> Decision:
    group, look = story.group, story.look
    failed = _failure(story)
    if failed is not None:
        return failed
    if group.restore is not None and group.restore.phase is RestorePhase.PREPARE:
        # What runs was to load from pipes that nobody writes any more.
        stages = stop_steps(list(story.members.values()), look)
        return Decision(stages=stages, recheck_s=REST_S, sentence=f"waiting for the data of {group.restore.label}")
    if windows.is_due(group, look.now):
        return _apply_pending(story)
    too_small = _refuse_shrinking(story)
    if too_small is not None:
        return too_small
    before = story
    members = {shard.id: _members_of(story, shard) for shard in group.node_groups}
    story = migration.advance(story)
    story = _choose_successors(engine_change.advance(story), members)
    shards = [_shard(story, shard, members) for shard in story.group.node_groups]
    plans = {
        shard.id: _emptied(story, shard, members) or plan_shard(planned)
        for shard, planned in zip(story.group.node_groups, shards, strict=True)
    }
    urgent = any(phase is Phase.ROLE for plan in plans.values() for phase, _ in plan.steps)
    # A succession waits for nothing, not even for what is to be decided about the cluster as a whole.
    cluster = ClusterPlan(to_move=story.group.resharding_slots) if urgent else _plan_cluster(story, members)
    return record(before, story, Round(members, plans, cluster))


def _members_of(story: Story, shard: NodeGroup) -> tuple[Member, ...]:
    """Members and second instances; one that is still to come only when it is its turn."""
    turn = engine_change.next_in_line(story, shard)
    found: list[Member] = []
    for cluster in story.of_shard(shard):
        first, *spare = shard_members(cluster, story.look)
        found.append(_with_reserve(first, cluster, turn))
        waits = engine_change.coming(cluster) is not None and (turn is None or cluster.id != turn.id)
        found += [m for m in spare if not waits or m.alive]
    return tuple(found)


def _with_reserve(member: Member, cluster: CacheCluster, turn: CacheCluster | None) -> Member:
    """Before a primary hands over to its second instance, it listens where it will live on."""
    spare = engine_change.coming(cluster)
    if spare is None or spare.reserve is None or turn is None or turn.id != cluster.id:
        return member
    return replace(member, extra_hosts=(spare.reserve.host,))


def _choose_successors(story: Story, members: Mapping[str, tuple[Member, ...]]) -> Story:
    """A hand-over to whoever is best gets a name, so that later rounds mean the same."""
    for shard in story.group.node_groups:
        wish = shard.hand_over
        if wish is not None and wish.to is not None and (wish.to == shard.primary_id or wish.to not in story.members):
            story = story.with_shard(replace(shard, hand_over=None))
        if wish is None or wish.to is not None:
            continue
        replicas = [
            m for m in members[shard.id] if m.key.cluster_id != shard.primary_id and not m.standby and not m.leaving
        ]
        if not replicas:
            story = story.with_shard(replace(shard, hand_over=None))
            story = story.tell(f"Node group {shard.id} has no replica to hand over to")
            continue
        ready = [m for m in replicas if m.seen.facts is not None and m.seen.facts.link_up]
        if ready:
            best = max(sorted(ready, key=lambda m: m.key), key=lambda m: m.facts.offset)
            story = story.with_shard(replace(shard, hand_over=HandOver(best.key.cluster_id, wish.test)))
    return story


def _shard(story: Story, shard: NodeGroup, members: Mapping[str, tuple[Member, ...]]) -> Shard:
    group = story.group
    primary = story.members[shard.primary_id]
    heads = {s.id: _head(story, s, members) for s in group.node_groups}
    voters = sum(head is not None and head.owns_slots for head in heads.values())
    voters_lost = sum(head is None for head in heads.values())
    elsewhere = [m for its, found in members.items() if its != shard.id for m in found if m.alive]
    beside = story.look.upstream or Upstream()
    hosts = [group.primary_endpoint.host] if group.primary_endpoint is not None else []
    if group.configuration_endpoint is not None and group.clustered:
        host = group.configuration_endpoint.host
        if shard.id == _holder(group, host, heads):
            hosts.append(host)
    return Shard(
        members=members[shard.id],
        primary=primary.key(primary.nodes[0]),
        primary_hosts=tuple(hosts),
        reader_host=group.reader_endpoint.host if group.reader_endpoint and shard.id == _first(group) else None,
        forming=group.status is Status.CREATING or primary.status is Status.CREATING,
        hand_over_to=_successor(story, shard),
        clustered=group.clustered,
        vote=voters > voters_lost,
        busy_hosts=frozenset(
            host for m in elsewhere for host in (m.facts.binds if m.seen.serving else m.seen.known_binds)
        ),
        fence_after_s=story.look.limits.hang_s,
        automatic=group.automatic_failover,
        source=_source(story),
        source_ready=may_follow(group.migration, story.look),
        hand_out=beside.hand_out,
        refuge=beside.refuge,
        yields=beside.failing_over and beside.source is None,
    )


def _source(story: Story) -> Address | None:
    """Whom the group's primary follows, of a migration or of a global datastore."""
    if story.group.migration is not None:
        return story.group.migration.source if story.group.migration.follows else None
    return story.look.upstream.source if story.look.upstream is not None else None


def _successor(story: Story, shard: NodeGroup) -> NodeKey | None:
    upgraded = engine_change.hand_over_target(story, shard)
    if upgraded is not None:
        return upgraded
    if shard.hand_over is None or shard.hand_over.to is None:
        return None
    cluster = story.members.get(shard.hand_over.to)
    return None if cluster is None else cluster.key(cluster.nodes[0])


def _head(story: Story, shard: NodeGroup, members: Mapping[str, tuple[Member, ...]]) -> Member | None:
    cluster = story.members[shard.primary_id]
    key = cluster.key(cluster.nodes[0])
    return next((m for m in members[shard.id] if m.key == key and m.is_primary), None)


def _first(group: ReplicationGroup) -> str:
    """The shard whose replica has the reader endpoint; only a serverless cache has one beside several shards."""
    return next((s.id for s in group.node_groups if not s.leaving), group.node_groups[0].id)


def _holder(group: ReplicationGroup, host: str, heads: Mapping[str, Member | None]) -> str | None:
    """The shard whose primary holds the configuration endpoint: the one that has it, else the first that serves."""
    serving = {shard_id: head for shard_id, head in heads.items() if head is not None}
    for shard_id, head in serving.items():
        if host in head.facts.binds:
            return shard_id
    staying = [s.id for s in group.node_groups if s.id in serving and not s.leaving]
    return staying[0] if staying else group.node_groups[0].id


def _plan_cluster(story: Story, members: Mapping[str, tuple[Member, ...]]) -> ClusterPlan:
    if not story.group.clustered:
        return ClusterPlan(settled=True)
    return plan_cluster_mode(
        [
            ClusterShard(
                shard.id,
                members[shard.id],
                story.members[shard.primary_id].key(story.members[shard.primary_id].nodes[0]),
                shard.slots,
                shard.leaving,
            )
            for shard in story.group.node_groups
        ]
    )


def _emptied(story: Story, shard: NodeGroup, members: Mapping[str, tuple[Member, ...]]) -> ShardPlan | None:
    """A shard that leaves needs nobody's care once the others own all slots; None while it still matters."""
    if not shard.leaving:
        return None
    owned: set[int] = set()
    for other in story.group.node_groups:
        head = None if other.leaving else _head(story, other, members)
        if head is not None and head.facts.cluster is not None:
            owned |= numbers_of(head.facts.cluster.slots)
    going = story.of_shard(shard)
    holds = any(m.owns_slots or (m.alive and not m.seen.serving) for m in members[shard.id])
    if (len(owned) < SLOTS or holds) and not all(c.status is Status.DELETING for c in going):
        return None
    steps = [step for stage in removal_steps(going, story.look) for step in stage]
    primary = story.members[shard.primary_id]
    return ShardPlan(
        primary.key(primary.nodes[0]),
        steps=tuple((Phase.REMOVE if isinstance(step, Remove) else Phase.LEAVE, step) for step in steps),
        removed=()
        if steps
        else (*(c.key(c.spare.node) for c in going if c.spare), *(c.key(c.nodes[0]) for c in going)),
        sentence=f"removing node group {shard.id}",
    )


def _failure(story: Story) -> Decision | None:
    """A group whose engine will not start ends in create-failed, with the engine's own words."""
    if story.group.status is not Status.CREATING:
        return None
    for cluster in story.members.values():
        seen = story.look.nodes.get(cluster.key(cluster.nodes[0]), NOTHING_SEEN)
        text = seed_failure(cluster, seen)
        if seen.process is None and seen.failures >= GIVE_UP_AFTER:
            text = failure_sentence(cluster, cluster.nodes[0], seen)
        if text:
            told = story.tell_member(cluster.id, text)
            told = told.tell(f"Failed to create replication group {story.group.id}. {text}")
            return Decision(
                stages=stop_steps(list(story.members.values()), story.look),
                puts=(
                    replace(story.group, status=Status.CREATE_FAILED, restore=None),
                    *(replace(c, status=Status.CREATE_FAILED, seed=None) for c in story.members.values()),
                ),
                events=told.events,
                sentence=text,
            )
    return None


def _apply_pending(story: Story) -> Decision:
    """The window is open: what waited becomes what is wanted."""
    group, members = story.group, tuple(story.members.values())
    released: tuple[Address, ...] = ()
    if group.pending.version is not None:
        begun = upgrades.begin(group, members, story.look.now)
        group, members, released = begun.group, begun.members, begun.released
    pending = group.pending
    node_type = pending.node_type or group.node_type
    failover = group.automatic_failover if pending.automatic_failover is None else pending.automatic_failover
    group = replace(
        group, node_type=node_type, automatic_failover=failover, pending=NOTHING_PENDING, status=Status.MODIFYING
    )
    group, members = with_transit(group, members, pending.transit)
    return Decision(
        puts=(group, *(with_node_type(c, node_type) for c in members)),
        released=released,
        events=story.tell("Applying modifications in the maintenance window").events,
        recheck_s=0.0,
        sentence="applying pending modifications",
    )


def _refuse_shrinking(story: Story) -> Decision | None:
    """A smaller node type that the data does not fit is taken back before any engine hears of it."""
    group = story.group
    for cluster in story.members.values():
        text, old_type = too_small_sentence(cluster, story.look)
        if text is not None and old_type is not None:
            told = story.tell(f"Failed applying modification to cache node type to {group.node_type}. {text}")
            return Decision(
                puts=(
                    replace(group, node_type=old_type, status=Status.AVAILABLE),
                    *(
                        replace(c, node_type=old_type, node_type_before=None, status=Status.AVAILABLE)
                        for c in story.members.values()
                    ),
                ),
                events=told.events,
                recheck_s=0.0,
                sentence=text,
            )
    return None


def _delete(story: Story) -> Decision:
    """Processes, then folders, then the records. A kept primary becomes a cluster of its own."""
    group, look = story.group, story.look
    members = list(story.members.values())
    kept = [c for c in members if group.retain_primary and c.id == group.primary_id]
    going = [c for c in members if c not in kept]
    stages = (*_give_up_endpoints(story, kept), *removal_steps(going, look), *_end_spares(story, kept))
    if stages:
        return Decision(stages=stages, recheck_s=SOON_S, sentence=f"deleting {group.id}")
    for cluster in going:
        story = story.tell_member(cluster.id, "Cache cluster deleted")
    story = story.tell(f"Replication group {group.id} deleted")
    freed = [
        replace(
            c,
            replication_group_id=None,
            spare=None,
            auth_tokens=group.auth_tokens,
            auth_token_at=group.auth_token_at,
            user_group_ids=group.user_group_ids,
            status=c.status if c.status is Status.CREATING else Status.MODIFYING,
        )
        for c in kept
    ]
    left = {address for c in freed for address in c.addresses}
    return Decision(
        puts=tuple(freed),
        drops=tuple(going),
        forget=True,
        released=tuple(a for c in kept for a in c.addresses if a not in left),
        events=story.events,
        sentence=f"{group.id} is gone",
    )


def _end_spares(story: Story, kept: Sequence[CacheCluster]) -> tuple[tuple[Step, ...], ...]:
    """A kept primary keeps one instance."""
    stopping: list[Step] = []
    removing: list[Step] = []
    for cluster in kept:
        if cluster.spare is None:
            continue
        key = cluster.key(cluster.spare.node)
        seen = story.look.nodes.get(key, NOTHING_SEEN)
        if seen.process is not None:
            stopping.append(Stop(key, cluster.spare.node.address))
        if seen.folder:
            removing.append(Remove(key))
    return tuple(tuple(stage) for stage in (stopping, removing) if stage)


def _give_up_endpoints(story: Story, kept: Sequence[CacheCluster]) -> tuple[tuple[Step, ...], ...]:
    """The endpoints end with the group: a kept primary listens on its own addresses only, before they are released."""
    steps: list[Step] = []
    endpoints = {address.host for address in story.group.endpoints}
    for cluster in kept:
        key, address = cluster.key(cluster.nodes[0]), cluster.nodes[0].address
        facts = story.look.nodes.get(key, NOTHING_SEEN).facts
        lost = tuple(h for h in facts.binds if h in endpoints) if facts else ()
        if facts is not None and lost:
            steps.append(Bind(key, address, tuple(h for h in facts.binds if h not in endpoints), lost))
    return (tuple(steps),) if steps else ()
