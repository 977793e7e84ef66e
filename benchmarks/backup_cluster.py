"""Three primaries copied side by side, beside the same three one after the other.

At first each is a cluster by itself with its third of the keys and all slots; then they are made one. So both ways
read the same servers by the same commands.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

from benchmarks.backup_engines import Server, described, server
from benchmarks.backup_meter import backup, end
from benchmarks.backup_wire import HOST
from benchmarks.figure import Figure, Verdict
from benchmarks.installation import BenchmarkError, wait_for
from benchmarks.machine import this_machine
from cachekeep.domain.engine import EngineInstall

SLOTS = ((0, 5460), (5461, 10922), (10923, 16383))
_LAST_SLOT = 16383
_DEADLINE_S = 120.0


def side_by_side(install: EngineInstall, keys: int, place: Path) -> Iterator[Figure]:
    with ExitStack() as stack:
        nodes = [stack.enter_context(server(install, "--cluster-enabled", "yes")) for _ in SLOTS]
        for epoch, node in enumerate(nodes, 1):
            _cluster(node, "SET-CONFIG-EPOCH", epoch)
            _cluster(node, "ADDSLOTSRANGE", 0, _LAST_SLOT)
            wait_for(lambda node=node: _is_whole(node, 1), _DEADLINE_S, "a cluster of one is up")  # type: ignore[misc]
        _fill(nodes, keys)
        one_by_one = [backup("run", node.url, str(place / str(node.port)), "--source", "scan") for node in nodes]
        _join(nodes)
        before_s = sum(node.cpu_s() for node in nodes)
        together = backup("run", nodes[0].url, str(place / "cluster"), "--source", "scan")
        servers_s = sum(node.cpu_s() for node in nodes) - before_s
        held = sum(node.keys() for node in nodes)
    copied = sum(together.page["keys"].values())
    if copied != held:
        raise BenchmarkError(f"of {held:,} keys of the cluster {copied:,} were copied")
    apart_s = sum(run.work_s for run in one_by_one)
    ratio = apart_s / together.work_s
    busy = (servers_s + together.cpu_s) / together.wall_s
    yield Figure(
        f"3 primaries copied side by side / one after the other, {described(install)}",
        f"{ratio:.2f} times as fast, {copied / float(together.page['seconds']):,.0f} keys/s",
        "> 1",
        Verdict.MET if ratio > 1 else Verdict.MISSED,
        f"{copied:,} keys; {busy:.1f} of {this_machine().cores} cores busy with it",
        ratio,
    )


def _fill(nodes: list[Server], keys: int) -> None:
    fills: list[subprocess.Popen[bytes]] = []
    try:
        for node, (first, last) in zip(nodes, SLOTS, strict=True):
            argv = [sys.executable, "-m", "benchmarks.keyspace", str(node.port), str(keys), f"{first}-{last}"]
            fills.append(subprocess.Popen(argv, stdin=subprocess.DEVNULL, start_new_session=True))
        if sum(fill.wait(_DEADLINE_S) != 0 for fill in fills):
            raise BenchmarkError("a node could not be filled")
    finally:
        for fill in fills:
            end(fill)


def _join(nodes: list[Server]) -> None:
    """Each keeps its third of the slots, and meets the others."""
    for node, own in zip(nodes, SLOTS, strict=True):
        for first, last in SLOTS:
            if (first, last) != own:
                _cluster(node, "DELSLOTSRANGE", first, last)
    for node in nodes[1:]:
        _cluster(nodes[0], "MEET", HOST, node.port)
    for node in nodes:
        wait_for(lambda node=node: _is_whole(node, len(nodes)), _DEADLINE_S, "a cluster of three is up")  # type: ignore[misc]


def _is_whole(node: Server, size: int) -> bool:
    state = _cluster(node, "INFO")
    return state["cluster_state"] == "ok" and int(state["cluster_size"]) == size


def _cluster(node: Server, *words: str | int) -> dict[str, str]:
    text = node.ask("CLUSTER", *words).decode()
    return dict(line.split(":", 1) for line in text.split("\r\n") if ":" in line)
