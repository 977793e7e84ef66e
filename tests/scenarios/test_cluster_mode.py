"""Cluster mode enabled: creation, the configuration endpoint, resharding and failover under a stock cluster client."""

from __future__ import annotations

from typing import Any

import pytest
import valkey

from tests.chaos.observed import ask, node_client
from tests.chaos.scene import Scene, scene, slots_of, written

from .conftest import Service, wait_for

ALL = frozenset(range(16384))
DEFAULTS = {"8.1": "default.valkey8.cluster.on", "9.1": "default.valkey9.cluster.on"}


def _shape(shards: int, replicas: int = 1, version: str = "9.1") -> dict[str, Any]:
    return {
        "NumNodeGroups": shards,
        "ReplicasPerNodeGroup": replicas,
        "EngineVersion": version,
        "CacheParameterGroupName": DEFAULTS[version],
        "AutomaticFailoverEnabled": True,
    }


def _reshard(it: Scene, count: int, **more: Any) -> None:
    it.ec.modify_replication_group_shard_configuration(
        ReplicationGroupId=it.name, NodeGroupCount=count, ApplyImmediately=True, **more
    )
    wait_for(lambda: it.group()["Status"] == "available", 60.0)
    it.wait_available()


def _covered(it: Scene) -> list[int]:
    """How many slots each shard has; together they are all, each once."""
    found = slots_of(it.group())
    assert frozenset().union(*found.values()) == ALL
    assert sum(map(len, found.values())) == len(ALL)
    return sorted(map(len, found.values()))


def test_a_cluster_is_created_with_slots(service: Service, name: str) -> None:
    wanted = {"0001": "0-999", "0002": "1000-16383"}
    shards = [{"NodeGroupId": key, "Slots": slots, "ReplicaCount": 1} for key, slots in wanted.items()]
    more = {"EngineVersion": "9.1", "CacheParameterGroupName": DEFAULTS["9.1"], "AutomaticFailoverEnabled": True}
    with scene(service, name, NumNodeGroups=2, NodeGroupConfiguration=shards, **more) as it:
        group = it.group()
        assert group["ClusterEnabled"] is True
        assert group["ClusterMode"] == "enabled"
        assert {shard["NodeGroupId"]: shard["Slots"] for shard in group["NodeGroups"]} == wanted
        assert sorted(group["MemberClusters"]) == [
            f"{name}-{n}" for n in ("0001-001", "0001-002", "0002-001", "0002-002")
        ]
        with it.writing() as load:
            written(load, 100)
        it.nothing_lost()
        assert load.errors.total() == 0


@pytest.mark.parametrize("version", ["9.1", pytest.param("8.1", marks=pytest.mark.slow)])
def test_resharding(service: Service, name: str, version: str) -> None:
    with scene(service, name, **_shape(2, version=version)) as it:
        with it.writing() as load:
            written(load, 300)
            _reshard(it, 3)
            assert max(_covered(it)) - min(_covered(it)) <= 1
            written(load, 100)
            leaves = it.group()["NodeGroups"][0]["NodeGroupId"]
            _reshard(it, 2, NodeGroupsToRemove=[leaves])
            assert leaves not in slots_of(it.group())
            _covered(it)
            written(load, 100)
        it.nothing_lost()
        assert len(it.group()["MemberClusters"]) == 4


@pytest.mark.parametrize("version", ["9.1", pytest.param("8.1", marks=pytest.mark.slow)])
def test_slots_are_rebalanced(service: Service, name: str, version: str) -> None:
    shards = [{"NodeGroupId": "0001", "Slots": "0-15999"}, {"NodeGroupId": "0002", "Slots": "16000-16383"}]
    more = {"EngineVersion": version, "CacheParameterGroupName": DEFAULTS[version], "AutomaticFailoverEnabled": True}
    with scene(service, name, NumNodeGroups=2, ReplicasPerNodeGroup=1, NodeGroupConfiguration=shards, **more) as it:
        with it.writing() as load:
            written(load, 200)
            _reshard(it, 2)
            written(load, 100)
        assert _covered(it) == [8192, 8192]
        it.nothing_lost()


def _bound(seen: Any) -> list[str]:
    with node_client(seen.host, seen.port) as node:
        return str(node.config_get("bind")["bind"]).split()


def test_the_configuration_endpoint_moves_when_its_holder_dies(service: Service, name: str) -> None:
    with scene(service, name, **_shape(2)) as it:
        host, port = it.endpoint
        shards = [shard["NodeGroupId"] for shard in it.group()["NodeGroups"]]
        everyone = [seen for shard in shards for seen in it.engines(shard)]
        (holder,) = (seen for seen in everyone if host in _bound(seen))
        with it.writing() as load:
            written(load, 100)
            it.hurt(holder)
            wait_for(lambda: _answers(host, port))
            written(load, 100)
        it.reckon()
        assert it.endpoint == (host, port)


def _answers(host: str, port: int) -> bool:
    try:
        with node_client(host, port) as node:
            return bool(node.ping())
    except (valkey.ValkeyError, OSError):
        return False


@pytest.mark.parametrize("shards", [3, pytest.param(2, marks=pytest.mark.slow), 1])
def test_a_primary_of_a_shard_crashes(service: Service, name: str, shards: int) -> None:
    """Gossip decides by a majority of primaries, so it can decide nothing where there are one or two."""
    with scene(service, name, **_shape(shards)) as it:
        old = it.primary("0001")
        with it.writing() as load:
            written(load, 200)
            it.hurt(old)
            wait_for(lambda: it.primary("0001").member != old.member)
            written(load, 200)
            it.wait_available()
            wait_for(lambda: len(it.replicas("0001")) == 1)
        it.reckon()
        assert any(f"Failover from primary node {old.member}" in text for text in it.texts())


def test_failover_of_one_shard_is_asked_for(service: Service, name: str) -> None:
    with scene(service, name, **_shape(2)) as it:
        old, other = it.primary("0002"), it.primary("0001")
        with it.writing() as load:
            written(load, 200)
            it.ec.test_failover(ReplicationGroupId=name, NodeGroupId="0002")
            wait_for(lambda: it.primary("0002").member != old.member)
            wait_for(lambda: "Finished recovery for cache nodes 0001" in it.texts())
            written(load, 200)
        it.nothing_lost()
        assert it.primary("0001") == other


def test_a_shard_that_is_lost_whole_comes_back_empty(service: Service, name: str) -> None:
    with scene(service, name, **_shape(2)) as it:
        with it.writing() as load:
            written(load, 200)
            for seen in it.engines("0001"):
                it.hurt(seen, in_sync=False)
            wait_for(lambda: all(ask(seen) for seen in it.engines("0001")) and len(it.engines("0001")) == 2)
            it.wait_available()
            written(load, 200)
        it.reckon()


def test_cluster_mode_is_turned_on_step_by_step(service: Service, name: str) -> None:
    with scene(service, name, NumCacheClusters=2, EngineVersion="9.1") as it:
        with it.writing() as load:
            written(load, 200)
            it.modify(ClusterMode="compatible")
            it.wait_available()
            written(load, 100)
        assert it.group()["ClusterMode"] == "compatible"
        it.nothing_lost()
        it.clustered = True
        with it.writing() as through_cluster:
            written(through_cluster, 100)
            it.modify(ClusterMode="enabled")
            it.wait_available()
            written(through_cluster, 100)
        assert it.group()["ClusterMode"] == "enabled"
        assert "PrimaryEndpoint" not in it.shard()
