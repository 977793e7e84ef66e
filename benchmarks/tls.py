"""Throughput of TLS through the primary endpoint beside TLS straight to the engine: the endpoint is to cost nothing.

In the mode `required` the engine itself answers at the endpoint. In the mode `preferred` a process of ours stands
there, which tells TLS from plain and hands the bytes on: what that costs is noted.
"""

from __future__ import annotations

import shutil
from statistics import median
from typing import Any

from benchmarks import groups
from benchmarks.endpoint import LEAST, MOST, PROGRAMS, Address, addresses, requests_per_s
from benchmarks.figure import Figure, Verdict, failed, ratio_of
from benchmarks.installation import BenchmarkError, Installation

NAME = "throughput over TLS, endpoint / engine"
_PAIRS, _DEPTH, _RUN_S = 12, 16, 0.3
_FIRST_GUESS = 20_000


def measure(it: Installation) -> list[Figure]:
    program = next((found for name in PROGRAMS if (found := shutil.which(name))), None)
    if program is None:
        return [failed(NAME, f"needs {' or '.join(PROGRAMS)} (on Debian: apt-get install redis-tools)")]
    client = it.client()
    return [_of_mode(client, program, mode) for mode in ("required", "preferred")]


def _of_mode(client: Any, program: str, mode: str) -> Figure:
    name = f"tls-{mode}"
    try:
        _create(client, name, mode, "valkey")
    except client.exceptions.InvalidParameterCombinationException:
        # Whichever was built with TLS here: it is the endpoint that is measured.
        _create(client, name, mode, "redis")
    try:
        return _compare(program, mode, *addresses(groups.wait_available(client, name)))
    finally:
        groups.delete(client, name)


def _create(client: Any, name: str, mode: str, engine: str) -> None:
    client.create_replication_group(
        ReplicationGroupId=name, ReplicationGroupDescription="benchmark", Engine=engine,
        CacheNodeType=groups.NODE_TYPE, NumCacheClusters=1,
        TransitEncryptionEnabled=True, TransitEncryptionMode=mode,
    )  # fmt: skip


def _compare(program: str, mode: str, through: Address, straight: Address) -> Figure:
    # The certificate is proved by the tests; here both sides are to do the same.
    tls = ("--tls", "--insecure")
    guess = _FIRST_GUESS
    for _ in range(2):
        guess = max(1000, int(_RUN_S * requests_per_s(program, _DEPTH, straight, guess, tls)))
    rates: dict[Address, list[float]] = {through: [], straight: []}
    for number in range(_PAIRS):
        for address in (through, straight) if number % 2 else (straight, through):
            rates[address].append(requests_per_s(program, _DEPTH, address, guess, tls))
    ratio = ratio_of(rates[through], rates[straight])
    if not ratio.value > 0:
        raise BenchmarkError(f"nothing was answered at {through}")
    shown = f"{ratio.value:.3f} (95 %: {ratio.low:.3f}-{ratio.high:.3f}), {median(rates[straight]):,.0f} SET/s straight"
    how = f"median of {_PAIRS} pairs of runs of {guess:,} SET in turn, pipeline {_DEPTH}, 64 bytes"
    if mode == "required":
        verdict, target = ratio.verdict(LEAST, MOST), f"{LEAST:.2f}-{MOST:.2f}"
    else:
        verdict, target = Verdict.NOTED, ""
    return Figure(f"{NAME}, {mode}", shown, target, verdict, how, ratio.value)
