"""Requests for serverless caches: what is stored for them, shown of them and refused, without any engine."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from desk import REGION, Desk

from cachekeep.api.context import Call
from cachekeep.api.operations import OPERATIONS
from cachekeep.api.rehearsal import Outlook, rehearse
from cachekeep.domain.cache_cluster import CacheCluster, Status
from cachekeep.domain.engine import Engine
from cachekeep.domain.replication_group import ReplicationGroup
from cachekeep.domain.serverless import ServerlessCache, ServerlessStatus
from cachekeep.domain.transit import Transit

VALUE, COMBINATION = "InvalidParameterValue", "InvalidParameterCombination"


def create(desk: Desk, name: str = "s", **more: Any) -> dict[str, Any]:
    params = {"ServerlessCacheName": name, "Engine": "valkey", **more}
    return dict(desk.ask("CreateServerlessCache", **params)["ServerlessCache"])


def available(desk: Desk, name: str = "s", **more: Any) -> ServerlessCache:
    create(desk, name, **more)
    desk.settle(f"serverless--{name}")
    return set_status(desk, name, ServerlessStatus.AVAILABLE)


def set_status(desk: Desk, name: str, status: ServerlessStatus) -> ServerlessCache:
    cache = desk.store.get(ServerlessCache, REGION, name)
    assert cache is not None
    with desk.store.transaction() as work:
        work.replace(cache, replace(cache, status=status))
    return replace(cache, status=status)


def storage(least: int | None = None, most: int | None = None) -> dict[str, Any]:
    given = {"Minimum": least, "Maximum": most}
    return {"DataStorage": {"Unit": "GB", **{k: v for k, v in given.items() if v is not None}}}


def test_it_is_stored_with_the_group_that_runs_it(desk: Desk) -> None:
    shown = create(desk, "Sessions", Tags=[{"Key": "a", "Value": "b"}], SubnetIds=["subnet-1"], KmsKeyId="key")
    assert (shown["ServerlessCacheName"], shown["Status"]) == ("sessions", "CREATING")
    assert shown["ARN"] == f"arn:aws:elasticache:{REGION}:000000000000:serverlesscache:sessions"
    assert (shown["MajorEngineVersion"], shown["FullEngineVersion"]) == ("9", "9.1.2")
    assert (shown["KmsKeyId"], shown["StorageEncryptionType"], shown["SubnetIds"]) == ("key", "none", ["subnet-1"])
    assert "Endpoint" not in shown
    (group,) = desk.store.all(ReplicationGroup)
    assert group.serverless == "sessions"
    assert (group.clustered, group.automatic_failover, len(group.node_groups)) == (True, True, 1)
    members = desk.store.all(CacheCluster)
    assert [m.serverless for m in members] == ["sessions"] * 2
    assert {m.memory_bytes for m in members} == {1 << 30}, "the headroom"


def test_its_endpoints_are_shown_once_it_is_there(desk: Desk) -> None:
    available(desk)
    (shown,) = desk.ask("DescribeServerlessCaches")["ServerlessCaches"]
    assert shown["Endpoint"]["Port"] == shown["ReaderEndpoint"]["Port"] == 6379
    assert shown["Endpoint"]["Address"] != shown["ReaderEndpoint"]["Address"]


def test_where_addresses_do_not_move_the_endpoint_is_the_primary(desk: Desk) -> None:
    desk.pool.movable = False
    available(desk)
    (shown,) = desk.ask("DescribeServerlessCaches")["ServerlessCaches"]
    primary = desk.cluster("serverless--s-0001-001").nodes[0].address
    assert shown["Endpoint"] == shown["ReaderEndpoint"] == {"Address": primary.host, "Port": primary.port}


@pytest.mark.parametrize(
    ("params", "code", "words"),
    [
        ({"ServerlessCacheName": "a--b"}, VALUE, "ServerlessCacheName"),
        ({"ServerlessCacheName": "a" * 41}, VALUE, "40"),
        ({"Engine": "memcache"}, VALUE, "memcached"),
        ({"MajorEngineVersion": "x"}, VALUE, "Invalid engine version"),
        ({"MajorEngineVersion": "12"}, COMBINATION, "available on this machine: 9.1.2, 8.1.8"),
        ({"CacheUsageLimits": storage(most=0)}, VALUE, "between 1 and 5000"),
        ({"CacheUsageLimits": storage(most=5001)}, VALUE, "between 1 and 5000"),
        ({"CacheUsageLimits": storage(least=5, most=4)}, COMBINATION, "above its Maximum"),
        ({"CacheUsageLimits": {"ECPUPerSecond": {"Maximum": 999}}}, VALUE, "between 1000 and 15000000"),
        ({"CacheUsageLimits": storage(least=5000)}, COMBINATION, "cannot promise"),
        ({"UserGroupId": "ug"}, COMBINATION, "auth_without_tls"),
        ({"Engine": "memcached", "UserGroupId": "ug"}, COMBINATION, "no users"),
        ({"SnapshotRetentionLimit": 36}, VALUE, "between 0 and 35"),
        ({"SnapshotArnsToRestore": ["arn:x"]}, VALUE, "Invalid snapshot ARN"),
        ({"DailySnapshotTime": "24:00"}, VALUE, "hh24:mi"),
        ({"Engine": "memcached", "DailySnapshotTime": "04:00"}, COMBINATION, "no snapshots"),
        ({"NetworkType": "ipv6"}, COMBINATION, "NetworkType"),
        ({"ConnectionType": "public"}, COMBINATION, "ConnectionType"),
        ({"Tags": [{"Key": "aws:x"}]}, VALUE, "reserved"),
        ({"Tags": [{"Key": str(n)} for n in range(51)]}, "TagQuotaPerResourceExceeded", "50"),
    ],
)
def test_what_is_refused(desk: Desk, params: dict[str, Any], code: str, words: str) -> None:
    asked = {"ServerlessCacheName": "s", "Engine": "valkey", **params}
    refusal, message = desk.refused("CreateServerlessCache", **asked)
    assert refusal == code
    assert words in message


def test_names_are_given_once_and_not_too_often(desk: Desk) -> None:
    create(desk)
    code, _ = desk.refused("CreateServerlessCache", ServerlessCacheName="S", Engine="valkey")
    assert code == "ServerlessCacheAlreadyExistsFault"
    for number in range(39):
        create(desk, f"s{number}", Engine="memcached", CacheUsageLimits=storage(most=1))
    code, message = desk.refused("CreateServerlessCache", ServerlessCacheName="more", Engine="valkey")
    assert (code, "40" in message) == ("ServerlessCacheQuotaForCustomerExceededFault", True)


def test_pages(desk: Desk) -> None:
    for number in range(25):
        create(desk, f"s{number:02d}")
    first = desk.ask("DescribeServerlessCaches", MaxResults=20)
    rest = desk.ask("DescribeServerlessCaches", MaxResults=20, NextToken=first["NextToken"])
    names = [cache["ServerlessCacheName"] for page in (first, rest) for cache in page["ServerlessCaches"]]
    assert names == [f"s{number:02d}" for number in range(25)]
    assert "NextToken" not in rest
    assert desk.refused("DescribeServerlessCaches", NextToken="!")[0] == VALUE
    assert desk.refused("DescribeServerlessCaches", MaxResults=0)[0] == VALUE
    assert desk.refused("DescribeServerlessCaches", MaxResults=101)[0] == VALUE


def test_what_is_changed_and_what_stays(desk: Desk) -> None:
    available(desk, CacheUsageLimits={**storage(2, 9), "ECPUPerSecond": {"Maximum": 2000}}, SecurityGroupIds=["sg-1"])
    asked = {"ServerlessCacheName": "s", "CacheUsageLimits": storage(most=8), "DailySnapshotTime": "05:30"}
    changed = desk.ask("ModifyServerlessCache", **asked)["ServerlessCache"]
    assert changed["Status"] == "MODIFYING"
    assert changed["CacheUsageLimits"] == {**storage(most=8), "ECPUPerSecond": {"Maximum": 2000}}
    assert (changed["SecurityGroupIds"], changed["DailySnapshotTime"]) == (["sg-1"], "05:30")
    assert desk.refused("ModifyServerlessCache", **asked)[0] == "InvalidServerlessCacheStateFault"


@pytest.mark.parametrize(
    ("params", "code"),
    [
        ({"ServerlessCacheName": "nobody"}, "ServerlessCacheNotFoundFault"),
        ({"UserGroupId": "ug"}, COMBINATION),
        ({"UserGroupId": "ug", "RemoveUserGroup": True}, COMBINATION),
        ({"Engine": "redis"}, COMBINATION),
        ({"Engine": "memcached"}, COMBINATION),
        ({"MajorEngineVersion": "12"}, COMBINATION),
        ({"MajorEngineVersion": "new"}, VALUE),
        ({"CacheUsageLimits": storage(most=0)}, VALUE),
    ],
)
def test_changes_that_are_refused(desk: Desk, params: dict[str, Any], code: str) -> None:
    available(desk)
    assert desk.refused("ModifyServerlessCache", **{"ServerlessCacheName": "s", **params})[0] == code


def test_user_groups_must_be_there(desk: Desk) -> None:
    desk.services = replace(desk.services, auth_without_tls=True)
    asked = {"ServerlessCacheName": "s", "Engine": "valkey", "UserGroupId": "ug"}
    assert desk.refused("CreateServerlessCache", **asked)[0] == "UserGroupNotFound"
    available(desk)
    assert desk.refused("ModifyServerlessCache", ServerlessCacheName="s", UserGroupId="ug")[0] == "UserGroupNotFound"


def test_the_same_engine_and_version_are_no_change(desk: Desk) -> None:
    available(desk)
    desk.ask("ModifyServerlessCache", ServerlessCacheName="s", Engine="valkey", MajorEngineVersion="9")


def test_it_is_deleted_with_what_runs_it(desk: Desk) -> None:
    create(desk)
    assert desk.ask("DeleteServerlessCache", ServerlessCacheName="s")["ServerlessCache"]["Status"] == "DELETING"
    (group,) = desk.store.all(ReplicationGroup)
    assert {group.status, *(m.status for m in desk.store.all(CacheCluster))} == {Status.DELETING}
    assert desk.refused("DeleteServerlessCache", ServerlessCacheName="s")[0] == "InvalidServerlessCacheStateFault"


def test_a_rehearsal_tells_what_would_be_made(desk: Desk) -> None:
    asked = {"ServerlessCacheName": "s", "Engine": "valkey"}
    call = Call(desk.services, "CreateServerlessCache", REGION, asked)
    told = rehearse(call, OPERATIONS["CreateServerlessCache"].handler, Outlook())
    assert told.resources == ("serverless--s",)
    assert told.memory.afterwards_bytes == 2 << 30
    assert desk.store.all(ServerlessCache) == []


def test_nobody_names_what_runs_it(desk: Desk) -> None:
    """By no operation that takes the name of a group or a cluster."""
    available(desk)
    group, member = "serverless--s", "serverless--s-0001-001"
    for operation, more in (
        ("ModifyReplicationGroup", {"ApplyImmediately": True}),
        ("IncreaseReplicaCount", {"ApplyImmediately": True, "NewReplicaCount": 2}),
        ("ModifyReplicationGroupShardConfiguration", {"ApplyImmediately": True, "NodeGroupCount": 2}),
        ("TestFailover", {"NodeGroupId": "0001"}),
        ("ListAllowedNodeTypeModifications", {}),
    ):
        code, _ = desk.refused(operation, ReplicationGroupId=group, **more)
        assert code == "ReplicationGroupNotFoundFault", operation
    assert desk.refused("ModifyCacheCluster", CacheClusterId=member)[0] == "CacheClusterNotFound"
    arn = f"arn:aws:elasticache:{REGION}:000000000000"
    for name, code in ((f"replicationgroup:{group}", "ReplicationGroupNotFoundFault"), (f"cluster:{member}", None)):
        assert desk.refused("ListTagsForResource", ResourceName=f"{arn}:{name}")[0] == (code or "CacheClusterNotFound")


@pytest.mark.parametrize(
    ("setting", "engine", "wanted"),
    [
        ("preferred", "redis", Transit.PREFERRED),
        ("preferred", "valkey", Transit.OFF),
        ("preferred", "memcached", Transit.OFF),
        ("required", "redis", Transit.REQUIRED),
        ("required", "memcached", Transit.REQUIRED),
        ("disabled", "redis", Transit.OFF),
    ],
)
def test_the_setting_and_the_engine_found_decide_about_tls(
    desk: Desk, setting: str, engine: str, wanted: Transit
) -> None:
    desk.services = replace(desk.services, serverless_tls=setting)
    desk.catalogue.found = [replace(i, tls=i.engine is not Engine.VALKEY) for i in desk.catalogue.found]
    desk.ask("CreateServerlessCache", ServerlessCacheName="s", Engine=engine)
    assert {c.transit for c in desk.store.all(CacheCluster)} == {wanted}
    if setting == "required":
        code, text = desk.refused("CreateServerlessCache", ServerlessCacheName="v", Engine="valkey")
        assert (code, "valkey-server" in text) == (COMBINATION, True)
