"""Guarding an upgrade, on real engines: what was lost is found and put back, what was written is never overwritten."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import valkey
from backup_samples import fill_all_types, raw
from guarding import BULK, TICK, Upgrade, captured, guarded, ticking, write_bulk
from truth import record

from cachekeep.follow.guard import NotBack
from cachekeep.follow.guard_types import Findings, GuardReport

RUNBOOK = Path(__file__).resolve().parents[2] / "docs" / "runbooks" / "backup-self-managed.md"


@pytest.fixture
def upgrade_of(start_server: Callable[..., Any], wait_until: Callable[..., Any]) -> Callable[..., Upgrade]:
    """`upgrade_of(server)`: a handle that replaces it at its address."""
    return lambda server: Upgrade(server, start_server, wait_until)


def keys_of(findings: Findings, one: Any) -> set[tuple[int, bytes]]:
    return {place for place in findings[one] if place != (0, TICK)}


def ticks(report: GuardReport) -> int:
    """1 where the key that is written all the time was missing too: its writer was too slow to write it anew."""
    return int(any((0, TICK) in findings for findings in (report.found["lost"], report.found["went back"])))


def test_an_upgrade_that_loses_nothing_is_proved(
    start_server: Callable[..., Any], upgrade_of: Callable[..., Upgrade], client: Callable[..., Any], tmp_path: Path
) -> None:
    server = start_server("7.0")
    fill_all_types(raw(client(server)), "7.0")
    server.ask("SET", "other", "database", db=3)
    keys = server.ask("DBSIZE") + 1
    upgrade = upgrade_of(server)
    with ticking(server):
        report = guarded(server, tmp_path / "place", lambda: upgrade.swap("9.1"))
    assert report.verdict == "proved", report
    assert (keys_of(report.found, "lost"), keys_of(report.found, "went back")) == (set(), set())
    assert report.restored is None
    assert (report.before, report.after) == ("Redis 7.0.15", "Valkey 9.1.2")
    assert report.method == "tracking"
    assert report.outages
    assert report.downtime_ms > 0
    assert report.found.compared >= keys


@pytest.mark.slow
def test_an_endpoint_that_comes_back_empty_gets_everything_back(
    start_server: Callable[..., Any],
    upgrade_of: Callable[..., Upgrade],
    client: Callable[..., Any],
    wait_until: Callable[..., Any],
    tmp_path: Path,
) -> None:
    server = start_server("7.0")
    fill_all_types(raw(client(server)), "7.0")
    server.ask("SET", "deleted", "before the upgrade")
    server.ask("SET", "forever", "with a time to live", "PXAT", 4_102_444_800_123, db=3)
    if server.version != "6.2":
        server.ask("FUNCTION", "LOAD", "#!lua name=lib\nredis.register_function('f', function() return 1 end)")
    upgrade, before = upgrade_of(server), record(server)

    def empty() -> None:
        server.ask("DEL", "deleted")
        server.ask("SET", "changed", "while it was guarded")
        for key in (b"deleted", b"changed"):
            captured(tmp_path / "place", 0, key, wait_until)
        upgrade.crash()
        upgrade.start("9.1")

    with ticking(server):
        report = guarded(server, tmp_path / "place", empty)
    assert report.verdict == "proved", report
    assert report.found["went back"] == frozenset()
    assert len(keys_of(report.found, "lost")) == len(before.keys)  # one was deleted, one came
    assert report.restored is not None
    assert report.restored.refused == ()
    assert report.restored.functions == "written"
    after = record(upgrade.server)
    expected = {place: held for place, held in before.keys.items() if place != (0, b"deleted")}
    for place, held in expected.items():
        assert after.keys.get(place) == held, place
    assert upgrade.server.ask("GET", "changed") == b"while it was guarded"
    assert after.functions == before.functions


def test_keys_of_an_older_copy_go_forward_again_and_deleted_ones_stay_deleted(
    start_server: Callable[..., Any], upgrade_of: Callable[..., Upgrade], wait_until: Callable[..., Any], tmp_path: Path
) -> None:
    server = start_server("9.1")
    ask, place, old = server.ask, tmp_path / "place", tmp_path / "old.rdb"
    write_bulk(server, "first")
    for name in ("same", "older", "deleted", "expiring"):
        ask("SET", name, "first")
    ask("HSET", "a hash", *(word for at in range(600) for word in (f"field {at}", at)))
    ask("XADD", "a stream", "1-1", "f", "v")
    upgrade = upgrade_of(server)

    def lose() -> None:
        upgrade.save(old)
        write_bulk(server, "second")
        ask("SET", "older", "second")
        ask("DEL", "deleted")
        ask("PEXPIREAT", "expiring", 4_102_444_800_000)
        ask("SET", "new", "second", db=2)
        ask("HSET", "a hash", "field 7", "changed")
        ask("XGROUP", "CREATE", "a stream", "readers", "0")
        ask("XADD", "a stream", "2-1", "f", "v")
        ask("SET", "last", "second")
        captured(place, 0, b"last", wait_until)
        with quiet:
            upgrade.crash()
            upgrade.start("9.1", rdb=old)
            upgrade.listened_to()

    report = None
    with ticking(server) as quiet:
        report = guarded(server, place, lose)
    assert report.verdict == "proved", report
    assert keys_of(report.found, "lost") == {(2, b"new"), (0, b"last")}
    back = {b"older", b"deleted", b"expiring", b"a hash", b"a stream", *BULK}
    assert keys_of(report.found, "went back") == {(0, key) for key in back}
    assert report.restored is not None
    assert (report.restored.written, report.restored.deleted) == (6 + len(BULK) + ticks(report), 1)
    ask = upgrade.server.ask
    assert (ask("GET", "older"), ask("EXISTS", "deleted"), ask("GET", "new", db=2)) == (b"second", 0, b"second")
    assert ask("PEXPIRETIME", "expiring") == 4_102_444_800_000
    assert (ask("HGET", "a hash", "field 7"), ask("XLEN", "a stream")) == (b"changed", 2)
    assert [group[1] for group in ask("XINFO", "GROUPS", "a stream")] == [b"readers"]


def test_writes_that_come_after_the_return_are_never_overwritten(
    start_server: Callable[..., Any], upgrade_of: Callable[..., Upgrade], wait_until: Callable[..., Any], tmp_path: Path
) -> None:
    server = start_server("9.1")
    ask, place, old = server.ask, tmp_path / "place", tmp_path / "old.rdb"
    names = ("at once", "deleted at once", "late", "later", "deleted later", "older")
    write_bulk(server, "first")
    for name in names:
        ask("SET", name, "first")
    upgrade = upgrade_of(server)

    def lose() -> None:
        upgrade.save(old)
        write_bulk(server, "second")
        for name in names:
            ask("SET", name, "second")
        ask("SET", "last", "second")
        captured(place, 0, b"last", wait_until)
        with quiet:
            upgrade.crash()
            upgrade.start("9.1", rdb=old)
            upgrade.listened_to()
        upgrade.server.ask("SET", "at once", "third")
        upgrade.server.ask("DEL", "deleted at once")

    def write_and_agree(findings: Findings) -> bool:
        """What an application does between the comparison and the restore."""
        assert (0, b"late") in findings["went back"]
        upgrade.server.ask("SET", "late", "third")
        upgrade.server.ask("PEXPIREAT", "later", 4_102_444_800_000)
        upgrade.server.ask("DEL", "deleted later")
        upgrade.server.ask("SET", "last", "third")
        return True

    with ticking(server) as quiet:
        report = guarded(server, place, lose, write_and_agree)
    assert {place for one in ("lost", "went back") for place in keys_of(report.found, one)} == {
        (0, key) for key in {b"late", b"later", b"deleted later", b"older", b"last"} | BULK
    }
    assert report.restored is not None
    assert report.restored.written + report.restored.kept == 5 + len(BULK) + ticks(report)
    assert report.restored.kept >= 4
    ask = upgrade.server.ask
    assert ask("MGET", "at once", "late", "last") == [b"third"] * 3
    assert (ask("GET", "later"), ask("PEXPIRETIME", "later")) == (b"first", 4_102_444_800_000)
    assert ask("EXISTS", "deleted later", "deleted at once") == 0
    assert ask("GET", "older") == b"second"
    assert report.verdict == "proved", report


def test_what_clients_may_have_deleted_before_anybody_listened_is_not_put_back(
    start_server: Callable[..., Any], upgrade_of: Callable[..., Upgrade], tmp_path: Path
) -> None:
    server = start_server("9.1")
    server.ask("MSET", "kept", "value", "deleted", "value")
    upgrade, data = upgrade_of(server), tmp_path / "data.rdb"

    def spoil(fresh: Any) -> None:
        fresh.ask("DEL", "deleted")
        fresh.ask("SET", TICK, "as nobody knows it")

    def swap() -> None:
        upgrade.save(data)
        upgrade.crash()
        upgrade.start("9.1", rdb=data, first=spoil)

    with ticking(server):
        report = guarded(server, tmp_path / "place", swap)
    assert (report.verdict, report.restored) == ("unproved", None)
    assert keys_of(report.found, "lost") == {(0, b"deleted")}
    assert "may be what they deleted" in report.why[0]
    assert upgrade.server.ask("EXISTS", "deleted") == 0


@pytest.mark.slow
def test_without_consent_nothing_is_written(
    start_server: Callable[..., Any], upgrade_of: Callable[..., Upgrade], wait_until: Callable[..., Any], tmp_path: Path
) -> None:
    server = start_server("9.1")
    server.ask("SET", "lost", "value")
    write_bulk(server, "value")
    upgrade = upgrade_of(server)

    def empty() -> None:
        upgrade.crash()
        upgrade.start("9.1")

    with ticking(server):
        report = guarded(server, tmp_path / "place", empty, offer=lambda findings: False)
    assert (report.verdict, report.restored) == ("different", None)
    assert report.found["lost"] >= {(0, b"lost")}
    assert upgrade.server.ask("EXISTS", "lost") == 0


def test_what_was_written_while_only_the_connection_was_gone_is_no_loss(
    start_server: Callable[..., Any], client: Callable[..., Any], tmp_path: Path
) -> None:
    server = start_server("9.1")
    server.ask("SET", "key", "value")

    def cut() -> None:
        with client(server).pipeline(transaction=True) as together:
            together.execute_command("CLIENT", "KILL", "TYPE", "pubsub")
            together.delete("key")
            together.execute()

    with ticking(server):
        report = guarded(server, tmp_path / "place", cut)
    assert (report.verdict, report.restored) == ("unproved", None)
    assert keys_of(report.found, "lost") == {(0, b"key")}
    assert "the same process answers as before" in report.why[0]
    assert server.ask("EXISTS", "key") == 0


@pytest.mark.slow
def test_polling_never_proves_an_upgrade(
    start_server: Callable[..., Any], upgrade_of: Callable[..., Upgrade], tmp_path: Path
) -> None:
    server = start_server("9.1")
    server.ask("SET", "key", "value")
    upgrade = upgrade_of(server)

    def empty() -> None:
        upgrade.crash()
        upgrade.start("9.1")

    report = guarded(server, tmp_path / "place", empty, source="poll")
    assert (report.verdict, report.restored) == ("unproved", None)
    assert keys_of(report.found, "lost") == {(0, b"key")}
    assert "nobody knows which keys were written" in report.why[0]


@pytest.mark.slow
def test_a_user_without_tracking_is_guarded_by_notifications(
    start_server: Callable[..., Any], upgrade_of: Callable[..., Upgrade], tmp_path: Path
) -> None:
    acl = "user default on nopass ~* &* +@all -client|tracking\n"
    server = start_server("9.1", "--notify-keyspace-events", "AE", users=acl)
    server.ask("SET", "key", "value")
    write_bulk(server, "value")
    upgrade = upgrade_of(server)

    def empty() -> None:
        upgrade.crash()
        upgrade.start("9.1", "--notify-keyspace-events", "AE")

    with ticking(server):
        report = guarded(server, tmp_path / "place", empty)
    assert (report.method, report.verdict) == ("keyspace", "proved")
    assert upgrade.server.ask("GET", "key") == b"value"


@pytest.mark.slow
def test_a_server_that_stays_away_is_not_called_proved(
    start_server: Callable[..., Any], upgrade_of: Callable[..., Upgrade], tmp_path: Path
) -> None:
    server = start_server("9.1")
    upgrade = upgrade_of(server)
    with ticking(server), pytest.raises(NotBack, match=r"was not back within 1 s.*every moment up to"):
        guarded(server, tmp_path / "place", upgrade.crash, patience_s=1.0)


@pytest.mark.slow
@pytest.mark.parametrize(("before", "after"), [("6.2", "7.0"), ("6.2", "9.1"), ("8.1", "9.1")])
def test_every_type_comes_back_from_an_older_version(
    start_server: Callable[..., Any],
    upgrade_of: Callable[..., Upgrade],
    client: Callable[..., Any],
    tmp_path: Path,
    before: str,
    after: str,
) -> None:
    server = start_server(before)
    fill_all_types(raw(client(server)), before)
    upgrade = upgrade_of(server)
    with ticking(server):
        report = guarded(server, tmp_path / "proved", lambda: upgrade.swap(after))
    assert report.verdict == "proved", report
    assert keys_of(report.found, "went back") | keys_of(report.found, "changed") == set()
    truth = {place: held for place, held in record(upgrade.server).keys.items() if place != (0, TICK)}

    def empty() -> None:
        upgrade.crash()
        upgrade.start(after)

    with ticking(server):
        report = guarded(upgrade.server, tmp_path / "restored", empty)
    assert report.verdict == "proved", report
    assert keys_of(report.found, "lost") == set(truth)
    assert {place: held for place, held in record(upgrade.server).keys.items() if place != (0, TICK)} == truth


@pytest.mark.parametrize("version", ["9.1", pytest.param("7.0", marks=pytest.mark.slow)])
def test_the_user_of_the_runbook_may_guard_and_put_back(
    start_server: Callable[..., Any], upgrade_of: Callable[..., Upgrade], tmp_path: Path, version: str
) -> None:
    text = RUNBOOK.read_text()
    line = next(line for line in text.splitlines() if line.startswith("user cachekeep on >CHANGE-ME "))
    acl = f"user default on nopass ~* &* +@all\n{line.replace('CHANGE-ME', 'correct-horse')}\n"
    server = start_server(version, users=acl)
    server.ask("SET", "key", "value")
    write_bulk(server, "value")
    upgrade = upgrade_of(server)

    def empty() -> None:
        upgrade.crash()
        upgrade.start(version, "--aclfile", str(server.folder / "users.acl"))

    with ticking(server):
        report = guarded(server, tmp_path / "place", empty, user="cachekeep", password="correct-horse")
    assert (report.method, report.verdict) == ("tracking", "proved"), report
    assert upgrade.server.ask("GET", "key") == b"value"


@pytest.mark.slow
def test_a_node_of_a_cluster_that_comes_back_empty_gets_its_keys_back(
    start_cluster: Callable[..., list[Any]], upgrade_of: Callable[..., Upgrade], tmp_path: Path
) -> None:
    nodes = start_cluster("9.1")
    with valkey.ValkeyCluster(host=nodes[0].host, port=nodes[0].port) as cluster:
        for number in range(300):
            cluster.set(f"key:{number}", number)
    lost = nodes[1].ask("DBSIZE")
    upgrade = upgrade_of(nodes[1])

    def empty() -> None:
        """Its name and slots are in nodes.conf, so that what comes back is the same node, without data."""
        upgrade.crash()
        upgrade.start("9.1", "--cluster-enabled", "yes", "--cluster-announce-ip", nodes[1].host)

    with ticking(nodes[0], key=own_key(nodes[0])):
        report = guarded(nodes[0], tmp_path / "place", empty)
    assert report.verdict == "proved", report
    assert len(report.found["lost"]) == lost
    assert sum(node.ask("DBSIZE") for node in nodes) == 301


def own_key(node: Any) -> bytes:
    """One whose slot the node has."""
    first, last = next(entry[:2] for entry in node.ask("CLUSTER", "SLOTS") if entry[2][0].decode() == node.host)
    names = (b"tick:%d" % number for number in range(100_000))
    return next(name for name in names if first <= node.ask("CLUSTER", "KEYSLOT", name) <= last)
