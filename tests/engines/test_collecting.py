"""The collector on living engines: whom it sees, what a minute's end gives, silence, and a clock that jumps."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any

import pytest
from structlog.testing import capture_logs

from cachekeep.data.metrics import command_families, metrics
from cachekeep.domain.metric_ports import MachineReading
from cachekeep.domain.metrics import MINUTE_S, Place, Subject
from cachekeep.domain.nodes import Address
from cachekeep.engine.meter import EngineMeter
from cachekeep.host.meter import MachineMeter
from cachekeep.monitor.census import Measured
from cachekeep.monitor.collect import Collector, Instruments
from tests.unit.store.dumb_series import DumbSeries

START = 1_700_000_040
# So near to the end of a minute most tests begin: room for some looks on a machine that is busy.
LEFT_S = 4.0
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
        series, clock = DumbSeries(), Clock(left_s=LEFT_S)
        nodes = [node_of(one, 1), node_of(two, 2)]
        async with collecting(clock, lambda: nodes, series) as collector:
            await eventually(lambda: len(series.subjects()) == 3, 20)
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
        assert 1 <= items.count[0] <= LEFT_S + 2, "of the seconds that were left of the minute"
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


@pytest.mark.slow
def test_a_clock_that_jumps_leaves_a_gap_and_no_giant_step(
    start_server: Callable[..., Any], eventually: Eventually
) -> None:
    server = start_server("9.1")

    async def run() -> None:
        series, clock = DumbSeries(), Clock(left_s=LEFT_S)
        nodes = [node_of(server, 1, own=False)]
        async with collecting(clock, lambda: nodes, series) as collector:
            subject = nodes[0].subject
            await eventually(lambda: (now := collector.current(subject)) and now.values)
            for jump in (7200.0, -3600.0):
                clock.ahead += jump + 60 - (clock() + jump) % 60 - LEFT_S
                minute = int(clock()) // 60 * 60
                for _ in range(20):
                    server.ask("GET", "absent")
                await eventually(
                    lambda at=minute: len(series.read(subject, ["CurrItems"], at, at + 60, 60)["CurrItems"]), 20
                )
            misses = series.read(subject, ["CacheMisses"], 0, 1 << 40, 60)["CacheMisses"]
            assert all(0 <= total <= 40 for total in misses.total), "of 40 that were"

    asyncio.run(run())


def test_a_service_that_ends_and_comes_back_keeps_its_minute(
    start_server: Callable[..., Any], eventually: Eventually
) -> None:
    server = start_server("9.1")
    nodes = [node_of(server, 1, own=False)]
    subject = nodes[0].subject

    async def run() -> None:
        series, clock, counted = DumbSeries(), Clock(left_s=40), 0.0
        for _ in range(2):
            async with collecting(clock, lambda: nodes, series) as collector:
                await eventually(lambda: (now := collector.current(subject)) and now.values)
            collector.finish()
            counted += collector.current(subject).values["Answering"]
        kept = series.read(subject, ["Answering"], START, START + MINUTE_S, 60)["Answering"]
        assert kept.count[0] == kept.total[0] >= counted == 2, "of both runs"

    asyncio.run(run())


class Tired(MachineMeter):
    """The kernel tells nothing for a while, as when a process has no file left to open."""

    left = 2

    def machine(self) -> MachineReading:
        if self.left:
            self.left -= 1
            raise OSError(24, "Too many open files")
        return super().machine()


def test_one_part_that_fails_ends_nothing_and_whoever_is_run_again_begins_anew(
    start_server: Callable[..., Any], eventually: Eventually
) -> None:
    server = start_server("9.1")
    nodes = [node_of(server, 1)]
    subject = nodes[0].subject

    async def run() -> None:
        meter, host = EngineMeter(), Tired()
        instruments = Instruments(meter, host, DumbSeries(), metrics(), command_families(), Clock(left_s=50))
        collector = Collector(instruments, lambda: nodes)
        for _ in range(2):
            running = asyncio.create_task(collector.run())
            begun = instruments.now()
            await eventually(lambda at=begun: (now := collector.current(subject)) and now.at > at)
            await eventually(lambda: "CPUUtilization" in collector.current(subject).values)
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)
        assert not host.left
        await meter.close()
        host.close()

    with capture_logs() as told:
        asyncio.run(run())
    (said,) = (entry for entry in told if "machine" in entry["event"])
    assert (said["log_level"], said["reason"]) == ("warning", "[Errno 24] Too many open files")
    assert not any("exc_info" in entry for entry in told), "no traceback for what is not this code's"


async def _hostile(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """INFO as it should be, and then a histogram whose command is a number of a billion billion."""
    info = b"# Server\r\nrun_id:abc\r\nuptime_in_seconds:9\r\nrole:master\r\nmaster_replid:" + b"x" * 500_000 + b"\r\n"
    while line := await reader.readline():
        if line.strip() == b"INFO":
            writer.write(b"$%d\r\n%s\r\n" % (len(info), info))
        elif line.strip() == b"LATENCY":
            table = b"*2\r\n$14\r\nhistogram_usec\r\n*2\r\n:1\r\n:1\r\n"
            writer.write(b"*2\r\n:1152921504606846976\r\n" + table)
    writer.close()


def test_a_hostile_endpoint_costs_nobody_else_anything(
    start_server: Callable[..., Any], fresh_address: Callable[..., Address], eventually: Eventually
) -> None:
    good, place = start_server("9.1"), fresh_address()
    evil = Measured(Subject("us-east-1", "evil", "0001"), Place(place))
    nodes = [node_of(good, 1), evil]

    async def run() -> None:
        server = await asyncio.start_server(_hostile, place.host, place.port)
        series, clock = DumbSeries(), Clock(left_s=1.6)
        async with server, collecting(clock, lambda: nodes, series) as collector:
            await eventually(lambda: len(series.subjects()) == 3, 20)
            at = clock()
            await eventually(lambda: collector.current(nodes[0].subject).at > at)
            await eventually(lambda: collector.current(evil.subject).at > at)

    asyncio.run(run())


def test_a_minute_whose_beginning_cannot_be_read_is_written_with_what_there_is(
    start_server: Callable[..., Any], eventually: Eventually
) -> None:
    server = start_server("9.1")
    nodes = [node_of(server, 1, own=False)]
    subject = nodes[0].subject

    async def run() -> None:
        series, clock = DumbSeries(), Clock(left_s=40)
        series.trouble = "the metrics file cannot be read now"
        async with collecting(clock, lambda: nodes, series) as collector:
            await eventually(lambda: (now := collector.current(subject)) and now.values)
        collector.finish()
        series.trouble = None
        assert len(series.read(subject, ["Answering"], START, START + MINUTE_S, 60)["Answering"]) == 1

    asyncio.run(run())
