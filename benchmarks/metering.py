"""What collecting costs: Cachekeep's CPU and memory per node and second, and the throughput of an engine that is read.

`python -m benchmarks.metering [PAIRS]`. Real engines; they need no installation. Load and reading are of processes and
threads of their own, so on a machine with two cores the engine's own CPU says more than its throughput.
"""

from __future__ import annotations

import asyncio
import sys
import threading
import time
import tracemalloc
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import uvloop

from benchmarks.backup_engines import Server, server
from benchmarks.backup_meter import metered
from benchmarks.backup_wire import HOST, Wire
from benchmarks.figure import Figure, Verdict, below, noted, percent, ratio_of
from benchmarks.installation import BenchmarkError
from benchmarks.machine import this_machine
from benchmarks.report import as_table
from cachekeep.data.metrics import command_families, metrics
from cachekeep.domain.engine import Engine, EngineInstall
from cachekeep.domain.metrics import Place
from cachekeep.domain.nodes import Address
from cachekeep.engine.meter import EngineMeter
from cachekeep.host.installs import MachineCatalogue
from cachekeep.host.meter import MachineMeter
from cachekeep.monitor.collect import PROCESS_EVERY
from cachekeep.monitor.gathering import Gathering
from cachekeep.monitor.readings import Vocabulary

_NODES, _ENGINES, _ROUNDS = 200, 10, 60
_CHANGES, _KEYS, _PAIRS = 60_000, 50_000, 20
_READS, _LINKS, _RUNS = 1000, 3, 5
# One reading a second is far below what two runs differ by; so many are not, and each costs the same.
_READS_PER_S = 100
_WANTED_CORE, _WANTED_ENGINE = 10.0, 0.5
_COMMANDS = ("GET", "EXISTS", "TYPE", "TTL", "STRLEN", "OBJECT ENCODING", "HGETALL", "LRANGE", "ZCARD", "SCARD")


def of_collecting(install: EngineInstall) -> Iterator[Figure]:
    """One minute of all that is done for each node: reading, gauges, its process, counters and latencies at the end."""
    with ExitStack() as stack:
        servers = [stack.enter_context(server(install)) for _ in range(_ENGINES)]
        for one in servers:
            _used(one)
            # The sockets of so many nodes with their usual connections: service, meter, primary or replica.
            for _ in range(_LINKS * _NODES // _ENGINES):
                stack.enter_context(Wire(one.port))
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runs = [runner.run(_minute(servers)) for _ in range(_RUNS)]
            kept: list[object] = []
            tracemalloc.start()
            runner.run(_minute(servers, kept))
            kept_bytes = tracemalloc.get_traced_memory()[0] / _ENGINES
            tracemalloc.stop()
            assert kept
    # The least of all runs: what others do on the machine only adds to it.
    spent = {what: min(run[what] for run in runs) for what in runs[0]}
    how = f"{_ENGINES} engines in turn, {_ROUNDS} seconds of each without a pause; least of {_RUNS} runs"
    core = 100.0 * sum(spent.values()) * _NODES
    parts = "".join(f", {what} {seconds * 1e6:.0f} us" for what, seconds in spent.items())
    yield below(f"CPU of {_NODES} nodes a second", core, _WANTED_CORE, percent, more=f" of a core{parts}", how=how)
    yield noted("memory kept per node after a minute", kept_bytes, lambda b: f"{b / 1000:.1f} kB", how=how)


async def _minute(servers: list[Server], kept: list[object] | None = None) -> dict[str, float]:
    """CPU seconds per node and second, by what they were spent on."""
    vocabulary = Vocabulary.of(metrics(), command_families(), speaks_resp=True)
    meter, host = EngineMeter(), MachineMeter()
    nodes = [(one, Place(Address(HOST, one.port)), Gathering(vocabulary, speaks_resp=True)) for one in servers]
    owners = {place.address: str(place.address) for _, place, _ in nodes}
    spent = dict.fromkeys(("reading", "gauges", "process", "traffic", "machine", "end of a minute"), 0.0)
    mark = time.process_time()

    def add(what: str, nodes: int = _ENGINES) -> None:
        nonlocal mark
        now = time.process_time()
        spent[what] += (now - mark) / nodes / _ROUNDS
        mark = now

    for second in range(_ROUNDS):
        if second % PROCESS_EVERY == 0:
            processes = host.processes([one.process.pid for one in servers])
        add("process")
        host.traffic(owners)
        add("traffic", _NODES)
        host.machine()
        add("machine", _NODES)
        for one, place, gathering in nodes:
            fields = await meter.read(place)
            add("reading")
            gathering.see(float(second), fields, processes.get(one.process.pid), {"FreeableMemory": 1e9})
            add("gauges")
    for _, place, gathering in nodes:
        gathering.close(float(_ROUNDS), await meter.latencies(place))
    add("end of a minute")
    if kept is not None:
        kept.append((meter, nodes))
    else:
        await meter.close()
    host.close()
    return spent


def of_engine(install: EngineInstall, pairs: int) -> Iterator[Figure]:
    """An engine under full load, each time with readings and without; then what one reading costs it."""
    changes, keys = str(_CHANGES), str(_KEYS)
    with server(install) as loaded:
        load = [sys.executable, "-m", "benchmarks.follow_load", str(loaded.port), "0", changes, keys]
        rates: dict[bool, list[float]] = {True: [], False: []}
        cpu: dict[bool, list[float]] = {True: [], False: []}
        metered(load)
        for pair in range(pairs):
            for reading in (pair % 2 == 0, pair % 2 == 1):
                with _read(loaded) if reading else ExitStack():
                    before = loaded.cpu_s()
                    rates[reading].append(_CHANGES / float(metered(load).page["seconds"]))
                    cpu[reading].append(loaded.cpu_s() - before)
        how = (
            f"{pairs} pairs of {_CHANGES:,} SETs as fast as it gets; {_READS_PER_S} readings a second, divided by that"
        )
        yield _cost("throughput", rates[False], rates[True], how)
        yield _cost("CPU a command", cpu[True], cpu[False], how)
        share = 100.0 * asyncio.run(_cost_of_a_read(loaded))
    how = f"{_READS} readings of an idle engine: its own CPU per reading"
    yield below("share of an engine's core, by its own CPU", share, _WANTED_ENGINE, lambda v: f"{v:.3f} %", how=how)


def _cost(what: str, above: list[float], under: list[float], how: str) -> Figure:
    """above, under: of the pairs; above grows when reading costs something."""
    ratio = ratio_of(above, under)
    value, low, high = (100.0 * (each - 1.0) / _READS_PER_S for each in (ratio.value, ratio.low, ratio.high))
    verdict = Verdict.MET if high < _WANTED_ENGINE else Verdict.UNCLEAR if low < _WANTED_ENGINE else Verdict.MISSED
    name = f"cost of a reading a second for an engine, {what}"
    return Figure(name, f"{value:+.3f} % ({low:+.3f} to {high:+.3f})", f"< {_WANTED_ENGINE} %", verdict, how, value)


async def _cost_of_a_read(one: Server) -> float:
    """Seconds of the engine's CPU."""
    meter, place = EngineMeter(), Place(Address(HOST, one.port))
    await meter.read(place)
    before = one.cpu_s()
    for _ in range(_READS):
        await meter.read(place)
    cost = (one.cpu_s() - before) / _READS
    await meter.close()
    return cost


@contextmanager
def _read(one: Server) -> Iterator[None]:
    """As often as `_READS_PER_S`, from now on."""
    ended = threading.Event()

    async def read() -> None:
        meter, place = EngineMeter(), Place(Address(HOST, one.port))
        begin, count = time.monotonic(), 0
        while not ended.is_set():
            await meter.read(place)
            count += 1
            await asyncio.sleep(max(0.0, begin + count / _READS_PER_S - time.monotonic()))
        await meter.close()

    thread = threading.Thread(target=asyncio.run, args=(read(),))
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


def _used(one: Server) -> None:
    """An engine that has been used has a line for each command."""
    one.ask("SET", "key", "x" * 100)
    for command in _COMMANDS:
        try:
            one.ask(*command.split(), "key", *(("0", "1") if command == "LRANGE" else ()))
        except RuntimeError:  # a wrong type: refused commands have their lines too
            continue


def main() -> None:
    pairs = int(sys.argv[1]) if len(sys.argv) > 1 else _PAIRS
    install = MachineCatalogue().best(Engine.VALKEY, None)
    if install is None:
        raise BenchmarkError("no Valkey on this machine")
    before, begin = this_machine(), time.perf_counter()
    figures = [*of_collecting(install), *of_engine(install, pairs)]
    as_table(figures, before, this_machine(), time.perf_counter() - begin)


if __name__ == "__main__":
    main()
