"""Whom a snapshot is read from, when a daily one is due, and when it is over."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

import pytest

from cachekeep.domain.cache_cluster import CacheCluster, CacheNode, Status, Upkeep
from cachekeep.domain.engine import Engine, EngineVersion
from cachekeep.domain.nodes import Address, NodeFacts, NodeKey, ObservedNode, Process, Role
from cachekeep.domain.replication_group import NodeGroup, ReplicationGroup
from cachekeep.domain.snapshot import Snapshot, SnapshotSource, SnapshotStatus
from cachekeep.plan.snapshots import (
    DAY_S,
    automatic_name,
    is_daily_due,
    is_over,
    read_from,
    snapshot_of_group,
    window_opened_at,
)

VERSION = EngineVersion((9, 1, 2))
UPKEEP = Upkeep("sun:05:00-sun:06:00", "22:00-02:00", snapshot_retention=3)
SHARD = NodeGroup("0001", ("grp-001", "grp-002", "grp-003"), "grp-001")


def moment(text: str) -> float:
    return datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp()


def member(name: str) -> CacheCluster:
    node = CacheNode("0001", Address(f"127.0.0.{int(name[-1])}", 6379), "us-east-1a", 0.0)
    return CacheCluster(
        "us-east-1", name, Engine.VALKEY, VERSION, "cache.t4g.micro", 6379, "p", "default", UPKEEP, 0.0, (node,)
    )


MEMBERS = {name: member(name) for name in SHARD.member_ids}
GROUP = ReplicationGroup(
    "us-east-1",
    "grp",
    "",
    Engine.VALKEY,
    VERSION,
    "cache.t4g.micro",
    6379,
    "p",
    "default",
    UPKEEP,
    100.0,
    (SHARD,),
    status=Status.AVAILABLE,
)


def seen(**nodes: NodeFacts) -> dict[NodeKey, ObservedNode]:
    process = Process(1, "1")
    return {NodeKey("us-east-1", name.replace("_", "-")): ObservedNode(process, facts) for name, facts in nodes.items()}


def replica(offset: int, *, link_up: bool = True) -> NodeFacts:
    return NodeFacts("9.1.2", role=Role.REPLICA, offset=offset, link_up=link_up)


PRIMARY = NodeFacts("9.1.2", offset=9)


def taken(at: float = 1000.0, **more: object) -> Snapshot:
    found = snapshot_of_group(GROUP, MEMBERS, "s", SnapshotSource.AUTOMATED, at)
    return replace(found, status=SnapshotStatus.AVAILABLE, **more)


@pytest.mark.parametrize(
    ("look", "preferred", "final", "expected"),
    [
        (seen(grp_001=PRIMARY, grp_002=replica(7), grp_003=replica(8)), None, False, "grp-003"),
        (seen(grp_001=PRIMARY, grp_002=replica(7), grp_003=replica(8)), "grp-002", False, "grp-002"),
        (seen(grp_001=PRIMARY, grp_002=replica(7), grp_003=replica(8)), "grp-001", False, "grp-001"),
        (seen(grp_001=PRIMARY, grp_002=replica(7), grp_003=replica(8)), None, True, "grp-001"),
        (seen(grp_001=PRIMARY, grp_002=replica(7, link_up=False)), "grp-002", False, "grp-001"),
        (seen(grp_002=replica(7)), None, True, None),
        (seen(), None, False, None),
    ],
)
def test_read_from(look: dict[NodeKey, ObservedNode], preferred: str | None, final: bool, expected: str | None) -> None:
    found = read_from(taken(final=final), SHARD, MEMBERS, look, preferred)
    assert (found.id if found else None) == expected


@pytest.mark.parametrize(
    ("now", "opened"),
    [
        ("2026-11-23T21:59:59", None),
        ("2026-11-23T22:00:00", "2026-11-23T22:00:00"),
        ("2026-11-24T00:30:00", "2026-11-23T22:00:00"),
        ("2026-11-24T02:00:00", None),
    ],
)
def test_a_window_over_midnight(now: str, opened: str | None) -> None:
    assert window_opened_at("22:00-02:00", moment(now)) == (moment(opened) if opened else None)


def test_one_daily_snapshot_in_a_window() -> None:
    now = moment("2026-11-24T00:30:00")
    assert is_daily_due(GROUP, [], now)
    assert is_daily_due(GROUP, [taken(moment("2026-11-22T23:00:00"))], now), "yesterday's"
    assert not is_daily_due(GROUP, [taken(moment("2026-11-23T23:00:00"))], now), "of this very window"
    assert is_daily_due(GROUP, [replace(taken(now), source=SnapshotSource.MANUAL)], now)
    assert not is_daily_due(replace(GROUP, status=Status.MODIFYING), [], now)
    off = replace(GROUP, upkeep=replace(UPKEEP, snapshot_retention=0))
    assert not is_daily_due(off, [], now)
    assert automatic_name(GROUP, now) == "automatic.grp-2026-11-24-00-30"


def test_a_daily_snapshot_is_over_after_its_days_and_with_its_source() -> None:
    one, day = taken(1000.0), DAY_S
    assert not is_over(one, GROUP, 1000.0 + 3 * day - 1)
    assert is_over(one, GROUP, 1000.0 + 3 * day)
    off = replace(GROUP, upkeep=replace(UPKEEP, snapshot_retention=0))
    assert not is_over(one, off, 1000.0 + 3 * day - 1), "switched off: the days that it was taken under"
    assert is_over(one, None, 1001.0)
    assert is_over(one, replace(GROUP, created_at=500.0), 1001.0), "another group of the same name"
    assert not is_over(replace(one, source=SnapshotSource.MANUAL), None, 1000.0 + 99 * day)
    assert not is_over(replace(one, status=SnapshotStatus.RESTORING), None, 1001.0)
