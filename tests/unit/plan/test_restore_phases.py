"""What runs, and what does not, while a new cache waits for the data that it is to begin with."""

from __future__ import annotations

from dataclasses import replace

from cachekeep.domain.cache_cluster import Status
from cachekeep.domain.nodes import ObservedNode, Process
from cachekeep.domain.restore import Restore
from cachekeep.domain.steps import Stop
from cachekeep.plan.cache_cluster import plan_cluster
from cachekeep.plan.decision import Look
from cachekeep.plan.replication_group import plan_group
from tests.properties.stored import cluster_of, group_of

WISH = Restore("monday", "g1", seeded=True, piped=True)


def test_an_engine_whose_pipe_nobody_writes_any_more_is_stopped() -> None:
    cluster = replace(cluster_of("a", 1), status=Status.CREATING, restore=WISH)
    key = cluster.key(cluster.nodes[0])
    hangs = plan_cluster(cluster, Look(1.0, {key: ObservedNode(Process(7, "1"))}, {}, {}))
    assert hangs.stages == ((Stop(key, cluster.nodes[0].address),),)
    assert plan_cluster(cluster, Look(1.0, {key: ObservedNode()}, {}, {})).stages == ()


def test_those_of_a_group_are_too() -> None:
    group = replace(group_of("g", ("g-001", "g-002")), status=Status.CREATING, restore=WISH)
    members = [replace(cluster_of(f"g-00{n}", n, group="g"), status=Status.CREATING) for n in (1, 2)]
    keys = [one.key(one.nodes[0]) for one in members]
    hangs = plan_group(group, members, Look(1.0, {keys[0]: ObservedNode(Process(7, "1"))}, {}, {}))
    assert hangs.stages == ((Stop(keys[0], members[0].nodes[0].address),),)
    nothing = plan_group(group, members, Look(1.0, {key: ObservedNode() for key in keys}, {}, {}))
    assert nothing.stages == ()
