"""A lane: nothing is lost or repeated by a destination that comes and goes, and what cannot be kept is counted."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

import pytest

from cachekeep.domain.log_delivery import DestinationType, LogDelivery, LogFormat, LogLine, LogType, Position
from cachekeep.domain.log_ports import LogStream, TooMuch
from cachekeep.domain.nodes import Address, NodeKey
from cachekeep.domain.ports import WorldError
from cachekeep.logs import lane as lanes
from cachekeep.logs.lane import Lane, Route
from cachekeep.logs.source import Found

KEY = NodeKey("us-east-1", "demo-001")
DELIVERY = LogDelivery(LogType.SLOW, DestinationType.FIREHOSE, "s", LogFormat.TEXT)
ROUTE = Route(
    KEY, Address("127.0.0.1", 6379), LogStream("us-east-1", DELIVERY, "elasticache/valkey/demo-001/0001/slow-log")
)


class Ring:
    """A source of so many lines."""

    keeps = False

    def __init__(self, lines: int) -> None:
        self.lines = lines

    async def read(self, since: Position) -> Found:
        first = int(since.get("number", 0))
        last = min(self.lines, first + 4000)
        return Found(tuple((LogLine(n, f"line {n}"), {"number": n + 1}) for n in range(first, last)))


class Sink:
    def __init__(self) -> None:
        self.got: list[str] = []
        self.works = True
        self.takes = 1_000_000
        self.refuses: set[str] = set()
        self.keeps_not: set[str] = set()

    async def prepare(self, stream: LogStream) -> None:
        if not self.works:
            raise WorldError("it is away")

    async def deliver(self, stream: LogStream, lines: Sequence[LogLine]) -> int:
        await self.prepare(stream)
        if any(line.text in self.refuses for line in lines) or len(lines) > self.takes:
            raise TooMuch("it is too much")
        self.got += [line.text for line in lines]
        return sum(line.text in self.keeps_not for line in lines)


class Positions:
    def __init__(self) -> None:
        self.kept: Position = {}

    def load(self, key: NodeKey, log_type: str) -> Position:
        return self.kept

    def save(self, key: NodeKey, log_type: str, position: Position) -> None:
        self.kept = position

    def keep_only(self, wanted: Sequence[tuple[NodeKey, str]]) -> None:
        raise AssertionError("a lane forgets nothing")


async def _until(true: Callable[[], bool]) -> None:
    async with asyncio.timeout(30):
        while not true():
            await asyncio.sleep(0.005)


@pytest.fixture(autouse=True)
def _soon(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("READ_EVERY_S", "BUSY_EVERY_S", "FIRST_PAUSE_S", "LONGEST_PAUSE_S"):
        monkeypatch.setattr(lanes, name, 0.005)


async def _with_lane(
    source: Ring, sink: Sink, positions: Positions, until: Callable[[Lane], bool]
) -> tuple[Lane, list[str]]:
    lane = Lane(ROUTE, source, sink, positions, lambda: None)
    task = asyncio.create_task(lane.run())
    await _until(lambda: until(lane))
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    return lane, sink.got


def test_a_lane_goes_on_where_the_last_one_was() -> None:
    source, sink, positions = Ring(5), Sink(), Positions()
    asyncio.run(_with_lane(source, sink, positions, lambda lane: positions.kept == {"number": 5} and lane.ready))
    source.lines = 8
    asyncio.run(_with_lane(source, sink, positions, lambda lane: positions.kept == {"number": 8}))
    assert sink.got == [f"line {n}" for n in range(8)]


def test_a_destination_that_is_away_is_told_and_gets_all_when_it_is_back() -> None:
    source, sink, positions = Ring(0), Sink(), Positions()

    async def story() -> None:
        lane = Lane(ROUTE, source, sink, positions, lambda: None)
        task = asyncio.create_task(lane.run())
        await _until(lambda: lane.ready)
        sink.works = False
        source.lines = 3
        await _until(lambda: lane.problem == "it is away")
        assert positions.kept == {}, "nothing arrived"
        source.lines = 6
        sink.works = True
        await _until(lambda: len(sink.got) == 6 and not lane.problem)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    asyncio.run(story())
    assert sink.got == [f"line {n}" for n in range(6)]


def test_a_queue_that_overflows_drops_the_oldest_and_counts_them() -> None:
    source, sink, positions = Ring(lanes.MOST_WAITING + 500), Sink(), Positions()
    sink.works = False

    async def story() -> None:
        lane = Lane(ROUTE, source, sink, positions, lambda: None)
        task = asyncio.create_task(lane.run())
        await _until(lambda: lane.lost >= 500)
        sink.works = True
        await _until(lambda: len(sink.got) == lanes.MOST_WAITING)
        assert lane.lost == 500
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    asyncio.run(story())
    assert sink.got[0] == "line 500"
    assert sink.got[-1] == f"line {lanes.MOST_WAITING + 499}"


def test_a_destination_that_takes_little_at_once_gets_all_in_order() -> None:
    source, sink, positions = Ring(3000), Sink(), Positions()
    sink.takes = 7
    lane, got = asyncio.run(_with_lane(source, sink, positions, lambda lane: positions.kept == {"number": 3000}))
    assert got == [f"line {n}" for n in range(3000)]
    assert (lane.lost, lane.problem) == (0, "")


def test_a_line_that_is_never_taken_holds_up_no_other_and_is_counted() -> None:
    source, sink, positions = Ring(50), Sink(), Positions()
    sink.refuses, sink.keeps_not = {"line 3", "line 40"}, {"line 0"}
    lane, got = asyncio.run(_with_lane(source, sink, positions, lambda lane: positions.kept == {"number": 50}))
    assert got == [f"line {n}" for n in range(50) if n not in (3, 40)]
    assert (lane.lost, lane.problem) == (3, "")
