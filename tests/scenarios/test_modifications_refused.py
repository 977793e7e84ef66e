"""Changes of size, roles, shards, versions and modes that cannot be: AWS's declared fault, and nothing is begun."""

from __future__ import annotations

import os
import re
import signal
from collections.abc import Iterator
from ipaddress import IPv4Network
from typing import Any

import pytest

from cachekeep.domain.engine import Engine
from cachekeep.host.installs import MachineCatalogue

from .calm import CLUSTER_STATE, COMBINATION, VALUE, everything, refused
from .conftest import Service, connect, create_group, group_status, wait_for

GROUP_STATE, NO_FAILOVER = "InvalidReplicationGroupState", "TestFailoverNotAvailableFault"
SHARDS = "ModifyReplicationGroupShardConfiguration"
MIB = 1 << 20


@pytest.fixture(scope="module")
def settled(tmp_path_factory: pytest.TempPathFactory, loopback_range: IPv4Network) -> Iterator[Service]:
    """A service in which nothing changes by itself: groups of several kinds, all available."""
    network = list(loopback_range.subnets(new_prefix=27))[6]
    # Engines that a test stops in their tracks are not given up.
    service = Service(tmp_path_factory.mktemp("settled") / "state", network, CACHEKEEP_HANG_TIMEOUT="600")
    try:
        _furnish(service.start().client())
        yield service
        assert "Traceback" not in service.log.read_text()
    finally:
        service.dispose()


def _furnish(ec: Any) -> None:
    # A tenth of a node type's memory is for data, so that little data is much.
    ec.create_cache_parameter_group(
        CacheParameterGroupName="tight", CacheParameterGroupFamily="valkey9", Description="x"
    )
    reserved = [{"ParameterName": "reserved-memory-percent", "ParameterValue": "90"}]
    ec.modify_cache_parameter_group(CacheParameterGroupName="tight", ParameterNameValues=reserved)
    made: dict[str, dict[str, Any]] = {
        # With automatic failover and one replica; without; alone; two shards without replicas.
        "safe": {
            "NumCacheClusters": 2,
            "AutomaticFailoverEnabled": True,
            "CacheNodeType": "cache.t4g.small",
            "CacheParameterGroupName": "tight",
        },
        "plain": {"NumCacheClusters": 2},
        "lone": {"NumCacheClusters": 1},
        "clu": {"NumNodeGroups": 2, "ReplicasPerNodeGroup": 0, "CacheNodeType": "cache.t4g.micro"},
    }
    for name, params in made.items():
        ec.create_replication_group(ReplicationGroupId=name, ReplicationGroupDescription="x", **params)
    ec.create_cache_cluster(CacheClusterId="one", Engine="valkey")
    for name in made:
        wait_for(lambda name=name: group_status(ec, name) == "available")
    (group,) = ec.describe_replication_groups(ReplicationGroupId="safe")["ReplicationGroups"]
    # More than a cache.t4g.micro holds, and a key outside database 0.
    writer = connect(group["NodeGroups"][0]["PrimaryEndpoint"])
    writer.setrange("large", 60 * MIB, "x")
    writer.select(3)
    writer.set("elsewhere", "1")
    # Whatever changes makes the service look again, which it does every few seconds otherwise.
    ec.modify_replication_group(ReplicationGroupId="safe", ReplicationGroupDescription="y")

    def seen() -> bool:
        allowed = ec.list_allowed_node_type_modifications(ReplicationGroupId="safe")
        return "cache.t4g.micro" not in allowed["ScaleDownModifications"]

    wait_for(seen)


@pytest.fixture
def ec(settled: Service) -> Iterator[Any]:
    """A client of it; nothing may be different after the test."""
    before = everything(settled)
    yield settled.client()
    assert everything(settled) == before


def modify(name: str, **params: Any) -> tuple[str, dict[str, Any]]:
    return "ModifyReplicationGroup", {"ReplicationGroupId": name, "ApplyImmediately": True, **params}


def more(name: str, **params: Any) -> tuple[str, dict[str, Any]]:
    return "IncreaseReplicaCount", {"ReplicationGroupId": name, "ApplyImmediately": True, **params}


def fewer(name: str, **params: Any) -> tuple[str, dict[str, Any]]:
    return "DecreaseReplicaCount", {"ReplicationGroupId": name, "ApplyImmediately": True, **params}


def shards(name: str, count: int, **params: Any) -> tuple[str, dict[str, Any]]:
    return SHARDS, {"ReplicationGroupId": name, "NodeGroupCount": count, "ApplyImmediately": True, **params}


def failover(name: str, shard: str = "0001") -> tuple[str, dict[str, Any]]:
    return "TestFailover", {"ReplicationGroupId": name, "NodeGroupId": shard}


def create(**params: Any) -> tuple[str, dict[str, Any]]:
    return "CreateReplicationGroup", {"ReplicationGroupId": "new", "ReplicationGroupDescription": "x", **params}


def slots(*ranges: str) -> list[dict[str, str]]:
    return [{"Slots": text} for text in ranges]


# An operation and its parameters, the code, and words of the message (a regular expression).
TABLE: list[tuple[tuple[str, dict[str, Any]], str, str]] = [
    # The last replica, and failover without replicas.
    (fewer("safe", NewReplicaCount=0), COMBINATION, "while automatic failover is on"),
    (fewer("safe", ReplicasToRemove=["safe-002"]), COMBINATION, "while automatic failover is on"),
    (("DeleteCacheCluster", {"CacheClusterId": "safe-002"}), CLUSTER_STATE, "only read replica"),
    (failover("plain"), NO_FAILOVER, "Automatic failover is off"),
    (failover("lone"), NO_FAILOVER, "Automatic failover is off"),
    (failover("clu", "0002"), NO_FAILOVER, "has no replica"),
    (failover("safe", "0002"), "NodeGroupNotFoundFault", "no node group 0002"),
    (modify("lone", AutomaticFailoverEnabled=True), COMBINATION, "at least 2 cache clusters"),
    (modify("clu", MultiAZEnabled=True), COMBINATION, "at least one replica in each node group"),
    (modify("clu", AutomaticFailoverEnabled=False), COMBINATION, "with cluster mode enabled is not supported"),
    # Promotion by hand.
    (modify("safe", PrimaryClusterId="safe-002"), COMBINATION, "while automatic failover is on"),
    (modify("plain", PrimaryClusterId="safe-002"), VALUE, "not a member"),
    (modify("plain", PrimaryClusterId="nobody"), "CacheClusterNotFound", "nobody"),
    # Numbers of replicas.
    (fewer("plain", ReplicasToRemove=["plain-001"]), VALUE, "is the primary"),
    (fewer("plain", ReplicasToRemove=["one"]), VALUE, "not a member"),
    (more("plain", NewReplicaCount=1), "NoOperationFault", "already"),
    (more("plain", NewReplicaCount=6), VALUE, "between 0 and 5"),
    (more("plain", NewReplicaCount=2, ApplyImmediately=False), VALUE, "ApplyImmediately must be true"),
    (more("clu", ReplicaConfiguration=[{"NodeGroupId": "0003", "NewReplicaCount": 1}]), VALUE, "no node group 0003"),
    # Slots and shards.
    (create(NodeGroupConfiguration=slots("0-8191", "8193-16383")), VALUE, "8192 are given to no node group"),
    (create(NodeGroupConfiguration=slots("0-8192", "8192-16383")), VALUE, "8192 are given to both"),
    (create(NumNodeGroups=91), "NodeGroupsPerReplicationGroupQuotaExceeded", "at most 90"),
    (shards("clu", 91), "NodeGroupsPerReplicationGroupQuotaExceeded", "at most 90"),
    (shards("clu", 1), COMBINATION, "either NodeGroupsToRemove or NodeGroupsToRetain"),
    (shards("clu", 1, NodeGroupsToRemove=["0003"]), VALUE, "no node group 0003"),
    (shards("plain", 2), COMBINATION, "only cluster mode enabled"),
    (shards("clu", 3, ApplyImmediately=False), VALUE, "ApplyImmediately must be true"),
    (("DeleteCacheCluster", {"CacheClusterId": "clu-0001-001"}), CLUSTER_STATE, "DecreaseReplicaCount"),
    (("CreateCacheCluster", {"CacheClusterId": "new", "ReplicationGroupId": "clu"}), COMBINATION, "IncreaseReplica"),
    # Less than the data needs, more than the machine has.
    (modify("safe", CacheNodeType="cache.t4g.micro"), COMBINATION, "uses [0-9]+ bytes, and a node of type cache.t4g"),
    (modify("safe", CacheNodeType="cache.t4g.micro", ApplyImmediately=False), COMBINATION, "remove data first"),
    (modify("clu", CacheNodeType="cache.r7g.16xlarge"), "InsufficientCacheClusterCapacity", "Choose a smaller"),
    (shards("clu", 90), "InsufficientCacheClusterCapacity", "delete caches|Choose a smaller"),
    # Versions and engines.
    (modify("safe", EngineVersion="99.9"), COMBINATION, "Cannot find version 99.9 for valkey; available on this"),
    (modify("safe", EngineVersion="latest"), VALUE, "Invalid engine version"),
    (modify("safe", Engine="memcached"), COMBINATION, "from valkey to memcached"),
    # Cluster mode.
    (modify("safe", ClusterMode="enabled"), COMBINATION, "set it to compatible first"),
    (modify("safe", ClusterMode="compatible"), COMBINATION, "keys in databases 3"),
    (modify("plain", ClusterMode="compatible"), COMBINATION, "needs automatic failover"),
    (modify("clu", ClusterMode="compatible"), COMBINATION, "enabled is final"),
    (modify("safe", ClusterMode="compatible", EngineVersion="9.1"), COMBINATION, "without EngineVersion"),
    # A group around a cluster.
    (create(PrimaryClusterId="safe-001"), CLUSTER_STATE, "member of replication group safe"),
    (create(PrimaryClusterId="one", CacheNodeType="cache.t4g.small"), COMBINATION, "CacheNodeType must be left out"),
]


@pytest.mark.parametrize("row", TABLE, ids=lambda row: f"{row[0][0]}-{row[1]}-{row[2][:30]}")
def test_changes_that_cannot_be(ec: Any, row: tuple[tuple[str, dict[str, Any]], str, str]) -> None:
    (operation, params), code, words = row
    answer = refused(ec, operation, **params)
    assert answer[0] == code, answer
    assert re.search(words, answer[1]), answer


@pytest.mark.parametrize(
    ("engine", "version", "words"),
    [
        (Engine.VALKEY, "8.1", "8.1.[0-9]+ cannot read the files of Valkey 9"),
        (Engine.REDIS, "7.0", "cannot be changed from valkey to redis"),
    ],
)
def test_files_that_an_older_engine_cannot_read(
    ec: Any, catalogue: MachineCatalogue, engine: Engine, version: str, words: str
) -> None:
    if not any(i.engine is engine and i.version.short == version for i in catalogue.installs()):
        pytest.skip(f"needs {engine.label} {version}")
    asked = {"CacheClusterId": "one", "Engine": engine.value, "EngineVersion": version, "ApplyImmediately": True}
    code, message = refused(ec, "ModifyCacheCluster", **asked)
    assert code == COMBINATION
    assert re.search(words, message), message


def test_two_changes_at_once(settled: Service) -> None:
    """While an engine is stopped in its tracks, what was asked for cannot come to its end."""
    ec = settled.client()
    made: list[tuple[str, str]] = []
    create_group(ec, made, "busy", NumCacheClusters=2, AutomaticFailoverEnabled=True)
    wait_for(lambda: group_status(ec, "busy") == "available")
    (pid,) = settled.engines("busy-002")
    os.kill(pid, signal.SIGSTOP)
    try:
        ec.modify_replication_group(ReplicationGroupId="busy", CacheNodeType="cache.t4g.small", ApplyImmediately=True)
        for operation, params in (
            modify("busy", ReplicationGroupDescription="y"),
            modify("busy", ClusterMode="compatible"),
            more("busy", NewReplicaCount=2),
            fewer("busy", NewReplicaCount=0),
            failover("busy"),
            shards("busy", 2),
        ):
            assert refused(ec, operation, **params)[0] == GROUP_STATE, operation
        for operation, params in (
            ("RebootCacheCluster", {"CacheNodeIdsToReboot": ["0001"]}),
            ("ModifyCacheCluster", {"SnapshotWindow": "05:00-06:00"}),
            ("DeleteCacheCluster", {}),
        ):
            assert refused(ec, operation, CacheClusterId="busy-002", **params)[0] == CLUSTER_STATE, operation
        assert group_status(ec, "busy") == "modifying"
        # Deleting is possible whatever else is being done, and then nothing is.
        ec.delete_replication_group(ReplicationGroupId="busy")
        operation, params = more("busy", NewReplicaCount=2)
        assert refused(ec, operation, **params)[0] in (GROUP_STATE, "ReplicationGroupNotFoundFault")
    finally:
        if pid in settled.engines("busy-002"):
            os.kill(pid, signal.SIGCONT)
    wait_for(lambda: "busy" not in _groups(ec), 30)
    assert not settled.engines("busy-002")


def _groups(ec: Any) -> list[str]:
    return [group["ReplicationGroupId"] for group in ec.describe_replication_groups()["ReplicationGroups"]]
