"""How much a serverless cache may hold, and over how many shards."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cachekeep.plan.serverless import (
    Scaling,
    ShardUse,
    memory_of,
    memory_while_moving,
    room,
    shard_count,
    too_large,
)

MIB = 1 << 20
SCALING = Scaling(headroom_bytes=100 * MIB, shard_bytes=1000 * MIB, calm_s=60.0)
NO_LIMIT = 1 << 62


def one(used: int, memory: int) -> list[ShardUse]:
    """A cache of one shard; sizes in MiB."""
    return [ShardUse("0001", used * MIB, memory * MIB)]


def memory(shards: list[ShardUse], least: int = 100, most: int | None = None, *, calm: bool = False) -> list[int]:
    """In MiB, in order of the shards."""
    bound = NO_LIMIT if most is None else most * MIB
    return [n // MIB for n in memory_of(shards, least * MIB, bound, SCALING, calm=calm).values()]


@pytest.mark.parametrize(
    ("used", "now", "then"),
    [
        (0, 0, 100),  # the floor
        (10, 112, 112),  # room enough
        (70, 112, 187),  # 70 and a quarter of it, and the headroom
        (200, 260, 350),
        (200, 300, 300),
    ],
)
def test_it_grows_ahead_of_its_data(used: int, now: int, then: int) -> None:
    assert memory(one(used, now)) == [then]


def test_it_shrinks_only_after_it_was_too_large_for_long() -> None:
    wide = one(100, 800)
    assert too_large(wide, 100 * MIB, SCALING)
    assert memory(wide) == [800]
    assert memory(wide, calm=True) == [225]
    assert not too_large(one(100, 225), 100 * MIB, SCALING)
    assert not too_large(one(100, 440), 100 * MIB, SCALING), "less than twice what it needs"


def test_the_limits_hold() -> None:
    assert memory(one(0, 0), least=500) == [500]
    assert memory(one(900, 900), most=1000) == [1000]
    assert memory(one(1000, 1000), most=1000) == [1000]
    assert memory(one(0, 0), least=100, most=50) == [50]


def test_a_lowered_limit_evicts_nothing() -> None:
    assert memory(one(800, 1100), most=500) == [800]
    assert memory(one(600, 800), most=500) == [600]
    assert memory(one(300, 600), most=500) == [500]


def test_below_the_limit_every_shard_gets_its_part_of_what_is_left() -> None:
    shards = [ShardUse("0001", 700 * MIB, 750 * MIB), ShardUse("0002", 100 * MIB, 250 * MIB)]
    assert memory(shards, most=1000) == [800, 200]


def test_what_is_divided_at_the_limit_is_not_taken_back_at_the_next_look() -> None:
    shards = [ShardUse(str(n), used * MIB, now * MIB) for n, (used, now) in enumerate([(0, 0), (0, 0), (136, 538)])]
    first = memory_of(shards, 0, 737 * MIB, SCALING, calm=True)
    after = [ShardUse(shard.id, shard.used_bytes, first[shard.id]) for shard in shards]
    assert memory_of(after, 0, 737 * MIB, SCALING, calm=True) == first


@given(
    st.lists(st.tuples(st.integers(0, 3000), st.integers(0, 5000)), min_size=1, max_size=5),
    st.integers(0, 2000),
    st.integers(1, 8000) | st.none(),
    st.booleans(),
)
def test_memory_is_within_its_bounds_and_settles(
    sizes: list[tuple[int, int]], least: int, most: int | None, calm: bool
) -> None:
    shards = [ShardUse(str(n), used * MIB, now * MIB) for n, (used, now) in enumerate(sizes)]
    bound = NO_LIMIT if most is None else most * MIB
    wanted = memory_of(shards, least * MIB, bound, SCALING, calm=calm)
    assert wanted.keys() == {shard.id for shard in shards}
    used = sum(shard.used_bytes for shard in shards)
    for shard in shards:
        assert wanted[shard.id] >= min(shard.used_bytes, shard.memory_bytes), "nothing is evicted by this"
    if used < bound:
        assert sum(wanted.values()) <= bound
        assert all(wanted[shard.id] >= shard.used_bytes for shard in shards)
    after = [ShardUse(shard.id, shard.used_bytes, wanted[shard.id]) for shard in shards]
    assert memory_of(after, least * MIB, bound, SCALING, calm=calm) == wanted, "the answer is its own answer"


@given(
    st.lists(st.integers(0, 3000), min_size=1, max_size=6),
    st.integers(1, 9000),
    st.booleans(),
)
def test_shards_settle_at_once(sizes: list[int], bound: int, calm: bool) -> None:
    scaling = Scaling(shard_bytes=bound * MIB)
    shards = [ShardUse(str(n), used * MIB, 0) for n, used in enumerate(sizes)]
    count = shard_count(shards, scaling, calm=calm)
    assert 1 <= count <= 90
    total = sum(sizes) * MIB
    even = [ShardUse(str(n), total // count, 0) for n in range(count)]
    assert shard_count(even, scaling, calm=calm) == count, "neither back nor further"
    if not calm:
        assert count >= len(shards)


def test_one_shard_that_holds_everything_is_not_helped_by_more() -> None:
    hot = [ShardUse("0001", 1500 * MIB, 0), ShardUse("0002", 0, 0)]
    assert shard_count(hot, SCALING, calm=False) == 2


def test_shards_by_the_average_share() -> None:
    assert shard_count(one(799, 0), SCALING, calm=True) == 1
    assert shard_count(one(801, 0), SCALING, calm=False) == 2
    two = [ShardUse("0001", 100 * MIB, 0), ShardUse("0002", 300 * MIB, 0)]
    assert shard_count(two, SCALING, calm=False) == 2
    assert shard_count(two, SCALING, calm=True) == 1


def test_while_slots_move_every_shard_can_hold_everything() -> None:
    shards = [ShardUse("0001", 700 * MIB, 750 * MIB), ShardUse("0002", 100 * MIB, 4000 * MIB)]
    assert memory_while_moving(shards[:1], SCALING) == room(700 * MIB, SCALING)
    assert memory_while_moving(shards, SCALING) == 4000 * MIB
