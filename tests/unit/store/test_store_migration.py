"""A store that an earlier Cachekeep wrote is opened as it is: nothing of it is lost."""

from __future__ import annotations

import json
import sqlite3
from pathlib import Path
from typing import Any

import pytest

from cachekeep.domain.alarms import HistoryItem, HistoryKind, Topic
from cachekeep.domain.cache_cluster import CacheCluster
from cachekeep.domain.events import Note
from cachekeep.domain.nodes import Address
from cachekeep.domain.replication_group import ClusterMode, NodeGroup, ReplicationGroup
from cachekeep.domain.transit import Transit
from cachekeep.store.sqlite import SCHEMA_VERSION, SqliteStore

# Word for word what the first version made.
SCHEMA_1 = """
CREATE TABLE meta (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE resource (
  kind TEXT NOT NULL, region TEXT NOT NULL, name TEXT NOT NULL, body BLOB NOT NULL,
  PRIMARY KEY (kind, region, name)) WITHOUT ROWID;
CREATE TABLE event (
  number INTEGER PRIMARY KEY, at REAL NOT NULL, region TEXT NOT NULL, source_type TEXT NOT NULL,
  source_id TEXT NOT NULL, message TEXT NOT NULL);
CREATE INDEX event_by_time ON event (region, at);
CREATE TABLE address (
  host TEXT NOT NULL, port INTEGER NOT NULL, owner TEXT NOT NULL, PRIMARY KEY (host, port)) WITHOUT ROWID;
PRAGMA user_version=1;
"""
UPKEEP = {
    "maintenance_window": "sun:05:00-sun:06:00", "snapshot_window": "03:00-04:00", "auto_minor_version_upgrade": True,
    "notification_topic": None, "notification_active": True, "security_group_ids": [],
}  # fmt: skip
PENDING = {"node_type": None, "nodes_to_add": [], "node_ids_to_remove": [], "automatic_failover": None}
SHAPE = {
    "region": "us-east-1", "engine": "valkey", "version": {"numbers": [9, 1, 2]}, "node_type": "cache.t4g.micro",
    "port": 6379, "parameter_group": "default.valkey9", "subnet_group": "default", "upkeep": UPKEEP,
    "created_at": 1.5, "status": "available", "pending": PENDING, "tags": {"team": "a"}, "substitute": None,
    "substitute_version": None,
}  # fmt: skip


def group_1(name: str, members: list[str], primary: str) -> dict[str, Any]:
    return SHAPE | {
        "id": name, "description": "old", "member_ids": members, "primary_id": primary, "automatic_failover": True,
        "multi_az": False, "primary_endpoint": {"host": "127.64.0.1", "port": 6379},
        "reader_endpoint": {"host": "127.64.0.2", "port": 6379}, "retain_primary": False,
    }  # fmt: skip


def cluster_1(name: str, group: str | None, number: int) -> dict[str, Any]:
    node = {
        "node_id": "0001", "address": {"host": f"127.64.0.{number}", "port": 6379}, "zone": "us-east-1a",
        "created_at": 1.5, "status": "available", "parameters": "in-sync", "process": "77:88", "reboot_from": None,
        "recovering": False,
    }  # fmt: skip
    return SHAPE | {
        "id": name, "nodes": [node], "zones": [], "replication_group_id": group, "configuration_endpoint": None,
        "configuration_version": 1, "node_type_before": None,
    }  # fmt: skip


@pytest.fixture
def old(tmp_path: Path) -> Path:
    """A store of schema 1 with a group whose second member is its primary, and a cluster of its own."""
    path = tmp_path / "store.db"
    db = sqlite3.connect(path)
    db.executescript(SCHEMA_1)
    rows = [
        ("replicationgroup", "g", group_1("g", ["g-001", "g-002"], "g-002")),
        ("cluster", "g-001", cluster_1("g-001", "g", 3)),
        ("cluster", "g-002", cluster_1("g-002", "g", 4)),
        ("cluster", "single", cluster_1("single", None, 5)),
    ]
    for kind, name, body in rows:
        db.execute("INSERT INTO resource VALUES (?,?,?,?)", (kind, "us-east-1", name, json.dumps(body).encode()))
    db.execute("INSERT INTO address VALUES ('127.64.0.3', 6379, 'g')")
    db.execute("INSERT INTO event VALUES (1, 2.5, 'us-east-1', 'replication-group', 'g', 'created')")
    db.commit()
    db.close()
    return path


def check(store: SqliteStore) -> None:
    (group,) = store.all(ReplicationGroup)
    assert group.node_groups == (NodeGroup("0001", ("g-001", "g-002"), "g-002"),)
    assert (group.primary_id, group.member_ids) == ("g-002", ("g-001", "g-002"))
    assert group.cluster_mode is ClusterMode.DISABLED
    assert group.engine_change is None
    assert (group.description, group.tags, group.automatic_failover) == ("old", {"team": "a"}, True)
    clusters = {c.id: c for c in store.all(CacheCluster)}
    assert sorted(clusters) == ["g-001", "g-002", "single"]
    node = clusters["g-002"].nodes[0]
    assert (node.address, node.process, node.instance) == (Address("127.64.0.4", 6379), "77:88", "")
    assert str(clusters["g-002"].key(node)) == "us-east-1/g-002/0001"
    found = store.events("us-east-1", since=0, until=9, source_type=None, source_id=None)
    assert [event.message for event in found] == ["created"]


def test_a_group_of_schema_1_has_its_one_shard(old: Path) -> None:
    store = SqliteStore(old)
    assert not store.is_new
    check(store)
    with store.transaction() as work:
        assert work.addresses() == {Address("127.64.0.3", 6379)}
        work.add_note(Note(3.0, "us-east-1", "g", "the journal is there"))
    assert len(store.journal("us-east-1", "g")) == 1
    store.close()
    again = SqliteStore(old)
    check(again)
    again.close()


def test_a_migration_that_was_cut_short_is_done_again(old: Path) -> None:
    """The tables of the new schema are there, the groups and the version are not yet."""
    db = sqlite3.connect(old)
    db.execute("CREATE TABLE note (number INTEGER PRIMARY KEY, at REAL NOT NULL, region TEXT NOT NULL,"
               " resource_id TEXT NOT NULL, sentence TEXT NOT NULL)")  # fmt: skip
    db.commit()
    db.close()
    store = SqliteStore(old)
    check(store)
    store.close()
    db = sqlite3.connect(old)
    assert db.execute("PRAGMA user_version").fetchone() == (SCHEMA_VERSION,)
    db.close()


def test_a_store_of_schema_2_takes_the_history_of_alarms(old: Path) -> None:
    SqliteStore(old).close()
    db = sqlite3.connect(old)
    db.executescript("DROP TABLE alarm_history; PRAGMA user_version=2;")
    db.close()
    store = SqliteStore(old)
    check(store)
    item = HistoryItem(4.0, "us-east-1", "hot", HistoryKind.STATE_UPDATE, "went off", "{}")
    with store.transaction() as work:
        work.insert(Topic("us-east-1", "ops", (), 1.0))
        work.add_history(item)
    assert store.alarm_history("us-east-1", "hot", since=0, until=9) == [item]
    store.close()


def test_a_store_of_schema_3_is_read_as_it_is_and_taken_from_older_versions(old: Path) -> None:
    """What it has not, users and transit encryption, is what it always meant: none."""
    SqliteStore(old).close()
    db = sqlite3.connect(old)
    db.execute("PRAGMA user_version=3")
    db.close()
    store = SqliteStore(old)
    check(store)
    group = store.all(ReplicationGroup)[0]
    assert (group.user_group_ids, group.transit) == ((), Transit.OFF)
    store.close()
    db = sqlite3.connect(old)
    assert db.execute("PRAGMA user_version").fetchone() == (SCHEMA_VERSION,)
    db.close()
