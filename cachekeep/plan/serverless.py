"""How much a serverless cache may hold and over how many shards, by what it holds now. Pure; called by serverless.

`maxmemory` is a limit and no allocation, so there is always room ahead of what is written: a quarter of the data and a
headroom. It follows upwards at once, downwards only after it was too large for long (`calm`). Between its bounds the
answer for what was answered is the same again, so nothing swings.
Shards are counted by the average share: more would not help one slot that holds everything.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

MOST_SHARDS = 90
_MIB = 1 << 20
# Of a shard's bound: the average share that asks for more shards, the one that asks for fewer, and the one that either
# aims at. Going to the middle from one end is far from the other.
_FULL, _EMPTY, _AIM = 0.8, 0.25, 0.5


@dataclass(frozen=True)
class Scaling:
    """headroom_bytes: room ahead of the data, for what is written between two looks. shard_bytes: what one shard shall
    hold at most. calm_s: for how long a cache must be too large before it shrinks."""

    headroom_bytes: int = 1024 * _MIB
    shard_bytes: int = 25 << 30
    calm_s: float = 300.0


@dataclass(frozen=True)
class ShardUse:
    """used_bytes: the engine's used_memory. memory_bytes: what it may hold now, as wanted."""

    id: str
    used_bytes: int
    memory_bytes: int


def room(used_bytes: int, scaling: Scaling) -> int:
    """What a shard with that much data shall be able to hold."""
    return used_bytes + used_bytes // 4 + scaling.headroom_bytes


def memory_of(
    shards: Sequence[ShardUse], least_bytes: int, most_bytes: int, scaling: Scaling, *, calm: bool
) -> Mapping[str, int]:
    """What each shard shall be able to hold, by its id. least_bytes, most_bytes: of all together.

    Never less than a shard holds, also when the most was lowered below that: nothing is evicted by a decision of ours.
    """
    least = -(-least_bytes // len(shards))
    least = min(least, most_bytes)
    wanted = {shard.id: _alone(shard, least, scaling, calm=calm) for shard in shards}
    if sum(wanted.values()) <= most_bytes:
        return wanted
    return _within(shards, most_bytes, {shard.id: _widest(shard, least, scaling) for shard in shards})


def too_large(shards: Sequence[ShardUse], least_bytes: int, scaling: Scaling) -> bool:
    """Fewer bytes would do, or fewer shards: what is so for long may shrink."""
    least = -(-least_bytes // len(shards))
    return any(_is_wide(shard, least, scaling) for shard in shards) or shard_count(shards, scaling, calm=True) < len(
        shards
    )


def shard_count(shards: Sequence[ShardUse], scaling: Scaling, *, calm: bool) -> int:
    """How many shards there shall be; 1-90."""
    total, count = sum(shard.used_bytes for shard in shards), len(shards)
    share = total / count / scaling.shard_bytes
    if share > _FULL or (calm and share < _EMPTY and count > 1):
        return max(1, min(-(-total // int(scaling.shard_bytes * _AIM)), MOST_SHARDS))
    return count


def memory_while_moving(shards: Sequence[ShardUse], scaling: Scaling) -> int:
    """What every shard can hold while slots move: everything, since nobody knows how much is in which slot, and a full
    node would evict what it is given."""
    return max([room(sum(shard.used_bytes for shard in shards), scaling), *(shard.memory_bytes for shard in shards)])


def _alone(shard: ShardUse, least: int, scaling: Scaling, *, calm: bool) -> int:
    wanted = max(least, room(shard.used_bytes, scaling))
    free = shard.memory_bytes - shard.used_bytes
    tight = free < (scaling.headroom_bytes + shard.used_bytes // 4) // 2
    if shard.memory_bytes < least or tight or (calm and _is_wide(shard, least, scaling)):
        return wanted
    return shard.memory_bytes


def _is_wide(shard: ShardUse, least: int, scaling: Scaling) -> bool:
    return shard.memory_bytes > _widest(shard, least, scaling)


def _widest(shard: ShardUse, least: int, scaling: Scaling) -> int:
    """With more than this it is too large."""
    return 2 * max(least, room(shard.used_bytes, scaling))


def _within(shards: Sequence[ShardUse], most_bytes: int, widest: Mapping[str, int]) -> Mapping[str, int]:
    """What is left of the most is divided evenly, but nobody gets more than `widest`, which would be taken back at the
    next look; anew only when somebody has clearly less than his part."""
    spare = most_bytes - sum(shard.used_bytes for shard in shards)
    if spare <= 0:
        return {s.id: max(min(s.memory_bytes, s.used_bytes), _MIB) for s in shards}
    parts: dict[str, int] = {}
    for n, shard in enumerate(sorted(shards, key=lambda s: (widest[s.id] - s.used_bytes, s.id))):
        parts[shard.id] = min(spare // (len(shards) - n), widest[shard.id] - shard.used_bytes)
        spare -= parts[shard.id]
    tolerated = 0 if len(shards) == 1 else max(4 * _MIB, most_bytes // 20 // len(shards))
    fair = all(s.memory_bytes >= s.used_bytes + parts[s.id] - tolerated for s in shards)
    if fair and sum(s.memory_bytes for s in shards) <= most_bytes:
        return {s.id: s.memory_bytes for s in shards}
    return {s.id: s.used_bytes + parts[s.id] for s in shards}
