"""What runs a serverless cache is asked for, and told of, by the name of the cache."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from measured import node, resource
from test_health_report import NOW, REGION, World

from cachekeep.data.thresholds import thresholds
from cachekeep.domain.faults import Fault
from cachekeep.domain.metric_ports import Monitoring
from cachekeep.report.health import HealthReports
from cachekeep.report.right_size_members import named
from cachekeep.store.sqlite import SqliteStore
from tests.properties.stored import cluster_of, group_of

BEHIND = "serverless--carts"


@pytest.fixture
def store(tmp_path: Path) -> Iterator[SqliteStore]:
    it = SqliteStore(tmp_path / "store.sqlite")
    with it.transaction() as work:
        work.insert(group_of(BEHIND, (f"{BEHIND}-0001-001",)))
        work.insert(cluster_of(f"{BEHIND}-0001-001", 1, group=BEHIND))
        work.insert(group_of("demo", ("demo-001",)))
    yield it
    it.close()


def reports(store: SqliteStore) -> HealthReports:
    world = World()
    world.add(f"{BEHIND}-0001-001", group=BEHIND, DatabaseMemoryUsagePercentage=90)
    world.add("demo-001", group="demo")
    return HealthReports(Monitoring(world, world, world, lambda: NOW), world, store, thresholds(), {})


def test_health_is_asked_for_and_told_by_the_name_of_the_cache(store: SqliteStore) -> None:
    health = reports(store)
    rows = {(row["kind"], row["id"], row["level"]) for row in health.overview(REGION)["resources"]}
    assert rows == {("serverless", "carts", "risk"), ("group", "demo", "safe")}
    for name in ("carts", BEHIND):
        told = health.report(REGION, name)
        assert (told["id"], told["level"]) == ("carts", "risk")
        assert [one["id"] for one in told["nodes"]] == ["carts-0001-001"]
    assert health.report(REGION, "carts-0001-001")["level"] == "risk"
    health.change(REGION, "carts", {"DatabaseMemoryUsagePercentage": {"warning": 95, "risk": 98}}, [])
    assert health.report(REGION, "carts")["level"] == "safe"
    with pytest.raises(Fault, match="no group, cluster or watched target other"):
        health.report(REGION, "other")


def test_a_group_of_the_same_name_comes_first(store: SqliteStore) -> None:
    with store.transaction() as work:
        work.insert(group_of("carts", ("carts-001",)))
    assert reports(store).report(REGION, "carts")["nodes"] == []
    assert reports(store).report(REGION, BEHIND)["level"] == "risk"


def test_the_right_size_is_asked_for_by_the_name_of_the_cache() -> None:
    rows = [("group", resource(BEHIND, [node(f"{BEHIND}-0001-001")])), ("group", resource("demo", [node("demo-001")]))]
    found = named(rows, REGION, "carts")
    assert (found.kind, found.id, found.node_type) == ("serverless", BEHIND, "")
    with pytest.raises(Fault, match="there is carts, demo"):
        named(rows, REGION, "other")
