"""How far a replica is behind its primary in time: when did the primary have what the replica has now? Pure.

Offsets of the primary are seen every second; between two looks they are taken to grow evenly. Sub-second, as
ElastiCache's ReplicationLag is. Source: valkey replication.c (offsets).
"""

from __future__ import annotations

from bisect import bisect_right
from collections import deque

_KEPT = 600
# A primary is looked at every second; one not heard of for so long may have taken writes that nobody here knows of.
UNHEARD_S = 5.0


class PrimaryOffsets:
    """The offsets of one replication stream (`master_replid`), as its primary told them."""

    def __init__(self) -> None:
        self._seen: deque[tuple[float, int]] = deque(maxlen=_KEPT)

    @property
    def last_at(self) -> float:
        """When it was last told; 0.0 for never."""
        return self._seen[-1][0] if self._seen else 0.0

    def see(self, at: float, offset: int) -> None:
        """at: seconds, rising."""
        if self._seen and (offset < self._seen[-1][1] or at < self._seen[-1][0]):
            self._seen.clear()
        self._seen.append((at, offset))

    def lag_s(self, at: float, offset: int) -> float | None:
        """Seconds by which a replica with this offset is behind at that time; None before the primary was seen.

        0.0 for one that has all that the primary had at the last look; if that is long ago, the time since then: what
        is known of it is that it had everything then. More than ten minutes of offsets is told as that.
        """
        if not self._seen:
            return None
        offsets = [seen for _, seen in self._seen]
        index = bisect_right(offsets, offset)
        if index == len(offsets):
            unheard = at - self._seen[-1][0]
            return unheard if unheard > UNHEARD_S else 0.0
        if index == 0:
            return max(0.0, at - self._seen[0][0])
        (early, low), (late, high) = self._seen[index - 1], self._seen[index]
        had_it = early + (late - early) * (offset - low) / (high - low)
        return max(0.0, at - had_it)
