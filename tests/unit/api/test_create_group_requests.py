"""CreateReplicationGroup with and without cluster mode, and around a cluster: what is stored, and what is refused."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from desk import Desk

from cachekeep.domain.cache_cluster import Pending, Status
from cachekeep.domain.engine import Engine
from cachekeep.domain.quotas import Quotas
from cachekeep.domain.replication_group import ClusterMode
from cachekeep.domain.slots import slots_text
from cachekeep.plan.placement import Machine

COMBINATION, VALUE = "InvalidParameterCombination", "InvalidParameterValue"


def create(desk: Desk, **params: Any) -> dict[str, Any]:
    return desk.ask_group("CreateReplicationGroup", ReplicationGroupDescription="x", **params)


def test_shards_divide_the_slots_and_stand_behind_one_endpoint(desk: Desk) -> None:
    answer = create(desk, NumNodeGroups=3)
    assert (answer["Status"], answer["ClusterEnabled"], answer["ClusterMode"]) == ("creating", True, "enabled")
    assert answer["AutomaticFailover"] == "enabled"
    assert [(s["NodeGroupId"], s["Slots"], s["NodeGroupMembers"]) for s in answer["NodeGroups"]] == [
        ("0001", "0-5460", []),
        ("0002", "5461-10921", []),
        ("0003", "10922-16383", []),
    ]
    assert "ConfigurationEndpoint" not in answer
    group = desk.group()
    assert (group.cluster_mode, group.parameter_group) == (ClusterMode.ENABLED, "default.valkey9.cluster.on")
    assert group.node_groups[1].member_ids == ("g-0002-001", "g-0002-002")
    assert group.node_groups[1].primary_id == "g-0002-001"
    assert (group.primary_endpoint, group.reader_endpoint) == (None, None)
    assert group.configuration_endpoint is not None
    assert len({desk.cluster(m).nodes[0].address for m in group.member_ids} | {group.configuration_endpoint}) == 7
    desk.settle()
    (answer,) = desk.ask("DescribeReplicationGroups", ReplicationGroupId="g")["ReplicationGroups"]
    assert answer["ConfigurationEndpoint"] == {"Address": group.configuration_endpoint.host, "Port": 6379}
    shard = answer["NodeGroups"][0]
    assert "PrimaryEndpoint" not in shard
    assert shard["NodeGroupMembers"] == [
        {"CacheClusterId": "g-0001-001", "CacheNodeId": "0001", "PreferredAvailabilityZone": "eu-west-1a"},
        {"CacheClusterId": "g-0001-002", "CacheNodeId": "0001", "PreferredAvailabilityZone": "eu-west-1b"},
    ]


@pytest.mark.parametrize(
    "params",
    [
        {"ClusterMode": "enabled"},
        {"CacheParameterGroupName": "default.valkey9.cluster.on"},
        {"CacheParameterGroupName": "default.valkey9.cluster.on", "NumNodeGroups": 1},
    ],
)
def test_one_shard_in_cluster_mode(desk: Desk, params: dict[str, Any]) -> None:
    create(desk, **params)
    (shard,) = desk.group().node_groups
    assert (shard.member_ids, slots_text(shard.slots)) == (("g-0001-001", "g-0001-002"), "0-16383")


def test_the_largest_group(desk: Desk) -> None:
    object.__setattr__(desk.services, "machine", Machine(64 << 30, 8.0))
    object.__setattr__(
        desk.services, "quotas", Quotas(nodes_per_cluster=500, nodes_per_region=450, clusters_per_region=450)
    )
    create(desk, NumNodeGroups=90, ReplicasPerNodeGroup=4, CacheNodeType="cache.t4g.micro")
    assert len(desk.group().member_ids) == 450


def test_without_cluster_mode(desk: Desk) -> None:
    answer = create(desk, NumNodeGroups=1, ReplicasPerNodeGroup=2, ClusterMode="disabled")
    assert (answer["ClusterEnabled"], answer["ClusterMode"]) == (False, "disabled")
    assert "Slots" not in answer["NodeGroups"][0]
    group = desk.group()
    assert (group.member_ids, group.node_groups[0].slots) == (("g-001", "g-002", "g-003"), ())
    assert (group.parameter_group, group.configuration_endpoint) == ("default.valkey9", None)


def test_compatible_has_all_endpoints(desk: Desk) -> None:
    create(desk, ClusterMode="compatible", NumCacheClusters=3)
    group = desk.settle()
    assert len(group.endpoints) == 3
    assert group.member_ids == ("g-001", "g-002", "g-003")
    assert slots_text(group.node_groups[0].slots) == "0-16383"
    assert group.automatic_failover
    (answer,) = desk.ask("DescribeReplicationGroups", ReplicationGroupId="g")["ReplicationGroups"]
    assert answer["ClusterMode"] == "compatible"
    assert {"PrimaryEndpoint", "ReaderEndpoint", "Slots"} < answer["NodeGroups"][0].keys()
    assert answer["ConfigurationEndpoint"]["Port"] == 6379
    assert [m["CurrentRole"] for m in answer["NodeGroups"][0]["NodeGroupMembers"]] == ["primary", "replica", "replica"]


def test_where_addresses_cannot_move_the_first_member_is_the_endpoint(desk: Desk) -> None:
    desk.pool.movable = False
    create(desk, NumNodeGroups=2)
    group = desk.settle()
    assert group.endpoints == ()
    (answer,) = desk.ask("DescribeReplicationGroups", ReplicationGroupId="g")["ReplicationGroups"]
    assert answer["ConfigurationEndpoint"]["Address"] == desk.cluster("g-0001-001").nodes[0].address.host


def test_shards_as_configured(desk: Desk) -> None:
    shards = [
        {"NodeGroupId": "0007", "Slots": "8000-16383,0-99", "ReplicaCount": 0},
        {
            "NodeGroupId": "0002",
            "Slots": "100-7999",
            "ReplicaCount": 2,
            "PrimaryAvailabilityZone": "eu-west-1c",
            "ReplicaAvailabilityZones": ["eu-west-1b", "eu-west-1b"],
        },
    ]
    create(desk, NodeGroupConfiguration=shards)
    two, seven = desk.group().node_groups
    assert (two.id, slots_text(two.slots)) == ("0002", "100-7999")
    assert [desk.cluster(m).nodes[0].zone[-1] for m in two.member_ids] == ["c", "b", "b"]
    assert (seven.id, slots_text(seven.slots), seven.member_ids) == ("0007", "0-99,8000-16383", ("g-0007-001",))


def test_one_configured_shard_needs_no_cluster_mode(desk: Desk) -> None:
    create(desk, NodeGroupConfiguration=[{"ReplicaCount": 1, "ReplicaAvailabilityZones": ["eu-west-1b"]}])
    group = desk.group()
    assert (group.cluster_mode, group.member_ids) == (ClusterMode.DISABLED, ("g-001", "g-002"))
    assert [desk.cluster(m).nodes[0].zone[-1] for m in group.member_ids] == ["a", "b"]


def slots(*ranges: str | None) -> list[dict[str, Any]]:
    return [{"Slots": text} if text else {"ReplicaCount": 1} for text in ranges]


REFUSED = [
    ({"NodeGroupConfiguration": slots("0-8191", "8193-16383")}, VALUE, "The slots 8192 are given to no node group"),
    ({"NodeGroupConfiguration": slots("0-8191", "8000-16383")}, VALUE, "8000-8191 are given to both"),
    ({"NodeGroupConfiguration": slots("0-8191", None)}, VALUE, "for all node groups or for none, and 0002"),
    ({"NodeGroupConfiguration": slots("0-8191", "8192-16384")}, VALUE, "not a range"),
    ({"NodeGroupConfiguration": slots("0-8191", "all")}, VALUE, "not a range"),
    ({"NodeGroupConfiguration": slots("0-8191,5", "8192-16383")}, VALUE, "slots twice"),
    ({"NodeGroupConfiguration": slots("0-16383")}, COMBINATION, "Slots need cluster mode"),
    ({"NodeGroupConfiguration": [{"NodeGroupId": "1"}, {}]}, VALUE, "four digits"),
    ({"NodeGroupConfiguration": [{"NodeGroupId": "0001"}] * 2}, VALUE, "twice"),
    ({"NodeGroupConfiguration": [{"ReplicaCount": 6}, {}]}, VALUE, "between 0 and 5"),
    ({"NodeGroupConfiguration": [{"PrimaryAvailabilityZone": "moon"}, {}]}, VALUE, "availability zone"),
    (
        {"NodeGroupConfiguration": [{"ReplicaCount": 2, "ReplicaAvailabilityZones": ["eu-west-1a"]}, {}]},
        COMBINATION,
        "1 zones for 2 replicas",
    ),
    ({"NodeGroupConfiguration": [{}, {}], "NumNodeGroups": 3}, COMBINATION, "has 2 entries"),
    ({"NumNodeGroups": 0}, VALUE, "at least 1"),
    ({"NumNodeGroups": 91}, "NodeGroupsPerReplicationGroupQuotaExceeded", "at most 90"),
    ({"NumNodeGroups": 46, "ReplicasPerNodeGroup": 1}, "NodeQuotaForClusterExceeded", "at most 90"),
    ({"NumNodeGroups": 2, "ReplicasPerNodeGroup": 6}, VALUE, "between 0 and 5"),
    ({"NumNodeGroups": 2, "NumCacheClusters": 2}, COMBINATION, "use ReplicasPerNodeGroup"),
    ({"NumNodeGroups": 2, "AutomaticFailoverEnabled": False}, COMBINATION, "cannot be off with cluster mode"),
    ({"NumNodeGroups": 2, "MultiAZEnabled": True, "ReplicasPerNodeGroup": 0}, COMBINATION, "Multi-AZ needs"),
    ({"NumNodeGroups": 2, "ClusterMode": "disabled"}, COMBINATION, "Several node groups need"),
    ({"NumNodeGroups": 2, "ClusterMode": "compatible"}, COMBINATION, "Several node groups need"),
    ({"NumNodeGroups": 2, "PreferredCacheClusterAZs": ["eu-west-1a"]}, COMBINATION, "NodeGroupConfiguration for zones"),
    ({"NumNodeGroups": 2, "CacheParameterGroupName": "default.valkey9"}, COMBINATION, "cluster-enabled no"),
    ({"ClusterMode": "enabled", "CacheParameterGroupName": "default.valkey9"}, COMBINATION, "cluster-enabled no"),
    (
        {"ClusterMode": "disabled", "CacheParameterGroupName": "default.valkey9.cluster.on"},
        COMBINATION,
        "cluster-enabled yes",
    ),
    ({"ClusterMode": "compatible", "ReplicasPerNodeGroup": 0}, COMBINATION, "at least 2 cache clusters"),
    ({"ClusterMode": "compatible", "Engine": "redis", "EngineVersion": "6.2"}, COMBINATION, "7.0 or later"),
    ({"NumNodeGroups": 2, "Engine": "redis", "EngineVersion": "6.2", "Port": 55536}, VALUE, "55535 at most"),
    ({"NumNodeGroups": 40, "CacheNodeType": "cache.r7g.large"}, "InsufficientCacheClusterCapacity", "Choose a smaller"),
]


@pytest.mark.parametrize(("params", "code", "words"), REFUSED)
def test_groups_that_cannot_be(desk: Desk, params: dict[str, Any], code: str, words: str) -> None:
    answer = desk.refused("CreateReplicationGroup", ReplicationGroupId="g", ReplicationGroupDescription="x", **params)
    assert (answer[0], words in answer[1]) == (code, True), answer


def test_ports_above_55535_from_7_0_on(desk: Desk) -> None:
    create(desk, NumNodeGroups=2, Engine="redis", EngineVersion="7.0", Port=60000)
    assert desk.group().parameter_group == "default.redis7.cluster.on"
    desk.ask_group(
        "CreateReplicationGroup", "h", ReplicationGroupDescription="x", Engine="redis", EngineVersion="6.2", Port=60000
    )


def test_an_engine_without_cluster_mode(desk: Desk) -> None:
    desk.catalogue.found = [replace(i, cluster=False) for i in desk.catalogue.found]
    answer = desk.refused(
        "CreateReplicationGroup", ReplicationGroupId="g", ReplicationGroupDescription="x", NumNodeGroups=2
    )
    assert (answer[0], "without cluster mode" in answer[1]) == (COMBINATION, True)


def test_a_cluster_becomes_the_primary_of_a_group(desk: Desk) -> None:
    cluster = desk.create_cluster(Port=7000, Engine="redis", EngineVersion="7.0", CacheNodeType="cache.t4g.small")
    answer = create(desk, PrimaryClusterId="C", NumCacheClusters=3, AutomaticFailoverEnabled=True)
    # Not `creating`: a creation that fails ends every engine of its group, and this one holds data.
    assert answer["Status"] == "modifying"
    group = desk.group()
    assert group.member_ids == ("c", "g-001", "g-002")
    assert (group.engine, group.version, group.port) == (Engine.REDIS, cluster.version, 7000)
    assert (group.node_type, group.parameter_group) == ("cache.t4g.small", "default.redis7")
    assert group.primary_id == "c"
    primary = desk.cluster("c")
    assert (primary.replication_group_id, primary.status) == ("g", Status.AVAILABLE)
    assert primary.nodes == cluster.nodes
    assert desk.cluster("g-002").status is Status.CREATING
    assert group.primary_endpoint is not None
    assert group.primary_endpoint.port == 7000
    assert desk.events() == ["Replication group g created around the cache cluster c"]


def test_a_group_of_the_cluster_alone(desk: Desk) -> None:
    desk.create_cluster()
    create(desk, PrimaryClusterId="c")
    assert desk.group().member_ids == ("c",)


def test_clusters_that_no_group_can_be_made_around(desk: Desk) -> None:
    desk.create_cluster()
    desk.create_cluster("mem", Engine="memcached")
    desk.create_group("h")
    desk.ask("CreateCacheCluster", CacheClusterId="new", Engine="valkey")
    base = {"ReplicationGroupId": "g", "ReplicationGroupDescription": "x"}
    rows: list[tuple[dict[str, Any], str, str]] = [
        ({"PrimaryClusterId": "nobody"}, "CacheClusterNotFound", "nobody"),
        ({"PrimaryClusterId": "mem"}, COMBINATION, "Memcached"),
        ({"PrimaryClusterId": "h-001"}, "InvalidCacheClusterState", "member of replication group h"),
        ({"PrimaryClusterId": "new"}, "InvalidCacheClusterState", "is creating"),
        ({"PrimaryClusterId": "c", "NumNodeGroups": 2}, COMBINATION, "NumNodeGroups must be left out"),
        ({"PrimaryClusterId": "c", "EngineVersion": "8.1"}, COMBINATION, "EngineVersion must be left out"),
        ({"PrimaryClusterId": "c", "NumCacheClusters": 7}, VALUE, "between 1 and 6"),
        ({"PrimaryClusterId": "c", "AutomaticFailoverEnabled": True}, COMBINATION, "at least 2 cache clusters"),
    ]
    for params, code, words in rows:
        answer = desk.refused("CreateReplicationGroup", **base, **params)
        assert (answer[0], words in answer[1]) == (code, True), answer
    with desk.store.transaction() as work:
        cluster = desk.cluster("c")
        work.replace(cluster, replace(cluster, pending=Pending(node_type="cache.t4g.small")))
    answer = desk.refused("CreateReplicationGroup", **base, PrimaryClusterId="c")
    assert (answer[0], "wait" in answer[1]) == ("InvalidCacheClusterState", True)


def test_members_of_cluster_mode_come_and_go_by_shard(desk: Desk) -> None:
    desk.create_group(NumNodeGroups=2)
    code, message = desk.refused("CreateCacheCluster", CacheClusterId="x", ReplicationGroupId="g")
    assert (code, "IncreaseReplicaCount" in message) == (COMBINATION, True)
    code, message = desk.refused("DeleteCacheCluster", CacheClusterId="g-0001-002")
    assert (code, "DecreaseReplicaCount" in message) == ("InvalidCacheClusterState", True)
    code, message = desk.refused("DeleteReplicationGroup", ReplicationGroupId="g", RetainPrimaryCluster=True)
    assert (code, "RetainPrimaryCluster" in message) == (COMBINATION, True)
    desk.ask("DeleteReplicationGroup", ReplicationGroupId="g")
    assert {desk.cluster(m).status for m in desk.group().member_ids} == {Status.DELETING}
