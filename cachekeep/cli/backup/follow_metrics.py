"""`--metrics-port`: what a running capture is doing, for Prometheus, and whether it goes well, for a supervisor.

HTTP, for this machine alone: `/metrics` in the text format of Prometheus (or OpenMetrics, for those who ask for it),
`/healthz` 200 or 503 and why. Called by `run --follow`. Source of the names: prometheus.io "Metric and label naming".
"""

from __future__ import annotations

import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler
from socketserver import TCPServer, ThreadingMixIn
from typing import Any, get_args

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, InfoMetricFamily, Metric
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector, CollectorRegistry

from cachekeep.cli.backup.outcome import FAILED
from cachekeep.cli.refusal import Refused
from cachekeep.follow.types import FollowStatus, Phase

HOST = "127.0.0.1"
_PREFIX = "cachekeep_backup"
_PATIENCE_S = 10.0  # with a client that asks nothing, or does not take the answer
_AT_ONCE = 16
# The capture tells its status twice a second, but not while a store takes long with a segment.
_SILENT_S = 60.0
_SINCE_1970 = "in seconds since 1970 by this machine's clock"


class Metrics(Collector):
    """The last status, as Prometheus has it. Told by threads of the capture, asked by those of the server."""

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        self._now, self._told_s = now, now()
        self._status: FollowStatus | None = None
        self._source, self._clock_ahead_ms = "", 0
        self._registry = CollectorRegistry(auto_describe=False)
        self._registry.register(self)

    def about(self, source: str, clock_ahead_ms: int) -> None:
        """Which endpoint is followed, and its clock minus this machine's."""
        self._source, self._clock_ahead_ms = source, clock_ahead_ms

    def update(self, status: FollowStatus) -> None:
        self._status, self._told_s = status, self._now()

    def page(self, accept: str = "") -> tuple[str, bytes]:
        """Content type and body. accept: the header of that name."""
        encode, kind = choose_encoder(accept)
        return kind, encode(self._registry)

    def health(self) -> tuple[HTTPStatus, str]:
        """OK while the source is followed; else why not."""
        now = self._status
        if now is None or now.phase == "starting":
            return HTTPStatus.SERVICE_UNAVAILABLE, "starting: nothing is captured yet"
        if now.phase in ("away", "store"):
            return HTTPStatus.SERVICE_UNAVAILABLE, f"{now.phase}: {now.trouble or 'waiting'}"
        if (silent_s := self._now() - self._told_s) > _SILENT_S:
            return HTTPStatus.SERVICE_UNAVAILABLE, f"stalled: the capture told nothing for {silent_s:.0f} s"
        return HTTPStatus.OK, now.phase

    def collect(self) -> Iterator[Metric]:
        """Nothing before the first status. A moment or lag that is not known is left out, never 0."""
        now = self._status
        if now is None:
            return
        about = {"source": self._source, "method": now.method, "generation": now.generation}
        yield InfoMetricFamily(_PREFIX, "What is followed, how, and the backup that is written.", about)
        phases = GaugeMetricFamily(f"{_PREFIX}_phase", "1 for what the capture is doing now.", labels=["phase"])
        for phase in get_args(Phase):
            phases.add_metric([phase], float(phase == now.phase))
        yield phases
        for name, text, value in self._gauges(now):
            if value is not None:
                yield GaugeMetricFamily(f"{_PREFIX}_{name}", text, value)
        for name, text, count in _counters(now):
            yield CounterMetricFamily(f"{_PREFIX}_{name}", text, count)

    def _gauges(self, now: FollowStatus) -> list[tuple[str, str, float | None]]:
        return [
            (
                "covered_since_timestamp_seconds",
                f"Start of the interval that goes on, of which every change was read, {_SINCE_1970}. "
                "Absent while continuity is not proved.",
                _seconds(now.covered_since_ms),
            ),
            (
                "read_until_timestamp_seconds",
                f"Every change until then was read; what is durable may end earlier, {_SINCE_1970}.",
                _seconds(now.covered_until_ms),
            ),
            (
                "durable_until_timestamp_seconds",
                f"What can be restored, and survives a crash of this machine, ends here, {_SINCE_1970}.",
                _seconds(now.durable_until_ms),
            ),
            (
                "lag_seconds",
                "From the last change to its being read; polling: between the last two moments.",
                _seconds(now.lag_ms),
            ),
            ("lag_p99_seconds", "The same, 99th percentile of the last minute.", _seconds(now.lag_p99_ms)),
            ("queue_keys", "Changed keys that wait to be read.", now.queue_keys),
            ("status_age_seconds", "All of this is so old.", self._now() - self._told_s),
            ("uptime_seconds", "For so long this run has gone on.", now.uptime_s),
            (
                "source_clock_ahead_seconds",
                "The source's clock minus this machine's, when the run began.",
                _seconds(self._clock_ahead_ms),
            ),
        ]


def _counters(now: FollowStatus) -> list[tuple[str, str, int]]:
    return [
        ("changes", "Records of changes that this run captured.", now.changes),
        ("keys_read", "Keys that passes over all keys have read.", now.keys),
        ("stored_bytes", "What this run has stored.", now.bytes),
        ("gaps", "Stretches of this run of which not every moment can be restored.", now.gaps),
        ("missed_changes", "Changes that only a reconcile pass found.", now.missed),
        ("passes", "Passes over all keys that came to their end.", now.passes),
    ]


def _seconds(ms: float | None) -> float | None:
    return None if ms is None else ms / 1000


@contextmanager
def served(port: int, metrics: Metrics) -> Iterator[str]:
    """Serve them in the block; yields the URL of /metrics. port 0: any free one. Raises Refused when it is taken."""
    try:
        server = _Server((HOST, port), metrics)
    except OSError as error:
        what = f"cannot serve metrics at {HOST}:{port}: {error.strerror or error}"
        raise Refused(f"{what}; give --metrics-port another port, or 0 for any free one", FAILED) from error
    with server:
        thread = threading.Thread(target=server.serve_forever, args=(0.1,), name="metrics")
        thread.start()
        try:
            yield f"http://{HOST}:{server.server_address[1]}/metrics"
        finally:
            server.shutdown()
            thread.join()
            server.hang_up()


class _Server(ThreadingMixIn, TCPServer):
    """A thread for each exchange, all of which end with it."""

    allow_reuse_address = True

    def __init__(self, address: tuple[str, int], metrics: Metrics) -> None:
        self.metrics = metrics
        self._open: set[socket.socket] = set()
        self._lock = threading.Lock()
        super().__init__(address, _Handler)

    def verify_request(self, request: Any, client_address: Any) -> bool:  # noqa: ANN401 - socketserver's
        """Too many at once are cut off."""
        with self._lock:
            if len(self._open) >= _AT_ONCE:
                return False
            self._open.add(request)
        return True

    def shutdown_request(self, request: Any) -> None:  # noqa: ANN401 - socketserver's
        with self._lock:
            self._open.discard(request)
        super().shutdown_request(request)

    def handle_error(self, request: Any, client_address: Any) -> None:  # noqa: ANN401 - socketserver's
        """A client that went away in the middle is none of an operator's business; the rest is a fault of ours."""
        if not isinstance(sys.exc_info()[1], OSError):
            super().handle_error(request, client_address)

    def hang_up(self) -> None:
        """End the exchanges that go on; server_close waits for their threads."""
        with self._lock:
            for one in self._open:
                with suppress(OSError):  # it has just ended
                    one.shutdown(socket.SHUT_RDWR)


class _Handler(BaseHTTPRequestHandler):
    server: _Server
    timeout = _PATIENCE_S

    def do_GET(self) -> None:
        match self.path.partition("?")[0]:
            case "/metrics":
                self._answer(HTTPStatus.OK, *self.server.metrics.page(self.headers.get("Accept", "")))
            case "/healthz":
                status, text = self.server.metrics.health()
                self._answer(status, "text/plain; charset=utf-8", f"{text}\n".encode())
            case _:
                self._answer(HTTPStatus.NOT_FOUND, "text/plain; charset=utf-8", b"/metrics and /healthz are here\n")

    def _answer(self, status: HTTPStatus, kind: str, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: ANN401 - http.server's
        """Standard error is for the capture."""
