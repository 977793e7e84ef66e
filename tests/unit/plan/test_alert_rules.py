"""The alert rules: well-formed YAML, of metrics that exist, that fire when the thresholds say so."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from cachekeep.data.metrics import metrics
from cachekeep.data.thresholds import thresholds
from cachekeep.domain.metrics import MetricKind
from cachekeep.domain.verdicts import Bound, Level, Threshold
from cachekeep.plan.alert_rules import alert_rules, prometheus_name
from cachekeep.plan.verdict import Context, Past, judge, overridden
from tests.promql import Malformed, Series, evaluate, names, parse

TEXT = alert_rules(thresholds(), metrics())
RULES: list[dict[str, Any]] = yaml.safe_load(TEXT)["groups"][0]["rules"]
BY_NAME = {rule["alert"]: rule for rule in RULES}
OF_SERVICE = {
    "cachekeep_node_up",
    "cachekeep_metrics_trouble",
    "cachekeep_collection_seconds_behind",
    "cachekeep_continuous_backup_lag_seconds",
    "cachekeep_continuous_backup_up",
}
STEP_S = 15.0


def name_of(metric: str) -> str:
    return prometheus_name(metrics()[metric])


def fires(alert: str, series: Series) -> bool:
    return evaluate(parse(BY_NAME[alert]["expr"]), series) is not None


def flat(metric: str, value: float) -> dict[str, list[tuple[float, float]]]:
    """An hour of it, as scraped; of a counter, with this increase each minute."""
    points = [(-STEP_S * number, value) for number in range(240, -1, -1)]
    if metrics()[metric].kind is MetricKind.COUNTER:
        points = [(at, (at + 3600) / 60 * value) for at, _ in points]
    return {name_of(metric): points}


def line(metric: str, now: float, per_hour: float) -> dict[str, list[tuple[float, float]]]:
    return {name_of(metric): [(-60.0 * number, now - per_hour * number / 60) for number in range(60, -1, -1)]}


def test_every_rule_is_of_metrics_that_there_are() -> None:
    known = {prometheus_name(metric) for metric in metrics().values()} | OF_SERVICE
    for rule in RULES:
        assert names(parse(rule["expr"])) <= known, rule["alert"]


def test_every_rule_is_whole_and_named_once() -> None:
    assert len(BY_NAME) == len(RULES)
    for rule in RULES:
        assert rule["labels"]["severity"] in ("warning", "critical")
        assert rule["labels"].get("tier", "crucial") in ("crucial", "important", "optional")
        assert re.fullmatch(r"\d+m", rule["for"])
        assert rule["annotations"]["summary"]
        assert rule["annotations"]["description"]
        assert re.fullmatch(r"[A-Za-z0-9]+", rule["alert"])


@pytest.mark.parametrize("threshold", [t for t in thresholds() if t.warning], ids=lambda t: t.metric)
def test_rules_and_verdicts_agree_at_every_bound(threshold: Threshold) -> None:
    assert threshold.warning
    assert threshold.risk
    for bound in (threshold.warning, threshold.risk, threshold.lower or threshold.warning):
        step = 0.5 if bound.value < 100 else 1.0
        for value in (bound.value - step, bound.value, bound.value + step):
            if value < 0:
                continue
            series = {**flat("BytesUsedForCache", 1e9), **flat("IsMaster", 1), **flat(threshold.metric, value)}
            context = Context(0.0, {"BytesUsedForCache": 1e9, threshold.metric: value}, "primary")
            verdict = judge(threshold, value, Past(recent=value), context)
            risk, warning = (fires(f"Cachekeep{threshold.metric}{level}", series) for level in ("Risk", "Warning"))
            low = threshold.lower is not None and fires(f"Cachekeep{threshold.metric}LowWarning", series)
            fired = Level.RISK if risk else Level.WARNING if warning or low else Level.SAFE
            assert fired == verdict.level or verdict.level is Level.UNKNOWN, (threshold.metric, value)
            assert fired is Level.SAFE or verdict.level is not Level.UNKNOWN, (threshold.metric, value)


def test_own_bounds_on_a_counter_are_per_minute_as_the_verdict_has_them() -> None:
    own = overridden(thresholds(), {"NetworkBytesIn": {"warning": 600, "risk": 900}})
    rules = yaml.safe_load(alert_rules(own, metrics()))["groups"][0]["rules"]
    expression = parse({rule["alert"]: rule for rule in rules}["CachekeepNetworkBytesInRisk"]["expr"])
    assert evaluate(expression, flat("NetworkBytesIn", 900)) is None
    assert evaluate(expression, flat("NetworkBytesIn", 960)) == pytest.approx(960)


def test_the_worst_minute_of_five_counts_and_only_it() -> None:
    name = name_of("NetworkConntrackAllowanceExceeded")
    alert = "CachekeepNetworkConntrackAllowanceExceededRisk"

    def burst(at: float, size: float) -> Series:
        return {name: [(-STEP_S * n, size if -STEP_S * n >= at else 0.0) for n in range(60, -1, -1)]}

    assert fires(alert, burst(-200, 11))
    assert not fires(alert, burst(-200, 10))
    assert not fires(alert, burst(-800, 11))
    evenly = {name: [(-STEP_S * n, 900 - 2.5 * n) for n in range(60, -1, -1)]}  # ten a minute, fifty in five
    assert not fires(alert, evenly)
    restarted = {name: [(-STEP_S * n, 5000.0 if n > 8 else 0.0) for n in range(60, -1, -1)]}
    assert not fires(alert, restarted)


def test_conditions_keep_rules_quiet() -> None:
    fragmented = "CachekeepMemoryFragmentationRatioRisk"
    assert not fires(fragmented, {**flat("MemoryFragmentationRatio", 9), **flat("BytesUsedForCache", 1000)})
    ttl = "CachekeepDB0AverageTTLRisk"
    assert not fires(ttl, {**flat("DB0AverageTTL", 9), **flat("IsMaster", 0)})
    assert not fires(ttl, {**flat("DB0AverageTTL", 0), **flat("IsMaster", 1)})
    assert fires(ttl, {**flat("DB0AverageTTL", 9), **flat("IsMaster", 1)})


def test_what_is_not_there_fires_nothing() -> None:
    assert not [rule["alert"] for rule in RULES if evaluate(parse(rule["expr"]), {}) is not None]


def test_a_node_that_is_down_is_told() -> None:
    assert fires("CachekeepNodeDown", {"cachekeep_node_up": [(-5.0, 0.0)]})
    assert not fires("CachekeepNodeDown", {"cachekeep_node_up": [(-5.0, 1.0)]})


@pytest.mark.parametrize("metric", ["DatabaseMemoryUsagePercentage", "ConnectionsUsagePercentage"])
def test_growth_fires_before_the_limit_is_reached_and_noise_does_not(metric: str) -> None:
    filling = [f"Cachekeep{metric}Filling{level}" for level in ("Warning", "Risk")]
    slow, fast = line(metric, 50, 6), line(metric, 80, 30)
    assert [fires(alert, slow) for alert in filling] == [True, False]
    assert [fires(alert, fast) for alert in filling] == [True, True]
    assert not fires(filling[0], flat(metric, 99.9))
    assert not fires(filling[0], line(metric, 50, -6))


def test_a_step_is_no_growth_and_neither_is_a_short_past() -> None:
    name, alert = name_of("SwapUsage"), "CachekeepSwapUsageGrowingRisk"
    assert fires(alert, line("SwapUsage", 4e6, 2.4e6))
    assert not fires(alert, flat("SwapUsage", 1000))
    for step in (10, 30, 50):
        at_once = {name: [(-60.0 * number, 9e6 if number <= step else 0.0) for number in range(60, -1, -1)]}
        assert not fires(alert, at_once), step
    assert not fires(alert, {name: line("SwapUsage", 4e6, 9e6)[name][-20:]})


@pytest.mark.parametrize(
    ("metric", "name"),
    [
        ("CPUUtilization", "cachekeep_cpu_utilization_percent"),
        ("DatabaseMemoryUsagePercentage", "cachekeep_database_memory_usage_percentage"),
        ("DB0AverageTTL", "cachekeep_db0_average_ttl_milliseconds"),
        ("CurrConnections", "cachekeep_curr_connections"),
        ("FreeableMemory", "cachekeep_freeable_memory_bytes"),
        ("NetworkBytesIn", "cachekeep_network_bytes_in_total"),
        ("NetworkPacketsPerSecondAllowanceExceeded", "cachekeep_network_packets_per_second_allowance_exceeded_total"),
    ],
)
def test_names_are_in_prometheus_style(metric: str, name: str) -> None:
    assert name_of(metric) == name


def test_no_two_metrics_have_one_name() -> None:
    assert len({prometheus_name(metric) for metric in metrics().values()}) == len(metrics())


@pytest.mark.parametrize(
    "wrong",
    ["rate(a)", "max_over_time(a[5m]) >", "a and", "foo(a[5m])", "a{b}", "rate((a - b)[5m])", "predict_linear(a[5m])"],
)
def test_the_judge_of_expressions_is_strict(wrong: str) -> None:
    with pytest.raises(Malformed):
        parse(wrong)


@pytest.mark.slow
def test_prometheus_itself_takes_the_rules(tmp_path: Path) -> None:
    promtool = shutil.which("promtool")
    if promtool is None:
        pytest.skip("needs promtool (Debian: apt-get install prometheus)")
    (tmp_path / "rules.yml").write_text(TEXT)
    series = {
        "up": ("cachekeep_node_up", "1x5 0x15"),
        "cpu": (name_of("CPUUtilization"), "90x20"),
        "dropped": (name_of("NetworkConntrackAllowanceExceeded"), "0x10 11x10"),
        "memory": (name_of("DatabaseMemoryUsagePercentage"), "70x20"),
    }
    labels = '{region="us-east-1",group="g",cluster="g-001",node="0001"}'
    fired = ["NodeDown", "CPUUtilizationWarning", "CPUUtilizationRisk", "NetworkConntrackAllowanceExceededWarning"]
    fired += ["NetworkConntrackAllowanceExceededRisk", "DatabaseMemoryUsagePercentageWarning"]
    asked = {
        "rule_files": ["rules.yml"],
        "evaluation_interval": "1m",
        "tests": [
            {
                "interval": "1m",
                "input_series": [{"series": name + labels, "values": values} for name, values in series.values()],
                "promql_expr_test": [
                    {
                        "expr": 'count by (alertname) (ALERTS{alertstate="firing"})',
                        "eval_time": "14m",
                        "exp_samples": [{"labels": f'{{alertname="Cachekeep{name}"}}', "value": 1} for name in fired],
                    }
                ],
            }
        ],
    }
    (tmp_path / "asked.yml").write_text(yaml.safe_dump(asked))
    for arguments in (["check", "rules", "rules.yml"], ["test", "rules", "asked.yml"]):
        done = subprocess.run([promtool, *arguments], cwd=tmp_path, capture_output=True, text=True, timeout=60)
        assert done.returncode == 0, done.stdout + done.stderr


def test_bounds_are_written_so_that_prometheus_reads_them() -> None:
    assert str(Bound(">=", 1048576.0)) == ">= 1048576"
    assert evaluate(parse(f"a {Bound('>', 6.94444444444444e-05)}"), {"a": [(0.0, 1.0)]}) == 1.0
