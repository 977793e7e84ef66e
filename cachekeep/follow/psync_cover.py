"""Which moments one generation of replication streams knows everything of. Pure; safe to share between threads.

A *mark* of a lane is a moment and how far the source's stream had come then: once so much of it is here, all that was
done until that moment is. Moments are in ms since 1970 by the source's clock. Called by follow.psync_lane.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable

# Commands carry no time of their own: a moment is when they came. Where marks are further apart than this and
# something came between, nobody knows when within it, and none of these moments is said to be known.
RESOLUTION_MS = 10_000


class Cover:
    """The stretch that goes on now. limited: moments after `allow` do not count, whatever the lanes have."""

    def __init__(self, lanes: Iterable[str], *, limited: bool = False) -> None:
        self._since: dict[str, int | None] = dict.fromkeys(lanes)
        self._reached: dict[str, int] = {}
        self._durable: dict[str, int] = {}
        self._limit: int | None = 0 if limited else None
        self._lock = threading.Lock()

    def go_on(self, stretch: tuple[int, int] | None) -> None:
        """What an earlier run covered last."""
        if stretch:
            since_ms, until_ms = stretch
            for lane in self._since:
                self._since[lane], self._reached[lane], self._durable[lane] = since_ms, until_ms, until_ms

    def allow(self, until_ms: int) -> None:
        with self._lock:
            self._limit = until_ms

    def reach(self, lane: str, moment_ms: int, *, changed: bool) -> tuple[int, int] | None:
        """A mark was reached. changed: something came since the one before. Returns the gap that shows by it.

        A gap ends the stretch: the next one begins with this mark.
        """
        with self._lock:
            before = self._reached.get(lane)
            self._reached[lane] = moment_ms
            if self._since[lane] is None:
                self._since[lane] = moment_ms
            elif before is not None and changed and moment_ms - before > RESOLUTION_MS:
                stretch = self._stretch(self._durable)
                self._since[lane] = moment_ms
                return (stretch[1] if stretch else before), moment_ms
            return None

    def reached(self, lane: str) -> int | None:
        """The last mark of a lane."""
        with self._lock:
            return self._reached.get(lane)

    def with_segment(self, lane: str, mark_ms: int | None) -> tuple[int, int] | None:
        """What is covered once a segment is durable that ends behind this mark of its lane."""
        if mark_ms is None:
            return None
        with self._lock:
            return self._stretch(self._durable | {lane: mark_ms})

    def kept(self, lane: str, mark_ms: int | None) -> tuple[int, int] | None:
        """That segment is durable. Returns what is covered by what is."""
        with self._lock:
            if mark_ms is not None:
                self._durable[lane] = mark_ms
            return self._stretch(self._durable)

    @property
    def known(self) -> tuple[int, int] | None:
        """What is covered by all that is here, durable or not."""
        with self._lock:
            return self._stretch(self._reached)

    @property
    def durable(self) -> tuple[int, int] | None:
        with self._lock:
            return self._stretch(self._durable)

    def _stretch(self, until: dict[str, int]) -> tuple[int, int] | None:
        if len(until) < len(self._since) or None in self._since.values():
            return None
        since_ms = max(since for since in self._since.values() if since is not None)
        until_ms = min(until.values())
        if self._limit is not None:
            until_ms = min(until_ms, self._limit)
        return (since_ms, until_ms) if since_ms <= until_ms else None
