"""Restores into clusters and out of them: every key where its slot is, whatever moves on the way. Real servers."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from backup_samples import backup_of, fill_all_types, keys_of, raw, records_of, same_state, state

from cachekeep.backup.contents import contents_of, open_generation
from cachekeep.backup.diff import diff
from cachekeep.backup.progress import Progress
from cachekeep.backup.restore import RestoreOptions, RestoreReport, restore
from cachekeep.backup.survey import survey
from cachekeep.codec.slots import slot_of
from cachekeep.host.installs import MachineCatalogue
from cachekeep.host.scratch import LocalScratch
from cachekeep.remote.open import open_remote, open_socket


@pytest.fixture
def put_back(tmp_path: Path, catalogue: MachineCatalogue) -> Callable[..., RestoreReport]:
    scratch = LocalScratch(catalogue, open_socket)

    def put(
        source: Any, records: list[Any], target: Any, options: RestoreOptions | None = None, **more: Any
    ) -> RestoreReport:
        remote = open_remote(target.url)
        functions = more.pop("functions", None)
        made = backup_of(tmp_path, survey(open_remote(source.url)), records, functions=functions, frame_bytes=4096)
        with open_generation(*made, scratch) as contents:
            return restore(contents, remote, survey(remote), options, **more)

    return put


def whole_state(clients: list[Any], version: str) -> dict[bytes, Any]:
    """Of all primaries; no key is on two of them."""
    found: dict[bytes, Any] = {}
    for one in clients:
        part = state(one, version)
        assert not part.keys() & found.keys()
        found |= part
    return found


@pytest.mark.parametrize("version", ["9.1", pytest.param("7.0", marks=pytest.mark.slow)])
def test_a_standalone_goes_into_a_cluster_and_back(
    put_back: Callable[..., RestoreReport],
    start_server: Callable[..., Any],
    start_cluster: Callable[..., Any],
    client: Callable[..., Any],
    version: str,
) -> None:
    source, back = start_server(version), start_server(version)
    nodes = start_cluster(version)
    c, clients = raw(client(source)), [raw(client(node)) for node in nodes]
    fill_all_types(c, version)
    second = raw(client(source, 5))
    second.execute_command("MSET", "a", "1", "b", "2")
    c.execute_command("FUNCTION", "LOAD", "#!lua name=lib\nredis.register_function('f', function() return 7 end)")
    functions = c.execute_command("FUNCTION", "DUMP")
    records = records_of(c, version)

    report = put_back(source, records + records_of(second, version, 5), nodes[1], functions=functions)

    expected = state(c, version)
    assert same_state(expected, whole_state(clients, version)) == []
    assert report.databases[0].written == len(expected)
    (reason,) = report.databases[5].refused
    assert ("cluster" in reason or "databases" in reason, report.databases[5].refused[reason]) == (True, 2)
    assert report.functions == "written"
    assert all(len(one.execute_command("FUNCTION", "LIST")) == 1 for one in clients)
    clients[0].execute_command("SET", _key_of_node(0, 3), "extra")
    again = put_back(source, records, nodes[0], RestoreOptions(delete_extra=True), functions=functions)
    assert (again.databases[0].kept, again.databases[0].deleted) == (len(expected), 1)

    gathered = [record for one in clients for record in records_of(one, version)]
    put_back(nodes[0], gathered, back)
    assert same_state(expected, state(raw(client(back)), version)) == []
    remote = open_remote(back.url)
    compared = diff(contents_of(open_remote(nodes[2].url), survey(open_remote(nodes[2].url))), remote, survey(remote))
    assert compared.databases[0].same == len(expected)
    assert not compared.differences


def test_values_built_by_commands_land_in_their_slot(
    put_back: Callable[..., RestoreReport],
    start_server: Callable[..., Any],
    start_cluster: Callable[..., Any],
    client: Callable[..., Any],
) -> None:
    source, nodes = start_server("9.1"), start_cluster("6.2")
    c = raw(client(source))
    for number in range(60):
        c.execute_command("HSET", b"h{%d}x" % number, "f", number)
        c.execute_command("SADD", b"s:%d" % number, "a", "b")
    records = records_of(c, "9.1")
    assert put_back(source, records, nodes[0]).databases[0].written == 120
    clients = [raw(client(node)) for node in nodes]
    assert same_state(state(c, "9.1"), whole_state(clients, "6.2")) == []
    assert put_back(source, records, nodes[2]).databases[0].kept == 120


@pytest.mark.parametrize("finished", [pytest.param(True, marks=pytest.mark.slow), False])
def test_a_slot_that_moves_during_the_restore_loses_nothing(
    put_back: Callable[..., RestoreReport],
    start_server: Callable[..., Any],
    start_cluster: Callable[..., Any],
    client: Callable[..., Any],
    finished: bool,
) -> None:
    """finished: the slot has a new owner; else it is on the move, and some of its keys are here, some there."""
    source, nodes = start_server("9.1"), start_cluster("9.1")
    c, clients = raw(client(source)), [raw(client(node)) for node in nodes]
    keys = [b"{tag}%d" % number for number in range(300)] + [b"other:%d" % number for number in range(900)]
    slot = slot_of(b"{tag}")
    home = slot * 3 // 16384
    away = (home + 1) % 3
    for number, key in enumerate(keys):
        c.execute_command("SET", key, number)
    # The target has some of them already, of which one is to be changed.
    for number in range(10):
        clients[home].execute_command("SET", b"{tag}%d" % number, "old" if number == 3 else number)
    moved = False

    def move(progress: Progress) -> None:
        nonlocal moved
        if moved or progress.keys < 150:
            return
        moved = True
        ids = [one.execute_command("CLUSTER", "MYID") for one in clients]
        clients[away].execute_command("CLUSTER", "SETSLOT", slot, "IMPORTING", ids[home])
        clients[home].execute_command("CLUSTER", "SETSLOT", slot, "MIGRATING", ids[away])
        there = clients[home].execute_command("CLUSTER", "GETKEYSINSLOT", slot, 1000)
        for key in there if finished else there[::2]:
            clients[home].execute_command("MIGRATE", nodes[away].host, nodes[away].port, key, 0, 5000)
        if finished:
            hand_over(ids[away])

    def hand_over(owner: bytes) -> None:
        for number in (away, home):
            clients[number].execute_command("CLUSTER", "SETSLOT", slot, "NODE", owner)

    report = put_back(source, records_of(c, "9.1"), nodes[home], RestoreOptions(batch=50), progress=move)

    assert moved
    assert report.refused_keys == 0
    if not finished:
        for key in clients[home].execute_command("CLUSTER", "GETKEYSINSLOT", slot, 1000):
            clients[home].execute_command("MIGRATE", nodes[away].host, nodes[away].port, key, 0, 5000)
        hand_over(clients[away].execute_command("CLUSTER", "MYID"))
    found = whole_state(clients, "9.1")
    assert same_state(state(c, "9.1"), found) == []
    assert report.databases[0].kept + report.databases[0].written == len(keys)


def test_a_primary_that_fails_over_during_the_restore_loses_nothing(
    put_back: Callable[..., RestoreReport],
    start_server: Callable[..., Any],
    start_cluster: Callable[..., Any],
    client: Callable[..., Any],
) -> None:
    source = start_server("9.1")
    nodes = start_cluster("9.1", 3, 1, arguments=("--cluster-node-timeout", "2000"))
    c = raw(client(source))
    for number in range(2000):
        c.execute_command("SET", b"k:%d" % number, number)
    failed = False

    def fail(progress: Progress) -> None:
        nonlocal failed
        if not failed and progress.keys > 500:
            failed = True
            nodes[3].ask("CLUSTER", "FAILOVER", "TAKEOVER")

    report = put_back(source, records_of(c, "9.1"), nodes[1], RestoreOptions(batch=50), progress=fail)

    assert failed
    assert report.refused_keys == 0
    again = put_back(source, records_of(c, "9.1"), nodes[1])
    assert again.databases[0].kept + again.databases[0].written == 2000
    clients = [raw(client(nodes[number])) for number in (3, 1, 2)]
    assert sum(len(keys_of(one)) for one in clients) == 2000


def _key_of_node(node: int, of: int) -> bytes:
    number = 0
    while slot_of(b"extra:%d" % number) * of // 16384 != node:
        number += 1
    return b"extra:%d" % number
