"""Copies that are interrupted: by a signal, by a crash of their own, by a restart of the source."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from copying import contents, copied, logged, once

from cachekeep.backup.catalog import Status
from cachekeep.backup.copy import Stopped
from cachekeep.domain.remote import RemoteError, RemoteFault

KEYS = 6000
EXPECTED = {b"key:%d" % at for at in range(KEYS)}


def fill(client: Any) -> None:
    client.mset({f"key:{at}": f"value {at}" for at in range(KEYS)})


@pytest.fixture
def restart(wait_until: Callable[..., Any]) -> Iterator[Callable[..., None]]:
    """`restart(server, *arguments)`: kill the engine and start it again at its address, empty."""
    started: list[subprocess.Popen[bytes]] = []

    def again(server: Any, program: str, *arguments: str) -> None:
        server.stop()
        wait_until(lambda: refuses(server), "the old engine is gone")
        command = [program, "--bind", server.host, "--port", str(server.port), "--protected-mode", "no", "--save", ""]
        with Path(os.devnull).open("wb") as nowhere:
            started.append(subprocess.Popen([*command, *arguments], cwd=server.folder, stdout=nowhere))
        wait_until(lambda: server.ask("PING"), "the new engine answers")

    yield again
    for process in started:
        process.kill()
        process.wait()


def refuses(server: Any) -> bool:
    import socket

    with socket.socket() as probe:
        probe.settimeout(5)
        return probe.connect_ex((server.host, server.port)) != 0


def test_a_stopped_copy_is_resumed_where_it_was(start_server: Any, client: Any, tmp_path: Path) -> None:
    server = start_server("9.1")
    fill(client(server))
    client(server, 4).set("other", 4)
    stop = threading.Event()
    progress = once(lambda keys: keys > 1000, stop.set)
    with pytest.raises(Stopped, match="run it again to resume"):
        copied(server.url, tmp_path / "r", progress=progress, stop=stop, max_keys_per_s=5000)
    report, repository = copied(server.url, tmp_path / "r")
    assert report.resumed
    assert [found.name for found in repository.generations()] == [report.generation]
    held = contents(repository, report.generation)
    assert {key for db, key in held if db == 0} == EXPECTED
    assert (4, b"other") in held
    assert report.verdict == "complete"
    first, *_ = [entry for entry in repository_entries(repository, report.generation) if entry.db == 0]
    assert 1000 <= first.records < KEYS, "the first run's keys were not read again"
    assert sum(entry.records for entry in repository_entries(repository, report.generation)) < KEYS + 300


def repository_entries(repository: Any, name: str) -> list[Any]:
    from cachekeep.backup.catalog_chain import read_chain

    return read_chain(repository, name).entries


def test_another_selection_or_another_process_begins_anew(
    start_server: Any, client: Any, tmp_path: Path, restart: Any, install_of: Any
) -> None:
    server = start_server("7.0")
    fill(client(server))

    def interrupted(**options: Any) -> None:
        stop = threading.Event()
        progress = once(lambda keys: keys > 500, stop.set)
        with pytest.raises(Stopped):
            copied(server.url, tmp_path / "r", progress=progress, stop=stop, max_keys_per_s=5000, **options)

    interrupted()
    report, _ = copied(server.url, tmp_path / "r", match=b"key:1*")
    assert not report.resumed
    interrupted()
    report, _ = copied(server.url, tmp_path / "r", resume=False)
    assert not report.resumed
    interrupted()
    restart(server, install_of("7.0").program)
    fill(client(server))
    report, repository = copied(server.url, tmp_path / "r")
    assert not report.resumed
    assert {key for _, key in contents(repository, report.generation)} == EXPECTED


def test_a_restart_of_the_source_begins_the_scan_anew_and_forgets_what_was_lost(
    start_server: Any, client: Any, tmp_path: Path, restart: Any, install_of: Any
) -> None:
    server = start_server("9.1")
    fill(client(server))

    def act() -> None:
        restart(server, install_of("9.1").program)
        server.ask("MSET", *[word for at in range(2000) for word in (f"later:{at}", at)])

    progress = once(lambda keys: keys > 1000, act)
    report, repository = copied(server.url, tmp_path / "r", progress=progress, max_keys_per_s=5000)
    assert {key for _, key in contents(repository, report.generation)} == {b"later:%d" % at for at in range(2000)}
    assert report.interruptions == len(logged(repository, report, "interruption")) == 1
    assert report.verdict == "complete"


def test_a_source_that_does_not_come_back_leaves_what_can_be_resumed(
    start_server: Any, client: Any, tmp_path: Path
) -> None:
    server = start_server("9.1")
    fill(client(server))
    progress = once(lambda keys: keys > 1000, server.stop)
    with pytest.raises(RemoteError, match=r"was not back within 0.5 s.*run the same again") as lost:
        copied(server.url, tmp_path / "r", progress=progress, max_keys_per_s=5000, patience_s=0.5)
    assert lost.value.fault is RemoteFault.UNREACHABLE
    from cachekeep.backup.catalog import Repository
    from cachekeep.backup.reader import GenerationReader
    from cachekeep.blob.local import LocalBlobs

    repository = Repository.open(LocalBlobs(tmp_path / "r"))
    (found,) = repository.generations()
    assert found.status is Status.UNFINISHED
    held = contents(repository, found.name, unfinished=True)
    assert len(held) >= 900
    lines = list(GenerationReader.open(repository, found.name, unfinished=True).log_lines())
    assert [line["end_ms"] for line in lines if line["event"] == "interruption"] == [None]


def test_a_copy_that_was_killed_is_resumed_and_has_every_key(
    start_server: Any, client: Any, tmp_path: Path, wait_until: Any
) -> None:
    server = start_server("7.0")
    fill(client(server))
    script = (
        "import sys; sys.path.insert(0, sys.argv[3])\n"
        "import cachekeep.backup.copy_segments as segments; segments._SEGMENT_S = 0.2\n"
        "from pathlib import Path; from copying import copied\n"
        "copied(sys.argv[1], Path(sys.argv[2]), max_keys_per_s=2000, count=50)\n"
    )
    folder = tmp_path / "r"
    command = [sys.executable, "-c", script, server.url, str(folder), str(Path(__file__).parent)]
    with subprocess.Popen(command) as process:
        wait_until(lambda: list(folder.glob("*/00000002.json")), "two segments are durable")
        os.kill(process.pid, signal.SIGKILL)
    report, repository = copied(server.url, folder)
    assert report.resumed
    assert {key for _, key in contents(repository, report.generation)} == EXPECTED
    assert report.verdict == "complete"


def test_keys_skipped_before_the_interruption_stay_skipped(start_server: Any, client: Any, tmp_path: Path) -> None:
    users = "user default on nopass ~* &* +@all\nuser copier on >secret ~key:* &* +@all\n"
    server = start_server("9.1", users=users)
    fill(client(server))
    client(server).mset({f"closed:{at}": at for at in range(3000)})
    url = server.url.replace("redis://", "redis://copier:secret@")
    stop = threading.Event()
    with pytest.raises(Stopped):
        copied(url, tmp_path / "r", progress=once(lambda n: n > 3000, stop.set), stop=stop, max_keys_per_s=20_000)
    report, repository = copied(url, tmp_path / "r")
    assert report.resumed
    assert {key for _, key in contents(repository, report.generation)} == EXPECTED
    names = {line["key"] for line in logged(repository, report, "skipped")}
    assert names == {f"closed:{at}" for at in range(3000)}
    assert sum(report.skipped.values()) >= 3000
    assert report.verdict == "gaps"
