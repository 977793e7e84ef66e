"""Rehearsals: the same handler, the same faults, and nothing done."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest

from cachekeep.api.context import Services
from cachekeep.api.dispatch import Dispatcher
from cachekeep.api.rehearsal import HEADER, rehearsal_store
from cachekeep.app import catalog
from cachekeep.codec.sigv4 import HttpRequest
from cachekeep.domain.cache_cluster import CacheCluster, Status
from cachekeep.domain.engine import Engine, EngineInstall, EngineVersion
from cachekeep.domain.nodes import Address
from cachekeep.domain.ports import Conflict, Resource
from cachekeep.domain.replication_group import ReplicationGroup
from cachekeep.endpoint.addresses import PortPool
from cachekeep.plan.placement import Machine
from cachekeep.store.sqlite import SqliteStore
from tests.properties.stored import cluster_of, group_of
from tests.unit.codec.signing import FORM, NOW, secret_of, signed, with_header

REGION = "eu-west-1"
VERSION = EngineVersion.parse("9.1.2")
INSTALL = EngineInstall(Engine.VALKEY, VERSION, "/nowhere/valkey-server", "a test", cluster=True)


class OneEngine:
    """A catalogue of one program, which nobody starts here."""

    def installs(self) -> Sequence[EngineInstall]:
        return [INSTALL]

    def best(self, engine: Engine, wanted: EngineVersion | None) -> EngineInstall | None:
        fits = engine is Engine.VALKEY and (wanted is None or wanted.covers(VERSION))
        return INSTALL if fits else None


class StoppedClock:
    def now(self) -> float:
        return NOW


@pytest.fixture
def store(tmp_path: Path) -> Iterator[SqliteStore]:
    it = SqliteStore(tmp_path / "store.db")
    group = replace(
        group_of("g", ("g-001", "g-002")), region=REGION, status=Status.AVAILABLE, version=VERSION,
        automatic_failover=True,
    )  # fmt: skip
    members = [
        replace(cluster_of(name, n, group="g"), region=REGION, status=Status.AVAILABLE, version=VERSION)
        for n, name in enumerate(group.member_ids, 1)
    ]
    with it.transaction() as work:
        work.insert(group)
        for member in members:
            work.insert(member)
    yield it
    it.close()


@pytest.fixture
def dispatcher(store: SqliteStore) -> Dispatcher:
    services = Services(
        store=store,
        pool=PortPool(),
        catalogue=OneEngine(),
        clock=StoppedClock(),
        catalog=catalog(),
        machine=Machine(8 << 30, 8.0),
        account_id="000000000000",
    )
    return Dispatcher(services, secret_of)


def request(action: str, rehearsed: str | None = "true", service: str = "elasticache", **fields: str) -> HttpRequest:
    body = urlencode({"Action": action, "Version": "2015-02-02", **fields}).encode()
    headers = {"Content-Type": FORM} | ({HEADER: rehearsed} if rehearsed is not None else {})
    return signed(body=body, headers=headers, service=service)


def contents(store: SqliteStore) -> list[object]:
    with store.transaction() as work:
        addresses, last = sorted(work.addresses()), work.last_claimed()
    return [store.all(ReplicationGroup), store.all(CacheCluster), addresses, last]


MODIFY = {"ReplicationGroupId": "g", "CacheNodeType": "cache.m7g.large", "ApplyImmediately": "true"}


def page(dispatcher: Dispatcher, asked: HttpRequest) -> dict[str, Any]:
    answer = dispatcher.answer(asked)
    assert (answer.status, answer.content_type) == (200, "application/json"), answer.body
    found: dict[str, Any] = json.loads(answer.body)
    return found


def test_a_rehearsal_tells_and_does_nothing(dispatcher: Dispatcher, store: SqliteStore) -> None:
    told: list[Sequence[Resource]] = []
    store.subscribe(told.append)
    before = contents(store)
    made = page(dispatcher, request("ModifyReplicationGroup", **MODIFY))
    assert made["operation"] == "ModifyReplicationGroup"
    assert made["resources"] == ["g"]
    assert made["changes"] is True
    assert "maxmemory of 2 nodes" in made["steps"][0]
    assert made["memory"]["afterwards_bytes"] > made["memory"]["now_bytes"] > 0
    assert contents(store) == before
    assert told == [], "nobody is woken"


def test_what_no_engine_is_concerned_with_is_a_change_all_the_same(dispatcher: Dispatcher) -> None:
    fields = {"CacheSubnetGroupName": "s", "CacheSubnetGroupDescription": "d"}
    made = page(dispatcher, request("CreateCacheSubnetGroup", **fields, **{"SubnetIds.SubnetIdentifier.1": "subnet-1"}))
    assert made["changes"] is True
    assert made["steps"] == ["Only what is shown changes; no engine is concerned."]


def test_the_same_request_without_the_header_is_carried_out(dispatcher: Dispatcher, store: SqliteStore) -> None:
    before = contents(store)
    answer = dispatcher.answer(request("ModifyReplicationGroup", None, **MODIFY))
    assert answer.status == 200
    assert b"<ModifyReplicationGroupResponse" in answer.body
    assert contents(store) != before


def test_a_create_is_rehearsed_with_its_addresses_and_claims_none(dispatcher: Dispatcher, store: SqliteStore) -> None:
    before = contents(store)
    asked = request(
        "CreateReplicationGroup", ReplicationGroupId="new", ReplicationGroupDescription="x", NumCacheClusters="3"
    )
    made = page(dispatcher, asked)
    assert made["resources"] == ["new"]
    assert "3 nodes with Valkey 9.1.2" in made["steps"][0]
    assert contents(store) == before
    assert page(dispatcher, asked) == made, "a second time it is the same"


@pytest.mark.parametrize(
    ("action", "fields", "code"),
    [
        ("ModifyReplicationGroup", {"ReplicationGroupId": "none"}, "ReplicationGroupNotFoundFault"),
        ("ModifyReplicationGroup", MODIFY | {"CacheNodeType": "cache.none"}, "InvalidParameterValue"),
        ("CreateReplicationGroup", {"ReplicationGroupId": "g", "ReplicationGroupDescription": "x"},
         "ReplicationGroupAlreadyExists"),
        ("DeleteCacheCluster", {"CacheClusterId": "g-001"}, "InvalidCacheClusterState"),
        ("CreateReplicationGroup", {"ReplicationGroupId": "n"}, "MissingParameter"),
        ("NoSuchThing", {}, "InvalidAction"),
        ("DescribeReplicationGroups", {}, "InvalidParameterValue"),
    ],
)  # fmt: skip
def test_what_would_be_refused_is_refused_in_the_same_words(
    dispatcher: Dispatcher, store: SqliteStore, action: str, fields: dict[str, str], code: str
) -> None:
    before = contents(store)
    rehearsed = dispatcher.answer(request(action, **fields))
    assert f"<Code>{code}</Code>".encode() in rehearsed.body
    if action != "DescribeReplicationGroups":
        real = dispatcher.answer(request(action, None, **fields))
        message = real.body.partition(b"<Message>")[2].partition(b"</Message>")[0]
        assert message in rehearsed.body
    assert contents(store) == before


def test_a_header_that_is_stripped_on_the_way_makes_the_signature_wrong(
    dispatcher: Dispatcher, store: SqliteStore
) -> None:
    before = contents(store)
    answer = dispatcher.answer(with_header(request("ModifyReplicationGroup", **MODIFY), HEADER, None))
    assert (answer.status, b"SignatureDoesNotMatch" in answer.body) == (403, True)
    assert contents(store) == before


def test_a_header_that_nobody_signed_is_refused(dispatcher: Dispatcher, store: SqliteStore) -> None:
    before = contents(store)
    asked = with_header(request("ModifyReplicationGroup", None, **MODIFY), HEADER, "true")
    answer = dispatcher.answer(asked)
    assert (answer.status, b"must be a 'SignedHeader'" in answer.body) == (403, True)
    assert contents(store) == before


@pytest.mark.parametrize("value", ["false", "yes", "1", ""])
def test_any_other_value_of_the_header_does_nothing_either(
    dispatcher: Dispatcher, store: SqliteStore, value: str
) -> None:
    before = contents(store)
    answer = dispatcher.answer(request("ModifyReplicationGroup", value, **MODIFY))
    assert (answer.status, b"can only be true" in answer.body) == (400, True)
    assert contents(store) == before


def test_our_own_scope_is_for_rehearsals_only(dispatcher: Dispatcher, store: SqliteStore) -> None:
    before = contents(store)
    assert page(dispatcher, request("ModifyReplicationGroup", service="cachekeep", **MODIFY))["changes"]
    refused = dispatcher.answer(request("ModifyReplicationGroup", None, service="cachekeep", **MODIFY))
    assert (refused.status, b"Credential should be scoped" in refused.body) == (403, True)
    assert contents(store) == before


def test_the_rehearsals_own_writes_are_seen_in_it_and_nowhere_else(store: SqliteStore) -> None:
    new = cluster_of("c", 9)
    with rehearsal_store(store) as rehearsed:
        with rehearsed.transaction() as work:
            work.insert(new)
            work.claim("c", [Address("10.0.0.9", 6379)])
        assert rehearsed.get(CacheCluster, new.region, "c") == new
        assert new in rehearsed.all(CacheCluster)
        with rehearsed.transaction() as work:
            assert work.addresses() == {Address("10.0.0.9", 6379)}
    assert store.get(CacheCluster, new.region, "c") is None
    with store.transaction() as work:
        assert work.addresses() == set()


def test_a_rehearsal_that_raises_leaves_nothing_and_the_store_usable(store: SqliteStore) -> None:
    with pytest.raises(Conflict), rehearsal_store(store) as rehearsed, rehearsed.transaction() as work:  # noqa: PT012
        work.insert(cluster_of("c", 9))
        work.insert(cluster_of("c", 9))
    assert store.get(CacheCluster, "us-east-1", "c") is None
    with store.transaction() as work:
        work.insert(cluster_of("c", 9))
    assert store.get(CacheCluster, "us-east-1", "c") is not None
