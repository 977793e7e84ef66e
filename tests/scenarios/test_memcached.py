"""Memcached clusters: one process a node, and discovery."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest
from pymemcache.client.base import Client

from cachekeep.domain.engine import Engine
from cachekeep.host.installs import MachineCatalogue

from .conftest import Service, cluster_status, create_cluster, gone, is_running, messages, wait_for

Created = list[tuple[str, str]]


@pytest.fixture(autouse=True)
def _installed(catalogue: MachineCatalogue) -> None:
    if catalogue.best(Engine.MEMCACHED, None) is None:
        pytest.skip("needs memcached on the machine")


@pytest.fixture
def dial() -> Iterator[Callable[[tuple[str, int]], Client]]:
    """Connects to a node; closed after the test."""
    with ExitStack() as stack:

        def connect(at: tuple[str, int]) -> Client:
            client = Client(at, timeout=5)
            stack.callback(client.close)
            return client

        yield connect


Dial = Callable[[tuple[str, int]], Client]


def endpoints(cluster: dict[str, Any]) -> list[tuple[str, int]]:
    return [(n["Endpoint"]["Address"], n["Endpoint"]["Port"]) for n in cluster["CacheNodes"]]


def described(ec: Any, name: str) -> dict[str, Any]:
    return dict(ec.describe_cache_clusters(CacheClusterId=name, ShowCacheNodeInfo=True)["CacheClusters"][0])


def discover(cluster: dict[str, Any]) -> tuple[int, list[tuple[str, int]]]:
    """What the configuration endpoint announces: version and members."""
    at = cluster["ConfigurationEndpoint"]
    with socket.create_connection((at["Address"], at["Port"]), 5) as link:
        link.sendall(b"config get cluster\r\n")
        text = b""
        while not text.endswith(b"\n\r\nEND\r\n"):
            text += link.recv(4096)
    _, version, members, *_ = text.decode().split("\n")
    return int(version), [(m.split("|")[1], int(m.split("|")[2])) for m in members.split()]


def test_nodes_are_processes_of_their_own(ec: Any, created: Created, name: str, service: Service, dial: Dial) -> None:
    cluster = create_cluster(ec, created, name, Engine="memcached", NumCacheNodes=3)
    assert cluster["CacheClusterStatus"] == "available"
    assert len(set(endpoints(cluster))) == 3
    for number, at in enumerate(endpoints(cluster)):
        client = dial(at)
        client.set("number", str(number))
        assert client.get("number") == str(number).encode()
        assert client.stats()[b"version"].decode() == cluster["EngineVersion"]
    assert len(service.engines(name)) == 4  # and the discovery responder
    assert discover(cluster) == (1, sorted(endpoints(cluster)))


def test_nodes_are_added_and_removed(ec: Any, created: Created, name: str, service: Service, dial: Dial) -> None:
    cluster = create_cluster(ec, created, name, Engine="memcached", NumCacheNodes=2)
    kept = dial(endpoints(cluster)[1])
    kept.set("kept", "yes")
    ec.modify_cache_cluster(CacheClusterId=name, NumCacheNodes=4, ApplyImmediately=True)
    wait_for(lambda: cluster_status(ec, name) == "available")
    grown = described(ec, name)
    assert [n["CacheNodeId"] for n in grown["CacheNodes"]] == ["0001", "0002", "0003", "0004"]
    assert discover(grown) == (2, sorted(endpoints(grown)))
    ec.modify_cache_cluster(
        CacheClusterId=name, NumCacheNodes=2, CacheNodeIdsToRemove=["0001", "0003"], ApplyImmediately=True
    )
    wait_for(lambda: cluster_status(ec, name) == "available")
    shrunk = described(ec, name)
    assert [n["CacheNodeId"] for n in shrunk["CacheNodes"]] == ["0002", "0004"]
    assert discover(shrunk) == (3, sorted(endpoints(shrunk)))
    assert kept.get("kept") == b"yes"
    assert len(service.engines(name)) == 3
    texts = messages(ec, "cache-cluster", name)
    assert "Added cache node 0003 in availability zone us-east-1a" in texts
    assert f"Removed cache node 0001 from cache cluster {name}" in texts


def test_a_change_of_nodes_waits_for_the_window(ec: Any, created: Created, name: str) -> None:
    create_cluster(ec, created, name, Engine="memcached", NumCacheNodes=1)
    answer = ec.modify_cache_cluster(CacheClusterId=name, NumCacheNodes=2)["CacheCluster"]
    assert answer["PendingModifiedValues"] == {"NumCacheNodes": 2}
    assert answer["NumCacheNodes"] == 1
    ec.modify_cache_cluster(CacheClusterId=name, ApplyImmediately=True)
    wait_for(lambda: cluster_status(ec, name) == "available" and described(ec, name)["NumCacheNodes"] == 2)


def test_reboot_and_parameters(ec: Any, created: Created, name: str, service: Service, dial: Dial) -> None:
    ec.create_cache_parameter_group(
        CacheParameterGroupName=name, CacheParameterGroupFamily="memcached1.6", Description="x"
    )
    cluster = create_cluster(ec, created, name, Engine="memcached", CacheParameterGroupName=name)
    client = dial(endpoints(cluster)[0])
    assert client.stats("settings")[b"item_size_max"] == 1 << 20
    ec.modify_cache_parameter_group(
        CacheParameterGroupName=name,
        ParameterNameValues=[{"ParameterName": "max_item_size", "ParameterValue": str(4 << 20)}],
    )
    wait_for(lambda: described(ec, name)["CacheNodes"][0]["ParameterGroupStatus"] == "pending-reboot")
    assert described(ec, name)["CacheParameterGroup"]["CacheNodeIdsToReboot"] == ["0001"]
    ec.reboot_cache_cluster(CacheClusterId=name, CacheNodeIdsToReboot=["0001"])
    wait_for(lambda: cluster_status(ec, name) == "available")
    client = dial(endpoints(cluster)[0])
    assert client.stats("settings")[b"item_size_max"] == 4 << 20
    wait_for(lambda: described(ec, name)["CacheNodes"][0]["ParameterGroupStatus"] == "in-sync")


def test_delete_leaves_nothing(ec: Any, created: Created, name: str, service: Service) -> None:
    create_cluster(ec, created, name, Engine="memcached", NumCacheNodes=2)
    pids = list(service.engines(name))
    assert len(pids) == 3
    ec.delete_cache_cluster(CacheClusterId=name)
    wait_for(lambda: gone(ec, "cluster", name))
    assert not any(is_running(pid) for pid in pids)
    assert not list(service.nodes_root.glob(f"*/{name}"))
