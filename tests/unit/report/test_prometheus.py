"""`/metrics`: judged by the parsers of prometheus_client, for both formats."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families as read_open_metrics
from prometheus_client.parser import text_string_to_metric_families as read_text

from cachekeep.data.metrics import metrics
from cachekeep.domain.continuous import Standing
from cachekeep.domain.metrics import Current, Place, Point, Subject
from cachekeep.report.prometheus import NodeReading, ServiceReading, families, read_nodes
from cachekeep.report.prometheus_text import Family, Format, Kind, exposition, labels

NOW = 1_700_000_000.0
SUBJECT = Subject("us-east-1", "demo-001", "0001")
FACTS = {"replication_group": "demo", "engine": "valkey", "version": "9.1.2", "role": "primary"}
READERS: Mapping[Format, Callable[[str], Any]] = {Format.TEXT: read_text, Format.OPEN_METRICS: read_open_metrics}
Samples = dict[str, list[tuple[dict[str, str], float]]]


def samples(found: Sequence[Family], form: Format = Format.TEXT) -> Samples:
    """Name -> labels and value, as a reader of that format has them."""
    told: Samples = {}
    for family in READERS[form](exposition(found, form).decode()):
        for sample in family.samples:
            told.setdefault(sample.name, []).append((dict(sample.labels), sample.value))
    return told


def page(*nodes: NodeReading, form: Format = Format.TEXT, service: ServiceReading | None = None) -> Samples:
    return samples(families(nodes, service or ServiceReading("1.2"), metrics(), NOW), form)


def reading(at: float = NOW, trouble: str | None = None, totals: Mapping[str, float] | None = None) -> NodeReading:
    values = {"CPUUtilization": 12.5, "CacheHits": 7.0, "CacheHitRate": 80.0, "Answering": 1.0, "Unheard": 1.0}
    return NodeReading(SUBJECT, Current(at, values, FACTS, trouble), totals or {"CacheHits": 1000.0})


@pytest.mark.parametrize("form", list(Format))
def test_a_node_shows_gauges_ratios_and_running_counters(form: Format) -> None:
    told = page(reading(), form=form)
    who = {"region": "us-east-1", "group": "demo", "cluster": "demo-001", "node": "0001"}
    assert told["cachekeep_cpu_utilization_percent"] == [(who, 12.5)]
    assert told["cachekeep_cache_hit_rate_percent"] == [(who, 80.0)]
    assert told["cachekeep_cache_hits_total"] == [(who, 1000.0)], "the running sum, not the minute's increase"
    assert told["cachekeep_node_up"] == [(who, 1.0)]
    facts = {"engine": "valkey", "version": "9.1.2", "role": "primary"}
    assert told["cachekeep_node_info"] == [({**who, **facts}, 1.0)]
    assert told["cachekeep_service_info"] == [({"version": "1.2"}, 1.0)]


@pytest.mark.parametrize("node", [reading(trouble="it does not answer"), reading(at=NOW - 60)], ids=["down", "stale"])
def test_a_node_that_does_not_answer_is_down_and_has_no_values(node: NodeReading) -> None:
    told = page(node)
    assert [value for _, value in told["cachekeep_node_up"]] == [0.0]
    assert not [name for name in told if name.startswith(("cachekeep_cpu", "cachekeep_cache_hit"))]


@pytest.mark.parametrize("form", list(Format))
def test_distributions_are_histograms_with_the_same_bounds_everywhere(form: Format) -> None:
    buckets = ((1.0, 5.0), (16.0, 3.0), (16909.0, 2.0), (1e6, 1.0))
    point = Point(11.0, 40_000.0, 0.5, 1e6, buckets)
    other = Point(1.0, 3.0, 2.0, 4.0, ((4.0, 1.0),))
    node, second = reading(), Subject("us-east-1", "demo-002", "0001")
    name = "cachekeep_successful_read_request_latency_microseconds"
    told = page(
        replace(node, distributions={"SuccessfulReadRequestLatency": point}),
        replace(node, subject=second, distributions={"SuccessfulReadRequestLatency": other}),
        form=form,
    )
    shown = [(labels["le"], value) for labels, value in told[f"{name}_bucket"] if labels["cluster"] == "demo-001"]
    assert [(float(le), value) for le, value in shown if float(le) in (2, 8, 16, 8454, 33818)] == [
        (2, 5),
        (8, 5),
        (16, 8),
        (8454, 8),
        (33818, 10),
    ]
    assert shown[-1] == ("+Inf", 11)
    assert (told[f"{name}_count"][0][1], told[f"{name}_sum"][0][1]) == (11, 40_000)
    assert len(told[f"{name}_bucket"]) == 2 * len(shown)


def test_a_cluster_of_no_group_has_no_group_label() -> None:
    told = page(NodeReading(SUBJECT, Current(NOW, {}, {"engine": "memcached"})))
    assert told["cachekeep_node_up"] == [({"region": "us-east-1", "cluster": "demo-001", "node": "0001"}, 1.0)]


def test_the_service_tells_how_it_does() -> None:
    statuses = {"alarms": {"us-east-1": {"OK": 2, "ALARM": 0}}, "replication_groups": {"eu-west-1": {"available": 3}}}
    told = page(reading(at=NOW - 4), service=ServiceReading("1.2", statuses, True, 4096))
    assert told["cachekeep_alarms"] == [
        ({"region": "us-east-1", "state": "OK"}, 2.0),
        ({"region": "us-east-1", "state": "ALARM"}, 0.0),
    ]
    assert told["cachekeep_replication_groups"] == [({"region": "eu-west-1", "status": "available"}, 3.0)]
    plain = {
        name: told[f"cachekeep_{name}"][0][1] for name in ("metrics_trouble", "metrics_file_bytes", "nodes_measured")
    }
    assert plain == {"metrics_trouble": 1.0, "metrics_file_bytes": 4096.0, "nodes_measured": 1.0}
    assert told["cachekeep_collection_seconds_behind"][0][1] == pytest.approx(4.0)


def test_continuous_backups_tell_what_is_known_of_them() -> None:
    backups = {
        ("us-east-1", "demo"): Standing(NOW - 60, True, NOW - 3, 4096),
        ("eu-west-1", "new"): Standing(NOW - 60),
    }
    told = page(service=ServiceReading("1.2", backups=backups))
    demo, new = {"region": "us-east-1", "group": "demo"}, {"region": "eu-west-1", "group": "new"}
    start = "cachekeep_continuous_backup_"
    assert told[f"{start}up"] == [(new, 0.0), (demo, 1.0)]
    assert told[f"{start}lag_seconds"] == [(demo, pytest.approx(3.0))]
    assert told[f"{start}bytes"] == [(demo, 4096.0)]
    assert f"{start}up" not in page()


def test_a_service_without_nodes_has_a_page() -> None:
    told = page()
    assert "cachekeep_node_up" not in told
    assert told["cachekeep_nodes_measured"] == [({}, 0.0)]


@pytest.mark.parametrize("form", list(Format))
def test_whatever_stands_in_a_label_or_a_help_comes_back(form: Format) -> None:
    odd = 'a"b\\c\nd{e},=é'
    found = Family("x", Kind.GAUGE, 'of "these" \\ and\nthose', [(labels({"a": odd, "b": ""}), 1.0)])
    assert samples([found], form)["x"] == [({"a": odd}, 1.0)]


@pytest.mark.parametrize("form", list(Format))
@pytest.mark.parametrize("value", [0.0, 1e300, 5e-324, -1.5, 123456789012345.0, math.inf, -math.inf, math.nan])
def test_numbers_come_back(form: Format, value: float) -> None:
    ((_, told),) = samples([Family("x", Kind.GAUGE, "x", [("", value)])], form)["x"]
    assert told == value or (math.isnan(told) and math.isnan(value))


@dataclass
class Measured:
    """Gauges and Totals, as the collector is."""

    nodes: dict[Subject, Current] = field(default_factory=dict)

    def subjects(self) -> list[Subject]:
        return [*self.nodes, Subject("us-east-1", "demo"), Subject("us-east-1", "gone", "0001")]

    def current(self, subject: Subject) -> Current | None:
        return self.nodes.get(subject)

    def totals(self, subject: Subject) -> dict[str, float]:
        return {"CacheHits": 3.0}

    def distributions(self, subject: Subject) -> dict[str, Point]:
        return {}

    def place(self, subject: Subject) -> Place | None:
        return None


async def _read(measured: Measured) -> list[NodeReading]:
    return await read_nodes(measured, measured)


def test_nodes_are_read_and_groups_and_those_that_went_are_not() -> None:
    down = Subject("us-east-1", "down", "0001")
    measured = Measured({SUBJECT: Current(NOW), down: Current(NOW, trouble="gone")})
    found = asyncio.run(_read(measured))
    assert [(node.subject, dict(node.totals)) for node in found] == [(SUBJECT, {"CacheHits": 3.0}), (down, {})]


def test_many_nodes_with_all_metrics_are_a_page_that_a_scraper_can_read() -> None:
    values = {metric.name: 1234.5678 for metric in metrics().values()}
    nodes = [
        NodeReading(Subject("us-east-1", f"group-{number:03}", "0001"), Current(NOW, values, FACTS), values)
        for number in range(20)
    ]
    told = page(*nodes)
    left_out = 3  # Answering, which is cachekeep_node_up, and two distributions
    assert sum(len(found) for found in told.values()) >= 20 * (len(metrics()) - left_out + 2)
