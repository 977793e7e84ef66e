"""One shard: which of its members is the primary, who follows it, and who holds the endpoints.

Invariants (each has a property in tests/unit/plan):
  1. A primary that died without saving is never started again while a living member has data: the member with
     the highest offset takes over, the dead one comes back as its replica (an empty primary wipes its replicas).
  2. An endpoint is published only on a member that is seen in its role, and is given up elsewhere first.
  3. Nothing is stopped but what is leaving or was asked to reboot.
Called by plan.replication_group and plan.cache_cluster; pure. Sources: valkey replication.c; measurements of
moving addresses with CONFIG SET bind (docs/adr/0003-endpoints.md).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from cachekeep.domain.nodes import NodeFacts, NodeKey, NodeSpec, ObservedNode, Role
from cachekeep.domain.steps import Bind, Configure, Follow, Promote, Remove, Start, Step, Stop


@dataclass(frozen=True)
class Member:
    """One node of the shard. reboot: restart the process that runs now. configure: values to set at run time.

    hold_s: seconds to wait before it may be started.
    """

    spec: NodeSpec
    seen: ObservedNode
    leaving: bool = False
    reboot: bool = False
    configure: tuple[tuple[str, str], ...] = ()
    hold_s: float = 0.0

    @property
    def key(self) -> NodeKey:
        return self.spec.key

    @property
    def alive(self) -> bool:
        return self.seen.process is not None

    @property
    def has_data(self) -> bool:
        """It holds something that a newly started engine would not.

        A replica says offset 1 before its first synchronisation; an idle pair says 0 after it.
        """
        facts = self.seen.facts
        return self.seen.serving and facts is not None and (facts.offset > 1 or facts.keys > 0)


@dataclass(frozen=True)
class Shard:
    """primary_host, reader_host: the endpoints' addresses; None when the shard has none of its own.

    forming: the shard was never complete yet, so the reader endpoint waits for a replica.
    """

    members: tuple[Member, ...]
    primary: NodeKey
    primary_host: str | None = None
    reader_host: str | None = None
    forming: bool = False

    def member(self, key: NodeKey) -> Member | None:
        return next((m for m in self.members if m.key == key), None)


@dataclass(frozen=True)
class ShardPlan:
    """primary: the member that is the primary as seen now. settled: everything is as it should be.

    removed: members that were leaving and of which nothing is left. sentence: what is being waited for or done.
    """

    primary: NodeKey
    stages: tuple[tuple[Step, ...], ...] = ()
    removed: tuple[NodeKey, ...] = ()
    settled: bool = False
    sentence: str = ""


def plan_shard(shard: Shard) -> ShardPlan:
    """The next safe steps, or `settled`. Raises ValueError when the primary is not one of the members."""
    primary = shard.member(shard.primary)
    if primary is None:
        raise ValueError(f"{shard.primary} is not a member of its shard")
    plan = _with_primary(shard, primary) if primary.alive else _without_primary(shard, primary)
    leaving, removed = _plan_leaving(shard, primary)
    return replace(
        plan,
        stages=plan.stages + leaving,
        removed=removed,
        settled=plan.settled and not leaving and not any(m.leaving for m in shard.members),
    )


def _without_primary(shard: Shard, primary: Member) -> ShardPlan:
    others = [m for m in shard.members if m.key != primary.key and not m.leaving]
    # A member that was to leave may be the last that has the data: then it takes over and stays.
    heirs = [m for m in others if m.has_data] or [m for m in shard.members if m.leaving and m.has_data]
    if primary.seen.saved and not (heirs and primary.seen.loading_failed):
        return _start_saved(shard, primary)
    if heirs:
        return _succeed(best_heir(heirs), primary)
    silent = [m for m in shard.members if m.key != primary.key and m.alive and not m.seen.serving]
    if silent:
        names = ", ".join(str(m.key) for m in silent)
        return ShardPlan(
            shard.primary,
            sentence=f"{primary.key} is gone; waiting for {names} to answer before deciding who has the data",
        )
    saved = [m for m in others if m.seen.saved and not m.alive and not m.seen.loading_failed]
    if saved:
        return _start_saved(shard, saved[0])
    # Nobody has anything: all may start at once, and the primary starts empty.
    steps = [step for m in (primary, *others) if not m.alive for step in _start(m, None)]
    return ShardPlan(shard.primary, _one_stage(steps), sentence=f"starting {primary.key}")


def _start_saved(shard: Shard, member: Member) -> ShardPlan:
    return ShardPlan(
        shard.primary,
        _one_stage(_start(member, None, keep_data=True)),
        sentence=f"starting {member.key} with the data of its orderly stop",
    )


def best_heir(heirs: Sequence[Member]) -> Member:
    """The member to take over: the highest offset, then one that was promoted already, then the lowest key."""

    def rank(member: Member) -> tuple[int, bool, int]:
        facts = _facts(member)
        return (facts.offset, facts.role is Role.PRIMARY, facts.keys)

    return max(sorted(heirs, key=lambda m: m.key), key=rank)


def _succeed(heir: Member, dead: Member) -> ShardPlan:
    """The heir is first promoted, and named primary only once it is seen to be one."""
    if _facts(heir).role is Role.PRIMARY:
        return ShardPlan(heir.key, sentence=f"{heir.key} has taken over from {dead.key}")
    return ShardPlan(
        dead.key,
        _one_stage([Promote(heir.key, heir.spec.address)]),
        sentence=f"{dead.key} is gone; promoting {heir.key} at offset {_facts(heir).offset}",
    )


def _with_primary(shard: Shard, primary: Member) -> ShardPlan:
    if not primary.seen.serving:
        # The replicas may start meanwhile; they are told whom to follow when the primary answers.
        starts = [s for m in _staying(shard) if not m.alive for s in _start(m, None)]
        return ShardPlan(shard.primary, _one_stage(starts), sentence=f"waiting for {primary.key} to answer")
    if _facts(primary).role is Role.REPLICA:
        return _usurped(shard, primary)
    # Endpoints first: who waits for them must not wait for a replica.
    stages = [
        *_binds(shard, primary),
        _bring_up_replicas(shard, primary),
        _configures(shard),
        _reboots(shard, primary),
    ]
    stages = [stage for stage in stages if stage]
    waiting = [m for m in _staying(shard) if not _in_role(m, primary)]
    if stages:
        return ShardPlan(shard.primary, tuple(stages), sentence="bringing the members into their roles")
    if waiting:
        names = ", ".join(str(m.key) for m in waiting)
        return ShardPlan(shard.primary, sentence=f"waiting for {names} to be in sync with {primary.key}")
    return ShardPlan(shard.primary, settled=True, sentence="all members are in their roles")


def _usurped(shard: Shard, primary: Member) -> ShardPlan:
    """The primary of record follows somebody: its successor if that is one of us, else an intruder."""
    follows = _facts(primary).primary
    for member in _staying(shard):
        if member.spec.address == follows and member.has_data and _facts(member).role is Role.PRIMARY:
            return ShardPlan(member.key, sentence=f"{member.key} is the primary that {primary.key} follows")
    return ShardPlan(
        shard.primary,
        _one_stage([Promote(primary.key, primary.spec.address)]),
        sentence=f"{primary.key} follows {follows}, which is no member; promoting it",
    )


def _bring_up_replicas(shard: Shard, primary: Member) -> tuple[Step, ...]:
    steps: list[Step] = []
    for member in _staying(shard):
        if member.key == primary.key:
            continue
        if not member.alive:
            steps += _start(member, primary)
        elif member.seen.serving and _facts(member).primary != primary.spec.address:
            steps.append(Follow(member.key, member.spec.address, primary.spec.address))
    return tuple(steps)


def _binds(shard: Shard, primary: Member) -> list[tuple[Step, ...]]:
    """Three stages: give up, take the primary endpoint, take the reader endpoint.

    An address that two engines want would be refused to the second; and while a silent replica holds the reader's,
    the primary's must not wait for it.
    """
    reader = _reader(shard, primary)
    give_up: list[Step] = []
    take: list[Step] = []
    take_reader: list[Step] = []
    for member in shard.members:
        if not member.seen.serving:
            continue
        own, held = member.spec.address.host, _facts(member).binds
        wanted = [own]
        if member.key == primary.key and shard.primary_host:
            wanted.append(shard.primary_host)
        without_reader = tuple(wanted)
        if reader is not None and member.key == reader.key and shard.reader_host:
            wanted.append(shard.reader_host)
        kept = tuple(h for h in wanted if h in held)
        lost = tuple(h for h in held if h not in wanted)
        if lost:
            give_up.append(Bind(member.key, member.spec.address, kept or (own,), lost))
        first = tuple(h for h in wanted if h in held or h in without_reader)
        if len(kept) < len(first):
            take.append(Bind(member.key, member.spec.address, first))
        if len(first) < len(wanted):
            take_reader.append(Bind(member.key, member.spec.address, tuple(wanted)))
    return [tuple(give_up), tuple(take), tuple(take_reader)]


def _reader(shard: Shard, primary: Member) -> Member | None:
    """Who holds the reader endpoint: the replica that has it, else the first in sync, else the primary."""
    replicas = [m for m in _staying(shard) if m.key != primary.key]
    ready = [m for m in replicas if _in_role(m, primary) and not m.reboot]
    for member in ready:
        if shard.reader_host in _facts(member).binds:
            return member
    if ready:
        return ready[0]
    return None if shard.forming and replicas else primary


def _configures(shard: Shard) -> tuple[Step, ...]:
    return tuple(
        Configure(m.key, m.spec.address, dict(m.configure)) for m in _staying(shard) if m.configure and m.seen.serving
    )


def _reboots(shard: Shard, primary: Member) -> tuple[Step, ...]:
    """Replicas one by one, each only while the others are in their roles; the primary last, with its data saved.

    A replica that does not answer is rebooted all the same: that may be what the reboot is for.
    """
    staying = _staying(shard)
    for member in sorted((m for m in staying if m.reboot), key=lambda m: (m.key == primary.key, m.key)):
        needed = staying if member.key == primary.key else [m for m in staying if m.key != member.key]
        if all(_in_role(m, primary) for m in needed):
            return (Stop(member.key, member.spec.address, save=member.key == primary.key),)
    return ()


def _plan_leaving(shard: Shard, primary: Member) -> tuple[tuple[tuple[Step, ...], ...], tuple[NodeKey, ...]]:
    """Members on their way out have lost their endpoints in `_binds`; now process and folder go.

    While the primary does not serve as one, a process that leaves may hold the only copy of the data: it stays.
    """
    secure = _in_role(primary, primary)
    steps: list[Step] = []
    removed: list[NodeKey] = []
    for member in shard.members:
        if not member.leaving:
            continue
        if member.alive:
            if secure:
                steps.append(Stop(member.key, member.spec.address))
        elif member.seen.folder:
            steps.append(Remove(member.key))
        else:
            removed.append(member.key)
    return _one_stage(steps), tuple(removed)


def _staying(shard: Shard) -> list[Member]:
    return [m for m in shard.members if not m.leaving]


def _in_role(member: Member, primary: Member) -> bool:
    """Seen as the primary, or as a replica whose link to it is up and whose first synchronisation is over."""
    if not member.seen.serving:
        return False
    facts = _facts(member)
    if member.key == primary.key:
        return facts.role is Role.PRIMARY
    return facts.role is Role.REPLICA and facts.primary == primary.spec.address and facts.link_up


def _start(member: Member, primary: Member | None, *, keep_data: bool = False) -> list[Step]:
    if member.hold_s > 0:
        return []
    follow = primary.spec.address if primary is not None else None
    return [Start(replace(member.spec, follow=follow), keep_data=keep_data)]


def _facts(member: Member) -> NodeFacts:
    facts = member.seen.facts
    if facts is None:
        raise ValueError(f"{member.key} was not seen to answer")
    return facts


def _one_stage(steps: Sequence[Step]) -> tuple[tuple[Step, ...], ...]:
    return (tuple(steps),) if steps else ()
