"""Alert rules for Prometheus, as YAML text, from the thresholds. Pure.

One rule for each level and bound; while a metric is a risk its warning fires too, which Alertmanager's inhibition by
severity can hide. Spikes and shares of a baseline have no rule: what is usual, and the node type, are the node's own.
All series of a node have the same labels (report.prometheus), so `and` compares a node with itself.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence

from cachekeep.domain.metrics import Metric, MetricKind
from cachekeep.domain.verdicts import Bound, GrowthRule, Level, Threshold

_SEVERITIES = {Level.WARNING: "warning", Level.RISK: "critical"}
# How long it holds before it is told, as AWS's alarm defaults ask for 3 of 5 minutes.
_FOR = {Level.WARNING: "3m", Level.RISK: "1m"}
# What each half of the time has to rise, as a share of the least rise: a step, which only one of them has, is none.
_EACH_HALF = 0.25
_SUFFIXES = {
    "Percent": "percent",
    "Bytes": "bytes",
    "Seconds": "seconds",
    "Milliseconds": "milliseconds",
    "Microseconds": "microseconds",
}
_WHERE = "{{ $labels.cluster }}/{{ $labels.node }}"
# What no threshold is about: name, expression, time, severity, summary, description.
_OF_SERVICE = (
    (
        "CachekeepNodeDown",
        "cachekeep_node_up == 0",
        "1m",
        "critical",
        f"{_WHERE} does not answer",
        "The node has not answered for a minute. `cachekeep status` and `cachekeep journal` tell what is being done.",
    ),
    (
        "CachekeepMetricsNotKept",
        "cachekeep_metrics_trouble == 1",
        "5m",
        "warning",
        "Cachekeep cannot keep its metrics",
        "Minutes of metrics wait in memory, or some were lost: the disk is full or the file is damaged. The service's "
        "log says why.",
    ),
    (
        "CachekeepCollectionBehind",
        "cachekeep_collection_seconds_behind > 30",
        "3m",
        "warning",
        "Cachekeep measures too slowly",
        "Nodes that answer were last read long ago. The machine is overloaded, or too many nodes are measured.",
    ),
    (
        "CachekeepContinuousBackupBehind",
        "cachekeep_continuous_backup_lag_seconds > 120",
        "3m",
        "warning",
        "The continuous backup of {{ $labels.group }} is {{ $value | humanizeDuration }} behind",
        "The last moments of the group could not be restored. `cachekeep health` of the group says why.",
    ),
    (
        "CachekeepContinuousBackupStopped",
        "cachekeep_continuous_backup_up == 0",
        "10m",
        "critical",
        "The continuous backup of {{ $labels.group }} does not run",
        "No change of the group has been kept for ten minutes, or its first copy takes so long. `cachekeep health` of "
        "the group says why: a full disk, for one.",
    ),
)


def alert_rules(thresholds: Sequence[Threshold], metrics: Mapping[str, Metric]) -> str:
    """The text of a rules file: one group of rules, in the order of the thresholds. metrics: all by name."""
    lines = ["# Made from Cachekeep's thresholds. Load it with rule_files in prometheus.yml.", "groups:"]
    lines += ["  - name: cachekeep", "    rules:"]
    for name, expression, time, severity, summary, description in _OF_SERVICE:
        labels = {"severity": severity}
        lines += _lines(name, expression, time, labels, {"summary": summary, "description": description})
    for threshold in thresholds:
        for level, suffix, expression in _expressions(threshold, metrics):
            lines += _rule(threshold, level, suffix, expression)
    return "\n".join(lines) + "\n"


def prometheus_name(metric: Metric) -> str:
    """`EngineCPUUtilization` -> `cachekeep_engine_cpu_utilization_percent`, with the unit where the name does not tell
    it already and `_total` for a counter. Values stay in the metric's unit, so that thresholds read the same
    everywhere. Source: prometheus.io "Metric and label naming"."""
    words = re.sub(r"([A-Z0-9]+)([A-Z][a-z])", r"\1_\2", metric.name)
    words = re.sub(r"([a-z0-9])([A-Z])", r"\1_\2", words).lower()
    unit = _SUFFIXES.get(metric.unit)
    told = unit is None or any(word.startswith(unit) for word in words.split("_"))
    total = "_total" if metric.kind is MetricKind.COUNTER and not is_distribution(metric) else ""
    return f"cachekeep_{words}{'' if told else '_' + str(unit)}{total}"


def is_distribution(metric: Metric) -> bool:
    """A time that is counted: how long each of many things took. Prometheus has it as a histogram."""
    return metric.kind is MetricKind.COUNTER and metric.unit == "Microseconds"


def _expressions(threshold: Threshold, metrics: Mapping[str, Metric]) -> Iterable[tuple[Level, str, str]]:
    """Level, what follows the level in the rule's name, and PromQL."""
    bounds: list[tuple[Level, str, Bound | None]] = [
        (Level.WARNING, "", threshold.warning),
        (Level.RISK, "", threshold.risk),
        (Level.WARNING, "Low", threshold.lower),
    ]
    series = _series(threshold, metrics[threshold.metric])
    conditions = [f"{prometheus_name(metrics[need.metric])} {need.bound}" for need in threshold.needs]
    if threshold.on_primary_only:
        conditions.append(f"{prometheus_name(metrics['IsMaster'])} == 1")
    for level, suffix, bound in bounds:
        if bound is not None:
            yield level, suffix, " and ".join((f"{series} {bound}", *conditions))
    rule, name = threshold.growth, prometheus_name(metrics[threshold.metric])
    if rule is None:
        return
    if rule.level is not None:
        yield rule.level, "Growing", _growth(name, rule)
    elif rule.limit is not None:
        for level, ahead_s in ((Level.WARNING, rule.warning_within_s), (Level.RISK, rule.risk_within_s)):
            full = f"predict_linear({name}[{rule.over_s}s], {ahead_s:.0f}) {Bound('>=', rule.limit)}"
            yield level, "Filling", f"{full} and {name} {Bound('<', rule.limit)} and {_growth(name, rule)}"


def _series(threshold: Threshold, metric: Metric) -> str:
    """What is compared. Of a counter, the increase per minute, as CloudWatch and the verdicts have it: without the
    extrapolation of increase(), which would turn one packet into two."""
    name, over = prometheus_name(metric), f"{threshold.over_s}s"
    counted = metric.kind is MetricKind.COUNTER
    minute = f"({name} - {name} offset 60s)" if counted else name
    match threshold.statistic:
        case "average" if counted:
            return f"rate({name}[{over}]) * 60"
        case "average":
            return f"avg_over_time({name}[{over}])"
        case "maximum":
            return f"max_over_time({minute}[{over}{':60s' if counted else ''}])"
        case _:
            return minute


def _growth(name: str, rule: GrowthRule) -> str:
    """Steady growth: over the whole time, and in each half of it. Nothing before there is an hour of history, or so."""
    half, least = rule.over_s // 2, rule.least_rise / rule.over_s
    whole = f"deriv({name}[{rule.over_s}s]) {Bound('>=', least)}"
    each = Bound(">=", least * _EACH_HALF)
    return f"{whole} and deriv({name}[{half}s]) {each} and deriv({name}[{half}s] offset {half}s) {each}"


def _rule(threshold: Threshold, level: Level, suffix: str, expression: str) -> list[str]:
    what = {"": level.value, "Low": "below its range", "Growing": "growing steadily", "Filling": "filling up"}[suffix]
    value = "{{ $value | humanize }}"
    return _lines(
        f"Cachekeep{threshold.metric}{suffix}{level.value.capitalize()}",
        expression,
        _FOR[level],
        {"severity": _SEVERITIES[level], "tier": threshold.tier.value},
        {
            "summary": f"{threshold.title} of {_WHERE} is {what}: {value}",
            "description": f"{threshold.means} Usual causes: {', '.join(threshold.causes)}. {threshold.next}",
        },
    )


def _lines(
    name: str, expression: str, time: str, labels: Mapping[str, str], annotations: Mapping[str, str]
) -> list[str]:
    return [
        f"      - alert: {name}",
        f"        expr: {_quoted(expression)}",
        f"        for: {time}",
        "        labels:",
        *(f"          {label}: {value}" for label, value in labels.items()),
        "        annotations:",
        *(f"          {annotation}: {_quoted(text)}" for annotation, text in annotations.items()),
    ]


def _quoted(text: str) -> str:
    """A JSON text is a YAML text."""
    return json.dumps(text, ensure_ascii=False)
