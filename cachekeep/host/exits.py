"""Holds one process fast, to signal it and to learn of its end. Called by host.local only.

On Linux by pidfd: it names the process and not its number, so a signal never hits a successor, and it becomes
readable at the end of processes that are not our children. Elsewhere by looking ten times a second.
"""

from __future__ import annotations

import asyncio
import os
import select
import signal
import sys
from collections.abc import Callable
from contextlib import suppress
from types import TracebackType
from typing import Protocol, Self

from cachekeep.domain.nodes import Process
from cachekeep.host.process import is_alive

_LOOK_EVERY_S = 0.1


class _Hold(Protocol):
    def send(self, number: int) -> None: ...
    def on_end(self, loop: asyncio.AbstractEventLoop, call: Callable[[], None]) -> None: ...
    def release(self) -> None: ...


class Handle:
    """One process, held until `close`. Also a context manager."""

    def __init__(self, hold: _Hold) -> None:
        self._hold = hold

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def send(self, number: signal.Signals) -> None:
        """Signal the process; no effect when it has ended."""
        with suppress(ProcessLookupError):
            self._hold.send(number)

    def call_at_end(self, call: Callable[[], None]) -> None:
        """Call `call` in the running loop once the process has ended, also when it already has."""
        self._hold.on_end(asyncio.get_running_loop(), call)

    async def wait(self, timeout_s: float) -> bool:
        """Return True once the process has ended, False after timeout_s."""
        ended = asyncio.Event()
        self.call_at_end(ended.set)
        try:
            async with asyncio.timeout(timeout_s):
                await ended.wait()
        except TimeoutError:
            return False
        return True

    def close(self) -> None:
        """Let go: nothing is called any more. May be called twice."""
        self._hold.release()


def hold(process: Process) -> Handle | None:
    """Return a handle on this very process, or None when it has ended."""
    handle = Handle(_open(process))
    # Looked at after opening: between the two the pid may have gone to another process.
    if is_alive(process):
        return handle
    handle.close()
    return None


class _Looking:
    """Asks again and again. For systems without pidfd."""

    def __init__(self, process: Process) -> None:
        self._process = process
        self._timer: asyncio.TimerHandle | None = None

    def send(self, number: int) -> None:
        if is_alive(self._process):
            os.kill(self._process.pid, number)

    def on_end(self, loop: asyncio.AbstractEventLoop, call: Callable[[], None]) -> None:
        def check() -> None:
            if is_alive(self._process):
                self._timer = loop.call_later(_LOOK_EVERY_S, check)
            else:
                call()

        self.release()
        self._timer = loop.call_later(0, check)

    def release(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None


if sys.platform == "linux":

    class _Pidfd:
        def __init__(self, fd: int) -> None:
            self._fd = fd
            self._loop: asyncio.AbstractEventLoop | None = None

        def send(self, number: int) -> None:
            signal.pidfd_send_signal(self._fd, number)

        def on_end(self, loop: asyncio.AbstractEventLoop, call: Callable[[], None]) -> None:
            def once() -> None:
                # A pidfd stays readable: without this the loop would call for ever.
                self._stop_reading()
                call()

            self._stop_reading()
            loop.add_reader(self._fd, once)
            self._loop = loop

        def release(self) -> None:
            self._stop_reading()
            if self._fd >= 0:
                os.close(self._fd)
                self._fd = -1

        def _stop_reading(self) -> None:
            if self._loop is not None and not self._loop.is_closed():
                self._loop.remove_reader(self._fd)
            self._loop = None

    def _open(process: Process) -> _Hold:
        try:
            return _Pidfd(os.pidfd_open(process.pid))
        except OSError:
            # Ended (then it is found dead at once), or a kernel or sandbox without pidfd.
            return _Looking(process)

    def wait_briefly(process: Process, timeout_s: float) -> None:
        """Block until the process has ended, at most timeout_s. For threads."""
        try:
            fd = os.pidfd_open(process.pid)
        except OSError:
            return
        try:
            poll = select.poll()
            poll.register(fd, select.POLLIN)
            poll.poll(timeout_s * 1000)
        finally:
            os.close(fd)

else:

    def _open(process: Process) -> _Hold:
        return _Looking(process)

    def wait_briefly(process: Process, timeout_s: float) -> None:
        """Where there is no pidfd, nothing can be waited for in a thread: the next look tells."""
