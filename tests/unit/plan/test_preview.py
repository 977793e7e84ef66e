"""What a change will mean, told from the stored resources before and after it and from what was last seen."""

from __future__ import annotations

from dataclasses import replace

import pytest

from cachekeep.domain.cache_cluster import CacheCluster, NodeStatus, Pending, ScaleConfig, Status
from cachekeep.domain.nodes import Role
from cachekeep.domain.parameters import ParameterGroup
from cachekeep.domain.replication_group import HandOver
from cachekeep.plan.memcached import apply_pending
from cachekeep.plan.previews.waiting import next_opening
from tests.properties.stored import NOW, OPEN_WINDOW, REGION, cluster_of, group_of, memcached_of, upkeep
from tests.unit.plan.previewing import CATALOG, GROUP, MEMBERS, MIB, World, clustered_world, node_bytes, text


@pytest.fixture
def world() -> World:
    it = World(GROUP, *MEMBERS)
    it.saw("g-001", role=Role.PRIMARY, offset=100, clients=3)
    it.saw("g-002", offset=100)
    return it


def test_nothing_is_said_of_a_request_that_changes_nothing(world: World) -> None:
    made = world.after()
    assert (made.changes, made.steps, made.resources) == (False, ("Nothing changes.",), ())
    assert made.gaps == ()


def test_what_is_only_shown_concerns_no_engine(world: World) -> None:
    made = world.after(replace(GROUP, description="new"))
    assert made.changes
    assert made.steps == ("Only what is shown changes; no engine is concerned.",)
    assert made.gaps == ()
    assert made.memory.now_bytes == made.memory.meanwhile_bytes == made.memory.afterwards_bytes == 2 * node_bytes()


# --- roles ---


def test_a_test_failover_names_the_best_replica_and_the_pause(world: World) -> None:
    third = cluster_of("g-003", 3, group="g")
    group = group_of("g", ("g-001", "g-002", "g-003"))
    world.groups["g"], world.clusters["g-003"] = group, third
    world.saw("g-003", offset=101)
    made = world.after(group.with_shard(replace(group.node_groups[0], hand_over=HandOver(test=True))))
    assert "once g-003 has every one of them it becomes the primary" in made.steps[0]
    assert "The other 1 replica follows g-003" in text(made)
    assert "The node of g-001 is replaced" in made.steps[-1]
    (pause,) = made.gaps
    assert (pause.least_ms, pause.most_ms, pause.what) == (3, 10, "writes to shard 0001")
    assert "measured" in pause.source
    assert made.warnings == ()
    assert "PrimaryClusterId=g-001" in made.undo[0]


def test_a_hand_over_to_a_replica_that_lags_says_that_it_waits(world: World) -> None:
    world.seen.clear()
    shard = replace(GROUP.node_groups[0], hand_over=HandOver(to="g-002"))
    made = world.after(GROUP.with_shard(shard))
    assert made.warnings == ("g-002 is not in sync now: the hand-over waits until it is.",)
    assert "g-001 stays as a replica." in text(made)


def test_a_hand_over_in_cluster_mode_moves_no_address() -> None:
    world = clustered_world(2)
    group = world.groups["g"]
    made = world.after(group.with_shard(replace(group.node_groups[1], hand_over=HandOver(test=True))))
    assert "Shard 0002: g-0002-002 asks g-0002-001 to stop taking writes" in made.steps[0]
    assert made.gaps[0].what == "writes to shard 0002"


# --- members ---


def test_a_new_replica_copies_the_data_while_the_primary_serves(world: World) -> None:
    third = replace(cluster_of("g-003", 3, group="g"), status=Status.CREATING)
    shard = replace(GROUP.node_groups[0], member_ids=("g-001", "g-002", "g-003"))
    made = world.after(replace(GROUP.with_shard(shard), status=Status.MODIFYING), third)
    assert made.steps[0] == "g-003 starts and copies 10.0 MiB from g-001, which serves on meanwhile."
    assert made.gaps == ()
    assert made.memory.meanwhile_bytes == made.memory.afterwards_bytes == 3 * node_bytes()
    assert made.most_s > 0


def test_the_last_replica_that_leaves_is_warned_of(world: World) -> None:
    world.saw("g-002", offset=100, clients=4)
    leaving = replace(MEMBERS[1], status=Status.DELETING)
    made = world.after(replace(GROUP, status=Status.MODIFYING), leaving)
    assert made.steps[0].startswith("g-002 leaves")
    assert any("4 connections to what leaves are cut." in warning for warning in made.warnings)
    assert any("No replica is left" in warning for warning in made.warnings)
    assert made.memory.afterwards_bytes == node_bytes()
    assert made.memory.meanwhile_bytes == 2 * node_bytes()


def test_a_group_that_is_made_names_its_addresses() -> None:
    made = World().after(GROUP, *MEMBERS)
    assert "2 nodes with Valkey 9.1, cache.t4g.micro, start: g-001 and g-002." in text(made)
    assert f"the primary endpoint {GROUP.primary_endpoint}" in text(made)
    assert made.memory.now_bytes == 0
    assert made.memory.afterwards_bytes == 2 * node_bytes()


def test_a_cluster_that_is_taken_into_a_group_runs_on(world: World) -> None:
    single = cluster_of("s", 5)
    group = group_of("h", ("s", "h-002"))
    made = World(single).after(group, replace(single, replication_group_id="h"), cluster_of("h-002", 6, group="h"))
    assert made.steps[0] == "s, which runs on with its data, becomes the primary of h."
    assert "1 node with" in made.steps[1]


def test_a_delete_says_what_is_lost_and_that_nothing_brings_it_back(world: World) -> None:
    going = [replace(m, status=Status.DELETING) for m in MEMBERS]
    made = world.after(replace(GROUP, status=Status.DELETING), *going)
    assert made.undo == ("Not at all.",)
    assert "All data of g (10.0 MiB as last seen) is lost" in made.warnings[0]
    assert made.memory.afterwards_bytes == 0
    kept = world.after(replace(GROUP, status=Status.DELETING, retain_primary=True), going[1])
    assert "g-001 goes on with its data as a cluster of its own" in text(kept)
    assert kept.warnings == ()


# --- node types and parameters ---


def test_a_node_type_is_changed_while_engines_run(world: World) -> None:
    wanted = "cache.m7g.large"
    members = [replace(m, node_type=wanted, status=Status.MODIFYING) for m in MEMBERS]
    made = world.after(replace(GROUP, node_type=wanted, status=Status.MODIFYING), *members)
    assert made.steps[0] == "maxmemory of 2 nodes is set while they run; no process is restarted."
    assert made.gaps == ()
    assert made.begins_at is None
    assert made.memory.afterwards_bytes == 2 * node_bytes(wanted)
    assert "CacheNodeType=cache.t4g.micro" in made.undo[0]


def test_a_smaller_node_type_is_measured_against_the_data(world: World) -> None:
    big = replace(GROUP, node_type="cache.m7g.large")
    world.groups["g"] = big
    for member in MEMBERS:
        world.clusters[member.id] = replace(member, node_type="cache.m7g.large")
    world.saw("g-001", 370 * MIB, role=Role.PRIMARY)
    small = [replace(m, node_type="cache.t4g.micro") for m in MEMBERS]
    made = world.after(replace(big, node_type="cache.t4g.micro"), *small)
    assert any("g-001 uses 370.0 MiB of the 384.0 MiB" in warning for warning in made.warnings)
    assert made.memory.meanwhile_bytes == 2 * node_bytes("cache.m7g.large")
    assert made.memory.afterwards_bytes == 2 * node_bytes()


def test_what_waits_for_the_window_says_when_that_opens(world: World) -> None:
    waits = Pending(node_type="cache.m7g.large")
    members = [replace(m, pending=waits) for m in MEMBERS]
    made = world.after(replace(GROUP, pending=waits), *members)
    # NOW is a Sunday, 15:06; the window is mon:03:00-mon:04:00.
    assert "Mon 2025-06-16 03:00 UTC" in made.steps[0]
    assert made.begins_at == NOW - 6 * 60 - 40 + 12 * 3600
    assert "maxmemory of 2 nodes" in made.steps[1]
    assert made.memory.afterwards_bytes == 2 * node_bytes("cache.m7g.large")


def test_what_waited_and_is_applied_is_not_called_taken_back(world: World) -> None:
    waits = Pending(node_type="cache.m7g.large")
    world.groups["g"] = replace(GROUP, pending=waits)
    for member in MEMBERS:
        world.clusters[member.id] = replace(member, pending=waits)
    applied = [replace(m, node_type="cache.m7g.large") for m in MEMBERS]
    made = world.after(replace(GROUP, node_type="cache.m7g.large"), *applied)
    assert "waits no more" not in text(made)
    dropped = world.after(GROUP, *MEMBERS)
    assert dropped.steps == ("What waited for the window (node type) waits no more.",)


@pytest.mark.parametrize(
    ("window", "opens_in_s"),
    [(OPEN_WINDOW, 0), ("sun:15:07-sun:16:07", 20), ("sun:14:00-sun:15:06", 7 * 86400 - 66 * 60 - 40)],
)
def test_the_next_opening_of_a_window(window: str, opens_in_s: int) -> None:
    assert next_opening(window, NOW) - NOW == opens_in_s


def test_a_parameter_group_says_what_is_set_live_and_what_waits_for_a_reboot(world: World) -> None:
    mine = ParameterGroup(REGION, "mine", "valkey9", "", {"maxmemory-policy": "allkeys-lru", "databases": "32"})
    world.parameters["mine"] = mine
    members = [replace(m, parameter_group="mine", status=Status.MODIFYING) for m in MEMBERS]
    made = world.after(replace(GROUP, parameter_group="mine"), *members)
    assert made.steps[0] == "Set while g-001 and g-002 run: maxmemory-policy allkeys-lru."
    assert "`pending-reboot`: databases 32 will be in effect after RebootCacheCluster" in made.steps[1]
    assert "CacheParameterGroupName=default.valkey9" in made.undo[0]


def test_new_values_of_a_group_name_the_caches_that_run_with_it(world: World) -> None:
    mine = ParameterGroup(REGION, "mine", "valkey9", "", {})
    world.parameters["mine"] = mine
    changed = replace(mine, values={"maxmemory-policy": "noeviction"})
    assert "no cache runs with this group" in text(world.after(changed))
    world.clusters["s"] = replace(cluster_of("s", 9), parameter_group="mine")
    made = world.after(changed)
    assert made.steps == ("Set while s runs: maxmemory-policy noeviction.",)
    assert made.undo == ("Set the former values again.",)


# --- clusters of their own ---


def test_a_reboot_of_a_primary_pauses_and_that_of_a_replica_does_not(world: World) -> None:
    def rebooting(member: CacheCluster) -> CacheCluster:
        node = replace(member.nodes[0], status=NodeStatus.REBOOTING, reboot_from="1:1")
        return replace(member, status=Status.REBOOTING, nodes=(node,))

    primary = world.after(rebooting(MEMBERS[0]))
    assert primary.steps == ("g-001 saves its data, ends, and starts anew with it.",)
    assert primary.gaps[0].least_ms > 100
    replica = world.after(rebooting(MEMBERS[1]))
    assert replica.gaps == ()
    assert "g-002, a replica" in replica.steps[0]


def test_memcached_nodes_come_and_go_with_the_window_or_at_once() -> None:
    cache = memcached_of("m", (1, 2))
    more = memcached_of("m", (1, 2, 3)).nodes
    at_once = World(cache).after(replace(cache, nodes=more, status=Status.MODIFYING))
    assert "Nodes start empty: 0003 at 10.0.0.3:11211." in at_once.steps[0]
    waits = World(cache).after(replace(cache, pending=Pending(nodes_to_add=(more[2],))))
    assert waits.begins_at is not None
    assert "1 node starts empty" in waits.steps[1]
    bytes_each = CATALOG.node_types[cache.node_type].memcached_bytes
    assert at_once.memory.afterwards_bytes == waits.memory.afterwards_bytes == 3 * bytes_each
    fewer = World(cache).after(replace(cache, pending=Pending(node_ids_to_remove=("0002",))))
    assert fewer.memory.afterwards_bytes == bytes_each


def test_memcached_comes_to_another_type_batch_after_batch() -> None:
    cache = memcached_of("m", (1, 2, 3))
    begun = apply_pending(replace(cache, pending=Pending(node_type="cache.t4g.small", scale_config=ScaleConfig(50, 4))))
    at_once = World(cache).after(begun)
    assert at_once.steps[0] == "3 nodes of m end and start empty with the memory of cache.t4g.small, 2 at a time."
    assert "2 batches, 4 min between their beginnings" in at_once.steps[1]
    assert at_once.warnings == ("What the nodes of m hold is lost, batch after batch.",)
    assert at_once.begins_at is None
    each = CATALOG.node_types["cache.t4g.small"].memcached_bytes
    assert at_once.memory.meanwhile_bytes == at_once.memory.afterwards_bytes == 3 * each
    waits = World(cache).after(replace(cache, pending=Pending(node_type="cache.t4g.small")))
    assert waits.begins_at is not None
    assert "1 at a time" in waits.steps[1]


def test_a_window_that_is_open_begins_now(world: World) -> None:
    open_group = replace(GROUP, upkeep=upkeep(OPEN_WINDOW))
    world.groups["g"] = open_group
    made = world.after(replace(open_group, pending=Pending(automatic_failover=True)))
    assert made.begins_at == NOW
