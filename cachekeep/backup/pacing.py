"""How fast keys may be read, and how one stops all: shared by the threads of a copy."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

_SLICE_S = 0.1
_BURST_S = 0.05


class Halted(Exception):
    """Ends a thread that was told to stop. Caught by the copy."""


class Halt:
    """Set from outside (a signal), or by the first thread that failed. Waits end early once it is set."""

    def __init__(self, outside: threading.Event | None = None) -> None:
        self._outside = outside or threading.Event()
        self._inside = threading.Event()

    def set(self) -> None:
        self._inside.set()

    def forget(self) -> None:
        """Once all threads have ended: what comes after may go on. A wish from outside stays."""
        self._inside.clear()

    def check(self) -> None:
        """Raises Halted."""
        if self._outside.is_set() or self._inside.is_set():
            raise Halted

    def wait(self, seconds: float) -> None:
        """Raises Halted as soon as it is set."""
        deadline = time.monotonic() + seconds
        self.check()
        while (left := deadline - time.monotonic()) > 0:
            self._inside.wait(min(left, _SLICE_S))
            self.check()


class Pace:
    """A token bucket of keys. Safe to share between threads."""

    def __init__(
        self,
        keys_per_s: int | None,
        wait: Callable[[float], object],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._rate, self._wait, self._clock = keys_per_s, wait, clock
        self._ready_at = clock()
        self._lock = threading.Lock()

    def take(self, keys: int) -> None:
        """Returns when so many more keys may be read. Raises what `wait` raises."""
        if self._rate is None:
            return
        with self._lock:
            now = self._clock()
            # Time in which nothing was read is not saved up beyond a short burst.
            self._ready_at = max(self._ready_at, now - _BURST_S)
            delay = self._ready_at - now
            self._ready_at += keys / self._rate
        if delay > 0:
            self._wait(delay)
