"""Cluster mode: that every node knows every other, that gone ones are forgotten, and that every slot has its owner.

Pure; called by plan.replication_group with all shards of a group. Roles within a shard are plan.shard's.
Sources: valkey cluster_legacy.c (handshake, FORGET, epochs); measurements of forming a cluster without a tool
(docs/adr/0010-cluster-mode.md).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from cachekeep.domain.engine import Engine
from cachekeep.domain.nodes import Address, ClusterFacts, NodeKey, Peer
from cachekeep.domain.slots import SLOTS, Slots, numbers_of, ranges_of
from cachekeep.domain.steps import AddSlots, CancelMigrations, Forget, Meet, MigrateSlots, MoveSlots, Step
from cachekeep.plan.member import Member, Phase, PhasedSteps, phased

# Up to so many nodes are all introduced to each other; gossip takes its time to do that, but costs nothing in a
# large cluster.
INTRODUCED_ALL = 16
ATOMIC_SINCE = 9


@dataclass(frozen=True)
class ClusterShard:
    """One shard for these decisions. wanted: the slots that it shall own. primary: the member of record."""

    id: str
    members: tuple[Member, ...]
    primary: NodeKey
    wanted: Slots
    leaving: bool = False

    @property
    def head(self) -> Member | None:
        """The primary of record, if it is seen to be one."""
        return next((m for m in self.members if m.key == self.primary and m.is_primary), None)


@dataclass(frozen=True)
class ClusterPlan:
    """to_move: slots that are not yet where they shall be. settled: joined, owned and agreed upon by all."""

    steps: PhasedSteps = ()
    settled: bool = False
    to_move: int = 0
    sentence: str = ""


def plan_cluster_mode(shards: Sequence[ClusterShard]) -> ClusterPlan:
    """The next steps that concern the cluster as a whole."""
    known = {m.facts.cluster.id: m for s in shards for m in s.members if m.seen.serving and m.facts.cluster}
    joining = _introductions(list(known.values()))
    forgetting = _forgettings(shards, known)
    adding = _unowned(shards)
    steps = (
        *phased(Phase.SLOTS, adding),
        *phased(Phase.JOIN, joining),
        *phased(Phase.JOIN, forgetting),
    )
    moves, to_move = ([], _misplaced(shards)) if steps else _moves(shards, known)
    steps += phased(Phase.MOVE, moves)
    if steps or to_move:
        what = f"{to_move} slots are still to be moved" if to_move else "joining the nodes into one cluster"
        return ClusterPlan(steps, to_move=to_move, sentence=what)
    strangers = _strangers(known)
    if strangers:
        return ClusterPlan(sentence=f"waiting for {strangers[0]} to be known to all")
    return ClusterPlan(settled=True)


def _cluster(member: Member) -> ClusterFacts:
    facts = member.facts.cluster
    if facts is None:
        raise ValueError(f"{member.key} does not run in cluster mode")
    return facts


def _introductions(living: Sequence[Member]) -> list[Step]:
    """One node, the best connected, is told of all others; in a small cluster everybody is told of everybody."""
    if not living:
        return []
    ordered = sorted(living, key=lambda m: (-len(_cluster(m).slots), -len(_cluster(m).peers), m.key))
    introducers = ordered if len(ordered) <= INTRODUCED_ALL else ordered[:1]
    ids = {m.key: {peer.id for peer in _cluster(m).peers if not peer.handshake} for m in ordered}
    greeted = {m.key: {peer.address for peer in _cluster(m).peers if peer.handshake} for m in ordered}

    def ignores(member: Member, other: Member) -> bool:
        return _cluster(other).id not in ids[member.key] and other.spec.address not in greeted[member.key]

    steps: list[Step] = []
    for at, member in enumerate(introducers):
        for other in ordered[at + 1 :]:
            if ignores(member, other):
                steps.append(Meet(member.key, member.spec.address, other.spec.address))
            elif _cluster(other).id in ids[member.key] and ignores(other, member):
                # It forgot this one, which came back as who it had been.
                steps.append(Meet(other.key, other.spec.address, member.spec.address))
    return steps


def _forgettings(shards: Sequence[ClusterShard], known: Mapping[str, Member]) -> list[Step]:
    """Nodes that are gone are struck from every list, unless somebody is still to take over from them."""
    silent = {m.spec.address for s in shards for m in s.members if m.alive and not m.seen.serving}
    heads = [head for s in shards if (head := s.head) is not None and head.facts.cluster is not None]
    owned = frozenset[int]().union(*(numbers_of(_cluster(head).slots) for head in heads))
    steps: list[Step] = []
    for member in known.values():
        facts = _cluster(member)
        for peer in facts.peers:
            gone = peer.id not in known and not peer.handshake and peer.address not in silent
            if not gone or _follows(member, peer, known.values()):
                continue
            if _is_given_up(shards, peer, owned, known):
                steps.append(Forget(member.key, member.spec.address, peer.id))
    return steps


def _follows(member: Member, peer: Peer, others: Iterable[Member]) -> bool:
    """A node does not forget whom it follows. Not the address decides: a new primary may have that of a gone one."""
    told = [p.primary_id for o in others for p in _cluster(o).peers if p.id == _cluster(member).id]
    return peer.id in told or (not told and member.facts.primary == peer.address)


def _is_given_up(
    shards: Sequence[ClusterShard], peer: Peer, owned: frozenset[int], known: Mapping[str, Member]
) -> bool:
    """It owns nothing that has no living owner. Or the primary of its shard owns slots, and nobody is to take over from
    it any more: of what it had taken last nobody had heard. Or that primary owns nothing, and nobody else has the data:
    the shard was started empty."""
    if numbers_of(peer.slots) <= owned:
        return True
    its_shard = next((s for s in shards if any(m.spec.address == peer.address for m in s.members)), None)
    if its_shard is None:
        return True
    head = its_shard.head
    others = [m for m in its_shard.members if m.key != its_shard.primary]
    if head is None or any(m.alive and not m.seen.serving for m in others):
        return False
    if head.owns_slots:
        return not any(m.seen.serving and m.facts.cluster and _follows(m, peer, known.values()) for m in others)
    return not any(m.has_data for m in others)


def _unowned(shards: Sequence[ClusterShard]) -> list[Step]:
    """Slots that nobody's view gives an owner go to the primary of the shard that shall have them.

    Not while a primary is missing: it may own them, and nobody who knows that may be there to ask.
    """
    present = [head for s in shards if (head := s.head) is not None and head.facts.cluster is not None]
    if len(present) < len(shards):
        return []
    claims = {_cluster(m).slots for s in shards for m in s.members if m.seen.serving and m.facts.cluster}
    claims |= {peer.slots for head in present for peer in _cluster(head).peers}
    owned = frozenset[int]().union(*map(numbers_of, claims))
    if len(owned) == SLOTS:
        return []
    steps: list[Step] = []
    for number, shard in enumerate(shards, 1):
        head = shard.head
        others = [m for m in shard.members if m.key != shard.primary]
        if head is None or head.facts.cluster is None:
            continue
        # A member that does not answer may own them.
        if any(m.alive and not m.seen.serving for m in others):
            continue
        missing = numbers_of(shard.wanted) - owned
        if missing:
            steps.append(AddSlots(head.key, head.spec.address, ranges_of(missing), number))
    return steps


def _misplaced(shards: Sequence[ClusterShard]) -> int:
    home = _homes(shards)
    return sum(
        _is_misplaced(home, shard, source, slot) for shard, source in _sources(shards) for slot in _slots(source)
    )


def _homes(shards: Sequence[ClusterShard]) -> dict[int, ClusterShard]:
    return {slot: shard for shard in shards for slot in numbers_of(shard.wanted)}


def _sources(shards: Sequence[ClusterShard]) -> list[tuple[ClusterShard, Member]]:
    """Primaries that own slots. Two in one shard, after an election that crossed a move: the one of record gets all."""
    found: list[tuple[ClusterShard, Member]] = []
    for shard in shards:
        head = shard.head
        if head is None or head.facts.cluster is None:
            continue
        others = [m for m in shard.members if m.key != head.key and m.is_primary and m.owns_slots]
        found += [(shard, head), *((shard, m) for m in others if head.owns_slots)]
    return found


def _slots(member: Member) -> list[int]:
    return sorted(numbers_of(_cluster(member).slots))


def _is_misplaced(home: Mapping[int, ClusterShard], shard: ClusterShard, source: Member, slot: int) -> bool:
    there = home.get(slot)
    return there is not None and (there.id != shard.id or source.key != shard.primary)


def _moves(shards: Sequence[ClusterShard], known: Mapping[str, Member]) -> tuple[list[Step], int]:
    """Slots that are owned by another shard than they shall be, and how many those are."""
    home = _homes(shards)
    heads = tuple(head.spec.address for shard in shards if (head := shard.head) is not None)
    steps: list[Step] = []
    to_move = 0
    for shard, source in _sources(shards):
        if any(m.exports and m.running and m.target_id not in known for m in _cluster(source).migrations):
            # Its target is gone or hangs: the slots stay here, and go again once somebody takes them.
            steps.append(CancelMigrations(source.key, source.spec.address))
            continue
        by_target: dict[str, list[int]] = {}
        for slot in _slots(source):
            if _is_misplaced(home, shard, source, slot):
                by_target.setdefault(home[slot].id, []).append(slot)
                to_move += 1
        for target_id, slots in by_target.items():
            target_shard = next(s for s in shards if s.id == target_id)
            steps += _move(source, target_shard.head, slots, heads)
    return steps, to_move


def _move(source: Member, target: Member | None, slots: Sequence[int], heads: tuple[Address, ...]) -> list[Step]:
    if target is None or target.facts.cluster is None:
        return []
    here, there = _cluster(source), _cluster(target)
    acquainted = any(p.id == there.id and not p.handshake for p in here.peers) and any(
        p.id == here.id and not p.handshake for p in there.peers
    )
    # A node that has just joined refuses clients (CLUSTERDOWN) until it sees the cluster whole.
    if not acquainted or not here.ok or not there.ok:
        return []
    if _is_atomic(source) and _is_atomic(target):
        running = [m for m in here.migrations if m.exports and m.running]
        under_way = {slot for m in running for slot in numbers_of(m.slots)}
        if any(m.target_id == there.id for m in running):
            return []
        left = [slot for slot in slots if slot not in under_way]
        return [MigrateSlots(source.key, source.spec.address, ranges_of(left), there.id)] if left else []
    others = tuple(a for a in heads if a not in (source.spec.address, target.spec.address))
    return [
        MoveSlots(source.key, source.spec.address, ranges_of(slots), here.id, target.spec.address, there.id, others)
    ]


def _is_atomic(member: Member) -> bool:
    return member.spec.engine is Engine.VALKEY and member.spec.version.major >= ATOMIC_SINCE


def _strangers(known: Mapping[str, Member]) -> list[NodeKey]:
    """Members that somebody does not know, or who do not see the cluster whole."""
    found: list[NodeKey] = []
    for member in known.values():
        facts = _cluster(member)
        ids = {peer.id for peer in facts.peers if not peer.handshake}
        if not facts.ok:
            found.append(member.key)
        found += [other.key for its_id, other in known.items() if other is not member and its_id not in ids]
    return found
