"""What may have changed between two runs that follow by PSYNC: the engine, a clock, how exact expiries are."""

from __future__ import annotations

import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import valkey
from churn_door import Door
from psync_following import SOON, Following, covered, gaps, repository_in, truth_at
from truth import as_replica, compare, record

from cachekeep.backup.catalog import Repository, Status
from cachekeep.backup.coverage import contradictions
from cachekeep.backup.reader import GenerationReader
from cachekeep.host.scratch import LocalScratch


def nothing_is_contradicted(repository: Repository) -> None:
    for one in repository.generations():
        assert contradictions(GenerationReader.open(repository, one.name).chain.entries, []) == []


def test_an_upgraded_source_begins_another_generation_though_it_would_go_on(
    start_server: Any, client: Any, tmp_path: Path, scratch: LocalScratch, fresh_address: Any, wait_until: Any
) -> None:
    before = start_server("7.0", *SOON)
    client(before).set("before", 1)
    repository = repository_in(tmp_path / "r")
    with Door(fresh_address().host, before) as door:
        with Following(door.url, repository) as following:
            first = following.settled(), record(before)
        with suppress(valkey.ConnectionError):
            before.ask("SHUTDOWN", "SAVE")
        wait_until(lambda: "bye bye" in before.log(), "it has ended")
        after = start_server("9.1", *SOON, "--dir", str(before.folder))
        door.lead_to(after)
        (old,) = repository.generations()
        history = GenerationReader.open(repository, old.name).chain.entries[-1].position.partition(":")[0]
        assert history in after.ask("INFO", "replication").decode(), "it would go on there"
        with Following(door.url, repository) as following:
            following.settled()
            client(after).hset("hash", "field", 1)
            after.ask("HPEXPIRE", "hash", 3_600_000, "FIELDS", 1, "field")
            second = following.settled(), record(after)
    old, new = repository.generations()
    assert (old.status, new.status) == (Status.COMPLETE, Status.OPEN)
    assert new.head
    assert (new.head.engine, new.head.engine_version[:3]) == ("valkey", "9.1")
    (gap,) = gaps(repository, old.name)
    assert "Redis 7.0" in gap["reason"]
    assert gap["end_ms"] == covered(repository, new.name)[0].since_ms
    assert not compare(first[1], truth_at(repository, old.name, scratch, "7.0", first[0]), as_replica("7.0"))
    assert not compare(second[1], truth_at(repository, new.name, scratch, "9.1", second[0]), as_replica("9.1"))


def test_expiries_of_an_outage_before_7_0_come_with_a_new_copy(
    start_server: Any, client: Any, tmp_path: Path, scratch: LocalScratch, wait_until: Any
) -> None:
    server = start_server("6.2", *SOON)
    repository = repository_in(tmp_path / "r")
    with Following(server.url, repository) as following:
        following.settled()
    client(server).setex("away", 600, "x")
    away_since = time.monotonic()
    wait_until(lambda: time.monotonic() - away_since > 2, "an outage of two seconds")
    with Following(server.url, repository) as following:
        client(server).setex("back", 600, "x")
        moment, expected = following.settled(), record(server)
    old, new = repository.generations()
    assert old.status is Status.COMPLETE
    (gap,) = gaps(repository, old.name)
    assert "not since when" in gap["reason"]
    actual = truth_at(repository, new.name, scratch, "6.2", moment)
    late = {key: actual.keys[key].expires_ms - held.expires_ms for key, held in expected.keys.items()}
    assert late[0, b"away"] <= 5, "it is in the copy"
    assert late[0, b"back"] < 1900, "it came as it was done, or while the copy was made"
    assert new.head
    assert any("how long keys live on" in limit for limit in new.head.options["limits"])


def test_a_copy_before_7_0_says_what_it_cannot_know(start_server: Any, client: Any, tmp_path: Path) -> None:
    slow = ("--repl-diskless-sync", "yes", "--rdb-key-save-delay", "1000", "--lua-replicate-commands", "no")
    server = start_server("6.2", *SOON, *slow)
    client(server).mset({f"key:{at}": "x" for at in range(1500)})
    repository = repository_in(tmp_path / "r")
    with Following(server.url, repository) as following:
        following.settled()
        notes = following.monitor.notes
    late, scripts = notes
    assert "while the RDB file was made and sent" in late
    assert "lua-replicate-commands is no" in scripts
    (one,) = repository.generations()
    lines = GenerationReader.open(repository, one.name).log_lines()
    assert [line["reason"] for line in lines if line["event"] == "note"] == notes


def set_back(following: Following, ms: int) -> None:
    """As if the source's clock had been set back."""
    object.__setattr__(following.survey, "clock_ahead_ms", following.survey.clock_ahead_ms - ms)


def test_clocks_that_differ_a_little_more_do_not_let_moments_fall(
    start_server: Any, client: Any, tmp_path: Path, scratch: LocalScratch
) -> None:
    server = start_server("8.1", *SOON)
    repository = repository_in(tmp_path / "r")
    with Following(server.url, repository) as first:
        client(server).set("first", 1)
        first.settled()
    second = Following(server.url, repository)
    set_back(second, 800)
    with second:
        client(server).set("second", 1)
        asked = first.now_ms() + 5
        second.wait(lambda seen: (seen.covered_until_ms or 0) > asked, "what was done is here")
        moment, expected = first.now_ms(), record(server)
        second.wait(lambda seen: (seen.durable_until_ms or 0) > moment, "the moment is durable")
    (one,) = repository.generations()
    assert len(covered(repository, one.name)) == 1
    nothing_is_contradicted(repository)
    assert not compare(expected, truth_at(repository, one.name, scratch, "8.1", moment), as_replica("8.1"))


def test_a_clock_that_was_set_begins_another_generation(
    start_server: Any, client: Any, tmp_path: Path, scratch: LocalScratch
) -> None:
    server = start_server("8.1", *SOON)
    repository = repository_in(tmp_path / "r")
    with Following(server.url, repository) as following:
        client(server).set("first", 1)
        first = following.settled(), record(server)
    following = Following(server.url, repository)
    set_back(following, 5000)
    with following:
        client(server).set("second", 1)
        second = following.settled(), record(server)
    old, new = repository.generations()
    assert (old.status, new.status) == (Status.COMPLETE, Status.OPEN)
    (gap,) = gaps(repository, old.name)
    assert "clock was" in gap["reason"]
    assert gap["end_ms"] >= gap["start_ms"]
    nothing_is_contradicted(repository)
    for one, (moment, expected) in ((old, first), (new, second)):
        assert not compare(expected, truth_at(repository, one.name, scratch, "8.1", moment), as_replica("8.1"))
