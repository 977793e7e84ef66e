"""One log of one node on its way: read what is new, bring it, remember how far. Called by logs.delivery.

Reading and bringing are two tasks: while a destination is away, the slow log's ring, which forgets, is read on into a
bounded queue; the engine log waits in its file. The position is saved after a batch arrived, so a service that is
killed in between brings that batch twice, and loses nothing that the engine still has.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

import structlog

from cachekeep.domain.log_delivery import LogLine, Position
from cachekeep.domain.log_ports import LogDestinations, LogPositions, LogStream, TooMuch
from cachekeep.domain.nodes import Address, NodeKey
from cachekeep.domain.ports import WorldError
from cachekeep.logs.source import Source

log = structlog.get_logger()

MOST_WAITING = 10_000
ENOUGH_WAITING = 2_000
BATCH_LINES, BATCH_BYTES = 1_000, 512 * 1024
READ_EVERY_S, BUSY_EVERY_S = 1.0, 0.2
# As many at once say that the ring, of 128 by default, turns fast.
BUSY_LINES = 32
FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.5, 60.0


@dataclass(frozen=True)
class Route:
    """What a lane is for; another route is another lane."""

    key: NodeKey
    address: Address
    stream: LogStream


class Lane:
    """ready: the destination can be written to, and the log was read. problem: why lines do not arrive, "" if they do.
    lost: entries that are gone since this lane began. changed: called when any of these is another."""

    def __init__(
        self,
        route: Route,
        source: Source,
        destinations: LogDestinations,
        positions: LogPositions,
        changed: Callable[[], None],
    ) -> None:
        self.route = route
        self.ready = False
        self.problem = ""
        self.lost = 0
        self._source, self._destinations, self._positions = source, destinations, positions
        self._changed = changed
        self._waiting: deque[tuple[LogLine | None, Position]] = deque()
        self._at_once = BATCH_LINES
        self._came = asyncio.Event()
        self._was_read = self._prepared = False
        self._type = route.stream.delivery.log_type.value

    async def run(self) -> None:
        """Until cancelled."""
        since = await asyncio.to_thread(self._positions.load, self.route.key, self._type)
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._read(since))
            tasks.create_task(self._bring())

    async def _read(self, since: Position) -> None:
        silent = False
        while True:
            pause_s = READ_EVERY_S
            if not self._source.keeps or len(self._waiting) < ENOUGH_WAITING:
                try:
                    found = await self._source.read(since)
                except WorldError as error:
                    # A node that restarts or is gone: not the destination's trouble, and told by control.
                    if not silent:
                        log.info("a log cannot be read", node=str(self.route.key), log=self._type, reason=str(error))
                    silent = True
                else:
                    silent = False
                    if found.lines:
                        since = found.lines[-1][1]
                    self._take(found.lines, found.lost)
                    self._was_read = True
                    self._note_ready()
                    pause_s = BUSY_EVERY_S if len(found.lines) >= BUSY_LINES else READ_EVERY_S
            await asyncio.sleep(pause_s)

    def _take(self, lines: tuple[tuple[LogLine | None, Position], ...], lost: int) -> None:
        self._waiting.extend(lines)
        while len(self._waiting) > MOST_WAITING:
            self._waiting.popleft()
            lost += 1
        self._lose(lost)
        if self._waiting:
            self._came.set()

    def _lose(self, lost: int) -> None:
        if lost:
            self.lost += lost
            log.warning("entries of a log are lost", node=str(self.route.key), log=self._type, entries=lost)
            self._changed()

    def _note_ready(self) -> None:
        if self._was_read and self._prepared and not self.ready:
            self.ready = True
            self._changed()

    async def _bring(self) -> None:
        await self._insist(lambda: self._destinations.prepare(self.route.stream))
        self._prepared = True
        self._note_ready()
        while True:
            await self._came.wait()
            self._came.clear()
            while self._waiting:
                await self._bring_batch()

    async def _bring_batch(self) -> None:
        """What is brought leaves the queue first: a queue that overflows meanwhile drops none of it.

        After a failure half as many lines are tried, down to one, and after a success twice as many: a destination
        that breaks off what is too large for it gets what it takes. A single line that it never takes is given up.
        """
        batch = self._next()
        pause_s = FIRST_PAUSE_S
        while lines := [line for line, _ in batch if line is not None]:
            try:
                refused = await self._destinations.deliver(self.route.stream, lines)
            except WorldError as error:
                too_much = isinstance(error, TooMuch)
                if too_much and len(batch) == 1:
                    log.warning("a line is given up", node=str(self.route.key), log=self._type, reason=str(error))
                    self._lose(1)
                    break
                half = max(len(batch) // 2, 1)
                self._waiting.extendleft(reversed(batch[half:]))
                batch, self._at_once = batch[:half], half
                if not too_much:
                    self._tell(str(error))
                    await asyncio.sleep(pause_s)
                    pause_s = min(pause_s * 2, LONGEST_PAUSE_S)
            else:
                self._tell("")
                self._at_once = min(self._at_once * 2, BATCH_LINES)
                self._lose(refused)
                break
        position = batch[-1][1]
        await self._insist(lambda: asyncio.to_thread(self._positions.save, self.route.key, self._type, position))

    def _next(self) -> list[tuple[LogLine | None, Position]]:
        batch: list[tuple[LogLine | None, Position]] = []
        size = 0
        while self._waiting and len(batch) < self._at_once and size < BATCH_BYTES:
            batch.append(self._waiting.popleft())
            size += len(line.text) if (line := batch[-1][0]) is not None else 0
        return batch

    async def _insist(self, attempt: Callable[[], Awaitable[None]]) -> None:
        pause_s = FIRST_PAUSE_S
        while True:
            try:
                await attempt()
            except WorldError as error:
                self._tell(str(error))
            else:
                self._tell("")
                return
            await asyncio.sleep(pause_s)
            pause_s = min(pause_s * 2, LONGEST_PAUSE_S)

    def _tell(self, problem: str) -> None:
        if problem != self.problem:
            self.problem = problem
            if problem:
                log.warning("a log is not delivered", node=str(self.route.key), log=self._type, reason=problem)
            self._changed()
