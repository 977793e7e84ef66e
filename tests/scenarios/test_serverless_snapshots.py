"""Snapshots of serverless caches on real engines: taken, copied, exported, at the end of a cache and at its begin."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import valkey
from botocore.exceptions import ClientError
from valkey.cluster import ValkeyCluster

from tests.conftest import _locked_range

from .conftest import Service, connect, gone, group_status, messages, wait_for

ARN = "arn:aws:elasticache:us-east-1:000000000000"
# Small enough that a test sees growth within seconds.
SMALL = {
    "CACHEKEEP_SERVERLESS_HEADROOM_MB": "16",
    "CACHEKEEP_SERVERLESS_SHARD_MB": "40",
    "CACHEKEEP_SERVERLESS_CALM": "3600",
}


@pytest.fixture(scope="module")
def bucket(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("bucket")


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory, bucket: Path) -> Iterator[Service]:
    """A service whose serverless caches scale in small steps."""
    with _locked_range() as network:
        settings = {**SMALL, "CACHEKEEP_BUCKETS": f"files={bucket}"}
        it = Service(tmp_path_factory.mktemp("serverless") / "state", network, **settings)
        yield it.start()
        it.dispose()


@pytest.fixture
def ec(small: Service) -> Iterator[Any]:
    """Its client; caches that a test leaves are deleted and waited for."""
    client = small.client()
    yield client
    for group in client.describe_replication_groups()["ReplicationGroups"]:
        client.delete_replication_group(ReplicationGroupId=group["ReplicationGroupId"])
        wait_for(lambda name=group["ReplicationGroupId"]: gone(client, "group", name), 40.0)
    wait_for(lambda: _all_deleted(client), 60.0)


def _all_deleted(ec: Any) -> bool:
    caches = ec.describe_serverless_caches()["ServerlessCaches"]
    for cache in caches:
        with suppress(ec.exceptions.InvalidServerlessCacheStateFault, ec.exceptions.ServerlessCacheNotFoundFault):
            ec.delete_serverless_cache(ServerlessCacheName=cache["ServerlessCacheName"])
    return not caches


def shown(ec: Any, name: str) -> dict[str, Any]:
    return dict(ec.describe_serverless_caches(ServerlessCacheName=name)["ServerlessCaches"][0])


def create(ec: Any, name: str, **more: Any) -> dict[str, Any]:
    """The cache as described once it is no more being created."""
    ec.create_serverless_cache(ServerlessCacheName=name, **{"Engine": "valkey", **more})
    wait_for(lambda: shown(ec, name)["Status"] != "CREATING", 60.0)
    return shown(ec, name)


def status(ec: Any, name: str) -> str:
    """`gone` when there is no such cache."""
    try:
        return str(shown(ec, name)["Status"])
    except ec.exceptions.ServerlessCacheNotFoundFault:
        return "gone"


def snapshot(ec: Any, name: str) -> dict[str, Any]:
    found = ec.describe_serverless_cache_snapshots(ServerlessCacheSnapshotName=name)
    return dict(found["ServerlessCacheSnapshots"][0])


def available(ec: Any, name: str) -> dict[str, Any]:
    """Once it is; what comes of it."""
    wait_for(lambda: snapshot(ec, name)["Status"] == "available", 60.0)
    return snapshot(ec, name)


def take(ec: Any, name: str, cache: str) -> dict[str, Any]:
    ec.create_serverless_cache_snapshot(ServerlessCacheSnapshotName=name, ServerlessCacheName=cache)
    return available(ec, name)


def no_snapshot(ec: Any, name: str) -> bool:
    try:
        snapshot(ec, name)
    except ec.exceptions.ServerlessCacheSnapshotNotFoundFault:
        return True
    return False


def code_of(operation: Callable[..., Any], **params: Any) -> str:
    """Of the fault that the call gets."""
    with pytest.raises(ClientError) as refused:
        operation(**params)
    return str(refused.value.response["Error"]["Code"])


def test_a_cache_comes_back_from_its_final_snapshot(ec: Any) -> None:
    client = connect(create(ec, "carts", SnapshotRetentionLimit=0)["Endpoint"])
    for n in range(500):
        client.set(f"key:{n}", f"value {n}")
    client.hset("hash", mapping={"a": "1"})
    begun = ec.create_serverless_cache_snapshot(
        ServerlessCacheSnapshotName="First", ServerlessCacheName="carts", Tags=[{"Key": "team", "Value": "a"}]
    )["ServerlessCacheSnapshot"]
    assert (begun["Status"], begun["SnapshotType"], begun["ARN"]) == (
        "creating",
        "manual",
        f"{ARN}:serverlesscachesnapshot:first",
    )
    taken = available(ec, "first")
    assert int(taken["BytesUsedForCache"]) > 1_000_000
    config = taken["ServerlessCacheConfiguration"]
    assert (config["ServerlessCacheName"], config["Engine"]) == ("carts", "valkey")
    assert "ExpiryTime" not in taken
    told = messages(ec, "serverless-cache-snapshot", "first")
    assert told == ["Snapshot succeeded for snapshot with ID 'first' of serverless cache with ID 'carts'"]
    assert ec.list_tags_for_resource(ResourceName=taken["ARN"])["TagList"] == [{"Key": "team", "Value": "a"}]
    # What is written after the snapshot is in the final one only.
    client.set("late", "1")
    ended = ec.delete_serverless_cache(ServerlessCacheName="carts", FinalSnapshotName="last")["ServerlessCache"]
    assert ended["Status"] == "DELETING"
    wait_for(lambda: status(ec, "carts") == "gone", 60.0)
    last = available(ec, "last")
    again = create(ec, "again", SnapshotArnsToRestore=[last["ARN"]])
    assert again["Status"] == "AVAILABLE"
    back = connect(again["Endpoint"])
    assert (back.dbsize(), back.get("key:499"), back.get("late")) == (502, "value 499", "1")
    assert back.hgetall("hash") == {"a": "1"}
    available(ec, "last")
    assert names(ec) == {"first", "last"} == names(ec, ServerlessCacheName="carts")
    assert ec.describe_snapshots()["Snapshots"] == []
    for name in ("first", "last"):
        ec.delete_serverless_cache_snapshot(ServerlessCacheSnapshotName=name)
    wait_for(lambda: names(ec) == set(), 40.0)


def names(ec: Any, **filters: Any) -> set[str]:
    found = ec.describe_serverless_cache_snapshots(**filters)["ServerlessCacheSnapshots"]
    return {one["ServerlessCacheSnapshotName"] for one in found}


@pytest.mark.slow
def test_copies_and_exports(small: Service, ec: Any, bucket: Path) -> None:
    client = connect(create(ec, "one")["Endpoint"])
    for n in range(100):
        client.set(f"k{n}", "v" * n)
    take(ec, "first", "one")
    copy = ec.copy_serverless_cache_snapshot(
        SourceServerlessCacheSnapshotName="first", TargetServerlessCacheSnapshotName="second"
    )["ServerlessCacheSnapshot"]
    assert (copy["ServerlessCacheSnapshotName"], copy["Status"]) == ("second", "creating")
    assert available(ec, "second")["BytesUsedForCache"] == available(ec, "first")["BytesUsedForCache"]
    ec.delete_serverless_cache_snapshot(ServerlessCacheSnapshotName="first")
    wait_for(lambda: no_snapshot(ec, "first"), 40.0)
    export = ec.export_serverless_cache_snapshot
    assert code_of(export, ServerlessCacheSnapshotName="second", S3BucketName="nobody") == "InvalidParameterValue"
    sent = export(ServerlessCacheSnapshotName="second", S3BucketName="files")["ServerlessCacheSnapshot"]
    assert sent["Status"] == "exporting"
    available(ec, "second")
    assert (bucket / "second-0001.rdb").read_bytes().startswith(b"VALKEY080")
    # The file is as good as the snapshot.
    two = create(ec, "two", SnapshotArnsToRestore=["arn:aws:s3:::files/second-0001.rdb"])
    assert connect(two["Endpoint"]).dbsize() == 100
    group = ec.create_replication_group(
        ReplicationGroupId="grp",
        ReplicationGroupDescription="x",
        ServerlessCacheSnapshotName="second",
        CacheNodeType="cache.t4g.micro",
        ReplicasPerNodeGroup=0,
    )["ReplicationGroup"]
    assert group["ClusterEnabled"]
    wait_for(lambda: group_status(ec, "grp") == "available", 60.0)
    endpoint = ec.describe_replication_groups(ReplicationGroupId="grp")["ReplicationGroups"][0]["ConfigurationEndpoint"]
    assert connect(endpoint).dbsize() == 100
    (bucket / "none.rdb").write_bytes(b"nothing of the kind")
    bad = create(ec, "bad", SnapshotArnsToRestore=["arn:aws:s3:::files/none.rdb"])
    assert bad["Status"] == "CREATE-FAILED"
    assert any("no RDB file" in text for text in messages(ec, "serverless-cache", "bad"))
    available(ec, "second")
    ec.delete_serverless_cache_snapshot(ServerlessCacheSnapshotName="second")
    wait_for(lambda: no_snapshot(ec, "second"), 40.0)
    folder = small.state_dir / "snapshots"
    wait_for(lambda: not [path for path in folder.iterdir() if path.is_dir()], 40.0)


@pytest.mark.slow
def test_daily_ones_come_and_go(ec: Any) -> None:
    at = f"{datetime.now(UTC) - timedelta(minutes=5):%H:%M}"
    cache = create(ec, "daily", SnapshotRetentionLimit=2, DailySnapshotTime=at)
    assert (cache["SnapshotRetentionLimit"], cache["DailySnapshotTime"]) == (2, at)
    (name,) = wait_for(lambda: names(ec, ServerlessCacheName="daily", SnapshotType="automated"), 60.0)
    assert name.startswith("automatic.daily-")
    taken = available(ec, name)
    assert timedelta(days=1, hours=23) < taken["ExpiryTime"] - taken["CreateTime"] <= timedelta(days=2)
    assert names(ec, SnapshotType="manual") == set()
    ec.modify_serverless_cache(ServerlessCacheName="daily", SnapshotRetentionLimit=0)
    wait_for(lambda: shown(ec, "daily")["Status"] == "AVAILABLE", 40.0)
    assert names(ec) == {name}, "one a day, and switching them off removes none"
    ec.delete_serverless_cache(ServerlessCacheName="daily")
    wait_for(lambda: no_snapshot(ec, name), 60.0)


@pytest.mark.slow
def test_all_shards_come_back(ec: Any) -> None:
    """A cache of several shards, and one that is too small for them; a snapshot of a group as well."""
    cache = create(ec, "wide")
    client = ValkeyCluster(host=cache["Endpoint"]["Address"], port=cache["Endpoint"]["Port"], socket_timeout=10)
    for n in range(60):
        wait_for(lambda n=n: _written(client, f"key:{n}"), 40.0)
    wait_for(lambda: len(connect(cache["Endpoint"]).execute_command("CLUSTER SHARDS")) > 1, 60.0)
    began = {"ServerlessCacheSnapshotName": "wide", "ServerlessCacheName": "wide"}
    wait_for(lambda: _began(ec, began), 60.0)
    taken = available(ec, "wide")
    assert int(taken["BytesUsedForCache"]) > 60_000_000
    again = create(ec, "again", SnapshotArnsToRestore=[taken["ARN"]])
    assert again["Status"] == "AVAILABLE"
    client = ValkeyCluster(host=again["Endpoint"]["Address"], port=again["Endpoint"]["Port"], socket_timeout=10)
    assert len(client.get_primaries()) > 1
    assert sum(client.dbsize(target_nodes=node) for node in client.get_primaries()) == 60


def _began(ec: Any, asked: dict[str, str]) -> bool:
    """Not while slots move."""
    try:
        return bool(ec.create_serverless_cache_snapshot(**asked))
    except ec.exceptions.InvalidServerlessCacheStateFault:
        return False


def _written(client: Any, key: str) -> bool:
    try:
        return bool(client.set(key, os.urandom(10) * 100_000))
    except valkey.exceptions.OutOfMemoryError:
        return False


@pytest.mark.slow
def test_while_it_is_taken_the_cache_grows_and_is_not_deleted(small: Service, ec: Any) -> None:
    cache = create(ec, "busy")
    client = connect(cache["Endpoint"])
    client.set("a", "1")
    client.wait(1, 10_000)
    # A replica that does not answer: whatever the machine does meanwhile, the snapshot is not done.
    replicas = [pid for pid, folder in small.engines().items() if "serverless--busy-0001-002" in folder]
    (pid,) = replicas
    os.kill(pid, signal.SIGSTOP)
    try:
        ec.create_serverless_cache_snapshot(ServerlessCacheSnapshotName="s", ServerlessCacheName="busy")
        assert shown(ec, "busy")["Status"] == "AVAILABLE"
        asked = {"ServerlessCacheName": "busy"}
        state = "InvalidServerlessCacheStateFault"
        assert code_of(ec.delete_serverless_cache, **asked) == state
        assert code_of(ec.delete_serverless_cache, **asked, FinalSnapshotName="f") == state
        assert code_of(ec.create_serverless_cache_snapshot, **asked, ServerlessCacheSnapshotName="t") == state
        delete = ec.delete_serverless_cache_snapshot
        assert code_of(delete, ServerlessCacheSnapshotName="s") == "InvalidServerlessCacheSnapshotStateFault"
        before = int(client.info("memory")["maxmemory"])
        for n in range(before // 1_500_000):
            wait_for(lambda n=n: _written(client, f"key:{n}"), 40.0)
        wait_for(lambda: int(client.info("memory")["maxmemory"]) > before, 40.0)
    finally:
        os.kill(pid, signal.SIGCONT)
    available(ec, "s")
    again = create(ec, "again", SnapshotArnsToRestore=[f"{ARN}:serverlesscachesnapshot:s"])
    assert connect(again["Endpoint"]).get("a") == "1"


@pytest.mark.slow
def test_a_service_killed_during_a_final_snapshot_loses_nothing(small: Service, ec: Any) -> None:
    """Either the cache stays, or it went after its snapshot was there."""
    cache = create(ec, "kept")
    connect(cache["Endpoint"]).set("a", "1")
    ec.delete_serverless_cache(ServerlessCacheName="kept", FinalSnapshotName="f")
    assert status(ec, "kept") in ("DELETING", "gone")
    small.kill()
    small.start()
    ended = wait_for(lambda: (state := status(ec, "kept")) != "DELETING" and state, 60.0)
    if ended == "gone":  # it had not begun to read, and did so after the start
        back = create(ec, "back", SnapshotArnsToRestore=[available(ec, "f")["ARN"]])
        assert connect(back["Endpoint"]).get("a") == "1"
    else:
        assert connect(shown(ec, "kept")["Endpoint"]).get("a") == "1"
        assert no_snapshot(ec, "f")
        assert any("was not deleted" in text for text in messages(ec, "serverless-cache", "kept"))
