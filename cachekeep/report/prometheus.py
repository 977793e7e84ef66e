"""What `/metrics` tells: every node's metrics, and how the service itself does.

Gauges are gauges, as last read; ratios are those of the last whole minute; counters are running sums that begin with
the service and never decrease. A node that does not answer has `cachekeep_node_up 0` and no values: a gap, as in the
series. Sums of a group are left to Prometheus.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from cachekeep.domain.alarms import Alarm, AlarmState
from cachekeep.domain.cache_cluster import CacheCluster, Status
from cachekeep.domain.continuous import Standings
from cachekeep.domain.metric_ports import Gauges, Totals
from cachekeep.domain.metrics import Current, Metric, MetricKind, Point, Subject
from cachekeep.domain.ports import Store
from cachekeep.domain.replication_group import ReplicationGroup
from cachekeep.plan.alert_rules import is_distribution, prometheus_name
from cachekeep.report.health_members import STALE_S
from cachekeep.report.prometheus_text import Family, Kind, labels

# How many nodes are read, at half a millisecond each, before others get their turn on the event loop.
_AT_ONCE = 4
_FACTS = ("engine", "version", "node_type", "role", "address")
# Microseconds: those of the bounds of LATENCY HISTOGRAM (hdr_histogram's powers of two) that tell caches apart.
_BOUNDS_US = (2.0, 4.0, 8.0, 16.0, 33.0, 66.0, 132.0, 264.0, 528.0, 1056.0, 2113.0, 4227.0, 8454.0, 33818.0, 135272.0)
# What Prometheus knows as cachekeep_node_up.
_LEFT_OUT = frozenset({"Answering"})


@dataclass(frozen=True)
class NodeReading:
    """One node as it is now. totals: its counters since it is measured, distributions: what has buckets, likewise."""

    subject: Subject
    current: Current
    totals: Mapping[str, float] = field(default_factory=dict)
    distributions: Mapping[str, Point] = field(default_factory=dict)


@dataclass(frozen=True)
class ServiceReading:
    """How the service does. statuses: what is counted -> region -> status -> how many. metrics_trouble: minutes wait in
    memory or were lost. metrics_file_bytes: None where it cannot be told. backups: continuous ones."""

    version: str
    statuses: Mapping[str, Mapping[str, Mapping[str, int]]] = field(default_factory=dict)
    metrics_trouble: bool = False
    metrics_file_bytes: int | None = None
    backups: Standings = field(default_factory=dict)


async def read_nodes(gauges: Gauges, totals: Totals) -> list[NodeReading]:
    """All nodes that are measured now. For the event loop's thread; gives way to others between nodes."""
    found = []
    for number, subject in enumerate(subject for subject in gauges.subjects() if subject.node_id):
        if number % _AT_ONCE == _AT_ONCE - 1:
            await asyncio.sleep(0)
        current = gauges.current(subject)
        if current is not None:  # it may have gone meanwhile
            counted = {} if current.trouble else totals.totals(subject)
            found.append(NodeReading(subject, current, counted, totals.distributions(subject)))
    return found


def statuses_of(store: Store) -> dict[str, dict[str, dict[str, int]]]:
    """Groups, clusters of their own, and alarms by region and status: every status in every region that is in use, so
    that no series begins or ends with the first or last of its kind."""
    statuses, states = [status.value for status in Status], [state.value for state in AlarmState]
    alone = [cluster for cluster in store.all(CacheCluster) if cluster.replication_group_id is None]
    counts = {
        "replication_groups": (statuses, Counter((g.region, g.status.value) for g in store.all(ReplicationGroup))),
        "cache_clusters": (statuses, Counter((c.region, c.status.value) for c in alone)),
        "alarms": (states, Counter((a.region, a.state.value) for a in store.all(Alarm))),
    }
    regions = sorted({region for _, counted in counts.values() for region, _ in counted})
    return {
        name: {region: {status: counted[region, status] for status in known} for region in regions}
        for name, (known, counted) in counts.items()
    }


def families(
    nodes: Sequence[NodeReading], service: ServiceReading, metrics: Mapping[str, Metric], now: float
) -> list[Family]:
    """All families, the service's first. metrics: all by name. now: seconds since 1970. Pure."""
    return [*_of_service(service, nodes, now), *_of_backups(service.backups, now), *_of_nodes(nodes, metrics, now)]


def _of_service(service: ServiceReading, nodes: Sequence[NodeReading], now: float) -> list[Family]:
    found = [Family("cachekeep_service", Kind.INFO, "This Cachekeep.", [(labels({"version": service.version}), 1.0)])]
    abouts = {
        "replication_groups": "Replication groups by status.",
        "cache_clusters": "Cache clusters of no group by status.",
        "alarms": "CloudWatch alarms by state.",
    }
    for name, by_region in service.statuses.items():
        samples = [
            (labels({"region": region, "state" if name == "alarms" else "status": status}), float(count))
            for region, counts in by_region.items()
            for status, count in counts.items()
        ]
        found.append(Family(f"cachekeep_{name}", Kind.GAUGE, abouts[name], samples))
    ages = [now - node.current.at for node in nodes if node.current.at and node.current.trouble is None]
    gauges: list[tuple[str, str, float | None]] = [
        ("nodes_measured", "Nodes that are measured, watched endpoints among them.", float(len(nodes))),
        ("collection_seconds_behind", "Age of the oldest reading of a node that answers.", max([0.0, *ages])),
        ("metrics_trouble", "1 while minutes wait in memory or some were lost.", float(service.metrics_trouble)),
        ("metrics_file_bytes", "Size of the file that keeps the metrics.", service.metrics_file_bytes),
    ]
    for name, about, value in gauges:
        if value is not None:
            found.append(Family(f"cachekeep_{name}", Kind.GAUGE, about, [("", float(value))]))
    return found


def _of_backups(backups: Standings, now: float) -> list[Family]:
    """Of the groups that have a continuous backup. A lag or size that is not known is left out, never 0."""
    name = "cachekeep_continuous_backup"
    up = Family(f"{name}_up", Kind.GAUGE, "1 while every change of the group is kept.")
    lag = Family(f"{name}_lag_seconds", Kind.GAUGE, "How long ago the last moment was that can be restored.")
    size = Family(f"{name}_bytes", Kind.GAUGE, "Stored of the group, all of its window.")
    for (region, group), standing in sorted(backups.items()):
        told, behind_s = labels({"region": region, "group": group}), standing.lag_s(now)
        up.samples.append((told, float(standing.follows)))
        if behind_s is not None:
            lag.samples.append((told, behind_s))
        if standing.bytes is not None:
            size.samples.append((told, float(standing.bytes)))
    return [up, lag, size]


def _of_nodes(nodes: Sequence[NodeReading], metrics: Mapping[str, Metric], now: float) -> list[Family]:
    up = Family("cachekeep_node_up", Kind.GAUGE, "1 while the node answers.")
    info = Family("cachekeep_node", Kind.INFO, "What the node is; its role changes with a failover.")
    families = {metric.name: _family(metric) for metric in metrics.values() if metric.name not in _LEFT_OUT}
    for node in nodes:
        current, subject = node.current, node.subject
        who = {
            "region": subject.region,
            "group": current.facts.get("replication_group", ""),
            "cluster": subject.id,
            "node": subject.node_id,
        }
        told = labels(who)
        answers = current.trouble is None and now - current.at <= STALE_S
        up.samples.append((told, float(answers)))
        info.samples.append((labels({**who, **{name: current.facts.get(name, "") for name in _FACTS}}), 1.0))
        if not answers:
            continue
        for values, counted in ((current.values, False), (node.totals, True)):
            for name, value in values.items():
                family = families.get(name)
                if family is not None and family.kind is (Kind.COUNTER if counted else Kind.GAUGE):
                    family.samples.append((told, value))
        for name, point in node.distributions.items():
            families[name].observe(told, dict(point.buckets), point.total, _BOUNDS_US)
    return [up, info, *families.values()]


def _family(metric: Metric) -> Family:
    if is_distribution(metric):
        return Family(prometheus_name(metric), Kind.HISTOGRAM, metric.about)
    kind = Kind.COUNTER if metric.kind is MetricKind.COUNTER else Kind.GAUGE
    return Family(prometheus_name(metric).removesuffix("_total"), kind, metric.about)
