"""After a rebalance every slot has one owner, all own nearly as many, and no slot moved in vain."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cachekeep.domain.slots import SLOTS, Slots, count_of, divided, numbers_of, parse_slots, ranges_of, slots_text
from cachekeep.plan.rebalance import rebalance


def text(now: Mapping[str, str], staying: Sequence[str]) -> dict[str, str]:
    wanted = rebalance({name: parse_slots(slots) for name, slots in now.items()}, staying)
    return {name: slots_text(slots) for name, slots in wanted.items()}


def test_a_third_shard_takes_the_ends_of_two() -> None:
    now = {"0001": "0-8191", "0002": "8192-16383"}
    assert text(now, ["0001", "0002", "0003"]) == {
        "0001": "0-5461",
        "0002": "8192-13652",
        "0003": "5462-8191,13653-16383",
    }


def test_the_neighbours_of_a_leaving_shard_take_its_halves() -> None:
    now = {"0001": "0-5460", "0002": "5461-10922", "0003": "10923-16383"}
    assert text(now, ["0001", "0003"]) == {"0001": "0-8191", "0003": "8192-16383"}


def test_what_is_even_stays() -> None:
    now = dict(zip(("a", "b", "c"), divided(3), strict=True))
    assert rebalance(now, ["a", "b", "c"]) == now


def test_small_pieces_go_first() -> None:
    now = {"0001": "0-8191,16000-16099", "0002": "8192-15999,16100-16383"}
    assert text(now, ["0001", "0002"]) == {"0001": "0-8191", "0002": "8192-16383"}


def test_neighbours_give_to_each_other() -> None:
    now = {"0001": "0-99", "0002": "100-16383"}
    assert text(now, ["0001", "0002"]) == {"0001": "0-8191", "0002": "8192-16383"}
    now = {"0001": "0-3999", "0002": "4000-12383", "0003": "12384-16383"}
    assert text(now, ["0001", "0002", "0003"]) == {"0001": "0-5460", "0002": "5461-10922", "0003": "10923-16383"}


def test_all_goes_to_the_last() -> None:
    assert text({"0001": "0-9999", "0002": "10000-16383"}, ["0002"]) == {"0002": "0-16383"}


def test_what_nobody_owns_is_given_out() -> None:
    assert text({}, ["0001", "0002"]) == {"0001": "0-8191", "0002": "8192-16383"}


@pytest.mark.parametrize(
    ("now", "staying"),
    [
        ({"a": parse_slots("0-5")}, []),
        ({"a": parse_slots("0-5")}, ["a", "a"]),
        ({"a": parse_slots("0-5"), "b": parse_slots("5")}, ["a"]),
    ],
)
def test_questions_without_an_answer(now: Mapping[str, Slots], staying: Sequence[str]) -> None:
    with pytest.raises(ValueError, match=r"shard"):
        rebalance(now, staying)


@st.composite
def owners(draw: st.DrawFn) -> tuple[dict[str, Slots], list[str]]:
    """Slots in the hands of up to twelve shards, in pieces, and those of them and of new ones that stay."""
    names = [f"{n:04d}" for n in range(1, draw(st.integers(1, 12)) + 1)]
    edges = sorted(draw(st.sets(st.integers(1, SLOTS - 1), max_size=30)))
    numbers: dict[str, list[int]] = {name: [] for name in names}
    for low, high in zip([0, *edges], [*edges, SLOTS], strict=True):
        numbers[draw(st.sampled_from(names))] += range(low, high)
    staying = draw(st.lists(st.sampled_from(names), min_size=1, unique=True))
    staying += [f"{n:04d}" for n in range(50, 50 + draw(st.integers(0, 6)))]
    return {name: ranges_of(owned) for name, owned in numbers.items()}, staying


@settings(max_examples=60, deadline=None)
@given(owners())
def test_even_complete_and_nothing_moved_in_vain(case: tuple[dict[str, Slots], list[str]]) -> None:
    now, staying = case
    wanted = rebalance(now, staying)
    assert list(wanted) == staying
    counts = sorted(count_of(slots) for slots in wanted.values())
    assert sum(counts) == SLOTS
    assert counts[-1] - counts[0] <= 1
    assert frozenset().union(*(numbers_of(slots) for slots in wanted.values())) == frozenset(range(SLOTS))
    stayed = sum(len(numbers_of(now.get(name, ())) & numbers_of(wanted[name])) for name in staying)
    # The most that can stay: each keeps what it has up to its share, and the larger shares go where most is had.
    share, over = divmod(SLOTS, len(staying))
    have = sorted((count_of(now.get(name, ())) for name in staying), reverse=True)
    assert stayed == sum(min(had, share + (place < over)) for place, had in enumerate(have))
    assert all(slots == ranges_of(numbers_of(slots)) for slots in wanted.values())
    assert rebalance(wanted, staying) == wanted
    assert rebalance(now, staying) == wanted
