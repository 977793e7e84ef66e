"""What guarding an upgrade is asked for, what it finds and reports. Data only. Moments in ms since 1970."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from heapq import nsmallest
from typing import Literal

from cachekeep.follow.types import FollowMethod, FollowOptions

NAMED_LIMIT = 20
Class = Literal["lost", "went back", "changed"]
CLASSES: tuple[Class, ...] = ("lost", "went back", "changed")
RESTORED: tuple[Class, ...] = ("lost", "went back")
Place = tuple[int, bytes]  # database and key


@dataclass(frozen=True)
class GuardOptions:
    """follow: how the source is captured meanwhile. patience_s: for a connection that is lost while comparing."""

    follow: FollowOptions = field(default_factory=lambda: FollowOptions(max_lag_s=1.0, rollover_s=0.0))
    patience_s: float = 60.0


@dataclass(frozen=True)
class Outage:
    """One time that the source was away, by its clock: first failed contact, first answer (None: not yet)."""

    start_ms: int
    end_ms: int | None
    reason: str
    lane: str | None = None


@dataclass(frozen=True)
class Findings:
    """One comparison. lost, went back, changed: see follow.guard. written: keys left out, since they were written
    meanwhile. unread: keys that the endpoint refused to show, in its words. functions: same, different or unknown.
    """

    compared: int
    classes: Mapping[Class, frozenset[Place]]
    written: int
    unread: Mapping[str, int]
    functions: str = "unknown"

    def __getitem__(self, one: Class) -> frozenset[Place]:
        return self.classes.get(one, frozenset())

    @property
    def to_restore(self) -> int:
        """Keys of which the endpoint has less than the backup proves that it had."""
        return sum(len(self[one]) for one in RESTORED) + (self.functions == "different")

    def named(self) -> dict[Class, list[Place]]:
        """Up to NAMED_LIMIT keys of each class, in order."""
        return {one: nsmallest(NAMED_LIMIT, self[one]) for one in CLASSES if self[one]}


@dataclass(frozen=True)
class Restored:
    """written: keys put back; deleted: keys removed that had come back; kept: changed before they could be written.

    refused: (database, key, why in the server's words).
    """

    written: int = 0
    deleted: int = 0
    kept: int = 0
    refused: tuple[tuple[int, bytes, str], ...] = ()
    functions: str = "none"


Verdict = Literal["proved", "different", "unproved"]


@dataclass(frozen=True)
class GuardReport:
    """method: how changes were captured. covered_until_ms: the last moment before the outage of which every change is
    known, by the source's clock, which was clock_ahead_ms ahead of this machine's. command: exit code of the upgrade's
    command, None without one. before, after: what answered. found: the first comparison; left: the last one.
    written_since: keys that clients wrote after the endpoint was back with less than it had; None where it had all.
    later: keys that changed after covered_until_ms and before the outage, and were captured; only_here: those of them
    that are missing: a restore of covered_until_ms does not have these changes.
    why: sentences, what keeps it from being proved.
    """

    generation: str
    method: FollowMethod
    why_method: str
    covered_since_ms: int
    covered_until_ms: int
    clock_ahead_ms: int
    command: int | None
    outages: tuple[Outage, ...]
    downtime_ms: int
    before: str
    after: str
    found: Findings
    left: Findings
    restored: Restored | None
    written_since: int | None
    later: int
    only_here: int
    verdict: Verdict
    why: tuple[str, ...]
    notes: tuple[str, ...]
    seconds: float


# Does the upgrade; asks what it is given whether the capture has ended by itself. Exit code of a command, or None.
Upgrade = Callable[[Callable[[], bool]], int | None]
Offer = Callable[[Findings], bool]


def downtime_of(outages: tuple[Outage, ...]) -> int:
    """Milliseconds in which the source, or one node of it, was away; overlapping times counted once."""
    total, until = 0, 0
    for outage in sorted(outages, key=lambda one: one.start_ms):
        end_ms = outage.start_ms if outage.end_ms is None else outage.end_ms
        total += max(0, end_ms - max(outage.start_ms, until))
        until = max(until, end_ms)
    return total
