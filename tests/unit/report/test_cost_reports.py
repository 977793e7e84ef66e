"""What runs and what is watched, at AWS's prices, and what it takes of this machine."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from cachekeep.domain.faults import Fault
from cachekeep.domain.metric_ports import ProcessReading
from cachekeep.domain.metrics import Current, Subject, WatchedTarget
from cachekeep.report.cost import CostReports, CostSources, CostTerms
from cachekeep.report.cost_here import MachineShare
from cachekeep.report.cost_prices import IMPORTED, KnownPrices
from tests.unit.report.measured import NOW, REGION, SetGauges, monitoring, node, resource, status, subject, write
from tests.unit.store.dumb_series import DumbSeries

HEAD = "node_type,region,engine,model,usd_per_hour,usd_upfront,source,as_of\n"
DEMO = resource("demo", [node("demo-001", pid=11), node("demo-002", pid=12), node("demo-002", pid=13, spare="former")])
PROCESSES = {pid: ProcessReading(400_000_000, 0, 500.0, 400.0) for pid in (11, 12, 13)}


class Desk:
    """Reports over values that tests set."""

    def __init__(self, folder: Path, machine_usd_month: float = 0.0, **pages: Any) -> None:
        self.series, self.gauges = DumbSeries(), SetGauges()
        self.file = folder / IMPORTED
        self.targets: list[WatchedTarget] = []
        measured = monitoring(self.series, self.gauges)
        share = MachineShare(measured, lambda pids: {pid: PROCESSES[pid] for pid in pids if pid in PROCESSES})
        prices = KnownPrices(self.file)
        self.reports = CostReports(
            CostSources(lambda: status(**pages), lambda: self.targets, prices, measured, share, 4.0, machine_usd_month)
        )


def test_a_group_costs_its_nodes_and_takes_its_share_of_the_machine(tmp_path: Path) -> None:
    desk = Desk(tmp_path, machine_usd_month=80.0, groups=[DEMO])
    for name in ("demo-001", "demo-002"):
        write(desk.series, NOW - 3600, subject(name), EngineCPUUtilization=10.0)
    page = asyncio.run(desk.reports.page(REGION, {}))
    assert page["rows"] == [
        {
            "resource": "demo",
            "node_type": "cache.m5.large",
            "count": 2,
            "hourly": "0.2496",
            "monthly": "182.21",
            "source": page["resources"][0]["source"],
        }
    ]
    assert (page["total"], page["usd"], page["notes"]) == ("182.21", 182.208, [])
    # Three processes of 400 MB on 4 GB; two engines at a tenth of a core on four.
    assert page["here"] == {"memory_share": 0.3, "cpu_share": 0.05, "machine_usd_month": 80.0, "usd": 24.0}


def test_one_resource_is_priced_and_weighed_alone(tmp_path: Path) -> None:
    other = resource("other", [node("other-001")], node_type="cache.t4g.micro")
    desk = Desk(tmp_path, groups=[DEMO, other])
    assert [row["resource"] for row in desk.reports.report(REGION, "OTHER")["rows"]] == ["other"]
    assert desk.reports.report(REGION, "demo")["here"]["memory_share"] == 0.3
    assert desk.reports.report("eu-west-1", None)["rows"] == []
    assert desk.reports.report("eu-west-1", None)["total"] == "0.00"
    with pytest.raises(Fault, match="no group, cluster or watched target 'nobody' in us-east-1") as fault:
        desk.reports.report(REGION, "nobody")
    assert fault.value.code == "ResourceNotFoundFault"


def test_what_has_no_price_is_unknown_with_the_reason_and_the_sum_says_so(tmp_path: Path) -> None:
    far = resource("far", [node("far-001")], region="eu-west-1")
    desk = Desk(tmp_path, groups=[DEMO, far], clusters=[resource("mc", [node("mc")], engine="memcached")])
    page = desk.reports.report(None, None)
    assert [row["monthly"] for row in page["rows"]] == ["182.21", None, None]
    assert page["rows"][1]["source"] == "the price of cache.m5.large for Valkey in eu-west-1 is unknown"
    assert any("no prices of eu-west-1 are known: `cachekeep cost import`" in note for note in page["notes"])
    assert page["notes"][-1] == "the sum is of the prices that are known"
    assert desk.reports.report(None, None, CostTerms(prices_region=REGION))["rows"][1]["monthly"] == "91.10"


def test_a_watched_cache_is_priced_by_the_node_type_that_the_user_said(tmp_path: Path) -> None:
    desk = Desk(tmp_path)
    desk.targets = [
        WatchedTarget(REGION, "prod", "rediss://prod.example:6379", node_type="cache.m5.large"),
        WatchedTarget(REGION, "stage", "redis://stage.example:6379"),
        WatchedTarget(REGION, "silent", "redis://silent.example:6379", node_type="cache.m5.large"),
    ]
    facts = {"engine": "redis", "replication_group": "prod"}
    for name in ("prod-0001-001", "prod-0002-001"):
        desk.gauges.seen[subject(name)] = Current(NOW, {}, facts)
    desk.gauges.seen[subject("stage")] = Current(NOW, {}, {"engine": "redis"})
    page = desk.reports.report(REGION, None)
    assert [(r["id"], r["kind"], r["nodes"], r["usd"]) for r in page["resources"]] == [
        ("prod", "watched", 2, 227.76),
        ("stage", "watched", 1, None),
        ("silent", "watched", 0, None),
    ]
    assert page["notes"][:2] == ["nobody said which node type stage has", "silent has no nodes yet"]
    assert page["here"]["memory_share"] == 0.0


def test_memcached_counts_with_the_cpu_of_its_life(tmp_path: Path) -> None:
    desk = Desk(tmp_path, clusters=[resource("mc", [node("mc", pid=11)], engine="memcached")])
    page = desk.reports.report(REGION, "mc")
    assert page["here"]["cpu_share"] is None
    assert "the CPU of 1 node is not known yet" in page["notes"]
    desk.gauges.seen[subject("mc")] = Current(NOW, {"Uptime": 1000.0})
    assert desk.reports.report(REGION, "mc")["here"]["cpu_share"] == 0.125


def test_imported_prices_count_at_once_and_a_damaged_file_leaves_those_before(tmp_path: Path) -> None:
    desk = Desk(tmp_path, groups=[DEMO])

    def monthly() -> Any:
        return asyncio.run(desk.reports.page(REGION, {}))["rows"][0]["monthly"]

    assert monthly() == "182.21"
    desk.file.write_text(HEAD + "cache.m5.large,us-east-1,valkey,on-demand,1,,my bill,2027-01-01\n")
    assert monthly() == "1,460.00"
    desk.file.write_text("node_type,what\n")
    assert monthly() == "1,460.00"
    assert any("imported prices are left out or old: prices.csv" in n for n in desk.reports.report(None, None)["notes"])
    os.truncate(desk.file, 65 * 1024**2)
    assert monthly() == "1,460.00"
    desk.file.unlink()
    assert monthly() == "182.21"
    assert not any("imported" in note for note in desk.reports.report(None, None)["notes"])


def test_whoever_must_not_wait_gets_the_prices_of_before_and_the_new_ones_soon(
    tmp_path: Path, eventually: Callable[..., Any]
) -> None:
    desk = Desk(tmp_path, groups=[DEMO])
    desk.file.write_text(HEAD + "cache.m5.large,us-east-1,valkey,on-demand,1,,my bill,2027-01-01\n")
    assert desk.reports.report(REGION, None)["total"] in ("182.21", "1,460.00")
    asyncio.run(eventually(lambda: desk.reports.report(REGION, None)["total"] == "1,460.00"))


@pytest.mark.parametrize(
    ("query", "wrong"),
    [
        ({"hours": "0"}, "hours must be above 0"),
        ({"hours": "a lot"}, "hours must be a number, not 'a lot'"),
        ({"utilisation": "NaN"}, "utilisation must be above 0"),
        ({"machine_usd_month": "1e999999"}, "machine's cost must be between 0 and 10,000,000"),
        ({"machine_usd_month": "x" * 9000}, "machine_usd_month must be a number"),
    ],
)
def test_absurd_terms_are_the_callers_fault(tmp_path: Path, query: dict[str, str], wrong: str) -> None:
    with pytest.raises(Fault, match=wrong) as fault:
        asyncio.run(Desk(tmp_path, groups=[DEMO]).reports.page(REGION, query))
    assert fault.value.code == "InvalidParameterValue"
    assert len(fault.value.message) < 200


def test_the_page_takes_hours_and_utilisation_and_another_regions_prices(tmp_path: Path) -> None:
    desk = Desk(tmp_path, groups=[resource("far", [node("far-001")], region="eu-west-1")])
    query = {"hours": "100", "utilisation": "50", "prices_region": REGION, "machine_usd_month": "10", "name": "far"}
    page = asyncio.run(desk.reports.page(None, query))
    assert page["usd"] == float(Decimal("0.1248") * 50)
    assert page["usage"] == {"utilisation": 50.0, "hours": 100.0}
    assert page["here"]["machine_usd_month"] == 10.0


def test_a_history_that_cannot_be_read_costs_only_the_cpu(tmp_path: Path) -> None:
    desk = Desk(tmp_path, machine_usd_month=80.0, groups=[DEMO])
    desk.series.trouble = "the metrics file cannot be read now"
    page = asyncio.run(desk.reports.page(REGION, {}))
    assert page["total"] == "182.21"
    assert "the CPU of 2 nodes is not known yet" in page["notes"]


def test_a_serverless_cache_costs_what_it_holds_and_never_less_than_the_floor(tmp_path: Path) -> None:
    behind = resource("serverless--carts", [node("serverless--carts-0001-001", pid=11)])
    desk = Desk(tmp_path, groups=[behind])
    (idle,) = desk.reports.report(REGION, "carts")["resources"]
    floor = 0.1 * 0.08375 * 730 if idle["engine"] == "valkey" else 1 * 0.125 * 730
    assert (idle["id"], idle["kind"]) == ("carts", "serverless")
    assert idle["usd"] == pytest.approx(floor)
    desk.gauges.seen[Subject(REGION, "serverless--carts")] = Current(
        NOW, {"BytesUsedForCache": 20e9, "ElastiCacheProcessingUnits": 1e6}
    )
    (used,) = desk.reports.report(REGION, "carts")["resources"]
    rates = (0.08375, 0.002278) if idle["engine"] == "valkey" else (0.125, 0.0034)
    assert used["usd"] == pytest.approx(20 * rates[0] * 730 + 60 * 730 * rates[1])
    assert "20.000 GB" in used["note"]
