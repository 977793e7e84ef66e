"""How many DescribeReplicationGroups the service answers in a second, and how much processor time each takes.

Load generator and service share the machine, with whatever else runs on it. Answers per second of the service's
own processor time do not depend on that: it is one process with one busy thread, so this is what one core gives.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import replace
from statistics import median

from benchmarks import groups, wire
from benchmarks.figure import Figure, Verdict, at_least, rate
from benchmarks.installation import Installation
from benchmarks.machine import cpu_s

LEAST_PER_S = 500
CONNECTIONS = 4
ROUNDS = 5
ROUND_S = 2.0
# With less of a core than this the service waited for others, and the rate says nothing about it.
WHOLE_CORE = 0.85
_WARM_UP_S = 0.5


def measure(it: Installation) -> list[Figure]:
    with groups.group(it.client(), "described", nodes=2):
        one = wire.signed(it, "DescribeReplicationGroups", ReplicationGroupId="described")
        every = wire.signed(it, "DescribeReplicationGroups")
        return [*describe_rates(it, "one by id", [one]), *describe_rates(it, "all, one there", [every])]


def describe_rates(it: Installation, what: str, requests: Sequence[bytes]) -> list[Figure]:
    """Answers per second, and answers per second of the service's processor time: medians of the rounds."""
    walls: list[float] = []
    cores: list[float] = []
    client: list[float] = []
    with ExitStack() as stack:
        connections = [stack.enter_context(wire.Connection(it)) for _ in range(CONNECTIONS)]
        wire.flood(connections, requests, _WARM_UP_S)
        for _ in range(ROUNDS):
            used, own = cpu_s(it.pid), time.process_time()
            result = wire.flood(connections, requests, ROUND_S)
            walls.append(result.answers / result.wall_s)
            cores.append(result.answers / (cpu_s(it.pid) - used))
            client.append((time.process_time() - own) / result.answers)
    share = median(walls) / median(cores)
    how = f"{ROUNDS} x {ROUND_S:g} s, {CONNECTIONS} kept connections, signed beforehand"
    per_core = at_least(
        f"describe groups ({what}), per core",
        median(cores),
        LEAST_PER_S,
        rate,
        more=f" ({1000 / median(cores):.2f} ms of processor each)",
        how=how,
    )
    per_second = at_least(
        f"describe groups ({what}), per second",
        median(walls),
        LEAST_PER_S,
        rate,
        more=f" ({min(walls):,.0f}-{max(walls):,.0f})",
        how=f"{how}; the service had {share:.0%} of a core, the client used {median(client) * 1000:.2f} ms each",
    )
    if per_second.verdict is Verdict.MISSED and per_core.verdict is Verdict.MET and share < WHOLE_CORE:
        per_second = replace(per_second, verdict=Verdict.UNCLEAR)
    return [per_core, per_second]
