"""Paging by Marker and MaxRecords, or by NextToken and MaxResults.

A marker or token names the last resource of the page before.
"""

from __future__ import annotations

import base64
from collections.abc import Callable, Sequence
from typing import TypeVar

from cachekeep.api.context import Call
from cachekeep.domain.faults import invalid_value

T = TypeVar("T")
FEWEST, MOST = 20, 100
USUAL_RESULTS = 50


def page(
    call: Call, items: Sequence[T], name: Callable[[T], str], most_allowed: int = MOST
) -> tuple[list[T], str | None]:
    """One page of `items` and the next marker, None on the last page. Names must ascend and be unique.

    Also for what was asked for by its name, so that a bad size is refused whatever is asked for.

    Since a marker is a name and not a position, what is created or deleted between two pages neither repeats nor
    hides anything else. Raises InvalidParameterValue for a bad marker or a MaxRecords outside 20 to most_allowed.
    """
    most = _size(call, "MaxRecords", FEWEST, most_allowed, most_allowed)
    return _page(call, items, name, most, "Marker")


def page_by_token(
    call: Call, items: Sequence[T], name: Callable[[T], str], most_allowed: int = MOST
) -> tuple[list[T], str | None]:
    """The same by MaxResults, which has no least, and NextToken: for serverless caches and their snapshots."""
    most = _size(call, "MaxResults", 1, most_allowed, USUAL_RESULTS)
    return _page(call, items, name, most, "NextToken")


def _size(call: Call, parameter: str, fewest: int, most_allowed: int, usual: int) -> int:
    most = call.number(parameter)
    if most is None:
        return usual
    if not fewest <= most <= most_allowed:
        raise invalid_value(f"Invalid {parameter} {most}: it must be between {fewest} and {most_allowed}.")
    return most


def _page(
    call: Call, items: Sequence[T], name: Callable[[T], str], most: int, parameter: str
) -> tuple[list[T], str | None]:
    after = _after(call, parameter)
    rest = [item for item in items if after is None or name(item) > after]
    shown = rest[:most]
    return shown, written(name(shown[-1])) if len(rest) > most else None


def written(place: str) -> str:
    """A place as a marker or token, which nobody should read anything into."""
    return base64.urlsafe_b64encode(place.encode()).decode()


def read(marker: str) -> str:
    """The place that it was written of. Raises ValueError for what no place was written as."""
    return base64.b64decode(marker.encode(), altchars=b"-_", validate=True).decode()


def _after(call: Call, parameter: str) -> str | None:
    marker = call.text(parameter)
    if not marker:
        return None
    try:
        return read(marker)
    except ValueError:
        raise invalid_value(f"Invalid {'marker' if parameter == 'Marker' else parameter}: {marker[:60]!r}.") from None
