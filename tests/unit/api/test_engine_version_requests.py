"""Engine and EngineVersion of groups and clusters: what is stored, what waits, and what is refused."""

from __future__ import annotations

from typing import Any

import pytest
from desk import Desk

from cachekeep.domain.cache_cluster import NodeStatus, Pending, Status
from cachekeep.domain.engine import Engine
from cachekeep.domain.slots import parse_slots
from cachekeep.plan.placement import Machine

COMBINATION, VALUE, STATE = "InvalidParameterCombination", "InvalidParameterValue", "InvalidReplicationGroupState"
GROUP = "ModifyReplicationGroup"


def change(desk: Desk, version: str, name: str = "g", *, at_once: bool = True, **params: Any) -> dict[str, Any]:
    return desk.ask_group(GROUP, name, EngineVersion=version, ApplyImmediately=at_once, **params)


def told(desk: Desk, member: str) -> dict[str, Any]:
    (cluster,) = desk.ask("DescribeCacheClusters", CacheClusterId=member, ShowCacheNodeInfo=True)["CacheClusters"]
    return dict(cluster)


def test_an_upgrade_begins_with_second_instances(desk: Desk) -> None:
    before = desk.create_group(NumCacheClusters=2, EngineVersion="8.1")
    assert change(desk, "9.1")["Status"] == "modifying"
    group = desk.group()
    begun = group.engine_change
    assert begun is not None
    assert (str(begun.version), begun.parameter_group) == ("9.1.2", "default.valkey9")
    assert (str(begun.before_version), begun.before_parameter_group) == ("8.1.8", "default.valkey8")
    assert (group.version, group.parameter_group, group.pending) == (before.version, "default.valkey8", Pending())
    for name in group.member_ids:
        member = desk.cluster(name)
        spare = member.spare
        assert spare is not None
        assert (str(spare.version), spare.parameter_group, spare.former) == ("9.1.2", "default.valkey9", False)
        assert (spare.node.node_id, spare.node.instance) == ("0001", "0001-2")
        assert spare.node.address != member.nodes[0].address
        assert not desk.free(spare.node.address)
        assert (str(member.version), member.status) == ("8.1.8", Status.MODIFYING)
        shown = told(desk, name)
        assert (shown["EngineVersion"], shown["PendingModifiedValues"]) == ("8.1.8", {"EngineVersion": "9.1.2"})
    assert desk.refused(GROUP, ReplicationGroupId="g", EngineVersion="9.1")[0] == STATE


def test_from_redis_to_valkey_with_cluster_mode(desk: Desk) -> None:
    desk.create_group(NumNodeGroups=2, Engine="redis", EngineVersion="6.2")
    change(desk, "8.1", Engine="valkey")
    begun = desk.group().engine_change
    assert begun is not None
    assert (begun.engine, begun.parameter_group) == (Engine.VALKEY, "default.valkey8.cluster.on")
    assert all(desk.cluster(name).spare is not None for name in desk.group().member_ids)


def test_what_runs_already_is_no_change(desk: Desk) -> None:
    desk.create_group(NumCacheClusters=2)
    for version in ("9.1", "9.1.2", "9"):
        assert change(desk, version)["Status"] == "available"


def test_back_again_with_the_instances_that_are_still_there(desk: Desk) -> None:
    desk.create_group(NumCacheClusters=2, EngineVersion="7.0", Engine="redis")
    change(desk, "9.1", Engine="valkey")
    desk.upgraded()
    shown = told(desk, "g-001")
    assert (shown["Engine"], shown["EngineVersion"], shown["PendingModifiedValues"]) == ("valkey", "9.1.2", {})
    former = desk.cluster("g-001").spare
    assert former is not None
    assert former.former
    # Users are told the address that they know.
    assert shown["CacheNodes"][0]["Endpoint"]["Address"] == former.node.address.host
    desk.ask("IncreaseReplicaCount", ReplicationGroupId="g", NewReplicaCount=2, ApplyImmediately=True)
    desk.settle()
    # Anything else would need a third instance.
    code, message = desk.refused(GROUP, ReplicationGroupId="g", EngineVersion="8.1", ApplyImmediately=True)
    assert (code, "keeps its former instance of Redis 7.0.15" in message) == (STATE, True)
    change(desk, "7.0", Engine="redis")
    group = desk.group()
    assert group.engine_change is not None
    assert (group.engine_change.engine, group.engine_change.parameter_group) == (Engine.REDIS, "default.redis7")
    spare = desk.cluster("g-001").spare
    assert spare is not None
    assert (spare.node, spare.former) == (former.node, False)
    # The member that came since has no former instance: it gets a new one.
    newer = desk.cluster("g-003").spare
    assert newer is not None
    assert (newer.engine, newer.node.instance) == (Engine.REDIS, "0001-2")


def test_a_downgrade_that_replication_allows(desk: Desk) -> None:
    desk.create_group(NumCacheClusters=2)
    change(desk, "8.1")
    begun = desk.group().engine_change
    assert begun is not None
    assert (str(begun.version), begun.parameter_group) == ("8.1.8", "default.valkey8")


def test_an_upgrade_waits_for_the_window_with_its_addresses(desk: Desk) -> None:
    desk.create_group(NumCacheClusters=2, EngineVersion="8.1")
    answer = change(desk, "9.1", at_once=False)
    assert answer["Status"] == "available"
    group = desk.group()
    assert (group.engine_change, str(group.pending.version)) == (None, "9.1.2")
    waits = [desk.cluster(name).pending.spare for name in group.member_ids]
    addresses = [spare.node.address for spare in waits if spare is not None]
    assert len(set(addresses)) == 2
    assert told(desk, "g-002")["PendingModifiedValues"] == {"EngineVersion": "9.1.2"}
    # A replica that comes meanwhile will need a second instance as well.
    desk.ask("CreateCacheCluster", CacheClusterId="g-x", ReplicationGroupId="g")
    desk.settle()
    newest = desk.cluster("g-x").pending.spare
    assert newest is not None
    # Another request applies what waits, with the addresses that wait.
    desk.ask_group(GROUP, ApplyImmediately=True)
    begun = [desk.cluster(name).spare for name in desk.group().member_ids]
    assert [spare.node.address for spare in begun if spare is not None] == [*addresses, newest.node.address]
    assert desk.group().engine_change is not None


def test_what_waits_is_taken_back_by_naming_what_runs(desk: Desk) -> None:
    desk.create_group(NumCacheClusters=2, EngineVersion="8.1")
    before = desk.everything()
    change(desk, "9.1", at_once=False)
    spare = desk.cluster("g-001").pending.spare
    assert spare is not None
    change(desk, "8.1", at_once=False)
    assert desk.everything() == before
    assert desk.free(spare.node.address)


def test_a_member_that_leaves_gives_back_what_waited_for_it(desk: Desk) -> None:
    desk.create_group(NumCacheClusters=3, EngineVersion="8.1")
    change(desk, "9.1", at_once=False)
    spares = [desk.cluster(f"g-00{n}").pending.spare for n in (1, 2, 3)]
    desk.ask("DecreaseReplicaCount", ReplicationGroupId="g", ReplicasToRemove=["g-003"], ApplyImmediately=True)
    desk.settle()
    desk.ask("DeleteCacheCluster", CacheClusterId="g-002")
    desk.settle()
    desk.ask("DeleteReplicationGroup", ReplicationGroupId="g")
    assert all(spare is not None and desk.free(spare.node.address) for spare in spares)


REFUSED: list[tuple[dict[str, Any], dict[str, Any], str, str]] = [
    ({}, {"EngineVersion": "99.9"}, COMBINATION, "available on this machine: 9.1.2, 8.1.8"),
    ({}, {"EngineVersion": "new"}, VALUE, "Invalid engine version"),
    ({}, {"Engine": "memcached"}, COMBINATION, "cannot be changed from valkey to memcached"),
    (
        {},
        {"Engine": "redis"},
        COMBINATION,
        "from valkey to redis; possible on this machine: Valkey 8.1.8.",
    ),
    (
        {"Engine": "redis", "EngineVersion": "7.0"},
        {"EngineVersion": "6.2"},
        COMBINATION,
        "cannot replicate from",
    ),
    (
        {"EngineVersion": "8.1"},
        {"EngineVersion": "9.1", "CacheParameterGroupName": "default.valkey8"},
        COMBINATION,
        "Expected a parameter group of family valkey9",
    ),
    (
        {"EngineVersion": "8.1"},
        {"EngineVersion": "9.1", "CacheParameterGroupName": "default.valkey9.cluster.on"},
        COMBINATION,
        "cluster-enabled yes",
    ),
    (
        {"EngineVersion": "8.1"},
        {"EngineVersion": "9.1", "CacheNodeType": "cache.t4g.small"},
        COMBINATION,
        "exclude each other",
    ),
]


@pytest.mark.parametrize(("made", "params", "code", "words"), REFUSED)
def test_versions_that_cannot_be(
    desk: Desk, made: dict[str, Any], params: dict[str, Any], code: str, words: str
) -> None:
    desk.create_group(NumCacheClusters=2, **made)
    answer = desk.refused(GROUP, ReplicationGroupId="g", ApplyImmediately=True, **params)
    assert (answer[0], words in answer[1]) == (code, True), answer


def test_a_change_that_waits_blocks_one_of_the_node_type_and_the_reverse(desk: Desk) -> None:
    desk.create_group("a", NumCacheClusters=2, EngineVersion="8.1")
    desk.create_group("b", NumCacheClusters=2, EngineVersion="8.1")
    change(desk, "9.1", "a", at_once=False)
    code, message = desk.refused(GROUP, ReplicationGroupId="a", CacheNodeType="cache.t4g.small")
    assert (code, "exclude each other" in message) == (COMBINATION, True)
    desk.ask_group(GROUP, "b", CacheNodeType="cache.t4g.small")
    assert desk.refused(GROUP, ReplicationGroupId="b", EngineVersion="9.1", ApplyImmediately=True)[0] == COMBINATION


def test_a_group_of_parameters_of_ones_own_must_be_of_the_new_family(desk: Desk) -> None:
    for name, family in (("old", "valkey8"), ("new", "valkey9")):
        desk.ask(
            "CreateCacheParameterGroup", CacheParameterGroupName=name, CacheParameterGroupFamily=family, Description="x"
        )
    desk.create_group(NumCacheClusters=2, EngineVersion="8.1", CacheParameterGroupName="old")
    code, message = desk.refused(GROUP, ReplicationGroupId="g", EngineVersion="9.1", ApplyImmediately=True)
    assert (code, "name one by CacheParameterGroupName" in message) == (COMBINATION, True)
    change(desk, "9.1", CacheParameterGroupName="new")
    begun = desk.group().engine_change
    assert begun is not None
    assert (begun.parameter_group, begun.before_parameter_group) == ("new", "old")


def test_databases_of_cluster_mode_are_not_lost(desk: Desk) -> None:
    """cluster-databases is Valkey 9's; an older engine has one database in cluster mode."""
    desk.ask(
        "CreateCacheParameterGroup", CacheParameterGroupName="own", CacheParameterGroupFamily="valkey9", Description="x"
    )
    given = [("cluster-enabled", "yes"), ("cluster-databases", "16")]
    values = [{"ParameterName": name, "ParameterValue": value} for name, value in given]
    desk.ask("ModifyCacheParameterGroup", CacheParameterGroupName="own", ParameterNameValues=values)
    desk.create_group(NumNodeGroups=2, CacheParameterGroupName="own")
    asked = {"EngineVersion": "8.1", "CacheParameterGroupName": "default.valkey8.cluster.on", "ApplyImmediately": True}
    code, message = desk.refused(GROUP, ReplicationGroupId="g", **asked)
    assert (code, "gives 1 databases and the cache has 16" in message) == (COMBINATION, True)


def test_second_instances_need_memory(desk: Desk) -> None:
    desk.create_group(NumCacheClusters=2, EngineVersion="8.1", CacheNodeType="cache.r7g.large")
    object.__setattr__(desk.services, "machine", Machine(40 << 30, 1.0))
    code, _ = desk.refused(GROUP, ReplicationGroupId="g", EngineVersion="9.1", ApplyImmediately=True)
    assert code == "InsufficientCacheClusterCapacity"
    object.__setattr__(desk.services, "machine", Machine(56 << 30, 1.0))
    change(desk, "9.1")
    # They count for what is asked for next.
    code, _ = desk.refused("CreateCacheCluster", CacheClusterId="c", Engine="valkey", CacheNodeType="cache.r7g.large")
    assert code == "InsufficientCacheClusterCapacity"


def test_a_single_node_is_restarted(desk: Desk) -> None:
    desk.create_cluster(EngineVersion="8.1")
    answer = desk.ask("ModifyCacheCluster", CacheClusterId="c", EngineVersion="9.1")["CacheCluster"]
    assert (answer["EngineVersion"], answer["PendingModifiedValues"]) == ("8.1.8", {"EngineVersion": "9.1.2"})
    answer = desk.ask("ModifyCacheCluster", CacheClusterId="c", ApplyImmediately=True)["CacheCluster"]
    assert (answer["EngineVersion"], answer["CacheClusterStatus"]) == ("9.1.2", "modifying")
    cluster = desk.cluster("c")
    assert (cluster.parameter_group, cluster.spare) == ("default.valkey9", None)


def test_memcached_comes_back_empty_and_says_so(desk: Desk) -> None:
    desk.create_cluster("mem", Engine="memcached", EngineVersion="1.6.18", NumCacheNodes=2)
    desk.ask("ModifyCacheCluster", CacheClusterId="mem", EngineVersion="1.6.40", ApplyImmediately=True)
    cluster = desk.cluster("mem")
    assert (str(cluster.version), cluster.status) == ("1.6.40", Status.MODIFYING)
    assert {(n.reboot_from, n.status) for n in cluster.nodes} == {("1:1", NodeStatus.REBOOTING)}
    assert desk.events("mem") == ["Changing mem from Memcached 1.6.18 to Memcached 1.6.40: its nodes come back empty"]


def test_versions_of_clusters_that_cannot_be(desk: Desk) -> None:
    desk.create_cluster()
    desk.create_cluster("mem", Engine="memcached")
    desk.create_group(NumCacheClusters=2)
    rows: list[tuple[dict[str, Any], str]] = [
        ({"CacheClusterId": "c", "EngineVersion": "8.1"}, "Valkey 8.1.8 cannot read the files of Valkey 9.1.2"),
        ({"CacheClusterId": "c", "Engine": "redis"}, "cannot be changed from valkey to redis"),
        ({"CacheClusterId": "mem", "Engine": "valkey"}, "cannot be changed from memcached to valkey"),
        ({"CacheClusterId": "g-001", "EngineVersion": "8.1"}, "use ModifyReplicationGroup"),
        ({"CacheClusterId": "c", "EngineVersion": "7.7"}, "Cannot find version 7.7"),
    ]
    for params, words in rows:
        answer = desk.refused("ModifyCacheCluster", ApplyImmediately=True, **params)
        assert (answer[0], words in answer[1]) == (COMBINATION, True), answer


def test_data_that_does_not_fit_a_node_type(desk: Desk) -> None:
    desk.create_group(NumCacheClusters=2, CacheNodeType="cache.t4g.small")
    desk.create_cluster(CacheNodeType="cache.t4g.small")
    for name in ("g-002", "c"):
        desk.see(name, used_memory_bytes=500_000_000)
    code, message = desk.refused(GROUP, ReplicationGroupId="g", CacheNodeType="cache.t4g.micro")
    assert (code, message) == (
        COMBINATION,
        "g-002 uses 500000000 bytes, and a node of type cache.t4g.micro with the parameter group default.valkey9 holds "
        "402653184. Choose a larger node type, or remove data first.",
    )
    code, message = desk.refused("ModifyCacheCluster", CacheClusterId="c", CacheNodeType="cache.t4g.micro")
    assert (code, message[:21]) == (COMBINATION, "c uses 500000000 byte")
    for asked in ({"ReplicationGroupId": "g"}, {"CacheClusterId": "c"}):
        answer = desk.ask("ListAllowedNodeTypeModifications", **asked)
        assert "cache.t4g.micro" not in answer["ScaleDownModifications"]
        assert "cache.t4g.medium" in answer["ScaleUpModifications"]
    for name in ("g-002", "c"):
        desk.see(name, used_memory_bytes=400_000_000)
    answer = desk.ask("ListAllowedNodeTypeModifications", ReplicationGroupId="g")
    assert "cache.t4g.micro" in answer["ScaleDownModifications"]
    desk.ask_group(GROUP, CacheNodeType="cache.t4g.micro", ApplyImmediately=True)


def test_from_disabled_to_compatible_to_enabled(desk: Desk) -> None:
    before = desk.create_group(NumCacheClusters=2, AutomaticFailoverEnabled=True)
    for name in before.member_ids:
        desk.see(name, databases_used=(0,))
    answer = desk.ask_group(GROUP, ClusterMode="compatible", ApplyImmediately=True)
    # Until it is done, what clients see is what there was.
    assert (answer["ClusterMode"], answer["PendingModifiedValues"]) == ("disabled", {"ClusterMode": "compatible"})
    assert "ConfigurationEndpoint" not in answer
    group = desk.group()
    assert (group.cluster_mode.value, group.mode_before, group.status) == ("compatible", "disabled", Status.MODIFYING)
    assert group.configuration_endpoint is not None
    assert (group.primary_endpoint, group.parameter_group) == (before.primary_endpoint, "default.valkey9")
    assert group.node_groups[0].slots == parse_slots("0-16383")
    group = desk.settle()
    assert desk.ask_group(GROUP, ClusterMode="compatible")["Status"] == "available"
    back = desk.ask_group(GROUP, ClusterMode="disabled")
    assert (back["ClusterMode"], desk.group().node_groups[0].slots) == ("compatible", ())
    # Nobody may be given this address as long as an engine listens there.
    assert desk.group().configuration_endpoint == group.configuration_endpoint
    desk.settle(configuration_endpoint=None)
    desk.ask_group(GROUP, ClusterMode="compatible")
    desk.settle()
    desk.ask_group(GROUP, ClusterMode="enabled")
    assert len(desk.group().endpoints) == 3
    desk.settle(primary_endpoint=None, reader_endpoint=None)
    for mode in ("compatible", "disabled"):
        code, message = desk.refused(GROUP, ReplicationGroupId="g", ClusterMode=mode)
        assert (code, "enabled is final" in message) == (COMBINATION, True)
    # The parameter group stayed, and so does the family's choice of one without cluster-enabled.
    code, _ = desk.refused(GROUP, ReplicationGroupId="g", AutomaticFailoverEnabled=False)
    assert code == COMBINATION
    change(desk, "8.1")
    begun = desk.group().engine_change
    assert begun is not None
    assert begun.parameter_group == "default.valkey8"


def test_cluster_modes_that_cannot_be(desk: Desk) -> None:
    desk.create_group("one", NumCacheClusters=1)
    desk.create_group("off", NumCacheClusters=2)
    desk.create_group("old", NumCacheClusters=2, AutomaticFailoverEnabled=True, Engine="redis", EngineVersion="6.2")
    desk.create_group("g", NumCacheClusters=2, AutomaticFailoverEnabled=True)
    rows: list[tuple[str, dict[str, Any], str, str]] = [
        ("g", {"ClusterMode": "enabled"}, COMBINATION, "set it to compatible first"),
        ("one", {"ClusterMode": "compatible"}, COMBINATION, "at least one replica"),
        ("off", {"ClusterMode": "compatible"}, COMBINATION, "needs automatic failover"),
        ("old", {"ClusterMode": "compatible"}, COMBINATION, "7.0 or later"),
        ("g", {"ClusterMode": "compatible", "EngineVersion": "8.1"}, COMBINATION, "without EngineVersion"),
        ("g", {"ClusterMode": "compatible", "PrimaryClusterId": "g-002"}, COMBINATION, "without PrimaryClusterId"),
        ("g", {"ClusterMode": "compatible"}, STATE, "not known"),
    ]
    for name, params, code, words in rows:
        answer = desk.refused(GROUP, ReplicationGroupId=name, **params)
        assert (answer[0], words in answer[1]) == (code, True), answer
    desk.see("g-001", databases_used=(0, 3, 7))
    desk.see("g-002", databases_used=(0, 3))
    code, message = desk.refused(GROUP, ReplicationGroupId="g", ClusterMode="compatible")
    assert (code, "databases 3, 7" in message) == (COMBINATION, True)
    desk.ask_group(GROUP, CacheNodeType="cache.t4g.small")
    desk.see("g-001", databases_used=(0,))
    desk.see("g-002", databases_used=())
    assert desk.refused(GROUP, ReplicationGroupId="g", ClusterMode="compatible")[0] == STATE
