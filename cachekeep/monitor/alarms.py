"""Evaluates every alarm once a minute, keeps its state and history, and hands its actions to the notifier."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import structlog

from cachekeep.domain.alarms import UNCHECKED, Alarm, AlarmState, HistoryItem, HistoryKind
from cachekeep.domain.faults import Fault
from cachekeep.domain.metrics import MINUTE_S
from cachekeep.domain.notifications import AlarmValues, Publisher, Values
from cachekeep.domain.ports import Clock, Conflict, Store, WorldError
from cachekeep.monitor.notify import action_item
from cachekeep.plan.alarm import evaluation_range, judge, period_of
from cachekeep.plan.notice import alarm_message, alarm_subject

log = structlog.get_logger()

# Behind the end of a minute, until its points are written.
SETTLE_S = 8.0
# The wall clock may drift from the monotonic one by so much between two looks; more is a jump.
JUMP_S = 30.0
# Alarms whose values are read in one go of the thread, and written between two breaths of the loop.
BATCH = 50


@dataclass(frozen=True)
class _Due:
    alarm: Alarm
    start: int
    end: int


class AlarmKeeper:
    """monotonic: seconds that no jump of the wall clock touches."""

    def __init__(
        self,
        store: Store,
        values: AlarmValues,
        publisher: Publisher,
        clock: Clock,
        account: str,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._store = store
        self._values = values
        self._publisher = publisher
        self._clock = clock
        self._account = account
        self._monotonic = monotonic
        self._looked: tuple[float, float] | None = None
        self._minute: int | None = None
        # Periods before this moment of a jumped clock tell nothing, whatever stands in them.
        self._steady_since = 0.0
        self._seen: dict[tuple[str, str], tuple[int, Alarm]] = {}

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            await asyncio.sleep(MINUTE_S - (self._clock.now() - SETTLE_S) % MINUTE_S)
            try:
                await self.look()
            except (WorldError, Conflict) as error:
                log.warning("alarms could not be evaluated", reason=str(error))

    async def look(self) -> None:
        """Evaluate all alarms up to the last minute that has settled; nothing when that was done before."""
        now = self._clock.now()
        self._notice_jump(now)
        minute = int((now - SETTLE_S) // MINUTE_S * MINUTE_S)
        if minute == self._minute:
            return
        self._minute = minute
        due = self._due(minute)
        for begin in range(0, len(due), BATCH):
            batch = due[begin : begin + BATCH]
            found = await asyncio.to_thread(self._read, batch)
            for one, values in zip(batch, found, strict=True):
                if values is None:
                    continue
                try:
                    self._decide(one, values, now)
                except Exception:
                    log.exception("an alarm cannot be decided", alarm=one.alarm.name)

    def set_state(self, region: str, name: str, state: AlarmState, reason: str, reason_data: str = "") -> None:
        """SetAlarmState: until the next evaluation. Fires the actions of a change. Raises Fault ResourceNotFound."""
        alarm = self._store.get(Alarm, region, name)
        if alarm is None:
            raise Fault("ResourceNotFound", f"Alarm {name[:255]} does not exist", 404)
        self._enter(alarm, state, reason, reason_data, self._clock.now())

    def _notice_jump(self, now: float) -> None:
        monotonic = self._monotonic()
        if self._looked is not None:
            wall, steady = self._looked
            by = (now - wall) - (monotonic - steady)
            if abs(by) > JUMP_S:
                self._steady_since = now
                self._seen.clear()
                log.warning("the clock jumped; alarms wait for points of the new time", by_s=round(by))
        self._looked = (now, monotonic)

    def _due(self, minute: int) -> list[_Due]:
        """Those whose last period has ended since they were looked at, or which somebody changed."""
        alarms = self._store.all(Alarm)
        names = {(alarm.region, alarm.name) for alarm in alarms}
        self._seen = {key: seen for key, seen in self._seen.items() if key in names}
        due = []
        for alarm in alarms:
            period = period_of(alarm)
            end = minute // period * period
            if self._seen.get((alarm.region, alarm.name)) == (end, alarm):
                continue
            if end - alarm.evaluation_periods * period < self._steady_since:
                continue
            # Whatever was kept under times before a jump is left out.
            first = -(-int(self._steady_since) // period) * period
            due.append(_Due(alarm, max(first, end - evaluation_range(alarm) * period), end))
        return due

    def _read(self, batch: Sequence[_Due]) -> list[Values | None]:
        """In a thread. None where the values cannot be had now: the alarm stays as it is."""
        found: list[Values | None] = []
        for one in batch:
            try:
                period = period_of(one.alarm)
                found.append(self._values.values(one.alarm.region, one.alarm.queries, one.start, one.end, period))
            except (WorldError, Fault) as error:
                log.warning("an alarm cannot be evaluated", alarm=one.alarm.name, reason=str(error))
                found.append(None)
            except Exception:
                # A bug of ours in one alarm's expression must not keep the others from going off.
                log.exception("an alarm cannot be evaluated", alarm=one.alarm.name)
                found.append(None)
        return found

    def _decide(self, due: _Due, values: Values, now: float) -> None:
        """Nothing when the alarm was changed since: the next look sees that."""
        alarm = due.alarm
        judgement = judge(alarm, values, due.end, now)
        after: Alarm | None = alarm
        changes = judgement.state is not None and judgement.state is not alarm.state
        if judgement.state is not None and (changes or alarm.state_reason == UNCHECKED):
            try:
                after = self._enter(alarm, judgement.state, judgement.reason, judgement.reason_data, now)
            except (Conflict, WorldError) as error:
                log.warning("an alarm's state waits for the next look", alarm=alarm.name, reason=str(error))
                return
        self._seen[alarm.region, alarm.name] = (due.end, after or alarm)

    def _enter(self, alarm: Alarm, state: AlarmState, reason: str, reason_data: str, now: float) -> Alarm:
        """Store the state with its history, then fire. Raises Conflict when somebody changed or deleted the alarm."""
        changes = state is not alarm.state
        after = replace(
            alarm,
            state=state,
            state_reason=reason,
            state_reason_data=reason_data,
            state_updated_at=now,
            state_transitioned_at=now if changes else alarm.state_transitioned_at,
        )
        with self._store.transaction() as work:
            work.replace(alarm, after)
            if changes:
                work.add_history(_transition(alarm, after))
        if changes:
            log.info("an alarm changed its state", alarm=alarm.name, before=alarm.state.value, now=state.value)
            self._fire(after, alarm.state, now)
        return after

    def _fire(self, alarm: Alarm, before: AlarmState, now: float) -> None:
        if not alarm.actions_enabled:
            return
        items = []
        for arn in dict.fromkeys(_actions(alarm)):
            message = alarm_message(alarm, before, self._account)
            problem = self._publisher.publish(arn, alarm_subject(alarm), message, alarm.name)
            items.append(action_item(now, alarm.region, alarm.name, arn, problem))
        if items:
            try:
                with self._store.transaction() as work:
                    for item in items:
                        work.add_history(item)
            except WorldError as error:
                log.warning("the alarm's history cannot be written", alarm=alarm.name, reason=str(error))


def _actions(alarm: Alarm) -> tuple[str, ...]:
    return {
        AlarmState.OK: alarm.ok_actions,
        AlarmState.ALARM: alarm.alarm_actions,
        AlarmState.INSUFFICIENT_DATA: alarm.insufficient_data_actions,
    }[alarm.state]


def _transition(before: Alarm, after: Alarm) -> HistoryItem:
    data = {"version": "1.0", "oldState": _told(before), "newState": _told(after)}
    summary = f"Alarm updated from {before.state.value} to {after.state.value}"
    return HistoryItem(
        after.state_updated_at, after.region, after.name, HistoryKind.STATE_UPDATE, summary, json.dumps(data)
    )


def _told(alarm: Alarm) -> dict[str, object]:
    page: dict[str, object] = {"stateValue": alarm.state.value, "stateReason": alarm.state_reason}
    try:
        data = json.loads(alarm.state_reason_data) if alarm.state_reason_data else None
    except ValueError:  # SetAlarmState takes any text
        data = alarm.state_reason_data
    return page if data is None else page | {"stateReasonData": data}
