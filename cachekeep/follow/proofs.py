"""When a pass over all keys proves that nothing was missed. Called by follow.key_follow."""

from __future__ import annotations

import time
from collections.abc import Sequence

from cachekeep.follow.books import Books
from cachekeep.follow.lane import Lane


class Proofs:
    """every_s: how long after one the next begins; 0: never. proved_ms: when the last one began that has ended."""

    def __init__(self, every_s: float) -> None:
        self._every_s = every_s
        self._going_on, self._ended_at = False, time.monotonic()
        self._began_ms: int | None = None
        self.proved_ms: int | None = None

    def now_and_then(self, books: Books, lanes: Sequence[Lane]) -> None:
        """While one generation is written, and continuity is claimed."""
        book, *others = books.all()
        if not self._every_s or others or book.since_ms is None:
            return
        if any(lane.sweeps.has(book.volume, "base", "gap", "proof") for lane in lanes):
            return
        if self._going_on:
            self._going_on, self._ended_at = False, time.monotonic()
            self.proved_ms = self._began_ms
            book.volume.chapter.journal.event("proved")
        if time.monotonic() - self._ended_at >= self._every_s:
            self._going_on, self._began_ms = True, book.until_ms
            for lane in lanes:
                lane.sweeps.want(book.volume, "proof")
