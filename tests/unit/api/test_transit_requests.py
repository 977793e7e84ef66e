"""Encryption in transit as requests ask for it: from what to what, by which engine, and what is shown."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from desk import Desk

from cachekeep.domain.engine import Engine
from cachekeep.domain.transit import Transit

COMBINATION = "InvalidParameterCombination"
ON: dict[str, Any] = {"TransitEncryptionEnabled": True}
PREFERRED: dict[str, Any] = {**ON, "TransitEncryptionMode": "preferred"}
REQUIRED: dict[str, Any] = {**ON, "TransitEncryptionMode": "required"}
CREATE: dict[str, Any] = {
    "ReplicationGroupId": "g", "ReplicationGroupDescription": "x", "Engine": "redis", "NumCacheClusters": 2,
}  # fmt: skip


@pytest.fixture
def secured(desk: Desk) -> Desk:
    """A machine whose Redis 7.0 and Memcached were built with TLS, as those of a distribution are."""
    desk.catalogue.found = [
        replace(i, tls=i.engine is not Engine.VALKEY and i.version.numbers != (6, 2, 5)) for i in desk.catalogue.found
    ]
    return desk


def _shown(desk: Desk) -> tuple[Any, ...]:
    group = desk.ask("DescribeReplicationGroups", ReplicationGroupId="g")["ReplicationGroups"][0]
    pending = group["PendingModifiedValues"]
    return group["TransitEncryptionEnabled"], group.get("TransitEncryptionMode"), pending.get("TransitEncryptionMode")


def test_without_an_engine_with_tls_the_package_is_named(desk: Desk) -> None:
    code, text = desk.refused("CreateReplicationGroup", **CREATE, **ON)
    assert code == COMBINATION
    assert "redis-server" in text
    assert desk.refused("CreateCacheCluster", CacheClusterId="m", Engine="memcached", **ON)[0] == COMBINATION


def test_a_version_without_tls_is_not_taken_for_one_that_has_it(secured: Desk) -> None:
    code, text = secured.refused("CreateReplicationGroup", **CREATE, **ON, EngineVersion="6.2")
    assert (code, "Redis 6.2" in text) == (COMBINATION, True)
    assert secured.create_group(Engine="redis", NumCacheClusters=2, **ON).version.short == "7.0"


@pytest.mark.parametrize(
    "asked",
    [{"TransitEncryptionMode": "required"}, {"TransitEncryptionEnabled": False, "TransitEncryptionMode": "preferred"}],
)
def test_a_mode_needs_encryption(secured: Desk, asked: dict[str, Any]) -> None:
    assert secured.refused("CreateReplicationGroup", **CREATE, **asked)[0] == COMBINATION


def test_a_new_group_requires_tls_and_says_so(secured: Desk) -> None:
    secured.create_group(Engine="redis", NumCacheClusters=2, **ON)
    assert _shown(secured) == (True, "required", None)
    (member, *_) = secured.ask("DescribeCacheClusters")["CacheClusters"]
    assert (member["TransitEncryptionEnabled"], member["TransitEncryptionMode"]) == (True, "required")


@pytest.mark.parametrize(
    ("now", "asked"),
    [({}, ON), ({}, REQUIRED), (ON, {"TransitEncryptionEnabled": False})],
)
def test_it_goes_by_way_of_preferred(secured: Desk, now: dict[str, Any], asked: dict[str, Any]) -> None:
    secured.create_group(Engine="redis", EngineVersion="7.0", NumCacheClusters=2, **now)
    code, text = secured.refused("ModifyReplicationGroup", ReplicationGroupId="g", ApplyImmediately=True, **asked)
    assert (code, "preferred" in text) == (COMBINATION, True)


def test_every_allowed_step(secured: Desk) -> None:
    secured.create_group(Engine="redis", EngineVersion="7.0", NumCacheClusters=2)
    for asked, then in (
        (PREFERRED, Transit.PREFERRED),
        ({"TransitEncryptionMode": "required"}, Transit.REQUIRED),
        ({"TransitEncryptionMode": "preferred"}, Transit.PREFERRED),
        ({"TransitEncryptionEnabled": False}, Transit.OFF),
    ):
        secured.ask_group("ModifyReplicationGroup", ApplyImmediately=True, **asked)
        group = secured.settle("g")
        assert group.transit is then
        assert group.transit_moves
        assert {secured.cluster(name).transit for name in group.member_ids} == {then}


def test_what_is_not_to_be_applied_at_once_waits_and_can_be_taken_back(secured: Desk) -> None:
    secured.create_group(Engine="redis", EngineVersion="7.0", NumCacheClusters=2)
    secured.ask_group("ModifyReplicationGroup", **PREFERRED)
    assert _shown(secured) == (False, None, "preferred")
    secured.ask_group("ModifyReplicationGroup", TransitEncryptionEnabled=False)
    assert _shown(secured) == (False, None, None)


def test_where_a_port_cannot_be_shared_preferred_is_refused(secured: Desk) -> None:
    secured.catalogue.found = [replace(i, tls=True) for i in secured.catalogue.found]
    clustered = {**CREATE, "EngineVersion": "6.2", "CacheParameterGroupName": "default.redis6.x.cluster.on"}
    code, text = secured.refused("CreateReplicationGroup", **clustered, **PREFERRED)
    assert (code, "7.0" in text) == (COMBINATION, True)
    assert secured.refused("CreateCacheCluster", CacheClusterId="m", Engine="memcached", **PREFERRED)[0] == COMBINATION


def test_an_engine_that_cannot_change_its_ports_while_it_runs_is_refused(secured: Desk) -> None:
    secured.create_group(Engine="redis", EngineVersion="6.2", NumCacheClusters=2)
    code, text = secured.refused("ModifyReplicationGroup", ReplicationGroupId="g", ApplyImmediately=True, **PREFERRED)
    assert (code, "7.0" in text) == (COMBINATION, True)


def test_a_node_alone_cannot_serve_both_on_one_port(secured: Desk) -> None:
    secured.create_group(Engine="redis", NumCacheClusters=2, **PREFERRED)
    code, text = secured.refused("DeleteReplicationGroup", ReplicationGroupId="g", RetainPrimaryCluster=True)
    assert (code, "preferred" in text) == (COMBINATION, True)


def test_what_is_to_lose_its_encryption_cannot_be_guarded(secured: Desk) -> None:
    token = {"AuthToken": "a-token-of-16-or-more", "AuthTokenUpdateStrategy": "ROTATE"}
    off = {"TransitEncryptionEnabled": False}
    secured.create_group(Engine="redis", EngineVersion="7.0", NumCacheClusters=2, **PREFERRED)
    together = secured.refused("ModifyReplicationGroup", ReplicationGroupId="g", ApplyImmediately=True, **off, **token)
    assert (together[0], "TransitEncryptionEnabled" in together[1]) == (COMBINATION, True)
    secured.ask_group("ModifyReplicationGroup", **off)  # waits for the window
    assert secured.refused("ModifyReplicationGroup", ReplicationGroupId="g", **token)[0] == COMBINATION
    secured.ask_group("ModifyReplicationGroup", **PREFERRED)  # taken back
    secured.ask_group("ModifyReplicationGroup", **token)
    assert secured.settle("g").auth_tokens


def test_a_change_of_mode_is_not_told_as_one_of_the_token(secured: Desk) -> None:
    secured.create_group(Engine="redis", NumCacheClusters=2, **ON, AuthToken="sixteen-letters-or-more")
    shown = secured.ask_group("ModifyReplicationGroup", **PREFERRED, ApplyImmediately=True)
    assert "AuthTokenStatus" not in shown["PendingModifiedValues"]
