"""Persistence: what appendonly and snapshot settings promise, through kills and orderly stops."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import valkey

from tests.chaos.scene import Scene, scene, written

from .conftest import Service, cluster_status, connect, is_running, wait_for

AOF = {"appendonly": "yes", "appendfsync": "always"}
SNAPSHOTS = {"save": "1 1"}


def _parameters(ec: Any, name: str, values: dict[str, str]) -> None:
    ec.create_cache_parameter_group(CacheParameterGroupName=name, CacheParameterGroupFamily="valkey9", Description="x")
    told = [{"ParameterName": key, "ParameterValue": value} for key, value in values.items()]
    ec.modify_cache_parameter_group(CacheParameterGroupName=name, ParameterNameValues=told)


@pytest.fixture
def own(new_service: Callable[..., Service]) -> Iterator[Service]:
    service = new_service().start()
    ec = service.client()
    _parameters(ec, "aof", AOF)
    _parameters(ec, "snapshots", SNAPSHOTS)
    yield service
    assert "Traceback" not in service.log.read_text()


def _write(endpoint: dict[str, Any], count: int = 1000) -> None:
    connect(endpoint).mset({f"key{n}": n for n in range(count)})


def _size(endpoint: dict[str, Any]) -> int:
    try:
        return int(connect(endpoint).dbsize())
    except (valkey.ValkeyError, OSError):
        return -1


def _single(ec: Any, name: str, parameters: str) -> dict[str, Any]:
    ec.create_cache_cluster(CacheClusterId=name, Engine="valkey", CacheParameterGroupName=parameters)
    wait_for(lambda: cluster_status(ec, name) == "available")
    told = ec.describe_cache_clusters(CacheClusterId=name, ShowCacheNodeInfo=True)["CacheClusters"][0]
    return dict(told["CacheNodes"][0]["Endpoint"])


def test_single_nodes_come_back_with_what_they_kept(own: Service) -> None:
    ec = own.client()
    aof, snapshots = _single(ec, "log", "aof"), _single(ec, "snap", "snapshots")
    before = connect(snapshots).lastsave()
    _write(aof)
    _write(snapshots)
    wait_for(lambda: connect(snapshots).lastsave() > before)
    for pid in own.engines():
        os.kill(pid, signal.SIGKILL)
    wait_for(lambda: _size(aof) == 1000)
    wait_for(lambda: _size(snapshots) == 1000)


def test_a_lone_primary_comes_back_with_its_data(own: Service) -> None:
    with scene(own, "lone", NumCacheClusters=1, CacheParameterGroupName="aof") as it:
        for _ in range(3):
            with it.writing() as load:
                written(load, 100)
                it.hurt(it.primary())
                written(load, 100)
        # Every write is on the disk before it is acknowledged.
        it.deaths.clear()
        it.nothing_lost()


def test_all_members_of_a_group_die_and_the_data_is_there(own: Service) -> None:
    with scene(own, "both", NumCacheClusters=2, CacheParameterGroupName="aof") as it:
        with it.writing() as load:
            written(load, 200)
        pids = _kill_all(it)
        wait_for(lambda: not any(is_running(pid) for pid in pids))
        it.wait_available()
        wait_for(lambda: len(it.replicas()) == 1)
        it.nothing_lost()


def _kill_all(it: Scene) -> list[int]:
    pids = [seen.pid for seen in it.engines()]
    for pid in pids:
        os.kill(pid, signal.SIGKILL)
    return pids


def test_a_group_comes_through_down_and_up(own: Service) -> None:
    with scene(own, "kept", NumCacheClusters=2, CacheParameterGroupName="aof") as it:
        with it.writing() as load:
            written(load, 200)
        _down(own)
        assert not own.engines()
        own.start()
        it.wait_available()
        wait_for(lambda: len(it.replicas()) == 1)
        it.nothing_lost()


def test_a_cluster_comes_through_down_and_up(own: Service) -> None:
    shape = {"NumNodeGroups": 2, "ReplicasPerNodeGroup": 1, "AutomaticFailoverEnabled": True}
    with scene(own, "sharded", CacheParameterGroupName="default.valkey9.cluster.on", **shape) as it:
        with it.writing() as load:
            written(load, 200)
        _down(own)
        own.start()
        it.wait_available()
        wait_for(lambda: len(it.replicas("0001")) == len(it.replicas("0002")) == 1)
        it.nothing_lost()


def _down(service: Service) -> None:
    subprocess.run(
        [sys.executable, "-m", "cachekeep", "down"],
        env=service.environment,
        check=True,
        timeout=60,
        capture_output=True,
    )
    assert service.process is not None
    service.process.wait(20)


def test_appendonly_is_turned_on_and_off_under_load(own: Service) -> None:
    ec = own.client()
    with scene(own, "turned", NumCacheClusters=2, CacheParameterGroupName="aof") as it:
        pids = {seen.pid for seen in it.engines()}
        with it.writing() as load:
            for value in ("no", "yes"):
                told = [{"ParameterName": "appendonly", "ParameterValue": value}]
                ec.modify_cache_parameter_group(CacheParameterGroupName="aof", ParameterNameValues=told)
                wait_for(lambda v=value: _appendonly(it) == {v})
                written(load, 100)
        it.nothing_lost()
        assert {seen.pid for seen in it.engines()} == pids
        _kill_all(it)
        it.wait_available()
        wait_for(lambda: len(it.replicas()) == 1)
        it.nothing_lost()


def _appendonly(it: Scene) -> set[str]:
    clients = [connect({"Address": seen.host, "Port": seen.port}) for seen in it.engines()]
    return {str(client.config_get("appendonly")["appendonly"]) for client in clients}


@pytest.mark.slow
def test_persistence_switched_on_beside_a_snapshots_file_does_not_bring_it_back(own: Service) -> None:
    """Killed while the first append-only file is written: empty, as it kept nothing so far."""
    ec = own.client()
    _parameters(ec, "later", {"maxmemory-policy": "noeviction"})
    endpoint = _single(ec, "beside", "later")
    _write(endpoint)
    ec.create_snapshot(SnapshotName="left", CacheClusterId="beside")
    wait_for(lambda: ec.describe_snapshots(SnapshotName="left")["Snapshots"][0]["SnapshotStatus"] == "available", 60)
    assert list(own.nodes_root.rglob("dump.rdb"))
    client = connect(endpoint)
    client.delete("key1")
    client.config_set("rdb-key-save-delay", 1_000_000)
    on = [{"ParameterName": "appendonly", "ParameterValue": "yes"}]
    ec.modify_cache_parameter_group(CacheParameterGroupName="later", ParameterNameValues=on)
    wait_for(lambda: client.info("persistence")["aof_rewrite_in_progress"] == 1)
    _kill_at(endpoint)
    wait_for(lambda: _size(endpoint) == 0, 60)
    # From here on it keeps what it is told.
    wait_for(lambda: _settled(endpoint), 60)
    _write(endpoint, 10)
    _kill_at(endpoint)
    wait_for(lambda: _size(endpoint) == 10, 60)


def _kill_at(endpoint: dict[str, Any]) -> None:
    pid = int(connect(endpoint).info("server")["process_id"])
    os.kill(pid, signal.SIGKILL)
    wait_for(lambda: not is_running(pid))


def _settled(endpoint: dict[str, Any]) -> bool:
    """Its append-only file is on, and whole."""
    try:
        told = connect(endpoint).info("persistence")
    except (valkey.ValkeyError, OSError):
        return False
    return bool(told["aof_enabled"] and not told["aof_rewrite_in_progress"])
