"""Pages of events, while time goes on between them."""

from __future__ import annotations

from typing import Any, cast

from cachekeep.api.context import Call, Services
from cachekeep.api.ops.account import describe_events
from cachekeep.domain.events import Event, SourceType


class _Clock:
    def __init__(self) -> None:
        self.time = 100_000.0

    def now(self) -> float:
        return self.time


class _Store:
    def __init__(self, events: list[Event]) -> None:
        self._events = events

    def events(self, region: str, *, since: float, until: float, **_: object) -> list[Event]:
        return [event for event in self._events if since <= event.at <= until]


class _Services:
    def __init__(self, events: list[Event]) -> None:
        self.store = _Store(events)
        self.clock = _Clock()


def page(services: _Services, marker: str | None) -> tuple[list[str], str | None]:
    params: dict[str, Any] = {"MaxRecords": 20, "Duration": 60}
    if marker is not None:
        params["Marker"] = marker
    answer = describe_events(Call(cast(Services, services), "DescribeEvents", "eu-west-1", params))
    return [event["Message"] for event in answer["Events"]], answer["Marker"]


def test_events_of_one_moment_are_not_hidden_when_older_ones_drop_out() -> None:
    """Found: events were numbered from the oldest left, so that a page that began inside a moment lost some."""
    old = [Event(96_500.0 + n, "eu-west-1", SourceType.CACHE_CLUSTER, "a", f"old {n}") for n in range(5)]
    together = [Event(99_000.0, "eu-west-1", SourceType.CACHE_CLUSTER, "a", f"event {n}") for n in range(40)]
    services = _Services(old + together)
    first, marker = page(services, None)
    services.clock.time += 1_000  # the five old ones are too old now
    second, marker = page(services, marker)
    third, marker = page(services, marker)
    assert first + second + third == [event.message for event in old + together]
    assert marker is None
