"""What the lanes of one generation tell the monitor, as long as theirs is the generation that counts.

At a rollover two generations are written side by side; the new one is silent until it takes the place of the old one.
Called by psync_lane and psync_capture. Safe to share between threads.
"""

from __future__ import annotations

import threading

from cachekeep.follow.monitor import Monitor


class Teller:
    """The number of changes is an estimate: pieces of the stream are not parsed, only searched for what begins a
    command, which a value may contain too.
    """

    def __init__(self, monitor: Monitor, name: str, *, current: bool) -> None:
        self.monitor, self._name, self._current = monitor, name, False
        self._lock = threading.Lock()
        self._away: dict[str, str] = {}
        self._whole = False
        if current:
            self.take_over()

    def take_over(self) -> None:
        self._current = True
        self.monitor.generation(self._name)
        self._phase()

    def whole(self) -> None:
        """All RDB files are durable."""
        self._whole = True
        self._phase()

    def away(self, lane: str, trouble: str | None) -> None:
        with self._lock:
            if trouble is None:
                self._away.pop(lane, None)
            else:
                self._away[lane] = trouble
        self._phase()

    def changed(self, data: bytes) -> None:
        if self._current:
            self.monitor.changed(data.count(b"\r\n*") + 1)

    def reached(self, lag_ms: int, known: tuple[int, int] | None) -> None:
        if self._current:
            self.monitor.lag(lag_ms)
            self.monitor.covered(known)

    def durable(self, stretch: tuple[int, int] | None) -> None:
        if self._current and stretch:
            self.monitor.durable(stretch[1])

    def wrote(self, size: int) -> None:
        self.monitor.wrote(size)

    def _phase(self) -> None:
        if not self._current:
            return
        with self._lock:
            trouble = next(iter(self._away.values()), None)
        if trouble:
            self.monitor.phase("away", trouble)
        else:
            self.monitor.phase("following" if self._whole else "copying")
