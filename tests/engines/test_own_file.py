"""Engines of this machine are read by the file that they write themselves: while it grows, whole, or by PSYNC."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import msgspec
import pytest

from cachekeep.backup.catalog import Repository
from cachekeep.backup.reader import GenerationReader
from cachekeep.blob.local import LocalBlobs
from cachekeep.domain.nodes import Address
from cachekeep.domain.remote import RemoteError
from cachekeep.domain.snapshot_work import CopyNode, CopyOrder, Outcome
from cachekeep.snapshot_child.compose import Wish
from cachekeep.snapshot_child.order import carried_out

NOTHING_KEPT = ("--save", "", "--appendonly", "no", "--repl-diskless-sync-delay", "0")
# So that the file is still being written when it is found: half a second for 250 keys.
SLOWLY = ("--rdb-key-save-delay", "2000")


class Taken:
    """A copy of one server into a repository. nodes: the folder that is told as that of the machine's nodes."""

    def __init__(self, place: Path, nodes: Path) -> None:
        self.place, self.nodes = place, nodes

    def take(self, server: Any, began: Callable[[str], None] = lambda name: None) -> Outcome:
        address = Address(server.host, server.port)
        order = msgspec.Raw(msgspec.json.encode(CopyOrder((CopyNode("0001", address),), (address,))))
        wish = Wish("CopyOrder", order, str(self.place), str(self.place / "staging"), {}, nodes=str(self.nodes))
        return carried_out(wish, began, threading.Event())

    def file(self, done: Outcome) -> bytes:
        reader = GenerationReader.open(Repository.open(LocalBlobs(self.place)), done.generation)
        return b"".join(reader.stream("rdb", done.lanes[0].lane))


def folder_of(server: Any) -> Path:
    return Path(told(server.ask("CONFIG", "GET", "dir"))["dir"])


def told(pairs: Any) -> Mapping[str, str]:
    flat = [one.decode() if isinstance(one, bytes) else str(one) for one in pairs]
    return dict(zip(flat[::2], flat[1::2], strict=True))


def synchronised(server: Any) -> str:
    info = server.ask("INFO", "stats")
    text = info.decode() if isinstance(info, bytes) else str(info)
    return next(line for line in text.splitlines() if line.startswith("sync_full"))


def fill(server: Any, keys: int = 250) -> None:
    for n in range(keys):
        server.ask("SET", f"key:{n}", f"value {n}" * 20)


@pytest.mark.parametrize("version", ["7.0", "8.1", "9.1"])
def test_the_file_is_the_engines_own_and_no_replica_was_fed(
    start_server: Callable[..., Any], wait_until: Callable[..., Any], tmp_path: Path, version: str
) -> None:
    source = start_server(version, *NOTHING_KEPT, *SLOWLY)
    fill(source)
    taken = Taken(tmp_path / "repository", folder_of(source).parent)
    before = synchronised(source)
    done = taken.take(source)
    assert (done.method, done.lanes[0].keys, done.databases) == ("psync", 250, (0,))
    assert taken.file(done) == (folder_of(source) / "dump.rdb").read_bytes()
    assert synchronised(source) == before
    # And again, with the file of the first one there, once the engine has seen the end of its child.
    wait_until(lambda: b"rdb_bgsave_in_progress:0" in source.ask("INFO", "persistence"), "the save has ended", 20)
    source.ask("SET", "another", "1")
    again = taken.take(source)
    assert again.lanes[0].keys == 251
    assert taken.file(again) == (folder_of(source) / "dump.rdb").read_bytes() != taken.file(done)


@pytest.mark.parametrize(
    ("options", "below"),
    [(("--save", "3600 1"), True), (("--save", "", "--appendonly", "yes"), True), (("--save", ""), False)],
    ids=["with save points", "with an append-only file", "of another folder"],
)
def test_an_engine_that_keeps_its_data_or_is_elsewhere_is_read_by_psync(
    start_server: Callable[..., Any], tmp_path: Path, options: tuple[str, ...], *, below: bool
) -> None:
    source = start_server("9.1", *options, "--repl-diskless-sync-delay", "0")
    fill(source, 50)
    nodes = folder_of(source).parent if below else tmp_path / "nodes"
    before = synchronised(source)
    assert Taken(tmp_path / "repository", nodes).take(source).lanes[0].keys == 50
    assert synchronised(source) != before
    assert not (folder_of(source) / "dump.rdb").exists()


def test_while_another_save_runs_psync_waits_for_it(start_server: Callable[..., Any], tmp_path: Path) -> None:
    source = start_server("9.1", *NOTHING_KEPT, *SLOWLY)
    fill(source)
    source.ask("BGSAVE")
    source.ask("SET", "later", "1")
    source.ask("CONFIG", "SET", "rdb-key-save-delay", 0)
    taken = Taken(tmp_path / "repository", folder_of(source).parent)
    assert taken.take(source).lanes[0].keys == 251


def test_a_save_that_fails_fails_the_copy_and_leaves_nothing(start_server: Callable[..., Any], tmp_path: Path) -> None:
    source = start_server("9.1", *NOTHING_KEPT, "--rdb-key-save-delay", "20000")
    fill(source)
    taken = Taken(tmp_path / "repository", folder_of(source).parent)

    def cancel() -> None:
        while not list(folder_of(source).glob("temp-*.rdb")):
            threading.Event().wait(0.01)
        source.ask("BGSAVE", "CANCEL")

    thread = threading.Thread(target=cancel)
    thread.start()
    with pytest.raises(RemoteError, match="BGSAVE ended without a file"):
        taken.take(source)
    thread.join()
    assert not Repository.open(LocalBlobs(tmp_path / "repository")).generations()
