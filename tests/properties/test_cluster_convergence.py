"""Whatever happens to a group in cluster mode, every slot ends with its one owner, and all know all.

The planner, observer and actor are the real ones; machine and bus are simulated.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import pytest
import structlog
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cachekeep.domain.cache_cluster import Status
from tests.properties.clustered import MOST_SHARDS, Clustered, few_slots

QUICK = settings(
    report_multiple_bugs=False,
    max_examples=80,
    derandomize=True,
    deadline=None,
    database=None,
    suppress_health_check=[HealthCheck.too_slow],
)
THOROUGH = settings(QUICK, max_examples=1500)
ANYTHING = ("kill", "silence", "stall", "hang")
HARMLESS = ("silence", "stall")
WISHES = (
    "up",
    "down",
    "double",
    "hand over",
    "test failover",
    "join",
    "leave",
    "upgrade",
    "stop",
    "downgrade",
    "reboot",
)


@pytest.fixture(autouse=True, scope="module")
def small_world() -> Iterator[None]:
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger("critical"))
    with few_slots():
        yield
    structlog.reset_defaults()


@dataclass(frozen=True)
class Turn:
    """What happens around one round; see test_convergence.Turn."""

    writes: int
    before: tuple[str, int] | None
    between: tuple[str, int] | None
    mischief: tuple[str, int] | None
    wish: tuple[str, int] | None
    new_service: bool
    ticks: int


def _turns(troubles: tuple[str, ...], most: int = 25) -> st.SearchStrategy[list[Turn]]:
    trouble = st.none() | st.tuples(st.sampled_from(troubles), st.integers(0, 11))
    mischief = st.none() | st.tuples(st.sampled_from(("fails", "lost", "dies")), st.integers(0, 5))
    wish = st.none() | st.tuples(st.sampled_from(WISHES), st.integers(0, 11))
    rarely = st.none() | st.none() | trouble
    turn = st.builds(Turn, st.integers(0, 4), rarely, rarely, mischief, wish, st.booleans(), st.integers(0, 4))
    return st.lists(turn, min_size=1, max_size=most)


def _wish(story: Clustered, kind: str, index: int) -> None:
    shards = len(story.group.node_groups)
    match kind:
        case "up":
            story.reshard(min(shards + 1, MOST_SHARDS))
        case "double":
            story.reshard(min(2 * shards, MOST_SHARDS))
        case "down":
            story.reshard(max(shards - 1 - index % 2, 1))
        case "hand over" | "test failover":
            story.hand_over(index, test=kind == "test failover")
        case "join":
            story.join()
        case "leave":
            story.leave(index)
        case "upgrade" | "downgrade":
            story.upgrade("9.2" if kind == "upgrade" else "9.1")
        case "reboot":
            story.reboot(index)


def _live_through(story: Clustered, turns: list[Turn]) -> None:
    value = 0
    wishes: list[tuple[str, int]] = []
    for turn in turns:
        for _ in range(turn.writes):
            value += 17
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


PERSISTENCE: dict[str, dict[str, str]] = {"none": {}, "aof": {"appendonly": "yes"}}
PERSISTING = st.sampled_from(sorted(PERSISTENCE))
VERSIONS = st.sampled_from(("9.1", "8.1"))


def _story(
    shards: int, replicas: int, turns: list[Turn], persisting: str, version: str, *, planned: bool, settled_first: bool
) -> None:
    story = Clustered(shards, replicas, PERSISTENCE[persisting], version=version)
    try:
        if settled_first or planned:
            story.calm_down()
        _live_through(story, turns)
        story.calm_down()
        story.check_in_place()
        assert not (planned and story.forgiven)
    finally:
        story.close()


SHARDS = st.integers(1, 3)
REPLICAS = st.integers(0, 2)


@QUICK
@given(SHARDS, REPLICAS, _turns(ANYTHING), PERSISTING, VERSIONS, st.booleans())
def test_a_cluster_converges_after_any_trouble(
    shards: int, replicas: int, turns: list[Turn], persisting: str, version: str, settled_first: bool
) -> None:
    _story(shards, replicas, turns, persisting, version, planned=False, settled_first=settled_first)


@pytest.mark.slow
@THOROUGH
@given(SHARDS, REPLICAS, _turns(ANYTHING, 60), PERSISTING, VERSIONS, st.booleans())
def test_a_cluster_converges_after_any_trouble_thoroughly(
    shards: int, replicas: int, turns: list[Turn], persisting: str, version: str, settled_first: bool
) -> None:
    _story(shards, replicas, turns, persisting, version, planned=False, settled_first=settled_first)


@QUICK
@given(SHARDS, REPLICAS, _turns(HARMLESS), PERSISTING, VERSIONS)
def test_planned_work_in_a_cluster_loses_no_acknowledged_write(
    shards: int, replicas: int, turns: list[Turn], persisting: str, version: str
) -> None:
    _story(shards, replicas, turns, persisting, version, planned=True, settled_first=True)


@pytest.mark.slow
@THOROUGH
@given(SHARDS, REPLICAS, _turns(HARMLESS, 60), PERSISTING, VERSIONS)
def test_planned_work_in_a_cluster_loses_no_acknowledged_write_thoroughly(
    shards: int, replicas: int, turns: list[Turn], persisting: str, version: str
) -> None:
    _story(shards, replicas, turns, persisting, version, planned=True, settled_first=True)
