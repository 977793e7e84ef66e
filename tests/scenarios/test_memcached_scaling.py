"""A Memcached cluster comes to another node type on real engines, and clients follow the configuration endpoint."""

from __future__ import annotations

from typing import Any

import pytest
from pymemcache.client.base import Client

from .conftest import Service, cluster_status, create_cluster, messages, wait_for
from .test_memcached import described, discover, endpoints

Created = list[tuple[str, str]]
TWO_MINUTES_S = 120


def memory_bytes(at: tuple[str, int]) -> int:
    client = Client(at, timeout=5)
    try:
        return int(client.stats()[b"limit_maxbytes"])
    finally:
        client.close()


def test_all_nodes_at_once(ec: Any, created: Created, name: str, service: Service) -> None:
    cluster = create_cluster(ec, created, name, Engine="memcached", NumCacheNodes=2)
    before = {memory_bytes(at) for at in endpoints(cluster)}
    answer = ec.modify_cache_cluster(
        CacheClusterId=name,
        CacheNodeType="cache.t4g.small",
        ScaleConfig={"ScalePercentage": 100, "ScaleIntervalMinutes": 2},
    )["CacheCluster"]
    assert answer["PendingModifiedValues"] == {
        "CacheNodeType": "cache.t4g.small",
        "ScaleConfig": {"ScalePercentage": 100, "ScaleIntervalMinutes": 2},
    }
    assert answer["CacheClusterStatus"] == "available"
    assert {memory_bytes(at) for at in endpoints(cluster)} == before
    ec.modify_cache_cluster(CacheClusterId=name, ApplyImmediately=True)
    wait_for(lambda: cluster_status(ec, name) == "available", 60)
    scaled = described(ec, name)
    assert scaled["CacheNodeType"] == "cache.t4g.small"
    assert scaled["PendingModifiedValues"] == {}
    assert endpoints(scaled) == endpoints(cluster)
    (after,) = {memory_bytes(at) for at in endpoints(scaled)}
    assert after > max(before)
    assert discover(scaled) == (2, sorted(endpoints(scaled)))
    assert len(service.engines(name)) == 3
    texts = messages(ec, "cache-cluster", name)
    assert "Succeeded applying modification to cache node type to cache.t4g.small" in texts


@pytest.mark.slow
def test_half_of_the_nodes_at_a_time(ec: Any, created: Created, name: str, service: Service) -> None:
    """Through a kill -9 of the service between two batches."""
    cluster = create_cluster(ec, created, name, Engine="memcached", NumCacheNodes=2)
    small = memory_bytes(endpoints(cluster)[0])
    keeper = Client(endpoints(cluster)[1], timeout=5)
    keeper.set("kept", "yes")
    ec.modify_cache_cluster(
        CacheClusterId=name,
        CacheNodeType="cache.t4g.small",
        ScaleConfig={"ScalePercentage": 50, "ScaleIntervalMinutes": 2},
        ApplyImmediately=True,
    )

    def half_way() -> bool:
        shown = described(ec, name)
        return shown["CacheNodes"][0]["CacheNodeStatus"] == "available" and discover(shown)[0] == 2

    wait_for(half_way, 60)
    first, second = (memory_bytes(at) for at in endpoints(cluster))
    assert first > second == small
    service.kill()
    service.start()
    assert described(ec, name)["CacheClusterStatus"] == "modifying"
    assert described(ec, name)["PendingModifiedValues"]["CacheNodeType"] == "cache.t4g.small"
    assert keeper.get("kept") == b"yes"
    keeper.close()
    wait_for(lambda: cluster_status(ec, name) == "available", TWO_MINUTES_S + 60)
    assert {memory_bytes(at) for at in endpoints(cluster)} == {first}
    assert discover(described(ec, name))[0] == 3
