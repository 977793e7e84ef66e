"""Quotas at their boundary: the last one that may be, and the fault for the next, which changes nothing."""

from __future__ import annotations

from typing import Any

import pytest
from desk import Desk

from cachekeep.domain.quotas import Quotas
from cachekeep.settings import Settings, SettingsError, load

NODES = "NodeQuotaForCustomerExceeded"


def limit(desk: Desk, **quotas: int) -> None:
    object.__setattr__(desk.services, "quotas", Quotas(**quotas))


def test_nodes_of_a_region(desk: Desk) -> None:
    limit(desk, nodes_per_region=4)
    desk.create_group(NumCacheClusters=2, CacheNodeType="cache.t4g.micro")
    desk.create_cluster("m", Engine="memcached", NumCacheNodes=2)
    one_more: tuple[tuple[str, dict[str, Any]], ...] = (
        ("CreateCacheCluster", {"CacheClusterId": "c", "Engine": "valkey"}),
        ("CreateCacheCluster", {"CacheClusterId": "c", "ReplicationGroupId": "g"}),
        ("CreateReplicationGroup", {"ReplicationGroupId": "h", "ReplicationGroupDescription": "x"}),
        ("ModifyCacheCluster", {"CacheClusterId": "m", "NumCacheNodes": 3}),
        ("IncreaseReplicaCount", {"ReplicationGroupId": "g", "NewReplicaCount": 2, "ApplyImmediately": True}),
    )
    for operation, params in one_more:
        code, message = desk.refused(operation, **params)
        assert (code, "at most 4 cache nodes" in message) == (NODES, True), (operation, message)
    limit(desk, nodes_per_region=5)
    desk.ask("ModifyCacheCluster", CacheClusterId="m", NumCacheNodes=3)
    # What waits for the window has its place already, and asking for it again takes no other.
    assert desk.refused("CreateCacheCluster", CacheClusterId="c", Engine="valkey")[0] == NODES
    desk.ask("ModifyCacheCluster", CacheClusterId="m", NumCacheNodes=3)


def test_clusters_of_a_region(desk: Desk) -> None:
    limit(desk, clusters_per_region=2)
    desk.create_cluster("a")
    desk.create_cluster("m", Engine="memcached", NumCacheNodes=2)
    code, message = desk.refused("CreateCacheCluster", CacheClusterId="c", Engine="valkey")
    assert (code, "at most 2 cache clusters" in message) == ("ClusterQuotaForCustomerExceeded", True)


def test_nodes_and_node_groups_of_a_group(desk: Desk) -> None:
    limit(desk, nodes_per_cluster=4, node_groups_per_replication_group=3)
    asked = {"ReplicationGroupId": "h", "ReplicationGroupDescription": "x"}
    assert (
        desk.refused("CreateReplicationGroup", **asked, NumNodeGroups=3, ReplicasPerNodeGroup=1)[0]
        == "NodeQuotaForClusterExceeded"
    )
    too_many = "NodeGroupsPerReplicationGroupQuotaExceeded"
    assert desk.refused("CreateReplicationGroup", **asked, NumNodeGroups=4)[0] == too_many
    desk.create_group(NumNodeGroups=2, ReplicasPerNodeGroup=1)
    reshard = {"ReplicationGroupId": "g", "ApplyImmediately": True}
    shards = "ModifyReplicationGroupShardConfiguration"
    assert desk.refused(shards, **reshard, NodeGroupCount=3)[0] == NODES
    assert desk.refused(shards, **reshard, NodeGroupCount=4)[0] == too_many
    assert desk.refused("IncreaseReplicaCount", **reshard, NewReplicaCount=2)[0] == NODES


def test_memcached_nodes_of_a_cluster(desk: Desk) -> None:
    asked = {"CacheClusterId": "m", "Engine": "memcached"}
    assert desk.refused("CreateCacheCluster", **asked, NumCacheNodes=41)[0] == "NodeQuotaForClusterExceeded"
    limit(desk, memcached_nodes_per_cluster=60)
    desk.ask("CreateCacheCluster", **asked, NumCacheNodes=41)


def test_parameter_groups(desk: Desk) -> None:
    limit(desk, parameter_groups=1)
    asked = {"CacheParameterGroupFamily": "valkey9", "Description": "x"}
    desk.ask("CreateCacheParameterGroup", CacheParameterGroupName="a", **asked)
    code, _ = desk.refused("CreateCacheParameterGroup", CacheParameterGroupName="b", **asked)
    assert code == "CacheParameterGroupQuotaExceeded"


def test_subnet_groups_and_their_subnets(desk: Desk) -> None:
    limit(desk, subnet_groups=1, subnets_per_subnet_group=2)
    create = "CreateCacheSubnetGroup"
    asked: dict[str, Any] = {"CacheSubnetGroupName": "a", "CacheSubnetGroupDescription": "x"}
    three = ["subnet-1", "subnet-2", "subnet-3"]
    assert desk.refused(create, **asked, SubnetIds=three)[0] == "CacheSubnetQuotaExceededFault"
    desk.ask(create, **asked, SubnetIds=three[:2])
    assert desk.refused(create, **{**asked, "CacheSubnetGroupName": "b"}, SubnetIds=three[:1])[0] == (
        "CacheSubnetGroupQuotaExceeded"
    )
    code, _ = desk.refused("ModifyCacheSubnetGroup", CacheSubnetGroupName="a", SubnetIds=three)
    assert code == "CacheSubnetQuotaExceededFault"


def test_reserved_nodes(desk: Desk) -> None:
    call = {"ReservedCacheNodesOfferingId": "x"}
    # The region of the desk has no offerings: what there is not is told before how many there may be.
    assert desk.refused("PurchaseReservedCacheNodesOffering", **call)[0] == "ReservedCacheNodesOfferingNotFound"


def test_the_setting() -> None:
    assert Quotas.parse("") == Quotas()
    assert Quotas.parse(" nodes-per-region=20, subnet-groups=5 ") == Quotas(nodes_per_region=20, subnet_groups=5)
    loaded = load({}, {"CACHEKEEP_QUOTAS": "nodes-per-region=7", "CACHEKEEP_API_RATE": "2.5"})
    assert (loaded.quotas, loaded.api_rate) == ("nodes-per-region=7", 2.5)


@pytest.mark.parametrize(
    "text", ["nodes=3", "nodes-per-region", "nodes-per-region=", "nodes-per-region=0", "nodes-per-region=-1", "=1",
             "nodes-per-region=x", "nodes-per-cluster=501", "nodes-per-region=99999999"]
)  # fmt: skip
def test_a_setting_that_cannot_be_is_told(text: str) -> None:
    with pytest.raises(SettingsError, match=r"^quotas: "):
        Settings(quotas=text)


def test_a_table_of_the_file(tmp_path: Any) -> None:
    (tmp_path / "c.toml").write_text("[quotas]\nnodes-per-region = 9\nsubnet-groups = 2\n")
    loaded = load({}, {"CACHEKEEP_CONFIG": str(tmp_path / "c.toml")})
    assert Quotas.parse(loaded.quotas) == Quotas(nodes_per_region=9, subnet_groups=2)
