"""Snapshots beside what the engine does itself: BGSAVE, and loading its own file; and what clients feel meanwhile.

All in one run on one machine, in turns: only the ratios mean something elsewhere.
"""

from __future__ import annotations

import random
import shutil
import tempfile
import threading
import time
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple, cast

import valkey

from benchmarks.backup_engines import engines, server
from benchmarks.backup_probe import p99
from benchmarks.failover import at_most, part
from benchmarks.figure import Figure, milliseconds, noted, ratio_of, seconds
from benchmarks.installation import BenchmarkError, Installation, installation, wait_for
from benchmarks.machine import family_cpu_s

KEYS, VALUE_BYTES, BATCH, ROUNDS = 1_000_000, 200, 2_000, 5
NODE_TYPE = "cache.m6g.large"
SAVE_RATIO, LOAD_RATIO = 1.3, 1.3
_DEADLINE_S = 180.0
_PROBE_EVERY_S = 0.002
# Oftener, and the answers would take a core from what is measured.
_ASK_EVERY_S = 0.05


def measure() -> Generator[Figure, None, None]:
    """Figures as they come."""
    with installation() as it:
        yield from part("snapshots", lambda: _snapshots(it))


def _snapshots(it: Installation) -> Iterator[Figure]:
    client = it.client()
    node = _cluster(client, "source")
    _fill(node)
    engine = _pid(node)
    saves, takes, felt_saving, felt_taking = list[_Cost](), list[_Cost](), list[float](), list[float]()
    for number in range(ROUNDS):
        with _probing(node, felt_saving), _costing(saves, engine):
            _bgsave(node)
        with _probing(node, felt_taking), _costing(takes, engine, it.pid):
            _take(client, f"snap-{number}")
    yield from _beside("snapshot / BGSAVE", takes, saves, SAVE_RATIO)
    yield noted("p99 of GET during BGSAVE", p99(sorted(felt_saving)), milliseconds)
    yield noted("p99 of GET during a snapshot", p99(sorted(felt_taking)), milliseconds)
    loads, restores = list[_Cost](), list[_Cost]()
    for number in range(ROUNDS):
        loads.append(_own_load(it))
        restores.append(_restore(it, client, f"again-{number}"))
    yield from _beside("restore / the engine's own load", restores, loads, LOAD_RATIO)


class _Cost(NamedTuple):
    """Seconds by the clock, and of processor time in all processes that worked on it."""

    wall: float
    cpu: float


def _beside(name: str, ours: list[_Cost], its: list[_Cost], limit: float) -> Iterator[Figure]:
    wall = ratio_of([one.wall for one in ours], [one.wall for one in its])
    cpu = ratio_of([one.cpu for one in ours], [one.cpu for one in its])
    how = f"{KEYS:,} keys of {VALUE_BYTES} bytes, median of {ROUNDS} pairs in turns"
    how += f" (95 %: {wall.low:.2f}-{wall.high:.2f}); {seconds(median(one.wall for one in ours))} until available"
    how += f" beside {seconds(median(one.wall for one in its))}"
    yield at_most(name, wall.value, limit, _ratio, how=how)
    how = f"{seconds(median(one.cpu for one in ours))} beside {seconds(median(one.cpu for one in its))}"
    yield noted(f"{name}, processor time", cpu.value, _ratio, how=how)


@contextmanager
def _costing(costs: list[_Cost], *pids: int) -> Iterator[None]:
    begin, before = time.perf_counter(), sum(map(family_cpu_s, pids))
    yield
    costs.append(_Cost(time.perf_counter() - begin, sum(map(family_cpu_s, pids)) - before))


def _ratio(value: float) -> str:
    return f"{value:.2f}x"


def _cluster(client: Any, name: str, **more: Any) -> valkey.Valkey:
    client.create_cache_cluster(CacheClusterId=name, **({"Engine": "valkey", "CacheNodeType": NODE_TYPE} | more))

    def shown() -> dict[str, Any]:
        return dict(client.describe_cache_clusters(CacheClusterId=name, ShowCacheNodeInfo=True)["CacheClusters"][0])

    wait_for(lambda: shown()["CacheClusterStatus"] != "creating", _DEADLINE_S, f"{name} is created", _ASK_EVERY_S)
    if shown()["CacheClusterStatus"] != "available":
        raise BenchmarkError(f"{name} is {shown()['CacheClusterStatus']}")
    endpoint = shown()["CacheNodes"][0]["Endpoint"]
    return valkey.Valkey(host=endpoint["Address"], port=endpoint["Port"])


def _fill(node: valkey.Valkey) -> None:
    chance = random.Random(1)
    for first in range(0, KEYS, BATCH):
        node.mset({f"key:{n}": chance.randbytes(VALUE_BYTES) for n in range(first, first + BATCH)})


def _info(node: valkey.Valkey) -> dict[str, Any]:
    return dict(cast(dict[str, Any], node.info("persistence")))


def _pid(node: valkey.Valkey) -> int:
    return int(cast(dict[str, Any], node.info("server"))["process_id"])


def _bgsave(node: valkey.Valkey) -> None:
    node.bgsave()
    wait_for(lambda: not _info(node)["rdb_bgsave_in_progress"], _DEADLINE_S, "BGSAVE")


def _take(client: Any, name: str) -> None:
    client.create_snapshot(SnapshotName=name, CacheClusterId="source")

    def available() -> bool:
        return bool(client.describe_snapshots(SnapshotName=name)["Snapshots"][0]["SnapshotStatus"] == "available")

    wait_for(available, _DEADLINE_S, f"{name} is available", _ASK_EVERY_S)


def _own_load(it: Installation) -> _Cost:
    """The file that BGSAVE left, into an engine started by hand."""
    (saved,) = (it.state_dir / "nodes").glob("*/source/0001/dump.rdb")
    with tempfile.TemporaryDirectory(prefix="cachekeep-bench-") as folder:
        copy = Path(shutil.copy(saved, folder))
        begin = time.perf_counter()
        with server(engines()[-1], rdb=copy) as loaded:
            took = time.perf_counter() - begin
            if loaded.keys() != KEYS:
                raise BenchmarkError(f"the engine loaded {loaded.keys():,} keys")
            return _Cost(took, loaded.cpu_s())


def _restore(it: Installation, client: Any, name: str) -> _Cost:
    begin, before = time.perf_counter(), family_cpu_s(it.pid)
    node = _cluster(client, name, SnapshotName="snap-0")
    took = time.perf_counter() - begin
    # What the service has waited for until now is the process that unpacked; the engine runs.
    cpu = family_cpu_s(it.pid) - before + family_cpu_s(_pid(node))
    if node.dbsize() != KEYS:
        raise BenchmarkError(f"{name} has {node.dbsize():,} keys")
    client.delete_cache_cluster(CacheClusterId=name)
    wait_for(lambda: name not in _names(client), _DEADLINE_S, f"{name} is deleted")
    return _Cost(took, cpu)


def _names(client: Any) -> list[str]:
    return [str(one["CacheClusterId"]) for one in client.describe_cache_clusters()["CacheClusters"]]


@contextmanager
def _probing(node: valkey.Valkey, felt: list[float]) -> Iterator[None]:
    """GETs one after the other while the block runs; what each took is added."""
    over = threading.Event()

    def ask() -> None:
        while not over.wait(_PROBE_EVERY_S):
            begin = time.perf_counter()
            node.get("key:1")
            felt.append(time.perf_counter() - begin)

    thread = threading.Thread(target=ask)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
