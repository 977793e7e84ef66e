"""Who listens on which addresses: a node's own, the one it is known by, and the endpoints. Pure; called by plan.shard.

Source: measurements of moving addresses with CONFIG SET bind (docs/adr/0003-endpoints.md).
"""

from __future__ import annotations

from cachekeep.domain.steps import Bind, Step
from cachekeep.plan.member import Member, Phase, PhasedSteps, Shard, in_role, phased


def wanted_hosts(shard: Shard, member: Member, *, primary: bool) -> tuple[str, ...]:
    """Every address that the member listens on, but for the reader endpoint's."""
    hosts = [member.spec.address.host]
    if member.published is not None and not _held_by_its_first_owner(shard, member):
        hosts.append(member.published)
    hosts += member.extra_hosts
    if primary:
        hosts += shard.primary_hosts
    return tuple(hosts)


def _held_by_its_first_owner(shard: Shard, member: Member) -> bool:
    return any(m.spec.address.host == member.published and m.alive for m in shard.members)


def bind_steps(shard: Shard, primary: Member) -> PhasedSteps:
    """Give up, take what the primary needs, take the reader endpoint: in this order.

    An address that two engines want would be refused to the second; and while a silent replica holds the reader's,
    the primary's must not wait for it.
    """
    reader = _reader(shard, primary)
    busy = shard.busy_hosts | {h for m in shard.members if m.alive and not m.seen.serving for h in m.seen.known_binds}
    give_up: list[Step] = []
    take: list[Step] = []
    take_reader: list[Step] = []
    for member in shard.members:
        if not member.seen.serving:
            continue
        own, held = member.spec.address.host, member.facts.binds
        without_reader = wanted_hosts(shard, member, primary=member.key == primary.key)
        wanted = without_reader
        if reader is not None and member.key == reader.key and shard.reader_host:
            wanted = (*wanted, shard.reader_host)
        without_reader = tuple(h for h in without_reader if h in held or h not in busy)
        wanted = tuple(h for h in wanted if h in held or h not in busy)
        kept = tuple(h for h in wanted if h in held)
        lost = tuple(h for h in held if h not in wanted)
        if lost:
            give_up.append(Bind(member.key, member.spec.address, kept or (own,), lost))
        first = tuple(h for h in wanted if h in held or h in without_reader)
        if len(kept) < len(first):
            take.append(Bind(member.key, member.spec.address, first))
        if len(first) < len(wanted):
            take_reader.append(Bind(member.key, member.spec.address, wanted))
    return (
        *phased(Phase.GIVE_UP, give_up),
        *phased(Phase.TAKE, take),
        *phased(Phase.TAKE_READER, take_reader),
    )


def _reader(shard: Shard, primary: Member) -> Member | None:
    """Who holds the reader endpoint: the replica that has it, else the first in sync, else the primary."""
    replicas = [m for m in shard.staying if m.key != primary.key and not m.standby]
    ready = [m for m in replicas if in_role(m, primary) and not m.reboot]
    for member in ready:
        if shard.reader_host in member.facts.binds:
            return member
    if ready:
        return ready[0]
    return None if shard.forming and replicas else primary
