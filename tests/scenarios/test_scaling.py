"""Scaling under load: replicas more and fewer, another primary, another node type."""

from __future__ import annotations

import pytest

from tests.chaos.observed import node_client
from tests.chaos.scene import Scene, scene, written

from .conftest import Service, wait_for

COMBINATION = "InvalidParameterCombination"


def _code(it: Scene, operation: str, **params: object) -> str:
    """The code with which a request is refused."""
    with pytest.raises(it.ec.exceptions.ClientError) as caught:
        getattr(it.ec, operation)(**params)
    return str(caught.value.response["Error"]["Code"])


def test_increase_and_decrease(service: Service, name: str) -> None:
    with scene(service, name, NumCacheClusters=2) as it:
        primary = it.primary()
        with it.writing() as load:
            written(load, 100)
            it.ec.increase_replica_count(ReplicationGroupId=name, NewReplicaCount=3, ApplyImmediately=True)
            wait_for(lambda: len(it.group()["MemberClusters"]) == 4)
            it.wait_available()
            assert len(it.replicas()) == 3
            leaves = it.replicas()[-1].member
            it.ec.decrease_replica_count(ReplicationGroupId=name, ReplicasToRemove=[leaves], ApplyImmediately=True)
            wait_for(lambda: leaves not in it.group()["MemberClusters"])
            it.wait_available()
            it.ec.decrease_replica_count(ReplicationGroupId=name, NewReplicaCount=1, ApplyImmediately=True)
            wait_for(lambda: len(it.group()["MemberClusters"]) == 2)
            it.wait_available()
            written(load, 100)
        it.nothing_lost()
        assert it.primary() == primary
        last = {"ReplicationGroupId": name, "NewReplicaCount": 0, "ApplyImmediately": True}
        assert _code(it, "decrease_replica_count", **last).startswith("Invalid")
        assert it.group()["Status"] == "available"
        assert len(it.replicas()) == 1


def test_a_replica_joins_by_name_and_leaves_again(service: Service, name: str) -> None:
    with scene(service, name, NumCacheClusters=2) as it:
        with it.writing() as load:
            it.ec.create_cache_cluster(CacheClusterId=f"{name}-extra", ReplicationGroupId=name)
            wait_for(lambda: f"{name}-extra" in it.group()["MemberClusters"])
            it.wait_available()
            endpoint = it.members()[f"{name}-extra"]["CacheNodes"][0]["Endpoint"]
            with node_client(endpoint["Address"], endpoint["Port"]) as node:
                wait_for(lambda: node.info("replication")["master_link_status"] == "up")
            it.ec.delete_cache_cluster(CacheClusterId=f"{name}-extra")
            wait_for(lambda: f"{name}-extra" not in it.group()["MemberClusters"])
            written(load, 100)
        it.nothing_lost()


def test_promotion_by_hand(service: Service, name: str) -> None:
    with scene(service, name, NumCacheClusters=2) as it:
        old, (replica,) = it.primary(), it.replicas()
        wanted = {"ReplicationGroupId": name, "PrimaryClusterId": replica.member, "ApplyImmediately": True}
        assert _code(it, "modify_replication_group", **wanted) == COMBINATION
        it.modify(AutomaticFailoverEnabled=False)
        it.wait_available()
        with it.writing() as load:
            written(load, 200)
            it.modify(PrimaryClusterId=replica.member)
            wait_for(lambda: it.primary().member == replica.member)
            it.wait_available()
            written(load, 200)
        it.nothing_lost()
        assert {seen.pid for seen in it.engines()} == {old.pid, replica.pid}, "both run on"


def test_node_type_up_and_down_without_a_restart(service: Service, name: str) -> None:
    with scene(service, name, NumCacheClusters=2) as it:
        pids, before = {seen.pid for seen in it.engines()}, _maxmemory(it)
        with it.writing() as load:
            written(load, 100)
            it.modify(CacheNodeType="cache.t4g.medium")
            it.wait_available()
            assert _maxmemory(it) > 2 * before
            it.modify(CacheNodeType="cache.t4g.micro")
            it.wait_available()
            assert _maxmemory(it) == before
            written(load, 100)
        it.nothing_lost()
        assert {seen.pid for seen in it.engines()} == pids
        assert load.errors.total() == 0, "nobody is cut off"


def _maxmemory(it: Scene) -> int:
    primary = it.primary()
    with node_client(primary.host, primary.port) as node:
        return int(node.config_get("maxmemory")["maxmemory"])


def test_what_waits_for_the_window_is_shown_and_not_done(service: Service, name: str) -> None:
    with scene(service, name, NumCacheClusters=2) as it:
        before = _maxmemory(it)
        it.ec.modify_replication_group(ReplicationGroupId=name, CacheNodeType="cache.t4g.small", ApplyImmediately=False)
        member = it.members()[f"{name}-001"]
        assert member["PendingModifiedValues"] == {"CacheNodeType": "cache.t4g.small"}
        assert _maxmemory(it) == before
        it.modify()
        it.wait_available()
        assert _maxmemory(it) > before
