"""Right-sizing from measured history: peaks, growth, shards, and what is said of a short or doubtful one."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest

from cachekeep.data.prices import node_specs
from cachekeep.domain.faults import Fault
from cachekeep.domain.metrics import Current, Subject, WatchedTarget
from cachekeep.domain.ports import WorldError
from cachekeep.report.cost_prices import KnownPrices
from cachekeep.report.right_size import RightSizing, SizingSources
from cachekeep.report.right_size_history import growth_per_day
from tests.unit.report.measured import HOUR_S, NOW, REGION, SetGauges, monitoring, node, resource, status, write
from tests.unit.report.measured import subject as named
from tests.unit.store.dumb_series import DumbSeries

GIB = 1024**3
PAIR = resource("demo", [node("demo-001"), node("demo-002")])
HOUR = NOW // HOUR_S * HOUR_S


class Desk:
    """Right-sizing over values that tests set."""

    def __init__(self, folder: Path, **pages: Any) -> None:
        self.series, self.gauges = DumbSeries(), SetGauges()
        self.targets: list[WatchedTarget] = []
        self.began = 0.0
        self.sizing = RightSizing(
            SizingSources(
                monitoring(self.series, self.gauges),
                lambda: status(**pages),
                lambda: self.targets,
                lambda _region, _name: self.began,
                KnownPrices(folder / "prices.csv"),
                node_specs(),
            )
        )

    def hours(self, name: str, sizes: Iterable[float], **more: float) -> None:
        """A minute of each of the last hours, the newest last."""
        held = list(sizes)
        for back, size in zip(range(len(held), 0, -1), held, strict=True):
            calm = {"IsMaster": 1.0, "MemoryFragmentationRatio": 1.1, "EngineCPUUtilization": 10.0}
            flow = {"NetworkBytesIn": 6e6, "NetworkBytesOut": 6e6, "ProcessedCommands": 6000.0, "CurrConnections": 50.0}
            values = {"BytesUsedForCache": size, **calm, **flow, **more}
            write(self.series, HOUR - back * HOUR_S, named(name), **values)

    def page(self, name: str = "demo", **query: str) -> dict[str, Any]:
        return asyncio.run(self.sizing.page(REGION, {"name": name, **query}))


def test_peaks_of_the_window_make_the_load(tmp_path: Path) -> None:
    desk = Desk(tmp_path, groups=[PAIR])
    desk.hours("demo-001", [GIB] * 240)
    desk.hours("demo-002", [GIB / 2] * 240, IsMaster=0.0, CurrConnections=90.0)
    write(desk.series, HOUR - 30 * HOUR_S, named("demo-001"), BytesUsedForCache=2.0 * GIB, EngineCPUUtilization=40.0)
    page = desk.page()
    seen = page["observed"]
    assert (seen["used_bytes"], seen["growth_bytes_per_day"]) == (2.0 * GIB, 0.0)
    assert (seen["engine_cpu_pct"], seen["connections"], seen["bytes_out_per_s"]) == (40.0, 90.0, 1e5)
    assert (seen["ops_per_s"], seen["shards"], seen["replicas"]) == (200.0, 1, 1)
    assert seen["fragmentation_ratio"] == pytest.approx(1.1)
    assert page["need_bytes"] == 2.5 * GIB
    assert page["candidates"][0]["usable_bytes"] >= 2.5 * GIB
    assert page["history"] == {"from": HOUR - 240 * HOUR_S, "to": HOUR}
    assert (page["id"], page["kind"], page["unknown"]) == ("demo", "group", [])


def test_the_primary_of_each_hour_counts_through_a_failover(tmp_path: Path) -> None:
    desk = Desk(tmp_path, groups=[PAIR])
    desk.hours("demo-001", [3.0 * GIB] * 10)  # of a replica: its buffers, not the keys
    desk.hours("demo-002", [1.0 * GIB] * 10)
    for back in range(1, 11):
        first, second = (0.0, 1.0) if back <= 5 else (1.0, 0.0)
        size = GIB if first else 3.0 * GIB
        write(desk.series, HOUR - back * HOUR_S, named("demo-001"), IsMaster=first, BytesUsedForCache=size)
        write(desk.series, HOUR - back * HOUR_S, named("demo-002"), IsMaster=second)
    assert desk.page()["observed"]["used_bytes"] == GIB


def test_memory_of_shards_adds_up_hour_by_hour_and_a_full_one_is_told(tmp_path: Path) -> None:
    group = resource(
        "demo",
        [node(f"demo-000{n}-00{m}", shard=f"000{n}") for n in (1, 2) for m in (1, 2)],
        node_type="cache.r6g.large",
    )
    desk = Desk(tmp_path, groups=[group])
    # Slots moved half-way: at no time did both hold three.
    desk.hours("demo-0001-001", [3.0 * GIB] * 10 + [0.5 * GIB] * 10)
    desk.hours("demo-0002-001", [1.0 * GIB] * 10 + [6.0 * GIB] * 10)
    page = desk.page("demo-0002-002")
    assert page["id"] == "demo"
    assert (page["observed"]["used_bytes"], page["observed"]["shards"]) == (6.5 * GIB, 2)
    assert any("the fullest shard holds 1.3 times" in note for note in page["notes"])
    assert any("nothing was recorded of demo-0001-002, demo-0002-002" in note for note in page["notes"])


def test_growth_is_found_through_the_rhythm_of_the_day(tmp_path: Path) -> None:
    daily = [GIB + GIB / 48 * n + GIB * math.sin(n * math.pi / 12) for n in range(24 * 10)]
    desk = Desk(tmp_path, groups=[PAIR])
    desk.hours("demo-001", daily)
    page = desk.page(horizon="30")
    assert page["observed"]["growth_bytes_per_day"] == pytest.approx(GIB / 2)
    assert page["need_bytes"] == pytest.approx((max(daily) + 15 * GIB) * 1.25)
    assert desk.page(horizon="0", margin="0")["need_bytes"] == pytest.approx(max(daily))


@pytest.mark.parametrize(
    ("values", "rate"),
    [
        ([5.0] * 30, 0.0),
        ([5.0] * 29, None),  # five pairs of hours that are a day apart
        ([0.0] * 10 + [100.0] * 230, 0.0),  # filled once, then full
        ([100.0] * 120 + [float("nan")] * 24 + [100.0] * 24, 0.0),
        ([10.0 * n for n in range(72)], 240.0),
        ([100.0 - n for n in range(72)], -24.0),
    ],
)
def test_growth_needs_a_day_and_outlives_steps_and_gaps(values: list[float], rate: float | None) -> None:
    used = {n * HOUR_S: value for n, value in enumerate(values) if not math.isnan(value)}
    assert growth_per_day(used) == (rate if rate is None else pytest.approx(rate))


def test_a_short_history_is_answered_with_low_confidence_and_says_so(tmp_path: Path) -> None:
    desk = Desk(tmp_path, groups=[PAIR])
    desk.began = NOW - 20 * 60
    write(desk.series, NOW - 3000, named("demo-001"), BytesUsedForCache=9.0 * GIB)  # of a former group of that name
    for minute in range(2, 12):
        write(desk.series, NOW // 60 * 60 - minute * 60, named("demo-001"), BytesUsedForCache=float(GIB), IsMaster=1.0)
    page = desk.page()
    assert (page["observed"]["used_bytes"], page["confidence"]) == (GIB, "low")
    assert "growth (taken as none)" in page["unknown"]
    assert page["notes"][0] == "only 10 min of history: the peaks of a day, and growth, are not in it"
    assert page["candidates"]


def test_without_history_what_is_seen_now_counts(tmp_path: Path) -> None:
    desk = Desk(tmp_path, groups=[PAIR])
    nothing = desk.page()
    assert (nothing["candidates"], nothing["observed"]["used_bytes"]) == ([], None)
    values = {"BytesUsedForCache": 2.0 * GIB, "CurrConnections": 7.0, "EngineCPUUtilization": 3.0}
    desk.gauges.seen[named("demo-001")] = Current(NOW, values)
    page = desk.page()
    assert (page["observed"]["used_bytes"], page["observed"]["connections"]) == (2.0 * GIB, 7.0)
    assert page["confidence"] == "low"
    assert "nothing was recorded yet" in page["notes"][0]
    assert page["history"] == {"from": None, "to": None}


def test_evictions_and_gaps_are_told(tmp_path: Path) -> None:
    desk = Desk(tmp_path, groups=[PAIR])
    desk.hours("demo-001", [GIB] * 48, Evictions=500.0)
    notes = desk.page()["notes"]
    assert any("keys were evicted: the load wants more memory than was seen" in note for note in notes)
    assert any("only 4.0 h were measured" in note for note in notes)  # a minute of each hour stands for five


def test_the_fragmentation_of_a_nearly_empty_engine_says_nothing(tmp_path: Path) -> None:
    desk = Desk(tmp_path, groups=[PAIR])
    desk.hours("demo-001", [2e6] * 48, MemoryFragmentationRatio=9.0)
    assert desk.page()["observed"]["fragmentation_ratio"] is None
    assert "fragmentation" in desk.page()["unknown"]


def test_a_memcached_cluster_is_sized_by_its_items_over_all_nodes(tmp_path: Path) -> None:
    cluster = resource("mc", [node("mc", "0001"), node("mc", "0002")], engine="memcached", node_type="cache.m4.large")
    desk = Desk(tmp_path, clusters=[cluster])
    for back in range(1, 31):
        for node_id in ("0001", "0002"):
            write(
                desk.series,
                HOUR - back * HOUR_S,
                named("mc", node_id),
                BytesUsedForCacheItems=2.0 * GIB,
                CmdGets=1200.0,
                CmdSet=600.0,
                CurrConnections=10.0,
            )
    page = desk.page("mc")
    seen = page["observed"]
    assert (seen["engine"], seen["shards"], seen["replicas"], seen["used_bytes"]) == ("memcached", 2, 0, 4.0 * GIB)
    assert seen["ops_per_s"] == 60.0
    assert page["present"]["node_type"] == "cache.m4.large"


def test_a_watched_cache_is_sized_without_and_with_its_node_type(tmp_path: Path) -> None:
    desk = Desk(tmp_path)
    desk.targets = [WatchedTarget(REGION, "prod", "rediss://prod.example:6379")]
    facts = {"engine": "redis", "replication_group": "prod"}
    for name in ("prod-0001-001", "prod-0001-002", "prod-0002-001"):
        desk.gauges.seen[named(name)] = Current(NOW, {}, facts)
        desk.hours(name, [GIB] * 30)
    page = desk.page("prod")
    assert (page["kind"], page["observed"]["shards"], page["observed"]["replicas"]) == ("watched", 2, 1)
    assert (page["observed"]["used_bytes"], page["present"]) == (2.0 * GIB, None)
    assert any("nobody said which node type" in note for note in page["notes"])
    assert {tuple(shape["usd_month_by_engine"]) for shape in page["candidates"]} == {("valkey", "redis")}
    desk.targets = [WatchedTarget(REGION, "prod", "rediss://prod.example:6379", node_type="cache.r6g.large")]
    assert desk.page("prod")["present"]["node_type"] == "cache.r6g.large"
    new = WatchedTarget(REGION, "prod", "rediss://other.example:6379", added_at=NOW - 60.0)
    desk.targets = [new]
    assert "nothing was recorded yet" in desk.page("prod")["notes"][0]


@pytest.mark.parametrize(
    ("name", "query", "code", "wrong"),
    [
        (
            "nobody",
            {},
            "ResourceNotFoundFault",
            "no group, cluster or watched target 'nobody' in us-east-1; there is demo",
        ),
        ("demo", {"margin": "-1"}, "InvalidParameterValue", "margin must be between 0 and 1000"),
        ("demo", {"margin": "1e400"}, "InvalidParameterValue", "margin must be a number"),
        ("demo", {"horizon": "9999"}, "InvalidParameterValue", "horizon_days must be between"),
        ("demo", {"days": "0"}, "InvalidParameterValue", "days must be above 0"),
        ("demo", {"days": "soon"}, "InvalidParameterValue", "days must be a number, not 'soon'"),
        ("empty", {}, "InvalidReplicationGroupState", "has no nodes that were ever seen"),
    ],
)
def test_what_cannot_be_sized_is_the_callers_fault(
    tmp_path: Path, name: str, query: dict[str, str], code: str, wrong: str
) -> None:
    desk = Desk(tmp_path, groups=[PAIR, resource("empty", [])])
    with pytest.raises(Fault, match=wrong) as fault:
        desk.page(name, **query)
    assert fault.value.code == code


def test_prices_of_another_region_are_used_when_asked_for(tmp_path: Path) -> None:
    desk = Desk(tmp_path, groups=[{**PAIR, "region": "eu-west-1"}])
    far = Subject("eu-west-1", "demo-001", "0001")
    write(desk.series, NOW // 60 * 60 - 120, far, BytesUsedForCache=float(GIB), IsMaster=1.0)
    page = asyncio.run(desk.sizing.page("eu-west-1", {"name": "demo"}))
    assert page["candidates"][0]["usd_month"] is None
    assert any("no prices of eu-west-1 are known" in note for note in page["notes"])
    page = asyncio.run(desk.sizing.page("eu-west-1", {"name": "demo", "prices_region": REGION}))
    assert page["candidates"][0]["usd_month"] is not None


def test_a_history_that_cannot_be_read_is_said(tmp_path: Path) -> None:
    desk = Desk(tmp_path, groups=[PAIR])
    desk.series.trouble = "the metrics file cannot be read now"
    with pytest.raises(WorldError, match="cannot be read now"):
        desk.page()
