"""Continuous backups of groups: the tag that asks for one, and the door to whoever keeps it. Pure.

A tag, so that every tool that can tag a group can ask for it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal, Protocol

from cachekeep.domain.nodes import Address

CONTINUOUS_TAG = "cachekeep:continuous-backup"
_WINDOW = re.compile(r"([1-9][0-9]{0,3})([hd])\Z")
_MOST_HOURS = 9999


def window_hours(tags: Mapping[str, str]) -> int | None:
    """How far back every moment is to be restorable, in hours; None where no continuous backup is asked for.

    Raises ValueError, for a value that is neither hours nor days.
    """
    text = tags.get(CONTINUOUS_TAG)
    if text is None:
        return None
    found = _WINDOW.match(text)
    hours = int(found[1]) * (24 if found[2] == "d" else 1) if found else 0
    if not 0 < hours <= _MOST_HOURS:
        raise ValueError(f"The tag {CONTINUOUS_TAG} is a window such as 24h or 7d (1h to {_MOST_HOURS}h).")
    return hours


@dataclass(frozen=True)
class CaptureOrder:
    """Keep every moment of a group. address: of the primary, or in cluster mode of one; others are found from there."""

    region: str
    group: str
    address: Address
    hours: int


@dataclass(frozen=True)
class CaptureNews:
    """following: from here on every change is caught. trouble: nothing is caught, for a while already. expired: a
    backup went that the window does not need. text: a sentence, or the method or name that it is about."""

    kind: Literal["following", "trouble", "expired"]
    text: str


@dataclass(frozen=True)
class CaptureState:
    """How a capture does, told every few seconds. until_ms: the last moment that can be restored, also after a crash of
    this machine, in ms since 1970; None before there is one. bytes: of all that is stored of the group; None where that
    cannot be told now."""

    until_ms: int | None
    bytes: int | None


@dataclass(frozen=True)
class Standing:
    """How the continuous backup of a group stands. since: when it was asked of this service, or began to go well or
    badly, whichever was last. until: the last moment that can be restored; None while none is known. All in seconds
    since 1970. bytes: stored; None while not known. trouble: why nothing is kept now, "" when nothing is known of any.
    """

    since: float
    follows: bool = False
    until: float | None = None
    bytes: int | None = None
    trouble: str = ""

    def lag_s(self, now: float) -> float | None:
        """How long ago the last moment was that can be restored; None while none is known."""
        return None if self.until is None else max(0.0, now - self.until)


# By region and group.
Standings = Mapping[tuple[str, str], Standing]
Told = Callable[[CaptureNews | CaptureState], None]


class CaptureWorker(Protocol):
    async def capture(self, order: CaptureOrder, told: Told) -> None:
        """Go on until cancelled; what is captured is sealed then.

        Raises snapshot_work.WorkFailed: it cannot go on; the same order may succeed later, and goes on where it was.
        """
        ...
