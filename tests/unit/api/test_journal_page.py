"""The journal as it is asked for: notes, and the events of the group and its members among them."""

from __future__ import annotations

import pytest
from desk import REGION, Desk

from cachekeep.api.dispatch import Dispatcher
from cachekeep.domain.events import Event, Note, SourceType
from cachekeep.domain.faults import Fault

GROUP, MEMBER = SourceType.REPLICATION_GROUP, SourceType.CACHE_CLUSTER


def told(desk: Desk, name: str, *, limit: int = 100) -> list[str]:
    _, notes = Dispatcher(desk.services, {}.get).journal(REGION, name, since=desk.clock.time + 1, limit=limit)
    return [note.sentence for note in notes]


def write(desk: Desk, *events: tuple[float, SourceType, str, str]) -> None:
    with desk.store.transaction() as work:
        for after_s, kind, name, message in events:
            work.add_event(Event(desk.clock.time + after_s, REGION, kind, name, message))


@pytest.fixture
def group(desk: Desk) -> str:
    desk.create_group("g", NumCacheClusters=3)
    return "g"


def test_an_event_of_the_group_and_of_a_member_is_told_once(desk: Desk, group: str) -> None:
    write(desk, (2, MEMBER, "g-002", "Failover completed"), (2, GROUP, group, "Failover completed"))
    assert told(desk, group) == ["Failover completed"]


def test_what_happens_to_several_members_at_once_is_told_of_each(desk: Desk, group: str) -> None:
    write(desk, *((2, MEMBER, name, "Recovering cache nodes 0001") for name in ("g-001", "g-003")))
    assert told(desk, "g-002") == ["g-001: Recovering cache nodes 0001", "g-003: Recovering cache nodes 0001"]


def test_notes_and_events_are_in_order_of_time_and_the_newest_are_told(desk: Desk, group: str) -> None:
    write(desk, (2, GROUP, group, "first"), (4, MEMBER, "g-001", "third"))
    with desk.store.transaction() as work:
        work.add_note(Note(desk.clock.time + 3, REGION, group, "second"))
    assert told(desk, group) == ["first", "second", "g-001: third"]
    assert told(desk, group, limit=2) == ["second", "g-001: third"]


def test_events_of_a_group_that_is_gone_are_told_too(desk: Desk) -> None:
    write(desk, (2, GROUP, "gone", "Replication group deleted"))
    with pytest.raises(Fault, match="No group or cluster 'gone'"):
        told(desk, "gone")
    with desk.store.transaction() as work:
        work.add_note(Note(desk.clock.time + 1, REGION, "gone", "deleting"))
    assert told(desk, "gone") == ["deleting", "Replication group deleted"]


def test_the_journal_of_a_serverless_cache_is_asked_for_by_its_name(desk: Desk) -> None:
    desk.ask("CreateServerlessCache", ServerlessCacheName="carts", Engine="valkey")
    write(desk, (2, SourceType.SERVERLESS_CACHE, "carts", "Serverless cache carts created"))
    assert told(desk, "carts") == ["Serverless cache carts created"]
