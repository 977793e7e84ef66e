"""How long a new replication group takes, from the call until it is available and until it takes a write."""

from __future__ import annotations

import socket
import time
from statistics import median
from typing import Any

from benchmarks import groups
from benchmarks.figure import Figure, below, noted, p90, seconds
from benchmarks.installation import BenchmarkError, Installation

TIMES = 15
LIMIT_S = 1.0
_HOW = f"1 primary + 1 replica, {TIMES} times, looked at every 10 ms through botocore"


def measure(it: Installation) -> list[Figure]:
    client = it.client()
    rounds = [_round(client, f"new-{number}") for number in range(TIMES)]
    available, written, deleted = zip(*rounds, strict=True)
    return [
        below("create group 1+1: available", median(available), LIMIT_S, seconds, more=_p90(available), how=_HOW),
        below("create group 1+1: first SET", median(written), LIMIT_S, seconds, more=_p90(written), how=_HOW),
        noted("delete group 1+1: gone", median(deleted), seconds, more=_p90(deleted)),
    ]


def _p90(values: tuple[float, ...]) -> str:
    return f" (p90 {seconds(p90(values))})"


def _round(client: Any, group_id: str) -> tuple[float, float, float]:
    """Seconds from the call to `available`, and to the first acknowledged SET; then seconds of the delete."""
    begin = time.perf_counter()
    groups.create(client, group_id, nodes=2)
    found = groups.wait_available(client, group_id)
    available = time.perf_counter() - begin
    endpoint = found["NodeGroups"][0]["PrimaryEndpoint"]
    _set(endpoint["Address"], endpoint["Port"])
    written = time.perf_counter() - begin
    begin = time.perf_counter()
    groups.delete(client, group_id)
    return available, written, time.perf_counter() - begin


def _set(host: str, port: int) -> None:
    with socket.create_connection((host, port), timeout=5) as connection:
        connection.sendall(b"SET first write\r\n")
        reply = connection.recv(100)
    if reply != b"+OK\r\n":
        raise BenchmarkError(f"the first SET through {host}:{port} was answered {reply!r}")
