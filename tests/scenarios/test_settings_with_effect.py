"""Settings that change what runs: ports instead of addresses, and Valkey in the place of Redis."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from typing import Any

import pytest

from .conftest import Service, cluster_status, connect, gone, group_status, messages, wait_for


def test_ports_of_one_address_where_there_are_no_loopback_addresses(new_service: Callable[..., Service]) -> None:
    """The endpoints are then the addresses of the nodes in that role, and follow it."""
    service = new_service(CACHEKEEP_ADDRESS_RANGE="ports").start()
    ec = service.client()
    ec.create_replication_group(
        ReplicationGroupId="demo", ReplicationGroupDescription="x", NumCacheClusters=2, AutomaticFailoverEnabled=True
    )
    wait_for(lambda: group_status(ec, "demo") == "available")

    def shard() -> dict[str, Any]:
        return dict(ec.describe_replication_groups(ReplicationGroupId="demo")["ReplicationGroups"][0]["NodeGroups"][0])

    first = shard()
    assert {m["ReadEndpoint"]["Address"] for m in first["NodeGroupMembers"]} == {"127.0.0.1"}
    writer, reader = connect(first["PrimaryEndpoint"]), connect(first["ReaderEndpoint"])
    writer.set("a", "1")
    assert writer.wait(1, 5000) == 1
    assert reader.get("a") == "1"
    (primary,) = service.engines("demo-001")
    os.kill(primary, signal.SIGKILL)
    wait_for(lambda: shard()["PrimaryEndpoint"] == first["ReaderEndpoint"])
    wait_for(lambda: messages(ec, "cache-cluster", "demo-001")[-1] == "Finished recovery for cache nodes 0001")
    assert connect(shard()["PrimaryEndpoint"]).get("a") == "1"
    ec.delete_replication_group(ReplicationGroupId="demo")
    wait_for(lambda: gone(ec, "group", "demo"))
    assert not service.engines()


def test_valkey_stands_in_for_redis_only_when_it_may(new_service: Callable[..., Service], ec: Any, name: str) -> None:
    wanted = {"Engine": "redis", "EngineVersion": "7.1"}
    with pytest.raises(ec.exceptions.InvalidParameterCombinationException, match=r"Cannot find version 7\.1 for redis"):
        ec.create_cache_cluster(CacheClusterId=name, **wanted)
    service = new_service(CACHEKEEP_REDIS_STAND_IN="true").start()
    ec = service.client()
    ec.create_cache_cluster(CacheClusterId="cache", **wanted)
    wait_for(lambda: cluster_status(ec, "cache") == "available")
    cluster = ec.describe_cache_clusters(CacheClusterId="cache", ShowCacheNodeInfo=True)["CacheClusters"][0]
    assert (cluster["Engine"], cluster["EngineVersion"]) == ("redis", "7.1")
    assert connect(cluster["CacheNodes"][0]["Endpoint"]).info("server")["valkey_version"].startswith("9.1.")
    first = messages(ec, "cache-cluster", "cache")[0]
    assert first.startswith("Valkey 9.1.")
    assert first.endswith("runs in place of Redis 7.1, as the setting redis_stand_in allows")
