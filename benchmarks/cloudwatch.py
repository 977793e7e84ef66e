"""How long GetMetricData of 16 metrics x 24 hours x 10 nodes takes over HTTP: `python -m benchmarks.cloudwatch`.

The points are in the service's file before it starts. At a period of 60 seconds they come in three pages of at most
100,800 points, as AWS bounds them; the dashboards' 300 seconds fit one page.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from statistics import median
from typing import Any
from urllib.parse import urlencode

from benchmarks import wire
from benchmarks.figure import Figure, below, milliseconds, noted
from benchmarks.installation import REGION, BenchmarkError, Installation, installation
from benchmarks.machine import cpu_s, this_machine
from cachekeep.codec import cbor
from cachekeep.data.metrics import metrics
from cachekeep.domain.metrics import AWS_NAMESPACE, MetricKind, Point, Subject
from cachekeep.store.series import SeriesFile

LIMIT_S = 0.1
NODES, HOURS, ROUNDS = 10, 24, 15
# The seed document's sixteen.
NAMES = (
    "CPUUtilization",
    "EngineCPUUtilization",
    "DatabaseMemoryUsagePercentage",
    "DatabaseCapacityUsagePercentage",
    "CacheHitRate",
    "MemoryFragmentationRatio",
    "SwapUsage",
    "FreeableMemory",
    "DB0AverageTTL",
    "NetworkBytesIn",
    "NetworkBytesOut",
    "NetworkPacketsIn",
    "NetworkPacketsOut",
    "NetworkConntrackAllowanceExceeded",
    "NetworkPacketsPerSecondAllowanceExceeded",
    "CurrConnections",
)
TARGET = "GraniteServiceVersion20100801"
Request = Callable[[Installation, Mapping[str, Any]], bytes]


def measure(it: Installation) -> list[Figure]:
    """it: running; it is started anew with a day of points."""
    end = int(time.time()) // 300 * 300
    it.kill()
    _fill(it, end)
    it.start()
    protocols: dict[str, Request] = {"CBOR": as_cbor, "JSON": as_json, "Query": as_form}
    return [_figure(it, name, request, period, end) for name, request in protocols.items() for period in (300, 60)]


def _figure(it: Installation, name: str, request: Request, period: int, end: int) -> Figure:
    pages = 1 if period == 300 else 3
    spent = []
    used = cpu_s(it.pid)
    with wire.Connection(it) as connection:
        for _ in range(ROUNDS):
            took, size, token = 0.0, 0, None
            for _ in range(pages):
                asked = request(it, _asked(end, period, token))
                begin = time.perf_counter()
                body = connection.ask(asked)
                took += time.perf_counter() - begin
                token = _token(name, body)
                size += len(body)
            spent.append(took)
            if token is not None:
                raise BenchmarkError(f"there are more than {pages} pages")
    own = (cpu_s(it.pid) - used) / ROUNDS
    what = f"GetMetricData {len(NAMES)} metrics x {HOURS} h x {NODES} nodes, period {period} s, {name}"
    how = f"median of {ROUNDS}, one connection, {pages} page(s), {size / 1e6:.1f} MB, signed beforehand"
    more = f" ({min(spent) * 1000:.0f}-{max(spent) * 1000:.0f}; {own * 1000:.0f} ms of the service's processor)"
    if name == "CBOR" and period == 300:
        return below(what, median(spent), LIMIT_S, milliseconds, more=more, how=how)
    return noted(what, median(spent), milliseconds, more=more, how=how)


def _fill(it: Installation, end: int) -> None:
    """Gauges of 60 samples and counters, as a collector writes them, and what else a node has beside."""
    series = SeriesFile(it.state_dir / "metrics.sqlite", clock=lambda: float(end))
    kinds = {name: metrics()[name].kind for name in NAMES}
    subjects = [Subject(REGION, f"node-{number:03d}", "0001") for number in range(NODES)]
    for minute in range(end - HOURS * 3600, end, 60):
        rows = {}
        for number, subject in enumerate(subjects):
            wave = 1000 + number + 500 * math.sin(minute / 7200 + number)
            gauge = Point(60.0, 60 * wave, wave - 1.25, wave + 2.5)
            rows[subject] = {n: gauge if kind is MetricKind.GAUGE else Point.of(wave) for n, kind in kinds.items()}
        series.write(minute, rows)
    series.close()


def _asked(end: int, period: int, token: str | None) -> dict[str, Any]:
    queries = []
    for node in range(NODES):
        dimensions = [
            {"Name": "CacheClusterId", "Value": f"node-{node:03d}"},
            {"Name": "CacheNodeId", "Value": "0001"},
        ]
        for number, name in enumerate(NAMES):
            metric = {"Namespace": AWS_NAMESPACE, "MetricName": name, "Dimensions": dimensions}
            stat = {"Metric": metric, "Period": period, "Stat": "Average"}
            queries.append({"Id": f"n{node}m{number}", "MetricStat": stat})
    asked: dict[str, Any] = {"MetricDataQueries": queries, "StartTime": end - HOURS * 3600, "EndTime": end}
    return asked if token is None else {**asked, "NextToken": token}


def as_cbor(it: Installation, params: Mapping[str, Any]) -> bytes:
    timed = {k: datetime.fromtimestamp(v, UTC) if k.endswith("Time") else v for k, v in params.items()}
    headers = {"smithy-protocol": "rpc-v2-cbor", "Content-Type": "application/cbor"}
    return wire.signed_request(
        it, "POST", f"/service/{TARGET}/operation/GetMetricData", cbor.encode(timed), "monitoring", headers
    )


def as_json(it: Installation, params: Mapping[str, Any]) -> bytes:
    headers = {"X-Amz-Target": f"{TARGET}.GetMetricData", "Content-Type": "application/x-amz-json-1.0"}
    return wire.signed_request(it, "POST", "/", json.dumps(params).encode(), "monitoring", headers)


def as_form(it: Installation, params: Mapping[str, Any]) -> bytes:
    fields = {"Action": "GetMetricData", "Version": "2010-08-01"}

    def put(path: str, value: Any) -> None:
        if isinstance(value, dict):
            for name, child in value.items():
                put(f"{path}.{name}" if path else name, child)
        elif isinstance(value, list):
            for number, child in enumerate(value, 1):
                put(f"{path}.member.{number}", child)
        else:
            fields[path] = str(value)

    put("", {k: datetime.fromtimestamp(v, UTC).isoformat() if k.endswith("Time") else v for k, v in params.items()})
    headers = {"Content-Type": "application/x-www-form-urlencoded; charset=utf-8"}
    return wire.signed_request(it, "POST", "/", urlencode(fields).encode(), "monitoring", headers)


def _token(protocol: str, body: bytes) -> str | None:
    """Found without reading the points, whose parsing would be the client's cost."""
    match protocol:
        case "CBOR":
            _, found, rest = body.partition(b"\x69NextToken\x78")
            return rest[1 : 1 + rest[0]].decode() if found else None
        case "JSON":
            _, found, rest = body.partition(b'"NextToken":"')
            return rest.partition(b'"')[0].decode() if found else None
    _, found, rest = body.partition(b"<NextToken>")
    return rest.partition(b"<")[0].decode() if found else None


def main() -> None:
    print(this_machine())
    with installation() as it:
        for figure in measure(it):
            print(f"{figure.name}: {figure.measured} {figure.target} {figure.verdict.value} [{figure.how}]")


if __name__ == "__main__":
    main()
