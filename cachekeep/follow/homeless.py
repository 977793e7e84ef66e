"""Announced keys that the lane which heard of them cannot read, as their slot is another's: handed on, or kept back.

Called by whoever holds the lanes of a cluster, from any of them.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping

from cachekeep.follow.crew import Member
from cachekeep.follow.signals import Changed


class Homeless:
    """True while keys wait: until a lane has taken them, nothing more has arrived. owner_of: the lane that has the
    key's slot now, None where none has."""

    def __init__(self, owner_of: Callable[[Changed], Member | None]) -> None:
        self._owner_of = owner_of
        self._lock = threading.Lock()
        self._waiting: dict[Changed, float] = {}

    def __bool__(self) -> bool:
        return bool(self._waiting)

    def hand_on(self, lane: Member, keys: Mapping[Changed, float]) -> bool:
        """The lane is held up until those are read. Whether some went back to it: their slots are on the move."""
        went_back = False
        for changed, since in keys.items():
            other = self._owner_of(changed)
            if other is not None and other is not lane and other.hear({changed: since}):
                lane.hold(other)
            elif lane.hear({changed: since}):
                lane.hold(lane)
                went_back = True
            else:
                self._wait(changed, since)
        return went_back

    def bring_home(self) -> None:
        """Those that wait to the lanes that have their slots by now; to be called some times a second.

        Each waits until its lane has heard of it: whoever asks meanwhile must not think that all have arrived.
        """
        with self._lock:
            waiting = dict(self._waiting)
        for changed, since in waiting.items():
            other = self._owner_of(changed)
            if other is not None and other.hear({changed: since}):
                with self._lock:
                    if self._waiting.get(changed) == since:  # or it was announced once more
                        del self._waiting[changed]

    def _wait(self, changed: Changed, since: float) -> None:
        with self._lock:
            self._waiting[changed] = since
