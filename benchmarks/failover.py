"""How long nobody takes writes: after kill -9 of a primary, and while a living one hands over.

Beside each figure stands, in the same run and on the same engine, what Sentinel and gossip need. Theirs are flattered:
for them the client tries the replicas themselves, for us only the endpoint.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import contextmanager
from statistics import median
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError

from benchmarks import failover_rivals, groups
from benchmarks.backup_engines import described, engines
from benchmarks.failover_load import Load, load
from benchmarks.failover_wire import Place, ask, told, until_written
from benchmarks.figure import Figure, Verdict, failed, milliseconds, noted
from benchmarks.installation import BenchmarkError, Installation, installation, wait_for

ROUNDS = 50
SETTLED_WITHIN_S = 60.0
WRITE_WITHIN_S = 30.0
WRITERS = 2
ENOUGH_WRITES, ENOUGH_WITHIN_S = 100_000, 60.0
CRASH_MEDIAN_S, CRASH_P99_S = 0.050, 0.250
SWITCH_MEDIAN_S = 0.010
BETWEEN_SWITCHES_S = 0.2
CLUSTER_ON = "default.valkey9.cluster.on"


def measure(rounds: int) -> Generator[Figure, None, None]:
    """Figures as they come."""
    with installation() as it:
        yield from part("crash failover", lambda: _crashes(it, rounds))
        yield from part("crash failover in cluster mode", lambda: _cluster_crashes(it, rounds))
        yield from part("switchover", lambda: _switches(it, rounds))
    yield from part("Sentinel and gossip", lambda: _rivals(rounds))


def part(name: str, measured: Callable[[], Iterator[Figure]]) -> Iterator[Figure]:
    """One part failing is no reason to miss the others."""
    print(f"measuring: {name} ...", file=sys.stderr, flush=True)
    try:
        yield from measured()
    except (BenchmarkError, BotoCoreError, ClientError, OSError, subprocess.SubprocessError) as error:
        yield failed(name, str(error))


def p99(values: Sequence[float]) -> float:
    """The smallest value that 99 of 100 do not exceed."""
    ordered = sorted(values)
    return ordered[max(0, -(-len(ordered) * 99 // 100) - 1)]


def at_most(name: str, value: float, limit: float, show: Callable[[float], str], *, how: str = "") -> Figure:
    verdict = Verdict.MET if value <= limit else Verdict.MISSED
    return Figure(name, show(value), f"<= {show(limit)}", verdict, how, value)


def none(name: str, value: int, how: str) -> Figure:
    """Judge a count that is to be zero."""
    return Figure(name, f"{value:,}", "0", Verdict.MISSED if value else Verdict.MET, how, float(value))


def _pair(name: str, values: Sequence[float], median_s: float, p99_s: float | None, how: str) -> Iterator[Figure]:
    yield at_most(f"{name}: median", median(values), median_s, milliseconds, how=how)
    if p99_s is not None:
        yield at_most(f"{name}: p99", p99(values), p99_s, milliseconds, how=f"least {milliseconds(min(values))}")
    else:
        yield noted(f"{name}: p99", p99(values), milliseconds)


def _crashes(it: Installation, rounds: int) -> Iterator[Figure]:
    client = it.client()
    with made(client, "crash", NumCacheClusters=3) as group:
        place = endpoint(group)
        took = [_crash(it, client, "crash", place, [place], "probe", 2) for _ in range(rounds)]
    how = f"1 primary + 2 replicas, {rounds} times, a reconnecting client at the primary endpoint"
    yield from _pair("kill -9 of a primary -> next accepted write", took, CRASH_MEDIAN_S, CRASH_P99_S, how)


def _cluster_crashes(it: Installation, rounds: int) -> Iterator[Figure]:
    client, key = it.client(), "{3}probe"
    shape = {"NumNodeGroups": 3, "ReplicasPerNodeGroup": 1, "CacheParameterGroupName": CLUSTER_ON}
    with made(client, "shards", **shape):
        took = []
        for _ in range(rounds):
            places = members(client, "shards", "0001")
            took.append(_crash(it, client, "shards", _primary(places), places, key, 1))
    how = f"3 primaries + 3 replicas, {rounds} times, a reconnecting client that knows the shard's members"
    yield from _pair("cluster mode, kill -9 -> next accepted write", took, CRASH_MEDIAN_S, CRASH_P99_S, how)


def _crash(
    it: Installation, client: Any, group_id: str, primary: Place, places: list[Place], key: str, replicas: int
) -> float:
    """Kill the primary once all are in sync; seconds until one of the places accepts a write."""
    wait_for(lambda: settled(client, group_id), SETTLED_WITHIN_S, f"{group_id} is whole")
    wait_for(lambda: in_sync(primary) == replicas, SETTLED_WITHIN_S, "replicas are in sync")
    pid = int(told(primary, "INFO", "server")["process_id"])
    assert pid in it.engines()
    ask(primary, "INCR", key)
    begin = time.perf_counter()
    os.kill(pid, signal.SIGKILL)
    return until_written(places, begin, WRITE_WITHIN_S, key)


def _switches(it: Installation, rounds: int) -> Iterator[Figure]:
    """By PrimaryClusterId: TestFailover may be asked for 15 times a day."""
    client = it.client()
    with made(client, "switch", NumCacheClusters=2, AutomaticFailoverEnabled=False) as group:
        start = endpoint(group)
        with load(start, WRITERS) as writers:
            spans = [_switch(client, "switch") for _ in range(rounds)]
            wait_for(lambda: writers.so_far(start) >= ENOUGH_WRITES, ENOUGH_WITHIN_S, "enough writes", 0.2)
        lost = writers.lost(start, cluster=False)
    yield from _switched(writers, spans, lost)


def _switched(writers: Load, spans: list[tuple[float, float, float]], lost: int) -> Iterator[Figure]:
    gaps = [writers.longest(begin, moved) for begin, moved, _ in spans]
    quiet = [writers.longest(moved, end) for _, moved, end in spans]
    how = f"{len(spans)} times, {WRITERS} writers, the longest pause that any of them had"
    yield from _pair("planned switchover, client gap", gaps, SWITCH_MEDIAN_S, None, how)
    how = f"the same in {BETWEEN_SWITCHES_S:g} s after each: what this machine does by itself"
    yield noted("no switchover, client gap: median", median(quiet), milliseconds, how=how)
    how = f"of {writers.acknowledged:,} acknowledged; {writers.broken} more got no answer; {writers.errors()}"
    yield none("planned switchover, lost writes", lost, how)


def _switch(client: Any, group_id: str) -> tuple[float, float, float]:
    """When it was asked for, when the other was primary, and a while after; monotonic."""
    wait_for(lambda: settled(client, group_id), SETTLED_WITHIN_S, f"{group_id} is whole")
    shard = groups.describe(client, group_id)["NodeGroups"][0]
    (other,) = (m["CacheClusterId"] for m in shard["NodeGroupMembers"] if m["CurrentRole"] == "replica")
    begin = time.monotonic()
    client.modify_replication_group(ReplicationGroupId=group_id, PrimaryClusterId=other, ApplyImmediately=True)

    def moved() -> bool:
        now = groups.describe(client, group_id)["NodeGroups"][0]["NodeGroupMembers"]
        return any(m["CacheClusterId"] == other and m["CurrentRole"] == "primary" for m in now)

    wait_for(moved, SETTLED_WITHIN_S, f"{other} is primary")
    done = time.monotonic()
    time.sleep(BETWEEN_SWITCHES_S)
    return begin, done, time.monotonic()


def _rivals(rounds: int) -> Iterator[Figure]:
    install = engines()[-1]
    for count in (1, 3):
        took = failover_rivals.sentinel(install, count, rounds)
        name = f"{count} Sentinel{'s' if count > 1 else ''}, down-after {failover_rivals.DOWN_AFTER_MS}"
        yield _rival(name, took, f"{described(install)}, 1 primary + 2 replicas, {rounds} times")
    took = failover_rivals.gossip(install, rounds)
    yield _rival("gossip, node-timeout 1000", took, f"{described(install)}, 3 + 3, {rounds} times")


def _rival(name: str, took: list[float], how: str) -> Figure:
    more = f" (p99 {milliseconds(p99(took))})"
    return noted(f"{name}: kill -9 -> next accepted write: median", median(took), milliseconds, more=more, how=how)


@contextmanager
def made(client: Any, group_id: str, **more: Any) -> Iterator[dict[str, Any]]:
    """A group that is available, as described; deleted after the block."""
    more.setdefault("AutomaticFailoverEnabled", True)
    client.create_replication_group(
        ReplicationGroupId=group_id,
        ReplicationGroupDescription="benchmark",
        Engine="valkey",
        CacheNodeType=groups.NODE_TYPE,
        **more,
    )
    try:
        yield groups.wait_available(client, group_id)
    finally:
        wait_for(lambda: _deleting(client, group_id), SETTLED_WITHIN_S, f"{group_id} can be deleted", 0.2)
        wait_for(lambda: _gone(client, group_id), SETTLED_WITHIN_S, f"{group_id} is deleted")


def _deleting(client: Any, group_id: str) -> bool:
    try:
        client.delete_replication_group(ReplicationGroupId=group_id)
    except client.exceptions.InvalidReplicationGroupStateFault:
        return False
    except client.exceptions.ReplicationGroupNotFoundFault:
        return True
    return True


def _gone(client: Any, group_id: str) -> bool:
    try:
        groups.describe(client, group_id)
    except client.exceptions.ReplicationGroupNotFoundFault:
        return True
    return False


def endpoint(group: dict[str, Any]) -> Place:
    """The primary endpoint, or the configuration endpoint."""
    found = group["ConfigurationEndpoint"] if group["ClusterEnabled"] else group["NodeGroups"][0]["PrimaryEndpoint"]
    return found["Address"], found["Port"]


def members(client: Any, group_id: str, shard: str) -> list[Place]:
    """Where the members of a shard listen."""
    described_ = groups.describe(client, group_id)["NodeGroups"]
    (mine,) = (it["NodeGroupMembers"] for it in described_ if it["NodeGroupId"] == shard)
    names = {it["CacheClusterId"] for it in mine}
    found = client.describe_cache_clusters(ShowCacheNodeInfo=True)["CacheClusters"]
    ends = [it["CacheNodes"][0]["Endpoint"] for it in found if it["CacheClusterId"] in names]
    return [(it["Address"], it["Port"]) for it in ends]


def _primary(places: list[Place]) -> Place:
    found: list[Place] = []

    def only() -> bool:
        found[:] = [place for place in places if _role(place) == "master"]
        return len(found) == 1

    wait_for(only, SETTLED_WITHIN_S, "the shard has one primary")
    return found[0]


def _role(place: Place) -> str:
    try:
        return told(place, "INFO", "replication")["role"]
    except OSError:
        return ""


def settled(client: Any, group_id: str) -> bool:
    """The group and all of its members are available."""
    if groups.describe(client, group_id)["Status"] != "available":
        return False
    found = client.describe_cache_clusters(ShowCacheNodeInfo=True)["CacheClusters"]
    mine = [it for it in found if it.get("ReplicationGroupId") == group_id]
    return all(
        it["CacheClusterStatus"] == "available" and it["CacheNodes"][0]["CacheNodeStatus"] == "available" for it in mine
    )


def in_sync(primary: Place) -> int:
    try:
        lines = told(primary, "INFO", "replication").values()
    except OSError:
        return 0
    return sum("state=online" in line and ("lag=0" in line or "lag=1" in line) for line in lines)
