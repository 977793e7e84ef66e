"""The Grafana dashboard, as JSON values: an overview, and the thresholds' metrics tier by tier with their bands. Pure.

Imported as it is: the data source is a variable of the dashboard. Source of the shapes: Grafana 11, "Dashboard JSON
model" (schema version 39).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import count
from typing import Any

from cachekeep.domain.metrics import Metric, MetricKind, Tier
from cachekeep.domain.verdicts import Threshold
from cachekeep.plan.alert_rules import prometheus_name

Json = dict[str, Any]

_SOURCE = {"type": "prometheus", "uid": "${datasource}"}
_NODES = '{region=~"$region",group=~"$group",cluster=~"$cluster"}'
_LEGEND = "{{cluster}}/{{node}}"
_UNITS = {
    "Percent": "percent",
    "Bytes": "bytes",
    "Seconds": "s",
    "Milliseconds": "ms",
    "Microseconds": "µs",
    "Count/Second": "ops",
}
_SAFE, _WARNING, _RISK = "green", "orange", "red"
_JUST_ABOVE_0 = 0.001
# Grafana's grid has 24 columns.
_COLUMNS = 24
_STAT, _CHART = (4, 4), (8, 8)
# What the engines do, beside what is judged: title, metrics, of which there are series for each node.
_MORE = (
    ("Commands", ("ProcessedCommands",)),
    ("Reads and writes", ("GetTypeCmds", "SetTypeCmds")),
    ("Time per read and write", ("GetTypeCmdsLatency", "SetTypeCmdsLatency")),
    ("Keys", ("CurrItems",)),
    ("Evicted and expired keys", ("Evictions", "Reclaimed")),
    ("Replication lag", ("ReplicationLag",)),
)


def dashboard(thresholds: Sequence[Threshold], metrics: Mapping[str, Metric]) -> Json:
    """The dashboard. metrics: all by name."""
    rows = [
        ("Overview", _overview()),
        *((f"{tier.value.capitalize()} metrics", _judged(thresholds, metrics, tier)) for tier in Tier),
        ("What the nodes do", [*_quantiles(metrics), *_charts(metrics)]),
        ("Cachekeep itself", _service()),
    ]
    return {
        "uid": "cachekeep",
        "title": "Cachekeep",
        "description": "Caches that Cachekeep runs or watches, with the bounds of its verdicts.",
        "tags": ["cachekeep", "elasticache"],
        "schemaVersion": 39,
        "version": 1,
        "id": None,
        "editable": True,
        "graphTooltip": 1,
        "refresh": "30s",
        "time": {"from": "now-3h", "to": "now"},
        "timezone": "",
        "annotations": {"list": []},
        "links": [],
        "templating": {"list": _variables()},
        "panels": _laid_out(rows),
    }


def _charts(metrics: Mapping[str, Metric]) -> list[Json]:
    return [_chart(title, [metrics[name] for name in names]) for title, names in _MORE]


def _quantiles(metrics: Mapping[str, Metric]) -> list[Json]:
    """Distributions are of whole minutes, so what is looked at is a few of them."""
    return [
        _panel(
            "timeseries",
            f"{what}: 99th percentile",
            [(f"histogram_quantile(0.99, sum by (le, cluster, node) (rate({name}_bucket{_NODES}[5m])))", _LEGEND)],
            "µs",
            about,
        )
        for what, name, about in (
            (what, prometheus_name(metrics[metric]), metrics[metric].about)
            for what, metric in (
                ("Reads", "SuccessfulReadRequestLatency"),
                ("Writes", "SuccessfulWriteRequestLatency"),
            )
        )
    ]


def _variables() -> list[Json]:
    known = "cachekeep_node_up"
    return [
        {"name": "datasource", "label": "Data source", "type": "datasource", "query": "prometheus", "refresh": 1},
        _variable("region", "Region", f"label_values({known}, region)"),
        _variable("group", "Group", f'label_values({known}{{region=~"$region"}}, group)'),
        _variable("cluster", "Node", f'label_values({known}{{region=~"$region",group=~"$group"}}, cluster)'),
    ]


def _variable(name: str, label: str, query: str) -> Json:
    return {
        "name": name,
        "label": label,
        "type": "query",
        "datasource": _SOURCE,
        "definition": query,
        "query": {"query": query, "refId": name},
        "refresh": 2,
        "sort": 1,
        "multi": True,
        "includeAll": True,
        # A cluster of no group has no such label, which `.*` matches too.
        "allValue": ".*",
        "current": {"text": ["All"], "value": ["$__all"]},
    }


def _overview() -> list[Json]:
    in_region = '{region=~"$region"}'
    alarms = 'sum(cachekeep_alarms{region=~"$region",state="ALARM"}) or vector(0)'
    waiting = 'sum(cachekeep_replication_groups{region=~"$region",status!="available"}) or vector(0)'
    return [
        _stat("Nodes that answer", f"sum(cachekeep_node_up{_NODES})", [(_SAFE, None)]),
        _stat("Nodes that do not", f"sum(1 - cachekeep_node_up{_NODES})", [(_SAFE, None), (_RISK, 1)]),
        _stat("Groups", f"sum(cachekeep_replication_groups{in_region})", [(_SAFE, None)]),
        _stat("Groups not available", waiting, [(_SAFE, None), (_WARNING, 1)]),
        _stat("Alarms", alarms, [(_SAFE, None), (_RISK, 1)]),
        _stat("Seconds behind", "cachekeep_collection_seconds_behind", [(_SAFE, None), (_WARNING, 30)]),
        _table("Nodes", f"cachekeep_node_info{_NODES}"),
    ]


def _judged(thresholds: Sequence[Threshold], metrics: Mapping[str, Metric], tier: Tier) -> list[Json]:
    found = []
    for threshold in thresholds:
        if threshold.tier is tier:
            metric = metrics[threshold.metric]
            text = f"{threshold.means} {threshold.next}" + (f" {threshold.reading}" if threshold.reading else "")
            panel = _chart(threshold.title, [metric], text)
            steps = _steps(threshold)
            panel["fieldConfig"]["defaults"]["thresholds"] = {"mode": "absolute", "steps": steps}
            if len(steps) > 1:
                panel["fieldConfig"]["defaults"]["custom"]["thresholdsStyle"] = {"mode": "dashed+area"}
            found.append(panel)
    return found


def _steps(threshold: Threshold) -> list[Json]:
    """The colour from each value on. Where the border itself belongs to the class below, that is a hair's breadth; only
    at 0, where most values are, it is drawn."""
    if threshold.warning is None or threshold.risk is None:
        return _coloured([(_SAFE, None)])
    if not threshold.warning.upward:
        return _coloured([(_RISK, None), (_WARNING, threshold.risk.value), (_SAFE, threshold.warning.value)])
    above = [(_WARNING, threshold.warning.value or _JUST_ABOVE_0), (_RISK, threshold.risk.value)]
    if threshold.lower is not None:
        return _coloured([(_WARNING, None), (_SAFE, threshold.lower.value), *above])
    return _coloured([(_SAFE, None), *above])


def _coloured(steps: Sequence[tuple[str, float | None]]) -> list[Json]:
    return [{"color": color, "value": value} for color, value in steps]


def _service() -> list[Json]:
    job = "* on (instance, job) group_left () cachekeep_service_info"
    return [
        _panel(
            "timeseries",
            "CPU",
            [(f"rate(process_cpu_seconds_total[$__rate_interval]) {job}", "{{instance}}")],
            "percentunit",
        ),
        _panel("timeseries", "Memory", [(f"process_resident_memory_bytes {job}", "{{instance}}")], "bytes"),
        _panel("timeseries", "Metrics file", [("cachekeep_metrics_file_bytes", "{{instance}}")], "bytes"),
    ]


def _chart(title: str, metrics: Sequence[Metric], text: str = "") -> Json:
    """One series for each node and metric; of counters what happened a minute, as the bounds have it."""
    targets = []
    for metric in metrics:
        name = prometheus_name(metric)
        counted = metric.kind is MetricKind.COUNTER
        query = f"rate({name}{_NODES}[$__rate_interval]) * 60" if counted else f"{name}{_NODES}"
        targets.append((query, _LEGEND if len(metrics) == 1 else f"{metric.name} {_LEGEND}"))
    unit = _UNITS.get(metrics[0].unit, "short")
    per_minute = " (a minute)" if metrics[0].kind is MetricKind.COUNTER else ""
    about = text or " ".join(metric.about for metric in metrics)
    return _panel("timeseries", title + per_minute, targets, unit, about)


def _stat(title: str, query: str, steps: Sequence[tuple[str, float | None]]) -> Json:
    panel = _panel("stat", title, [(query, "")], "short", size=_STAT)
    panel["fieldConfig"]["defaults"]["thresholds"] = {"mode": "absolute", "steps": _coloured(steps)}
    panel["options"] = {"reduceOptions": {"calcs": ["lastNotNull"]}, "colorMode": "value", "graphMode": "none"}
    return panel


def _table(title: str, query: str) -> Json:
    panel = _panel("table", title, [(query, "")], "short", size=(_COLUMNS, 7))
    panel["targets"][0] |= {"format": "table", "instant": True}
    hidden = dict.fromkeys(("Time", "Value", "__name__", "instance", "job"), True)
    panel["transformations"] = [{"id": "organize", "options": {"excludeByName": hidden}}]
    return panel


def _panel(
    kind: str,
    title: str,
    targets: Sequence[tuple[str, str]],
    unit: str,
    text: str = "",
    size: tuple[int, int] = _CHART,
) -> Json:
    custom: Json = {"lineWidth": 1, "spanNulls": False} if kind == "timeseries" else {}
    return {
        "type": kind,
        "title": title,
        "description": text,
        "datasource": _SOURCE,
        "gridPos": {"w": size[0], "h": size[1], "x": 0, "y": 0},
        "fieldConfig": {"defaults": {"unit": unit, "custom": custom}, "overrides": []},
        "options": {},
        "targets": [
            {"refId": chr(ord("A") + number), "datasource": _SOURCE, "expr": query, "legendFormat": legend}
            for number, (query, legend) in enumerate(targets)
        ],
    }


def _laid_out(rows: Sequence[tuple[str, Sequence[Json]]]) -> list[Json]:
    """Panels with their places: rows below each other, panels from left to right."""
    numbers, found, y = count(1), [], 0
    for title, panels in rows:
        place: Json = {"w": _COLUMNS, "h": 1, "x": 0, "y": y}
        found.append(
            {"type": "row", "title": title, "id": next(numbers), "collapsed": False, "gridPos": place, "panels": []}
        )
        x, y, height = 0, y + 1, 0
        for panel in panels:
            width = panel["gridPos"]["w"]
            if x + width > _COLUMNS:
                x, y, height = 0, y + height, 0
            found.append({**panel, "id": next(numbers), "gridPos": {**panel["gridPos"], "x": x, "y": y}})
            x, height = x + width, max(height, panel["gridPos"]["h"])
        y += height
    return found
