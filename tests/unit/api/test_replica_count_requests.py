"""IncreaseReplicaCount and DecreaseReplicaCount: what is stored, and what is refused."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from desk import Desk

from cachekeep.domain.cache_cluster import Status
from cachekeep.plan.placement import Machine

COMBINATION, VALUE, STATE = "InvalidParameterCombination", "InvalidParameterValue", "InvalidReplicationGroupState"
NOW = {"ApplyImmediately": True}


def test_replicas_take_the_next_free_numbers(desk: Desk) -> None:
    desk.create_group(NumCacheClusters=3, Tags=[{"Key": "team", "Value": "a"}])
    desk.create_cluster("g-005")  # a cluster of its own that happens to have such a name
    desk.ask("DecreaseReplicaCount", ReplicationGroupId="g", ReplicasToRemove=["G-002"], **NOW)
    assert desk.cluster("g-002").status is Status.DELETING
    desk.settle()
    answer = desk.ask_group("IncreaseReplicaCount", NewReplicaCount=4, **NOW)
    assert answer["Status"] == "modifying"
    group = desk.group()
    assert group.member_ids == ("g-001", "g-003", "g-002", "g-004", "g-006")
    new = desk.cluster("g-006")
    assert (new.status, new.replication_group_id, new.tags) == (Status.CREATING, "g", {"team": "a"})
    assert new.created_at == desk.clock.time
    assert not desk.free(new.nodes[0].address)
    assert desk.events()[-1] == "Increasing the replica count started: node group 0001 from 1 to 4 replicas"


def test_each_shard_as_asked(desk: Desk) -> None:
    desk.create_group(NumNodeGroups=3, ReplicasPerNodeGroup=1)
    wanted: list[dict[str, Any]] = [
        {"NodeGroupId": "0001", "NewReplicaCount": 2},
        {
            "NodeGroupId": "0003",
            "NewReplicaCount": 3,
            "PreferredAvailabilityZones": ["eu-west-1c", "eu-west-1c", "eu-west-1a", "eu-west-1b"],
        },
    ]
    answer = desk.ask_group("IncreaseReplicaCount", ReplicaConfiguration=wanted, **NOW)
    assert [shard["Status"] for shard in answer["NodeGroups"]] == ["modifying", "available", "modifying"]
    shards = {shard.id: shard.member_ids for shard in desk.group().node_groups}
    assert shards["0001"] == ("g-0001-001", "g-0001-002", "g-0001-003")
    assert shards["0002"] == ("g-0002-001", "g-0002-002")
    # Zones asked for, less those that there are.
    assert [desk.cluster(name).nodes[0].zone for name in shards["0003"]] == [
        "eu-west-1a",
        "eu-west-1b",
        "eu-west-1c",
        "eu-west-1c",
    ]


def test_the_highest_numbers_go_and_never_the_primary(desk: Desk) -> None:
    group = desk.create_group(NumNodeGroups=2, ReplicasPerNodeGroup=3)
    with desk.store.transaction() as work:
        work.replace(group, group.with_shard(replace(group.node_groups[0], primary_id="g-0001-004")))
    desk.ask("DecreaseReplicaCount", ReplicationGroupId="g", NewReplicaCount=1, **NOW)
    gone = [name for name in desk.group().member_ids if desk.cluster(name).status is Status.DELETING]
    assert gone == ["g-0001-002", "g-0001-003", "g-0002-003", "g-0002-004"]


def test_replicas_outside_the_wanted_zones_go_first(desk: Desk) -> None:
    desk.create_group(NumNodeGroups=1, ClusterMode="enabled", ReplicasPerNodeGroup=2)
    wanted = [{"NodeGroupId": "0001", "NewReplicaCount": 1, "PreferredAvailabilityZones": ["eu-west-1a", "eu-west-1c"]}]
    desk.ask("DecreaseReplicaCount", ReplicationGroupId="g", ReplicaConfiguration=wanted, **NOW)
    gone = [name for name in desk.group().member_ids if desk.cluster(name).status is Status.DELETING]
    assert gone == ["g-0001-002"]


def test_a_shard_of_cluster_mode_may_be_without_replicas(desk: Desk) -> None:
    desk.create_group(NumNodeGroups=2)
    desk.ask("DecreaseReplicaCount", ReplicationGroupId="g", NewReplicaCount=0, **NOW)
    assert desk.settle().member_ids == ("g-0001-001", "g-0002-001")


def entry(name: str, count: int, *zones: str) -> dict[str, Any]:
    return {"NodeGroupId": name, "NewReplicaCount": count, "PreferredAvailabilityZones": list(zones)}


REFUSED = [
    ("IncreaseReplicaCount", {"NewReplicaCount": 2, "ApplyImmediately": False}, VALUE, "ApplyImmediately must be true"),
    ("DecreaseReplicaCount", {"NewReplicaCount": 0, "ApplyImmediately": False}, VALUE, "ApplyImmediately must be true"),
    ("IncreaseReplicaCount", {}, COMBINATION, "either"),
    ("IncreaseReplicaCount", {"NewReplicaCount": 2, "ReplicaConfiguration": [entry("0001", 2)]}, COMBINATION, "either"),
    ("DecreaseReplicaCount", {}, COMBINATION, "either"),
    ("IncreaseReplicaCount", {"NewReplicaCount": 1}, "NoOperationFault", "already"),
    ("DecreaseReplicaCount", {"NewReplicaCount": 1}, "NoOperationFault", "already"),
    ("IncreaseReplicaCount", {"NewReplicaCount": 0}, VALUE, "use DecreaseReplicaCount"),
    ("DecreaseReplicaCount", {"NewReplicaCount": 3}, VALUE, "use IncreaseReplicaCount"),
    ("IncreaseReplicaCount", {"NewReplicaCount": 6}, VALUE, "between 0 and 5"),
    ("DecreaseReplicaCount", {"NewReplicaCount": -1}, VALUE, "between 0 and 5"),
    ("IncreaseReplicaCount", {"ReplicaConfiguration": [entry("0002", 2)]}, VALUE, "no node group 0002"),
    ("IncreaseReplicaCount", {"ReplicaConfiguration": [entry("0001", 2)] * 2}, VALUE, "0001 twice"),
    ("IncreaseReplicaCount", {"ReplicaConfiguration": [entry("0001", 2, "eu-west-1a")]}, VALUE, "it must name 3"),
    ("IncreaseReplicaCount", {"ReplicaConfiguration": [entry("0001", 2, "moon")]}, VALUE, "availability zone"),
    ("DecreaseReplicaCount", {"NewReplicaCount": 0}, COMBINATION, "while automatic failover is on"),
    ("DecreaseReplicaCount", {"ReplicasToRemove": ["g-002"]}, COMBINATION, "while automatic failover is on"),
    ("DecreaseReplicaCount", {"ReplicasToRemove": ["g-001"]}, VALUE, "is the primary"),
    ("DecreaseReplicaCount", {"ReplicasToRemove": ["h-002"]}, VALUE, "not a member"),
    ("DecreaseReplicaCount", {"ReplicasToRemove": ["g-002"], "NewReplicaCount": 0}, COMBINATION, "alone"),
]


@pytest.mark.parametrize(("operation", "params", "code", "words"), REFUSED)
def test_counts_that_cannot_be(desk: Desk, operation: str, params: dict[str, Any], code: str, words: str) -> None:
    desk.create_group(NumCacheClusters=2, AutomaticFailoverEnabled=True)
    desk.create_group("h", NumCacheClusters=2)
    answer = desk.refused(operation, ReplicationGroupId="g", **{**NOW, **params})
    assert (answer[0], words in answer[1]) == (code, True), answer


def test_the_last_replica_of_any_shard_stays_with_multi_az(desk: Desk) -> None:
    desk.create_group(NumNodeGroups=2, MultiAZEnabled=True)
    asked = {"ReplicationGroupId": "g", "ReplicasToRemove": ["g-0002-002"], **NOW}
    code, message = desk.refused("DecreaseReplicaCount", **asked)
    assert (code, "while Multi-AZ is on" in message) == (COMBINATION, True)


def test_nothing_else_meanwhile(desk: Desk) -> None:
    desk.create_group(NumCacheClusters=2)
    desk.ask("IncreaseReplicaCount", ReplicationGroupId="g", NewReplicaCount=2, **NOW)
    for operation in ("IncreaseReplicaCount", "DecreaseReplicaCount"):
        assert desk.refused(operation, ReplicationGroupId="g", NewReplicaCount=3, **NOW)[0] == STATE
    assert desk.refused("ModifyReplicationGroup", ReplicationGroupId="g")[0] == STATE
    reboot = {"CacheClusterId": "g-001", "CacheNodeIdsToReboot": ["0001"]}
    assert desk.refused("RebootCacheCluster", **reboot)[0] == "InvalidCacheClusterState"
    desk.ask("DeleteReplicationGroup", ReplicationGroupId="g")
    assert desk.refused("IncreaseReplicaCount", ReplicationGroupId="g", NewReplicaCount=3, **NOW)[0] == STATE


def test_no_more_than_the_machine_can_promise(desk: Desk) -> None:
    desk.create_group(NumCacheClusters=1, CacheNodeType="cache.r7g.large")
    object.__setattr__(desk.services, "machine", Machine(30 << 30, 1.0))
    code, message = desk.refused("IncreaseReplicaCount", ReplicationGroupId="g", NewReplicaCount=3, **NOW)
    assert (code, "Choose a smaller node type" in message) == ("InsufficientCacheClusterCapacity", True)
