"""Streams that tell how long keys live on, and not until when: Redis before 7.0. Called by psync_lane, psync_follow.

What such a command means is counted from the moment at which the source carried it out. A backup knows when it came:
that is the same while the stream flows, and not of what the source had to keep for us. What came after an outage is
off by as long as that was, so that begins another generation; what changed while the RDB file was made and sent by as
long as that took, which is said.
"""

from __future__ import annotations

import time

from cachekeep.codec.dump import Target
from cachekeep.domain.engine import Engine
from cachekeep.follow.psync_stream import Stream

_LATE_MS = 1000
LIMIT = (
    "before Redis 7.0 the stream tells how long keys live on, not until when: what came late, as all does that changed"
    " while the RDB file was sent, lives on for so much longer here"
)
_LATE = (
    "{lane}: keys that were given a time to live while the RDB file was made and sent ({seconds:.1f} s) may live on for"
    " so much longer in this backup: before Redis 7.0 the stream tells the time that is left, not its end"
)
_WHOLE_SCRIPTS = (
    "{lane}: lua-replicate-commands is no, so scripts come as they are: a time to live that one sets begins anew when"
    " the backup is restored; CONFIG SET lua-replicate-commands yes"
)


def tells_time_left(target: Target) -> bool:
    return target.engine is Engine.REDIS and target.version.major < 7


def why_anew(target: Target, unknown_ms: int | None) -> str:
    """Why a stream must not go on, though it might; "" where it may. unknown_ms: since when nobody knows what came."""
    if not tells_time_left(target) or (unknown_ms is not None and unknown_ms <= _LATE_MS):
        return ""
    return "of what happened meanwhile it would tell only how long keys live on, not since when (Redis before 7.0)"


def lateness(target: Target, lane: str, stream: Stream) -> list[str]:
    """Sentences on expiries that are not exact in a copy that has just come whole."""
    if not tells_time_left(target):
        return []
    took_s = time.monotonic() - stream.began_at
    late = [_LATE.format(lane=lane, seconds=took_s)] if took_s * 1000 > _LATE_MS else []
    return late + [_WHOLE_SCRIPTS.format(lane=lane)] * stream.whole_scripts
