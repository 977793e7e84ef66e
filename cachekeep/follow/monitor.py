"""What a running capture is doing: told by its threads, asked by the live view and by metrics. Safe to share."""

from __future__ import annotations

import threading
import time
from collections import deque

from cachekeep.follow.types import FollowGap, FollowMethod, FollowStatus, OnNews, Phase

_LAG_WINDOW_S = 60.0
_LAG_SAMPLES = 4096
_RATE_WINDOW_S = 10.0


class Monitor:
    """news: called with a sentence when something happens that an operator wants to know."""

    def __init__(self, method: FollowMethod, news: OnNews = lambda sentence: None) -> None:
        self._method, self._news = method, news
        self._lock = threading.Lock()
        self._began = time.monotonic()
        self._generation, self._phase, self._trouble = "", "starting", None  # type: tuple[str, Phase, str | None]
        self._covered: tuple[int, int] | None = None
        self._durable_until: int | None = None
        self._lags: deque[tuple[float, float]] = deque(maxlen=_LAG_SAMPLES)
        self._rates: deque[tuple[float, int]] = deque()
        self._changes = self._keys = self._queue = self._bytes = self._missed = self._passes = 0
        self.gaps: list[FollowGap] = []
        self.generations: list[str] = []
        self.notes: list[str] = []

    def news(self, sentence: str) -> None:
        self._news(sentence)

    def note(self, sentence: str) -> None:
        """For the report; each sentence once."""
        with self._lock:
            if sentence in self.notes:
                return
            self.notes.append(sentence)
        self._news(sentence)

    def generation(self, name: str) -> None:
        with self._lock:
            self._generation = name
            if name not in self.generations:
                self.generations.append(name)

    def phase(self, phase: Phase, trouble: str | None = None) -> None:
        with self._lock:
            self._phase, self._trouble = phase, trouble

    def changed(self, records: int) -> None:
        """So many records of changes were captured."""
        with self._lock:
            self._changes += records
            now = time.monotonic()
            self._rates.append((now, records))
            while self._rates and self._rates[0][0] < now - _RATE_WINDOW_S:
                self._rates.popleft()

    def copied(self, keys: int) -> None:
        """So many keys were read by a pass over all keys."""
        with self._lock:
            self._keys += keys

    def lag(self, ms: float) -> None:
        with self._lock:
            self._lags.append((time.monotonic(), ms))

    def covered(self, stretch: tuple[int, int] | None) -> None:
        """The interval that goes on now; None when continuity was lost."""
        with self._lock:
            self._covered = stretch

    def durable(self, until_ms: int) -> None:
        with self._lock:
            self._durable_until = until_ms

    def wrote(self, size: int) -> None:
        with self._lock:
            self._bytes += size

    def queue(self, keys: int) -> None:
        with self._lock:
            self._queue = keys

    def missed(self, keys: int) -> None:
        with self._lock:
            self._missed += keys

    def passed(self) -> None:
        """A pass over all keys came to its end."""
        with self._lock:
            self._passes += 1

    def gap(self, gap: FollowGap) -> None:
        """Once it has ended, or when the capture ends in it."""
        with self._lock:
            self.gaps.append(gap)

    def status(self) -> FollowStatus:
        now = time.monotonic()
        with self._lock:
            lags = sorted(ms for at, ms in self._lags if at >= now - _LAG_WINDOW_S)
            recent = [records for at, records in self._rates if at >= now - _RATE_WINDOW_S]
            since, until = self._covered or (None, None)
            return FollowStatus(
                generation=self._generation,
                method=self._method,
                phase=self._phase,
                trouble=self._trouble,
                covered_since_ms=since,
                covered_until_ms=until,
                durable_until_ms=self._durable_until,
                lag_ms=self._lags[-1][1] if self._lags else None,
                lag_p99_ms=lags[min(len(lags) - 1, int(len(lags) * 0.99))] if lags else None,
                changes=self._changes,
                changes_per_s=sum(recent) / min(_RATE_WINDOW_S, max(now - self._began, 1e-3)),
                keys=self._keys,
                gaps=len(self.gaps),
                queue_keys=self._queue,
                bytes=self._bytes,
                missed=self._missed,
                passes=self._passes,
                uptime_s=now - self._began,
            )
