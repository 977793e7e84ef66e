"""Names of watched nodes, and Targets over a store that is real and endpoints that are told here."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from cachekeep.domain.cache_cluster import CacheCluster, CacheNode, Status, Upkeep
from cachekeep.domain.engine import Engine, EngineVersion
from cachekeep.domain.metric_ports import Explored, FoundNode
from cachekeep.domain.metrics import Current, Place, Subject, WatchedNode, WatchedTarget
from cachekeep.domain.nodes import Address
from cachekeep.domain.ports import WorldError
from cachekeep.monitor.census import Census, Measured
from cachekeep.monitor.target_names import named
from cachekeep.monitor.targets import Targets
from cachekeep.store.sqlite import SqliteStore

REGION = "eu-west-1"
OWN = CacheCluster(
    region=REGION,
    id="a-002",
    engine=Engine.VALKEY,
    version=EngineVersion.parse("8.1"),
    node_type="cache.t4g.micro",
    port=6379,
    parameter_group="default.valkey8",
    subnet_group="default",
    nodes=(CacheNode("0001", Address("127.0.0.9", 6379), "us-east-1a", 1.0),),
    status=Status.AVAILABLE,
    upkeep=Upkeep("sun:01:00-sun:02:00", "03:00-04:00"),
    created_at=1.0,
)


def found(number: int, shard: str = "", *, primary: bool = True, host: str = "") -> FoundNode:
    return FoundNode(Address(f"10.0.0.{number}", 6379), host, shard, primary)


def explored(*nodes: FoundNode, clustered: bool = False, engine: str = "valkey") -> Explored:
    return Explored(nodes, engine, "8.1.0", clustered)


def names(nodes: Sequence[WatchedNode]) -> dict[str, str]:
    """Last number of the address -> name."""
    return {node.address.host.rpartition(".")[2]: f"{node.cluster_id}/{node.node_id}" for node in nodes}


def test_a_single_node_has_the_targets_name_wherever_it_moves() -> None:
    first = named("shop", (), explored(found(1)), ())
    assert names(first) == {"1": "shop/0001"}
    assert names(named("shop", first, explored(found(7)), ())) == {"7": "shop/0001"}


def test_members_of_a_group_keep_their_names_over_a_fail_over() -> None:
    first = named("shop", (), explored(found(1), found(2, primary=False)), ())
    assert names(first) == {"1": "shop-001/0001", "2": "shop-002/0001"}
    after = named("shop", first, explored(found(2), found(1, primary=False), found(3, primary=False)), ())
    assert names(after) == {"1": "shop-001/0001", "2": "shop-002/0001", "3": "shop-003/0001"}


def test_a_node_that_was_alone_keeps_its_name_when_replicas_come() -> None:
    first = named("shop", (), explored(found(1)), ())
    assert names(named("shop", first, explored(found(1), found(2, primary=False)), ())) == {
        "1": "shop/0001",
        "2": "shop-002/0001",
    }


def test_nodes_of_a_cluster_are_named_by_their_shard_and_keep_that() -> None:
    first = named("c", (), explored(found(1, "aa"), found(4, "aa", primary=False), found(2, "bb"), clustered=True), ())
    assert names(first) == {"1": "c-0001-001/0001", "4": "c-0001-002/0001", "2": "c-0002-001/0001"}
    # The replica leads its shard now, whose id is another one, and a shard was added before all.
    after = named("c", first, explored(found(9, "zz"), found(4, "dd"), found(2, "bb"), clustered=True), first[:1])
    assert names(after) == {
        "1": "c-0001-001/0001",
        "4": "c-0001-002/0001",
        "2": "c-0002-001/0001",
        "9": "c-0003-001/0001",
    }
    assert [node.shard for node in after] == ["0001", "0001", "0002", "0003"]


def test_a_node_is_known_by_its_own_name_when_its_address_changes() -> None:
    first = named("c", (), explored(found(1, "a", host="n1"), found(2, "b", host="n2"), clustered=True), ())
    after = named("c", first, explored(found(8, "b", host="n2"), found(1, "a", host="n1"), clustered=True), ())
    assert names(after) == {"1": "c-0001-001/0001", "8": "c-0002-001/0001"}


def test_memcached_nodes_are_nodes_of_one_cluster() -> None:
    nodes = named("m", (), explored(found(1), found(2), engine="memcached"), ())
    assert names(nodes) == {"1": "m/0001", "2": "m/0002"}


class World:
    """What stands behind each endpoint; a text is why it cannot be looked at, an error what nobody foresaw."""

    def __init__(self) -> None:
        self.behind: dict[str, Explored | str | ValueError] = {}
        self.asked: list[Place] = []

    async def explore(self, place: Place, known: Collection[Address] = ()) -> Explored:
        self.asked.append(place)
        told = self.behind[place.address.host]
        if isinstance(told, str):
            raise WorldError(told)
        if isinstance(told, ValueError):
            raise told
        return told


@pytest.fixture
def store(tmp_path: Path) -> Iterator[SqliteStore]:
    made = SqliteStore(tmp_path / "store.sqlite")
    yield made
    made.close()


class Scene:
    def __init__(self, store: SqliteStore) -> None:
        self.store, self.world, self.now = store, World(), 1000.0
        self.shown: dict[Subject, Current] = {}
        self.targets = Targets(store, self.world, self.shown.get, monotonic=lambda: self.now)
        self.census = Census(store, dict, self.targets.nodes)

    def add(self, name: str, url: str, behind: Explored | str) -> None:
        self.world.behind[url.partition("://")[2].partition(":")[0]] = behind
        with self.store.transaction() as work:
            work.insert(WatchedTarget(REGION, name, url, password="sesame", node_type="cache.r7g.large"))

    def look(self) -> None:
        asyncio.run(self.targets.look())

    def measured(self) -> dict[str, Measured]:
        return {f"{node.subject.id}/{node.subject.node_id}": node for node in self.census.nodes()}


def test_what_is_found_is_measured_with_its_login_and_facts(store: SqliteStore) -> None:
    scene = Scene(store)
    scene.add("shop", "rediss://master.shop.example:6379", explored(found(1), found(2, primary=False)))
    scene.look()
    node = scene.measured()["shop-002/0001"]
    assert node.place == Place(
        Address("10.0.0.2", 6379), password="sesame", tls=True, server_name="master.shop.example"
    )
    assert (node.group, node.pid) == (Subject(REGION, "shop"), None)
    assert node.facts == {
        "engine": "valkey",
        "version": "8.1.0",
        "node_type": "cache.r7g.large",
        "watched": "shop",
        "replication_group": "shop",
        "address": "10.0.0.2:6379",
    }
    assert "sesame" not in repr(scene.targets.watched(REGION)) + repr(node) + repr(scene.store.all(WatchedTarget))
    # A service that is started anew measures them before it has looked.
    assert set(Scene(store).measured()) == {"shop-001/0001", "shop-002/0001"}


def test_a_target_that_vanishes_keeps_its_nodes_and_costs_the_others_nothing(store: SqliteStore) -> None:
    scene = Scene(store)
    scene.add("a", "redis://a.example:6379", explored(found(1)))
    scene.add("b", "redis://b.example:6379", explored(found(2)))
    scene.look()
    scene.world.behind["a.example"] = "it is gone"
    scene.world.behind["b.example"] = explored(found(2), found(3, primary=False))
    scene.now += 100_000
    scene.look()
    assert set(scene.measured()) == {"a/0001", "b/0001", "b-002/0001"}
    troubles = {row["id"]: row["trouble"] for row in scene.targets.watched(REGION)}
    assert troubles == {"a": "it is gone", "b": None}
    scene.world.behind["a.example"] = explored(found(1))
    scene.look()
    assert scene.targets.watched(REGION)[0]["trouble"] is None


def test_an_answer_that_nobody_foresaw_costs_the_other_targets_nothing(store: SqliteStore) -> None:
    scene = Scene(store)
    scene.add("a", "redis://a.example:6379", explored(found(1)))
    scene.add("b", "redis://b.example:6379", explored(found(2)))
    scene.world.behind["a.example"] = ValueError("not a TCP port: 655351")
    scene.look()
    assert set(scene.measured()) == {"b/0001"}
    first, second = (row["trouble"] for row in scene.targets.watched(REGION))
    assert "could not be understood" in first
    assert second is None


def test_a_node_that_is_named_no_more_stays_for_a_quarter_of_an_hour(store: SqliteStore) -> None:
    scene = Scene(store)
    scene.add("a", "redis://a.example:6379", explored(found(1), found(2, primary=False)))
    scene.look()
    scene.world.behind["a.example"] = explored(found(1))
    for after_s, left in ((0, 2), (890, 2), (20, 1)):
        scene.now += after_s
        scene.look()
        assert len(scene.measured()) == left


def test_a_row_sums_up_what_its_nodes_show(store: SqliteStore) -> None:
    scene = Scene(store)
    scene.add("c", "redis://c.example:6379", explored(found(1, "a"), found(2, "b"), clustered=True))
    scene.look()
    values = {"BytesUsedForCache": 100.0, "MaxMemory": 1000.0, "CurrItems": 7.0, "CurrConnections": 2.0}
    scene.shown[Subject(REGION, "c-0001-001", "0001")] = Current(5.0, values, {"role": "primary"})
    scene.shown[Subject(REGION, "c-0002-001", "0001")] = Current(5.0, values, {"role": "primary"}, "it hangs")
    (row,) = scene.targets.watched(REGION)
    assert (row["used_memory"], row["maxmemory"], row["keys"], row["clients"]) == (200, 2000, 14, 4)
    assert (row["role"], row["trouble"]) == ("cluster", None)
    assert [(node["id"], node["shard"], node["status"]) for node in row["nodes"]] == [
        ("c-0001-001", "0001", "available"),
        ("c-0002-001", "0002", "unreachable"),
    ]
    scene.shown[Subject(REGION, "c-0001-001", "0001")] = Current(5.0, values, {"role": "primary"}, "it hangs, too")
    assert scene.targets.watched(REGION)[0]["trouble"] == "it hangs, too"


def test_numbers_never_mix_with_those_of_a_cluster_of_the_same_name(store: SqliteStore) -> None:
    scene = Scene(store)
    scene.add("a", "redis://a.example:6379", explored(found(1), found(2, primary=False)))
    scene.look()
    assert set(scene.measured()) == {"a-001/0001", "a-002/0001"}
    with store.transaction() as work:
        work.insert(OWN)
    assert [node.place.address.host for node in scene.census.nodes() if node.pid is None] == ["127.0.0.9"]
    assert "a-002 is a resource of Cachekeep now" in str(scene.targets.watched(REGION)[0]["trouble"])
    with store.transaction() as work:
        work.delete(OWN)
    assert set(scene.measured()) == {"a-001/0001", "a-002/0001"}


def test_an_added_target_is_looked_at_at_once(store: SqliteStore) -> None:
    scene = Scene(store)
    scene.world.behind["a.example"] = explored(found(1))

    async def run() -> None:
        looking = asyncio.create_task(scene.targets.run())
        await asyncio.sleep(0)
        scene.add("a", "redis://a.example:6379", explored(found(1)))
        async with asyncio.timeout(10):
            while not scene.measured():
                await asyncio.sleep(0)
        looking.cancel()

    asyncio.run(run())
    assert set(scene.measured()) == {"a/0001"}


def test_a_target_that_is_changed_while_it_is_looked_at_stays_changed(store: SqliteStore) -> None:
    scene = Scene(store)
    scene.add("a", "redis://a.example:6379", explored(found(1)))

    async def explore(place: Place, known: Collection[Address] = ()) -> Explored:
        target = store.get(WatchedTarget, REGION, "a")
        assert target is not None
        with store.transaction() as work:
            work.replace(target, replace(target, password="new"))
        return explored(found(1))

    scene.world.explore = explore  # type: ignore[method-assign]
    scene.look()
    stored = store.get(WatchedTarget, REGION, "a")
    assert stored is not None
    assert (stored.password, stored.nodes) == ("new", ())
