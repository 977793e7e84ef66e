"""A hundred groups of one node: what the service costs at rest, how long it takes to describe them all, and how soon
it has them again after a kill -9."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from statistics import median
from typing import Any

from benchmarks import api, groups, pages, wire
from benchmarks.figure import Figure, Verdict, below, megabytes, milliseconds, noted, p90, percent, seconds
from benchmarks.installation import BenchmarkError, Installation, wait_for
from benchmarks.machine import cpu_s, pss_bytes, rss_bytes

GROUPS = 100
# 5 to look after them, and 5 to measure each of them every second (10 for 200 nodes).
CPU_LIMIT_PERCENT = 10.0
RSS_LIMIT_BYTES = 200e6
DESCRIBE_LIMIT_S = 0.1
DESCRIBE_TIMES = 20
REST_S = 30.0
CALM_S = 3.0
_CREATE_ALL_DEADLINE_S = 60.0
_PAGE = 100


def measure(it: Installation) -> list[Figure]:
    client = it.client()
    return [
        *_creation(it, client),
        *_rest(it),
        *_describe_all(it, client),
        *pages.measure(it, group_ids()[0]),
        *_api(it),
        *_adoption(it),
    ]


def group_ids() -> list[str]:
    return [f"fleet-{number:03d}" for number in range(GROUPS)]


def _creation(it: Installation, client: Any) -> list[Figure]:
    begin, used = time.perf_counter(), cpu_s(it.pid)
    for group_id in group_ids():
        groups.create(client, group_id, nodes=1)
    called = time.perf_counter() - begin
    wait_for(lambda: _all_available(client), _CREATE_ALL_DEADLINE_S, f"{GROUPS} groups are available", every_s=0.1)
    took, used = time.perf_counter() - begin, cpu_s(it.pid) - used
    more = f" ({GROUPS / took:.0f} groups/s)"
    how = f"one after the other through botocore; the calls alone {called:.1f} s, service processor {used:.1f} s"
    return [noted(f"create {GROUPS} groups: all available", took, seconds, more=more, how=how)]


def _all_available(client: Any) -> bool:
    found = [g["Status"] for g in _described_groups(client) if g["ReplicationGroupId"].startswith("fleet-")]
    if "create-failed" in found:
        raise BenchmarkError(f"{found.count('create-failed')} of {len(found)} groups could not be created")
    return len(found) == GROUPS and set(found) == {"available"}


def _described_groups(client: Any) -> list[dict[str, Any]]:
    pages = client.get_paginator("describe_replication_groups").paginate(PaginationConfig={"PageSize": _PAGE})
    return [group for page in pages for group in page["ReplicationGroups"]]


def _described_clusters(client: Any) -> list[dict[str, Any]]:
    paginator = client.get_paginator("describe_cache_clusters")
    pages = paginator.paginate(ShowCacheNodeInfo=True, PaginationConfig={"PageSize": _PAGE})
    return [cluster for page in pages for cluster in page["CacheClusters"]]


def _rest(it: Installation) -> list[Figure]:
    time.sleep(CALM_S)
    begin, used = time.perf_counter(), cpu_s(it.pid)
    time.sleep(REST_S)
    share = (cpu_s(it.pid) - used) / (time.perf_counter() - begin) * 100
    engines = it.engines()
    pss = pss_bytes(engines)
    own_pss = f" (PSS {megabytes(pss_bytes([it.pid]))})"
    how = f"{GROUPS} groups of one node, each measured every second, nobody asks"
    return [
        below("service at rest: share of a core", share, CPU_LIMIT_PERCENT, percent, how=f"{how}, over {REST_S:g} s"),
        below("service at rest: RSS", rss_bytes(it.pid), RSS_LIMIT_BYTES, megabytes, more=own_pss, how=how),
        noted(
            f"{len(engines)} engines: PSS together",
            pss,
            megabytes,
            more=f" ({pss / max(len(engines), 1) / 1e6:.1f} MB each)",
            how=f"empty, {groups.NODE_TYPE}",
        ),
    ]


def _describe_all(it: Installation, client: Any) -> list[Figure]:
    asked = {
        "DescribeReplicationGroups": wire.signed(it, "DescribeReplicationGroups", MaxRecords=_PAGE),
        "DescribeCacheClusters with nodes": wire.signed(
            it, "DescribeCacheClusters", MaxRecords=_PAGE, ShowCacheNodeInfo="true"
        ),
    }
    figures = []
    with wire.Connection(it) as connection:
        for name, request in asked.items():
            took, body = [], b""
            for _ in range(DESCRIBE_TIMES):
                begin = time.perf_counter()
                body = connection.ask(request)
                took.append(time.perf_counter() - begin)
            found = body.count(b"</ReplicationGroup>") + body.count(b"</CacheCluster>")
            if found < GROUPS or b"<Marker>" in body:
                raise BenchmarkError(f"{name} gave {found} of {GROUPS}, or not all on one page")
            how = f"one page of {found}, {len(body) / 1000:.0f} kB, {DESCRIBE_TIMES} times"
            more = f" (p90 {milliseconds(p90(took))})"
            figures.append(
                below(f"{name}, all {GROUPS}", median(took), DESCRIBE_LIMIT_S, milliseconds, more=more, how=how)
            )
    return [
        *figures,
        _with_botocore("DescribeReplicationGroups", lambda: _described_groups(client)),
        _with_botocore("DescribeCacheClusters with nodes", lambda: _described_clusters(client)),
    ]


def _with_botocore(name: str, ask: Callable[[], object]) -> Figure:
    """As Python programs see it. No promise: most of it is botocore reading XML, in the client's process."""
    took, own = [], time.process_time()
    for _ in range(DESCRIBE_TIMES // 2):
        begin = time.perf_counter()
        ask()
        took.append(time.perf_counter() - begin)
    own = (time.process_time() - own) / len(took)
    more = f" (p90 {milliseconds(p90(took))})"
    how = f"stock paginator, {len(took)} times; the client's own processor time is {milliseconds(own)} of it"
    return noted(f"{name} through botocore", median(took), milliseconds, more=more, how=how)


def _api(it: Installation) -> list[Figure]:
    requests = [wire.signed(it, "DescribeReplicationGroups", ReplicationGroupId=group_id) for group_id in group_ids()]
    return api.describe_rates(it, f"by id, {GROUPS} there", requests)


def _adoption(it: Installation) -> list[Figure]:
    before = sorted(it.engines())
    it.kill()
    begin = time.perf_counter()
    answering = it.start()
    request = wire.signed_status(it)
    with wire.Connection(it) as connection:
        wait_for(lambda: len(_seen(connection.ask(request))) >= GROUPS, 30.0, "all engines are seen again")
        settled = time.perf_counter() - begin
        seen = _seen(connection.ask(request))
    kept = sorted(seen) == before == sorted(it.engines())
    same = "the same processes" if kept else "NOT the same processes"
    how = f"{GROUPS} engines, kill -9 of the service; {same} after"
    empty = f"{how}; {seconds(it.first_start_s)} with nothing stored"
    verdict = Verdict.NOTED if kept else Verdict.FAILED
    return [
        noted("start after a kill: /healthz", answering, seconds, how=empty),
        Figure("start after a kill: every engine seen", seconds(settled), "", verdict, how, settled),
    ]


def _seen(page: bytes) -> Sequence[int]:
    """The pids of the engines that the service has talked to."""
    nodes = [node for group in json.loads(page)["groups"] for node in group["nodes"]]
    return [node["pid"] for node in nodes if node["pid"] and node["role"]]
