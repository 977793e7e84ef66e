"""Where log lines go: CloudWatch Logs or an HTTP endpoint where one is configured, else files of this machine.

Implements domain.log_ports.LogDestinations. What blocks runs in threads of its own, a few for each kind: a destination
that hangs takes none from anybody else, and none of them holds up the end of the service.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, TypeVar, cast

from cachekeep.domain.log_delivery import DestinationType, LogLine
from cachekeep.domain.log_ports import LogStream
from cachekeep.domain.world import WorldError
from cachekeep.notify.firehose import FirehoseEndpoint
from cachekeep.notify.log_files import LogFiles

if TYPE_CHECKING:  # it comes with all of botocore, and few services deliver to it
    from cachekeep.notify.cloudwatch_logs import CloudWatchLogs

AT_ONCE = 4
# Calls that were given up on and still hang somewhere, and those that run: more are not begun.
MOST_THREADS = 16
DEADLINE_S = 30.0

T = TypeVar("T")


class Destinations:
    """cloudwatch, firehose: None for files instead."""

    def __init__(self, files: LogFiles, cloudwatch: CloudWatchLogs | None, firehose: FirehoseEndpoint | None) -> None:
        self._files, self._cloudwatch, self._firehose = files, cloudwatch, firehose
        self._to_files, self._to_cloudwatch = _Threads(), _Threads()

    async def prepare(self, stream: LogStream) -> None:
        match self._sink(stream):
            case None:
                await self._to_files.run(lambda: self._files.append(stream, ()))
            case FirehoseEndpoint():
                return
            case logs:
                await self._to_cloudwatch.run(lambda: logs.prepare(stream))

    async def deliver(self, stream: LogStream, lines: Sequence[LogLine]) -> int:
        match self._sink(stream):
            case FirehoseEndpoint() as endpoint:
                await endpoint.post(stream, lines)
            case None:
                await self._to_files.run(lambda: self._files.append(stream, lines))
            case logs:
                return await self._to_cloudwatch.run(lambda: logs.put(stream, lines))
        return 0

    def _sink(self, stream: LogStream) -> CloudWatchLogs | FirehoseEndpoint | None:
        if stream.delivery.destination_type is DestinationType.CLOUDWATCH_LOGS:
            return self._cloudwatch
        return self._firehose


class _Threads:
    """A thread for each call: one of a pool that hangs is waited for when the interpreter ends."""

    def __init__(self) -> None:
        self._turn = asyncio.Semaphore(AT_ONCE)
        self._living: set[threading.Thread] = set()

    async def run(self, call: Callable[[], T]) -> T:
        """What `call` answers or raises. Raises WorldError when it takes too long; it may end later all the same."""
        try:
            async with asyncio.timeout(DEADLINE_S), self._turn:
                return await self._begin(call)
        except TimeoutError:
            raise WorldError(f"the destination did not take the lines within {DEADLINE_S:g} s") from None

    def _begin(self, call: Callable[[], T]) -> asyncio.Future[T]:
        self._living = {thread for thread in self._living if thread.is_alive()}
        if len(self._living) >= MOST_THREADS:
            raise WorldError(f"the destination holds {MOST_THREADS} attempts and ends none of them")
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[T] = loop.create_future()

        def tell(result: T | None, error: Exception | None) -> None:
            if answer.done():
                return  # given up on
            if error is not None:
                answer.set_exception(error)
            else:
                answer.set_result(cast("T", result))

        def work() -> None:
            result: T | None = None
            failed: Exception | None = None
            try:
                result = call()
            except Exception as error:  # noqa: BLE001 - whoever waits gets it
                failed = error
            with suppress(RuntimeError):  # the service has ended
                loop.call_soon_threadsafe(tell, result, failed)

        thread = threading.Thread(target=work, name="log-delivery", daemon=True)
        self._living.add(thread)
        thread.start()
        return answer
