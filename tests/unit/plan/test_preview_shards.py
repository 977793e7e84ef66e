"""What resharding, changes of cluster mode and of the engine version will mean."""

from __future__ import annotations

from dataclasses import replace

import pytest

from cachekeep.domain.cache_cluster import CacheCluster, Spare, Status
from cachekeep.domain.engine import Engine, EngineVersion
from cachekeep.domain.nodes import Address, Role
from cachekeep.domain.replication_group import ClusterMode, EngineChange, ReplicationGroup
from cachekeep.domain.slots import divided
from tests.properties.stored import NOW, cluster_of, memcached_of
from tests.unit.plan.previewing import GROUP, MEMBERS, MIB, V81, V91, World, clustered_world, grown, node_bytes, text


@pytest.fixture
def world() -> World:
    it = World(GROUP, *MEMBERS)
    it.saw("g-001", role=Role.PRIMARY, offset=100, clients=3)
    it.saw("g-002", offset=100)
    return it


# --- versions ---


def spare_of(member: CacheCluster, number: int, version: EngineVersion = V91, *, former: bool = False) -> Spare:
    node = replace(member.nodes[0], instance=f"0001-{number}", address=Address(f"10.0.1.{number}", 6379))
    return Spare(node, Engine.VALKEY, version, "default.valkey9", former=former)


def upgrading(group: ReplicationGroup, version: EngineVersion) -> ReplicationGroup:
    change = EngineChange(
        Engine.VALKEY, version, "default.valkey9", group.engine, group.version, group.parameter_group, NOW
    )
    return replace(group, engine_change=change, status=Status.MODIFYING)


def test_an_upgrade_tells_its_order_its_pause_and_the_way_back(world: World) -> None:
    old = replace(GROUP, version=V81)
    world.groups["g"] = old
    world.clusters |= {m.id: replace(m, version=V81) for m in MEMBERS}
    members = [replace(m, version=V81, spare=spare_of(m, n)) for n, m in enumerate(MEMBERS)]
    made = world.after(upgrading(old, V91), *members)
    assert "a second node with Valkey 9.1.2" in made.steps[0]
    assert made.steps[1].startswith("g-002, a replica: the new node copies 10.0 MiB")
    assert made.steps[2].startswith("g-001, the primary:")
    assert "stays in sync for 60 minutes" in made.steps[3]
    assert [(gap.least_ms, gap.most_ms) for gap in made.gaps] == [(3, 10)]
    assert made.memory.meanwhile_bytes == 4 * node_bytes()
    assert made.memory.afterwards_bytes == 2 * node_bytes()
    assert "EngineVersion=8.1.8 hands back to the former nodes at once" in made.undo[0]
    assert "Later: EngineVersion=8.1.8 changes back by new copies" in made.undo[1]
    assert any("3 now" in warning for warning in made.warnings)


def test_a_downgrade_keeps_no_former_node(world: World) -> None:
    members = [replace(m, spare=spare_of(m, n, V81)) for n, m in enumerate(MEMBERS)]
    made = world.after(upgrading(GROUP, V81), *members)
    assert "stays in sync" not in text(made)
    assert made.undo == (
        "Later: EngineVersion=9.1 changes back by new copies, as long as the data holds nothing that Valkey 9.1 does "
        "not know.",
    )


def test_from_redis_to_valkey_there_is_no_later_way_back(world: World) -> None:
    old = replace(GROUP, engine=Engine.REDIS, version=EngineVersion.parse("7.0.15"), parameter_group="default.redis7")
    world.groups["g"] = old
    members = [replace(m, spare=spare_of(m, n)) for n, m in enumerate(MEMBERS)]
    made = world.after(upgrading(old, V91), *members)
    assert "EngineVersion=7.0.15 Engine=redis hands back" in made.undo[0]
    assert "Later: not at all, Valkey never changes back to Redis" in made.undo[1]


def test_a_rollback_uses_the_nodes_that_are_still_there(world: World) -> None:
    former = spare_of(MEMBERS[0], 7, V81, former=True)
    world.clusters["g-001"] = replace(MEMBERS[0], spare=former)
    back = replace(MEMBERS[0], spare=replace(former, former=False))
    fresh = replace(MEMBERS[1], spare=spare_of(MEMBERS[1], 8, V81))
    made = world.after(upgrading(GROUP, V81), back, fresh)
    assert "g-001 still has the one from before the last change, in sync" in made.steps[0]
    assert "1 other is new" in made.steps[0]
    assert "g-001, the primary: the node of before takes over again" in text(made)


def test_a_single_node_is_restarted_and_the_pause_grows_with_the_data() -> None:
    single = cluster_of("s", 1)
    pauses = []
    for used in (10 * MIB, 1000 * MIB):
        world = World(single)
        world.saw("s", used, role=Role.PRIMARY)
        made = world.after(replace(single, version=V91, status=Status.MODIFYING))
        assert "saves its data, ends, and starts anew with Valkey 9.1.2" in made.steps[0]
        pauses.append(made.gaps[0].least_ms)
        assert made.undo[0].startswith("EngineVersion=9.1 changes back by a restart")
    assert pauses[0] < 300
    assert pauses[1] > 5000
    unknown = World(single).after(replace(single, version=V91))
    assert "not known" in unknown.gaps[0].source


def test_memcached_loses_what_it_holds_at_another_version() -> None:
    cache = memcached_of("m", (1, 2))
    made = World(cache).after(replace(cache, version=EngineVersion.parse("1.6.38")))
    assert "start empty" in made.steps[0]
    assert "is lost" in made.warnings[0]


def test_resharding_tells_slots_and_bytes_of_every_pair() -> None:
    world = clustered_world(2)
    group, members = grown(world, 4)
    made = world.after(group, *members)
    assert "2 new shards (0003 and 0004): 4 nodes start and join." in made.steps[0]
    moves = [step for step in made.steps if "->" in step]
    assert moves == [
        "0001 -> 0002: 4096 slots (4096-8191), about 50.0 MiB, atomically.",
        "0002 -> 0003: 4096 slots (8192-12287), about 50.0 MiB, atomically.",
        "0002 -> 0004: 4096 slots (12288-16383), about 50.0 MiB, atomically.",
    ]
    assert made.gaps[0].times == 3
    assert 1 < made.least_s < made.most_s < 60
    assert made.memory.afterwards_bytes == 8 * node_bytes()
    assert "NodeGroupCount=2" in made.undo[0]


def test_before_valkey_9_slots_move_key_by_key_which_takes_longer() -> None:
    fast = clustered_world(2)
    slow = clustered_world(2)
    slow.groups["g"] = replace(slow.groups["g"], version=V81)
    times = []
    for world, how in ((fast, "atomically"), (slow, "key by key")):
        group, members = grown(world, 3)
        made = world.after(group, *members)
        assert how in text(made)
        times.append(made.most_s)
    assert times[1] > 2 * times[0]


def test_a_shard_that_leaves_ends_once_it_owns_nothing() -> None:
    world = clustered_world(3)
    group = world.groups["g"]
    first, second, third = group.node_groups
    left = [replace(s, slots=slots) for s, slots in zip((first, second), divided(2), strict=True)]
    gone = replace(third, slots=(), leaving=True)
    made = world.after(replace(group, node_groups=(*left, gone), resharding=0.0))
    assert made.steps[-1] == "Once they own nothing more, the nodes of 0003 end and all others forget them."
    assert "0003 -> 0002: 5462 slots" in text(made)


def test_a_shard_that_gets_full_is_warned_of() -> None:
    world = clustered_world(2, used=200 * MIB)
    group = world.groups["g"]
    first, second = group.node_groups
    made = world.after(
        replace(group, node_groups=(replace(first, slots=divided(1)[0]), replace(second, slots=(), leaving=True)))
    )
    assert any(warning.startswith("Shard 0001 will hold about 400.0 MiB") for warning in made.warnings)


def test_cluster_mode_is_a_restart_first_and_final_at_last(world: World) -> None:
    endpoint = Address("10.0.9.3", 6379)
    compatible = replace(
        GROUP.with_shard(replace(GROUP.node_groups[0], slots=divided(1)[0])),
        cluster_mode=ClusterMode.COMPATIBLE,
        mode_before=ClusterMode.DISABLED,
        configuration_endpoint=endpoint,
    )
    first = world.after(compatible)
    assert "g-001 saves its data, ends, and starts anew with it in cluster mode" in first.steps[0]
    assert first.gaps[0].what == "reads and writes of g"
    assert "ClusterMode=disabled" in first.undo[0]
    world.groups["g"] = replace(compatible, mode_before=None)
    second = world.after(replace(compatible, cluster_mode=ClusterMode.ENABLED, mode_before=ClusterMode.COMPATIBLE))
    assert second.gaps == ()
    assert "final" in second.undo[0]
