"""A desk at which CloudWatch requests are answered: a real store, series in a dict, boto3 without a network."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import cache
from io import BytesIO
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import boto3
from botocore.awsrequest import AWSPreparedRequest, AWSResponse
from botocore.config import Config
from botocore.serialize import create_serializer

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


class _Raw(BytesIO):
    def stream(self, **_: object) -> list[bytes]:
        return [self.read()]


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
        _AT[:] = [self._answer]
        return _client(protocol)

    def _answer(self, request: AWSPreparedRequest, **_: object) -> AWSResponse:
        parts = urlsplit(request.url)
        headers = [(n.lower(), v.decode() if isinstance(v, bytes) else v) for n, v in request.headers.items()]
        body = request.body or b""
        body = body.encode() if isinstance(body, str) else body
        answer = self.send(HttpRequest(request.method, parts.path, parts.query, headers, body))
        return AWSResponse(
            request.url,
            answer.status,
            {"content-type": answer.content_type, **answer.headers, "x-amzn-requestid": answer.request_id},
            _Raw(answer.body),
        )


# Who answers the clients now: one takes a third of a second to make, so that tests share them.
_AT: list[Callable[..., AWSResponse]] = []


@cache
def _client(protocol: str) -> Any:
    made = boto3.Session("AKID", "secret", region_name=REGION).client(
        "cloudwatch",
        endpoint_url="http://127.0.0.1:1",
        config=Config(retries={"max_attempts": 0}, parameter_validation=False),
    )
    # Another protocol than the one it chose.
    made.meta.service_model.__dict__["resolved_protocol"] = protocol
    made._serializer = create_serializer(protocol, include_validation=False)
    made.meta.events.register("before-send", lambda request, **_: _AT[0](request))
    return made


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
