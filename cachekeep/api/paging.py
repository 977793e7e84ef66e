"""Paging by Marker and MaxRecords: the marker names the last resource of the page before."""

from __future__ import annotations

import base64
from collections.abc import Callable, Sequence
from typing import TypeVar

from cachekeep.api.context import Call
from cachekeep.domain.faults import invalid_value

T = TypeVar("T")
FEWEST, MOST = 20, 100


def page(call: Call, items: Sequence[T], name: Callable[[T], str]) -> tuple[list[T], str | None]:
    """One page of `items` and the next marker, None on the last page. Names must ascend and be unique.

    Since a marker is a name and not a position, what is created or deleted between two pages neither repeats nor
    hides anything else. Raises InvalidParameterValue for a bad marker or a MaxRecords outside 20-100.
    """
    most = call.number("MaxRecords")
    most = MOST if most is None else most
    if not FEWEST <= most <= MOST:
        raise invalid_value(f"Invalid MaxRecords {most}: it must be between {FEWEST} and {MOST}.")
    after = _after(call.text("Marker"))
    rest = [item for item in items if after is None or name(item) > after]
    shown = rest[:most]
    return shown, written(name(shown[-1])) if len(rest) > most else None


def written(place: str) -> str:
    """A place as a marker or token, which nobody should read anything into."""
    return base64.urlsafe_b64encode(place.encode()).decode()


def read(marker: str) -> str:
    """The place that it was written of. Raises ValueError for what no place was written as."""
    return base64.b64decode(marker.encode(), altchars=b"-_", validate=True).decode()


def _after(marker: str | None) -> str | None:
    if not marker:
        return None
    try:
        return read(marker)
    except ValueError:
        raise invalid_value(f"Invalid marker: {marker[:60]!r}.") from None
