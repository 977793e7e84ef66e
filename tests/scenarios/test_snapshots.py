"""Snapshots: taken from running caches, read back, and new caches that begin with them."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import valkey
from botocore.exceptions import ClientError, WaiterError

from .conftest import (
    Service,
    cluster_status,
    connect,
    create_cluster,
    create_group,
    gone,
    group_status,
    messages,
    wait_for,
)


def snapshot(ec: Any, name: str) -> dict[str, Any]:
    return dict(ec.describe_snapshots(SnapshotName=name, ShowNodeGroupConfig=True)["Snapshots"][0])


def take(ec: Any, name: str, **of: Any) -> dict[str, Any]:
    """A snapshot that is available, as described."""
    ec.create_snapshot(SnapshotName=name, **of)
    wait_for(lambda: snapshot(ec, name)["SnapshotStatus"] == "available", 60)
    return snapshot(ec, name)


def begin_group(ec: Any, created: list[tuple[str, str]], name: str, **more: Any) -> dict[str, Any]:
    """As create_group, with nothing in it that was not asked for."""
    ec.create_replication_group(ReplicationGroupId=name, ReplicationGroupDescription="test", **more)
    created.append(("group", name))
    wait_for(lambda: group_status(ec, name) != "creating", 60)
    return dict(ec.describe_replication_groups(ReplicationGroupId=name)["ReplicationGroups"][0])


def begin_cluster(ec: Any, created: list[tuple[str, str]], name: str, **more: Any) -> dict[str, Any]:
    """As create_cluster, with nothing in it that was not asked for."""
    ec.create_cache_cluster(CacheClusterId=name, **more)
    created.append(("cluster", name))
    wait_for(lambda: cluster_status(ec, name) != "creating", 60)
    return dict(ec.describe_cache_clusters(CacheClusterId=name, ShowCacheNodeInfo=True)["CacheClusters"][0])


def primary(group: dict[str, Any]) -> Any:
    return connect(group["NodeGroups"][0]["PrimaryEndpoint"])


def test_a_snapshot_becomes_a_new_group(ec: Any, created: list[tuple[str, str]], name: str) -> None:
    group = create_group(ec, created, name)
    client = primary(group)
    client.mset({f"key:{n}": f"value {n}" for n in range(5000)})
    client.set("soon", "1", px=1)
    client.hset("hash", mapping={"a": "1", "b": "2"})
    client.wait(1, 5000)
    begun = ec.create_snapshot(SnapshotName=f"{name}-snap", ReplicationGroupId=name)["Snapshot"]
    assert begun["SnapshotStatus"] == "creating"
    assert begun["SnapshotSource"] == "manual"
    wait_for(lambda: snapshot(ec, f"{name}-snap")["SnapshotStatus"] == "available", 60)
    taken = snapshot(ec, f"{name}-snap")
    (node,) = taken["NodeSnapshots"]
    assert node["CacheClusterId"] == f"{name}-002", "read from the replica"
    assert group_status(ec, name) == "available" == cluster_status(ec, f"{name}-001")
    told = messages(ec, "replication-group", name)
    assert f"Snapshot succeeded for snapshot with ID '{name}-snap' of replication group with ID '{name}'" in told
    client.flushall()
    again = begin_group(ec, created, f"{name}-r", SnapshotName=f"{name}-snap", NumCacheClusters=2)
    assert again["Status"] == "available"
    assert primary(again).mget("key:0", "key:4999") == ["value 0", "value 4999"]
    assert primary(again).dbsize() == 5001
    assert primary(again).hgetall("hash") == {"a": "1", "b": "2"}


@pytest.mark.slow
def test_a_cluster_keeps_its_slots_or_is_cut_anew(ec: Any, created: list[tuple[str, str]], name: str) -> None:
    """All node groups in one snapshot; into the same shape by files, into another one key by key."""
    source = begin_group(ec, created, name, NumNodeGroups=2, ReplicasPerNodeGroup=1)
    client = cluster_client(source)
    for n in range(2000):
        client.set(f"key:{n}", f"value {n}")
    taken = take(ec, f"{name}-snap", ReplicationGroupId=name)
    assert taken["NumNodeGroups"] == 2 == len(taken["NodeSnapshots"])
    assert {one["NodeGroupConfiguration"]["Slots"] for one in taken["NodeSnapshots"]} == {"0-8191", "8192-16383"}
    same = begin_group(ec, created, f"{name}-same", SnapshotName=f"{name}-snap")
    assert [shard["Slots"] for shard in same["NodeGroups"]] == ["0-8191", "8192-16383"]
    assert len(same["MemberClusters"]) == 4
    assert_has(same, 2000)
    more = {"NumNodeGroups": 3, "ReplicasPerNodeGroup": 0}
    assert_has(begin_group(ec, created, f"{name}-more", SnapshotName=f"{name}-snap", **more), 2000)
    one = begin_group(
        ec,
        created,
        f"{name}-one",
        SnapshotName=f"{name}-snap",
        ClusterMode="disabled",
        NumNodeGroups=1,
        NumCacheClusters=1,
    )
    assert primary(one).dbsize() == 2000
    assert primary(one).get("key:77") == "value 77"


def cluster_client(group: dict[str, Any]) -> Any:
    endpoint = group["ConfigurationEndpoint"]
    return valkey.ValkeyCluster(host=endpoint["Address"], port=endpoint["Port"], decode_responses=True)


def assert_has(group: dict[str, Any], keys: int) -> None:
    assert group["Status"] == "available"
    client = cluster_client(group)
    assert sum(client.dbsize(target_nodes=node) for node in client.get_primaries()) == keys
    assert client.mget_nonatomic("key:0", f"key:{keys - 1}") == ["value 0", f"value {keys - 1}"]


def test_describe_filters_and_pages(ec: Any, created: list[tuple[str, str]], name: str) -> None:
    create_cluster(ec, created, name)
    other = f"{name}-other"
    create_cluster(ec, created, other)
    names = [f"{name}-{n}" for n in range(2)]
    for one in names:
        take(ec, one, CacheClusterId=name)
    take(ec, f"{other}-0", CacheClusterId=other)

    def found(**filters: Any) -> list[str]:
        return [one["SnapshotName"] for one in ec.describe_snapshots(**filters)["Snapshots"]]

    assert found(CacheClusterId=name) == names
    assert found(CacheClusterId=name, SnapshotSource="user") == names
    assert found(CacheClusterId=name, SnapshotSource="system") == []
    assert found(SnapshotName=names[0].upper()) == names[:1]
    assert found(SnapshotName=names[0], CacheClusterId=other) == []
    assert found(ReplicationGroupId=name) == []
    shape = ec.describe_snapshots(SnapshotName=names[0])["Snapshots"][0]
    assert shape["CacheClusterId"] == name
    assert "NodeGroupConfiguration" not in shape["NodeSnapshots"][0]
    pages = ec.get_paginator("describe_snapshots").paginate(PaginationConfig={"PageSize": 20})
    assert set(names) < {one["SnapshotName"] for one in pages.search("Snapshots")}
    for bad, code in (
        ({"MaxRecords": 51}, "InvalidParameterValue"),
        ({"SnapshotSource": "mine"}, "InvalidParameterValue"),
        ({"SnapshotName": "nobody"}, "SnapshotNotFoundFault"),
        ({"CacheClusterId": "nobody"}, "CacheClusterNotFound"),
    ):
        assert refusal(ec.describe_snapshots, **bad)[0] == code


def refusal(operation: Callable[..., Any], **params: Any) -> tuple[str, str]:
    """Code and text of the fault that the call gets."""
    with pytest.raises(ClientError) as refused:
        operation(**params)
    error = refused.value.response["Error"]
    return error["Code"], error["Message"]


def test_what_a_create_refuses(service: Service, ec: Any, created: list[tuple[str, str]], name: str) -> None:
    create_cluster(ec, created, name)
    create_cluster(ec, created, f"{name}-m", Engine="memcached")
    create = ec.create_snapshot
    assert refusal(create, SnapshotName="a")[0] == "InvalidParameterCombination"
    assert refusal(create, SnapshotName="a", CacheClusterId=name, ReplicationGroupId="b")[0] == (
        "InvalidParameterCombination"
    )
    assert refusal(create, SnapshotName="a--b", CacheClusterId=name)[0] == "InvalidParameterValue"
    assert refusal(create, SnapshotName="a", CacheClusterId="nobody")[0] == "CacheClusterNotFound"
    assert refusal(create, SnapshotName="a", ReplicationGroupId="nobody")[0] == "ReplicationGroupNotFoundFault"
    assert refusal(create, SnapshotName="a", CacheClusterId=f"{name}-m")[0] == "SnapshotFeatureNotSupportedFault"
    # An engine that does not answer: whatever the machine does meanwhile, the snapshot is not done.
    (pid,) = service.engines(name)
    os.kill(pid, signal.SIGSTOP)
    ec.create_snapshot(SnapshotName=f"{name}-s", CacheClusterId=name)
    # While it is taken nothing else may be done with its source, nor with itself.
    assert refusal(create, SnapshotName="a", CacheClusterId=name)[0] == "InvalidCacheClusterState"
    assert refusal(ec.delete_cache_cluster, CacheClusterId=name)[0] == "InvalidCacheClusterState"
    assert refusal(ec.reboot_cache_cluster, CacheClusterId=name, CacheNodeIdsToReboot=["0001"])[0] == (
        "InvalidCacheClusterState"
    )
    assert refusal(ec.delete_snapshot, SnapshotName=f"{name}-s")[0] == "InvalidSnapshotState"
    assert cluster_status(ec, name) == "snapshotting"
    os.kill(pid, signal.SIGCONT)
    wait_for(lambda: snapshot(ec, f"{name}-s")["SnapshotStatus"] == "available", 60)
    assert refusal(create, SnapshotName=f"{name}-s", CacheClusterId=name)[0] == "SnapshotAlreadyExistsFault"
    begin = ec.create_cache_cluster
    assert "not found" in refusal(begin, CacheClusterId="x", SnapshotName="nobody")[1]
    taken = f"{name}-s"
    assert refusal(begin, CacheClusterId="x", SnapshotName=taken, EngineVersion="8.1")[1].count("RDB version 80")
    assert refusal(begin, CacheClusterId="x", SnapshotName=taken, Engine="memcached")[0] == (
        "InvalidParameterCombination"
    )
    arn = ["arn:aws:s3:::nobody/x.rdb"]
    assert "bucket nobody does not exist" in refusal(begin, CacheClusterId="x", Engine="valkey", SnapshotArns=arn)[1]


def test_a_final_snapshot_comes_before_the_end(ec: Any, created: list[tuple[str, str]], name: str) -> None:
    group = create_group(ec, created, name)
    primary(group).set("a", "1")
    answer = ec.delete_replication_group(ReplicationGroupId=name, FinalSnapshotIdentifier=f"{name}-last")
    assert answer["ReplicationGroup"]["Status"] == "deleting"
    wait_for(lambda: gone(ec, "group", name), 60)
    taken = snapshot(ec, f"{name}-last")
    assert taken["SnapshotStatus"] == "available"
    assert taken["NodeSnapshots"][0]["CacheClusterId"] == f"{name}-001", "the primary has the freshest data"
    alone = begin_cluster(ec, created, f"{name}-c", SnapshotName=f"{name}-last")
    assert connect(alone["CacheNodes"][0]["Endpoint"]).get("a") == "1"
    assert alone["Engine"] == "valkey"
    ec.delete_cache_cluster(CacheClusterId=f"{name}-c", FinalSnapshotIdentifier=f"{name}-end")
    wait_for(lambda: gone(ec, "cluster", f"{name}-c"), 60)
    assert snapshot(ec, f"{name}-end")["SnapshotStatus"] == "available"


@pytest.mark.slow
def test_copies_exports_and_files(new_service: Callable[..., Service], tmp_path: Path) -> None:
    bucket = tmp_path / "bucket"
    service = new_service(CACHEKEEP_BUCKETS=f"files={bucket}").start()
    ec, created = service.client(), list[tuple[str, str]]()
    cluster = create_cluster(ec, created, "one")
    connect(cluster["CacheNodes"][0]["Endpoint"]).mset({f"k{n}": "v" * n for n in range(500)})
    take(ec, "first", CacheClusterId="one")
    ec.copy_snapshot(SourceSnapshotName="first", TargetSnapshotName="second")
    wait_for(lambda: snapshot(ec, "second")["SnapshotStatus"] == "available", 60)
    assert snapshot(ec, "first")["SnapshotStatus"] == "available"
    ec.delete_snapshot(SnapshotName="first")
    wait_for(lambda: refused(ec, "first"))
    # The data is there for as long as anybody names it, and any command reads it.
    (folder,) = [path for path in (service.state_dir / "snapshots").iterdir() if path.is_dir()]
    assert (
        subprocess.run(
            [sys.executable, "-m", "cachekeep", "backup", "verify", str(folder.parent)], check=False
        ).returncode
        == 0
    )
    unknown = refusal(ec.copy_snapshot, SourceSnapshotName="second", TargetSnapshotName="x", TargetBucket="nobody")
    assert unknown[0] == "InvalidParameterValue"
    ec.copy_snapshot(SourceSnapshotName="second", TargetSnapshotName="out", TargetBucket="files")
    wait_for(lambda: snapshot(ec, "second")["SnapshotStatus"] == "available", 60)
    assert (bucket / "out-0001.rdb").read_bytes().startswith(b"VALKEY080")
    ec.copy_snapshot(SourceSnapshotName="second", TargetSnapshotName="out", TargetBucket="files")
    wait_for(lambda: "already contains an object" in messages(ec, "cache-cluster", "one")[-1], 60)
    arn = ["arn:aws:s3:::files/out-0001.rdb"]
    two = create_cluster(ec, created, "two", SnapshotArns=arn)
    assert two["CacheClusterStatus"] == "available"
    assert connect(two["CacheNodes"][0]["Endpoint"]).dbsize() == 500
    ec.delete_snapshot(SnapshotName="second")
    wait_for(lambda: refused(ec, "second"))
    wait_for(lambda: not [path for path in (service.state_dir / "snapshots").iterdir() if path.is_dir()])
    wait_for(lambda: not list((service.state_dir / "restores").iterdir()))


@pytest.mark.slow
def test_the_named_replica_and_the_quota(new_service: Callable[..., Service]) -> None:
    service = new_service(CACHEKEEP_SNAPSHOTS_PER_DAY="1").start()
    ec = service.client()
    group = create_group(ec, [], "grp", NumCacheClusters=3)
    # Nobody waits for the replicas, which synchronised a moment ago: what was acknowledged is in the snapshot.
    primary(group).set("a", "1")
    changed = ec.modify_replication_group(ReplicationGroupId="grp", SnapshottingClusterId="grp-002")
    assert changed["ReplicationGroup"]["SnapshottingClusterId"] == "grp-002"
    taken = take(ec, "one", ReplicationGroupId="grp")
    assert taken["NodeSnapshots"][0]["CacheClusterId"] == "grp-002"
    assert refusal(ec.create_snapshot, SnapshotName="two", ReplicationGroupId="grp")[0] == "SnapshotQuotaExceededFault"
    assert refusal(ec.copy_snapshot, SourceSnapshotName="one", TargetSnapshotName="two")[0] == (
        "SnapshotQuotaExceededFault"
    )
    # An ARN of a snapshot is as good as its name.
    again = begin_cluster(ec, [], "again", SnapshotArns=[taken["ARN"]])
    assert connect(again["CacheNodes"][0]["Endpoint"]).get("a") == "1"


@pytest.mark.slow
def test_files_that_are_none(new_service: Callable[..., Service], tmp_path: Path) -> None:
    bucket = tmp_path / "bucket"
    service = new_service(CACHEKEEP_BUCKETS=f"files=file://{bucket}").start()
    ec, created = service.client(), list[tuple[str, str]]()
    cluster = create_cluster(ec, created, "one")
    connect(cluster["CacheNodes"][0]["Endpoint"]).mset({f"k{n}": "v" * n for n in range(500)})
    take(ec, "second", CacheClusterId="one")
    ec.copy_snapshot(SourceSnapshotName="second", TargetSnapshotName="out", TargetBucket="files")
    wait_for(lambda: snapshot(ec, "second")["SnapshotStatus"] == "available", 60)
    (bucket / "cut.rdb").write_bytes((bucket / "out-0001.rdb").read_bytes()[:5000])
    (bucket / "no.rdb").write_bytes(b"nothing of the kind")
    for number, (file, words) in enumerate(
        (("cut", "did not start"), ("no", "no RDB file"), ("absent", "not contain"))
    ):
        bad = f"bad{number}"
        ec.create_cache_cluster(CacheClusterId=bad, Engine="valkey", SnapshotArns=[f"arn:aws:s3:::files/{file}.rdb"])
        wait_for(lambda bad=bad: cluster_status(ec, bad) == "restore-failed", 60)
        with pytest.raises(WaiterError, match="terminal failure"):
            ec.get_waiter("cache_cluster_available").wait(CacheClusterId=bad)
        assert any(words in text for text in messages(ec, "cache-cluster", bad)), messages(ec, "cache-cluster", bad)
    assert connect(cluster["CacheNodes"][0]["Endpoint"]).dbsize() == 500
    # Several files, or another number of node groups: read key by key.
    two = begin_group(
        ec,
        created,
        "two",
        SnapshotArns=["arn:aws:s3:::files/out-0001.rdb"],
        NumNodeGroups=2,
        ReplicasPerNodeGroup=0,
    )
    client = cluster_client(two)
    assert sum(client.dbsize(target_nodes=node) for node in client.get_primaries()) == 500


def refused(ec: Any, name: str) -> bool:
    try:
        snapshot(ec, name)
    except ec.exceptions.SnapshotNotFoundFault:
        return True
    return False


def test_daily_snapshots_come_and_go(ec: Any, created: list[tuple[str, str]], name: str) -> None:
    now = datetime.now(UTC)
    window = f"{now - timedelta(minutes=5):%H:%M}-{now + timedelta(minutes=60):%H:%M}"
    create_cluster(ec, created, name, SnapshotRetentionLimit=2, SnapshotWindow=window)

    def daily() -> list[dict[str, Any]]:
        return list(ec.describe_snapshots(CacheClusterId=name, SnapshotSource="system")["Snapshots"])

    found = wait_for(lambda: [one for one in daily() if one["SnapshotStatus"] == "available"], 60)
    assert [one["SnapshotName"].rpartition(f"{name}-")[0] for one in found] == ["automatic."]
    assert found[0]["SnapshotSource"] == "automated"
    assert found[0]["SnapshotRetentionLimit"] == 2
    ec.modify_cache_cluster(CacheClusterId=name, SnapshotRetentionLimit=0)
    assert len(daily()) == 1, "one a day, and switching them off removes none"
    ec.delete_cache_cluster(CacheClusterId=name)
    wait_for(lambda: gone(ec, "cluster", name))
    wait_for(lambda: refused(ec, found[0]["SnapshotName"]), 60)
