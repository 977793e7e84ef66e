"""Requests that a resource's state forbids, and many requests at once."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from botocore.exceptions import ClientError

from cachekeep.domain.engine import Engine
from cachekeep.host.installs import MachineCatalogue

from .calm import CLUSTER_STATE, COMBINATION, everything, refused
from .conftest import Service, cluster_status, create_cluster, create_group, gone, group_status, wait_for

Created = list[tuple[str, str]]



@pytest.fixture
def frozen(service: Service) -> Iterator[Callable[[str], None]]:
    """Stops the engines of a cluster in their tracks, so that what is being done to them stays undone; and lets
    them go on after the test."""
    stopped: list[int] = []

    def freeze(cluster_id: str) -> None:
        for pid in service.engines(cluster_id):
            os.kill(pid, signal.SIGSTOP)
            stopped.append(pid)

    yield freeze
    for pid in stopped:
        if pid in service.engines():
            os.kill(pid, signal.SIGCONT)


def test_a_group_that_is_created_or_deleted_is_left_alone(
    ec: Any, created: Created, name: str, frozen: Callable[[str], None]
) -> None:
    ec.create_replication_group(ReplicationGroupId=name, ReplicationGroupDescription="x", NumCacheClusters=6)
    created.append(("group", name))
    state = "InvalidReplicationGroupState"
    code, message = refused(ec, "ModifyReplicationGroup", ReplicationGroupId=name, ReplicationGroupDescription="y")
    assert code == state
    assert "must be in available state to modify" in message
    assert refused(ec, "CreateCacheCluster", CacheClusterId=f"{name}-x", ReplicationGroupId=name)[0] == state
    assert refused(ec, "DeleteReplicationGroup", ReplicationGroupId=name, RetainPrimaryCluster=True)[0] == state
    member = f"{name}-002"
    assert refused(ec, "DeleteCacheCluster", CacheClusterId=member)[0] == CLUSTER_STATE
    assert refused(ec, "ModifyCacheCluster", CacheClusterId=member, SnapshotWindow="05:00-06:00")[0] == CLUSTER_STATE
    assert refused(ec, "RebootCacheCluster", CacheClusterId=member, CacheNodeIdsToReboot=["0001"])[0] == CLUSTER_STATE
    wait_for(lambda: group_status(ec, name) == "available")
    frozen(f"{name}-001")
    ec.delete_replication_group(ReplicationGroupId=name)
    assert refused(ec, "ModifyReplicationGroup", ReplicationGroupId=name)[0] == state
    code, message = refused(ec, "DeleteReplicationGroup", ReplicationGroupId=name)
    assert (code, message) == (state, f"Replication group {name} has status deleting which is not valid for deletion.")
    assert refused(ec, "DeleteCacheCluster", CacheClusterId=member)[0] == CLUSTER_STATE
    assert refused(ec, "RebootCacheCluster", CacheClusterId=member, CacheNodeIdsToReboot=["0001"])[0] == CLUSTER_STATE
    code, _ = refused(ec, "CreateReplicationGroup", ReplicationGroupId=name, ReplicationGroupDescription="x")
    assert code == "ReplicationGroupAlreadyExists"


def test_a_cluster_that_is_created_changed_or_deleted_is_left_alone(
    ec: Any, created: Created, name: str, frozen: Callable[[str], None], service: Service
) -> None:
    def all_refused() -> None:
        changes: dict[str, dict[str, Any]] = {
            "ModifyCacheCluster": {"CacheNodeType": "cache.t4g.small"},
            "RebootCacheCluster": {"CacheNodeIdsToReboot": ["0001"]},
        }
        for operation, params in changes.items():
            assert refused(ec, operation, CacheClusterId=name, **params)[0] == CLUSTER_STATE

    ec.create_cache_cluster(CacheClusterId=name, Engine="valkey")
    created.append(("cluster", name))
    all_refused()
    wait_for(lambda: cluster_status(ec, name) == "available")
    frozen(name)
    ec.modify_cache_cluster(CacheClusterId=name, CacheNodeType="cache.t4g.medium", ApplyImmediately=True)
    assert cluster_status(ec, name) == "modifying"
    all_refused()
    for pid in service.engines(name):
        os.kill(pid, signal.SIGCONT)
    wait_for(lambda: cluster_status(ec, name) == "available")
    frozen(name)
    ec.delete_cache_cluster(CacheClusterId=name)
    all_refused()
    code, message = refused(ec, "DeleteCacheCluster", CacheClusterId=name)
    assert code == CLUSTER_STATE
    assert "not in a valid state to be deleted" in message
    assert refused(ec, "CreateCacheCluster", CacheClusterId=name, Engine="valkey")[0] == "CacheClusterAlreadyExists"


def test_the_only_member_is_deleted_with_its_group(ec: Any, created: Created, name: str) -> None:
    create_group(ec, created, name, NumCacheClusters=1)
    code, message = refused(ec, "DeleteCacheCluster", CacheClusterId=f"{name}-001")
    assert code == CLUSTER_STATE
    assert "only member of a replication group" in message


def test_what_waits_for_a_group_is_not_applied_through_a_member(ec: Any, created: Created, name: str) -> None:
    create_group(ec, created, name, NumCacheClusters=2, CacheNodeType="cache.t4g.micro")
    ec.modify_replication_group(ReplicationGroupId=name, CacheNodeType="cache.t4g.small")
    member = ec.modify_cache_cluster(CacheClusterId=f"{name}-002", ApplyImmediately=True)["CacheCluster"]
    assert member["CacheNodeType"] == "cache.t4g.micro"
    assert member["PendingModifiedValues"] == {"CacheNodeType": "cache.t4g.small"}
    code, _ = refused(ec, "ModifyCacheCluster", CacheClusterId=f"{name}-002", CacheNodeType="cache.t4g.micro")
    assert code == COMBINATION


def test_databases_are_lowered_only_while_nobody_uses_the_group(ec: Any, created: Created, name: str) -> None:
    def set_databases(count: int) -> None:
        ec.modify_cache_parameter_group(
            CacheParameterGroupName=name,
            ParameterNameValues=[{"ParameterName": "databases", "ParameterValue": str(count)}],
        )

    ec.create_cache_parameter_group(CacheParameterGroupName=name, CacheParameterGroupFamily="valkey9", Description="x")
    for count in (20, 8, 10):
        set_databases(count)
    create_cluster(ec, created, name, CacheParameterGroupName=name)
    set_databases(12)
    with pytest.raises(ec.exceptions.InvalidCacheParameterGroupStateFault, match="keys of the databases that go"):
        set_databases(11)
    more = [{"ParameterName": "timeout", "ParameterValue": "60"}]
    ec.modify_cache_parameter_group(CacheParameterGroupName=name, ParameterNameValues=more)
    ec.modify_cache_cluster(CacheClusterId=name, CacheParameterGroupName="default.valkey9")
    wait_for(lambda: cluster_status(ec, name) == "available")
    with pytest.raises(ec.exceptions.InvalidParameterCombinationException, match="gives 12 databases"):
        ec.modify_cache_cluster(CacheClusterId=name, CacheParameterGroupName=name)


def test_addresses_of_nodes_that_never_came_are_free_again(
    ec: Any, created: Created, name: str, service: Service, catalogue: MachineCatalogue
) -> None:
    if catalogue.best(Engine.MEMCACHED, None) is None:
        pytest.skip("needs memcached on the machine")

    def claimed() -> list[str]:
        return [row for row in everything(service)["address"] if name in row]

    create_cluster(ec, created, name, Engine="memcached", NumCacheNodes=1)
    ec.modify_cache_cluster(CacheClusterId=name, NumCacheNodes=4)
    assert len(claimed()) == 5
    ec.delete_cache_cluster(CacheClusterId=name)
    wait_for(lambda: gone(ec, "cluster", name))
    assert claimed() == []


def test_of_many_creates_of_one_name_one_succeeds(service: Service, ec: Any, created: Created, name: str) -> None:
    clients = [service.client() for _ in range(20)]
    created.append(("group", name))

    def create(client: Any) -> str:
        try:
            client.create_replication_group(
                ReplicationGroupId=name, ReplicationGroupDescription="x", NumCacheClusters=1
            )
        except ClientError as error:
            return str(error.response["Error"]["Code"])
        return "created"

    with ThreadPoolExecutor(20) as threads:
        answers = sorted(threads.map(create, clients))
    assert answers == ["ReplicationGroupAlreadyExists"] * 19 + ["created"]
    wait_for(lambda: group_status(ec, name) == "available")
    assert len(service.engines(f"{name}-001")) == 1

    def delete(client: Any) -> str:
        try:
            client.delete_replication_group(ReplicationGroupId=name)
        except ClientError as error:
            return str(error.response["Error"]["Code"])
        return "deleted"

    with ThreadPoolExecutor(10) as threads:
        answers = sorted(threads.map(delete, clients[:10]))
    assert answers.count("deleted") == 1
    assert set(answers) <= {"deleted", "InvalidReplicationGroupState", "ReplicationGroupNotFoundFault"}
    wait_for(lambda: gone(ec, "group", name))
