"""Keys that passes over all keys found, kept back for a moment before they are written.

An announcement of a key takes the place of what a pass found. Called by follow.volume, under its lock.
"""

from __future__ import annotations

import time
from typing import NamedTuple

from cachekeep.codec.record import Record
from cachekeep.follow.index import Put

_LONGEST_S, _MOST_KEYS, _MOST_BYTES = 1.0, 5000, 8 << 20


class Taken(NamedTuple):
    """What is to be written. lane: of the pass that found the last of it."""

    records: list[Record]
    puts: list[Put]
    lane: str


class Held:
    """Empty at first, and after `take`."""

    def __init__(self) -> None:
        self._found: dict[tuple[int, bytes], tuple[Record, Put]] = {}
        self._lane, self._since, self._bytes = "", 0.0, 0

    def __bool__(self) -> bool:
        return bool(self._found)

    def add(self, record: Record, put: Put, lane: str) -> None:
        if not self._found:
            self._since, self._bytes = time.monotonic(), 0
        self._lane = lane
        self._found[record.db, record.key] = record, put
        self._bytes += len(record.payload)

    def drop(self, db: int, key: bytes) -> None:
        """It was announced."""
        self._found.pop((db, key), None)

    def drop_database(self, db: int) -> None:
        """It was emptied."""
        self._found = {key: one for key, one in self._found.items() if key[0] != db}

    def is_ripe(self) -> bool:
        """It is there for long enough, or is enough, to be written."""
        old = time.monotonic() - self._since > _LONGEST_S
        return bool(self) and (old or self._bytes > _MOST_BYTES or len(self._found) > _MOST_KEYS)

    def take(self) -> Taken:
        found, self._found = list(self._found.values()), {}
        return Taken([record for record, _ in found], [put for _, put in found], self._lane)
