"""Copies of clusters: all primaries side by side, and slots or primaries that move meanwhile."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from copying import FAR_MS, contents, copied, logged, once

from cachekeep.backup.reader import GenerationReader
from cachekeep.backup.topology import Owner, Topology, slots_to_read_again, topology
from cachekeep.codec.slots import slot_of, tag_of
from cachekeep.remote.open import open_remote

KEYS = 3000
NAMES = [b"key:%d" % at for at in range(KEYS)]


def fill(nodes: list[Any], client: Callable[..., Any], names: list[bytes] = NAMES) -> None:
    """Each key to the primary that has its slot by the equal ranges of the fixture."""
    count = sum(1 for node in nodes if role(node) == "master")
    pipes = [client(node).pipeline(transaction=False) for node in nodes[:count]]
    for at, name in enumerate(names):
        owner = next(n for n in range(count) if slot_of(name) < (n + 1) * 16384 // count)
        pipes[owner].set(name, at, pxat=FAR_MS + at)
    for pipe in pipes:
        pipe.execute()


def role(node: Any) -> str:
    return "master" if b"role:master" in node.ask("INFO", "replication") else "slave"


def move_slot(slot: int, source: Any, target: Any, others: list[Any], *, finish: bool = True) -> None:
    """As `valkey-cli --cluster reshard` does it, key by key."""
    source_id, target_id = source.ask("CLUSTER", "MYID").decode(), target.ask("CLUSTER", "MYID").decode()
    target.ask("CLUSTER", "SETSLOT", slot, "IMPORTING", source_id)
    source.ask("CLUSTER", "SETSLOT", slot, "MIGRATING", target_id)
    while keys := source.ask("CLUSTER", "GETKEYSINSLOT", slot, 100):
        source.ask("MIGRATE", target.host, target.port, "", 0, 20000, "KEYS", *keys)
    if finish:
        for node in (target, source, *others):
            node.ask("CLUSTER", "SETSLOT", slot, "NODE", target_id)


def check(report: Any, repository: Any, names: list[bytes] = NAMES, *, tolerance_ms: int = 0) -> None:
    """tolerance_ms: MIGRATE sends what is left of an expiry, and so moves it by the time that it takes."""
    held = contents(repository, report.generation)
    assert [name for name in names if (0, name) not in held] == []
    assert {key for _, key in held} == set(names)
    assert all(abs(held[0, name][1] - FAR_MS - at) <= tolerance_ms for at, name in enumerate(names))
    assert (report.verdict, report.gaps) == ("complete", ())


@pytest.mark.parametrize(
    "version", ["9.1", *(pytest.param(version, marks=pytest.mark.slow) for version in ("6.2", "7.0"))]
)
def test_seed_defect_21_all_primaries_of_a_cluster_are_copied(
    start_cluster: Any, client: Any, tmp_path: Path, version: str
) -> None:
    nodes = start_cluster(version)
    fill(nodes, client)
    large = tag_of(9000)
    client(nodes[1]).hset(b"{%b}large" % large, mapping={f"field:{at}": "x" * 100 for at in range(50_000)})
    client(nodes[1]).pexpireat(b"{%b}large" % large, FAR_MS + KEYS)
    report, repository = copied(nodes[2].url, tmp_path / "r")
    check(report, repository, [*NAMES, b"{%b}large" % large])
    lanes = {lane.lane for lane in repository.generation(report.generation).head.lanes}
    assert lanes == {f"{node.host}:{node.port}" for node in nodes}
    assert report.keys == {0: KEYS + 1}


def test_a_reshard_during_the_copy_neither_loses_nor_doubles_a_key(
    start_cluster: Any, client: Any, tmp_path: Path
) -> None:
    nodes = start_cluster("7.0")
    fill(nodes, client)
    slots = sorted({slot_of(name) for name in NAMES if slot_of(name) >= 2 * 16384 // 3})[:100]

    def reshard() -> None:
        for slot in slots:
            move_slot(slot, nodes[2], nodes[0], [nodes[1]])

    moving = threading.Thread(target=reshard)
    report, repository = copied(
        nodes[0].url,
        tmp_path / "r",
        progress=once(lambda keys: keys > 300, moving.start),
        max_keys_per_s=1500,
        count=10,
    )
    moving.join()
    check(report, repository, tolerance_ms=10_000)
    assert logged(repository, report, "slots-read-again")


def test_a_slot_that_moves_from_unread_to_read_ground_is_not_lost(
    start_cluster: Any, client: Any, tmp_path: Path
) -> None:
    """The worst order, forced: the target was scanned to its end before the slot came."""
    nodes = start_cluster("9.1")
    names = [b"{%b}%d" % (tag_of(16383), at) for at in range(2000)]
    fill(nodes, client, names)

    def reshard() -> None:
        move_slot(16383, nodes[2], nodes[0], [nodes[1]])

    progress = once(lambda keys: keys > 100, reshard)
    report, repository = copied(nodes[0].url, tmp_path / "r", progress=progress, max_keys_per_s=2000, count=10)
    check(report, repository, names, tolerance_ms=10_000)


@pytest.mark.parametrize("version", ["9.1", pytest.param("6.2", marks=pytest.mark.slow)])
def test_a_failover_during_the_copy_loses_no_key(
    start_cluster: Any, client: Any, tmp_path: Path, version: str, wait_until: Any
) -> None:
    nodes = start_cluster(version, primaries=2, replicas=1)
    fill(nodes, client)
    replica = nodes[2]

    def fail_over() -> None:
        replica.ask("CLUSTER", "FAILOVER")
        wait_until(lambda: role(replica) == "master", "the replica took over")

    progress = once(lambda keys: keys > 600, fail_over)
    report, repository = copied(nodes[1].url, tmp_path / "r", progress=progress, max_keys_per_s=1500, count=10)
    check(report, repository)


@pytest.mark.slow
def test_the_death_of_a_primary_during_the_copy_loses_no_key(start_cluster: Any, client: Any, tmp_path: Path) -> None:
    nodes = start_cluster("7.0", primaries=3, replicas=1, arguments=("--cluster-node-timeout", "2000"))
    fill(nodes, client)
    for node in nodes[:3]:
        node.ask("WAIT", 1, 10_000)
    progress = once(lambda keys: keys > 600, nodes[0].stop)
    report, repository = copied(
        nodes[1].url, tmp_path / "r", progress=progress, max_keys_per_s=1500, count=10, patience_s=60
    )
    check(report, repository)
    assert report.interruptions >= 1


def test_a_slot_that_stays_on_the_move_is_a_gap(start_cluster: Any, client: Any, tmp_path: Path) -> None:
    nodes = start_cluster("7.0")
    fill(nodes, client)
    slot = slot_of(NAMES[0])
    owner = next(at for at in range(3) if slot < (at + 1) * 16384 // 3)
    move_slot(slot, nodes[owner], nodes[(owner + 1) % 3], [], finish=False)
    report, repository = copied(nodes[0].url, tmp_path / "r", patience_s=1)
    assert report.verdict == "gaps"
    assert f"slots {slot} were on the move" in report.gaps[0].reason
    here = [name for name in NAMES if slot_of(name) != slot]
    assert {key for _, key in contents(repository, report.generation)} == set(here)


def test_a_cluster_gives_a_stream_per_primary(start_cluster: Any, client: Any, tmp_path: Path) -> None:
    nodes = start_cluster("9.1", arguments=("--repl-diskless-sync-delay", "0"))
    fill(nodes, client)
    report, repository = copied(nodes[0].url, tmp_path / "r", source="psync")
    reader = GenerationReader.open(repository, report.generation)
    for node in nodes:
        whole = b"".join(reader.stream("rdb", f"{node.host}:{node.port}"))
        assert all(key in whole for key in client(node).scan_iter(count=1000))


def test_functions_that_differ_between_nodes_are_noted(start_cluster: Any, client: Any, tmp_path: Path) -> None:
    nodes = start_cluster("7.0", primaries=2)
    code = "#!lua name=mine\nredis.register_function('one', function() return 1 end)"
    client(nodes[0]).execute_command("FUNCTION", "LOAD", code)
    report, _ = copied(nodes[0].url, tmp_path / "r")
    assert any("differ" in note for note in report.notes)


def test_an_epoch_that_grew_without_new_slots_has_all_slots_of_its_node_read_again() -> None:
    def owner(name: str, first: int, last: int, epoch: int, *moving: int) -> Owner:
        return Owner(name, name, 1, epoch, ((first, last),), frozenset(moving))

    before = Topology((owner("a", 0, 8000, 1), owner("b", 8001, 16383, 2)))
    assert slots_to_read_again(before, before) == set()
    moved = Topology((owner("a", 0, 7990, 1), owner("b", 7991, 16383, 3)))
    assert slots_to_read_again(before, moved) == set(range(7991, 16384)), "one of them may have gone and come back"
    and_back = Topology((owner("a", 0, 8000, 4), owner("b", 8001, 16383, 2)))
    assert slots_to_read_again(before, and_back) == set(range(8001))
    doubled = Topology((owner("a", 0, 8000, 1), owner("b", 8000, 16383, 3)))
    assert slots_to_read_again(before, doubled) == set(range(8000, 16384))
    open_one = Topology((owner("a", 0, 8000, 1, 5), owner("b", 8001, 16383, 2)))
    assert slots_to_read_again(before, open_one) == {5}


def test_every_primary_is_found_from_one_of_them(start_cluster: Any) -> None:
    nodes = start_cluster("9.1")
    found = topology(open_remote(nodes[0].url), [(nodes[0].host, nodes[0].port)])
    assert {(owner.host, owner.port) for owner in found.owners} == {(node.host, node.port) for node in nodes[:3]}
    assert len(found.owner_of) == 16384
    assert found.unsettled == set()
