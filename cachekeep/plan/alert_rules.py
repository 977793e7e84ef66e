"""Alert rules for Prometheus, as YAML text, from the thresholds. Pure.

One rule for each level and bound; while a metric is a risk its warning fires too, which Alertmanager's inhibition by
severity can hide. Spikes and shares of a baseline have no rule: what is usual, and the node type, are the node's own.
Labels of the series: group, cluster, node.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Sequence

from cachekeep.domain.verdicts import Bound, Level, Threshold

_SEVERITIES = {Level.WARNING: "warning", Level.RISK: "critical"}
# How long it holds before it is told, as AWS's alarm defaults ask for 3 of 5 minutes.
_FOR = {Level.WARNING: "3m", Level.RISK: "1m"}
_SAME_NODE = "and on (group, cluster, node)"


def alert_rules(thresholds: Sequence[Threshold]) -> str:
    """The text of a rules file: one group of rules, in the order of the thresholds."""
    lines = ["# Made from Cachekeep's thresholds. Load it with rule_files in prometheus.yml.", "groups:"]
    lines += ["  - name: cachekeep", "    rules:"]
    for threshold in thresholds:
        for level, suffix, expression in _expressions(threshold):
            lines += _rule(threshold, level, suffix, expression)
    return "\n".join(lines) + "\n"


def prometheus_name(metric: str) -> str:
    """`EngineCPUUtilization` -> `cachekeep_engine_cpu_utilization`; `DB0AverageTTL` -> `cachekeep_db0_average_ttl`."""
    words = re.sub(r"([A-Z0-9]+)([A-Z][a-z])", r"\1_\2", metric)
    words = re.sub(r"([a-z0-9])([A-Z])", r"\1_\2", words)
    return f"cachekeep_{words.lower()}"


def _expressions(threshold: Threshold) -> Iterable[tuple[Level, str, str]]:
    """Level, what follows the level in the rule's name, and PromQL."""
    bounds: list[tuple[Level, str, Bound | None]] = [
        (Level.WARNING, "", threshold.warning),
        (Level.RISK, "", threshold.risk),
        (Level.WARNING, "Low", threshold.lower),
    ]
    for level, suffix, bound in bounds:
        if bound is not None:
            yield level, suffix, _conditioned(threshold, f"{_series(threshold)} {bound}")
    rule = threshold.growth
    if rule is None:
        return
    name, window = prometheus_name(threshold.metric), f"{rule.over_s}s"
    if rule.level is not None:
        rate = Bound(">=", rule.least_rise / rule.over_s)
        yield rule.level, "Growing", f"deriv({name}[{window}]) {rate}"
    elif rule.limit is not None:
        # The rise keeps noise near the limit from being told.
        rise = f"deriv({name}[{window}]) {Bound('>=', rule.least_rise / rule.over_s)}"
        for level, ahead_s in ((Level.WARNING, rule.warning_within_s), (Level.RISK, rule.risk_within_s)):
            full = f"predict_linear({name}[{window}], {ahead_s:.0f}) {Bound('>=', rule.limit)}"
            yield level, "Filling", f"{full} {_SAME_NODE} {rise}"


def _series(threshold: Threshold) -> str:
    name = prometheus_name(threshold.metric)
    match threshold.statistic:
        case "average":
            return f"avg_over_time({name}[{threshold.over_s}s])"
        case "maximum":
            return f"max_over_time({name}[{threshold.over_s}s])"
        case _:
            return name


def _conditioned(threshold: Threshold, expression: str) -> str:
    conditions = [f"{prometheus_name(need.metric)} {need.bound}" for need in threshold.needs]
    if threshold.on_primary_only:
        conditions.append(f"{prometheus_name('IsMaster')} == 1")
    return f" {_SAME_NODE} ".join((expression, *conditions))


def _rule(threshold: Threshold, level: Level, suffix: str, expression: str) -> list[str]:
    name = f"Cachekeep{threshold.metric}{suffix}{level.value.capitalize()}"
    advice = f"{threshold.means} Usual causes: {', '.join(threshold.causes)}. {threshold.next}"
    what = {"": level.value, "Low": "below its range", "Growing": "growing steadily", "Filling": "filling up"}[suffix]
    return [
        f"      - alert: {name}",
        f"        expr: {_quoted(expression)}",
        f"        for: {_FOR[level]}",
        "        labels:",
        f"          severity: {_SEVERITIES[level]}",
        f"          tier: {threshold.tier.value}",
        "        annotations:",
        f"          summary: {_quoted(threshold.title + ' of {{ $labels.cluster }} is ' + what + ': {{ $value }}')}",
        f"          description: {_quoted(advice)}",
    ]


def _quoted(text: str) -> str:
    """A JSON text is a YAML text."""
    return json.dumps(text, ensure_ascii=False)
