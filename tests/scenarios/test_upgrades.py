"""Other versions of the engine: up under load, back, and what is refused."""

from __future__ import annotations

from typing import Any

import pytest
import valkey

from cachekeep.domain.engine import Engine
from cachekeep.host.installs import MachineCatalogue
from tests.chaos.observed import node_client
from tests.chaos.scene import Scene, scene, written

from .conftest import Service, cluster_status, connect, create_cluster, messages, wait_for

Created = list[tuple[str, str]]

CLUSTER = {"NumNodeGroups": 2, "ReplicasPerNodeGroup": 1, "AutomaticFailoverEnabled": True}
PAIR = {"NumCacheClusters": 2}


def _versions(it: Scene) -> set[str]:
    """What the engines of all members at their endpoints say they are."""
    found = set()
    for member in it.members().values():
        endpoint = member["CacheNodes"][0]["Endpoint"]
        with node_client(endpoint["Address"], endpoint["Port"], 5.0) as node:
            told = node.info("server")
            found.add(str(told.get("valkey_version", told["redis_version"])).rpartition(".")[0])
    return found


def _group_for(version: str, shape: dict[str, Any]) -> str:
    return f"default.valkey{version[0]}" + (".cluster.on" if "NumNodeGroups" in shape else "")


@pytest.mark.parametrize(
    ("before", "shape"),
    [
        # Slow, as the pair below is upgraded on its way to being taken back.
        pytest.param({"Engine": "valkey", "EngineVersion": "8.1"}, PAIR, id="valkey 8.1", marks=pytest.mark.slow),
        pytest.param({"Engine": "redis", "EngineVersion": "7.0"}, PAIR, id="redis 7.0", marks=pytest.mark.needs_redis7),
        pytest.param({"Engine": "valkey", "EngineVersion": "8.1"}, CLUSTER, id="cluster 8.1"),
    ],
)
def test_a_group_is_upgraded(service: Service, name: str, before: dict[str, str], shape: dict[str, Any]) -> None:
    more = dict(shape)
    if "NumNodeGroups" in shape:
        more["CacheParameterGroupName"] = _group_for("8.1", shape)
    with scene(service, name, **before, **more) as it:
        assert _versions(it) == {before["EngineVersion"]}
        endpoint = it.endpoint
        with it.writing() as load:
            written(load, 300)
            it.modify(Engine="valkey", EngineVersion="9.1", CacheParameterGroupName=_group_for("9.1", shape))
            wait_for(lambda: it.group()["Status"] == "available", 60.0)
            it.wait_available()
            written(load, 300)
        assert _versions(it) == {"9.1"}
        assert it.endpoint == endpoint
        assert all(member["EngineVersion"].startswith("9.1") for member in it.members().values())
        it.nothing_lost()


@pytest.mark.parametrize(
    "shape", [pytest.param(PAIR, id="pair"), pytest.param(CLUSTER, id="cluster", marks=pytest.mark.slow)]
)
def test_an_upgrade_is_taken_back(service: Service, name: str, shape: dict[str, Any]) -> None:
    more = {**shape, "CacheParameterGroupName": _group_for("8.1", shape)}
    with scene(service, name, EngineVersion="8.1", **more) as it:
        with it.writing() as load:
            written(load, 200)
            for version in ("9.1", "8.1"):
                it.modify(EngineVersion=version, CacheParameterGroupName=_group_for(version, shape))
                it.wait_available()
                assert _versions(it) == {version}
                written(load, 200)
        it.nothing_lost()


def test_a_downgrade_that_the_data_forbids_is_refused_and_the_group_serves_on(service: Service, name: str) -> None:
    with scene(service, name, EngineVersion="9.1", **PAIR) as it:
        client = valkey.Valkey(host=it.endpoint[0], port=it.endpoint[1], decode_responses=True)
        client.hset("session", mapping={"user": "a"})
        client.execute_command("HEXPIRE", "session", 1000, "FIELDS", 1, "user")
        with it.writing() as load:
            written(load, 100)
            assert _refused_or_begun(it, "8.1") in ("", "InvalidParameterCombination", "InvalidParameterValue")
            wait_for(lambda: it.group()["Status"] == "available", 90.0)
            written(load, 100)
        assert _versions(it) == {"9.1"}
        it.nothing_lost()
        assert client.hget("session", "user") == "a"
        client.delete("session")


def _refused_or_begun(it: Scene, version: str) -> str:
    """The code of a refusal; "" when it is tried, and found impossible then."""
    try:
        it.modify(EngineVersion=version, CacheParameterGroupName=f"default.valkey{version[0]}")
    except it.ec.exceptions.ClientError as error:
        return str(error.response["Error"]["Code"])
    return ""


def test_what_is_not_installed_is_refused(service: Service, name: str) -> None:
    with scene(service, name, EngineVersion="9.1", **PAIR) as it:
        for version in ("8.2", "7.2", "99.1"):
            with pytest.raises(it.ec.exceptions.ClientError) as caught:
                it.modify(EngineVersion=version)
            assert caught.value.response["Error"]["Code"].startswith("InvalidParameter")
        assert it.group()["Status"] == "available"
        assert _versions(it) == {"9.1"}


def test_a_single_node_is_restarted_with_its_data(service: Service, ec: Any, created: Created, name: str) -> None:
    cluster = create_cluster(ec, created, name, EngineVersion="8.1")
    endpoint = cluster["CacheNodes"][0]["Endpoint"]
    connect(endpoint).mset({f"key{n}": n for n in range(1000)})
    ec.modify_cache_cluster(CacheClusterId=name, EngineVersion="9.1", ApplyImmediately=True)
    wait_for(lambda: _version_at(endpoint).startswith("9.1."))
    wait_for(lambda: cluster_status(ec, name) == "available")
    assert connect(endpoint).dbsize() == 1000
    assert any("9.1" in text for text in messages(ec, "cache-cluster", name))
    assert len(service.engines(name)) == 1


def _version_at(endpoint: dict[str, Any]) -> str:
    try:
        return str(connect(endpoint).info("server")["valkey_version"])
    except (valkey.ValkeyError, OSError):
        return ""


def test_memcached_is_not_moved_to_what_is_not_there(
    ec: Any, created: Created, name: str, catalogue: MachineCatalogue
) -> None:
    if catalogue.best(Engine.MEMCACHED, None) is None:
        pytest.skip("needs memcached on the machine")
    create_cluster(ec, created, name, Engine="memcached", NumCacheNodes=2)
    with pytest.raises(ec.exceptions.ClientError) as caught:
        ec.modify_cache_cluster(CacheClusterId=name, EngineVersion="1.5.16", ApplyImmediately=True)
    assert caught.value.response["Error"]["Code"].startswith("InvalidParameter")
    assert cluster_status(ec, name) == "available"
