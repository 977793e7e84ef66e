"""A shard whose primary is gone: who takes over, or who is started with which data. Pure; called by plan.shard.

The order of what is trusted: a complete save of the primary's orderly stop; a living member with data, the highest
offset first; what persistence kept on disk. Only if there is none of it the shard starts empty.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from cachekeep.domain.nodes import LOADS_TRIED, Address, Role
from cachekeep.domain.steps import Bind, Follow, Promote, Start, Step, TakeOver
from cachekeep.plan.binds import wanted_hosts
from cachekeep.plan.member import Member, Phase, PhasedSteps, Shard, ShardPlan, follows_source, phased


def without_primary(shard: Shard, primary: Member) -> ShardPlan:
    """The next steps while no process of the primary lives. The plan names another primary once one is seen."""
    heirs = heirs_of(shard, primary)
    if primary.seen.saved and not (heirs and primary.seen.loading_failed):
        return _start_with_data(shard, primary, "the data of its orderly stop")
    if heirs:
        return _succeed(shard, heirs, primary)
    silent = [m for m in shard.members if m.key != primary.key and m.alive and not m.seen.serving]
    patience = [m for m in silent if not shard.hung(m)] or ([] if _kept(shard, primary) else silent)
    if patience:
        names = ", ".join(str(m.key) for m in patience)
        return ShardPlan(
            shard.primary,
            sentence=f"{primary.key} is gone; waiting for {names} to answer before deciding who has the data",
        )
    kept = _kept(shard, primary)
    if kept is not None:
        return kept
    empty = [m for m in shard.staying if m.key != primary.key and m.seen.serving and not m.standby]
    if empty and not shard.forming and shard.refuge is None:
        # Nobody has anything, and these run already: a replica that was in sync had received nothing yet.
        return _succeed(shard, empty, primary)
    return _start_empty(shard, primary)


def heirs_of(shard: Shard, primary: Member) -> list[Member]:
    """Living members with data, of the best kind that there is: those that stay, else spares, else those that leave."""
    others = [m for m in shard.members if m.key != primary.key and m.has_data]
    return (
        # Elected by the others' votes: it takes writes, whatever it was before.
        [m for m in shard.members if m.key != primary.key and m.is_primary and m.owns_slots]
        or [m for m in others if not m.leaving and not m.standby]
        or [m for m in others if not m.leaving]
        # A member that was to leave may be the last that has the data: then it takes over and stays.
        or others
    )


def best_heir(heirs: Sequence[Member]) -> Member:
    """The member to take over: the highest offset, then one that was promoted already, then the lowest key."""

    def rank(member: Member) -> tuple[bool, int, bool, int]:
        facts = member.facts
        # In cluster mode the others' votes may have decided already: whoever owns the slots is the primary.
        return (member.owns_slots, facts.offset, facts.role is Role.PRIMARY, facts.keys)

    return max(sorted(heirs, key=lambda m: m.key), key=rank)


def _succeed(shard: Shard, heirs: Sequence[Member], dead: Member) -> ShardPlan:
    heir = best_heir(heirs)
    better = [
        m
        for m in shard.staying
        if m.key != dead.key
        and m.alive
        and not m.seen.serving
        and not m.standby
        and m.seen.known_offset > heir.facts.offset
        and not shard.hung(m)
    ]
    if better and not heir.is_primary and shard.source is None:
        names = ", ".join(str(m.key) for m in better)
        return ShardPlan(
            dead.key, sentence=f"{dead.key} is gone; waiting for {names}, which had more of its data than {heir.key}"
        )
    if heir.is_primary if shard.source is None else follows_source(heir, shard.source):
        return ShardPlan(heir.key, sentence=f"{heir.key} has taken over from {dead.key}")
    if shard.source is not None and not shard.source_ready:
        return ShardPlan(dead.key, sentence=f"{dead.key} is gone; waiting for {shard.source} to have its data")
    if shard.source is not None:
        return ShardPlan(
            dead.key,
            phased(Phase.ROLE, [Follow(heir.key, heir.spec.address, shard.source)]),
            sentence=f"{dead.key} is gone; {heir.key} follows {shard.source} in its place",
        )
    return ShardPlan(
        dead.key,
        promotion(shard, heir),
        sentence=f"{dead.key} is gone; promoting {heir.key} at offset {heir.facts.offset}",
        behind=max(0, dead.seen.known_offset - heir.facts.offset),
    )


def promotion(shard: Shard, heir: Member) -> PhasedSteps:
    """The heir becomes primary and takes the addresses at once: its predecessor is gone, so nobody else has them."""
    if heir.facts.cluster is not None:  # as it runs, which in a change of cluster mode is not what is wanted
        first: Step = TakeOver(heir.key, heir.spec.address, shard.vote)
    else:
        first = Promote(heir.key, heir.spec.address)
    held = heir.facts.binds
    wanted = wanted_hosts(shard, heir, primary=True)
    taken = tuple(h for h in wanted if h not in held)
    elsewhere = {h for m in shard.members if m.key != heir.key and m.seen.facts for h in m.seen.facts.binds}
    elsewhere |= shard.busy_hosts
    if not taken or elsewhere & {*taken}:
        return ((Phase.ROLE, first),)
    kept = tuple(h for h in held if h not in wanted)
    return ((Phase.ROLE, first), (Phase.TAKE, Bind(heir.key, heir.spec.address, (*wanted, *kept))))


def _kept(shard: Shard, primary: Member) -> ShardPlan | None:
    """Start somebody with what is on disk: the newest kind first; one that would not load it only after the others."""
    others = [m for m in shard.staying if m.key != primary.key and not m.alive]
    ranked = [
        *([primary] if primary.seen.kept == "aof" else []),
        *(m for m in others if m.seen.saved),
        *([primary] if primary.seen.kept == "rdb" else []),
        *(m for m in others if m.seen.kept == "aof"),
        *(m for m in others if m.seen.kept == "rdb"),
    ]
    if not ranked:
        return None
    willing = [m for m in ranked if not m.seen.loading_failed and m.seen.failures < LOADS_TRIED]
    chosen = willing[0] if willing else ranked[0]
    what = "the data of its orderly stop" if chosen.seen.saved else f"what its persistence kept ({chosen.seen.kept})"
    return _start_with_data(shard, chosen, what)


def _start_with_data(shard: Shard, member: Member, what: str) -> ShardPlan:
    if not shard.source_ready:
        return ShardPlan(shard.primary, sentence=f"waiting for {shard.source} to have its data")
    steps = start_steps(member, None, keep_data=True, source=shard.source)
    return ShardPlan(shard.primary, phased(Phase.FOLLOW, steps), sentence=f"starting {member.key} with {what}")


def _start_empty(shard: Shard, primary: Member) -> ShardPlan:
    """Nobody has anything: all may start at once, and the primary starts empty."""
    others = [m for m in shard.staying if m.key != primary.key]
    if shard.source is not None:
        # Never as an empty primary, which would take writes. The others come after it.
        first = start_steps(primary, None, source=shard.source)
        text = f"starting {primary.key} as a replica of {shard.source}"
        return ShardPlan(shard.primary, phased(Phase.FOLLOW, first), sentence=text)
    if shard.refuge is not None and not shard.forming:
        # An empty primary would wipe whoever follows it, and a replica without its primary lets nobody follow itself.
        text = (
            f"no member has the data any more, and {shard.refuge} of another region has: waiting for a failover to it"
        )
        return ShardPlan(shard.primary, sentence=text, refuge=shard.refuge)
    steps = [step for m in (primary, *others) if not m.alive for step in start_steps(m, None)]
    return ShardPlan(
        shard.primary,
        phased(Phase.FOLLOW, steps),
        sentence=f"starting {primary.key}",
        lost=not shard.forming,
    )


def start_steps(
    member: Member, primary: Member | None, *, keep_data: bool = False, source: Address | None = None
) -> list[Step]:
    """None while it is held back. primary, or source: to be followed as soon as the engine runs."""
    if member.hold_s > 0:
        return []
    follow = primary.spec.address if primary is not None else source
    return [Start(replace(member.spec, follow=follow), keep_data=keep_data)]
