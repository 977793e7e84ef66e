"""Requests on global datastores and migrations: what is stored, and what is refused with nothing changed."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from desk import Desk

from cachekeep.api import rehearsal
from cachekeep.api.context import Call
from cachekeep.api.operations import OPERATIONS
from cachekeep.domain.cache_cluster import Status
from cachekeep.domain.engine import Engine
from cachekeep.domain.faults import Fault
from cachekeep.domain.global_group import EVERYWHERE, GlobalGroup, GlobalMember
from cachekeep.domain.migration import MigrationPhase
from cachekeep.domain.nodes import Address, Role
from cachekeep.domain.parameters import ParameterGroup
from cachekeep.domain.replication_group import ReplicationGroup
from cachekeep.plan.preview import Preview

STATE, VALUE, COMBINATION = "InvalidGlobalReplicationGroupState", "InvalidParameterValue", "InvalidParameterCombination"
LARGE = "cache.m5.large"
ID = "gxeiz-shop"
AWAY = "us-east-1"


def datastore(desk: Desk, **more: Any) -> GlobalGroup:
    """Around an available group `g`."""
    desk.create_group("g", CacheNodeType=LARGE, **more)
    desk.ask("CreateGlobalReplicationGroup", GlobalReplicationGroupIdSuffix="shop", PrimaryReplicationGroupId="g")
    return found(desk)


def found(desk: Desk) -> GlobalGroup:
    stored = desk.store.get(GlobalGroup, EVERYWHERE, ID)
    assert stored is not None
    return stored


def away(desk: Desk, operation: str, region: str = AWAY, **params: Any) -> dict[str, Any]:
    """Asked in another region."""
    return dict(OPERATIONS[operation].handler(Call(desk.services, operation, region, params)))


def secondary(desk: Desk, region: str = AWAY, **more: Any) -> ReplicationGroup:
    """A secondary `s` that is available."""
    params = {"ReplicationGroupId": "s", "ReplicationGroupDescription": "x", "GlobalReplicationGroupId": ID, **more}
    away(desk, "CreateReplicationGroup", region, **params)
    stored = desk.store.get(ReplicationGroup, region, "s")
    assert stored is not None
    with desk.store.transaction() as work:
        work.replace(stored, replace(stored, status=Status.AVAILABLE))
    return replace(stored, status=Status.AVAILABLE)


def test_the_region_gives_the_prefix(desk: Desk) -> None:
    made = datastore(desk)
    assert made.primary == GlobalMember("eu-west-1", "g")
    assert desk.group("g").global_id == ID
    shown = desk.ask("DescribeGlobalReplicationGroups", ShowMemberInfo=True)["GlobalReplicationGroups"]
    assert [g["GlobalReplicationGroupId"] for g in shown] == [ID]
    assert shown[0]["ARN"] == f"arn:aws:elasticache::000000000000:globalreplicationgroup:{ID}"
    plain = desk.ask("DescribeGlobalReplicationGroups", GlobalReplicationGroupId=ID)["GlobalReplicationGroups"]
    assert plain[0].get("Members", []) == []
    # A region whose prefix no source tells has one all the same, always the same one.
    desk.refused("DescribeGlobalReplicationGroups", GlobalReplicationGroupId="none")


def test_a_secondary_is_like_its_primary(desk: Desk) -> None:
    datastore(desk, NumCacheClusters=3, EngineVersion="8.1")
    made = secondary(desk)
    primary = desk.group("g")
    assert (made.engine, made.version, made.node_type) == (primary.engine, primary.version, primary.node_type)
    assert len(made.member_ids) == 1
    assert found(desk).secondaries == (GlobalMember(AWAY, "s"),)
    for wrong in ({"EngineVersion": "9.1"}, {"CacheNodeType": "cache.r6g.xlarge"}, {"NumNodeGroups": 2}):
        with pytest.raises(Fault) as caught:
            secondary(desk, "us-west-2", **wrong)
        assert caught.value.code == COMBINATION
    secondary(desk, "us-west-2")
    with pytest.raises(Fault) as caught:
        secondary(desk, "ap-south-1")
    assert (caught.value.code, "at most 2" in caught.value.message) == (VALUE, True)


@pytest.mark.parametrize("mode", ["required", "preferred"])
def test_a_secondary_is_encrypted_as_its_primary_is(desk: Desk, mode: str) -> None:
    with_tls = replace(desk.catalogue._install(Engine.REDIS, 7, 0, 15), tls=True)
    desk.catalogue.found.append(with_tls)
    desk.services = replace(desk.services, encrypted_at_rest=True)
    asked = {"TransitEncryptionEnabled": True, "TransitEncryptionMode": mode, "AtRestEncryptionEnabled": True}
    datastore(desk, Engine="redis", **asked)
    for wrong in (
        {"TransitEncryptionEnabled": False},
        {"TransitEncryptionMode": "required" if mode == "preferred" else "preferred"},
        {"AtRestEncryptionEnabled": False},
    ):
        with pytest.raises(Fault) as caught:
            secondary(desk, **wrong)
        assert (caught.value.code, next(iter(wrong)) in caught.value.message) == (COMBINATION, True)
    made = secondary(desk)
    assert (made.transit.value, made.at_rest) == (mode, True)
    shown = desk.ask("DescribeGlobalReplicationGroups")["GlobalReplicationGroups"][0]
    assert (shown["TransitEncryptionEnabled"], shown["AtRestEncryptionEnabled"]) == (True, True)
    code, _ = desk.refused("ModifyReplicationGroup", ReplicationGroupId="g", TransitEncryptionEnabled=False)
    assert code == COMBINATION


def test_a_secondary_of_one_in_the_clear_is_in_the_clear(desk: Desk) -> None:
    desk.catalogue.found.append(replace(desk.catalogue._install(Engine.VALKEY, 9, 1, 2), tls=True))
    datastore(desk)
    with pytest.raises(Fault) as caught:
        secondary(desk, TransitEncryptionEnabled=True)
    assert caught.value.code == COMBINATION
    assert not secondary(desk, TransitEncryptionEnabled=False).transit.encrypted


def test_a_group_with_modifications_that_wait_cannot_be_a_primary(desk: Desk) -> None:
    """In its window it would change alone."""
    desk.create_group("g", CacheNodeType=LARGE)
    desk.ask("ModifyReplicationGroup", ReplicationGroupId="g", CacheNodeType="cache.m5.xlarge", ApplyImmediately=False)
    wish = {"GlobalReplicationGroupIdSuffix": "shop", "PrimaryReplicationGroupId": "g"}
    code, text = desk.refused("CreateGlobalReplicationGroup", **wish)
    assert (code, "wait for its maintenance window" in text) == ("InvalidReplicationGroupState", True)
    desk.ask("ModifyReplicationGroup", ReplicationGroupId="g", CacheNodeType=LARGE, ApplyImmediately=False)
    desk.ask("CreateGlobalReplicationGroup", **wish)


def test_parameters_of_the_primary_reach_the_other_regions(desk: Desk) -> None:
    desk.ask(
        "CreateCacheParameterGroup", CacheParameterGroupName="p", CacheParameterGroupFamily="valkey9", Description="x"
    )
    datastore(desk, CacheParameterGroupName="p")
    made = secondary(desk)
    assert made.parameter_group == f"global-datastore-{ID}"
    change = {"ParameterName": "maxmemory-policy", "ParameterValue": "allkeys-lru"}
    desk.ask("ModifyCacheParameterGroup", CacheParameterGroupName="p", ParameterNameValues=[change])
    copy = desk.store.get(ParameterGroup, AWAY, made.parameter_group)
    assert copy is not None
    assert copy.values["maxmemory-policy"] == "allkeys-lru"
    with pytest.raises(Fault) as caught:
        away(desk, "ResetCacheParameterGroup", CacheParameterGroupName=copy.name, ResetAllParameters=True)
    assert (caught.value.code, "p in eu-west-1" in caught.value.message) == ("InvalidCacheParameterGroupState", True)
    # Whoever takes writes next: the group of that region counts for the former primary, too.
    wish = {"GlobalReplicationGroupId": ID, "PrimaryRegion": AWAY, "PrimaryReplicationGroupId": "s"}
    desk.ask("FailoverGlobalReplicationGroup", **wish)
    assert {desk.group("g").parameter_group, desk.cluster("g-001").parameter_group} == {copy.name}
    with desk.store.transaction() as work:
        work.replace(found(desk), found(desk).swapped())
    away(desk, "ResetCacheParameterGroup", CacheParameterGroupName=copy.name, ResetAllParameters=True)
    here = desk.store.get(ParameterGroup, "eu-west-1", copy.name)
    assert here is not None
    assert here.values == {}


def test_a_failover_is_asked_for_once(desk: Desk) -> None:
    datastore(desk)
    secondary(desk)
    wish = {"GlobalReplicationGroupId": ID, "PrimaryRegion": AWAY, "PrimaryReplicationGroupId": "S"}
    answer = desk.ask("FailoverGlobalReplicationGroup", **wish)["GlobalReplicationGroup"]
    assert answer["Status"] == "modifying"
    assert found(desk).failing_over_to == GlobalMember(AWAY, "s")
    assert found(desk).failing_since == desk.clock.time
    assert desk.refused("FailoverGlobalReplicationGroup", **wish)[0] == STATE
    member = {"GlobalReplicationGroupId": ID, "ReplicationGroupId": "s", "ReplicationGroupRegion": AWAY}
    assert desk.refused("DisassociateGlobalReplicationGroup", **member)[0] == STATE


def test_what_cannot_be_done_with_members(desk: Desk) -> None:
    datastore(desk, NumCacheClusters=2, AutomaticFailoverEnabled=True)
    secondary(desk)
    assert desk.refused("DeleteReplicationGroup", ReplicationGroupId="g")[0] == "InvalidReplicationGroupState"
    keep = {"GlobalReplicationGroupId": ID, "RetainPrimaryReplicationGroup": True}
    assert desk.refused("DeleteGlobalReplicationGroup", **keep)[0] == STATE
    for change in ({"CacheNodeType": LARGE}, {"EngineVersion": "9.1"}, {"ClusterMode": "compatible"}):
        code, _ = desk.refused("ModifyReplicationGroup", ReplicationGroupId="g", ApplyImmediately=True, **change)
        assert code == COMBINATION
    modify = {"GlobalReplicationGroupId": ID}
    refused = [
        {"CacheNodeType": "cache.r6g.xlarge", "ApplyImmediately": False},
        {"CacheNodeType": "cache.t4g.micro", "ApplyImmediately": True},
        {"AutomaticFailoverEnabled": True, "ApplyImmediately": True},
        {"EngineVersion": "7.x.y", "ApplyImmediately": True},
    ]
    for params in refused:
        assert desk.refused("ModifyGlobalReplicationGroup", **modify, **params)[0] == VALUE


def test_members_leave_one_by_one(desk: Desk) -> None:
    datastore(desk)
    secondary(desk)
    member = {"GlobalReplicationGroupId": ID, "ReplicationGroupId": "s", "ReplicationGroupRegion": AWAY}
    assert desk.refused("DisassociateGlobalReplicationGroup", **member | {"ReplicationGroupId": "g"})[0] == VALUE
    desk.ask("DisassociateGlobalReplicationGroup", **member)
    left = desk.store.get(ReplicationGroup, AWAY, "s")
    assert left is not None
    assert (left.global_id, left.status) == ("", Status.MODIFYING)
    only = {"GlobalReplicationGroupId": ID, "RetainPrimaryReplicationGroup": False}
    assert desk.refused("DeleteGlobalReplicationGroup", **only)[0] == VALUE
    desk.ask("DeleteGlobalReplicationGroup", **only | {"RetainPrimaryReplicationGroup": True})
    assert desk.group("g").global_id == ""
    assert desk.store.all(GlobalGroup) == []


def test_groups_that_cannot_be_a_primary(desk: Desk) -> None:
    create = {"GlobalReplicationGroupIdSuffix": "shop"}
    desk.create_group("small")
    desk.create_group("busy", CacheNodeType=LARGE)
    desk.settle("busy", status=Status.MODIFYING)
    for name, code in (
        ("none", "ReplicationGroupNotFoundFault"),
        ("small", VALUE),
        ("busy", "InvalidReplicationGroupState"),
    ):
        assert desk.refused("CreateGlobalReplicationGroup", **create, PrimaryReplicationGroupId=name)[0] == code
    for suffix in ("", "a--b", "9", "x" * 60):
        wrong = {"GlobalReplicationGroupIdSuffix": suffix, "PrimaryReplicationGroupId": "small"}
        assert desk.refused("CreateGlobalReplicationGroup", **wrong)[0] == VALUE


SOURCE = {"CustomerNodeEndpointList": [{"Address": "10.0.0.5", "Port": 6379}]}


def test_a_migration_goes_from_phase_to_phase(desk: Desk) -> None:
    desk.create_group("g", NumCacheClusters=2, AutomaticFailoverEnabled=True, MultiAZEnabled=True)
    answer = desk.ask_group("StartMigration", **SOURCE)
    assert (answer["Status"], answer["NodeGroups"][0]["Status"]) == ("migrating", "modifying")
    assert desk.refused("TestMigration", ReplicationGroupId="g", **SOURCE)[0] == (
        "ReplicationGroupAlreadyUnderMigrationFault"
    )
    assert desk.refused("CompleteMigration", ReplicationGroupId="g")[0] == "InvalidReplicationGroupState"
    migration = desk.group("g").migration
    assert migration is not None
    desk.settle("g", status=Status.MIGRATING, migration=replace(migration, phase=MigrationPhase.FOLLOWING))
    assert desk.refused("CompleteMigration", ReplicationGroupId="g")[0] == "MigrationHealthFault"
    desk.see("g-001", role=Role.REPLICA, primary=Address("10.0.0.5", 6379), link_up=True)
    desk.ask_group("CompleteMigration")
    migration = desk.group("g").migration
    assert migration is not None
    assert (migration.phase, migration.force) == (MigrationPhase.COMPLETING, False)


def test_targets_that_cannot_migrate(desk: Desk) -> None:
    desk.create_group("alone", NumCacheClusters=2)
    desk.create_group("many", NumNodeGroups=2)
    own = desk.create_group("own", NumCacheClusters=2, AutomaticFailoverEnabled=True, MultiAZEnabled=True)
    for name in ("alone", "many"):
        assert desk.refused("StartMigration", ReplicationGroupId=name, **SOURCE)[0] == COMBINATION
    assert own.primary_endpoint is not None
    itself = [{"Address": own.primary_endpoint.host, "Port": own.primary_endpoint.port}]
    refused = desk.refused("StartMigration", ReplicationGroupId="own", CustomerNodeEndpointList=itself)
    assert (refused[0], "itself" in refused[1]) == (VALUE, True)
    both = {"ReplicationGroupId": "own", "ServerlessCacheName": "x", **SOURCE}
    assert desk.refused("StartMigration", **both)[0] == COMBINATION


def foreseen(desk: Desk, operation: str, **params: Any) -> Preview:
    """The plan of a request, which stores nothing."""
    before = desk.everything()
    call = Call(desk.services, operation, "eu-west-1", params)
    made = rehearsal.rehearse(call, OPERATIONS[operation].handler, rehearsal.Outlook())
    assert desk.everything() == before
    return made


def test_a_plan_says_whose_data_goes_and_how_long_writes_wait(desk: Desk) -> None:
    datastore(desk)
    secondary(desk)
    wish = {"GlobalReplicationGroupId": ID, "PrimaryRegion": AWAY, "PrimaryReplicationGroupId": "s"}
    plan = foreseen(desk, "FailoverGlobalReplicationGroup", **wish)
    assert plan.steps[0].startswith("Writes wait at g in eu-west-1 until s in us-east-1 has every one of them")
    assert len(plan.gaps) == 1
    member = {"GlobalReplicationGroupId": ID, "ReplicationGroupId": "s", "ReplicationGroupRegion": AWAY}
    assert "takes writes" in foreseen(desk, "DisassociateGlobalReplicationGroup", **member).steps[0]
    desk.create_group("m", NumCacheClusters=2, AutomaticFailoverEnabled=True, MultiAZEnabled=True)
    start = foreseen(desk, "StartMigration", ReplicationGroupId="m", **SOURCE)
    assert start.warnings == ("The data of m is replaced by that of 10.0.0.5:6379.",)
    assert foreseen(desk, "TestMigration", ReplicationGroupId="m", **SOURCE).warnings == ()


def test_node_groups_change_for_all_members_or_for_none(desk: Desk) -> None:
    datastore(desk, NumNodeGroups=2, ReplicasPerNodeGroup=0)
    made = secondary(desk, ReplicasPerNodeGroup=1)
    assert (made.clustered, [len(shard.member_ids) for shard in made.node_groups]) == (True, [2, 2])
    common = {"GlobalReplicationGroupId": ID, "ApplyImmediately": True}
    increase, decrease = (f"{word}NodeGroupsInGlobalReplicationGroup" for word in ("Increase", "Decrease"))
    zones = {"ReshardingConfiguration": [{"NodeGroupId": "0007"}]}
    one = {"ReplicationGroupId": "s", "ReplicationGroupRegion": AWAY, **zones}
    for operation, wrong, code in (
        (increase, {"NodeGroupCount": 2}, VALUE),
        (increase, {"NodeGroupCount": 3, "ApplyImmediately": False}, VALUE),
        (increase, {"NodeGroupCount": 3, "RegionalConfigurations": [one]}, VALUE),
        (increase, {"NodeGroupCount": 3, "RegionalConfigurations": [{**one, "ReplicationGroupId": "x"}]}, VALUE),
        (increase, {"NodeGroupCount": 100_000}, VALUE),
        (decrease, {"NodeGroupCount": 1}, COMBINATION),
        (decrease, {"NodeGroupCount": 1, "GlobalNodeGroupsToRemove": ["0001"]}, VALUE),
        (decrease, {"NodeGroupCount": 0, "GlobalNodeGroupsToRemove": [f"{ID}-0001"]}, VALUE),
    ):
        assert desk.refused(operation, **{**common, **wrong})[0] == code, wrong
    assert all(group.status is Status.AVAILABLE for group in desk.store.all(ReplicationGroup))
    both = [one, {**one, "ReplicationGroupId": "g", "ReplicationGroupRegion": "eu-west-1"}]
    desk.ask(increase, **common, NodeGroupCount=3, RegionalConfigurations=both)
    for group in desk.store.all(ReplicationGroup):
        assert [shard.id for shard in group.node_groups] == ["0001", "0002", "0007"]
        assert group.resharding is not None
    refused = desk.refused("RebalanceSlotsInGlobalReplicationGroup", **common)
    assert refused[0] == STATE


def test_a_copy_leaves_when_it_has_everything(desk: Desk) -> None:
    datastore(desk, NumNodeGroups=2, ReplicasPerNodeGroup=0)
    secondary(desk, ReplicasPerNodeGroup=0)
    leave = {"GlobalReplicationGroupId": ID, "ReplicationGroupId": "s", "ReplicationGroupRegion": AWAY}
    desk.ask("DisassociateGlobalReplicationGroup", **leave)
    assert (found(desk).leaving, found(desk).secondaries) == (GlobalMember(AWAY, "s"), (GlobalMember(AWAY, "s"),))
    assert not found(desk).writes(GlobalMember(AWAY, "s"))
    assert desk.refused("DisassociateGlobalReplicationGroup", **leave)[0] == STATE
