"""The dashboard: every expression is PromQL of metrics that there are, every panel has its place."""

from __future__ import annotations

import json
from itertools import pairwise
from typing import Any

import pytest

from cachekeep.data.metrics import metrics
from cachekeep.data.thresholds import thresholds
from cachekeep.plan.alert_rules import is_distribution, prometheus_name
from cachekeep.report.grafana import dashboard
from tests.promql import names, parse

BOARD = dashboard(thresholds(), metrics())
PANELS: list[dict[str, Any]] = BOARD["panels"]
CHARTS = [panel for panel in PANELS if panel["type"] != "row"]
BY_TITLE = {panel["title"].removesuffix(" (a minute)"): panel for panel in CHARTS}
OF_SERVICE = {
    "cachekeep_node_up",
    "cachekeep_node_info",
    "cachekeep_service_info",
    "cachekeep_alarms",
    "cachekeep_replication_groups",
    "cachekeep_collection_seconds_behind",
    "cachekeep_metrics_file_bytes",
    "process_cpu_seconds_total",
    "process_resident_memory_bytes",
}


def test_every_expression_is_promql_of_what_metrics_shows() -> None:
    known = {prometheus_name(m) + ("_bucket" if is_distribution(m) else "") for m in metrics().values()} | OF_SERVICE
    for panel in CHARTS:
        for target in panel["targets"]:
            assert names(parse(target["expr"])) <= known, panel["title"]
            assert target["datasource"]["uid"] == "${datasource}"


def test_the_sixteen_stand_in_the_rows_of_their_tiers() -> None:
    rows: dict[str, list[str]] = {}
    for panel in PANELS:
        if panel["type"] == "row":
            rows[panel["title"]] = []
        else:
            rows[list(rows)[-1]].append(panel["title"].removesuffix(" (a minute)"))
    assert len(thresholds()) == 16
    for threshold in thresholds():
        assert threshold.title in rows[f"{threshold.tier.value.capitalize()} metrics"]


@pytest.mark.parametrize("threshold", thresholds(), ids=lambda t: t.metric)
def test_bands_are_those_of_the_verdicts(threshold: Any) -> None:
    steps = BY_TITLE[threshold.title]["fieldConfig"]["defaults"]["thresholds"]["steps"]
    assert steps[0]["value"] is None
    values = [step["value"] for step in steps[1:]]
    assert values == sorted(values)
    colors = {"warning": "orange", "risk": "red", "safe": "green"}

    def drawn(value: float) -> str:
        return str([step["color"] for step in steps if step["value"] is None or value >= step["value"]][-1])

    for value in [0.0, *(max(0.0, value + off) for value in values for off in (-0.01, 0.01))]:
        level = "safe"
        if threshold.risk and threshold.risk.holds(value):
            level = "risk"
        elif threshold.warning and (
            threshold.warning.holds(value) or (threshold.lower and threshold.lower.holds(value))
        ):
            level = "warning"
        assert drawn(value) == colors[level], (threshold.metric, value)


def test_panels_have_numbers_and_places_of_their_own() -> None:
    assert len({panel["id"] for panel in PANELS}) == len(PANELS)
    taken = set()
    for panel in PANELS:
        place = panel["gridPos"]
        assert place["x"] + place["w"] <= 24
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert not cells & taken, panel["title"]
        taken |= cells
    assert all(one["gridPos"]["y"] <= two["gridPos"]["y"] for one, two in pairwise(PANELS))


def test_it_can_be_imported_as_it_is() -> None:
    assert json.loads(json.dumps(BOARD)) == BOARD
    assert BOARD["id"] is None
    assert BOARD["schemaVersion"] == 39
    assert "__inputs" not in BOARD, "the data source is a variable, so nothing is asked on import"
    variables = {variable["name"]: variable for variable in BOARD["templating"]["list"]}
    assert list(variables) == ["datasource", "region", "group", "cluster"]
    for panel in CHARTS:
        for target in panel["targets"]:
            for part in target["expr"].split("$")[1:]:
                assert part.startswith(("__rate_interval", *variables)), target["expr"]
