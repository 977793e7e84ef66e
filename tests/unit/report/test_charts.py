"""Charts: whose lines, how fine, where the gaps and the bands are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from cachekeep.data.metrics import metrics
from cachekeep.data.thresholds import thresholds
from cachekeep.domain.metrics import Current, Place, Point, Subject
from cachekeep.domain.verdicts import Threshold
from cachekeep.report.charts import MOST_LINES, Chart, ask, bands_of, draw, period_of
from cachekeep.store.series import SeriesFile

REGION = "us-east-1"
BEGIN = 1_800_000_000 // 86400 * 86400


class Shown:
    """Gauges of nodes of the group `orders`; implements domain.metric_ports.Gauges."""

    def __init__(self, nodes: Sequence[Subject], values: Mapping[str, float] | None = None) -> None:
        group = Subject(REGION, "orders")
        facts = {"replication_group": "orders"}
        self._currents = {node: Current(0.0, values or {}, facts) for node in nodes} | {group: Current(0.0)}

    def current(self, subject: Subject) -> Current | None:
        return self._currents.get(subject)

    def subjects(self) -> Sequence[Subject]:
        return sorted(self._currents)

    def place(self, subject: Subject) -> Place | None:
        return None


def node(number: int, region: str = REGION) -> Subject:
    return Subject(region, f"orders-{number:03}", "0001")


def known() -> dict[str, Threshold]:
    return {threshold.metric: threshold for threshold in thresholds()}


def chart(name: str, *subjects: Subject) -> Chart:
    return Chart(metrics()[name], name, tuple((subject, subject.id) for subject in subjects), (), len(subjects))


@pytest.fixture
def series(tmp_path: Path) -> SeriesFile:
    return SeriesFile(tmp_path / "metrics.sqlite", clock=lambda: BEGIN + 7200.0)


def write(series: SeriesFile, minutes: Sequence[int], name: str, values: Sequence[float], of: Subject) -> None:
    for minute, value in zip(minutes, values, strict=True):
        series.write(BEGIN + 60 * minute, {of: {name: Point.of(value)}})


def test_a_chart_has_a_line_for_each_node_of_the_group_and_none_for_others() -> None:
    gauges = Shown([node(1), node(2), node(1, "eu-west-1")])
    asked = ask(gauges, metrics()["CPUUtilization"], REGION, "orders", known())
    assert [label for _, label in asked.subjects] == ["orders-001", "orders-002"]
    alone = ask(gauges, metrics()["CPUUtilization"], REGION, "orders-002", known())
    assert [label for _, label in alone.subjects] == ["orders-002"]


def test_nodes_of_one_cluster_are_told_apart_by_their_numbers() -> None:
    gauges = Shown([Subject(REGION, "sessions", f"000{number}") for number in (1, 2)])
    asked = ask(gauges, metrics()["CPUUtilization"], REGION, "sessions", known())
    assert [label for _, label in asked.subjects] == ["sessions/0001", "sessions/0002"]


def test_what_is_not_drawn_is_said(series: SeriesFile) -> None:
    asked = ask(Shown([node(n) for n in range(MOST_LINES + 5)]), metrics()["SwapUsage"], REGION, "orders", known())
    made = draw(series, asked, BEGIN, BEGIN + 600)
    assert len(made["series"]) == MOST_LINES
    assert made["note"] == f"{MOST_LINES} of {MOST_LINES + 5} nodes are drawn"


def test_no_line_is_drawn_across_a_gap(series: SeriesFile) -> None:
    write(series, [0, 1, 5], "CurrConnections", [3, 4, 5], node(1))
    made = draw(series, chart("CurrConnections", node(1)), BEGIN, BEGIN + 600)
    assert [(at - BEGIN) // 60 for at in made["starts"]] == [0, 1, 2, 5]
    assert made["series"][0]["values"] == [3, 4, None, 5]


def test_nodes_with_points_at_different_times_share_the_time_axis(series: SeriesFile) -> None:
    write(series, [0, 1], "CurrConnections", [3, 4], node(1))
    write(series, [1, 2], "CurrConnections", [7, 8], node(2))
    made = draw(series, chart("CurrConnections", node(1), node(2)), BEGIN, BEGIN + 600)
    assert [line["values"] for line in made["series"]] == [[3, 4, None], [None, 7, 8]]


def test_a_counter_is_per_minute_whatever_the_period(series: SeriesFile) -> None:
    write(series, range(10), "NetworkBytesIn", [100.0] * 10, node(1))
    made = draw(series, chart("NetworkBytesIn", node(1)), BEGIN, BEGIN + 86400)
    assert (made["period"], made["per_minute"]) == (300, True)
    assert made["series"][0]["values"] == [100.0, 100.0]


def test_a_metric_that_is_judged_by_its_peak_shows_its_peak(series: SeriesFile) -> None:
    name = "NetworkConntrackAllowanceExceeded"
    write(series, range(5), name, [0, 0, 25, 0, 0], node(1))
    asked = ask(Shown([node(1)]), metrics()[name], REGION, "orders", known())
    assert draw(series, asked, BEGIN, BEGIN + 86400)["series"][0]["values"] == [25]
    assert draw(series, replace(asked, peaks=False), BEGIN, BEGIN + 86400)["series"][0]["values"] == [5]


@pytest.mark.parametrize(("hours", "period"), [(1, 60), (6, 60), (24, 300), (168, 3600), (360, 3600),
                                               (63 * 24, 6 * 3600), (10920, 86400)])  # fmt: skip
def test_the_period_keeps_a_chart_to_some_hundred_points(hours: int, period: int) -> None:
    assert period_of(hours * 3600) == period


def test_bands_of_a_metric_that_should_be_low() -> None:
    assert bands_of(known()["CPUUtilization"]) == [
        {"level": "safe", "from": None, "to": 60},
        {"level": "warning", "from": 60, "to": 80},
        {"level": "risk", "from": 80, "to": None},
    ]


def test_bands_of_a_metric_that_should_be_high() -> None:
    levels = [(band["level"], band["from"], band["to"]) for band in bands_of(known()["CacheHitRate"])]
    assert levels == [("risk", None, 75), ("warning", 75, 90), ("safe", 90, None)]


def test_bands_of_a_metric_with_a_warning_on_both_sides() -> None:
    levels = [(band["level"], band["from"], band["to"]) for band in bands_of(known()["MemoryFragmentationRatio"])]
    assert levels == [("warning", None, 1), ("safe", 1, 1.2), ("warning", 1.2, 1.5), ("risk", 1.5, None)]


def test_a_metric_that_is_judged_by_spikes_has_no_bands() -> None:
    assert bands_of(known()["NetworkPacketsIn"]) == []


@pytest.mark.parametrize(("name", "judged_by"), [("CurrConnections", "ConnectionsUsagePercentage"), ("SwapUsage",) * 2])
def test_a_chart_names_the_metric_whose_verdict_it_has(series: SeriesFile, name: str, judged_by: str) -> None:
    assert draw(series, chart(name, node(1)), BEGIN, BEGIN + 600)["judged_by"] == judged_by


def test_connections_have_the_bands_of_their_share_of_the_limit() -> None:
    values = {"CurrConnections": 130.0, "ConnectionsUsagePercentage": 0.2}
    asked = ask(Shown([node(1)], values), metrics()["CurrConnections"], REGION, "orders", known())
    assert [round(band["to"]) for band in asked.bands[:2]] == [45_500, 58_500]  # 70 % and 90 % of 65,000
    nothing_known = ask(Shown([node(1)]), metrics()["CurrConnections"], REGION, "orders", known())
    assert nothing_known.bands == ()


def test_points_that_cannot_be_read_are_said_and_not_drawn_as_none(series: SeriesFile, tmp_path: Path) -> None:
    write(series, [0, 1], "CurrConnections", [3, 4], node(1))
    (tmp_path / "metrics.sqlite").rename(tmp_path / "elsewhere")
    made = draw(series, chart("CurrConnections", node(1)), BEGIN, BEGIN + 600)
    assert made["starts"] == []
    assert "cannot be read now" in made["note"]
