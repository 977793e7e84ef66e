"""Which moments a followed generation can be restored to. Pure. Called by restore, show, verify, expire and follow.

An entry's `covers` says from when to when every change is known with it and all entries before it. Stretches that touch
are one; what is between two is a gap. Moments are in ms since 1970 by the source's clock.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from cachekeep.backup.catalog_objects import Entry


@dataclass(frozen=True)
class Stretch:
    """Every moment from since_ms to until_ms, both included. entry: the first one that has to be read for all of it."""

    since_ms: int
    until_ms: int
    entry: int

    def __contains__(self, moment_ms: int) -> bool:
        return self.since_ms <= moment_ms <= self.until_ms


def stretches(entries: Iterable[Entry]) -> list[Stretch]:
    """In order of time; none where nothing is covered."""
    found: list[Stretch] = []
    for entry in entries:
        if entry.covers is None:
            continue
        since_ms, until_ms = entry.covers
        last = found[-1] if found else None
        if last is not None and since_ms <= last.until_ms:
            found[-1] = Stretch(last.since_ms, max(last.until_ms, until_ms), entry.number)
        else:
            found.append(Stretch(since_ms, until_ms, entry.number))
    return found


def nearest(found: Iterable[Stretch], moment_ms: int) -> tuple[int | None, int | None]:
    """The last restorable moment before it and the first one after it; the moment itself twice where it is one."""
    before: int | None = None
    for stretch in found:
        if moment_ms in stretch:
            return moment_ms, moment_ms
        if stretch.until_ms < moment_ms:
            before = stretch.until_ms
        else:
            return before, stretch.since_ms
    return before, None
