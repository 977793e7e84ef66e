"""A Memcached cluster comes to another node type: batches in order, the time between, and never two at once."""

from __future__ import annotations

from dataclasses import replace

import pytest

from cachekeep.app import catalog
from cachekeep.domain.cache_cluster import CacheCluster, NodeStatus, Pending, ScaleConfig, Status
from cachekeep.domain.nodes import NodeFacts, NodeKey, ObservedNode, Process
from cachekeep.domain.steps import Advertise, Start, Stop
from cachekeep.plan.decision import Look
from cachekeep.plan.memcached import apply_pending, plan_memcached
from cachekeep.plan.placement import promised_bytes
from cachekeep.plan.specs import Abilities, families_by_node, node_specs
from tests.properties.stored import NOW, OPEN_WINDOW, memcached_of

WANTED = "cache.r7g.large"
CATALOG = catalog()
FACTS = NodeFacts("1.6.22")


class Room:
    """One cluster and its processes; `run` goes on until nothing is to be done for a while."""

    def __init__(self, cluster: CacheCluster) -> None:
        self.cluster = cluster
        self.now = NOW
        self.seen: dict[NodeKey, ObservedNode] = {}
        self.told: list[str] = []
        self.pids = 100
        self.most_down = 0

    def look(self) -> Look:
        groups = {self.cluster.parameter_group: CATALOG.default_groups[self.cluster.parameter_group]}
        specs = node_specs([self.cluster], groups, CATALOG, Abilities())
        families = families_by_node([self.cluster], groups, CATALOG)
        return Look(self.now, self.seen, specs, families)

    def run(self) -> float:
        """Seconds until it wants to look again."""
        for _ in range(200):
            decision = plan_memcached(self.cluster, self.look())
            for step in decision.steps:
                match step:
                    case Start(spec):
                        self.pids += 1
                        process = Process(self.pids, "1")
                        had = self.seen.get(spec.key, ObservedNode())
                        self.seen[spec.key] = replace(
                            had, process=process, facts=FACTS, listening=True, folder=True, started_with=spec.config
                        )
                    case Stop(key):
                        self.seen[key] = replace(self.seen[key], process=None, facts=None, listening=False)
                    case Advertise(key, members, version):
                        self.seen[key] = replace(self.seen.get(key, ObservedNode()), announced=(version, members))
                    case other:
                        raise AssertionError(other)
            down = sum(1 for n in self.cluster.nodes if not self.seen[self.cluster.key(n)].serving)
            self.most_down = max(self.most_down, down if self.cluster.status is Status.MODIFYING else 0)
            for put in decision.puts:
                assert isinstance(put, CacheCluster)
                self.cluster = put
            self.told += [event.message for event in decision.events]
            if not decision.steps and not decision.puts:
                return decision.recheck_s
        raise AssertionError(f"no rest: {self.told[-5:]}")

    def memory(self) -> list[str]:
        """The memory, in MB, that each node runs with."""
        started = [self.seen[self.cluster.key(n)].started_with for n in self.cluster.nodes]
        return [config["-m"] for config in started if config is not None]


def room(count: int, percentage: int = 20, minutes: int = 5) -> Room:
    it = Room(memcached_of("m", tuple(range(1, count + 1))))
    it.run()
    assert it.cluster.status is Status.AVAILABLE
    pending = Pending(node_type=WANTED, scale_config=ScaleConfig(percentage, minutes))
    it.cluster = apply_pending(replace(it.cluster, pending=pending))
    it.told.clear()
    return it


def wanted_memory(node_type: str) -> str:
    it = Room(replace(memcached_of("x", (1,)), node_type=node_type))
    it.run()
    return it.memory()[0]


def test_batch_after_batch_with_a_while_between() -> None:
    it = room(5, percentage=30, minutes=7)
    small, large = wanted_memory("cache.t4g.micro"), wanted_memory(WANTED)
    assert small != large
    versions = [it.cluster.configuration_version]
    for scaled in (2, 4, 5):  # 30 % of 5 nodes, rounded up
        it.run()
        assert it.memory() == [large] * scaled + [small] * (5 - scaled)
        assert it.most_down == 2
        versions.append(it.cluster.configuration_version)
        if scaled < 5:
            assert it.cluster.status is Status.MODIFYING
            it.now += 7 * 60 - 1
            it.run()
            assert it.memory() == [large] * scaled + [small] * (5 - scaled), "too soon"
            it.now += 1
    assert versions == [1, 2, 3, 4]
    assert (it.cluster.status, it.cluster.node_type, it.cluster.scaling) == (Status.AVAILABLE, WANTED, None)
    assert "Scaling cache nodes 0001, 0002 to cache.r7g.large" in it.told
    assert it.told[-2:] == [
        "Succeeded applying modification to cache node type to cache.r7g.large",
        "Modification of cache cluster m completed",
    ]


def test_a_node_that_recovers_meanwhile_is_not_taken_for_a_new_one() -> None:
    it = room(2, percentage=100)
    it.cluster = replace(it.cluster, status=Status.AVAILABLE, scaling=None)
    first = it.cluster.nodes[0]
    it.cluster = it.cluster.with_node(replace(first, status=NodeStatus.CREATING, recovering=True))
    it.cluster = apply_pending(replace(it.cluster, pending=Pending(node_type=WANTED, scale_config=ScaleConfig(100, 2))))
    it.run()
    assert it.memory() == [wanted_memory(WANTED)] * 2


def test_all_at_once() -> None:
    it = room(3, percentage=100)
    it.run()
    assert it.memory() == [wanted_memory(WANTED)] * 3
    assert it.cluster.status is Status.AVAILABLE


def test_the_next_batch_waits_for_nodes_that_are_not_in_place() -> None:
    it = room(2, percentage=50)
    it.run()
    before = it.memory()
    it.now += 3600
    first = it.cluster.key(it.cluster.nodes[0])
    it.seen[first] = replace(it.seen[first], facts=None)
    for _ in range(3):
        plan = plan_memcached(it.cluster, it.look())
        assert plan.steps == ()
    assert it.memory() == before


def test_nodes_that_join_have_the_new_type_from_the_start() -> None:
    it = room(2, percentage=50)
    more = memcached_of("m", (7,)).nodes
    it.cluster = replace(it.cluster, status=Status.AVAILABLE, scaling=None)
    pending = Pending(node_type=WANTED, nodes_to_add=more, scale_config=ScaleConfig(50, 5))
    it.cluster = apply_pending(replace(it.cluster, pending=pending))
    it.run()
    # 50 % of 3 nodes are 2, and those that were there are 2.
    assert it.memory() == [wanted_memory(WANTED)] * 3


def test_what_it_may_grow_to_is_promised() -> None:
    it = room(2, percentage=50)
    it.run()
    whole = replace(it.cluster, node_type=WANTED, scaling=None)
    assert promised_bytes([it.cluster], CATALOG.node_types) == promised_bytes([whole], CATALOG.node_types)


def test_in_the_window() -> None:
    it = Room(memcached_of("m", (1, 2), window=OPEN_WINDOW))
    it.run()
    it.cluster = replace(it.cluster, pending=Pending(node_type=WANTED, scale_config=ScaleConfig(100, 2)))
    it.run()
    assert it.cluster.node_type == WANTED
    assert "Applying modifications in the maintenance window" in it.told


@pytest.mark.parametrize("given", [(9, 5), (101, 5), (20, 1), (20, 31)])
def test_bounds(given: tuple[int, int]) -> None:
    with pytest.raises(ValueError, match="must be between"):
        ScaleConfig(*given)
