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
    """The stretch that goes on now. limited: moments after `allow` do not count, whatever the lanes have.

    Per lane three marks: reached; promised, by an entry that is written or being written; durable.
    """

    def __init__(self, lanes: Iterable[str], *, limited: bool = False) -> None:
        self._since: dict[str, int | None] = dict.fromkeys(lanes)
        self._reached: dict[str, int] = {}
        self._promised: dict[str, int] = {}
        self._durable: dict[str, int] = {}
        self._limit: int | None = 0 if limited else None
        # What the limit was when each lane's entry was written, and for the newest that is durable.
        self._limit_of: dict[str, int | None] = {}
        self._limit_durable = self._limit
        self._claimed: tuple[int, int] | None = None
        self._lock = threading.Lock()

    def go_on(self, stretch: tuple[int, int] | None) -> None:
        """What an earlier run covered last."""
        if stretch:
            since_ms, until_ms = stretch
            for lane in self._since:
                self._since[lane] = since_ms
                self._reached[lane] = self._promised[lane] = self._durable[lane] = until_ms
            if self._limit is not None:
                self._limit = self._limit_durable = until_ms
            self._claimed = stretch

    def allow(self, until_ms: int) -> None:
        with self._lock:
            self._limit = max(self._limit or 0, until_ms)

    def reach(self, lane: str, moment_ms: int, *, changed: bool) -> tuple[int, int] | None:
        """A mark was reached. changed: something came since the one before. Returns the gap that shows by it.

        A gap ends the stretch: the next one begins with this mark. No moment is earlier than one that was reached.
        """
        with self._lock:
            before = self._reached.get(lane)
            moment_ms = moment_ms if before is None else max(before, moment_ms)
            self._reached[lane] = moment_ms
            if self._since[lane] is None:
                self._since[lane] = moment_ms
            elif before is not None and changed and moment_ms - before > RESOLUTION_MS:
                stretch = self._stretch(self._promised, self._limit)
                self._since[lane] = moment_ms
                return (stretch[1] if stretch else before), moment_ms
            return None

    def reached(self, lane: str) -> int | None:
        """The last mark of a lane."""
        with self._lock:
            return self._reached.get(lane)

    def with_segment(self, lane: str, mark_ms: int | None) -> tuple[int, int] | None:
        """What is covered once a segment is durable that ends behind this mark of its lane.

        To be asked while its entry is about to be written and no other one is (GenerationWriter.commit): then all that
        was promised before is durable with it. Never less than what was said before of the same stretch.
        """
        if mark_ms is None:
            return None
        with self._lock:
            self._promised[lane], self._limit_of[lane] = mark_ms, self._limit
            found, last = self._stretch(self._promised, self._limit), self._claimed
            if found and last and found[1] < last[1]:
                return last
            self._claimed = found or last
            return found

    def kept(self, lane: str, mark_ms: int | None) -> tuple[int, int] | None:
        """That segment is durable. Returns what is covered by what is: no more than an entry says."""
        with self._lock:
            if mark_ms is not None:
                self._promised[lane] = self._durable[lane] = mark_ms
                limit = self._limit_of.pop(lane, self._limit)
                self._limit_durable = None if limit is None else max(limit, self._limit_durable or 0)
            return self._stretch(self._durable, self._limit_durable)

    @property
    def unclaimed(self) -> bool:
        """Whether more is covered by what is durable than any entry says."""
        with self._lock:
            found = self._stretch(self._durable, self._limit)
            return found is not None and (self._claimed is None or found[1] > self._claimed[1])

    @property
    def known(self) -> tuple[int, int] | None:
        """What is covered by all that is here, durable or not."""
        with self._lock:
            return self._stretch(self._reached, self._limit)

    @property
    def durable(self) -> tuple[int, int] | None:
        """What is covered as entries say that are durable."""
        with self._lock:
            return self._stretch(self._durable, self._limit_durable)

    def _stretch(self, until: dict[str, int], limit_ms: int | None) -> tuple[int, int] | None:
        if len(until) < len(self._since) or None in self._since.values():
            return None
        since_ms = max(since for since in self._since.values() if since is not None)
        until_ms = min(until.values())
        if limit_ms is not None:
            until_ms = min(until_ms, limit_ms)
        return (since_ms, until_ms) if since_ms <= until_ms else None
