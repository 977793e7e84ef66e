"""One shard: which of its members is the primary, who follows it, and who holds the endpoints.

Invariants (each has a property in tests/properties):
  1. A primary that died without saving is never started again while a living member has data: the member with
     the highest offset takes over, the dead one comes back as its replica (an empty primary wipes its replicas).
  2. An endpoint is published only on a member that is the primary (or, for the reader's, in sync with it), after it
     was given up elsewhere or its holder was fenced.
  3. Nothing is stopped but what is leaving, was asked to restart, or has not answered for so long that it is fenced.
Called by plan.replication_group and plan.cache_cluster; pure. Sources: valkey replication.c; cluster_legacy.c.
"""

from __future__ import annotations

from dataclasses import replace

from cachekeep.domain.nodes import NodeKey, Role
from cachekeep.domain.steps import (
    ClusterSwitchOver,
    Configure,
    Follow,
    Promote,
    Remove,
    Replicate,
    SetUsers,
    Step,
    Stop,
    SwitchOver,
    TakeOver,
)
from cachekeep.plan.binds import bind_steps, wanted_hosts
from cachekeep.plan.follower import hand_out, lead
from cachekeep.plan.member import Member, Phase, PhasedSteps, Shard, ShardPlan, in_role, phased
from cachekeep.plan.succession import start_steps, without_primary

__all__ = ["Member", "Shard", "ShardPlan", "plan_shard"]


def plan_shard(shard: Shard) -> ShardPlan:
    """The next safe steps, or `settled`. Raises ValueError when the primary is not one of the members."""
    if any(m.source != shard.source for m in shard.members):
        shard = replace(shard, members=tuple(replace(m, source=shard.source) for m in shard.members))
    primary = shard.member(shard.primary)
    if primary is None:
        raise ValueError(f"{shard.primary} is not a member of its shard")
    plan = _with_primary(shard, primary) if primary.alive else without_primary(shard, primary)
    if plan.primary != shard.primary:
        # The roles have changed hands: what follows from that is decided in the same round.
        told = plan.sentence
        plan = plan_shard(replace(shard, primary=plan.primary))
        return replace(plan, settled=False, sentence=told)
    leaving, removed = _plan_leaving(shard, primary)
    said = "setting users" if plan.settled else ""
    plan = plan.also(_users(shard), said).also(_fence_replicas(shard)).also(leaving)
    return replace(plan, removed=removed, settled=plan.settled and not any(m.leaving for m in shard.members))


def _with_primary(shard: Shard, primary: Member) -> ShardPlan:
    if not primary.seen.serving:
        return _silent_primary(shard, primary)
    if shard.source is not None:
        led = lead(shard, primary, shard.source)
        if led is not None:
            return led
    elif primary.facts.role is Role.REPLICA or _dispossessed(shard, primary):
        return _usurped(shard, primary)
    if shard.hand_out is not None:
        return hand_out(shard, primary, shard.hand_out)
    # Endpoints first: who waits for them must not wait for a replica.
    steps = (
        *bind_steps(shard, primary),
        *phased(Phase.FOLLOW, _bring_up_replicas(shard, primary)),
        *phased(Phase.CONFIGURE, _configures(shard)),
        *phased(Phase.RESTART, _restarts(shard, primary)),
    )
    switch = _switch_over(shard, primary)
    if switch is not None and shard.source is None:
        return ShardPlan(shard.primary, switch, sentence=f"handing over from {primary.key} to {shard.hand_over_to}")
    waiting = [m for m in shard.staying if not in_role(m, primary)]
    if shard.source is not None and shard.forming and not primary.facts.link_up:
        waiting = [primary]
    if steps:
        return ShardPlan(shard.primary, steps, sentence="bringing the members into their roles")
    if waiting:
        names = ", ".join(str(m.key) for m in waiting)
        return ShardPlan(shard.primary, sentence=f"waiting for {names} to be in sync with {primary.key}")
    if shard.hand_over_to not in (None, primary.key):
        return ShardPlan(shard.primary, sentence=f"waiting for {shard.hand_over_to} to take over")
    return ShardPlan(shard.primary, settled=True, sentence="all members are in their roles")


def _silent_primary(shard: Shard, primary: Member) -> ShardPlan:
    """Not answering: it starts, it loads, or it hangs. Fencing comes before anything is promoted or published."""
    # One that is in sync may have received nothing yet: what the primary has beyond that is the price of asynchrony.
    heirs = [m for m in shard.staying if not m.standby and m.key != primary.key]
    heirs = [m for m in heirs if m.has_data or in_role(m, primary)]
    if shard.hung(primary) and ((heirs and shard.automatic) or shard.yields):
        return ShardPlan(
            shard.primary,
            phased(Phase.FENCE, [Stop(primary.key, primary.spec.address, fence=True)]),
            sentence=f"{primary.key} has not answered for {primary.seen.silent_s:.1f} s; fencing it",
        )
    # The replicas may start meanwhile, as such: the primary may turn out to follow one of them, to which it had handed
    # over, and would take over its emptiness. In cluster mode a node cannot be started as a replica.
    # One that has data on disk waits: the primary may turn out to be unable to load its own.
    fresh = [m for m in shard.staying if not m.alive and not m.seen.saved and not m.seen.kept]
    if shard.clustered:
        starts = [s for m in fresh if shard.forming for s in start_steps(m, None)]
    else:
        starts = [s for m in fresh for s in start_steps(m, primary)]
    return ShardPlan(shard.primary, phased(Phase.FOLLOW, starts), sentence=f"waiting for {primary.key} to answer")


def _fence_replicas(shard: Shard) -> PhasedSteps:
    """A replica that hangs loses nothing by being killed, and may hold an address that others wait for.

    In cluster mode one without a primary might be voted in when it wakes up, and take writes that nobody wants any more
    once the role is to leave the group.
    """
    primary = shard.member(shard.primary)
    if primary is None or not (in_role(primary, primary) or (shard.yields and shard.clustered)):
        return ()
    hung = [m for m in shard.staying if m.key != primary.key and shard.hung(m)]
    return phased(Phase.FENCE, [Stop(m.key, m.spec.address, fence=True) for m in hung])


def _users(shard: Shard) -> PhasedSteps:
    """Of every member that answers, whatever else goes on: who lost a right must not keep it until all is well."""
    return phased(
        Phase.USERS,
        [SetUsers(m.key, m.spec.address, m.spec.link, m.spec.users) for m in shard.members if m.users_differ],
    )


def _dispossessed(shard: Shard, primary: Member) -> bool:
    """Another member has what makes a primary, and the primary of record has not: in cluster mode the slots, by a vote;
    else the endpoint, by a hand-over that broke off before the old primary was told to follow."""
    if primary.owns_slots or _holds_endpoint(shard, primary):
        return False
    others = [m for m in shard.members if m.key != primary.key and m.is_primary]
    return any(m.owns_slots if shard.clustered else _holds_endpoint(shard, m) for m in others)


def _holds_endpoint(shard: Shard, member: Member) -> bool:
    return not shard.clustered and any(host in member.facts.binds for host in shard.primary_hosts)


def _usurped(shard: Shard, primary: Member) -> ShardPlan:
    """The primary of record follows somebody: its successor if that is one of us, else an intruder."""
    follows = primary.facts.primary
    for member in shard.members:
        if member.key == primary.key or not member.is_primary:
            continue
        if shard.clustered and member.owns_slots:
            return ShardPlan(member.key, sentence=f"{member.key} owns the slots of {primary.key}")
        if _holds_endpoint(shard, member):
            return ShardPlan(member.key, sentence=f"{member.key} was handed the endpoint of {primary.key}")
        trusted = member.has_data or (member.key == shard.hand_over_to and not primary.has_data)
        if trusted and member.spec.address == follows:
            return ShardPlan(member.key, sentence=f"{member.key} is the primary that {primary.key} follows")
    above = _above(shard, primary)
    if above is not None and above.alive and not above.is_primary:
        return ShardPlan(shard.primary, sentence=f"waiting for {above.key}, which {primary.key} follows, to answer")
    if above is not None and not above.alive and not above.leaving:
        # It was handed the role and died before that was written down: whoever has most of its data succeeds it.
        return ShardPlan(above.key, sentence=f"{above.key}, which {primary.key} follows, is gone")
    clustered = primary.facts.cluster is not None
    if clustered and above is not None:
        steps = [TakeOver(primary.key, primary.spec.address, shard.vote)]
        return ShardPlan(shard.primary, phased(Phase.ROLE, steps), sentence=f"{primary.key} follows nobody who counts")
    if clustered:
        # It lost its slots and joined another shard, as older engines do: what it holds is that shard's.
        return ShardPlan(
            shard.primary,
            phased(Phase.RESTART, [Stop(primary.key, primary.spec.address)]),
            sentence=f"{primary.key} follows {follows} of another shard; starting it anew",
        )
    return ShardPlan(
        shard.primary,
        phased(Phase.ROLE, [Promote(primary.key, primary.spec.address)]),
        sentence=f"{primary.key} follows {follows}, which is no member; promoting it",
    )


def _above(shard: Shard, member: Member) -> Member | None:
    """The member at the upper end of its chain of replication; None when that is nobody of this shard."""
    seen = {member.key}
    while member.seen.serving and member.facts.role is Role.REPLICA:
        above = next((m for m in shard.members if m.spec.address == member.facts.primary), None)
        if above is None or above.key in seen:
            return None
        seen.add(above.key)
        member = above
    return member


def _switch_over(shard: Shard, primary: Member) -> PhasedSteps | None:
    """Once the successor is in sync and listens where it shall; None: not now, or nothing to hand over."""
    successor = shard.member(shard.hand_over_to)
    if successor is None or successor.key == primary.key or not in_role(successor, primary):
        return None
    if successor.switch_hold_s > 0 or not set(primary.extra_hosts) <= set(primary.facts.binds):
        return None
    if successor.facts.cluster is not None:
        # Slots that nobody owns are about to be given to this very primary.
        handing = [ClusterSwitchOver(successor.key, successor.spec.address)] if primary.owns_slots else []
        return phased(Phase.ROLE, handing) or None
    kept = [h for h in primary.facts.binds if h not in shard.primary_hosts] or [primary.spec.address.host]
    given_up = [h for h in primary.facts.binds if h in shard.primary_hosts]
    taken = [h for h in wanted_hosts(shard, successor, primary=True) if h not in successor.facts.binds]
    step = SwitchOver(
        primary.key,
        primary.spec.address,
        successor.key,
        successor.spec.address,
        binds=tuple(kept),
        successor_binds=(*successor.facts.binds, *taken),
        given_up=tuple(given_up),
    )
    return phased(Phase.ROLE, [step])


def _bring_up_replicas(shard: Shard, primary: Member) -> list[Step]:
    steps: list[Step] = []
    for member in shard.staying:
        if member.key == primary.key:
            continue
        if not member.alive:
            steps += start_steps(member, None if shard.clustered else primary)
        elif member.seen.serving and not member.outdated and not _attached(member, primary):
            steps += _follow(shard, member, primary)
    return steps


def _attached(member: Member, primary: Member) -> bool:
    """It follows this very primary. In cluster mode by identity too: one that was started anew has the same address."""
    here, there = member.facts.cluster, primary.facts.cluster
    known = [p.primary_id for p in there.peers if p.id == here.id] if here and there else []
    follows_another = there is not None and any(name not in (None, there.id) for name in known)
    return member.facts.primary == primary.spec.address and not follows_another


def _follow(shard: Shard, member: Member, primary: Member) -> list[Step]:
    """In cluster mode a node can follow only whom it knows, and not while it owns slots itself."""
    if not shard.clustered:
        return [Follow(member.key, member.spec.address, primary.spec.address)]
    here, there = member.facts.cluster, primary.facts.cluster
    if here is None or there is None or here.slots:
        return []
    if member.is_primary and member.facts.keys and primary.owns_slots:
        # An engine with keys refuses to become a replica. It lost its slots, so what it holds is nobody's.
        return [Stop(member.key, member.spec.address)]
    if not any(peer.id == there.id and not peer.handshake for peer in here.peers):
        return []
    return [Replicate(member.key, member.spec.address, there.id)]


def _configures(shard: Shard) -> list[Step]:
    return [
        Configure(m.key, m.spec.address, dict(m.configure)) for m in shard.staying if m.configure and m.seen.serving
    ]


def _restarts(shard: Shard, primary: Member) -> list[Step]:
    """Replicas one by one, each only while the others are in their roles; the primary last, with its data saved.

    A replica that does not answer is restarted all the same: that may be what the reboot is for. A change of cluster
    mode begins with the primary: the replicas can only follow it once it runs in the new mode.
    """
    if primary.outdated:
        return [Stop(primary.key, primary.spec.address, save=True)]
    wanting = [m for m in shard.staying if m.reboot or m.outdated]
    for member in sorted(wanting, key=lambda m: (m.key == primary.key, m.key)):
        if member.outdated and member.key != primary.key:
            return [Stop(member.key, member.spec.address)]
        needed = shard.staying if member.key == primary.key else [m for m in shard.staying if m.key != member.key]
        if all(in_role(m, primary) for m in needed):
            return [Stop(member.key, member.spec.address, save=member.key == primary.key)]
    return []


def _plan_leaving(shard: Shard, primary: Member) -> tuple[PhasedSteps, tuple[NodeKey, ...]]:
    """Members on their way out have lost their endpoints in `bind_steps`; now process and folder go.

    While the primary does not serve as one, a process that leaves may hold the only copy of the data: it stays.
    """
    secure = in_role(primary, primary)
    steps: list[Step] = []
    removed: list[NodeKey] = []
    for member in shard.members:
        if not member.leaving or member.key == primary.key:
            # A primary that was to leave is the last that has the data: it is to stay, and that is written down now.
            continue
        if member.alive:
            # One that owns slots is emptied first; plan.cluster_mode sees to that.
            if secure and not (member.is_primary and member.owns_slots):
                steps.append(Stop(member.key, member.spec.address))
        elif member.seen.folder:
            steps.append(Remove(member.key))
        else:
            removed.append(member.key)
    return phased(Phase.LEAVE, steps), tuple(removed)
