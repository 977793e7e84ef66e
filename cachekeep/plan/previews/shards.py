"""Resharding: which slots go from where to where, with how much data, in what time. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from cachekeep.domain.engine import Engine
from cachekeep.domain.replication_group import NodeGroup, ReplicationGroup
from cachekeep.domain.slots import Slots, numbers_of, ranges_of, slots_text
from cachekeep.plan.previews import figures, words
from cachekeep.plan.previews.scene import Gap, Part, Scene, gap, known_sum

_RANGES_SHOWN = 60
ATOMIC_SINCE = 9


@dataclass(frozen=True)
class Move:
    """Slots that go from one shard to another. data_bytes: by the share of the source's slots; None: not known."""

    source: str
    target: str
    slots: Slots
    count: int
    data_bytes: int | None


def moves(scene: Scene, old: ReplicationGroup, new: ReplicationGroup) -> list[Move]:
    """Every pair of shards between which slots move, in order."""
    found = []
    for source in old.node_groups:
        owned = _owned(scene, source)
        for target in new.node_groups:
            taken = numbers_of(target.slots) & owned if target.id != source.id else frozenset()
            if taken:
                data = scene.data_bytes(scene.primary(source))
                share = None if data is None else data * len(taken) // len(owned)
                found.append(Move(source.id, target.id, ranges_of(taken), len(taken), share))
    return found


def _owned(scene: Scene, shard: NodeGroup) -> frozenset[int]:
    """What its primary says it owns, else what is stored."""
    primary = scene.primary(shard)
    facts = scene.facts(primary) if primary is not None else None
    if facts is not None and facts.cluster is not None and facts.cluster.slots:
        return numbers_of(facts.cluster.slots)
    return numbers_of(shard.slots)


def resharding(scene: Scene, old: ReplicationGroup, new: ReplicationGroup) -> Part | None:
    """None when every slot stays where it is and no shard comes or goes."""
    to_move = moves(scene, old, new)
    coming = [s for s in new.node_groups if old.shard(s.id) is None]
    gone = {s.id for s in new.node_groups if not s.leaving}
    leaving = [s for s in old.node_groups if s.id not in gone and not s.leaving]
    if not to_move and not coming and not leaving:
        return None
    atomic = new.engine is Engine.VALKEY and new.version.major >= ATOMIC_SINCE
    steps = [*_coming(coming), *_moving(to_move, atomic=atomic), *_leaving(leaving)]
    least, most = _duration(to_move, atomic=atomic)
    return Part(
        tuple(steps), _gaps(to_move, atomic=atomic), _undo(old), _cautions(scene, new, to_move, atomic=atomic),
        least_s=least, most_s=most,
    )  # fmt: skip


def _coming(shards: list[NodeGroup]) -> list[str]:
    if not shards:
        return []
    nodes = sum(len(s.member_ids) for s in shards)
    names = words.listed([s.id for s in shards])
    return [f"{words.several(len(shards), 'new shard')} ({names}): {words.several(nodes, 'node')} start and join."]


def _leaving(shards: list[NodeGroup]) -> list[str]:
    if not shards:
        return []
    names = words.listed([s.id for s in shards])
    return [f"Once they own nothing more, the nodes of {names} end and all others forget them."]


def _moving(to_move: list[Move], *, atomic: bool) -> list[str]:
    how = "atomically" if atomic else "key by key"
    found = []
    for move in to_move:
        ranges = slots_text(move.slots)
        shown = ranges if len(ranges) <= _RANGES_SHOWN else ranges[:_RANGES_SHOWN].rpartition(",")[0] + ",..."
        data = "" if move.data_bytes is None else f", about {words.size(move.data_bytes)}"
        found.append(f"{move.source} -> {move.target}: {words.several(move.count, 'slot')} ({shown}){data}, {how}.")
    return found


def _duration(to_move: list[Move], *, atomic: bool) -> tuple[float, float]:
    """Sources work side by side; what one of them sends goes one after the other in the worst case."""
    least = most = 0.0
    for source in {move.source for move in to_move}:
        mine = [m for m in to_move if m.source == source]
        spans = [figures.moving_s(m.data_bytes or 0, m.count, atomic=atomic) for m in mine]
        least = max(least, max(s[0] for s in spans))
        most = max(most, sum(s[1] for s in spans))
    return least, most


def _gaps(to_move: list[Move], *, atomic: bool) -> tuple[Gap, ...]:
    if not to_move:
        return ()
    if atomic:
        return (gap(figures.MOVED_SLOTS, "calls on slots while they change hands", len(to_move)),)
    return (gap(figures.MOVED_KEYS, "calls on a key while it is moved"),)


def _undo(old: ReplicationGroup) -> tuple[str, ...]:
    count = len([s for s in old.node_groups if not s.leaving])
    return (f"ModifyReplicationGroupShardConfiguration with NodeGroupCount={count} moves the slots back.",)


def _cautions(scene: Scene, new: ReplicationGroup, to_move: list[Move], *, atomic: bool) -> tuple[str, ...]:
    found = ["Clients are told of every moved slot once, with MOVED" + ("." if atomic else ", and meanwhile with ASK.")]
    moved = known_sum([m.data_bytes for m in to_move])
    if moved is None:
        found.append("How much data moves is not known: a primary did not answer when it was last asked.")
    found.append("Throughput while slots move is about half of what it is otherwise (measured).")
    for shard in new.node_groups:
        found += _fullness(scene, shard, to_move)
    return tuple(found)


def _fullness(scene: Scene, shard: NodeGroup, to_move: list[Move]) -> list[str]:
    """What a shard would hold of what it may hold."""
    cluster = scene.after.clusters.get(shard.primary_id)
    limit = scene.maxmemory(cluster, clustered=True) if cluster is not None else None
    now = scene.data_bytes(scene.before.clusters.get(shard.primary_id)) or 0
    comes = sum(m.data_bytes or 0 for m in to_move if m.target == shard.id)
    goes = sum(m.data_bytes or 0 for m in to_move if m.source == shard.id)
    will = now + comes - goes
    if limit is None or not comes or will <= 0.8 * limit:
        return []
    return [f"Shard {shard.id} will hold about {words.size(will)} of {words.size(limit)}."]
