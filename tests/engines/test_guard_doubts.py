"""What a guard cannot know is never called proved, and never overwritten: replicas, emptied and older servers."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from guarding import BULK, Upgrade, captured, guarded, ticking, write_bulk

FLAG = (0, b"flag")


@pytest.fixture
def upgrade_of(start_server: Callable[..., Any], wait_until: Callable[..., Any]) -> Callable[..., Upgrade]:
    """`upgrade_of(server)`: a handle that replaces it at its address."""
    return lambda server: Upgrade(server, start_server, wait_until)


@pytest.mark.slow
def test_an_endpoint_that_comes_back_as_a_replica_of_an_empty_primary_is_no_success(
    start_server: Callable[..., Any], upgrade_of: Callable[..., Upgrade], wait_until: Callable[..., Any], tmp_path: Path
) -> None:
    server, empty = start_server("7.0"), start_server("9.1")
    write_bulk(server, "value")
    upgrade, news = upgrade_of(server), list[str]()

    def lose() -> None:
        upgrade.crash()
        upgrade.start("9.1", "--replicaof", f"{empty.host} {empty.port}")
        upgrade.listened_to()
        wait_until(lambda: b"master_link_status:up" in upgrade.server.ask("INFO", "replication"), "it has copied")

    report = guarded(server, tmp_path / "place", lose, news=news.append, patience_s=5.0)
    assert (report.verdict, report.restored) == ("unproved", None), report
    assert report.found["lost"] == {(0, key) for key in BULK}
    assert "the endpoint is a replica now" in report.why[0]
    assert any("waiting until it is a primary" in one for one in news)


@pytest.mark.parametrize("away", [pytest.param(False, marks=pytest.mark.slow), True])
def test_a_database_that_is_emptied_during_the_upgrade_leaves_it_unproved(
    start_server: Callable[..., Any],
    upgrade_of: Callable[..., Upgrade],
    wait_until: Callable[..., Any],
    tmp_path: Path,
    away: bool,
) -> None:
    server, place = start_server("9.1"), tmp_path / "place"
    write_bulk(server, "value")
    upgrade = upgrade_of(server)

    def empty() -> None:
        if away:
            upgrade.crash()
            upgrade.start("9.1")
            upgrade.listened_to()
        upgrade.server.ask("FLUSHALL")
        upgrade.server.ask("SET", "mark", 1)
        captured(place, 0, b"mark", wait_until)

    report = guarded(server, place, empty)
    assert (report.verdict, report.restored) == ("unproved", None), report
    assert any("emptied" in one for one in report.why)
    assert upgrade.server.ask("DBSIZE") == 1


def test_a_value_that_a_client_may_have_written_unheard_is_kept(
    start_server: Callable[..., Any], upgrade_of: Callable[..., Upgrade], wait_until: Callable[..., Any], tmp_path: Path
) -> None:
    server, place = start_server("7.0"), tmp_path / "place"
    write_bulk(server, "value")
    server.ask("SET", "flag", "off")
    upgrade = upgrade_of(server)

    def lose() -> None:
        server.ask("SET", "flag", "on")
        captured(place, 0, b"flag", wait_until)
        upgrade.crash()
        upgrade.start("9.1", first=lambda fresh: fresh.ask("SET", "flag", "off"))

    report = guarded(server, place, lose)
    assert report.found["went back"] == {FLAG}
    assert report.restored is not None
    assert (report.verdict, report.restored.written, report.left.to_restore) == ("different", len(BULK), 1)
    assert any("that went back are kept" in one for one in report.notes)
    assert upgrade.server.ask("MGET", "flag", "bulk:0") == [b"off", b"value"]
    assert report.covered_since_ms < report.covered_until_ms


@pytest.mark.slow
def test_nothing_is_put_back_where_the_new_server_had_begun_before_the_old_one_was_gone(
    start_server: Callable[..., Any], upgrade_of: Callable[..., Upgrade], wait_until: Callable[..., Any], tmp_path: Path
) -> None:
    """It has a copy; clients deleted keys of it and set one back before it was at the address: nobody counts these."""
    server, data = start_server("9.1"), tmp_path / "data.rdb"
    write_bulk(server, "value")
    server.ask("SET", "flag", "off")
    upgrade = upgrade_of(server)

    def uptime_s(fresh: Any) -> int:
        return int(fresh.ask("INFO", "server").partition(b"uptime_in_seconds:")[2].split()[0])

    def spoil(fresh: Any) -> None:
        wait_until(lambda: uptime_s(fresh) >= 4, "it is seconds old")
        upgrade.crash()
        fresh.ask("DEL", *BULK)
        fresh.ask("SET", "flag", "off")

    def swap() -> None:
        upgrade.save(data)
        server.ask("SET", "flag", "on")
        captured(tmp_path / "place", 0, b"flag", wait_until)
        upgrade.start("9.1", rdb=data, first=spoil)

    report = guarded(server, tmp_path / "place", swap)
    assert (report.verdict, report.restored) == ("unproved", None), report
    assert any("had begun before the old one was gone" in one for one in report.why)
    assert upgrade.server.ask("EXISTS", *BULK) == 0
    assert upgrade.server.ask("GET", "flag") == b"off"


def test_a_server_that_does_not_know_the_user_yet_is_waited_for(
    start_server: Callable[..., Any], upgrade_of: Callable[..., Upgrade], tmp_path: Path
) -> None:
    user = ("cachekeep", "on", ">correct-horse", "~*", "&*", "+@all")
    server = start_server("9.1", users=f"user default on nopass ~* &* +@all\nuser {' '.join(user)}\n")
    write_bulk(server, "value")
    upgrade, told = upgrade_of(server), list[str]()

    def lose() -> None:
        upgrade.crash()
        upgrade.start("9.1")

    def let_in(sentence: str) -> None:
        told.append(sentence)
        if "user and password: waiting" in sentence:
            upgrade.server.ask("ACL", "SETUSER", *user)

    with ticking(server):
        report = guarded(
            server, tmp_path / "place", lose, user="cachekeep", password="correct-horse", news=let_in, patience_s=60.0
        )
    assert any("user and password: waiting" in one for one in told)
    assert report.verdict == "proved", report
    assert upgrade.server.ask("EXISTS", *BULK) == len(BULK)


def test_what_is_chosen_and_what_it_does_not_see_is_said_first(
    start_server: Callable[..., Any], tmp_path: Path
) -> None:
    server, told = start_server("9.1"), list[str]()
    report = guarded(server, tmp_path / "place", lambda: None, news=told.append)
    assert report.verdict == "proved", report
    assert told[0].startswith("capturing by CLIENT TRACKING: it notices which keys clients write after the return")
    assert told[1].startswith("its limits: ")
    assert not any("asked for" in one for one in told)
