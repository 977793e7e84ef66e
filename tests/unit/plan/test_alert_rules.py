"""The alert rules: well-formed YAML, of metrics that exist, that fire when the thresholds say so."""

from __future__ import annotations

import json
import operator
import re
from collections.abc import Sequence
from importlib.resources import files
from typing import Any

import pytest
import yaml

from cachekeep.domain.verdicts import read_thresholds
from cachekeep.plan.alert_rules import alert_rules, prometheus_name

THRESHOLDS = read_thresholds(json.loads((files("cachekeep.data") / "thresholds.json").read_text("utf-8")))
MEASURED = json.loads((files("cachekeep.data") / "metrics.json").read_text("utf-8"))["metrics"]
RULES: list[dict[str, Any]] = yaml.safe_load(alert_rules(THRESHOLDS))["groups"][0]["rules"]
BY_NAME = {rule["alert"]: rule for rule in RULES}
COMPARE = {">": operator.gt, ">=": operator.ge, "<": operator.lt, "<=": operator.le, "==": operator.eq}
TERM = re.compile(
    r"(?:(?P<function>[a-z_]+)\()?(?P<name>cachekeep_[a-z0-9_]+)(?:\[(?P<window>\d+)s\])?(?:, (?P<ahead>\d+))?\)?"
    r" (?P<comparison>[<>=]+) (?P<value>[-+0-9.e]+)"
)
Series = dict[str, list[tuple[float, float]]]  # by name: (seconds before now as a negative number, value)


def holds(expression: str, series: Series) -> bool:
    """PromQL as far as the rules use it: comparisons of one node's series joined by `and`."""
    return all(_term(term, series) for term in expression.split(" and on (group, cluster, node) "))


def _term(text: str, series: Series) -> bool:
    term = TERM.fullmatch(text)
    assert term, f"the evaluator does not know {text!r}"
    points = series.get(term["name"], [])
    if term["window"]:
        points = [point for point in points if point[0] >= -float(term["window"])]
    if not points:
        return False
    value = _value(term["function"], points, float(term["ahead"] or 0))
    return bool(COMPARE[term["comparison"]](value, float(term["value"])))


def _value(function: str | None, points: Sequence[tuple[float, float]], ahead_s: float) -> float:
    values = [value for _, value in points]
    match function:
        case None:
            return values[-1]
        case "avg_over_time":
            return sum(values) / len(values)
        case "max_over_time":
            return max(values)
        case "deriv":
            return _line(points)[0]
        case "predict_linear":
            slope, level = _line(points)
            return level + slope * ahead_s
    raise AssertionError(f"the evaluator does not know {function}")


def _line(points: Sequence[tuple[float, float]]) -> tuple[float, float]:
    """Least squares: slope per second, and the value now."""
    mean_at, mean = (sum(column) / len(points) for column in zip(*points, strict=True))
    spread = sum((at - mean_at) ** 2 for at, _ in points)
    slope = sum((at - mean_at) * (value - mean) for at, value in points) / spread
    return slope, mean - slope * mean_at


def flat(metric: str, value: float) -> Series:
    return {prometheus_name(metric): [(-15.0 * at, value) for at in range(240, -1, -1)]}


def test_every_rule_is_of_metrics_that_are_measured() -> None:
    known = {prometheus_name(metric["name"]) for metric in MEASURED}
    for rule in RULES:
        assert set(re.findall(r"cachekeep_[a-z0-9_]+", rule["expr"])) <= known


def test_every_rule_is_whole_and_named_once() -> None:
    assert len(BY_NAME) == len(RULES)
    for rule in RULES:
        assert rule["labels"]["severity"] in ("warning", "critical")
        assert rule["labels"]["tier"] in ("crucial", "important", "optional")
        assert re.fullmatch(r"\d+m", rule["for"])
        assert rule["annotations"]["summary"]
        assert rule["annotations"]["description"]
        assert re.fullmatch(r"[A-Za-z0-9]+", rule["alert"])


@pytest.mark.parametrize("threshold", [t for t in THRESHOLDS if t.warning], ids=lambda t: t.metric)
def test_rules_fire_exactly_where_the_thresholds_do(threshold: Any) -> None:
    for level, bound in (("Warning", threshold.warning), ("Risk", threshold.risk)):
        expression = BY_NAME[f"Cachekeep{threshold.metric}{level}"]["expr"]
        step = 0.5 if bound.value < 100 else 1.0
        for value in (bound.value - step, bound.value, bound.value + step):
            series = {
                **flat("BytesUsedForCache", 1e9),
                **flat("IsMaster", 1),
                **flat(threshold.metric, value),
            }
            assert holds(expression, series) == bound.holds(value), (expression, value)


def test_conditions_keep_rules_quiet() -> None:
    risk = BY_NAME["CachekeepMemoryFragmentationRatioRisk"]["expr"]
    assert not holds(risk, {**flat("MemoryFragmentationRatio", 9), **flat("BytesUsedForCache", 1000)})
    ttl = BY_NAME["CachekeepDB0AverageTTLRisk"]["expr"]
    assert not holds(ttl, {**flat("DB0AverageTTL", 9), **flat("IsMaster", 0)})
    assert not holds(ttl, {**flat("DB0AverageTTL", 0), **flat("IsMaster", 1)})
    assert holds(ttl, {**flat("DB0AverageTTL", 9), **flat("IsMaster", 1)})


def test_what_is_not_there_fires_nothing() -> None:
    assert not any(holds(rule["expr"], {}) for rule in RULES)


def test_growth_fires_before_the_memory_is_full_and_noise_does_not() -> None:
    name = prometheus_name("DatabaseMemoryUsagePercentage")
    warning = BY_NAME["CachekeepDatabaseMemoryUsagePercentageFillingWarning"]["expr"]
    risk = BY_NAME["CachekeepDatabaseMemoryUsagePercentageFillingRisk"]["expr"]
    slow = {name: [(-60.0 * at, 50 - at / 10) for at in range(60, -1, -1)]}
    fast = {name: [(-60.0 * at, 80 - at / 2) for at in range(60, -1, -1)]}
    assert [holds(rule, slow) for rule in (warning, risk)] == [True, False]
    assert [holds(rule, fast) for rule in (warning, risk)] == [True, True]
    assert not holds(warning, flat("DatabaseMemoryUsagePercentage", 99.9))
    swap = BY_NAME["CachekeepSwapUsageGrowingRisk"]["expr"]
    assert holds(swap, {prometheus_name("SwapUsage"): [(-60.0 * at, 4e6 - at * 4e4) for at in range(60, -1, -1)]})
    assert not holds(swap, flat("SwapUsage", 1000))


@pytest.mark.parametrize(
    ("metric", "name"),
    [
        ("CPUUtilization", "cachekeep_cpu_utilization"),
        ("EngineCPUUtilization", "cachekeep_engine_cpu_utilization"),
        ("DB0AverageTTL", "cachekeep_db0_average_ttl"),
        ("CurrConnections", "cachekeep_curr_connections"),
        ("NetworkPacketsPerSecondAllowanceExceeded", "cachekeep_network_packets_per_second_allowance_exceeded"),
    ],
)
def test_names_are_in_prometheus_style(metric: str, name: str) -> None:
    assert prometheus_name(metric) == name
