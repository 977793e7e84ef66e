"""Monitoring made of a dumb series and gauges that are set by hand, for tests of what surfaces tell."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from cachekeep.domain.metric_ports import Examiner, Monitoring
from cachekeep.domain.metrics import Current, Place, Point, Subject
from tests.unit.store.dumb_series import DumbSeries

NOW = 1_780_000_000 // 86400 * 86400 + 36_000
REGION = "us-east-1"
HOUR_S, DAY_S = 3600, 86400


@dataclass
class SetGauges:
    """Implements Gauges."""

    seen: dict[Subject, Current] = field(default_factory=dict)

    def current(self, subject: Subject) -> Current | None:
        return self.seen.get(subject)

    def subjects(self) -> Sequence[Subject]:
        return sorted(self.seen)

    def place(self, subject: Subject) -> Place | None:
        del subject
        return None


class NoExaminer:
    """Implements Examiner; nobody asks it here."""

    async def clients_by_address(self, place: Place) -> dict[str, int]:
        raise NotImplementedError(place)

    async def sample_keys(self, place: Place, *, most: int, within_s: float) -> Sequence[Any]:
        raise NotImplementedError(place, most, within_s)


def monitoring(series: DumbSeries, gauges: SetGauges, memory_bytes: int = 4_000_000_000) -> Monitoring:
    examiner: Examiner = NoExaminer()
    return Monitoring(series, gauges, examiner, lambda: float(NOW), memory_bytes)


def subject(name: str, node_id: str = "0001") -> Subject:
    return Subject(REGION, name, node_id)


def node(name: str, node_id: str = "0001", **more: Any) -> dict[str, Any]:
    """A node of the status page."""
    return {"id": name, "node_id": node_id, "shard": None, "spare": None, "pid": None, **more}


def resource(name: str, nodes: Sequence[dict[str, Any]], **more: Any) -> dict[str, Any]:
    """A group or a cluster of the status page."""
    known = {"id": name, "region": REGION, "engine": "valkey", "node_type": "cache.m5.large", "nodes": list(nodes)}
    return known | more


def status(groups: Sequence[dict[str, Any]] = (), clusters: Sequence[dict[str, Any]] = ()) -> dict[str, Any]:
    return {"service": {}, "groups": list(groups), "clusters": list(clusters)}


def write(series: DumbSeries, at: int, name: Subject, **values: float) -> None:
    """One minute, each metric with sixty samples of that value."""
    had = series.minutes.get((name, at), {})
    series.write(at, {name: {**had, **{metric: Point(60.0, 60 * v, v, v) for metric, v in values.items()}}})
