"""A group whose primary follows a server outside: whatever happens, nobody of it ever takes writes, and in the end all
of it has what that server has. The planner, observer and actor are the real ones; the machine is simulated.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import pytest
import structlog
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cachekeep.domain.engine import Engine
from cachekeep.domain.nodes import Address, NodeKey, NodeSpec, Role
from cachekeep.domain.steps import Promote, Start, SwitchOver
from cachekeep.plan.decision import Decision, Look
from cachekeep.plan.replication_group import plan_group
from cachekeep.plan.upstream import Upstream
from tests.properties.operated import Operated
from tests.properties.simulated import ServiceDied
from tests.properties.stored import V9

SOURCE = Address("10.0.8.1", 6379)
OUTSIDE = NodeKey("elsewhere", "source")
PERSISTENCE: dict[str, dict[str, str]] = {"none": {}, "aof": {"appendonly": "yes"}, "snapshots": {"save": "60 1"}}
QUICK = settings(
    report_multiple_bugs=False,
    max_examples=25,
    derandomize=True,
    deadline=None,
    database=None,
    suppress_health_check=[HealthCheck.too_slow],
)
THOROUGH = settings(QUICK, max_examples=1000)


@pytest.fixture(autouse=True, scope="module")
def quiet_logs() -> Iterator[None]:
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger("critical"))
    yield
    structlog.reset_defaults()


class Following(Operated):
    """follows: the group is told of the source."""

    def __init__(self, size: int, persisting: str) -> None:
        super().__init__(size, PERSISTENCE[persisting])
        self.follows = True
        self.world.start(NodeSpec(OUTSIDE, Engine.VALKEY, V9, SOURCE, {}), keep_data=False)

    def look(self) -> Look:
        return replace(super().look(), upstream=Upstream(SOURCE if self.follows else None))

    def round(self, between: tuple[str, int] | None = None) -> Decision:
        """Nobody is promoted while there is a source, and no engine starts as a primary that could take writes."""
        look = self.look()
        if between is not None:
            self.trouble(*between)
        decision = plan_group(self.group, self.members, look)
        for step in decision.steps:
            assert not (self.follows and isinstance(step, (Promote, SwitchOver))), decision
            assert not (self.follows and isinstance(step, Start) and step.spec.follow is None), decision
        self._commit(decision)
        try:
            self.loop.run_until_complete(self._act(decision))
        except ServiceDied:
            self.restart_service()
        self.last = decision
        return decision

    def check_follows(self) -> None:
        source = self.world.running[OUTSIDE]
        head = self.engine(self.group.primary_id)
        assert (head.role, head.primary, head.writes) == (Role.REPLICA, SOURCE, source.writes)
        assert source.role is Role.PRIMARY
        for cluster in self.members:
            engine = self.engine(cluster.id)
            if engine is not head:
                assert (engine.role, engine.primary) == (Role.REPLICA, head.spec.address)
                assert engine.writes == source.writes


@dataclass(frozen=True)
class Turn:
    """What happens around one round."""

    writes: int
    trouble: tuple[str, int] | None
    mischief: tuple[str, int] | None
    hand_over: int | None
    new_service: bool
    ticks: int


TROUBLE = st.none() | st.tuples(st.sampled_from(("kill", "silence", "stall", "hang")), st.integers(0, 4))
MISCHIEF = st.none() | st.tuples(st.sampled_from(("fails", "lost", "dies")), st.integers(0, 3))
WISH = st.none() | st.integers(0, 4)
TURNS = st.lists(
    st.builds(Turn, st.integers(0, 2), TROUBLE, MISCHIEF, WISH, st.booleans(), st.integers(0, 3)), max_size=20
)


def _story(size: int, turns: list[Turn], persisting: str) -> None:
    story = Following(size, persisting)
    try:
        value = 0
        for turn in turns:
            for _ in range(turn.writes):
                value += 1
                assert story.world.write(SOURCE.host, value)
            if turn.trouble:
                story.trouble(*turn.trouble)
            if turn.hand_over is not None:
                story.hand_over(turn.hand_over)
            if turn.new_service:
                story.restart_service()
            story.mischief.arm(*(turn.mischief or (None, 0)))
            story.round()
            for _ in range(turn.ticks):
                story.tick()
        story.calm_down()
        if story.group.status.value == "create-failed":
            return
        story.check_follows()
        # The source is let go: the group takes writes, with everything.
        story.follows = False
        story.calm_down()
        assert story.engine(story.group.primary_id).role is Role.PRIMARY
        assert story.engine(story.group.primary_id).writes == tuple(range(1, value + 1))
    finally:
        story.close()


@QUICK
@given(st.integers(1, 3), TURNS, st.sampled_from(sorted(PERSISTENCE)))
def test_a_group_that_follows_comes_to_have_what_its_source_has(size: int, turns: list[Turn], persisting: str) -> None:
    _story(size, turns, persisting)


@pytest.mark.slow
@THOROUGH
@given(st.integers(1, 4), TURNS, st.sampled_from(sorted(PERSISTENCE)))
def test_a_group_that_follows_comes_to_have_it_thoroughly(size: int, turns: list[Turn], persisting: str) -> None:
    _story(size, turns, persisting)
