"""Minutes on their way from the collector to the series, with nodes that are told here."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Awaitable, Callable, Collection, Mapping
from concurrent.futures import ThreadPoolExecutor

from cachekeep.data.metrics import command_families, metrics
from cachekeep.domain.metric_ports import MachineReading, ProcessReading, Traffic
from cachekeep.domain.metrics import MINUTE_S, Buckets, Place, Point, Subject
from cachekeep.domain.nodes import Address
from cachekeep.monitor.census import Measured
from cachekeep.monitor.collect import Collector, Instruments
from tests.unit.store.dumb_series import DumbSeries

START = 1_700_000_040
LEFT_S = 2.5
GROUP = Subject("us-east-1", "group")
PROMPT, LATE = (
    Measured(Subject("us-east-1", f"group-00{n}", "0001"), Place(Address(f"10.0.0.{n}", 6379)), GROUP) for n in (1, 2)
)


class Nodes:
    """A Meter: each node answers the same all the time; one of them waits while it is held."""

    def __init__(self) -> None:
        self.free = asyncio.Event()
        self.free.set()

    async def read(self, place: Place) -> Mapping[str, str]:
        if place == LATE.place:
            await self.free.wait()
        return {"run_id": place.address.host, "uptime_in_seconds": "9", "role": "master", "connected_clients": "3"}

    async def latencies(self, place: Place) -> Mapping[str, Buckets]:
        return {}

    async def forget(self, place: Place) -> None: ...

    async def close(self) -> None: ...


class Machine:
    """A HostMeter that tells next to nothing."""

    def machine(self) -> MachineReading:
        return MachineReading(0.0, 0.0, 1, 1)

    def processes(self, pids: Collection[int]) -> Mapping[int, ProcessReading]:
        return {}

    def traffic(self, owners: Mapping[Address, str]) -> Mapping[str, Traffic] | None:
        return None

    def close(self) -> None: ...


def collector_of(nodes: list[Measured], meter: Nodes, series: DumbSeries) -> Collector:
    ahead = START + MINUTE_S - LEFT_S - time.monotonic()
    families = command_families()
    instruments = Instruments(meter, Machine(), series, metrics(), families, lambda: time.monotonic() + ahead)
    return Collector(instruments, lambda: nodes)


def answers_of(series: DumbSeries, subject: Subject) -> Point | None:
    return series.minutes.get((subject, START), {}).get("Answering")


def test_a_late_nodes_minute_is_added_to_its_group_also_when_the_service_ends_before_it_is_written(
    eventually: Callable[..., Awaitable[object]],
) -> None:
    async def run() -> None:
        meter, series = Nodes(), DumbSeries()
        collector = collector_of([PROMPT, LATE], meter, series)
        running = asyncio.create_task(collector.run())
        await eventually(lambda: (now := collector.current(LATE.subject)) is not None and now.at)
        meter.free.clear()
        await eventually(lambda: answers_of(series, GROUP), 12)
        assert answers_of(series, LATE.subject) is None
        assert answers_of(series, GROUP) == answers_of(series, PROMPT.subject)

        released = threading.Event()
        with ThreadPoolExecutor(1) as threads:
            asyncio.get_running_loop().set_default_executor(threads)
            threads.submit(released.wait)
            meter.free.set()
            await eventually(lambda: threads._work_queue.qsize(), 12)
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)
            released.set()
        assert answers_of(series, LATE.subject) is None, "the thread that was to write it never began"
        collector.finish()
        first, second = answers_of(series, PROMPT.subject), answers_of(series, LATE.subject)
        both = answers_of(series, GROUP)
        assert first is not None
        assert second is not None
        assert both is not None
        assert both.count == first.count + second.count
        assert collector.current(GROUP) is not None

    asyncio.run(run())


def test_a_group_whose_nodes_are_gone_is_forgotten(eventually: Callable[..., Awaitable[object]]) -> None:
    async def run() -> None:
        nodes = [PROMPT]
        collector = collector_of(nodes, Nodes(), DumbSeries())
        running = asyncio.create_task(collector.run())
        await eventually(lambda: (now := collector.current(PROMPT.subject)) is not None and now.at)
        collector.finish()
        assert collector.current(GROUP) is not None
        nodes.clear()
        await eventually(lambda: collector.current(GROUP) is None)
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)

    asyncio.run(run())
