"""What the engines bring along themselves, on the same engine: Sentinel, and the failover of cluster mode by gossip.

Their time is timers', not the processor's, so several are measured side by side.
"""

from __future__ import annotations

import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path

from benchmarks.backup_engines import Server, _free_port, server
from benchmarks.backup_wire import HOST
from benchmarks.failover_wire import Place, ask, told, until_written
from benchmarks.installation import BenchmarkError, wait_for
from cachekeep.domain.engine import EngineInstall

DOWN_AFTER_MS = 1000
SIDE_BY_SIDE = 5
_READY_S = 30.0
_WRITE_S = 30.0
_SLOTS = ((0, 5460), (5461, 10922), (10923, 16383))
# Of the first primary's slots.
_KEY = "{3}probe"


def sentinel(install: EngineInstall, sentinels: int, times: int) -> list[float]:
    """Seconds from kill -9 of a primary with two replicas to the first write that one of them accepts."""
    return _rounds(lambda: _sentinel_round(install, sentinels), times)


def gossip(install: EngineInstall, times: int) -> list[float]:
    """Seconds from kill -9 of one of three primaries to the first write that its replica accepts."""
    return _rounds(lambda: _gossip_round(install), times)


def _rounds(one: Callable[[], float], times: int) -> list[float]:
    with ThreadPoolExecutor(SIDE_BY_SIDE) as threads:
        return list(threads.map(lambda _: one(), range(times)))


def _place(it: Server) -> Place:
    return HOST, it.port


def _sentinel_round(install: EngineInstall, sentinels: int) -> float:
    with ExitStack() as stack:
        primary, *replicas = (stack.enter_context(server(install)) for _ in range(3))
        for replica in replicas:
            replica.ask("REPLICAOF", HOST, primary.port)
        wait_for(lambda: _in_sync(primary, 2), _READY_S, "two replicas are in sync")
        quorum = sentinels // 2 + 1
        watching = [stack.enter_context(_one_sentinel(install, primary.port, quorum)) for _ in range(sentinels)]
        for place in watching:
            wait_for(lambda at=place: _knows_all(at, sentinels), _READY_S, "the sentinels know all")  # type: ignore[misc]
        ask(_place(primary), "INCR", "probe")
        begin = time.perf_counter()
        primary.process.kill()
        return until_written([_place(it) for it in replicas], begin, _WRITE_S)


def _in_sync(primary: Server, replicas: int) -> bool:
    return sum("state=online" in line for line in primary.info("replication").values()) == replicas


@contextmanager
def _one_sentinel(install: EngineInstall, primary: int, quorum: int) -> Iterator[Place]:
    folder = Path(tempfile.mkdtemp(prefix="cachekeep-bench-sentinel-"))
    port = _free_port()
    conf = folder / "sentinel.conf"
    conf.write_text(
        f"port {port}\nbind {HOST}\ndir {folder}\nlogfile {folder / 'log'}\n"
        f"sentinel monitor group {HOST} {primary} {quorum}\n"
        f"sentinel down-after-milliseconds group {DOWN_AFTER_MS}\n"
    )
    process = subprocess.Popen(
        [install.program, str(conf), "--sentinel"], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL
    )
    try:
        yield HOST, port
    finally:
        process.kill()
        process.wait(20)
        shutil.rmtree(folder, ignore_errors=True)


def _knows_all(place: Place, sentinels: int) -> bool:
    """It knows the others, and has heard each replica say that it follows: otherwise its first failover is late."""
    try:
        flat = ask(place, "SENTINEL", "MASTER", "group")
        replicas = [_facts(it) for it in ask(place, "SENTINEL", "REPLICAS", "group")]
    except (OSError, BenchmarkError):
        return False
    follow = sum(it["master-link-status"] == "ok" and it["flags"] == "slave" for it in replicas)
    return follow == 2 and _facts(flat)["num-other-sentinels"] == str(sentinels - 1)


def _facts(flat: list[bytes]) -> dict[str, str]:
    words = [word.decode() for word in flat]
    return dict(zip(words[::2], words[1::2], strict=True))


def _gossip_round(install: EngineInstall) -> float:
    options = ("--cluster-enabled", "yes", "--cluster-node-timeout", str(DOWN_AFTER_MS))
    with ExitStack() as stack:
        nodes = [stack.enter_context(server(install, *options)) for _ in range(6)]
        _join(nodes)
        ask(_place(nodes[0]), "INCR", _KEY)
        begin = time.perf_counter()
        nodes[0].process.kill()
        return until_written([_place(nodes[3])], begin, _WRITE_S, _KEY)


def _join(nodes: list[Server]) -> None:
    """Three primaries and three replicas, everyone known to everyone."""
    for epoch, node in enumerate(nodes, 1):
        ask(_place(node), "CLUSTER", "SET-CONFIG-EPOCH", epoch)
    for node, (first, last) in zip(nodes, _SLOTS, strict=False):
        ask(_place(node), "CLUSTER", "ADDSLOTSRANGE", first, last)
    for node in nodes[1:]:
        ask(_place(nodes[0]), "CLUSTER", "MEET", HOST, node.port)
    for node in nodes:
        wait_for(lambda at=node: _known(at) == len(nodes), _READY_S, "the nodes know each other")  # type: ignore[misc]
    for primary, replica in zip(nodes[:3], nodes[3:], strict=True):
        name = ask(_place(primary), "CLUSTER", "MYID")
        ask(_place(replica), "CLUSTER", "REPLICATE", name)
    for node in nodes:
        wait_for(lambda at=node: _ok(at), _READY_S, "the cluster is up")  # type: ignore[misc]
    for primary in nodes[:3]:
        wait_for(lambda at=primary: _in_sync(at, 1), _READY_S, "each primary has its replica")  # type: ignore[misc]
    # Every primary must know who the replicas are, or it does not vote for them.
    for node in nodes:
        wait_for(lambda at=node: _replicas_known(at) == 3, _READY_S, "the replicas are known")  # type: ignore[misc]


def _lines(node: Server) -> list[str]:
    return [line for line in ask(_place(node), "CLUSTER", "NODES").decode().splitlines() if line]


def _known(node: Server) -> int:
    return sum("handshake" not in line for line in _lines(node))


def _replicas_known(node: Server) -> int:
    return sum("slave" in line.split()[2] for line in _lines(node))


def _ok(node: Server) -> bool:
    return told(_place(node), "CLUSTER", "INFO").get("cluster_state") == "ok"
