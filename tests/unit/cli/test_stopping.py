"""What `down` may stop how: the next start loads what the primary of record saved, and nothing else."""

from __future__ import annotations

from cachekeep.cli.engines import RunningNode
from cachekeep.cli.stopping import StopPlan, plan_stop
from cachekeep.domain.engine import Engine
from cachekeep.domain.nodes import Address, NodeFacts, NodeKey, Process, ProgramKind, Role

FIRST, SECOND = NodeKey("r", "g-001"), NodeKey("r", "g-002")
GROUP = {FIRST: FIRST, SECOND: FIRST}


def node(key: NodeKey, role: Role | None, keys: int = 5, engine: Engine = Engine.VALKEY) -> RunningNode:
    """role None: it does not answer."""
    facts = None if role is None else NodeFacts("9.1.2", role=role, keys=keys)
    return RunningNode(key, Process(1, "1"), ProgramKind.ENGINE, engine, "9.1.2", Address("127.0.0.1", 6379), facts)


def names(plan: StopPlan) -> tuple[set[str], set[str], set[str]]:
    return (
        {n.key.cluster_id for n in plan.plain},
        {n.key.cluster_id for n in plan.saving},
        {n.key.cluster_id for n, _ in plan.kept},
    )


def test_the_primary_saves_and_its_replicas_just_end() -> None:
    plan = plan_stop([node(FIRST, Role.PRIMARY), node(SECOND, Role.REPLICA)], GROUP)
    assert names(plan) == ({"g-002"}, {"g-001"}, set())


def test_a_replica_that_does_not_answer_ends_when_its_primary_saves() -> None:
    plan = plan_stop([node(FIRST, Role.PRIMARY), node(SECOND, None)], GROUP)
    assert names(plan) == ({"g-002"}, {"g-001"}, set())


def test_a_cluster_of_its_own_saves() -> None:
    plan = plan_stop([node(NodeKey("r", "single"), Role.PRIMARY)], {})
    assert names(plan) == (set(), {"single"}, set())


def test_a_replica_whose_primary_is_gone_runs_on_with_its_data() -> None:
    plan = plan_stop([node(SECOND, Role.REPLICA)], GROUP)
    assert names(plan) == (set(), set(), {"g-002"})
    assert "5 keys" in plan.kept[0][1]
    assert "cachekeep up" in plan.kept[0][1]


def test_an_heir_that_nobody_has_recorded_as_primary_runs_on() -> None:
    plan = plan_stop([node(SECOND, Role.PRIMARY)], GROUP)
    assert names(plan) == (set(), set(), {"g-002"})


def test_a_replica_without_keys_ends_whatever_became_of_its_primary() -> None:
    plan = plan_stop([node(SECOND, Role.REPLICA, keys=0)], GROUP)
    assert names(plan) == ({"g-002"}, set(), set())


def test_a_primary_that_does_not_answer_runs_on_and_so_do_its_replicas() -> None:
    plan = plan_stop([node(FIRST, None), node(SECOND, Role.REPLICA)], GROUP)
    assert names(plan) == (set(), set(), {"g-001", "g-002"})


def test_memcached_and_responders_hold_nothing_that_could_be_saved() -> None:
    cache = node(NodeKey("r", "m"), None, engine=Engine.MEMCACHED)
    responder = RunningNode(
        NodeKey("r", "m2", "cfg"), Process(2, "2"), ProgramKind.DISCOVERY, Engine.MEMCACHED, "1.6", None
    )
    assert names(plan_stop([cache, responder], {})) == ({"m", "m2"}, set(), set())
