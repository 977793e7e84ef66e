"""Throughput through the primary endpoint beside throughput straight to the node: the endpoint is to cost nothing.

By `valkey-benchmark` or `redis-benchmark` (C): a client in Python would be the limit, and hide what is measured.
"""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Sequence
from statistics import median
from typing import Any

from benchmarks import groups
from benchmarks.figure import Figure, Verdict, failed, ratio_of_medians
from benchmarks.installation import BenchmarkError, Installation

NAME = "throughput, endpoint / node"
PROGRAMS = ("valkey-benchmark", "redis-benchmark")
LEAST, MOST = 0.97, 1.03
ALTERNATIONS = 24
RUN_S = 0.45
# Pipeline depth -> what one run of RUN_S is guessed to manage, before it is measured.
_FIRST_GUESS = {16: 100_000, 1: 15_000}
_CLIENTS = 16
_RUN_DEADLINE_S = 20
_RATE = re.compile(r"([0-9.]+) requests per second")

Address = tuple[str, int]


def measure(it: Installation) -> list[Figure]:
    program = next((found for name in PROGRAMS if (found := shutil.which(name))), None)
    if program is None:
        return [failed(NAME, f"needs {' or '.join(PROGRAMS)} (on Debian: apt-get install redis-tools)")]
    client = it.client()
    with groups.group(client, "endpoint", nodes=2) as group:
        through, straight = _addresses(group)
        return [_compare(program, depth, through, straight) for depth in _FIRST_GUESS]


def _addresses(group: dict[str, Any]) -> tuple[Address, Address]:
    """The primary endpoint, and the address of the primary node itself."""
    node_group = group["NodeGroups"][0]
    primary = next(m for m in node_group["NodeGroupMembers"] if m["CurrentRole"] == "primary")
    through, straight = node_group["PrimaryEndpoint"], primary["ReadEndpoint"]
    if through["Address"] == straight["Address"]:
        raise BenchmarkError("this installation has no endpoints of their own: nothing to compare")
    return (through["Address"], through["Port"]), (straight["Address"], straight["Port"])


def _compare(program: str, depth: int, through: Address, straight: Address) -> Figure:
    guess = _FIRST_GUESS[depth]
    # Twice: the first run finds an engine that has never been busy.
    for _ in range(2):
        guess = max(1000, int(RUN_S * _requests_per_s(program, depth, straight, guess)))
    rates: dict[Address, list[float]] = {through: [], straight: []}
    for number in range(ALTERNATIONS):
        # The order turns round each time: a load that grows or fades meanwhile favours neither.
        for address in (through, straight) if number % 2 else (straight, through):
            rates[address].append(_requests_per_s(program, depth, address, guess))
    ratio, low, high = ratio_of_medians(rates[through], rates[straight])
    return Figure(
        f"{NAME}, pipeline {depth}",
        f"{ratio:.3f} (95 %: {low:.3f}-{high:.3f}), {median(rates[straight]):,.0f} SET/s straight",
        f"{LEAST:.2f}-{MOST:.2f}",
        Verdict.MET if LEAST <= ratio <= MOST else Verdict.MISSED,
        f"{ALTERNATIONS} alternating runs each of {guess:,} SET, {_CLIENTS} clients, 1+1; "
        f"runs vary by {_spread(rates[straight]):.0%}",
        ratio,
    )


def _spread(values: Sequence[float]) -> float:
    """Half of the middle half's width, as a part of the median."""
    ordered = sorted(values)
    quarter = len(ordered) // 4
    return (ordered[-1 - quarter] - ordered[quarter]) / 2 / median(ordered)


def _requests_per_s(program: str, depth: int, address: Address, requests: int) -> float:
    host, port = address
    command = [program, "-h", host, "-p", str(port), "-t", "set", "-n", str(requests), "-P", str(depth)]
    command += ["-c", str(_CLIENTS), "-r", "10000", "-d", "64", "-q"]
    run = subprocess.run(command, capture_output=True, text=True, timeout=_RUN_DEADLINE_S, check=False)
    # -q rewrites one line over and over; the last rate is that of the whole run.
    found = _RATE.findall(run.stdout)
    if run.returncode or not found:
        raise BenchmarkError(f"{program} failed: {(run.stderr or run.stdout)[-300:]}")
    return float(found[-1])
