"""What following a source is asked for, what it reports while it runs and at its end. Data only.

A capture that is followed has two parts: a base (a copy of every key, or the engine's own RDB file) and every change
since. Moments are in ms since 1970 by the source's clock.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

FollowMethod = Literal["psync", "tracking", "keyspace", "poll"]


@dataclass(frozen=True)
class FollowOptions:
    """max_lag_s: changes are durable in the backup after so long at most, while the source keeps up; with polling, a
    pass begins so often at most.

    reconcile_s: a pass over all keys that proves that nothing was missed begins so often (0: none), at most
    reconcile_keys_per_s fast. rollover_s: a new generation begins so often (0: never). heartbeat_s: on
    an idle source an entry says so often that nothing changed. queue_keys: so many changed keys
    may wait to be read; more, and a gap is noted. patience_s: how long a source that is gone is waited for each time.
    from_replica: read a replica instead of the primary. resume: go on with the newest open generation of the source.
    """

    source: Literal["auto", "psync", "tracking", "keyspace", "poll"] = "auto"
    max_lag_s: float = 5.0
    reconcile_s: float = 3600.0
    reconcile_keys_per_s: int | None = 5000
    max_keys_per_s: int | None = None
    rollover_s: float = 86_400.0
    heartbeat_s: float = 30.0
    queue_keys: int = 500_000
    patience_s: float = 3600.0
    count: int = 100
    from_replica: bool = False
    resume: bool = True

    def __post_init__(self) -> None:
        if self.max_lag_s <= 0:
            raise ValueError(f"max_lag_s has to be more than 0, not {self.max_lag_s:g}")
        if self.queue_keys < 1 or self.count < 1:
            raise ValueError("queue_keys and count have to be 1 at least")


@dataclass(frozen=True)
class Choice:
    """How a source is followed. why: one sentence. limits: what this method does not see, sentences.

    patterns: of keyspace notifications, those to subscribe to.
    """

    method: FollowMethod
    why: str
    limits: tuple[str, ...] = ()
    patterns: tuple[str, ...] = ()


Phase = Literal["starting", "copying", "following", "reconciling", "away", "store"]


@dataclass(frozen=True)
class FollowStatus:
    """One look at a running capture.

    phase: away: the source is gone and waited for; store: the repository takes nothing (full, out of reach) and is
    waited for. trouble: a sentence then. covered_since_ms..covered_until_ms: the interval that goes on now, None while
    continuity is not proved. durable_until_ms: the part of it that survives a crash of this machine. lag: from a
    change to its being read, over the last minute. changes: records of changes so far. queue_keys: changed keys that
    wait to be read. missed: changes that only a reconcile pass found. bytes: stored by this run.
    """

    generation: str
    method: FollowMethod
    phase: Phase
    trouble: str | None
    covered_since_ms: int | None
    covered_until_ms: int | None
    durable_until_ms: int | None
    lag_ms: float | None
    lag_p99_ms: float | None
    changes: int
    changes_per_s: float
    keys: int
    gaps: int
    queue_keys: int
    bytes: int
    missed: int
    passes: int
    uptime_s: float


OnStatus = Callable[[FollowStatus], None]
OnNews = Callable[[str], None]
OnChoice = Callable[[Choice], None]


@dataclass(frozen=True)
class FollowGap:
    """A stretch of which not every moment can be restored. end_ms None: it had not ended."""

    start_ms: int
    end_ms: int | None
    reason: str
    lane: str | None = None


@dataclass(frozen=True)
class FollowReport:
    """How a capture was when it was sealed. generations: all that it wrote to, oldest first."""

    generations: tuple[str, ...]
    choice: Choice
    gaps: tuple[FollowGap, ...]
    last: FollowStatus
    notes: tuple[str, ...] = ()
