"""The comparison by which following is judged: it finds every change, and none where there is none."""

from __future__ import annotations

import pickle
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from backup_samples import FUTURE_MS, fill_all_types, raw
from churn import Churn
from churn_losses import Pair, cut, kill_clients, restart, take_over
from test_copy_cluster import move_slot
from truth import Truth, as_replica, compare, now_ms, record
from valkey.crc import key_slot

EACH = [
    "9.1",
    pytest.param("6.2", marks=pytest.mark.slow),
    pytest.param("7.0", marks=pytest.mark.slow),
    pytest.param("8.1", marks=pytest.mark.slow),
]
LIBRARY = "#!lua name=mine\nredis.register_function('one', function() return 1 end)"
# Where it is found, what is done: to the data of fill_all_types and a few more.
CHANGES: list[tuple[str, tuple[Any, ...]]] = [
    ("missing", ("DEL", "string")),
    ("missing", ("PEXPIRE", "list:many", 1)),
    ("extra", ("SET", "never seen", "")),
    ("different", ("SET", "string", "valuf", "KEEPTTL")),
    ("different", ("APPEND", b"\xff\xfe\x00 \r\n*1\r\n", b"\x00")),
    ("different", ("RPOPLPUSH", "list:small", "list:small")),
    ("different", ("SADD", "set:integers", 5)),
    ("different", ("ZINCRBY", "zset:many", "0.0001", "element:7")),
    ("different", ("HSET", "hash:many", "element:7", "other")),
    ("different", ("HDEL", "hash:many", "element:7")),
    ("different", ("PFADD", "hyperloglog", "one more thing", "and another", "and a third")),
    ("different", ("XACK", "stream", "readers", "1000-1")),
    ("different", ("XGROUP", "SETID", "stream", "readers", "0")),
    ("different", ("XGROUP", "CREATECONSUMER", "stream", "readers", "late")),
    ("different", ("XGROUP", "DESTROY", "stream", b"\x00late")),
    ("different", ("XSETID", "stream", "99999-0")),
    ("different", ("XDEL", "stream", "5000-2")),
    ("different", ("XCLAIM", "stream", "readers", "one", 0, "2000-2", "TIME", 1_234_567_890_124, "RETRYCOUNT", 9)),
    ("different", ("COPY", "list:small", "set:small", "REPLACE")),
    ("different", ("HPEXPIREAT", "hash:volatile", FUTURE_MS + 6, "FIELDS", 1, "a")),
    ("different", ("HPERSIST", "hash:volatile", "FIELDS", 1, "a")),
    ("expiries", ("PEXPIREAT", "string", FUTURE_MS + 1)),
    ("expiries", ("PERSIST", "string")),
    ("expiries", ("PEXPIREAT", "string:number", FUTURE_MS)),
    ("functions", ("FUNCTION", "LOAD", LIBRARY)),
]


@pytest.mark.parametrize("version", EACH)
def test_a_plain_replica_equals_its_primary_after_churn_of_every_kind(
    start_server: Callable[..., Any], wait_until: Callable[..., Any], version: str
) -> None:
    """What the engine itself makes of a copy is the measure of all others."""
    source = start_server(version, "--repl-diskless-sync-delay", "0")
    replica = start_server(version)
    with Churn([source], seed=7, commands_per_s=0) as churn:
        churn.fill(2000)
        replica.ask("REPLICAOF", source.host, source.port)
        churn.resume()
        churn.do(10_000)
        wait_until(lambda: b"master_link_status:up" in replica.ask("INFO", "replication"), "linked")
        churn.do(5_000)
        churn.pause()
        assert source.ask("WAIT", 1, 20_000) == 1
        truth = record(source)
        found = compare(truth, record(replica), as_replica(version))
    assert found.compared > 2000
    assert {held.kind for held in truth.keys.values()} >= {b"string", b"list", b"set", b"zset", b"hash", b"stream"}
    assert {db for db, _ in truth.keys} >= {0, 1, 5, 11}
    assert not found, str(found)


@pytest.mark.parametrize("version", EACH)
def test_every_kind_of_change_is_found(start_server: Any, client: Any, wait_until: Any, version: str) -> None:
    server = start_server(version)
    number = tuple(map(int, version.split(".")))
    for where, change in CHANGES:
        since = {"FUNCTION": (7, 0), "HPEXPIREAT": (9, 0), "HPERSIST": (9, 0)}.get(change[0], (6, 2))
        if number < since:
            continue
        server.ask("FLUSHALL")
        fill_all_types(raw(client(server)), version)
        before = record(server)
        server.ask(*change)
        if change[0] == "PEXPIRE":
            wait_until(lambda key=change[1]: not server.ask("EXISTS", key), "the key has expired")
        found = compare(before, record(server))
        parts = {name for name in ("missing", "extra", "different", "expiries", "functions") if getattr(found, name)}
        assert parts == {where}, f"{change}: {found}"


def test_nothing_differs_where_nothing_was_done(start_server: Any, client: Any) -> None:
    server = start_server("9.1")
    fill_all_types(raw(client(server)), "9.1")
    server.ask("FUNCTION", "LOAD", LIBRARY)
    before = record(server)
    assert before.functions == {b"mine": LIBRARY.encode()}
    assert not compare(before, pickle.loads(pickle.dumps(record(server))))  # noqa: S301  # our own


def test_what_has_expired_meanwhile_is_no_difference(start_server: Any, wait_until: Any) -> None:
    server = start_server("9.1")
    server.ask("SET", "stays", 1)
    server.ask("SET", "goes", 1, "PX", 400)
    server.ask("HSET", "hash", "stays", 1, "goes", 2)
    server.ask("HPEXPIRE", "hash", 400, "FIELDS", 1, "goes")
    server.ask("HSET", "whole", "goes", 2)
    server.ask("HPEXPIRE", "whole", 400, "FIELDS", 1, "goes")
    before = record(server)
    assert len(before.keys) == 4
    wait_until(lambda: now_ms(server) > before.at_ms + 400, "their time has come")
    assert not compare(before, record(server))
    server.ask("SET", "goes", 1)
    assert compare(before, record(server)).extra == [(0, b"goes")], "it was to be gone"


def _lasting(truth: Truth) -> Truth:
    """Without keys that are about to expire: MIGRATE tells the time that is left, so that they live a ms longer."""
    soon = time.time_ns() // 1_000_000 + 60_000
    return replace(truth, keys={place: held for place, held in truth.keys.items() if not 0 <= held.expires_ms < soon})


def test_of_a_cluster_all_primaries_are_read_and_moved_slots_are_the_same_keys(start_cluster: Any) -> None:
    nodes = start_cluster("9.1")
    with Churn(nodes, seed=3, commands_per_s=0) as churn:
        churn.fill(3000)
        before = record(nodes[2])
        per_node = [int(node.ask("DBSIZE")) for node in nodes]
        assert min(per_node) > 0
        slot = key_slot(b"{7}")
        owner = next(at for at in range(3) if slot < (at + 1) * 16384 // 3)
        move_slot(slot, nodes[owner], nodes[(owner + 1) % 3], [nodes[(owner + 2) % 3]])
        after = record(nodes)
        assert len(before.keys) >= sum(per_node) - 200
        found = compare(_lasting(before), _lasting(after))
        assert not [*found.missing, *found.extra, *found.different], str(found)
        churn.resume()
        churn.do(3000)
        churn.pause()
        assert compare(before, record(nodes))


@pytest.mark.parametrize("version", EACH)
def test_the_churn_goes_on_through_kills_restarts_and_failovers(
    start_server: Any, fresh_address: Any, wait_until: Any, version: str
) -> None:
    pair = Pair(start_server, fresh_address().host, wait_until, version)
    with pair.door, Churn(pair.both, seed=5, commands_per_s=0, tags=5, large=0) as churn:
        churn.fill(1000)
        for loss in (kill_clients, cut, restart, take_over):
            churn.resume()
            churn.do(1000)
            loss(pair, churn)
            churn.do(1000)
            churn.pause()
        assert churn.losses >= 2
        before = record(pair.door)
        pair.restart()
        found = compare(before, record(pair.primary), as_replica(version))
        assert found.compared > 100
        assert not found, str(found)
