"""Requests for Memcached clusters: zones, nodes that wait, and the way to another node type."""

from __future__ import annotations

from typing import Any

import pytest
from desk import Desk

COMBINATION, VALUE = "InvalidParameterCombination", "InvalidParameterValue"
ZONES = ["eu-west-1a", "eu-west-1b", "eu-west-1c"]


def waiting(desk: Desk, name: str = "m") -> list[tuple[str, str]]:
    """Ids and zones of the nodes that wait for the window."""
    return [(n.node_id, n.zone) for n in desk.cluster(name).pending.nodes_to_add]


def modify(desk: Desk, **params: Any) -> dict[str, Any]:
    return dict(desk.ask("ModifyCacheCluster", CacheClusterId="m", **params)["CacheCluster"])


def test_zones_of_a_new_cluster(desk: Desk) -> None:
    cluster = desk.create_cluster("m", Engine="memcached", NumCacheNodes=3, PreferredAvailabilityZones=ZONES)
    assert [n.zone for n in cluster.nodes] == ZONES
    crossed = desk.create_cluster("n", Engine="memcached", NumCacheNodes=4, AZMode="cross-az")
    assert [n.zone for n in crossed.nodes] == [*ZONES, "eu-west-1a"]
    single = desk.create_cluster(
        "o", Engine="memcached", NumCacheNodes=2, AZMode="single-az", PreferredAvailabilityZone="eu-west-1c"
    )
    assert [n.zone for n in single.nodes] == ["eu-west-1c"] * 2


REFUSED_CREATE: list[tuple[dict[str, Any], str, str]] = [
    ({"Engine": "valkey", "AZMode": "cross-az"}, COMBINATION, "only supported for Memcached"),
    ({"Engine": "valkey", "PreferredAvailabilityZones": ZONES[:1]}, COMBINATION, "only supported for Memcached"),
    ({"Engine": "memcached", "AZMode": "cross-az"}, COMBINATION, "more than one node"),
    ({"Engine": "memcached", "PreferredAvailabilityZones": ZONES}, COMBINATION, "3 zones for 1 nodes"),
    (
        {"Engine": "memcached", "NumCacheNodes": 3, "AZMode": "single-az", "PreferredAvailabilityZones": ZONES},
        COMBINATION,
        "exclude each other",
    ),
    (
        {"Engine": "memcached", "PreferredAvailabilityZone": ZONES[0], "PreferredAvailabilityZones": ZONES[:1]},
        COMBINATION,
        "not both",
    ),
    ({"Engine": "memcached", "PreferredAvailabilityZone": "us-east-1a"}, VALUE, "not a valid availability zone"),
    ({"Engine": "memcached", "NumCacheNodes": 0}, VALUE, "at least 1"),
]


@pytest.mark.parametrize(("params", "code", "words"), REFUSED_CREATE)
def test_clusters_that_cannot_be(desk: Desk, params: dict[str, Any], code: str, words: str) -> None:
    answer = desk.refused("CreateCacheCluster", CacheClusterId="m", **params)
    assert (answer[0], words in answer[1]) == (code, True), answer


def test_nodes_that_wait_stay_and_others_join_them(desk: Desk) -> None:
    """The scenarios of the model's text of NewAvailabilityZones."""
    desk.create_cluster("m", Engine="memcached", NumCacheNodes=3)
    assert modify(desk, NumCacheNodes=5, NewAvailabilityZones=ZONES[:2])["PendingModifiedValues"] == {
        "NumCacheNodes": 5
    }
    modify(desk, NumCacheNodes=6, NewAvailabilityZones=ZONES[2:])
    assert waiting(desk) == list(zip(["0004", "0005", "0006"], ZONES, strict=True))
    modify(desk, NumCacheNodes=4)
    assert waiting(desk) == [("0004", ZONES[0])]
    modify(desk, NumCacheNodes=3)
    assert (waiting(desk), desk.cluster("m").pending.anything) == ([], False)
    modify(desk, NumCacheNodes=2, CacheNodeIdsToRemove=["0001"])
    modify(desk, NumCacheNodes=4)
    assert (waiting(desk), desk.cluster("m").pending.node_ids_to_remove) == ([("0004", ZONES[0])], ())
    modify(desk, NumCacheNodes=2, CacheNodeIdsToRemove=["0002"])
    assert (waiting(desk), desk.cluster("m").pending.node_ids_to_remove) == ([], ("0002",))
    with desk.store.transaction() as work:
        assert len(work.addresses()) == 4, "three nodes and the configuration endpoint"


def test_new_nodes_over_the_zones(desk: Desk) -> None:
    desk.create_cluster("m", Engine="memcached", NumCacheNodes=1, PreferredAvailabilityZone=ZONES[1])
    modify(desk, NumCacheNodes=2)
    assert waiting(desk) == [("0002", ZONES[1])]
    modify(desk, NumCacheNodes=4, AZMode="cross-az")
    assert waiting(desk) == [("0002", ZONES[1]), ("0003", ZONES[2]), ("0004", ZONES[0])]
    code, message = desk.refused("ModifyCacheCluster", CacheClusterId="m", NumCacheNodes=5, AZMode="single-az")
    assert (code, "in eu-west-1a, eu-west-1b, eu-west-1c already" in message) == (COMBINATION, True), message


def test_another_node_type_waits_with_its_terms(desk: Desk) -> None:
    desk.create_cluster("m", Engine="memcached", NumCacheNodes=2)
    shown = modify(desk, CacheNodeType="cache.t4g.small", ScaleConfig={"ScalePercentage": 50})["PendingModifiedValues"]
    assert shown == {
        "CacheNodeType": "cache.t4g.small",
        "ScaleConfig": {"ScalePercentage": 50, "ScaleIntervalMinutes": 5},
    }
    shown = modify(desk, ScaleConfig={"ScaleIntervalMinutes": 2})["PendingModifiedValues"]
    assert shown["ScaleConfig"] == {"ScalePercentage": 20, "ScaleIntervalMinutes": 2}
    begun = modify(desk, ApplyImmediately=True)
    assert (begun["CacheClusterStatus"], begun["CacheNodeType"]) == ("modifying", "cache.t4g.micro")
    assert begun["PendingModifiedValues"] == shown
    assert desk.refused("ModifyCacheCluster", CacheClusterId="m", NumCacheNodes=3)[0] == "InvalidCacheClusterState"


def test_a_change_of_the_node_type_is_taken_back(desk: Desk) -> None:
    desk.create_cluster("m", Engine="memcached")
    modify(desk, CacheNodeType="cache.t4g.small")
    assert modify(desk, CacheNodeType="cache.t4g.micro").get("PendingModifiedValues", {}) == {}


REFUSED_MODIFY: list[tuple[dict[str, Any], str, str]] = [
    ({"ScaleConfig": {"ScalePercentage": 50}}, COMBINATION, "needs CacheNodeType"),
    ({"CacheNodeType": "cache.t4g.small", "ScaleConfig": {"ScalePercentage": 9}}, VALUE, "between 10 and 100"),
    ({"CacheNodeType": "cache.t4g.small", "ScaleConfig": {"ScaleIntervalMinutes": 31}}, VALUE, "between 2 and 30"),
    ({"CacheNodeType": "cache.none"}, VALUE, "Invalid Cache Node Type"),
    ({"CacheNodeType": "cache.r7g.16xlarge"}, "InsufficientCacheClusterCapacity", "Choose a smaller"),
    ({"CacheNodeIdsToRemove": ["0001"]}, COMBINATION, "needs NumCacheNodes"),
    ({"NumCacheNodes": 1}, COMBINATION, "must name 1 nodes"),
    ({"NumCacheNodes": 1, "CacheNodeIdsToRemove": ["0009"]}, VALUE, "no cache nodes 0009"),
    ({"NumCacheNodes": 3, "CacheNodeIdsToRemove": ["0001"]}, COMBINATION, "must name 0 nodes"),
    ({"NumCacheNodes": 3, "NewAvailabilityZones": ZONES}, COMBINATION, "3 zones for 1 new nodes"),
    ({"NumCacheNodes": 41}, "NodeQuotaForClusterExceeded", "at most 40 nodes"),
    ({"NumCacheNodes": 0}, VALUE, "at least 1"),
]


@pytest.mark.parametrize(("params", "code", "words"), REFUSED_MODIFY)
def test_changes_that_cannot_be(desk: Desk, params: dict[str, Any], code: str, words: str) -> None:
    desk.create_cluster("m", Engine="memcached", NumCacheNodes=2)
    answer = desk.refused("ModifyCacheCluster", CacheClusterId="m", **params)
    assert (answer[0], words in answer[1]) == (code, True), answer


@pytest.mark.parametrize(
    "params", [{"ScaleConfig": {"ScalePercentage": 50}, "CacheNodeType": "cache.t4g.small"}, {"AZMode": "cross-az"}]
)
def test_only_memcached_has_these(desk: Desk, params: dict[str, Any]) -> None:
    desk.create_cluster("c")
    code, message = desk.refused("ModifyCacheCluster", CacheClusterId="c", **params)
    assert (code, "only supported for Memcached clusters" in message) == (COMBINATION, True)


def test_types_to_change_to(desk: Desk) -> None:
    desk.create_cluster("m", Engine="memcached", CacheNodeType="cache.t4g.small")
    answer = desk.ask("ListAllowedNodeTypeModifications", CacheClusterId="m")
    assert "cache.t4g.medium" in answer["ScaleUpModifications"]
    assert "cache.t4g.micro" in answer["ScaleDownModifications"]
