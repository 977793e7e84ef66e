"""The orders of snapshots, carried out on real engines: with a fork and without, and key by key into another engine."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import psutil
import pytest

from cachekeep.backup.catalog import Repository
from cachekeep.blob.local import LocalBlobs
from cachekeep.domain.nodes import Address
from cachekeep.domain.remote import RemoteError
from cachekeep.domain.snapshot_work import CopyNode, CopyOrder, FillOrder, Order, Outcome, SweepOrder, WorkFailed
from cachekeep.remote.open import open_remote
from cachekeep.snapshot_child import caught_up
from cachekeep.snapshot_child.caught_up import await_offset, offset_of
from cachekeep.snapshot_child.compose import Wish
from cachekeep.snapshot_child.order import carried_out


@pytest.fixture
def ask(tmp_path: Path) -> Callable[..., Outcome]:
    def carry_out(order: Order, began: Callable[[str], None] = lambda name: None) -> Outcome:
        raw = msgspec.Raw(msgspec.json.encode(order))
        wish = Wish(type(order).__name__, raw, str(tmp_path / "repository"), str(tmp_path / "staging"), {})
        return carried_out(wish, began, threading.Event())

    return carry_out


def address_of(server: Any) -> Address:
    return Address(server.host, server.port)


def copy_of(server: Any) -> CopyOrder:
    address = address_of(server)
    return CopyOrder((CopyNode("0001", address),), (address,))


def test_without_memory_for_a_fork_keys_are_read_one_by_one(
    start_server: Callable[..., Any], ask: Callable[..., Outcome], monkeypatch: pytest.MonkeyPatch
) -> None:
    source, target = start_server("9.1", "--repl-diskless-sync-delay", "0"), start_server("8.1")
    for n in range(300):
        source.ask("SET", f"key:{n}", f"value {n}")
    forked = ask(copy_of(source))
    assert (forked.method, forked.rdb_version, forked.databases) == ("psync", 80, (0,))
    assert forked.lanes[0].keys == 300
    memory = psutil.virtual_memory()
    monkeypatch.setattr(psutil, "virtual_memory", lambda: memory._replace(available=1))
    before = source.ask("INFO", "stats")
    scanned = ask(copy_of(source))
    assert (scanned.method, scanned.rdb_version, scanned.lanes[0].keys) == ("scan", 0, 300)
    assert total_forks(source.ask("INFO", "stats")) == total_forks(before)
    filled = ask(FillOrder(scanned.generation, address_of(target)))
    assert filled.keys == 300 == target.ask("DBSIZE")


def total_forks(info: bytes | str) -> str:
    text = info.decode() if isinstance(info, bytes) else str(info)
    return next(line for line in text.splitlines() if line.startswith("total_forks"))


def cut_off_replica(start_server: Callable[..., Any], wait_until: Callable[..., Any]) -> tuple[Any, Any]:
    """A primary, and a replica of it that has not got the last write."""
    primary, replica = (start_server("9.1", "--repl-diskless-sync-delay", "0") for _ in range(2))
    replica.ask("REPLICAOF", primary.host, primary.port)
    wait_until(lambda: b"master_link_status:up" in raw(replica.ask("INFO", "replication")), "the replica follows")
    replica.ask("REPLICAOF", "127.0.0.1", 1)
    primary.ask("SET", "acknowledged", "before the snapshot was asked for")
    return primary, replica


def raw(reply: bytes | str) -> bytes:
    return reply.encode() if isinstance(reply, str) else reply


def test_a_replica_is_read_once_it_has_what_its_primary_had(
    start_server: Callable[..., Any], ask: Callable[..., Outcome], wait_until: Callable[..., Any]
) -> None:
    primary, replica = cut_off_replica(start_server, wait_until)
    remote = open_remote(f"redis://{address_of(replica)}")
    offset = offset_of(open_remote(f"redis://{address_of(primary)}"))
    assert offset
    waited: list[float] = []

    def wait(seconds: float) -> None:
        waited.append(seconds)
        replica.ask("REPLICAOF", primary.host, primary.port)
        wait_until(lambda: replica.ask("EXISTS", "acknowledged"), "the replica has it")

    await_offset(remote, offset, wait)
    assert len(waited) == 1
    assert offset_of(remote) is None, "it is no primary"
    order = CopyOrder((CopyNode("0001", address_of(replica)),), (address_of(primary),))
    assert ask(order).lanes[0].keys == 1
    primary.stop()
    assert offset_of(open_remote(f"redis://{address_of(primary)}")) is None, "it holds nobody up"


def test_a_replica_that_stays_behind_is_not_read(
    start_server: Callable[..., Any],
    ask: Callable[..., Outcome],
    wait_until: Callable[..., Any],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    primary, replica = cut_off_replica(start_server, wait_until)
    monkeypatch.setattr(caught_up, "PATIENCE_S", 0.1)
    with pytest.raises(WorkFailed, match=r"has not got in 0\.1 s what") as failed:
        ask(CopyOrder((CopyNode("0001", address_of(replica)),), (address_of(primary),)))
    assert failed.value.again
    assert not Repository.open(LocalBlobs(tmp_path / "repository")).generations()


def test_a_source_that_is_gone_leaves_nothing(
    start_server: Callable[..., Any], ask: Callable[..., Outcome], tmp_path: Path
) -> None:
    source = start_server("9.1", "--repl-diskless-sync-delay", "0")
    order = copy_of(source)
    source.stop()
    with pytest.raises(RemoteError):
        ask(order)
    assert not Repository.open(LocalBlobs(tmp_path / "repository")).generations()


def test_a_sweep_takes_what_is_unfinished_and_leaves_what_is_whole(
    start_server: Callable[..., Any], ask: Callable[..., Outcome], tmp_path: Path
) -> None:
    source = start_server("9.1", "--repl-diskless-sync-delay", "0")
    source.ask("SET", "a", "1")
    kept, half = ask(copy_of(source)).generation, ask(copy_of(source)).generation
    (tmp_path / "repository" / half / "end.json").unlink()
    for folder in ("used", "left"):
        (tmp_path / "staging" / folder).mkdir(parents=True)
    ask(SweepOrder((), ("used",)))
    assert [one.name for one in Repository.open(LocalBlobs(tmp_path / "repository")).generations()] == [kept]
    assert [path.name for path in (tmp_path / "staging").iterdir()] == ["used"]


def test_a_key_that_the_new_engine_refuses_fails_the_order(
    start_server: Callable[..., Any], ask: Callable[..., Outcome]
) -> None:
    source, target = start_server("9.1", "--repl-diskless-sync-delay", "0"), start_server("8.1")
    source.ask("HSET", "h", "f", "v")
    source.ask("HEXPIRE", "h", 10_000, "FIELDS", 1, "f")
    taken = ask(copy_of(source))
    with pytest.raises(WorkFailed, match="1 keys were refused"):
        ask(FillOrder(taken.generation, address_of(target)))
