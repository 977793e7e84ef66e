"""Replay from every interruption point: each change that a procedure makes fails, loses its reply, or is the last that
the service does before it is killed; alone, and with a member that dies at the same moment.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial

import pytest
import structlog

from tests.properties.machine import FOREVER
from tests.properties.operated import Operated

# More changes than any of these procedures makes: the replay ends at the first that is not reached.
MOST = 80


@pytest.fixture(autouse=True, scope="module")
def quiet_logs() -> Iterator[None]:
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger("critical"))
    yield
    structlog.reset_defaults()


def _crash(story: Operated) -> None:
    story.world.kill(story.key(story.group.primary_id))


def _hang(story: Operated) -> None:
    story.engine(story.group.primary_id).silent = FOREVER


def _reboot_all(story: Operated) -> None:
    for number in range(len(story.members)):
        story.reboot(number)


def _grow(story: Operated) -> None:
    story.change_node_type("cache.m7g.large")


def _upgrade(story: Operated) -> None:
    story.upgrade("9.2")


def _upgrade_stopped(story: Operated, rounds: int) -> None:
    """Begun, let go on for so many rounds, and stopped."""
    story.upgrade("9.2")
    for value in range(5, 5 + rounds):
        story.write(value)
        story.round()
        story.tick()
    story.stop_upgrade()


def _leave_two(story: Operated) -> None:
    story.leave(1)
    story.leave(2)


PLANNED: dict[str, Callable[[Operated], None]] = {
    "hand over": lambda story: story.hand_over(2),
    "test failover": lambda story: story.hand_over(0, test=True),
    "leave": lambda story: story.leave(1),
    "leave two": _leave_two,
    "join": lambda story: story.join(),
    "reboot all": _reboot_all,
    "node type": _grow,
    "upgrade": _upgrade,
    **{f"upgrade stopped {n}": partial(_upgrade_stopped, rounds=n) for n in (0, 3, 6, 10)},
}
UNPLANNED = {"crash": _crash, "hang": _hang}


def _begin(wish: Callable[[Operated], None]) -> Operated:
    story = Operated(3)
    story.calm_down()
    for value in range(5):
        story.write(value)
    story.tick()
    wish(story)
    return story


def _keep_on(story: Operated) -> None:
    """Until it is settled, with a client that goes on writing."""
    for value in range(100, 130):
        story.write(value)
        story.round()
        story.tick()
    story.calm_down()
    story.check_in_place()


def _interrupted(wish: Callable[[Operated], None], kind: str, at: int, killed: int | None = None) -> bool:
    """Whether the procedure came so far."""
    story = _begin(wish)
    try:
        story.mischief.arm(kind, at)
        for value in range(10, 10 + MOST):
            story.write(value)
            story.round()
            if story.mischief.kind is None:
                break
            story.tick()
            if story.at_rest:
                break
        reached = story.mischief.kind is None
        story.mischief.arm(None, 0)
        if killed is not None:
            story.trouble("kill", killed)
        _keep_on(story)
        if killed is None and wish in PLANNED.values():
            assert not story.forgiven
        return reached
    finally:
        story.close()


@pytest.mark.parametrize("kind", ["fails", "lost", "dies"])
@pytest.mark.parametrize("name", sorted(PLANNED | UNPLANNED))
def test_a_procedure_that_is_interrupted_anywhere_comes_to_its_end(name: str, kind: str) -> None:
    wish = (PLANNED | UNPLANNED)[name]
    reached = [_interrupted(wish, kind, at) for at in range(_changes(wish))]
    assert reached
    assert all(reached)


@pytest.mark.slow
@pytest.mark.parametrize("killed", [0, 1, 2, 3])
@pytest.mark.parametrize("name", sorted(PLANNED | UNPLANNED))
def test_a_member_that_dies_when_the_service_does_is_mended_too(name: str, killed: int) -> None:
    wish = (PLANNED | UNPLANNED)[name]
    for at in range(_changes(wish)):
        _interrupted(wish, "dies", at, killed)


def _changes(wish: Callable[[Operated], None]) -> int:
    """How many changes it makes when nothing gets in between."""
    story = _begin(wish)
    try:
        story.mischief.arm("nothing", MOST)
        for value in range(10, 10 + MOST):
            story.write(value)
            story.round()
            story.tick()
            if story.at_rest:
                break
        return MOST - story.mischief.after
    finally:
        story.close()
