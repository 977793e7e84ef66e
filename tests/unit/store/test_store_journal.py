"""The journal in the store: notes of one resource in order, kept for as long as events, and bounded."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from cachekeep.domain.events import Note
from cachekeep.store import sqlite
from cachekeep.store.sqlite import EVENTS_KEPT_S, SqliteStore
from tests.properties.stored import NOW, REGION, cluster_of


@pytest.fixture
def store(tmp_path: Path) -> Iterator[SqliteStore]:
    store = SqliteStore(tmp_path / "store.db")
    yield store
    store.close()


def note(store: SqliteStore, sentence: str, at: float = NOW, name: str = "g", region: str = REGION) -> None:
    with store.transaction() as work:
        work.add_note(Note(at, region, name, sentence))


def sentences(store: SqliteStore, name: str = "g", *, since: float = 0.0, limit: int = 1000) -> list[str]:
    return [n.sentence for n in store.journal(REGION, name, since=since, limit=limit)]


def test_notes_come_back_oldest_first_and_whole(store: SqliteStore) -> None:
    note(store, "promoting g-002 at offset 7", NOW)
    note(store, "g-002 has taken over", NOW + 0.25)
    assert store.journal(REGION, "g") == [
        Note(NOW, REGION, "g", "promoting g-002 at offset 7"),
        Note(NOW + 0.25, REGION, "g", "g-002 has taken over"),
    ]


def test_notes_of_others_and_of_other_regions_do_not_mix(store: SqliteStore) -> None:
    note(store, "mine")
    note(store, "a neighbour's", name="h")
    note(store, "of a namesake", region="eu-west-1")
    assert sentences(store) == ["mine"]
    assert sentences(store, "h") == ["a neighbour's"]


def test_the_newest_are_told_when_there_are_more_than_asked_for(store: SqliteStore) -> None:
    for n in range(10):
        note(store, str(n), NOW + n)
    assert sentences(store, limit=3) == ["7", "8", "9"]
    assert sentences(store, since=NOW + 8) == ["8", "9"]


def test_notes_of_one_instant_keep_their_order(store: SqliteStore) -> None:
    for n in range(5):
        note(store, str(n))
    assert sentences(store) == list("01234")


def test_old_notes_go_also_those_of_what_is_deleted(store: SqliteStore) -> None:
    note(store, "of a group that is gone", name="gone")
    note(store, "old")
    note(store, "new", NOW + EVENTS_KEPT_S + 1)
    assert sentences(store) == ["new"]
    assert sentences(store, "gone") == []


def test_a_journal_has_a_limit(store: SqliteStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sqlite, "NOTES_KEPT", 5)
    note(store, "a neighbour's", name="h")
    for n in range(20):
        note(store, str(n))
    assert sentences(store) == ["15", "16", "17", "18", "19"]
    assert sentences(store, "h") == ["a neighbour's"]


def test_a_note_is_written_with_what_it_tells_of_or_not_at_all(store: SqliteStore) -> None:
    class Bug(Exception):
        pass

    with pytest.raises(Bug), store.transaction() as work:  # noqa: PT012 - the body is what is tested
        work.insert(cluster_of("c", 1))
        work.add_note(Note(NOW, REGION, "c", "never"))
        raise Bug
    assert sentences(store, "c") == []


def test_a_note_wakes_nobody(store: SqliteStore) -> None:
    told: list[object] = []
    store.subscribe(told.append)
    note(store, "quiet")
    assert told == []
