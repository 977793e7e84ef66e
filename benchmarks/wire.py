"""A lean HTTP client: requests are signed and laid out beforehand, then only sent and counted.

Its own cost per answer is some 20 microseconds, so that the service is what is measured.
"""

from __future__ import annotations

import re
import socket
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Self
from urllib.parse import urlencode

from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

from benchmarks.installation import REGION, BenchmarkError, Installation

_FORM = "application/x-www-form-urlencoded; charset=utf-8"
_LENGTH = re.compile(rb"content-length: *([0-9]+)", re.IGNORECASE)
_TIMEOUT_S = 30.0


def signed(it: Installation, action: str, **params: str | int) -> bytes:
    """A whole POST request as bytes, signed for the next minutes."""
    body = urlencode({"Action": action, "Version": "2015-02-02", **params}).encode()
    return signed_request(it, "POST", "/", body, "elasticache", {"Content-Type": _FORM})


def signed_status(it: Installation) -> bytes:
    """A request for the status page."""
    return signed_request(it, "GET", "/_cachekeep/status", b"", "cachekeep", {})


def signed_request(
    it: Installation, method: str, path: str, body: bytes, service: str, given: Mapping[str, str]
) -> bytes:
    """A whole request as bytes. given: headers beside those that signing and HTTP add."""
    request = AWSRequest(method, f"{it.url}{path}", dict(given), body)
    SigV4Auth(Credentials(it.key.id, it.key.secret), service, REGION).add_auth(request)
    headers = {"Host": f"127.0.0.1:{it.port}", "Content-Length": str(len(body)), **dict(request.headers.items())}
    lines = [f"{method} {path} HTTP/1.1", *(f"{name}: {value}" for name, value in headers.items())]
    return "\r\n".join([*lines, "", ""]).encode() + body


class Connection:
    """One kept connection: `send`, then `receive`."""

    def __init__(self, it: Installation) -> None:
        self._socket = socket.create_connection(("127.0.0.1", it.port), timeout=_TIMEOUT_S)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._socket.close()

    def ask(self, request: bytes) -> bytes:
        self.send(request)
        return self.receive()

    def send(self, request: bytes) -> None:
        self._socket.sendall(request)

    def receive(self) -> bytes:
        """The body of one answer. Raises BenchmarkError unless its status is 200."""
        got = self._more()
        while (end := got.find(b"\r\n\r\n")) < 0:
            got += self._more()
        length = _LENGTH.search(got, 0, end)
        if length is None or not got.startswith(b"HTTP/1.1 200"):
            raise BenchmarkError(f"the service answered {got[:600]!r}")
        whole = end + 4 + int(length[1])
        while len(got) < whole:
            got += self._more()
        return got[end + 4 :]

    def _more(self) -> bytes:
        chunk = self._socket.recv(1 << 20)
        if not chunk:
            raise BenchmarkError("the service closed the connection")
        return chunk


@dataclass(frozen=True)
class Flood:
    """What came of asking as fast as the service answers."""

    answers: int
    wall_s: float


def flood(connections: Sequence[Connection], requests: Sequence[bytes], seconds: float) -> Flood:
    """One request under way on every connection all the time, the requests in turn, for so many seconds."""
    answers = sent = 0
    begin = time.perf_counter()
    for connection in connections:
        connection.send(requests[sent % len(requests)])
        sent += 1
    while time.perf_counter() - begin < seconds:
        for connection in connections:
            connection.receive()
            answers += 1
            connection.send(requests[sent % len(requests)])
            sent += 1
    for connection in connections:
        connection.receive()
        answers += 1
    return Flood(answers, time.perf_counter() - begin)
