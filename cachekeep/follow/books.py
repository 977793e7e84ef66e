"""What of its time each generation covers, as far as it was handed over. Called by follow.key_follow.

Continuity is claimed while every lane is connected, and every key was read at least once since it was lost last. What
is claimed goes up to the oldest watermark of the lanes; a segment that is closed says it, and only then it counts.
Safe to share between threads.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field

from cachekeep.follow.crew import Member
from cachekeep.follow.lane import Lane
from cachekeep.follow.monitor import Monitor
from cachekeep.follow.types import FollowGap, FollowOptions
from cachekeep.follow.volume import Volume


@dataclass
class Lost:
    """Continuity, and since when."""

    since_ms: int
    reason: str
    lane: str | None


@dataclass
class Book:
    """A volume and what of its time is claimed. since_ms None: continuity is not proved. lost: if it was before."""

    volume: Volume
    since_ms: int | None = None
    until_ms: int | None = None
    lost: Lost | None = None
    began: float = field(default_factory=time.monotonic)
    # Of polling: since when the pass goes on (None: it has ended), and when the next one begins.
    pass_began: float | None = field(default_factory=time.monotonic)
    next_pass: float = 0.0


class Books:
    """Oldest first; two while a new generation is not whole yet."""

    def __init__(self, monitor: Monitor, options: FollowOptions, *, polled: bool) -> None:
        self._monitor, self._options, self._polled = monitor, options, polled
        self._all: list[Book] = []
        self._lock = threading.RLock()

    def add(self, book: Book) -> None:
        with self._lock:
            self._all.append(book)

    def remove(self, book: Book) -> None:
        with self._lock:
            self._all.remove(book)

    def all(self) -> list[Book]:
        with self._lock:
            return list(self._all)

    def volumes(self) -> list[Volume]:
        return [book.volume for book in self.all()]

    def note(self, event: str, **fields: object) -> None:
        for volume in self.volumes():
            volume.chapter.journal.event(event, **fields)

    def claim(self, lanes: Sequence[Lane]) -> None:
        """As much as the lanes' watermarks prove. Raises what the store raised."""
        if not lanes or not all(lane.connected for lane in lanes):
            return
        for book in self.all():
            with self._lock:
                until = _oldest(lanes)
                if until is None or any(lane.sweeps.owes(book.volume) for lane in lanes):
                    continue
                if self._polled:
                    self._claim_point(book, until, lanes)
                # What passes wrote is of the moment of writing: it has to lie before what is claimed.
                elif book.since_ms is not None or self._begins(book, until, max(lane.swept_ms for lane in lanes)):
                    self._claim_until(book, until)

    def claim_at_end(self, lanes: Sequence[Lane]) -> None:
        """What the last rounds captured. Lanes are at their end, and were connected until then."""
        until = _oldest(lanes)
        with self._lock:
            for book in self._all:
                if book.since_ms is not None and not self._polled and until is not None:
                    self._claim_until(book, until)
            first = self._all[0]
            if first.since_ms is not None and first.until_ms is not None:
                self._monitor.covered((first.since_ms, first.until_ms))

    def lose(self, since_ms: int | None, reason: str, lane: str | None) -> None:
        """Continuity is lost, since then (None: since the last claim). Raises what the store raised."""
        with self._lock:
            for book in self._all:
                self._lose(book, since_ms, reason, lane)

    def fell_behind(self, seconds: float, lane: Member) -> None:
        """Nothing was missed, but when each change was is not known well enough."""
        self.lose(None, f"changes came faster than they could be read: reading them took {seconds:.1f} s", lane.name)

    def missed(self, keys: int, proved_ms: int | None, lane: Member) -> None:
        """Since the last proof changes were missing. Entries have claimed it already: the log takes it back."""
        reason = f"{keys} changes were never announced; a pass over all keys found them"
        self._monitor.missed(keys)
        self._monitor.news(f"{lane.label}: {reason}")
        with self._lock:
            for book in self._all:
                if book.since_ms is not None and book.until_ms is not None:
                    start = max(book.since_ms, proved_ms or 0)
                    book.volume.chapter.journal.event(
                        "doubt", start_ms=start, end_ms=book.until_ms, reason=reason, lane=lane.name
                    )
                    if book is self._all[0]:
                        self._monitor.gap(FollowGap(start, book.until_ms, reason, lane.name))
                self._lose(book, None, reason, lane.name)

    def store_came_back(self, reason: str) -> None:
        """What was not durable is gone: continuity is lost since the last moment that is."""
        with self._lock:
            for book in self._all:
                last = book.volume.last_covered_ms
                book.since_ms = book.until_ms = None
                book.pass_began = time.monotonic()
                if last is not None:
                    before = f"{book.lost.reason}; " if book.lost else ""
                    book.lost = Lost(min(last, book.lost.since_ms if book.lost else last), before + reason, None)

    def _claim_until(self, book: Book, until: int) -> None:
        if book.until_ms is None or until > book.until_ms:
            first, book.until_ms = book.until_ms is None, until
            book.volume.cover(book.since_ms or until, until)
            if first:  # soon durable: whoever waits for continuity need not wait for more changes
                book.volume.roll()

    def _claim_point(self, book: Book, until: int, lanes: Sequence[Lane]) -> None:
        """The end of a pass of every lane can be restored. The next pass leaves the source time to breathe."""
        now = time.monotonic()
        if book.pass_began is None:
            if now >= book.next_pass:
                book.pass_began = now
                for lane in lanes:
                    lane.sweeps.want(book.volume, "gap")
            return
        took_s, before = now - book.pass_began, book.until_ms
        # Of the lane that ended last: every key was read by then.
        until = max(until, *(lane.watermark_ms or 0 for lane in lanes))
        if book.since_ms is None:
            self._begins(book, until, 0)
            self._monitor.news(f"a pass takes {took_s:.1f} s; moments that can be restored lie so far apart at least")
        book.until_ms = until
        book.volume.cover(until, until)
        book.volume.roll()
        book.volume.forget_cover()
        self._monitor.lag(until - before if before is not None else took_s * 1000)
        book.next_pass = max(book.pass_began + self._options.max_lag_s, now + took_s / 2)
        book.pass_began = None

    def _begins(self, book: Book, until: int, swept_ms: int) -> bool:
        """A stretch begins: every key was read since continuity was lost, every change since then was heard of."""
        if until < swept_ms or (book.lost is not None and until <= book.lost.since_ms):
            return False
        first = not book.volume.base_done
        book.volume.base_done = True
        book.since_ms, book.until_ms = until, None
        lost, book.lost = book.lost, None
        if lost is not None:
            gap = FollowGap(lost.since_ms, until, lost.reason, lost.lane)
            book.volume.chapter.gap(gap)
            if book is self._all[0]:
                self._monitor.gap(gap)
            self._monitor.news(
                f"continuity is proved again after {(until - lost.since_ms) / 1000:.1f} s: {lost.reason}"
            )
        elif first and not self._polled:
            self._monitor.news("every key was read; from now on any moment can be restored")
        book.volume.roll()
        return True

    def _lose(self, book: Book, since_ms: int | None, reason: str, lane: str | None) -> None:
        if book.since_ms is not None:
            covered = book.until_ms if book.until_ms is not None else book.since_ms
            start = covered if since_ms is None else min(since_ms, covered)
            book.lost = Lost(max(start, 0), reason, lane)
            book.since_ms = book.until_ms = None
            book.pass_began = time.monotonic()
            self._monitor.news(f"continuity is lost: {reason}")
            book.volume.uncover(start if start < covered else None)
        elif book.lost is not None and since_ms is not None:
            book.lost.since_ms = min(book.lost.since_ms, since_ms)


def _oldest(lanes: Sequence[Lane]) -> int | None:
    """The watermark of all; None while one has none."""
    marks = [lane.watermark_ms for lane in lanes]
    return None if None in marks or not marks else min(mark for mark in marks if mark is not None)
