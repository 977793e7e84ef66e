"""How long things take: every figure that a preview shows, each with where it comes from. Data, and sums over it.

Measured ones: two shared cores, loopback, Valkey 9.1.2 and 8.1.8, Redis 7.0.15 and 6.2.5. Estimates say that they are.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Figure:
    """A span of time in ms."""

    least_ms: float
    most_ms: float
    source: str


@dataclass(frozen=True)
class Rate:
    """bytes_per_s: of data as the engine counts its memory."""

    bytes_per_s: float
    source: str


SWITCH_OVER = Figure(3, 10, "measured: 10 switches under 4 writers on each of four engine versions")
CLUSTER_SWITCH_OVER = Figure(3, 8, "measured: CLUSTER FAILOVER under load, Valkey 8.1 and 9.1")
CRASH = Figure(5, 50, "measured: from kill -9 to the next accepted write through the endpoint")
START = Figure(10, 60, "measured: from fork to the first answer")
FORM_CLUSTER = Figure(1500, 4000, "measured: three shards of two nodes")
START_GROUP = Figure(100, 1500, "measured: two nodes, to the first complete synchronisation")
MOVED_SLOTS = Figure(5, 230, "measured: longest single call while a quarter of the slots moved under load, Valkey 9.1")
MOVED_KEYS = Figure(1, 150, "measured: longest single call while a quarter of the slots moved key by key")

DISK = Rate(100e6, "estimate: 100 MB/s to save and to load")
COPY = Rate(80e6, "estimate: 80 MB/s for the first copy to a replica")
ATOMIC = Rate(25e6, "measured: 129,000 keys of 100 bytes in 0.8 s from three primaries")
BY_KEY = Rate(4e6, "estimate from key-by-key moves of 129,000 keys")
# What moving a slot costs beside its data when it is moved key by key.
SLOT_MS = Figure(0.5, 10, "measured: SETSLOT waits for the replicas of both shards")


def restart(data_bytes: int | None) -> Figure:
    """A process that is ended with its data saved and started anew. data_bytes None: not known."""
    if data_bytes is None:
        return Figure(START.least_ms, 1000, f"{DISK.source}; the size of the data is not known")
    once_ms = 1000 * data_bytes / DISK.bytes_per_s
    return Figure(START.least_ms + once_ms, START.most_ms + 40 + 4 * once_ms, f"start {START.source}; {DISK.source}")


def empty_restart() -> Figure:
    return Figure(START.least_ms, START.most_ms + 40, START.source)


def copy_s(data_bytes: int) -> float:
    """Seconds that a replica's first copy takes."""
    return 0.3 + data_bytes / COPY.bytes_per_s


def moving_s(data_bytes: int, slots: int, *, atomic: bool) -> tuple[float, float]:
    """Least and most seconds that `slots` slots with so much data take from one shard to another."""
    if atomic:
        once = data_bytes / ATOMIC.bytes_per_s
        return 0.1 + once / 2, 0.5 + 2 * once
    return slots * SLOT_MS.least_ms / 1000 + data_bytes / ATOMIC.bytes_per_s, (
        slots * SLOT_MS.most_ms / 1000 + data_bytes / BY_KEY.bytes_per_s
    )
