"""Whatever happens to a group, its plan ends where it should, and no step on the way is a wrong one.

The planner, observer and actor are the real ones; the machine is simulated (tests.properties.simulated).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import pytest
import structlog
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cachekeep.domain.cache_cluster import Status
from cachekeep.domain.nodes import Address, Role
from tests.properties.operated import Operated
from tests.properties.stored import PRIMARY_HOST, READER_HOST, address_of, specs_of

QUICK = settings(
    report_multiple_bugs=False,
    max_examples=150,
    derandomize=True,
    deadline=None,
    database=None,
    suppress_health_check=[HealthCheck.too_slow],
)
THOROUGH = settings(QUICK, max_examples=3000)


@pytest.fixture(autouse=True, scope="module")
def quiet_logs() -> Iterator[None]:
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger("critical"))
    yield
    structlog.reset_defaults()


@dataclass(frozen=True)
class Turn:
    """What happens around one round. wish: what a user asks for. mischief: what befalls the n-th change."""

    writes: int
    before: tuple[str, int] | None
    between: tuple[str, int] | None
    mischief: tuple[str, int] | None
    wish: tuple[str, int] | None
    new_service: bool
    ticks: int


ANYTHING = ("kill", "silence", "stall", "hang", "diverge", "unreadable")
HARMLESS = ("silence", "stall")
WISHES = (
    "reboot",
    "grow",
    "shrink",
    "tiny",
    "leave",
    "join",
    "hand over",
    "test failover",
    "upgrade",
    "stop",
    "downgrade",
)
PERSISTENCE: dict[str, dict[str, str]] = {
    "none": {},
    "aof": {"appendonly": "yes"},
    "snapshots": {"save": "60 1"},
}
PERSISTING = st.sampled_from(sorted(PERSISTENCE))


def _turns(troubles: tuple[str, ...], most: int = 25) -> st.SearchStrategy[list[Turn]]:
    trouble = st.none() | st.tuples(st.sampled_from(troubles), st.integers(0, 4))
    mischief = st.none() | st.tuples(st.sampled_from(("fails", "lost", "dies")), st.integers(0, 3))
    wish = st.none() | st.tuples(st.sampled_from(WISHES), st.integers(0, 4))
    turn = st.builds(Turn, st.integers(0, 3), trouble, trouble, mischief, wish, st.booleans(), st.integers(0, 3))
    return st.lists(turn, min_size=1, max_size=most)


def _live_through(story: Operated, turns: list[Turn]) -> None:
    """A wish waits until the group is available: before that it would be refused."""
    value = 0
    wishes: list[tuple[str, int]] = []
    for turn in turns:
        for _ in range(turn.writes):
            value += 1
            story.write(value)
        if turn.before:
            story.trouble(*turn.before)
        if turn.wish and turn.wish[0] == "stop":
            story.stop_upgrade()
        else:
            wishes += [turn.wish] if turn.wish else []
        if wishes and story.group.status is Status.AVAILABLE:
            _wish(story, *wishes.pop(0))
        if turn.new_service:
            story.restart_service()
        story.mischief.arm(*(turn.mischief or (None, 0)))
        story.round(turn.between)
        for _ in range(turn.ticks):
            story.tick()


def _wish(story: Operated, kind: str, index: int) -> None:
    match kind:
        case "reboot":
            story.reboot(index)
        case "grow":
            story.change_node_type("cache.m7g.large")
        case "shrink":
            story.change_node_type("cache.t4g.micro")
        case "tiny":
            story.change_node_type("cache.tiny")
        case "leave":
            story.leave(index)
        case "join":
            story.join()
        case "hand over" | "test failover":
            story.hand_over(index, test=kind == "test failover")
        case "upgrade" | "downgrade":
            story.upgrade("9.2" if kind == "upgrade" else "9.1")


def _any_story(size: int, turns: list[Turn], persisting: str, *, settled_first: bool) -> None:
    story = Operated(size, PERSISTENCE[persisting])
    try:
        if settled_first:
            story.calm_down()
        _live_through(story, turns)
        story.calm_down()
        story.check_in_place()
    finally:
        story.close()


@QUICK
@given(st.integers(1, 4), _turns(ANYTHING), PERSISTING, st.booleans())
def test_a_group_converges_after_any_trouble(
    size: int, turns: list[Turn], persisting: str, settled_first: bool
) -> None:
    _any_story(size, turns, persisting, settled_first=settled_first)


@pytest.mark.slow
@THOROUGH
@given(st.integers(1, 5), _turns(ANYTHING, 60), PERSISTING, st.booleans())
def test_a_group_converges_after_any_trouble_thoroughly(
    size: int, turns: list[Turn], persisting: str, settled_first: bool
) -> None:
    _any_story(size, turns, persisting, settled_first=settled_first)


def _planned_story(size: int, turns: list[Turn], persisting: str) -> None:
    story = Operated(size, PERSISTENCE[persisting])
    try:
        story.calm_down()
        _live_through(story, turns)
        story.calm_down()
        story.check_in_place()
        assert not story.forgiven
        assert story.engine(story.group.primary_id).data == story.acknowledged
    finally:
        story.close()


@QUICK
@given(st.integers(1, 4), _turns(HARMLESS), PERSISTING)
def test_planned_work_loses_no_acknowledged_write(size: int, turns: list[Turn], persisting: str) -> None:
    _planned_story(size, turns, persisting)


@pytest.mark.slow
@THOROUGH
@given(st.integers(1, 5), _turns(HARMLESS, 60), PERSISTING)
def test_planned_work_loses_no_acknowledged_write_thoroughly(size: int, turns: list[Turn], persisting: str) -> None:
    _planned_story(size, turns, persisting)


@QUICK
@given(st.integers(2, 4), st.integers(0, 12), st.booleans())
def test_a_crash_loses_nothing_that_a_living_replica_had_applied(size: int, writes: int, pause: bool) -> None:
    story = Operated(size)
    try:
        story.calm_down()
        for value in range(writes):
            story.write(value)
        story.tick()
        if pause:
            story.world.running[story.key("g-002")].stalled = 4
            story.write(writes)
            story.tick()
        applied = max((e.writes for e in story.world.running.values() if e.role is Role.REPLICA), key=len, default=())
        story.world.kill(story.key(story.group.primary_id))
        story.calm_down()
        story.check_in_place()
        assert story.world.running[story.key(story.group.primary_id)].writes == applied
    finally:
        story.close()


@QUICK
@given(st.integers(1, 4), _turns(ANYTHING, 12), _turns(ANYTHING, 6), st.booleans())
def test_a_deleted_group_leaves_nothing(size: int, before: list[Turn], during: list[Turn], retain: bool) -> None:
    story = Operated(size)
    try:
        story.calm_down()
        _live_through(story, before)
        retained = story.key(story.group.primary_id) if retain and story.group.status is Status.AVAILABLE else None
        story.delete(retain=retained is not None)
        for turn in during:
            story.mischief.arm(*(turn.mischief or (None, 0)))
            if not story.gone:
                story.round(turn.between)
        if not story.gone:
            story.calm_down()
        assert story.gone
        assert set(story.world.running) <= {retained}
        assert set(story.world.folders) <= {retained}
        assert set(story.clusters) == ({retained.cluster_id} if retained else set())
    finally:
        story.close()


@dataclass(frozen=True)
class Found:
    """How a member is found by a service that starts: any state, sensible or not."""

    alive: bool
    follows: int | None
    writes: int
    saved: bool
    silent: int
    mark: bool


_FOUND = st.builds(
    Found,
    st.booleans(),
    st.none() | st.integers(0, 5),
    st.integers(0, 4),
    st.booleans(),
    st.integers(0, 2),
    st.booleans(),
)


@QUICK
@given(st.lists(_FOUND, min_size=1, max_size=4), st.integers(0, 3), st.integers(0, 3), st.integers(0, 3))
def test_a_group_converges_from_any_state(found: list[Found], primary: int, on: int, reader_on: int) -> None:
    """follows: the number of a member, or of a stranger. on, reader_on: who holds the endpoints."""
    story = Operated(len(found))
    try:
        specs = list(specs_of(*story.members).values())
        for number, (state, spec) in enumerate(zip(found, specs, strict=True)):
            story.world.start(spec, keep_data=False)
            engine = story.world.running[spec.key]
            engine.writes, engine.synced = tuple(range(state.writes)), state.writes > 0
            if state.follows is not None and state.follows != number:
                stranger = Address("10.1.1.1", 6379)
                engine.role = Role.REPLICA
                engine.primary = specs[state.follows].address if state.follows < len(specs) else stranger
            engine.silent = state.silent
            if on == number:
                engine.binds += (PRIMARY_HOST,)
            if reader_on == number:
                engine.binds += (READER_HOST,)
            if state.saved:
                story.world.folders[spec.key].data = engine.writes
                story.world.folders[spec.key].saved = state.mark and not state.alive
            if not state.alive:
                story.world.end(spec.key)
        story.calm_down()
        if primary < len(specs):
            story.world.kill(specs[primary].key)
        story.calm_down()
        story.check_in_place()
        assert story.world.at(address_of(1).host) is story.world.running[specs[0].key]
    finally:
        story.close()


def test_a_saved_data_set_is_not_loaded_twice() -> None:
    """The service is away from the restart of a rebooted primary until that primary crashes. The replica has
    everything that was written in between (at the node's own address, as in groups without endpoints)."""
    story = Operated(2)
    try:
        story.world.stale_marks = True
        story.calm_down()
        story.write(1)
        story.tick()
        story.reboot(0)
        while not (story.key("g-001") in story.world.running and story.world.running[story.key("g-001")].loading):
            story.round()
        for value in range(2, 10):
            for _ in range(4):
                story.tick()
            assert story.world.write(address_of(1).host, value)
        story.tick()
        assert story.world.running[story.key("g-002")].writes == tuple(range(1, 10))
        story.world.kill(story.key("g-001"))
        story.restart_service()
        story.calm_down()
        assert story.world.running[story.key(story.group.primary_id)].writes == tuple(range(1, 10))
    finally:
        story.close()
