"""The dashboard's ports on a real store: keys, alarms, journal, verdicts (cachekeep.app.dashboard)."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping
from dataclasses import replace
from ipaddress import IPv4Network
from pathlib import Path
from typing import Any

import pytest

from cachekeep.api.context import Services
from cachekeep.api.dispatch import Dispatcher
from cachekeep.app import catalog
from cachekeep.app.dashboard import DashboardViews, KeyOperator, Reports, condition_of
from cachekeep.app.services import SystemClock
from cachekeep.domain.alarms import Alarm, AlarmState, Comparison, HistoryItem, HistoryKind, MetricQuery
from cachekeep.domain.events import Event, Note, SourceType
from cachekeep.domain.faults import Fault
from cachekeep.domain.snapshot import SnapshotSource
from cachekeep.endpoint.addresses import LoopbackPool
from cachekeep.host.installs import MachineCatalogue
from cachekeep.plan.placement import Machine
from cachekeep.plan.right_size_shapes import Goal
from cachekeep.plan.snapshots import snapshot_of_group
from cachekeep.report.price_table import PriceQuestion
from cachekeep.store.sqlite import SqliteStore
from tests.properties.stored import cluster_of, group_of

REGION = "eu-west-1"
KEYS = {"AKIA1": "right-secret", "AKIA2": ""}
REPORT = {
    "level": "risk",
    "sentence": "risk: Swap",
    "nodes": [{"id": "orders-001", "role": "primary", "level": "unknown", "trouble": "no answer"}],
    "tiers": [
        {"tier": "crucial", "metrics": [{"metric": "SwapUsage", "level": "risk"}]},
        {"tier": "important", "metrics": [{"metric": "FreeableMemory", "level": "safe"}]},
    ],
    "continuous_backup": {"metric": "ContinuousBackup", "tier": "important", "level": "warning"},
}


@pytest.fixture
def services(tmp_path: Path) -> Iterator[Services]:
    store = SqliteStore(tmp_path / "store.sqlite")
    pool = LoopbackPool(IPv4Network("127.64.0.0/24"))
    yield Services(
        store=store, pool=pool, catalogue=MachineCatalogue(), clock=SystemClock(), catalog=catalog(),
        machine=Machine(64 << 30, 1.0), account_id="000000000000",
    )  # fmt: skip
    store.close()


class Sized:
    """Reports that say what they are given."""

    goal: Goal | None = None
    kind = "group"

    async def right_size(self, region: str, name: str, goal: Goal) -> Mapping[str, Any]:
        self.goal = goal
        return {}

    async def cost(self, region: str, name: str | None) -> Mapping[str, Any]:
        return {"resources": [{"kind": self.kind}], "here": {"memory_share": 0.1}}

    async def prices(self, asked: PriceQuestion) -> Mapping[str, Any]:
        return {"asked": asked}

    @property
    def reports(self) -> Reports:
        return Reports(
            health=lambda region, name: REPORT,
            levels=lambda region: {"orders": "risk"},
            troubles=lambda region: {"orders": ["orders-001: no answer"]},
            thresholds=lambda region, name: {},
            prices=self.prices,
            cost=self.cost,
            right_size=self.right_size,
            watched=lambda region: (),
            status=dict,
        )


def views_of(services: Services, told: Sized | None = None) -> DashboardViews:
    monitoring: Any = None  # nothing is read of it here
    return DashboardViews(REGION, services, monitoring, (told or Sized()).reports)


@pytest.mark.parametrize(
    ("key", "secret", "good"),
    [
        ("AKIA1", "right-secret", True),
        ("AKIA1", "right-secre", False),
        ("AKIA1", "", False),
        ("AKIA3", "right-secret", False),
        ("AKIA3", "", False),
        ("AKIA2", "", False),
        ("AKIA1", "right-secret\udc80", False),
    ],
)
def test_a_key_is_good_with_its_own_secret_only(services: Services, key: str, secret: str, *, good: bool) -> None:
    operator = KeyOperator(KEYS, Dispatcher(services, KEYS.get))
    assert operator.verify_key(key, secret) is good


def test_what_the_api_refuses_is_refused_here(services: Services) -> None:
    operator = KeyOperator(KEYS, Dispatcher(services, KEYS.get))
    request = {"Action": "DeleteReplicationGroup", "ReplicationGroupId": "nothing"}
    for ask in (operator.perform, operator.rehearse):
        with pytest.raises(Fault, match="nothing") as caught:
            ask(REGION, "AKIA1", request)
        assert caught.value.code == "ReplicationGroupNotFoundFault"


def test_an_alarm_is_shown_with_what_it_is_on(services: Services) -> None:
    query = MetricQuery("m", metric="SwapUsage", dimensions=(("CacheClusterId", "orders-001"),), statistic="Average")
    alarm = Alarm(REGION, "full", (query,), 1, 1, 5.0, Comparison.GREATER, 1.0, 2.0, 3.0, state=AlarmState.ALARM)
    math = replace(
        alarm, name="math", queries=(MetricQuery("e", expression="m * 2"), query), state=AlarmState.OK, single=False
    )
    with services.store.transaction() as work:
        work.insert(alarm)
        work.insert(math)
        work.insert(replace(alarm, region="us-east-1", name="elsewhere"))
    shown = views_of(services).alarms(REGION)
    assert [(one["name"], one["state"], one["condition"], one["of"], one["resource"]) for one in shown] == [
        ("full", "ALARM", "Average SwapUsage > 5 for one period of 60 s", "orders-001", "orders-001"),
        ("math", "OK", "m * 2 > 5 for one period of 60 s", "orders-001", "orders-001"),
    ]


@pytest.mark.parametrize(
    ("periods", "least", "times"), [(3, 2, "2 of 3 periods of 300 s"), (3, 3, "3 periods of 300 s")]
)
def test_the_condition_of_an_alarm_says_how_many_periods(periods: int, least: int, times: str) -> None:
    query = MetricQuery("m", metric="CacheHitRate", statistic="Minimum", period=300)
    alarm = Alarm(REGION, "low", (query,), periods, least, 75.5, Comparison.LESS_OR_EQUAL, 1.0, 2.0, 3.0)
    assert condition_of(alarm) == f"Minimum CacheHitRate <= 75.5 for {times}"


def test_actions_of_an_alarm_are_none_on_or_off(services: Services) -> None:
    query = MetricQuery("m", metric="SwapUsage", statistic="Average")
    bare = Alarm(REGION, "a", (query,), 1, 1, 5.0, Comparison.GREATER, 1.0, 2.0, 3.0)
    on = replace(bare, name="b", ok_actions=("arn:aws:sns:eu-west-1:0:t",))
    with services.store.transaction() as work:
        for alarm in (bare, on, replace(on, name="c", actions_enabled=False)):
            work.insert(alarm)
    assert [one["actions"] for one in views_of(services).alarms(REGION)] == ["none", "on", "off"]


def test_what_became_of_alarms_is_told_newest_first(services: Services) -> None:
    now = services.clock.now()
    with services.store.transaction() as work:
        for at, text in ((now - 15 * 86400, "forgotten"), (now - 60, "to ALARM"), (now - 1, "to OK")):
            work.add_history(HistoryItem(at, REGION, "full", HistoryKind.STATE_UPDATE, text, "{}"))
    assert [line["summary"] for line in views_of(services).alarm_history(REGION)] == ["to OK", "to ALARM"]


def test_what_is_only_watched_takes_nothing_here(services: Services) -> None:
    told = Sized()
    views = views_of(services, told)
    assert "here" in asyncio.run(views.cost(REGION, None))
    told.kind = "watched"
    assert "here" not in asyncio.run(views.cost(REGION, None))


def test_the_journal_is_told_newest_first(services: Services) -> None:
    with services.store.transaction() as work:
        for at in (1.0, 2.0):
            work.add_note(Note(at, REGION, "orders", f"step {at:g}"))
    assert [note["sentence"] for note in views_of(services).journal(REGION, "orders")] == ["step 2", "step 1"]


def test_verdicts_of_all_tiers_are_one_list(services: Services) -> None:
    views = views_of(services)
    assert views.health(REGION, None) == {
        "resources": {"orders": "risk"},
        "troubles": {"orders": ["orders-001: no answer"]},
    }
    told = views.health(REGION, "orders")
    assert [(verdict["metric"], verdict["tier"]) for verdict in told["verdicts"]] == [
        ("SwapUsage", "crucial"),
        ("FreeableMemory", "important"),
        ("ContinuousBackup", "important"),
    ]
    assert (told["sentence"], told["nodes"][0]["trouble"]) == ("risk: Swap", "no answer")


def test_the_usual_region_comes_first(services: Services) -> None:
    regions = views_of(services).regions()
    assert regions[0] == REGION
    assert len(set(regions)) == len(regions) > 20


def test_a_margin_is_percent_and_must_make_sense(services: Services) -> None:
    told = Sized()
    asyncio.run(views_of(services, told).right_size(REGION, "orders", 40.0, 7.0))
    assert told.goal == Goal(margin=0.4, horizon_days=7.0)
    with pytest.raises(Fault, match="margin"):
        asyncio.run(views_of(services, told).right_size(REGION, "orders", -1.0, 7.0))


def test_snapshots_are_told_newest_first_and_by_the_names_that_users_know(services: Services) -> None:
    group = group_of("demo", ("demo-001",))
    behind = replace(group, id="serverless--carts")
    members = {"demo-001": cluster_of("demo-001", 1, group="demo")}
    taken = [
        snapshot_of_group(group, members, "monday", SnapshotSource.MANUAL, 1.0),
        snapshot_of_group(group, members, "automatic.demo", SnapshotSource.AUTOMATED, 2.0),
        snapshot_of_group(behind, members, "serverless--last", SnapshotSource.MANUAL, 3.0),
    ]
    with services.store.transaction() as work:
        for one in taken:
            work.insert(one)
    shown = views_of(services).backups("us-east-1")
    assert [(one["name"], one["of"], one["resource"], one["source"], one["serverless"]) for one in shown] == [
        ("last", "carts", "serverless--carts", "manual", True),
        ("automatic.demo", "demo", "demo", "automated", False),
        ("monday", "demo", "demo", "manual", False),
    ]
    assert views_of(services).backups(REGION) == []


def test_events_and_journal_of_a_serverless_cache_have_its_own_name(services: Services) -> None:
    now = services.clock.now()
    with services.store.transaction() as work:
        work.add_event(Event(now, REGION, SourceType.SERVERLESS_CACHE, "carts", "Serverless cache carts created"))
        work.add_note(Note(now, REGION, "serverless--carts", "starting serverless--carts-0001-001"))
    views = views_of(services)
    assert [one["message"] for one in views.events(REGION, "serverless--carts")] == ["Serverless cache carts created"]
    assert [one["sentence"] for one in views.journal(REGION, "serverless--carts")] == ["starting carts-0001-001"]
