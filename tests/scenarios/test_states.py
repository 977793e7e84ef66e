"""Requests that a resource's state forbids, and many requests at once."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError

from cachekeep.domain.engine import Engine
from cachekeep.host.installs import MachineCatalogue

from .calm import CLUSTER_STATE, COMBINATION, everything, refused
from .conftest import Service, cluster_status, create_cluster, create_group, gone, group_status, wait_for

Created = list[tuple[str, str]]


STUBBORN = "9.9"


@pytest.fixture
def stubborn(new_service: Callable[..., Service], tmp_path: Path) -> Service:
    """A service on a machine with one more engine, Valkey 9.9, that never answers and will not end when asked to:
    what is created with it stays `creating`, and what is deleted stays `deleting` for seconds."""
    program = tmp_path / "bin" / "valkey-server"
    program.parent.mkdir()
    program.write_text(
        "#!/bin/sh\n"
        'case "$1" in\n'
        '  --version) echo "Valkey server v=9.9.9 sha=00000000:0 malloc=libc bits=64 build=0" ;;\n'
        "  --*) exit 1 ;;\n"
        "  *) trap '' TERM; exec sleep 600 ;;\n"
        "esac\n"
    )
    program.chmod(0o700)
    return new_service(PATH=f"{program.parent}:{os.environ['PATH']}").start()


def test_a_group_that_is_created_or_deleted_is_left_alone(stubborn: Service) -> None:
    ec, state = stubborn.client(), "InvalidReplicationGroupState"
    ec.create_replication_group(
        ReplicationGroupId="g", ReplicationGroupDescription="x", NumCacheClusters=2, EngineVersion=STUBBORN
    )
    wait_for(lambda: len(stubborn.engines()) == 2)

    def left_alone() -> None:
        assert refused(ec, "ModifyReplicationGroup", ReplicationGroupId="g")[0] == state
        assert refused(ec, "CreateCacheCluster", CacheClusterId="x", ReplicationGroupId="g")[0] == state
        member: dict[str, Any] = {"CacheClusterId": "g-002"}
        assert refused(ec, "DeleteCacheCluster", **member)[0] == CLUSTER_STATE
        assert refused(ec, "ModifyCacheCluster", SnapshotWindow="05:00-06:00", **member)[0] == CLUSTER_STATE
        assert refused(ec, "RebootCacheCluster", CacheNodeIdsToReboot=["0001"], **member)[0] == CLUSTER_STATE
        code, _ = refused(ec, "CreateReplicationGroup", ReplicationGroupId="g", ReplicationGroupDescription="x")
        assert code == "ReplicationGroupAlreadyExists"

    left_alone()
    assert refused(ec, "DeleteReplicationGroup", ReplicationGroupId="g", RetainPrimaryCluster=True)[0] == state
    _, message = refused(ec, "ModifyReplicationGroup", ReplicationGroupId="g", ReplicationGroupDescription="y")
    assert "must be in available state to modify" in message
    assert group_status(ec, "g") == "creating"
    ec.delete_replication_group(ReplicationGroupId="g")
    left_alone()
    code, message = refused(ec, "DeleteReplicationGroup", ReplicationGroupId="g")
    assert (code, message) == (state, "Replication group g has status deleting which is not valid for deletion.")
    assert group_status(ec, "g") == "deleting"
    wait_for(lambda: gone(ec, "group", "g"))
    assert not stubborn.engines()


def _cluster_is_left_alone(ec: Any, name: str) -> None:
    changes: dict[str, dict[str, Any]] = {
        "ModifyCacheCluster": {"CacheNodeType": "cache.t4g.small"},
        "RebootCacheCluster": {"CacheNodeIdsToReboot": ["0001"]},
    }
    for operation, params in changes.items():
        assert refused(ec, operation, CacheClusterId=name, **params)[0] == CLUSTER_STATE


def test_a_cluster_that_is_created_or_deleted_is_left_alone(stubborn: Service) -> None:
    ec = stubborn.client()
    ec.create_cache_cluster(CacheClusterId="c", Engine="valkey", EngineVersion=STUBBORN)
    wait_for(stubborn.engines)
    _cluster_is_left_alone(ec, "c")
    assert cluster_status(ec, "c") == "creating"
    ec.delete_cache_cluster(CacheClusterId="c")
    _cluster_is_left_alone(ec, "c")
    code, message = refused(ec, "DeleteCacheCluster", CacheClusterId="c")
    assert code == CLUSTER_STATE
    assert "not in a valid state to be deleted" in message
    code, _ = refused(ec, "CreateCacheCluster", CacheClusterId="c", Engine="valkey")
    assert code == "CacheClusterAlreadyExists"
    assert cluster_status(ec, "c") == "deleting"
    wait_for(lambda: gone(ec, "cluster", "c"))
    assert not stubborn.engines()


def test_a_cluster_that_is_changed_is_left_alone(ec: Any, created: Created, name: str, service: Service) -> None:
    create_cluster(ec, created, name)
    (pid,) = service.engines(name)
    # An engine that is stopped in its tracks cannot be changed: the cluster stays `modifying`.
    os.kill(pid, signal.SIGSTOP)
    ec.modify_cache_cluster(CacheClusterId=name, CacheNodeType="cache.t4g.medium", ApplyImmediately=True)
    assert cluster_status(ec, name) == "modifying"
    _cluster_is_left_alone(ec, name)
    os.kill(pid, signal.SIGCONT)
    wait_for(lambda: cluster_status(ec, name) == "available")


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
