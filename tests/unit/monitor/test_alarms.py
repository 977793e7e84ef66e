"""The keeper of alarms on a real store: states, history, actions, and clocks that jump."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from cachekeep.domain.alarms import Alarm, AlarmState, Comparison, HistoryKind, MetricQuery, MissingData
from cachekeep.domain.faults import Fault
from cachekeep.domain.ports import WorldError
from cachekeep.monitor.alarms import SETTLE_S, AlarmKeeper
from cachekeep.store.sqlite import SqliteStore

REGION, ACCOUNT = "eu-west-1", "000000000000"
ARN = f"arn:aws:sns:{REGION}:{ACCOUNT}:ops"
START = 1_795_428_000
QUERY = MetricQuery("m1", namespace="AWS/ElastiCache", metric="CPUUtilization", statistic="Average", period=60)
ALARM = Alarm(REGION, "hot", (QUERY,), 2, 2, 0.5, Comparison.GREATER, 0.0, 0.0, 0.0, alarm_actions=(ARN,))


class Clock:
    """A wall clock and a monotonic one, moved by hand."""

    def __init__(self) -> None:
        self.wall = START + SETTLE_S
        self.steady = 0.0

    def now(self) -> float:
        return self.wall

    def monotonic(self) -> float:
        return self.steady

    def pass_s(self, seconds: float) -> None:
        self.wall += seconds
        self.steady += seconds


class Metric:
    """One series, by the start of its minutes."""

    def __init__(self) -> None:
        self.points: dict[int, float] = {}
        self.reads = 0
        self.trouble: Exception | None = None

    def values(
        self, region: str, queries: Sequence[MetricQuery], start: int, end: int, period: int
    ) -> list[float | None]:
        self.reads += 1
        if self.trouble is not None:
            raise self.trouble
        return [self.points.get(at) for at in range(start, end, period)]


class Board:
    """Takes what is published."""

    def __init__(self) -> None:
        self.told: list[tuple[str, str, dict[str, object]]] = []
        self.problem: str | None = None

    def publish(self, topic_arn: str, subject: str, message: str, alarm: str = "") -> str | None:
        self.told.append((topic_arn, subject, json.loads(message)))
        return self.problem


class Desk:
    def __init__(self, path: Path) -> None:
        self.clock, self.metric, self.board = Clock(), Metric(), Board()
        self.store = SqliteStore(path)
        self.keeper = AlarmKeeper(self.store, self.metric, self.board, self.clock, ACCOUNT, self.clock.monotonic)

    def put(self, alarm: Alarm) -> None:
        with self.store.transaction() as work:
            work.insert(alarm)

    def minute(self, value: float | None = None) -> AlarmState:
        """Let a minute pass, with this point in it, then look."""
        end = int((self.clock.wall - SETTLE_S) // 60 * 60)
        if value is not None:
            self.metric.points[end] = value
        self.clock.pass_s(60)
        return self.look()

    def look(self) -> AlarmState:
        asyncio.run(self.keeper.look())
        return self.alarm().state

    def alarm(self) -> Alarm:
        found = self.store.get(Alarm, REGION, "hot")
        assert found is not None
        return found

    def summaries(self, kind: HistoryKind) -> list[str]:
        items = self.store.alarm_history(REGION, "hot", since=0, until=9e9, kind=kind)
        return [item.summary for item in items]


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    return Desk(tmp_path / "store.sqlite")


def test_a_breaching_metric_raises_the_alarm_once_and_tells_its_topic(desk: Desk) -> None:
    desk.put(ALARM)
    assert desk.minute(0.1) is AlarmState.OK
    assert desk.minute(0.9) is AlarmState.OK
    assert desk.minute(0.9) is AlarmState.ALARM
    assert desk.minute(0.9) is AlarmState.ALARM
    assert desk.summaries(HistoryKind.STATE_UPDATE) == [
        "Alarm updated from INSUFFICIENT_DATA to OK",
        "Alarm updated from OK to ALARM",
    ]
    assert desk.summaries(HistoryKind.ACTION) == [f"Successfully executed action {ARN}"]
    [(arn, subject, message)] = desk.board.told
    assert (arn, subject) == (ARN, f'ALARM: "hot" in {REGION}')
    assert message["OldStateValue"] == "OK"
    assert message["NewStateValue"] == "ALARM"
    assert message["AlarmArn"] == f"arn:aws:cloudwatch:{REGION}:{ACCOUNT}:alarm:hot"


def test_a_metric_that_never_comes_is_insufficient_data_and_writes_nothing_more(desk: Desk) -> None:
    desk.put(ALARM)
    assert desk.minute() is AlarmState.INSUFFICIENT_DATA
    first = desk.alarm()
    assert first.state_reason == "Insufficient Data: 2 datapoints were unknown."
    desk.minute()
    assert desk.alarm() == first
    assert desk.summaries(HistoryKind.STATE_UPDATE) == []


def test_a_second_look_in_the_same_minute_reads_nothing(desk: Desk) -> None:
    desk.put(ALARM)
    desk.minute(0.1)
    reads = desk.metric.reads
    desk.look()
    assert desk.metric.reads == reads


def test_a_period_of_five_minutes_is_read_once_in_five_minutes(desk: Desk) -> None:
    desk.put(replace(ALARM, queries=(replace(QUERY, period=300),)))
    for _ in range(10):
        desk.minute()
    assert desk.metric.reads == 3


def test_a_state_that_was_set_fires_and_lasts_until_the_next_evaluation(desk: Desk) -> None:
    desk.put(ALARM)
    desk.minute(0.1)
    desk.keeper.set_state(REGION, "hot", AlarmState.ALARM, "testing", "not JSON")
    assert desk.alarm().state is AlarmState.ALARM
    assert [subject for _, subject, _ in desk.board.told] == [f'ALARM: "hot" in {REGION}']
    assert desk.minute(0.1) is AlarmState.OK


def test_the_state_of_an_unknown_alarm_cannot_be_set(desk: Desk) -> None:
    with pytest.raises(Fault, match="does not exist") as refused:
        desk.keeper.set_state(REGION, "other", AlarmState.OK, "testing")
    assert (refused.value.code, refused.value.status) == ("ResourceNotFound", 404)


def test_disabled_actions_are_not_executed(desk: Desk) -> None:
    desk.put(replace(ALARM, actions_enabled=False))
    desk.keeper.set_state(REGION, "hot", AlarmState.ALARM, "testing")
    assert desk.board.told == []
    assert desk.summaries(HistoryKind.ACTION) == []


def test_an_action_that_cannot_be_executed_stands_in_the_history(desk: Desk) -> None:
    desk.put(ALARM)
    desk.board.problem = "there is no topic"
    desk.keeper.set_state(REGION, "hot", AlarmState.ALARM, "testing")
    assert desk.summaries(HistoryKind.ACTION) == [f"Failed to execute action {ARN}: there is no topic"]


@pytest.mark.parametrize("hours", [5, -5])
def test_a_clock_that_jumps_fires_nothing_and_goes_on_with_points_of_the_new_time(desk: Desk, hours: int) -> None:
    """Points under the new time that are from before the jump, and the gap that it tore, tell nothing."""
    desk.put(replace(ALARM, treat_missing=MissingData.BREACHING))
    desk.metric.points.update({START + hours * 3600 + 60 * n: 0.9 for n in range(-10, 3)})
    for _ in range(3):
        assert desk.minute(0.1) is AlarmState.OK
    desk.clock.wall += hours * 3600
    for _ in range(4):
        assert desk.minute(0.1) is AlarmState.OK
    assert desk.board.told == []
    desk.minute(0.9)
    assert desk.minute(0.9) is AlarmState.ALARM


@pytest.mark.parametrize("trouble", [WorldError("disk"), Fault("ValidationError", "bad expression")])
def test_values_that_cannot_be_had_leave_the_state_as_it_is(desk: Desk, trouble: Exception) -> None:
    desk.put(ALARM)
    desk.minute(0.1)
    desk.metric.trouble = trouble
    assert desk.minute(0.1) is AlarmState.OK
    desk.metric.trouble = None
    desk.minute(0.9)
    assert desk.minute(0.9) is AlarmState.ALARM


def test_an_alarm_deleted_while_its_values_are_read_stays_deleted(desk: Desk) -> None:
    desk.put(ALARM)
    read: Callable[..., list[float | None]] = desk.metric.values

    async def story() -> None:
        loop = asyncio.get_running_loop()
        gone = asyncio.Event()

        def values(*asked: object) -> list[float | None]:
            loop.call_soon_threadsafe(delete)
            asyncio.run_coroutine_threadsafe(gone.wait(), loop).result(5)
            return read(*asked)

        def delete() -> None:
            with desk.store.transaction() as work:
                work.delete(ALARM)
            gone.set()

        desk.metric.values = values  # type: ignore[assignment, method-assign]
        desk.clock.pass_s(60)
        await desk.keeper.look()

    asyncio.run(story())
    assert desk.store.get(Alarm, REGION, "hot") is None
    assert desk.summaries(HistoryKind.STATE_UPDATE) == []


def test_hundreds_of_alarms_are_each_read_once_a_minute(desk: Desk) -> None:
    with desk.store.transaction() as work:
        for number in range(300):
            work.insert(replace(ALARM, name=f"a{number}"))
    desk.put(ALARM)
    desk.minute(0.1)
    assert desk.metric.reads == 301
