"""How long the service takes for the dashboard's pages, with the caches that are there.

`python -m benchmarks.pages [N]` makes N groups of two nodes (100 unless given: 200 nodes); `measure` takes what an
installation has.
"""

from __future__ import annotations

import http.client
import json
import sys
import time
from contextlib import closing
from statistics import median
from urllib.parse import urlencode

from benchmarks import groups
from benchmarks.figure import Figure, below, milliseconds
from benchmarks.installation import BenchmarkError, Installation, installation
from benchmarks.machine import cpu_s

LIMIT_S = 0.15
ROUNDS = 20
GROUPS = 100
_HISTORY_H = 24


def measure(it: Installation, group_id: str) -> list[Figure]:
    """Server times of the overview, of a group's page, and of one chart of it."""
    nodes = _nodes(it)
    chart = urlencode({"resource": group_id, "metric": "CPUUtilization", "hours": _HISTORY_H})
    pages = {
        f"overview of {nodes} nodes": "/ui/",
        f"overview of {nodes} nodes, renewed": "/ui/rows",
        f"page of a group among {nodes} nodes": f"/ui/group/{group_id}",
        f"chart of {_HISTORY_H} h of a group": f"/ui/chart?{chart}",
    }
    with closing(http.client.HTTPConnection("127.0.0.1", it.port, timeout=30)) as line:
        cookie = _sign_in(line, it)
        return [_timed(it, line, cookie, name, path) for name, path in pages.items()]


def _timed(it: Installation, line: http.client.HTTPConnection, cookie: str, name: str, path: str) -> Figure:
    times: list[float] = []
    size = 0
    used = cpu_s(it.pid)
    for _ in range(ROUNDS):
        begin = time.perf_counter()
        line.request("GET", path, headers={"cookie": cookie})
        answer = line.getresponse()
        size = len(answer.read())
        times.append(time.perf_counter() - begin)
        if answer.status != 200:
            raise BenchmarkError(f"{path}: {answer.status}")
    used = (cpu_s(it.pid) - used) / ROUNDS
    how = f"median of {ROUNDS}, {size / 1000:.0f} kB, {used * 1000:.1f} ms of the service's processor meanwhile"
    return below(name, median(times), LIMIT_S, milliseconds, more=f" (longest {max(times) * 1000:.0f})", how=how)


def _sign_in(line: http.client.HTTPConnection, it: Installation) -> str:
    form = urlencode({"access_key": it.key.id, "secret": it.key.secret})
    line.request("POST", "/ui/sign-in", form, {"content-type": "application/x-www-form-urlencoded"})
    answer = line.getresponse()
    answer.read()
    if answer.status != 303:
        raise BenchmarkError(f"signing in: {answer.status}")
    return str(answer.headers["set-cookie"]).partition(";")[0]


def _nodes(it: Installation) -> int:
    client = it.client()
    pages = client.get_paginator("describe_cache_clusters").paginate()
    return sum(cluster["NumCacheNodes"] for page in pages for cluster in page["CacheClusters"])


def main(count: int) -> None:
    with installation() as it:
        names = [f"pages-{number:03}" for number in range(count)]
        for name in names:
            groups.create(it.client(), name, nodes=2)
        for name in names:
            groups.wait_available(it.client(), name, 120)
        for figure in measure(it, names[0]):
            print(json.dumps({"name": figure.name, "measured": figure.measured, "how": figure.how}))


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else GROUPS)
