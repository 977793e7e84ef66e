"""TestFailover and PrimaryClusterId: what is stored, and what is refused."""

from __future__ import annotations

import pytest
from desk import Desk

from cachekeep.domain.cache_cluster import Status
from cachekeep.domain.replication_group import HandOver

COMBINATION, VALUE, STATE = "InvalidParameterCombination", "InvalidParameterValue", "InvalidReplicationGroupState"
NOT_AVAILABLE = "TestFailoverNotAvailableFault"


def test_a_failover_is_asked_for(desk: Desk) -> None:
    desk.create_group(NumCacheClusters=2, AutomaticFailoverEnabled=True)
    answer = desk.ask_group("TestFailover", NodeGroupId="0001")
    assert answer["Status"] == "modifying"
    assert answer["NodeGroups"][0]["Status"] == "modifying"
    group = desk.group()
    assert group.node_groups[0].hand_over == HandOver(test=True)
    assert group.tested_at == (desk.clock.time,)
    assert desk.events() == ["Test Failover API called for node group 0001"]
    code, _ = desk.refused("TestFailover", ReplicationGroupId="g", NodeGroupId="0001")
    assert code == STATE


def test_any_shard_of_many(desk: Desk) -> None:
    desk.create_group(NumNodeGroups=3)
    answer = desk.ask_group("TestFailover", NodeGroupId="0003")
    assert [shard["Status"] for shard in answer["NodeGroups"]] == ["available", "available", "modifying"]
    assert desk.group().node_groups[2].hand_over == HandOver(test=True)


def test_fifteen_shards_in_a_rolling_day_over_all_groups(desk: Desk) -> None:
    desk.create_group("a", NumCacheClusters=2, AutomaticFailoverEnabled=True)
    desk.create_group("b", NumCacheClusters=2, AutomaticFailoverEnabled=True)
    for n in range(15):
        name = "ab"[n % 2]
        desk.ask_group("TestFailover", name, NodeGroupId="0001")
        desk.settle(name)
        desk.clock.time += 60
    code, message = desk.refused("TestFailover", ReplicationGroupId="b", NodeGroupId="0001")
    assert code == "APICallRateForCustomerExceeded"
    assert "possible in 1426 minutes" in message
    desk.clock.time += 24 * 3600 - 15 * 60 + 1
    desk.ask_group("TestFailover", "b", NodeGroupId="0001")
    # What is older than a day is forgotten.
    assert len(desk.group("b").tested_at) == 8


def test_failovers_that_cannot_be(desk: Desk) -> None:
    desk.create_group("off", NumCacheClusters=2)
    desk.create_group("on", NumNodeGroups=2, ReplicasPerNodeGroup=0)
    assert (
        desk.refused("TestFailover", ReplicationGroupId="no", NodeGroupId="0001")[0] == "ReplicationGroupNotFoundFault"
    )
    assert desk.refused("TestFailover", ReplicationGroupId="on", NodeGroupId="0003")[0] == "NodeGroupNotFoundFault"
    code, message = desk.refused("TestFailover", ReplicationGroupId="off", NodeGroupId="0001")
    assert (code, "Automatic failover is off" in message) == (NOT_AVAILABLE, True)
    code, message = desk.refused("TestFailover", ReplicationGroupId="on", NodeGroupId="0002")
    assert (code, "has no replica" in message) == (NOT_AVAILABLE, True)


@pytest.mark.parametrize("at_once", [True, False])
def test_a_replica_is_promoted_at_once(desk: Desk, at_once: bool) -> None:
    desk.create_group(NumCacheClusters=3)
    answer = desk.ask_group("ModifyReplicationGroup", PrimaryClusterId="G-003", ApplyImmediately=at_once)
    assert answer["Status"] == "modifying"
    assert answer["PendingModifiedValues"] == {"PrimaryClusterId": "g-003"}
    assert desk.group().node_groups[0].hand_over == HandOver(to="g-003")


def test_the_primary_needs_no_promotion(desk: Desk) -> None:
    desk.create_group(NumCacheClusters=2)
    assert desk.ask_group("ModifyReplicationGroup", PrimaryClusterId="g-001")["Status"] == "available"
    assert desk.group().status is Status.AVAILABLE


def test_promotions_that_cannot_be(desk: Desk) -> None:
    desk.create_group(NumCacheClusters=2, AutomaticFailoverEnabled=True)
    desk.create_group("h", NumCacheClusters=2)
    desk.create_group("k", NumNodeGroups=2)
    change = {"ReplicationGroupId": "g", "ApplyImmediately": True}
    code, message = desk.refused("ModifyReplicationGroup", **change, PrimaryClusterId="g-002")
    assert (code, "while automatic failover is on" in message) == (COMBINATION, True)
    assert desk.refused("ModifyReplicationGroup", **change, PrimaryClusterId="nobody")[0] == "CacheClusterNotFound"
    assert desk.refused("ModifyReplicationGroup", **change, PrimaryClusterId="h-002")[0] == VALUE
    code, _ = desk.refused("ModifyReplicationGroup", ReplicationGroupId="k", PrimaryClusterId="k-0002-002")
    assert code == COMBINATION
    code, message = desk.refused(
        "ModifyReplicationGroup", ReplicationGroupId="h", PrimaryClusterId="h-002", EngineVersion="8.1"
    )
    assert (code, "together" in message) == (COMBINATION, True)
    # Turned off in the same request, it is no hindrance.
    desk.ask_group(
        "ModifyReplicationGroup", PrimaryClusterId="g-002", ApplyImmediately=True, AutomaticFailoverEnabled=False
    )
    assert desk.group().node_groups[0].hand_over == HandOver(to="g-002")
    assert not desk.group().automatic_failover
