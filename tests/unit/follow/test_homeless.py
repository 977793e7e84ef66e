"""Keys whose slot another node has: which lane is to read them, and who waits for that."""

from __future__ import annotations

from typing import cast

from cachekeep.follow.crew import Member
from cachekeep.follow.homeless import Homeless
from cachekeep.follow.signals import Changed

KEY: Changed = (0, b"key")
SINCE = 12.5


class Lane:
    """What Homeless sees of a lane."""

    def __init__(self, *, connected: bool) -> None:
        self.connected = connected
        self.heard: dict[Changed, float] = {}
        self.held_by: list[Lane] = []

    def hear(self, keys: dict[Changed, float]) -> bool:
        if self.connected:
            self.heard |= keys
        return self.connected

    def hold(self, other: Lane) -> None:
        self.held_by.append(other)


def homeless(owner: Lane | None) -> Homeless:
    return Homeless(lambda _: cast(Member, owner) if owner is not None else None)


def test_the_lane_that_has_the_slot_reads_the_key_and_the_first_one_waits_for_it() -> None:
    here, there = Lane(connected=True), Lane(connected=True)
    some = homeless(there)
    assert not some.hand_on(cast(Member, here), {KEY: SINCE})
    assert (here.heard, there.heard) == ({}, {KEY: SINCE})
    assert here.held_by == [there]
    assert not some


def test_a_key_whose_slot_is_on_the_move_goes_back_to_its_lane() -> None:
    for owner in (None, Lane(connected=False)):
        here = Lane(connected=True)
        some = homeless(owner)
        assert some.hand_on(cast(Member, here), {KEY: SINCE})
        assert here.heard == {KEY: SINCE}
        assert here.held_by == [here]
        assert not some


def test_the_owner_itself_is_not_waited_for_as_another() -> None:
    here = Lane(connected=True)
    assert homeless(here).hand_on(cast(Member, here), {KEY: SINCE})
    assert here.held_by == [here]


def test_a_key_that_nobody_can_read_waits_until_its_owner_is_connected() -> None:
    here, there = Lane(connected=False), Lane(connected=False)
    some = homeless(there)
    assert not some.hand_on(cast(Member, here), {KEY: SINCE})
    assert some
    some.bring_home()
    assert some, "the owner is away still"
    there.connected = True
    some.bring_home()
    assert not some
    assert there.heard == {KEY: SINCE}


def test_a_key_waits_until_its_lane_has_heard_of_it() -> None:
    here, there = Lane(connected=False), Lane(connected=False)
    some = homeless(there)
    some.hand_on(cast(Member, here), {KEY: SINCE})
    waited: list[bool] = []

    def hear(keys: dict[Changed, float]) -> bool:
        waited.append(bool(some))
        return True

    there.hear = hear  # type: ignore[method-assign]
    some.bring_home()
    assert waited == [True], "whoever asks meanwhile would take it for arrived"
    assert not some
