"""What `status` and `down` make of groups in cluster mode and of upgrades under way."""

from __future__ import annotations

import io
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from cachekeep.cli.engines import STORE_FILE, primaries_of_record
from cachekeep.cli.status import _show
from cachekeep.domain.cache_cluster import CacheCluster, CacheNode, Pending, Spare, Status
from cachekeep.domain.engine import Engine, EngineVersion
from cachekeep.domain.migration import Migration, MigrationPhase
from cachekeep.domain.nodes import Address, ClusterFacts, NodeFacts, NodeKey, ObservedNode, Process, Role
from cachekeep.domain.ports import Resource
from cachekeep.domain.replication_group import ClusterMode, EngineChange, NodeGroup, ReplicationGroup
from cachekeep.domain.slots import divided, parse_slots
from cachekeep.domain.transit import Transit
from cachekeep.status import status_of
from cachekeep.store.sqlite import SqliteStore
from tests.properties.stored import NOW, REGION, V9, cluster_of, group_of

V81 = EngineVersion.parse("8.1.8")


@pytest.fixture
def store(tmp_path: Path) -> Iterator[SqliteStore]:
    it = SqliteStore(tmp_path / STORE_FILE)
    yield it
    it.close()


def put(store: SqliteStore, *resources: Resource) -> None:
    with store.transaction() as work:
        for resource in resources:
            work.insert(resource)


def sharded() -> tuple[ReplicationGroup, list[CacheCluster]]:
    """Two shards of two; in the second the roles have changed."""
    names = ["g-0001-001", "g-0001-002", "g-0002-001", "g-0002-002"]
    low, high = divided(2)
    group = replace(
        group_of("g", tuple(names[:2])),
        node_groups=(
            NodeGroup("0001", tuple(names[:2]), names[0], low),
            NodeGroup("0002", tuple(names[2:]), names[3], high),
        ),
        cluster_mode=ClusterMode.ENABLED,
        primary_endpoint=None,
        reader_endpoint=None,
        configuration_endpoint=Address("10.0.9.3", 6379),
        status=Status.AVAILABLE,
    )
    return group, [cluster_of(name, n, group="g") for n, name in enumerate(names, 1)]


def upgraded() -> tuple[ReplicationGroup, list[CacheCluster]]:
    """The first member runs the new version at an address of its own, and its former instance is kept."""
    group = group_of("u", ("u-001", "u-002"))
    old = cluster_of("u-001", 1, group="u")
    node = CacheNode("0001", Address("10.0.1.1", 6379), "a", NOW, instance="0001-b", published=old.nodes[0].address)
    former = Spare(old.nodes[0], Engine.VALKEY, V81, "default.valkey8", former=True)
    change = EngineChange(
        Engine.VALKEY, V9, "default.valkey9", Engine.VALKEY, V81, "default.valkey8", NOW, done_at=NOW + 3
    )
    members = [replace(old, nodes=(node,), spare=former), cluster_of("u-002", 2, group="u")]
    return replace(group, engine_change=change, status=Status.AVAILABLE), members


def printed(page: dict[str, Any]) -> str:
    out = io.StringIO()
    _show(Console(file=out, width=180, highlight=False), page)
    return out.getvalue()


def test_shards_their_slots_and_the_configuration_endpoint_are_shown(store: SqliteStore) -> None:
    group, members = sharded()
    put(store, replace(group, resharding=37.5), *members)
    owner = members[3]
    facts = NodeFacts("9.1.2", role=Role.PRIMARY, cluster=ClusterFacts("x", slots=parse_slots("8192-8201")))
    seen = {owner.key(owner.nodes[0]): ObservedNode(Process(1, "1"), facts)}
    page = status_of(store, seen, "http://x")
    (shown,) = page["groups"]
    assert (shown["cluster_mode"], shown["configuration_endpoint"]) == ("enabled", "10.0.9.3:6379")
    assert (shown["primary_endpoint"], shown["reader_endpoint"]) == (None, None)
    assert [(s["id"], s["slots"], s["slot_count"], s["owned"], s["primary"]) for s in shown["shards"]] == [
        ("0001", "0-8191", 8192, None, "g-0001-001"),
        ("0002", "8192-16383", 8192, 10, "g-0002-002"),
    ]
    assert [node["shard"] for node in shown["nodes"]] == ["0001", "0001", "0002", "0002"]
    text = printed(page)
    assert "configuration 10.0.9.3:6379" in text
    assert "resharding 38 %" in text
    assert "shard 0002  slots 8192-16383 (8192)  primary g-0002-002  owns 10 now" in text


def test_second_instances_are_marked(store: SqliteStore) -> None:
    group, members = upgraded()
    put(store, group, *members)
    (shown,) = status_of(store, {}, "http://x")["groups"]
    assert [(n["id"], n["instance"], n["spare"], n["address"]) for n in shown["nodes"]] == [
        ("u-001", "0001-b", None, "10.0.0.1:6379"),
        ("u-001", "0001", "former", "10.0.0.1:6379"),
        ("u-002", "0001", None, "10.0.0.2:6379"),
    ]
    assert shown["engine_change"]["from"] == "valkey 8.1.8"
    assert shown["engine_change"]["done"] is True
    text = printed({"groups": [shown], "clusters": []})
    assert "can go back to valkey 8.1.8" in text
    assert "former node" in text


def test_what_waits_for_the_window_is_shown(store: SqliteStore) -> None:
    group = replace(group_of("g", ("g-001",)), pending=Pending(node_type="cache.m7g.large"))
    put(store, group, cluster_of("g-001", 1, group="g"))
    page = status_of(store, {}, "http://x")
    assert page["groups"][0]["waits_for_window"] == "mon:03:00-mon:04:00"
    assert "changes wait for the window mon:03:00-mon:04:00" in printed(page)


def test_rows_tell_when_what_they_show_was_made(store: SqliteStore) -> None:
    group, cluster = replace(group_of("g", ("g-001",)), created_at=NOW + 5), replace(cluster_of("c", 2), created_at=NOW)
    put(store, group, cluster_of("g-001", 1, group="g"), cluster)
    page = status_of(store, {}, "http://x")
    assert (page["groups"][0]["created_at"], page["clusters"][0]["created_at"]) == (NOW + 5, NOW)


def test_where_addresses_cannot_move_the_first_members_is_the_configuration_endpoint(store: SqliteStore) -> None:
    group, members = sharded()
    put(store, replace(group, configuration_endpoint=None), *members)
    assert status_of(store, {}, "http://x")["groups"][0]["configuration_endpoint"] == "10.0.0.1:6379"


def test_down_knows_the_primary_of_every_shard_and_of_second_instances(store: SqliteStore, tmp_path: Path) -> None:
    for group, members in (sharded(), upgraded()):
        put(store, group, *members)
    put(store, cluster_of("single", 9))
    found = primaries_of_record(tmp_path)
    assert {str(node): str(primary) for node, primary in found.items()} == {
        f"{REGION}/g-0001-001/0001": f"{REGION}/g-0001-001/0001",
        f"{REGION}/g-0001-002/0001": f"{REGION}/g-0001-001/0001",
        f"{REGION}/g-0002-001/0001": f"{REGION}/g-0002-002/0001",
        f"{REGION}/g-0002-002/0001": f"{REGION}/g-0002-002/0001",
        f"{REGION}/u-001/0001-b": f"{REGION}/u-001/0001-b",
        f"{REGION}/u-001/0001": f"{REGION}/u-001/0001-b",
        f"{REGION}/u-002/0001": f"{REGION}/u-001/0001-b",
    }
    assert NodeKey(REGION, "single") not in found


def test_a_serverless_cache_is_shown_by_its_own_name(store: SqliteStore) -> None:
    group, members = sharded()
    names = {name: f"serverless--carts-{name[2:]}" for name in group.member_ids}
    shards = tuple(
        replace(s, member_ids=tuple(names[m] for m in s.member_ids), primary_id=names[s.primary_id])
        for s in group.node_groups
    )
    behind = replace(group, id="serverless--carts", serverless="carts", node_groups=shards)
    put(store, behind, *(replace(m, id=names[m.id], replication_group_id=behind.id) for m in members))
    page = status_of(store, {}, "http://x")
    assert page["groups"][0]["serverless"] == "carts"
    text = printed(page)
    assert "serverless in us-east-1" in text
    assert "carts-0002-002" in text
    assert "serverless--" not in text


def test_encryption_and_who_is_asked_for_are_shown_and_no_secret(store: SqliteStore) -> None:
    guarded = replace(group_of("a", ("a-001",)), transit=Transit.REQUIRED, user_group_ids=("staff",))
    token = replace(group_of("b", ("b-001",)), auth_tokens=("digest-of-it",))
    put(store, guarded, token, cluster_of("a-001", 1, group="a"), cluster_of("b-001", 2, group="b"))
    page = status_of(store, {}, "http://x")
    assert [(g["tls"], g["guard"]) for g in page["groups"]] == [("required", "users of staff"), (None, "AUTH token")]
    text = printed(page)
    assert "group in us-east-1, TLS required, users of staff" in text
    assert "group in us-east-1, AUTH token" in text
    assert "digest-of-it" not in text + str(page)


def test_what_a_group_follows_is_shown(store: SqliteStore) -> None:
    migration = Migration(Address("10.1.2.3", 6379), MigrationPhase.FOLLOWING, NOW)
    group = replace(group_of("m", ("m-001",)), migration=migration, global_id="ldgnf-shop")
    put(store, group, cluster_of("m-001", 1, group="m"))
    text = printed(status_of(store, {}, "http://x"))
    assert "in ldgnf-shop" in text
    assert "follows 10.1.2.3:6379" in text
