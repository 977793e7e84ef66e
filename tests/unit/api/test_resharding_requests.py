"""ModifyReplicationGroupShardConfiguration: what is stored, and what is refused."""

from __future__ import annotations

from typing import Any

import pytest
from desk import Desk

from cachekeep.domain.cache_cluster import Status
from cachekeep.domain.slots import slots_text
from cachekeep.plan.placement import Machine

COMBINATION, VALUE = "InvalidParameterCombination", "InvalidParameterValue"
OPERATION = "ModifyReplicationGroupShardConfiguration"


def ask(desk: Desk, count: int, **params: Any) -> dict[str, Any]:
    return desk.ask_group(OPERATION, NodeGroupCount=count, ApplyImmediately=True, **params)


def shards(desk: Desk) -> dict[str, str]:
    return {shard.id: slots_text(shard.slots) for shard in desk.group().node_groups}


def test_new_shards_have_as_many_nodes_as_the_smallest(desk: Desk) -> None:
    desk.create_group(
        NodeGroupConfiguration=[{"ReplicaCount": 2}, {"ReplicaCount": 1}], Tags=[{"Key": "k", "Value": "v"}]
    )
    answer = ask(desk, 3)
    assert answer["Status"] == "modifying"
    assert answer["PendingModifiedValues"] == {"Resharding": {"SlotMigration": {"ProgressPercentage": 0.0}}}
    assert [s["Status"] for s in answer["NodeGroups"]] == ["modifying", "modifying", "creating"]
    group = desk.group()
    assert group.resharding == 0.0
    assert shards(desk) == {"0001": "0-5461", "0002": "8192-13652", "0003": "5462-8191,13653-16383"}
    new = group.node_groups[2]
    assert (new.member_ids, new.primary_id) == (("g-0003-001", "g-0003-002"), "g-0003-001")
    assert (desk.cluster("g-0003-002").status, desk.cluster("g-0003-002").tags) == (Status.CREATING, {"k": "v"})
    assert desk.events() == ["Resharding of replication group g from 2 to 3 node groups started"]
    assert desk.refused(OPERATION, ReplicationGroupId="g", NodeGroupCount=2, ApplyImmediately=True)[0] == (
        "InvalidReplicationGroupState"
    )


@pytest.mark.parametrize("how", [{"NodeGroupsToRemove": ["0002"]}, {"NodeGroupsToRetain": ["0001", "0003"]}])
def test_a_shard_leaves(desk: Desk, how: dict[str, Any]) -> None:
    desk.create_group(NumNodeGroups=3)
    ask(desk, 2, **how)
    assert shards(desk) == {"0001": "0-8191", "0002": "", "0003": "8192-16383"}
    assert [shard.leaving for shard in desk.group().node_groups] == [False, True, False]
    # Its members serve until its slots are elsewhere.
    assert desk.cluster("g-0002-001").status is Status.AVAILABLE
    desk.settle()
    # The next new shard takes the number that is free.
    ask(desk, 3)
    assert list(shards(desk)) == ["0001", "0002", "0003"]


def test_slots_are_divided_evenly_again(desk: Desk) -> None:
    desk.create_group(NodeGroupConfiguration=[{"Slots": "0-99"}, {"Slots": "100-16383"}])
    ask(desk, 2)
    assert shards(desk) == {"0001": "0-8191", "0002": "8192-16383"}


def test_new_shards_as_configured(desk: Desk) -> None:
    desk.create_group(NumNodeGroups=1, ClusterMode="enabled")
    zones = ["eu-west-1b", "eu-west-1c"]
    ask(desk, 3, ReshardingConfiguration=[{"NodeGroupId": "0009", "PreferredAvailabilityZones": zones}, {}])
    assert list(shards(desk)) == ["0001", "0002", "0009"]
    assert [desk.cluster(f"g-0009-00{n}").nodes[0].zone for n in (1, 2)] == zones
    desk.settle()
    # One entry for each node group, as AWS words it: those of the present ones say nothing new.
    ask(desk, 4, ReshardingConfiguration=[{"PreferredAvailabilityZones": zones}] * 4)
    assert list(shards(desk)) == ["0001", "0002", "0003", "0009"]


REFUSED: list[tuple[dict[str, Any], str, str]] = [
    ({"NodeGroupCount": 3, "ApplyImmediately": False}, VALUE, "ApplyImmediately must be true"),
    ({"NodeGroupCount": 0}, VALUE, "at least 1"),
    ({"NodeGroupCount": 91}, "NodeGroupsPerReplicationGroupQuotaExceeded", "at most 90"),
    ({"NodeGroupCount": 1}, COMBINATION, "either NodeGroupsToRemove or NodeGroupsToRetain"),
    (
        {"NodeGroupCount": 1, "NodeGroupsToRemove": ["0001"], "NodeGroupsToRetain": ["0002"]},
        COMBINATION,
        "either NodeGroupsToRemove or NodeGroupsToRetain",
    ),
    ({"NodeGroupCount": 1, "NodeGroupsToRemove": ["0003"]}, VALUE, "no node group 0003"),
    ({"NodeGroupCount": 1, "NodeGroupsToRemove": ["0001", "0002"]}, COMBINATION, "must name 1, and it names 2"),
    ({"NodeGroupCount": 1, "NodeGroupsToRetain": ["0001", "0002"]}, COMBINATION, "must name 1, and it names 2"),
    (
        {"NodeGroupCount": 3, "NodeGroupsToRemove": ["0001"]},
        COMBINATION,
        "only used when NodeGroupCount becomes smaller",
    ),
    (
        {"NodeGroupCount": 2, "ReshardingConfiguration": [{}]},
        COMBINATION,
        "only used when NodeGroupCount becomes larger",
    ),
    ({"NodeGroupCount": 3, "ReshardingConfiguration": [{}, {}]}, COMBINATION, "2 new node groups, and 1"),
    ({"NodeGroupCount": 3, "ReshardingConfiguration": [{"NodeGroupId": "x"}]}, VALUE, "four digits"),
    (
        {"NodeGroupCount": 3, "ReshardingConfiguration": [{"PreferredAvailabilityZones": ["eu-west-1a"]}]},
        COMBINATION,
        "1 zones for 2 nodes",
    ),
    ({"NodeGroupCount": 40}, "InsufficientCacheClusterCapacity", "Choose a smaller"),
]


@pytest.mark.parametrize(("params", "code", "words"), REFUSED)
def test_shards_that_cannot_be(desk: Desk, params: dict[str, Any], code: str, words: str) -> None:
    desk.create_group(NumNodeGroups=2, CacheNodeType="cache.r7g.large" if params["NodeGroupCount"] == 40 else None)
    answer = desk.refused(OPERATION, **{"ReplicationGroupId": "g", "ApplyImmediately": True, **params})
    assert (answer[0], words in answer[1]) == (code, True), answer


def test_only_with_cluster_mode_enabled(desk: Desk) -> None:
    desk.create_group("a", NumCacheClusters=2)
    desk.create_group("b", ClusterMode="compatible")
    for name in ("a", "b"):
        asked = {"ReplicationGroupId": name, "NodeGroupCount": 2, "ApplyImmediately": True}
        assert desk.refused(OPERATION, **asked)[0] == COMBINATION


def test_no_shard_gets_more_than_it_holds(desk: Desk) -> None:
    """A t4g.micro holds 402,653,184 bytes of data."""
    desk.create_group(NumNodeGroups=3, CacheNodeType="cache.t4g.micro")
    fewer = {"ReplicationGroupId": "g", "NodeGroupCount": 2, "NodeGroupsToRemove": ["0003"], "ApplyImmediately": True}
    for shard in ("0001", "0002", "0003"):
        desk.see(f"g-{shard}-001", used_memory_bytes=300_000_000, keys=1000)
    code, message = desk.refused(OPERATION, **fewer)
    assert code == COMBINATION
    assert "Node group 0001 would have to hold about" in message or "Node group 0002 would" in message
    # Empty engines use memory too, and that does not add up.
    for shard in ("0001", "0002", "0003"):
        desk.see(f"g-{shard}-001", used_memory_bytes=300_000_000, keys=0)
    ask(desk, 2, NodeGroupsToRemove=["0003"])


def test_no_more_than_the_machine_can_promise(desk: Desk) -> None:
    desk.create_group(NumNodeGroups=2, CacheNodeType="cache.t4g.micro")
    object.__setattr__(desk.services, "machine", Machine(5 << 29, 1.0))
    asked = {"ReplicationGroupId": "g", "NodeGroupCount": 3, "ApplyImmediately": True}
    assert desk.refused(OPERATION, **asked)[0] == "InsufficientCacheClusterCapacity"
