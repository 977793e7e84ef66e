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


class CaptureWorker(Protocol):
    async def capture(self, order: CaptureOrder, told: Callable[[CaptureNews], None]) -> None:
        """Go on until cancelled; what is captured is sealed then.

        Raises snapshot_work.WorkFailed: it cannot go on; the same order may succeed later, and goes on where it was.
        """
        ...
