"""Throughput through the primary endpoint beside throughput straight to the node: the endpoint is to cost nothing.

By `valkey-benchmark` or `redis-benchmark` (C): a client in Python would be the limit, and hide what is measured.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import time
from collections.abc import Sequence
from statistics import median
from typing import Any

from benchmarks import groups
from benchmarks.figure import Figure, failed, ratio_of
from benchmarks.installation import BenchmarkError, Installation

NAME = "throughput, endpoint / node"
PROGRAMS = ("valkey-benchmark", "redis-benchmark")
LEAST, MOST = 0.97, 1.03
# Pairs of runs until the ratio is known well enough, or the time is over.
FEWEST_PAIRS = 20
CLOSE_ENOUGH = 0.015
DEPTH_S = 28.0
RUN_S = 0.2
# Pipeline depth -> what one run of RUN_S is guessed to manage, before it is measured.
_FIRST_GUESS = {16: 40_000, 1: 7_000}
_CLIENTS = 16
_RUN_DEADLINE_S = 20
_RATE = re.compile(r"([0-9.]+) requests per second")

Address = tuple[str, int]


def measure(it: Installation) -> list[Figure]:
    program = next((found for name in PROGRAMS if (found := shutil.which(name))), None)
    if program is None:
        return [failed(NAME, f"needs {' or '.join(PROGRAMS)} (on Debian: apt-get install redis-tools)")]
    client = it.client()
    # One node: a replica would compete for the cores, and adds nothing to what is compared.
    with groups.group(client, "endpoint", nodes=1) as group:
        through, straight = addresses(group)
        return [_compare(program, depth, through, straight) for depth in _FIRST_GUESS]


def addresses(group: dict[str, Any]) -> tuple[Address, Address]:
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
        guess = max(1000, int(RUN_S * requests_per_s(program, depth, straight, guess)))
    rates: dict[Address, list[float]] = {through: [], straight: []}
    end = time.monotonic() + DEPTH_S
    pairs = 0
    while pairs < FEWEST_PAIRS or (not _is_known(rates[through], rates[straight]) and time.monotonic() < end):
        # The order turns round each time: a load that grows or fades meanwhile favours neither.
        for address in (through, straight) if pairs % 2 else (straight, through):
            rates[address].append(requests_per_s(program, depth, address, guess))
        pairs += 1
    ratio = ratio_of(rates[through], rates[straight])
    return Figure(
        f"{NAME}, pipeline {depth}",
        f"{ratio.value:.3f} (95 %: {ratio.low:.3f}-{ratio.high:.3f}; of the medians {ratio.of_medians:.3f}), "
        f"{median(rates[straight]):,.0f} SET/s straight",
        f"{LEAST:.2f}-{MOST:.2f}",
        ratio.verdict(LEAST, MOST),
        f"median of {pairs} pairs of runs of {guess:,} SET in turn, {_CLIENTS} clients, 64 bytes; "
        f"the middle half of the runs within +-{_spread(rates[straight]):.0%}",
        ratio.value,
    )


def _is_known(above: Sequence[float], under: Sequence[float]) -> bool:
    ratio = ratio_of(above, under)
    return ratio.high - ratio.low < 2 * CLOSE_ENOUGH


def _spread(values: Sequence[float]) -> float:
    """Half of the middle half's width, as a part of the median."""
    ordered = sorted(values)
    quarter = len(ordered) // 4
    return (ordered[-1 - quarter] - ordered[quarter]) / 2 / median(ordered)


def requests_per_s(program: str, depth: int, address: Address, requests: int, more: Sequence[str] = ()) -> float:
    host, port = address
    command = [program, "-h", host, "-p", str(port), "-t", "set", "-n", str(requests), "-P", str(depth)]
    command += ["-c", str(_CLIENTS), "-r", "10000", "-d", "64", "-q", *more]
    run = subprocess.run(command, capture_output=True, text=True, timeout=_RUN_DEADLINE_S, check=False)
    # -q rewrites one line over and over; the last rate is that of the whole run.
    found = _RATE.findall(run.stdout)
    if run.returncode or not found:
        raise BenchmarkError(f"{program} failed: {(run.stderr or run.stdout)[-300:]}")
    return float(found[-1])
