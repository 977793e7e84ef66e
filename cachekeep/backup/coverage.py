"""Which moments a followed generation can be restored to. Pure. Called by restore, show, verify, expire and follow.

An entry's `covers` says from when to when every change is known with it and all entries before it. Stretches that touch
are one; what is between two is a gap. Moments are in ms since 1970 by the source's clock.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import pairwise

from cachekeep.backup.catalog_objects import Entry, Gap, Head

_SLACK_MS = 1000  # of moments that were measured apart
UNSAID = "its log does not say why"


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


def without(found: Iterable[Stretch], doubts: Iterable[Gap]) -> list[Stretch]:
    """What is left of the stretches: a pass over all keys found later that changes were missing within those times.

    Both ends of a doubt stay restorable: everything was there at the one, and was put right at the other.
    """
    left = list(found)
    for doubt in doubts:
        pieces: list[Stretch] = []
        end_ms = doubt.start_ms if doubt.end_ms is None else doubt.end_ms
        for one in left:
            if end_ms <= one.since_ms or doubt.start_ms >= one.until_ms:
                pieces.append(one)
                continue
            if one.since_ms <= doubt.start_ms:
                pieces.append(Stretch(one.since_ms, doubt.start_ms, one.entry))
            if end_ms <= one.until_ms:
                pieces.append(Stretch(end_ms, one.until_ms, one.entry))
        left = pieces
    return left


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


def longest_between(found: Sequence[Stretch], last: int = 10) -> int | None:
    """Of a source that was polled: the longest time in ms between two of the last moments; None below two."""
    return max((after.since_ms - one.until_ms for one, after in pairwise(found[-last:])), default=None)


def last_entry_for(entries: Iterable[Entry], moment_ms: int) -> int | None:
    """The first entry that covers the moment: with it and those before it, all is known. None when none does."""
    return next((one.number for one in entries if one.covers and one.covers[0] <= moment_ms <= one.covers[1]), None)


def gaps_of(found: Sequence[Stretch], noted: Iterable[Gap], *, polled: bool = False) -> list[Gap]:
    """What is between the stretches, with the reasons that the log has; and a gap that has not ended, last.

    polled: only moments are covered, so what is between two is no gap but where the log notes one.
    """
    noted, gaps = list(noted), list[Gap]()
    for one, after in pairwise(found):
        inside = [gap for gap in noted if _overlaps(gap, one.until_ms, after.since_ms)]
        if inside or not polled:
            gaps.append(_joined(inside, one.until_ms, after.since_ms))
    last_ms = found[-1].until_ms - _SLACK_MS if found else 0
    return gaps + [gap for gap in noted if gap.end_ms is None and gap.start_ms >= last_ms][-1:]


def unexplained(gaps: Iterable[Gap]) -> list[str]:
    """Sentences on gaps that no line of a log accounts for."""
    return [
        f"{moment_text(gap.start_ms)} to {'now' if gap.end_ms is None else moment_text(gap.end_ms)} is not covered, "
        "and no log says why"
        for gap in gaps
        if gap.reason == UNSAID
    ]


def contradictions(entries: Sequence[Entry], noted: Iterable[Gap]) -> list[tuple[int | None, str]]:
    """What cannot be true of the entries' claims: (number of the entry, sentence). Empty when they agree."""
    found: list[tuple[int | None, str]] = []
    until_ms: int | None = None
    copied_ms: int | None = None  # the latest moment of the copy that the changes go on from
    # Each node of a cluster has its own clock.
    one_clock = len({entry.lane for entry in entries if entry.kind in ("base", "rdb")}) <= 1
    for entry in entries:
        if one_clock and entry.kind in ("base", "rdb") and entry.last_ms is not None:
            copied_ms = max(copied_ms or 0, entry.last_ms)
        if entry.covers is None:
            continue
        since, until = entry.covers
        if since > until:
            found.append((entry.number, f"entry {entry.number} covers a stretch that ends before it begins"))
        elif until_ms is not None and until < until_ms:
            found.append((entry.number, f"entry {entry.number} covers less of time than entries before it"))
        elif until_ms is None and copied_ms is not None and since < copied_ms - _SLACK_MS:
            found.append((entry.number, f"entry {entry.number} covers moments from before its copy was whole"))
        until_ms = max(until_ms or until, until)
    for gap in noted:
        if gap.end_ms is not None and any(_holds(stretch, gap) for stretch in stretches(entries)):
            what = f"{moment_text(gap.start_ms)} to {moment_text(gap.end_ms)}"
            found.append((None, f"{what} is covered by its entries, and a gap by its log: {gap.reason}"))
    return found


def clock_ahead_ms(head: Head | None) -> int | None:
    """How far the source's clock was ahead of this machine's when the generation began; None where nobody measured it.

    The moments of an import are from its files.
    """
    if head is None or head.options.get("method") == "import":
        return None
    return head.source_began_ms - head.began_ms


def gap_of(line: dict[str, object], event: str = "gap") -> Gap | None:
    """A line of a log as a gap (event `doubt`: as a doubt); None for another one."""
    start, end, lane = line.get("start_ms"), line.get("end_ms"), line.get("lane")
    if line.get("event") != event or not isinstance(start, int):
        return None
    return Gap(
        start_ms=start,
        end_ms=end if isinstance(end, int) else None,
        reason=str(line.get("reason") or UNSAID),
        lane=lane if isinstance(lane, str) else None,
    )


def moment_text(ms: int) -> str:
    """RFC 3339, UTC, with ms: `2026-11-22T21:00:00.123Z`."""
    try:
        whole = datetime.fromtimestamp(ms // 1000, UTC)
    except (ValueError, OverflowError, OSError):  # of a damaged or forged backup
        return f"{ms} ms after 1970"
    return f"{whole.isoformat().removesuffix('+00:00')}.{ms % 1000:03d}Z"


def _overlaps(gap: Gap, start_ms: int, end_ms: int) -> bool:
    """A gap in which the capture ended belongs to the hole that it began."""
    if gap.end_ms is None or gap.end_ms == gap.start_ms:
        return start_ms - _SLACK_MS <= gap.start_ms <= end_ms
    return gap.start_ms < end_ms and gap.end_ms > start_ms


def _holds(stretch: Stretch, gap: Gap) -> bool:
    """The gap, which took some time, lies within the stretch: then there is no hole for it."""
    end_ms = gap.end_ms or gap.start_ms
    return stretch.since_ms <= gap.start_ms < end_ms <= stretch.until_ms


def _joined(noted: Sequence[Gap], start_ms: int, end_ms: int) -> Gap:
    reasons = "; ".join(dict.fromkeys(gap.reason for gap in noted)) or UNSAID
    lanes = {gap.lane for gap in noted}
    return Gap(start_ms=start_ms, end_ms=end_ms, reason=reasons, lane=lanes.pop() if len(lanes) == 1 else None)
