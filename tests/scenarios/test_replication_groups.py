"""Replication groups end to end: boto3 asks, engines answer."""

from __future__ import annotations

import os
import signal
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import valkey.exceptions

from .conftest import (
    Service,
    cluster_status,
    connect,
    create_group,
    gone,
    group_status,
    is_running,
    messages,
    wait_for,
)

Created = list[tuple[str, str]]


def node_group(group: dict[str, Any]) -> dict[str, Any]:
    return dict(group["NodeGroups"][0])


def test_replicas_really_replicate(ec: Any, created: Created, name: str) -> None:
    group = create_group(ec, created, name, NumCacheClusters=3, AutomaticFailoverEnabled=True)
    assert group["Status"] == "available"
    shard = node_group(group)
    writer, reader = connect(shard["PrimaryEndpoint"]), connect(shard["ReaderEndpoint"])
    writer.set("greeting", "hello")
    assert writer.wait(2, 5000) == 2
    assert reader.get("greeting") == "hello"
    assert writer.role()[0] == "master"
    assert reader.role()[0] == "slave"
    with pytest.raises(valkey.exceptions.ReadOnlyError):
        reader.set("greeting", "no")
    for member in shard["NodeGroupMembers"]:
        node = connect(member["ReadEndpoint"])
        assert node.get("greeting") == "hello"
        assert node.role()[0] == ("master" if member["CurrentRole"] == "primary" else "slave")


def test_a_member_dies_and_comes_back_as_a_replica(ec: Any, created: Created, name: str, service: Service) -> None:
    group = create_group(ec, created, name, NumCacheClusters=3, AutomaticFailoverEnabled=True)
    shard = node_group(group)
    writer = connect(shard["PrimaryEndpoint"])
    for n in range(100):
        writer.set(f"key{n}", n)
    assert writer.wait(2, 5000) == 2
    (pid,) = service.engines(f"{name}-001")
    os.kill(pid, signal.SIGKILL)

    def moved() -> bool:
        now = node_group(ec.describe_replication_groups(ReplicationGroupId=name)["ReplicationGroups"][0])
        roles = {m["CacheClusterId"]: m["CurrentRole"] for m in now["NodeGroupMembers"]}
        return roles[f"{name}-001"] == "replica" and sorted(roles.values()) == ["primary", "replica", "replica"]

    wait_for(moved)
    wait_for(lambda: messages(ec, "cache-cluster", f"{name}-001")[-1:] == ["Finished recovery for cache nodes 0001"])
    after = ec.describe_replication_groups(ReplicationGroupId=name)["ReplicationGroups"][0]
    assert node_group(after)["PrimaryEndpoint"] == shard["PrimaryEndpoint"]
    writer = connect(shard["PrimaryEndpoint"])
    assert writer.role()[0] == "master"
    assert writer.dbsize() == 100
    writer.set("after", "1")
    assert writer.wait(2, 5000) == 2
    texts = messages(ec, "replication-group", name)
    assert any(text.startswith(f"Failover from primary node {name}-001 to replica node") for text in texts)


def test_delete_leaves_no_process_and_no_folder(ec: Any, created: Created, name: str, service: Service) -> None:
    create_group(ec, created, name)
    pids = [*service.engines(f"{name}-001"), *service.engines(f"{name}-002")]
    assert len(pids) == 2
    ec.delete_replication_group(ReplicationGroupId=name)
    wait_for(lambda: gone(ec, "group", name))
    assert not any(is_running(pid) for pid in pids)
    assert not list(service.nodes_root.glob(f"*/{name}-*"))
    assert f"Replication group {name} deleted" in messages(ec, "replication-group", name)


def test_delete_during_create_does_not_resurrect(ec: Any, created: Created, name: str, service: Service) -> None:
    created.append(("group", name))
    ec.create_replication_group(ReplicationGroupId=name, ReplicationGroupDescription="x", NumCacheClusters=3)
    ec.delete_replication_group(ReplicationGroupId=name)
    wait_for(lambda: gone(ec, "group", name))
    assert not service.engines(f"{name}-001")
    assert not list(service.nodes_root.glob(f"*/{name}-*"))
    assert group_status_or_none(ec, name) is None


def group_status_or_none(ec: Any, name: str) -> str | None:
    return None if gone(ec, "group", name) else group_status(ec, name)


def test_events_tell_what_happened(ec: Any, created: Created, name: str) -> None:
    create_group(ec, created, name)
    assert messages(ec, "replication-group", name) == [f"Replication group {name} created"]
    assert messages(ec, "cache-cluster", f"{name}-002") == [
        "Cache cluster created",
        "Added cache node 0001 in availability zone us-east-1a",
    ]


def test_node_type_changes_maxmemory_at_once_or_in_the_window(ec: Any, created: Created, name: str) -> None:
    group = create_group(ec, created, name, CacheNodeType="cache.t4g.micro")
    engine = connect(node_group(group)["PrimaryEndpoint"])
    before = int(engine.config_get("maxmemory")["maxmemory"])
    answer = ec.modify_replication_group(
        ReplicationGroupId=name, CacheNodeType="cache.t4g.small", ApplyImmediately=False
    )["ReplicationGroup"]
    assert answer["CacheNodeType"] == "cache.t4g.micro"
    member = ec.describe_cache_clusters(CacheClusterId=f"{name}-002")["CacheClusters"][0]
    assert member["PendingModifiedValues"] == {"CacheNodeType": "cache.t4g.small"}
    assert int(engine.config_get("maxmemory")["maxmemory"]) == before
    ec.modify_replication_group(ReplicationGroupId=name, ApplyImmediately=True)
    wait_for(lambda: group_status(ec, name) == "available")
    after = ec.describe_replication_groups(ReplicationGroupId=name)["ReplicationGroups"][0]
    assert after["CacheNodeType"] == "cache.t4g.small"
    assert after["PendingModifiedValues"] == {}
    assert int(engine.config_get("maxmemory")["maxmemory"]) > 2 * before


def test_a_node_type_that_the_data_does_not_fit_is_taken_back(ec: Any, created: Created, name: str) -> None:
    group = create_group(ec, created, name, CacheNodeType="cache.t4g.small")
    engine = connect(node_group(group)["PrimaryEndpoint"])
    before = engine.config_get("maxmemory")["maxmemory"]
    for n in range(450):
        engine.set(f"big{n}", b"x" * (1 << 20))
    ec.modify_replication_group(ReplicationGroupId=name, CacheNodeType="cache.t4g.micro", ApplyImmediately=True)
    wait_for(lambda: group_status(ec, name) == "available")
    after = ec.describe_replication_groups(ReplicationGroupId=name)["ReplicationGroups"][0]
    assert after["CacheNodeType"] == "cache.t4g.small"
    assert engine.dbsize() == 450
    assert engine.config_get("maxmemory")["maxmemory"] == before
    texts = messages(ec, "replication-group", name)
    assert any(t.startswith("Failed applying modification to cache node type to cache.t4g.micro.") for t in texts)


def test_the_window_applies_what_waits(ec: Any, created: Created, name: str) -> None:
    group = create_group(ec, created, name)
    engine = connect(node_group(group)["PrimaryEndpoint"])
    before = int(engine.config_get("maxmemory")["maxmemory"])
    ec.modify_replication_group(ReplicationGroupId=name, CacheNodeType="cache.t4g.small")
    # A window that is open now: the change must come without another request.
    now = datetime.now(UTC)
    start, end = now - timedelta(minutes=30), now + timedelta(minutes=60)
    window = f"{start:%a}:{start:%H:%M}-{end:%a}:{end:%H:%M}".lower()
    ec.modify_replication_group(ReplicationGroupId=name, PreferredMaintenanceWindow=window)
    wait_for(lambda: int(engine.config_get("maxmemory")["maxmemory"]) > 2 * before)
    wait_for(lambda: group_status(ec, name) == "available")
    assert "Applying modifications in the maintenance window" in messages(ec, "replication-group", name)


def test_a_retained_primary_lives_on_as_a_cluster_of_its_own(
    ec: Any, created: Created, name: str, service: Service
) -> None:
    group = create_group(ec, created, name)
    shard = node_group(group)
    connect(shard["PrimaryEndpoint"]).set("kept", "yes")
    (pid,) = service.engines(f"{name}-001")
    ec.delete_replication_group(ReplicationGroupId=name, RetainPrimaryCluster=True)
    created.append(("cluster", f"{name}-001"))
    wait_for(lambda: gone(ec, "group", name))
    wait_for(lambda: cluster_status(ec, f"{name}-001") == "available")
    cluster = ec.describe_cache_clusters(CacheClusterId=f"{name}-001", ShowCacheNodeInfo=True)["CacheClusters"][0]
    assert "ReplicationGroupId" not in cluster
    assert connect(cluster["CacheNodes"][0]["Endpoint"]).get("kept") == "yes"
    assert list(service.engines(f"{name}-001")) == [pid]
    assert gone(ec, "cluster", f"{name}-002")
    with pytest.raises(valkey.exceptions.ConnectionError):
        connect(shard["PrimaryEndpoint"]).ping()


def test_a_replica_is_added_and_removed(ec: Any, created: Created, name: str) -> None:
    group = create_group(ec, created, name)
    writer = connect(node_group(group)["PrimaryEndpoint"])
    writer.set("here", "1")
    ec.create_cache_cluster(CacheClusterId=f"{name}-extra", ReplicationGroupId=name)
    assert group_status(ec, name) == "modifying"
    wait_for(lambda: group_status(ec, name) == "available")
    extra = ec.describe_cache_clusters(CacheClusterId=f"{name}-extra", ShowCacheNodeInfo=True)["CacheClusters"][0]
    assert extra["CacheClusterStatus"] == "available"
    assert connect(extra["CacheNodes"][0]["Endpoint"]).get("here") == "1"
    members = ec.describe_replication_groups(ReplicationGroupId=name)["ReplicationGroups"][0]["MemberClusters"]
    assert members == [f"{name}-001", f"{name}-002", f"{name}-extra"]
    with pytest.raises(ec.exceptions.InvalidCacheClusterStateFault, match="serving as primary"):
        ec.delete_cache_cluster(CacheClusterId=f"{name}-001")
    ec.delete_cache_cluster(CacheClusterId=f"{name}-002")
    wait_for(lambda: gone(ec, "cluster", f"{name}-002"))
    wait_for(lambda: group_status(ec, name) == "available")
    shard = node_group(ec.describe_replication_groups(ReplicationGroupId=name)["ReplicationGroups"][0])
    assert connect(shard["ReaderEndpoint"]).get("here") == "1"
    assert connect(shard["ReaderEndpoint"]).role()[0] == "slave"


def test_a_lone_primary_holds_the_reader_endpoint_too(ec: Any, created: Created, name: str) -> None:
    shard = node_group(create_group(ec, created, name, NumCacheClusters=1))
    connect(shard["PrimaryEndpoint"]).set("a", "1")
    assert connect(shard["ReaderEndpoint"]).get("a") == "1"


def test_the_stock_waiters_end(ec: Any, created: Created, name: str) -> None:
    created.append(("group", name))
    ec.create_replication_group(ReplicationGroupId=name, ReplicationGroupDescription="x", NumCacheClusters=2)
    config = {"Delay": 1, "MaxAttempts": 20}
    ec.get_waiter("replication_group_available").wait(ReplicationGroupId=name, WaiterConfig=config)
    ec.get_waiter("cache_cluster_available").wait(CacheClusterId=f"{name}-002", WaiterConfig=config)
    ec.delete_replication_group(ReplicationGroupId=name)
    ec.get_waiter("replication_group_deleted").wait(ReplicationGroupId=name, WaiterConfig=config)
    ec.get_waiter("cache_cluster_deleted").wait(CacheClusterId=f"{name}-002", WaiterConfig=config)


def test_regions_are_separate(service: Service, ec: Any, created: Created, name: str) -> None:
    create_group(ec, created, name, NumCacheClusters=1)
    other = service.client(region="eu-west-1")
    assert gone(other, "group", name)
    group = ec.describe_replication_groups(ReplicationGroupId=name)["ReplicationGroups"][0]
    assert group["ARN"] == f"arn:aws:elasticache:us-east-1:000000000000:replicationgroup:{name}"
