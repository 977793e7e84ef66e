"""Serverless caches on real engines: created, used, grown, shrunk, limited, deleted, also when the service dies."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import valkey
from valkey.cluster import ValkeyCluster

from cachekeep.domain.engine import Engine, EngineInstall
from cachekeep.host.installs import MachineCatalogue
from tests.conftest import _locked_range

from .calm import refused
from .conftest import Service, connect, messages, wait_for

MIB = 1 << 20
COMMON = "common"
TAGS = [{"Key": "team", "Value": "a"}]
# Small enough that a test sees growth within seconds.
SMALL = {
    "CACHEKEEP_SERVERLESS_HEADROOM_MB": "16",
    "CACHEKEEP_SERVERLESS_SHARD_MB": "300",
    "CACHEKEEP_SERVERLESS_CALM": "1",
    "CACHEKEEP_AUTH_WITHOUT_TLS": "true",
}


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """A service whose serverless caches scale in small steps."""
    with _locked_range() as network:
        it = Service(tmp_path_factory.mktemp("serverless") / "state", network, **SMALL)
        yield it.start()
        it.dispose()


@pytest.fixture
def ec(small: Service) -> Iterator[Any]:
    """Its client; serverless caches that a test leaves are deleted and waited for, but for the common one."""
    client = small.client()
    yield client
    for left in names(client) - {COMMON}:
        with suppress(client.exceptions.InvalidServerlessCacheStateFault):
            client.delete_serverless_cache(ServerlessCacheName=left)
    wait_for(lambda: names(client) <= {COMMON}, 40.0)


@pytest.fixture(scope="module")
def common(small: Service) -> dict[str, Any]:
    """A cache that several tests use."""
    return create(small.client(), COMMON, Description="sessions", MajorEngineVersion="9", Tags=TAGS)


def names(ec: Any) -> set[str]:
    return {cache["ServerlessCacheName"] for cache in ec.describe_serverless_caches()["ServerlessCaches"]}


def engines(service: Service, name: str) -> dict[int, str]:
    """Processes of one serverless cache: pid -> folder."""
    return {pid: folder for pid, folder in service.engines().items() if f"/serverless--{name}" in folder}


def shown(ec: Any, name: str) -> dict[str, Any]:
    return dict(ec.describe_serverless_caches(ServerlessCacheName=name)["ServerlessCaches"][0])


def create(ec: Any, name: str, **more: Any) -> dict[str, Any]:
    """The cache as described once it is available."""
    more.setdefault("Engine", "valkey")
    made = ec.create_serverless_cache(ServerlessCacheName=name, **more)["ServerlessCache"]
    assert made["Status"] == "CREATING"
    wait_for(lambda: shown(ec, name)["Status"] == "AVAILABLE", 40.0)
    return shown(ec, name)


def cluster_client(cache: dict[str, Any]) -> ValkeyCluster:
    at = cache["Endpoint"]
    return ValkeyCluster(host=at["Address"], port=at["Port"], socket_timeout=10)


def maxmemory(cache: dict[str, Any]) -> int:
    """What the engine behind the endpoint says itself."""
    return int(connect(cache["Endpoint"]).info("memory")["maxmemory"])


def fill(client: Any, count: int, first: int = 0) -> None:
    """`count` values of a million bytes, in all slots. What is refused since there is no room yet is written again."""
    for number in range(first, first + count):
        wait_for(lambda key=f"key:{number}": _written(client, key, os.urandom(10) * 100_000), 40.0)


def _written(client: Any, key: str, value: bytes) -> bool:
    try:
        return bool(client.set(key, value))
    except valkey.exceptions.OutOfMemoryError:
        return False


def test_a_serverless_cache_serves_plain_and_cluster_clients(small: Service, ec: Any, common: dict[str, Any]) -> None:
    cache, name = common, COMMON
    assert cache["MajorEngineVersion"] == "9"
    assert cache["FullEngineVersion"].startswith("9.")
    assert cache["ARN"].endswith(f":serverlesscache:{name}")
    assert cache["Endpoint"]["Port"] == 6379
    plain = connect(cache["Endpoint"])
    assert plain.info("memory")["maxmemory_policy"] == "volatile-lru"
    assert plain.info("memory")["maxmemory"] == 100 * 10**6
    plain.set("greeting", "hello")
    assert plain.wait(1, 10_000) == 1
    assert cluster_client(cache).get("greeting") == b"hello"
    reader = connect(cache["ReaderEndpoint"])
    assert reader.role()[0] == "slave"
    reader.readonly()
    assert reader.get("greeting") == "hello"
    assert len(engines(small, name)) == 2
    assert ec.list_tags_for_resource(ResourceName=cache["ARN"])["TagList"] == TAGS
    assert messages(ec, "serverless-cache", name)[-1] == f"Serverless cache {name} created"


@pytest.mark.slow
def test_redis_is_served_too(ec: Any, name: str, catalogue: MachineCatalogue) -> None:
    if catalogue.best(Engine.REDIS, None) is None:
        pytest.skip("needs a Redis on the machine")
    cache = create(ec, name, Engine="redis")
    client = cluster_client(cache)
    assert client.set("greeting", "hello")
    assert connect(cache["Endpoint"]).get("greeting") == "hello"
    assert cache["MajorEngineVersion"] == cache["FullEngineVersion"].partition(".")[0]
    assert maxmemory(cache) == 1024 * MIB


def test_memcached_is_one_node(small: Service, ec: Any, name: str, memcached: EngineInstall) -> None:
    cache = create(ec, name, Engine="memcached", CacheUsageLimits={"DataStorage": {"Maximum": 2, "Unit": "GB"}})
    assert cache["MajorEngineVersion"] == memcached.version.short
    assert cache["Endpoint"] == cache["ReaderEndpoint"]
    at = (cache["Endpoint"]["Address"], cache["Endpoint"]["Port"])
    with socket.create_connection(at, timeout=10) as line:
        line.sendall(b"set greeting 0 0 5\r\nhello\r\nget greeting\r\nstats\r\nquit\r\n")
        told = b"".join(iter(lambda: line.recv(65536), b"")).decode()
    assert told.startswith("STORED\r\nVALUE greeting 0 5\r\nhello\r\nEND\r\n")
    assert f"STAT limit_maxbytes {2048 * MIB}\r\n" in told
    larger = {"DataStorage": {"Maximum": 3, "Unit": "GB"}}
    asked = {"ServerlessCacheName": name, "CacheUsageLimits": larger}
    assert refused(ec, "ModifyServerlessCache", **asked)[0] == "InvalidParameterCombination"
    ec.modify_serverless_cache(ServerlessCacheName=name, Description="a")
    wait_for(lambda: shown(ec, name)["Status"] == "AVAILABLE")
    ec.delete_serverless_cache(ServerlessCacheName=name)
    wait_for(lambda: name not in names(ec), 40.0)
    assert engines(small, name) == {}


@pytest.mark.usefixtures("common")
def test_what_runs_it_is_neither_shown_nor_changed(ec: Any) -> None:
    assert ec.describe_replication_groups()["ReplicationGroups"] == []
    assert ec.describe_cache_clusters()["CacheClusters"] == []
    behind = f"serverless--{COMMON}"
    assert refused(ec, "DescribeReplicationGroups", ReplicationGroupId=behind)[0] == "ReplicationGroupNotFoundFault"
    assert refused(ec, "DeleteReplicationGroup", ReplicationGroupId=behind)[0] == "ReplicationGroupNotFoundFault"
    member = f"{behind}-0001-001"
    assert refused(ec, "DescribeCacheClusters", CacheClusterId=member)[0] == "CacheClusterNotFound"
    assert refused(ec, "DeleteCacheCluster", CacheClusterId=member)[0] == "CacheClusterNotFound"
    reboot = {"CacheClusterId": member, "CacheNodeIdsToReboot": ["0001"]}
    assert refused(ec, "RebootCacheCluster", **reboot)[0] == "CacheClusterNotFound"
    assert all("serverless--" not in event["SourceIdentifier"] for event in ec.describe_events()["Events"])


def test_delete_leaves_no_process_and_no_folder(small: Service, ec: Any, name: str) -> None:
    create(ec, name)
    gone = ec.delete_serverless_cache(ServerlessCacheName=name)["ServerlessCache"]
    assert gone["Status"] == "DELETING"
    assert refused(ec, "DeleteServerlessCache", ServerlessCacheName=name)[0] == "InvalidServerlessCacheStateFault"
    wait_for(lambda: name not in names(ec), 40.0)
    assert engines(small, name) == {}
    assert list(small.nodes_root.glob(f"*/serverless--{name}*/*")) == []
    assert refused(ec, "DescribeServerlessCaches", ServerlessCacheName=name)[0] == "ServerlessCacheNotFoundFault"


def test_a_user_group_guards_it(ec: Any, name: str) -> None:
    secret = f"a-long-password-of-{name}"
    ec.create_user(
        UserId=name, UserName="clerk", Engine="valkey", Passwords=[secret], AccessString="on ~cart:* +@read +@write"
    )
    ec.create_user_group(UserGroupId=name, Engine="valkey", UserIds=[name])
    wait_for(lambda: ec.describe_user_groups(UserGroupId=name)["UserGroups"][0]["Status"] == "active")
    cache = create(ec, name, UserGroupId=name)
    assert cache["UserGroupId"] == name
    (group,) = ec.describe_user_groups(UserGroupId=name)["UserGroups"]
    assert (group["ServerlessCaches"], group["ReplicationGroups"]) == ([name], [])
    with pytest.raises(valkey.exceptions.AuthenticationError):
        connect(cache["Endpoint"]).get("cart:1")
    at = cache["Endpoint"]
    clerk = valkey.Valkey(at["Address"], at["Port"], username="clerk", password=secret, socket_timeout=10)
    assert clerk.set("cart:1", "milk")
    with pytest.raises(valkey.exceptions.NoPermissionError):
        clerk.set("other", "milk")
    ec.modify_serverless_cache(ServerlessCacheName=name, RemoveUserGroup=True)
    wait_for(lambda: shown(ec, name)["Status"] == "AVAILABLE" and "UserGroupId" not in shown(ec, name))
    wait_for(lambda: _opened(cache))
    ec.delete_user_group(UserGroupId=name)


def _opened(cache: dict[str, Any]) -> bool:
    try:
        return bool(connect(cache["Endpoint"]).get("cart:1") == "milk")
    except valkey.exceptions.AuthenticationError:
        return False


def test_it_grows_with_its_data_and_shrinks_again(small: Service, ec: Any, name: str) -> None:
    cache = create(ec, name)
    before = engines(small, name)
    client = connect(cache["Endpoint"])
    fill(client, 190)
    assert maxmemory(cache) > 200 * 10**6
    assert client.dbsize() == 190
    assert client.info("stats")["evicted_keys"] == 0
    assert shown(ec, name)["Status"] == "AVAILABLE"
    client.flushall()
    wait_for(lambda: maxmemory(cache) == 100 * 10**6, 60.0)
    assert engines(small, name) == before, "no node was started anew"


def test_limits_are_changed_without_a_restart(small: Service, ec: Any, name: str) -> None:
    cache = create(ec, name, CacheUsageLimits={"DataStorage": {"Minimum": 1, "Maximum": 1, "Unit": "GB"}})
    before = engines(small, name)
    assert cache["CacheUsageLimits"] == {"DataStorage": {"Minimum": 1, "Maximum": 1, "Unit": "GB"}}
    assert maxmemory(cache) == 1024 * MIB
    limits = {"DataStorage": {"Minimum": 2, "Maximum": 3, "Unit": "GB"}, "ECPUPerSecond": {"Maximum": 5000}}
    changed = ec.modify_serverless_cache(ServerlessCacheName=name, CacheUsageLimits=limits, Description="larger")
    assert changed["ServerlessCache"]["Status"] == "MODIFYING"
    wait_for(lambda: shown(ec, name)["Status"] == "AVAILABLE")
    assert shown(ec, name)["CacheUsageLimits"] == limits
    assert shown(ec, name)["Description"] == "larger"
    assert maxmemory(cache) == 2048 * MIB
    assert engines(small, name) == before
    assert messages(ec, "serverless-cache", name)[-1] == f"Modification of serverless cache {name} completed"


@pytest.mark.slow
def test_at_the_storage_maximum_volatile_keys_go_and_then_writes_are_refused(
    new_service: Callable[..., Service], name: str
) -> None:
    """As AWS documents it: volatile-lru, then an OOM error. One shard holds all."""
    limit = {"DataStorage": {"Minimum": 1, "Maximum": 1, "Unit": "GB"}}
    cache = create(new_service().start().client(), name, CacheUsageLimits=limit)
    client = connect(cache["Endpoint"])
    client.set("volatile", b"x" * (200 * MIB), ex=3600)
    refusals = 0
    for number in range(24):
        try:
            client.set(f"kept:{number}", b"x" * (50 * MIB))
        except valkey.exceptions.OutOfMemoryError:
            refusals += 1
    assert maxmemory(cache) == 1024 * MIB
    assert refusals > 0
    assert client.get("volatile") is None
    assert client.dbsize() == 24 - refusals, "nothing that was acknowledged is gone"


@pytest.mark.slow
def test_it_gets_more_shards_and_fewer_again(small: Service, ec: Any, name: str) -> None:
    """The service dies while slots move."""
    cache = create(ec, name)
    client = cluster_client(cache)
    fill(client, 260)
    wait_for(lambda: begun(ec, name, "1 to 2"), 60.0)
    small.kill()
    small.start()
    wait_for(lambda: shards(cache) == 2, 60.0)
    assert all(client.get(f"key:{number}") for number in range(260))
    cluster_client(cache).flushall(target_nodes=ValkeyCluster.PRIMARIES)
    wait_for(lambda: begun(ec, name, "2 to 1") and shards(cache) == 1, 60.0)
    assert connect(cache["Endpoint"]).set("plain", "again")


def shards(cache: dict[str, Any]) -> int:
    """How many have slots, by the engine behind the endpoint."""
    return len([shard for shard in connect(cache["Endpoint"]).execute_command("CLUSTER", "SHARDS") if shard[1]])


def begun(ec: Any, name: str, change: str) -> bool:
    return f"Serverless cache {name} goes from {change} shards" in messages(ec, "serverless-cache", name)


@pytest.mark.slow
def test_the_version_is_changed_under_load(ec: Any, name: str) -> None:
    cache = create(ec, name, MajorEngineVersion="8")
    assert cache["FullEngineVersion"].startswith("8.")
    fill(connect(cache["Endpoint"]), 30)
    changed = ec.modify_serverless_cache(ServerlessCacheName=name, MajorEngineVersion="9")["ServerlessCache"]
    assert (changed["Status"], changed["MajorEngineVersion"]) == ("MODIFYING", "8")
    wait_for(lambda: shown(ec, name)["Status"] == "AVAILABLE", 60.0)
    assert shown(ec, name)["MajorEngineVersion"] == "9"
    client = connect(cache["Endpoint"])
    assert client.info("server")["valkey_version"].startswith("9.")
    assert client.dbsize() == 30
    fill(client, 60, first=30)
    assert maxmemory(cache) > 110 * MIB, "it goes on growing"


@pytest.mark.slow
def test_the_service_dies_while_it_grows(small: Service, ec: Any, name: str) -> None:
    cache = create(ec, name)
    client = connect(cache["Endpoint"])
    fill(client, 70)
    small.kill()
    fill(client, 10, first=70)
    small.start()
    fill(client, 40, first=80)
    assert maxmemory(cache) > 120 * MIB
    assert client.dbsize() == 120


@pytest.mark.slow
def test_use_is_counted_and_told(small: Service, ec: Any, name: str) -> None:
    """Some two or three minutes: the points of a minute come after its end."""
    cache = create(ec, name, CacheUsageLimits={"ECPUPerSecond": {"Maximum": 1000}})
    cloudwatch = small.client("cloudwatch")
    client = connect(cache["Endpoint"])
    client.set("key", "x" * 100)
    calls = 0

    def used() -> list[float]:
        """Sums of minutes that had any use, after some more of it."""
        nonlocal calls
        with client.pipeline(transaction=False) as load:
            for _ in range(5000):
                load.get("key")
            load.execute()
        calls += 5000
        now = datetime.now(UTC)
        told = cloudwatch.get_metric_statistics(
            Namespace="AWS/ElastiCache",
            MetricName="ElastiCacheProcessingUnits",
            Dimensions=[{"Name": "ServerlessCacheName", "Value": name}],
            StartTime=now - timedelta(minutes=10),
            EndTime=now + timedelta(minutes=1),
            Period=60,
            Statistics=["Sum"],
        )
        return [point["Sum"] for point in told["Datapoints"] if point["Sum"] > 60_000]

    (first, *_) = wait_for(used, 200.0)
    assert first <= 3 * calls
    text = f"Serverless cache {name} used about"
    wait_for(lambda: any(told.startswith(text) for told in messages(ec, "serverless-cache", name)), 70.0)
    listed = cloudwatch.list_metrics(Namespace="AWS/ElastiCache")["Metrics"]
    assert {d["Name"] for metric in listed for d in metric["Dimensions"]} == {"ServerlessCacheName"}
    assert {"BytesUsedForCache", "CurrConnections", "CacheHitRate"} <= {metric["MetricName"] for metric in listed}
