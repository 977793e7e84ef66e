"""Collection: asks every node every second, and hands each whole minute to the series. Implements Gauges.

Reads only. Nodes are asked one after the other over the second, so that the event loop is never held up by all of them
at once. A node that does not answer costs nobody else anything; its minute has a gap.
"""

from __future__ import annotations

import asyncio
import math
import re
import time
import zlib
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import structlog

from cachekeep.domain.metric_ports import HostMeter, MachineReading, Meter, ProcessReading, SeriesStore, Traffic
from cachekeep.domain.metrics import MINUTE_S, Buckets, Current, Metric, Place, Point, Subject
from cachekeep.domain.ports import WorldError
from cachekeep.domain.serverless import is_behind_serverless
from cachekeep.monitor import serverless
from cachekeep.monitor.census import Measured
from cachekeep.monitor.gathering import Gathering, merged
from cachekeep.monitor.lag import PrimaryOffsets
from cachekeep.monitor.machine import MachineGauges
from cachekeep.monitor.readings import Vocabulary, number

log = structlog.get_logger()

INTERVAL_S = 1.0
# A process's memory moves slowly, and its files cost as much as an INFO: read every so many seconds.
PROCESS_EVERY = 5
# Nodes are asked in so many bursts a second: each waking-up of the process costs as much as a reading.
BURSTS = 10
TRAFFIC_EVERY_S = 5.0
# How long the offsets of a replication stream are of use; its id is told by the engine: 40 hexadecimal digits.
STREAM_KEPT_S = 600.0
_STREAM = re.compile(r"[0-9a-f]{40}")
# After the end of a minute its last readings may still be under way.
SETTLE_S = 1.5
# Wall clock and monotonic clock may drift apart so far within one second before it counts as a jump.
JUMP_S = 2.0


@dataclass(frozen=True)
class Instruments:
    """What collecting works with. metrics: all by name. families: command family -> commands."""

    meter: Meter
    host: HostMeter
    series: SeriesStore
    metrics: Mapping[str, Metric]
    families: Mapping[str, frozenset[str]]
    now: Callable[[], float] = time.time


class Collector:
    """census: whom to measure now; asked once a second, so it is to be quick."""

    def __init__(self, instruments: Instruments, census: Callable[[], Sequence[Measured]]) -> None:
        self._in, self._census = instruments, census
        self._words = {
            resp: Vocabulary.of(instruments.metrics, instruments.families, speaks_resp=resp) for resp in (True, False)
        }
        self._nodes: dict[Subject, _Node] = {}
        self._groups: dict[Subject, dict[str, float]] = {}
        self._offsets: dict[str, PrimaryOffsets] = {}
        self._machine = MachineGauges()
        self._processes: Mapping[int, ProcessReading] = {}
        self._round = 0
        self._counted_at = self._failed_at = -math.inf
        self._finished: dict[int, dict[Subject, dict[str, Point]]] = {}
        # Minutes on their way to the series, each until it is there.
        self._ready: deque[tuple[int, Mapping[Subject, Mapping[str, Point]]]] = deque()
        # Of the groups, in the minute that was handed over last: a node that answers late has yet to be added.
        self._handed: dict[int, Mapping[Subject, Mapping[str, Point]]] = {}
        # The minute in which this collector was made.
        self._began = int(instruments.now() // MINUTE_S) * MINUTE_S

    async def run(self) -> None:
        """Until cancelled. When it was ended by an error and is called again, it begins with all nodes anew."""
        self._nodes.clear()
        async with asyncio.TaskGroup() as tasks:
            before = (self._in.now(), time.monotonic())
            while True:
                now = (self._in.now(), time.monotonic())
                if abs((now[0] - before[0]) - (now[1] - before[1])) > JUMP_S:
                    log.warning("the clock jumped", seconds=round(now[0] - before[0] - (now[1] - before[1]), 1))
                    self._begin_anew()
                before = now
                await self._round_of(tasks)
                await asyncio.sleep(INTERVAL_S - math.fmod(now[1], INTERVAL_S))

    async def _round_of(self, tasks: asyncio.TaskGroup) -> None:
        """What is done each second besides asking nodes. One part that goes wrong holds no other up."""
        for part in (self._measure_machine, lambda: self._take_census(tasks), self._count_traffic):
            try:
                part()
            except OSError as error:
                # Of the machine and not of this code: no file can be opened, memory is short.
                if self._may_tell():
                    log.warning("this machine could not be measured", reason=str(error))
            except Exception:
                if self._may_tell():
                    log.exception("a part of collecting failed")
        try:
            await self._hand_over()
        except Exception:
            if self._may_tell():
                log.exception("a minute could not be handed over")

    def _may_tell(self) -> bool:
        """Once a minute: what goes wrong each second must not fill the log."""
        if time.monotonic() - self._failed_at < MINUTE_S:
            return False
        self._failed_at = time.monotonic()
        return True

    def current(self, subject: Subject) -> Current | None:
        node = self._nodes.get(subject)
        if node is not None:
            gathered = node.gathering
            return Current(node.at, {**gathered.minute, **gathered.now}, node.facts, node.trouble)
        values = self._groups.get(subject)
        return None if values is None else Current(self._in.now(), values)

    def subjects(self) -> Sequence[Subject]:
        groups = {node.measured.group for node in self._nodes.values() if node.measured.group is not None}
        return sorted([*self._nodes, *groups])

    def totals(self, subject: Subject) -> Mapping[str, float]:
        node = self._nodes.get(subject)
        return {} if node is None else node.gathering.totals()

    def distributions(self, subject: Subject) -> Mapping[str, Point]:
        node = self._nodes.get(subject)
        return {} if node is None else node.gathering.distributions()

    def place(self, subject: Subject) -> Place | None:
        node = self._nodes.get(subject)
        return None if node is None else node.measured.place

    def _begin_anew(self) -> None:
        """What was gathered belongs to no minute any more."""
        for node in self._nodes.values():
            node.gathering = self._gathering(node.measured)
            node.minute = 0
        self._handed = {}

    def _gathering(self, measured: Measured) -> Gathering:
        resp = measured.place.speaks_resp
        return Gathering(self._words[resp], speaks_resp=resp)

    def _measure_machine(self) -> None:
        machine: MachineReading = self._in.host.machine()
        self._machine.see(machine)
        pids = [node.measured.pid for node in self._nodes.values() if node.measured.pid is not None]
        self._round += 1
        due = [pid for pid in pids if pid not in self._processes or (pid + self._round) % PROCESS_EVERY == 0]
        kept = {pid: self._processes[pid] for pid in pids if pid in self._processes}
        self._processes = {**kept, **self._in.host.processes(due)}

    def _take_census(self, tasks: asyncio.TaskGroup) -> None:
        wanted = {measured.subject: measured for measured in self._census()}
        for subject in self._nodes.keys() - wanted.keys():
            node = self._nodes.pop(subject)
            if node.task is not None:
                node.task.cancel()
        groups = {measured.group for measured in wanted.values()}
        self._groups = {group: values for group, values in self._groups.items() if group in groups}
        for subject, measured in wanted.items():
            if subject not in self._nodes:
                new = self._nodes[subject] = _Node(measured, self._gathering(measured))
                new.task = tasks.create_task(self._follow(new), name=f"measure {subject}")
            self._nodes[subject].measured = measured

    async def _follow(self, node: _Node) -> None:
        """Ask one node every second, at its own moment of the second."""
        moment = zlib.crc32(str(node.measured.subject).encode()) % BURSTS / BURSTS * INTERVAL_S
        asked: Place | None = None
        try:
            while True:
                await asyncio.sleep(INTERVAL_S - math.fmod(time.monotonic() - moment, INTERVAL_S))
                place = node.measured.place
                if asked is not None and asked != place:
                    await self._in.meter.forget(asked)
                asked = place
                try:
                    await self._look(node, place)
                except Exception:
                    # A node may answer anything, and a watched one is not ours: it costs nobody else theirs.
                    node.trouble = "what it answers could not be understood; the service's log tells more"
                    node.gathering.silent()
                    if self._may_tell():
                        log.exception("a node could not be measured", node=str(node.measured.subject))
        finally:
            if asked is not None:
                await self._in.meter.forget(asked)

    async def _look(self, node: _Node, place: Place) -> None:
        await self._end_minute(node)
        try:
            fields = await self._in.meter.read(place)
        except WorldError as error:
            if node.trouble is None:
                log.info("a node cannot be measured", node=str(node.measured.subject), reason=str(error))
            node.trouble = str(error)
            node.gathering.silent()
            return
        at = self._in.now()
        more = self._machine.gauges() if node.measured.pid is not None else {}
        lag = self._lag(at, fields)
        if lag is not None:
            more = {**more, "ReplicationLag": lag}
            if node.measured.leads:
                more["GlobalDatastoreReplicationLag"] = lag
        if node.measured.behind_s is not None:
            more = {**more, "GlobalDatastoreReplicationLag": node.measured.behind_s}
        process = self._processes.get(node.measured.pid) if node.measured.pid is not None else None
        node.gathering.see(at, fields, process, more)
        node.at, node.trouble = at, None
        role = "replica" if fields.get("role") == "slave" else "primary"
        node.facts = {**node.measured.facts, **({"role": role} if place.speaks_resp else {})}

    def _lag(self, at: float, fields: Mapping[str, str]) -> float | None:
        """Remembers a primary's offset; tells how far a replica of it is behind."""
        stream = fields.get("master_replid") or ""
        if not _STREAM.fullmatch(stream):
            return None
        if fields.get("role") == "master":
            offset = number(fields, "master_repl_offset")
            if number(fields, "connected_slaves") and offset is not None:
                if stream not in self._offsets and len(self._offsets) > 2 * len(self._nodes):
                    self._forget_streams(at)
                self._offsets.setdefault(stream, PrimaryOffsets()).see(at, int(offset))
            return None
        offsets, applied = self._offsets.get(stream), number(fields, "slave_repl_offset")
        # Whether its link is up or not: until it follows another stream, its offset tells what it has.
        return offsets.lag_s(at, int(applied)) if offsets is not None and applied is not None else None

    def _forget_streams(self, at: float) -> None:
        """Those that no primary has told of lately; after a failover another one begins."""
        self._offsets = {stream: seen for stream, seen in self._offsets.items() if at - seen.last_at < STREAM_KEPT_S}
        while len(self._offsets) > 2 * len(self._nodes):
            del self._offsets[next(iter(self._offsets))]

    async def _end_minute(self, node: _Node) -> None:
        """At the first look behind the end of a minute: its points, kept until the minute is handed over."""
        minute = int(self._in.now() // MINUTE_S) * MINUTE_S
        if node.minute and minute > node.minute:
            latencies: Mapping[str, Buckets] | None = None
            if node.measured.place.speaks_resp and node.trouble is None:
                try:
                    latencies = await self._in.meter.latencies(node.measured.place)
                except WorldError as error:
                    log.debug("no latencies", node=str(node.measured.subject), reason=str(error))
            points = node.gathering.close(float(node.minute + MINUTE_S), latencies)
            self._finished.setdefault(node.minute, {})[node.measured.subject] = points
        node.minute = minute

    async def _hand_over(self) -> None:
        """Minutes whose last looks are over go to the series, with the groups' sums."""
        self._make_ready(self._in.now() - MINUTE_S - SETTLE_S - INTERVAL_S)
        while self._ready:
            try:
                await asyncio.to_thread(self._in.series.write, *self._ready[0])
            except Exception:
                self._ready.popleft()  # the next try would go wrong as well, and hold up what comes after it
                raise
            # Not before: when the service ends meanwhile, the thread may never have begun, and `finish` writes it.
            self._ready.popleft()

    def _make_ready(self, last: float) -> None:
        """The finished minutes that begin at `last` or before."""
        for minute in sorted(self._finished):
            if minute <= last:
                self._ready.append((minute, self._rows(minute)))

    def finish(self) -> None:
        """Hand over all that was gathered, the minute that is not over yet included. For the end of the service, when
        `run` has ended; counters of a part of a minute are left out, as always."""
        for node in self._nodes.values():
            if node.minute:
                points = node.gathering.close(float(node.minute + MINUTE_S), None)
                self._finished.setdefault(node.minute, {})[node.measured.subject] = points
                node.minute = 0
        self._make_ready(math.inf)
        while self._ready:
            self._in.series.write(*self._ready.popleft())

    def _rows(self, minute: int) -> dict[Subject, Mapping[str, Point]]:
        """Of the nodes and of their groups, taken out of those that wait."""
        nodes: dict[Subject, Mapping[str, Point]] = dict(self._finished.pop(minute))
        if minute <= self._began:
            # The service ended and came back within this minute: what it had seen before belongs to it.
            nodes = {subject: self._with_earlier(subject, minute, points) for subject, points in nodes.items()}
        handed = self._handed.get(minute, {})
        groups = self._of_groups(nodes, handed)
        self._handed = {minute: {**handed, **groups}}
        self._groups |= {subject: _values(points) for subject, points in groups.items()}
        return {**nodes, **groups}

    def _with_earlier(self, subject: Subject, minute: int, points: Mapping[str, Point]) -> Mapping[str, Point]:
        try:
            columns = self._in.series.read(subject, list(self._in.metrics), minute, minute + MINUTE_S, MINUTE_S)
        except WorldError as error:
            log.warning("what was seen before in this minute is left out", node=str(subject), reason=str(error))
            return points
        earlier = {
            name: Point(
                column.count[0], column.total[0], column.least[0], column.most[0], column.buckets.get(minute, ())
            )
            for name, column in columns.items()
            if list(column.starts) == [minute]
        }
        return merged(points, earlier, self._in.metrics)

    def _count_traffic(self) -> None:
        """Every few seconds, and at the end of each minute: the kernel lists every connection of the machine."""
        at = self._in.now()
        if 0 <= at - self._counted_at < TRAFFIC_EVERY_S and at % MINUTE_S < MINUTE_S - 3 * INTERVAL_S:
            return
        self._counted_at = at
        owners = {a: str(n.measured.subject) for n in self._nodes.values() for a in n.measured.listens}
        seen = self._in.host.traffic(owners) if owners else None
        if seen is not None:
            for subject, node in self._nodes.items():
                if (traffic := seen.get(str(subject))) is not None:
                    node.gathering.count(at, _packets(traffic))
        exceeded = self._machine.counters()
        for node in self._nodes.values():
            if node.measured.pid is not None and exceeded:
                node.gathering.exceeded(at, exceeded)

    def _of_groups(
        self, rows: Mapping[Subject, Mapping[str, Point]], handed: Mapping[Subject, Mapping[str, Point]]
    ) -> dict[Subject, dict[str, Point]]:
        """handed: what the series has of them in this minute already."""
        groups: dict[Subject, dict[str, Point]] = {}
        for subject, points in rows.items():
            node = self._nodes.get(subject)
            if node is not None and node.measured.group is not None:
                group = node.measured.group
                add = serverless.with_node if is_behind_serverless(group.id) else merged
                groups[group] = add(groups.get(group) or handed.get(group, {}), points, self._in.metrics)
        return groups


class _Node:
    def __init__(self, measured: Measured, gathering: Gathering) -> None:
        self.measured, self.gathering = measured, gathering
        self.task: asyncio.Task[None] | None = None
        self.at = 0.0
        self.minute = 0
        self.trouble: str | None = None
        self.facts: Mapping[str, str] = measured.facts


def _packets(traffic: Traffic) -> dict[str, float]:
    return {"NetworkPacketsIn": float(traffic.packets_in), "NetworkPacketsOut": float(traffic.packets_out)}


def _values(points: Mapping[str, Point]) -> dict[str, float]:
    return {name: point.total / point.count for name, point in points.items() if point.count}
