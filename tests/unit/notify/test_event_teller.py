"""ElastiCache events to the topics that groups and clusters name, in the shape of AWS's messages."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from cachekeep.domain.cache_cluster import CacheCluster, Upkeep
from cachekeep.domain.engine import Engine, EngineVersion
from cachekeep.domain.events import Event, SourceType
from cachekeep.monitor.notify import EventTeller
from cachekeep.plan.notice import event_name
from cachekeep.store.sqlite import SqliteStore

REGION = "eu-west-1"
ARN = f"arn:aws:sns:{REGION}:000000000000:ops"
UPKEEP = Upkeep("sun:01:00-sun:02:00", "03:00-04:00", notification_topic=ARN)
CLUSTER = CacheCluster(
    REGION, "mem", Engine.MEMCACHED, EngineVersion((1, 6, 22)), "cache.t4g.micro", 11211, "p", "s", UPKEEP, 0.0, ()
)
CREATED = Event(100.0, REGION, SourceType.CACHE_CLUSTER, "mem", "Cache cluster created")


class Clock:
    time = 100.0

    def now(self) -> float:
        return self.time


class Board:
    def __init__(self) -> None:
        self.told: list[tuple[str, str, dict[str, str]]] = []

    def publish(self, topic_arn: str, subject: str, message: str, alarm: str = "") -> str | None:
        self.told.append((topic_arn, subject, json.loads(message)))
        return None


class Desk:
    def __init__(self, path: Path, cluster: CacheCluster) -> None:
        self.store, self.clock, self.board = SqliteStore(path), Clock(), Board()
        with self.store.transaction() as work:
            work.insert(cluster)
        self.teller = EventTeller(self.store, self.board, self.clock)

    def happen(self, event: Event) -> None:
        with self.store.transaction() as work:
            work.add_event(event)
        self.teller.tell()


def test_an_event_is_published_once_in_awss_shape(tmp_path: Path) -> None:
    desk = Desk(tmp_path / "store.sqlite", CLUSTER)
    desk.happen(CREATED)
    desk.teller.tell()
    assert desk.board.told == [
        (
            ARN,
            "ElastiCache:CacheClusterProvisioningComplete",
            {
                "ElastiCache:CacheClusterProvisioningComplete": "mem",
                "Cache Cluster ID": "mem",
                "Message": "Cache cluster created",
                "SourceType": "cache-cluster",
                "SourceIdentifier": "mem",
                "Region": REGION,
                "Date": "1970-01-01T00:01:40.000Z",
            },
        )
    ]


@pytest.mark.parametrize(
    "upkeep", [replace(UPKEEP, notification_active=False), replace(UPKEEP, notification_topic=None)]
)
def test_without_an_active_topic_nothing_is_published(tmp_path: Path, upkeep: Upkeep) -> None:
    desk = Desk(tmp_path / "store.sqlite", replace(CLUSTER, upkeep=upkeep))
    desk.happen(CREATED)
    assert desk.board.told == []


def test_the_last_event_of_a_deleted_cluster_is_told(tmp_path: Path) -> None:
    desk = Desk(tmp_path / "store.sqlite", CLUSTER)
    with desk.store.transaction() as work:
        work.delete(CLUSTER)
    desk.happen(replace(CREATED, message="Cache cluster deleted"))
    assert [subject for _, subject, _ in desk.board.told] == ["ElastiCache:DeleteCacheClusterComplete"]


def test_what_happened_while_nobody_was_to_be_told_is_not_told_later(tmp_path: Path) -> None:
    silent = replace(CLUSTER, upkeep=replace(UPKEEP, notification_active=False))
    desk = Desk(tmp_path / "store.sqlite", silent)
    desk.happen(replace(CREATED, message="Cache node 0001 restarted"))
    with desk.store.transaction() as work:
        work.replace(silent, CLUSTER)
    desk.happen(CREATED)
    assert [subject for _, subject, _ in desk.board.told] == ["ElastiCache:CacheClusterProvisioningComplete"]


def test_an_event_that_is_stored_after_a_later_one_is_told(tmp_path: Path) -> None:
    desk = Desk(tmp_path / "store.sqlite", CLUSTER)
    desk.clock.time = 130.0
    desk.happen(replace(CREATED, at=130.0))
    desk.happen(replace(CREATED, at=120.0, message="Cache node 0001 restarted"))
    assert len(desk.board.told) == 2


def test_after_the_clock_was_set_back_events_are_told_still(tmp_path: Path) -> None:
    desk = Desk(tmp_path / "store.sqlite", CLUSTER)
    desk.happen(CREATED)
    desk.clock.time = 40.5
    desk.happen(replace(CREATED, at=40.0, message="Cache node 0001 restarted"))
    assert [subject for _, subject, _ in desk.board.told][1:] == ["ElastiCache:CacheNodesRebooted"]


def test_an_event_that_aws_has_no_name_for_is_told_as_one() -> None:
    assert event_name(replace(CREATED, message="Something of ours")) == "ElastiCache:Event"


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("Failover from primary node a-001 to replica node a-002 completed", "FailoverComplete"),
        ("Finished recovery for cache nodes 0001", "CacheNodeReplaceComplete"),
        ("Replication group a created", "CreateReplicationGroupComplete"),
        ("Increasing the replica count started: 2 per shard", "ReplicationGroupIncreaseReplicaCountStarted"),
        ("Failed applying modification to cache node type to cache.t4g.micro.", "ReplicationGroupScalingFailed"),
        ("Slot migration of replication group a completed", "ReplicationGroupScalingComplete"),
        ("Testing automatic failover", "Event"),
    ],
)
def test_events_of_groups_have_awss_names(text: str, name: str) -> None:
    event = Event(100.0, REGION, SourceType.REPLICATION_GROUP, "a", text)
    assert event_name(event) == f"ElastiCache:{name}"


def test_from_the_change_to_inactive_on_nothing_is_told(tmp_path: Path) -> None:
    desk = Desk(tmp_path / "store.sqlite", CLUSTER)
    with desk.store.transaction() as work:
        work.replace(CLUSTER, replace(CLUSTER, upkeep=replace(UPKEEP, notification_active=False)))
        work.add_event(CREATED)
    desk.teller.tell()
    assert desk.board.told == []
