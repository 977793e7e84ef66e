"""The collector on living engines: whom it sees, what a minute's end gives, silence, and a clock that jumps."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any

from cachekeep.data.metrics import command_families, metrics
from cachekeep.domain.metrics import MINUTE_S, Place, Subject
from cachekeep.domain.nodes import Address
from cachekeep.engine.meter import EngineMeter
from cachekeep.host.meter import MachineMeter
from cachekeep.monitor.census import Measured
from cachekeep.monitor.collect import Collector, Instruments
from tests.unit.store.dumb_series import DumbSeries

START = 1_700_000_040
GROUP = Subject("us-east-1", "group")


class Clock:
    """Runs as time does, from so many seconds before the end of a minute."""

    def __init__(self, left_s: float) -> None:
        self.ahead = START + MINUTE_S - left_s - time.monotonic()

    def __call__(self) -> float:
        return time.monotonic() + self.ahead


def node_of(server: Any, number: int, *, own: bool = True) -> Measured:
    address = Address(server.host, server.port)
    subject = Subject("us-east-1", f"group-{number:03d}", "0001")
    facts = {"engine": "valkey"}
    return Measured(subject, Place(address), GROUP, server.pid if own else None, (address,), facts)


@asynccontextmanager
async def collecting(clock: Clock, census: Callable[[], Sequence[Measured]], series: DumbSeries) -> Any:
    meter, host = EngineMeter(connect_timeout_s=0.3, answer_timeout_s=0.3), MachineMeter()
    collector = Collector(Instruments(meter, host, series, metrics(), command_families(), clock), census)
    running = asyncio.create_task(collector.run())
    try:
        yield collector
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        await meter.close()
        host.close()


Eventually = Callable[..., Awaitable[object]]


def test_a_minutes_end_gives_points_of_nodes_and_their_group(
    start_server: Callable[..., Any], eventually: Eventually
) -> None:
    one, two = start_server("9.1"), start_server("9.1")
    for _ in range(7):
        one.ask("SET", "key", "x" * 1000)

    async def run() -> None:
        series, clock = DumbSeries(), Clock(left_s=1.6)
        nodes = [node_of(one, 1), node_of(two, 2)]
        async with collecting(clock, lambda: nodes, series) as collector:
            await eventually(lambda: len(series.subjects()) == 3, 12)
            assert collector.subjects() == sorted([GROUP, *(node.subject for node in nodes)])
        names = ["CurrItems", "BytesUsedForCache", "Answering", "CPUUtilization", "SetTypeCmds"]
        end = START + 2 * MINUTE_S
        first, second, both = (
            series.read(s, names, START, end, 60) for s in (nodes[0].subject, nodes[1].subject, GROUP)
        )
        items, silent = first["CurrItems"], second["CurrItems"]
        assert list(items.starts) == list(both["CurrItems"].starts) == [START]
        assert (items.most[0], silent.most[0]) == (1.0, 0.0)
        assert both["CurrItems"].count[0] == items.count[0] + silent.count[0]
        assert both["CurrItems"].total[0] == items.total[0] + silent.total[0]
        assert 1 <= items.count[0] <= 4, "of the seconds that were left of the minute"
        assert first["Answering"].least[0] == 1.0
        # The engines were started within this minute: all that they counted is of it.
        assert (list(first["SetTypeCmds"].total), list(second["SetTypeCmds"].total)) == ([7.0], [0.0])

    asyncio.run(run())


def test_a_silent_node_is_said_and_costs_the_others_nothing(
    start_server: Callable[..., Any], eventually: Eventually
) -> None:
    good, hung = start_server("9.1"), start_server("9.1")

    async def run() -> None:
        series, clock = DumbSeries(), Clock(left_s=30)
        nodes = [node_of(good, 1), node_of(hung, 2)]
        async with collecting(clock, lambda: nodes, series) as collector:
            first, second = (node.subject for node in nodes)
            await eventually(lambda: (now := collector.current(second)) and now.values.get("Answering") == 1.0)
            os.kill(hung.pid, signal.SIGSTOP)
            try:
                await eventually(lambda: collector.current(second).trouble)
                told = collector.current(second)
                assert hung.host in told.trouble
                assert told.values == {"Answering": 0.0}, "what it said before is not how it is"
                at = collector.current(first).at
                await eventually(lambda: collector.current(first).at >= at + 2)
                assert collector.current(first).trouble is None
            finally:
                os.kill(hung.pid, signal.SIGCONT)
            await eventually(lambda: collector.current(second).trouble is None)

    asyncio.run(run())


def test_a_node_that_leaves_is_forgotten(start_server: Callable[..., Any], eventually: Eventually) -> None:
    server = start_server("9.1")
    nodes = [node_of(server, 1)]

    async def run() -> None:
        async with collecting(Clock(left_s=30), lambda: nodes, DumbSeries()) as collector:
            subject = nodes[0].subject
            await eventually(lambda: collector.current(subject) is not None and collector.place(subject) is not None)
            nodes.clear()
            await eventually(lambda: collector.current(subject) is None)
            assert (list(collector.subjects()), collector.place(subject)) == ([], None)
        await eventually(lambda: "cachekeep" not in server.ask("CLIENT", "LIST").decode().lower())

    asyncio.run(run())


def test_a_clock_that_jumps_leaves_a_gap_and_no_giant_step(
    start_server: Callable[..., Any], eventually: Eventually
) -> None:
    server = start_server("9.1")

    async def run() -> None:
        series, clock = DumbSeries(), Clock(left_s=1.6)
        nodes = [node_of(server, 1, own=False)]
        async with collecting(clock, lambda: nodes, series) as collector:
            subject = nodes[0].subject
            await eventually(lambda: (now := collector.current(subject)) and now.values)
            for jump in (7200.0, -3600.0):
                clock.ahead += jump + 60 - (clock() + jump) % 60 - 1.6
                minute = int(clock()) // 60 * 60
                for _ in range(20):
                    server.ask("GET", "absent")
                await eventually(
                    lambda at=minute: len(series.read(subject, ["CurrItems"], at, at + 60, 60)["CurrItems"]), 12
                )
            misses = series.read(subject, ["CacheMisses"], 0, 1 << 40, 60)["CacheMisses"]
            assert all(0 <= total <= 40 for total in misses.total), "of 40 that were"

    asyncio.run(run())
