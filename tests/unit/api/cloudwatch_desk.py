"""A desk at which CloudWatch requests are answered: a real store, series in a dict, boto3 without a network."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from direct_client import direct_client

from cachekeep.api.cloudwatch.call import CloudWatchServices
from cachekeep.api.cloudwatch.front import CloudWatch
from cachekeep.api.cloudwatch.values import SeriesValues
from cachekeep.api.dispatch import Answer
from cachekeep.codec.sigv4 import Caller, HttpRequest
from cachekeep.domain.metrics import AWS_NAMESPACE, Column, Metric, MetricKind, Point, Subject
from cachekeep.domain.ports import WorldError
from cachekeep.monitor.alarms import AlarmKeeper
from cachekeep.store.sqlite import SqliteStore

REGION, ACCOUNT = "eu-west-1", "000000000000"
NOW = 1_790_000_040  # a whole minute
PROTOCOLS = ("smithy-rpc-v2-cbor", "json", "query")
METRICS = {
    name: Metric(name, AWS_NAMESPACE, unit, MetricKind.GAUGE, ("resp",), name, "here")
    for name, unit in (
        ("CurrConnections", "Count"),
        ("EngineCPUUtilization", "Percent"),
        ("GetLatency", "Microseconds"),
    )
}


@dataclass
class Series:
    """What a SeriesStore promises, in the plainest way."""

    points: dict[tuple[Subject, str], dict[int, Point]] = field(default_factory=dict)
    reads: int = 0
    trouble: str | None = None

    def write(self, start: int, rows: Mapping[Subject, Mapping[str, Point]]) -> None:
        for subject, of_subject in rows.items():
            for name, point in of_subject.items():
                self.points.setdefault((subject, name), {})[start] = point

    def put(self, subject: Subject, name: str, values: Sequence[float], last: int = NOW) -> None:
        """One value a minute; the last one begins a minute before `last`."""
        first = last - 60 * len(values)
        for number, value in enumerate(values):
            self.write(first + 60 * number, {subject: {name: Point.of(value)}})

    def read(self, subject: Subject, names: Collection[str], start: int, end: int, period: int) -> Mapping[str, Column]:
        self.reads += 1
        if self.trouble:
            raise WorldError(self.trouble)
        return {name: self._column(self.points.get((subject, name), {}), start, end, period) for name in names}

    @staticmethod
    def _column(points: Mapping[int, Point], start: int, end: int, period: int) -> Column:
        found: dict[int, list[Point]] = {}
        for at in sorted(points):
            if start <= at // period * period < end:
                found.setdefault(at // period * period, []).append(points[at])
        of_all = found.values()
        return Column(
            list(found),
            [sum(p.count for p in points) for points in of_all],
            [sum(p.total for p in points) for points in of_all],
            [min(p.least for p in points) for points in of_all],
            [max(p.most for p in points) for points in of_all],
            {at: points[0].buckets for at, points in found.items() if points[0].buckets},
        )

    def subjects(self, region: str | None = None) -> Sequence[Subject]:
        return sorted({subject for subject, _ in self.points if region in (None, subject.region)})

    def names(self, subject: Subject, since: int = 0) -> frozenset[str]:
        return frozenset(n for (s, n), points in self.points.items() if s == subject and max(points) >= since)

    def close(self) -> None:
        self.points.clear()


class Board:
    """Takes what alarms publish: the topic and the subject of each notice."""

    def __init__(self) -> None:
        self.told: list[tuple[str, str]] = []

    def publish(self, topic_arn: str, subject: str, message: str, alarm: str = "") -> str | None:
        self.told.append((topic_arn, subject))
        return None


@dataclass(frozen=True)
class Clock:
    """Moved by hand."""

    time: list[float]

    def now(self) -> float:
        return self.time[0]


@dataclass
class CloudWatchDesk:
    store: SqliteStore
    series: Series
    front: CloudWatch
    now: list[float]
    keeper: AlarmKeeper
    board: Board

    def send(self, request: HttpRequest) -> Answer:
        return self.front.answer(request, Caller("AKID", REGION, "monitoring", "20260101"), "r-1")

    def client(self, protocol: str = PROTOCOLS[0]) -> Any:
        """A boto3 client that speaks this protocol to the front directly."""
        return direct_client("cloudwatch", REGION, protocol, self.send)


@contextmanager
def cloudwatch_desk(folder: Path) -> Iterator[CloudWatchDesk]:
    store, series, now = SqliteStore(folder / "s.db"), Series(), [float(NOW)]
    try:
        services = CloudWatchServices(series, METRICS, store, lambda: now[0], ACCOUNT)
        board = Board()
        keeper = AlarmKeeper(store, SeriesValues(services), board, Clock(now), ACCOUNT)
        front = CloudWatch(replace(services, set_state=keeper.set_state))
        yield CloudWatchDesk(store, series, front, now, keeper, board)
    finally:
        store.close()


def node(number: int = 1, node_id: str = "0001") -> Subject:
    return Subject(REGION, f"c-{number:03d}", node_id)
