"""RDB files that engines load from pipes while they are read and proved."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec
import psutil
import pytest

from cachekeep.backup.catalog import Repository
from cachekeep.backup.copy_types import Stopped
from cachekeep.blob.local import LocalBlobs
from cachekeep.codec.segment import RawFrame, SegmentEncoder, SegmentHeader, SegmentReader
from cachekeep.domain.nodes import Address
from cachekeep.domain.snapshot_work import CopyNode, CopyOrder, Outcome, WorkFailed
from cachekeep.snapshot_child.compose import Wish
from cachekeep.snapshot_child.feed import Feeder
from cachekeep.snapshot_child.order import carried_out

KEYS = 4000


@pytest.fixture
def repository(tmp_path: Path) -> Repository:
    return Repository.open_or_create(LocalBlobs(tmp_path / "repository"))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """An engine's, whose dump.rdb is a pipe."""
    os.mkfifo(tmp_path / "pipe")
    found = tmp_path / "engine"
    found.mkdir()
    (found / "dump.rdb").symlink_to(tmp_path / "pipe")
    return found


def taken(server: Any, repository: Repository, tmp_path: Path) -> Outcome:
    """A snapshot of some MB, in several frames."""
    for first in range(0, KEYS, 500):
        values = [word for n in range(first, first + 500) for word in (f"key:{n}", os.urandom(1000))]
        server.ask("MSET", *values)
    address = Address(server.host, server.port)
    order = CopyOrder((CopyNode("0001", address),), (address,))
    wish = Wish("CopyOrder", msgspec.Raw(msgspec.json.encode(order)), str(tmp_path / "repository"), "", {})
    return carried_out(wish, lambda name: None, threading.Event())


@contextmanager
def feeding(repository: Repository, outcome: Outcome, tmp_path: Path) -> Iterator[list[BaseException]]:
    """What it ended with is in the list after the block."""
    ended, stop = list[BaseException](), threading.Event()

    def run() -> None:
        try:
            Feeder(repository, outcome.generation, stop).feed(((outcome.lanes[0].lane, str(tmp_path / "pipe")),))
        except (WorkFailed, Stopped) as error:
            ended.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield ended
    finally:
        stop.set()
        thread.join()


@pytest.mark.parametrize("version", ["9.1", "8.1", "7.0", "6.2"])
def test_every_engine_loads_from_a_pipe_and_does_not_wait_for_another(
    start_server: Callable[..., Any], repository: Repository, folder: Path, tmp_path: Path, version: str
) -> None:
    outcome = taken(start_server(version, "--repl-diskless-sync-delay", "0"), repository, tmp_path)
    with feeding(repository, outcome, tmp_path) as ended:
        engine = start_server(version, "--dir", str(folder))
        assert engine.ask("DBSIZE") == KEYS
        assert not ended
    assert [type(error) for error in ended] == [Stopped]


@pytest.mark.parametrize("kept", [0.99, 0.5])
def test_an_engine_never_loads_to_the_end_what_is_damaged(
    start_server: Callable[..., Any],
    wait_until: Callable[..., Any],
    repository: Repository,
    folder: Path,
    tmp_path: Path,
    kept: float,
) -> None:
    outcome = taken(start_server("9.1", "--repl-diskless-sync-delay", "0"), repository, tmp_path)
    (segment,) = (tmp_path / "repository").glob("*/*.seg")
    segment.chmod(0o600)
    data = bytearray(segment.read_bytes())
    data[int(len(data) * kept)] ^= 0xFF
    segment.write_bytes(data)
    with feeding(repository, outcome, tmp_path) as ended:
        engine = start_server("9.1", "--dir", str(folder), wait=False)
        wait_until(lambda: ended, "the feeding ends")
        wait_until(lambda: not runs(engine.pid), "the engine ends")
    assert "its data is damaged or incomplete" in str(ended[0])
    assert "Unexpected EOF" in engine.log()
    assert "DB loaded" not in engine.log()


def test_what_is_found_out_after_the_last_piece_is_not_loaded_either(
    start_server: Callable[..., Any],
    wait_until: Callable[..., Any],
    repository: Repository,
    folder: Path,
    tmp_path: Path,
) -> None:
    """A whole segment in place of the right one, of a file whose sums no engine looks at: only its digest tells."""
    source = start_server("9.1", "--repl-diskless-sync-delay", "0", "--rdbchecksum", "no")
    outcome = taken(source, repository, tmp_path)
    (segment,) = (tmp_path / "repository").glob("*/*.seg")
    header = SegmentHeader(outcome.generation, segment.stem)
    frames = [frame.decode() for frame in SegmentReader([segment.read_bytes()], header).frames()]
    first = frames[0][0]
    middle = len(first.payload) // 2
    other = first.payload[:middle] + bytes([first.payload[middle] ^ 1]) + first.payload[middle + 1 :]
    frames[0][0] = msgspec.structs.replace(first, payload=other)
    encoded = b"".join(SegmentEncoder(header).encode(RawFrame(n, records) for n, records in enumerate(frames)))
    assert len(encoded) == segment.stat().st_size
    segment.chmod(0o600)
    segment.write_bytes(encoded)
    with feeding(repository, outcome, tmp_path) as ended:
        engine = start_server("9.1", "--dir", str(folder), wait=False)
        wait_until(lambda: ended, "the feeding ends")
        wait_until(lambda: not runs(engine.pid), "the engine ends")
    assert "another digest" in str(ended[0])
    assert "DB loaded" not in engine.log()


def test_an_engine_in_place_of_one_that_died_while_it_loaded_gets_all(
    start_server: Callable[..., Any],
    wait_until: Callable[..., Any],
    repository: Repository,
    folder: Path,
    tmp_path: Path,
) -> None:
    outcome = taken(start_server("9.1", "--repl-diskless-sync-delay", "0"), repository, tmp_path)
    with feeding(repository, outcome, tmp_path):
        first = start_server("9.1", "--dir", str(folder), "--key-load-delay", "20000", wait=False)
        wait_until(lambda: "Loading RDB" in first.log(), "it loads")
        psutil.Process(first.pid).kill()
        assert start_server("9.1", "--dir", str(folder)).ask("DBSIZE") == KEYS


def test_a_pipe_that_nobody_opens_is_given_up(
    start_server: Callable[..., Any], repository: Repository, folder: Path, tmp_path: Path
) -> None:
    outcome = taken(start_server("9.1", "--repl-diskless-sync-delay", "0"), repository, tmp_path)
    feeder = Feeder(repository, outcome.generation, threading.Event(), reader_deadline_s=0.0)
    with pytest.raises(WorkFailed, match="no engine has begun to load it") as failed:
        feeder.feed(((outcome.lanes[0].lane, str(tmp_path / "pipe")),))
    assert failed.value.again


def runs(pid: int) -> bool:
    return psutil.pid_exists(pid) and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
