"""Engines for a while load what they should, say why when they do not, and are gone afterwards, whatever happens."""

from __future__ import annotations

import os
import resource
import signal
import stat
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from cachekeep.codec.resp import pack
from cachekeep.domain.engine import Engine, EngineInstall, EngineVersion
from cachekeep.domain.remote import RemoteError, ScratchError
from cachekeep.host.engine_log import reason_of_end
from cachekeep.host.installs import MachineCatalogue
from cachekeep.host.process import look
from cachekeep.host.scratch import LocalScratch, loads_rdb
from cachekeep.remote.open import open_socket

VERSIONS = ("9.1", "8.1", "7.0", "6.2")


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Path]:
    """Where scratch engines make their folders; empty again at the end of the test."""
    folder = tmp_path / "place"
    folder.mkdir()
    yield folder
    assert list(folder.iterdir()) == []


@pytest.fixture
def scratch(catalogue: MachineCatalogue, place: Path) -> LocalScratch:
    return LocalScratch(catalogue, open_socket, place)


def pid_of(remote: Any) -> int:
    with remote.connect() as connection:
        lines = connection.ask("INFO", "server").decode().split("\r\n")
    return int(next(line for line in lines if line.startswith("process_id:")).partition(":")[2])


def runs(pid: int) -> bool:
    seen = look(pid)
    return seen is not None and seen.alive


def saved(scratch: LocalScratch, install: EngineInstall) -> bytes:
    """An RDB file that the install wrote: a key in database 17, one that expires late, one that has expired."""
    with scratch.empty(install, 18) as remote, remote.connect(17) as connection:
        connection.ask("SET", "a", b"\0\xff")
        connection.ask("SET", "late", 1, "PX", 10_000_000)
        connection.ask("SET", "gone", 1, "PX", 1)
        connection.ask("SAVE")
        folder = connection.ask("CONFIG", "GET", "dir")[1].decode()
        return Path(folder, "dump.rdb").read_bytes()


@pytest.mark.parametrize("version", VERSIONS)
def test_an_engine_for_a_while_is_private_and_gone_afterwards(
    scratch: LocalScratch, install_of: Any, place: Path, version: str
) -> None:
    with scratch.empty(install_of(version), 40) as remote:
        pid = pid_of(remote)
        (folder,) = place.iterdir()
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700
        assert stat.S_IMODE((folder / "s").stat().st_mode) == 0o700
        with remote.connect(39) as connection:
            settings = {
                name: connection.ask("CONFIG", "GET", name)[1]
                for name in ("port", "save", "appendonly", "maxmemory", "databases")
            }
        assert settings == {"port": b"0", "save": b"", "appendonly": b"no", "maxmemory": b"0", "databases": b"40"}
        # It neither reads our environment nor leads back to our terminal.
        assert b"PYTEST" not in Path(f"/proc/{pid}/environ").read_bytes()
        assert os.getsid(pid) != os.getsid(0)
    assert not runs(pid)
    with pytest.raises(RemoteError):
        remote.connect()


@pytest.mark.parametrize("written_by", VERSIONS)
def test_a_file_loads_where_for_rdb_says_so_and_elsewhere_is_refused_with_the_reason(
    scratch: LocalScratch, install_of: Any, written_by: str
) -> None:
    source = install_of(written_by)
    rdb = saved(scratch, source)
    version = int(rdb[5:9] if rdb.startswith(b"REDIS") else rdb[6:9])
    for install in scratch.installs():
        chunks = (rdb[at : at + 7] for at in range(0, len(rdb), 7))
        if loads_rdb(install, source.engine, version):
            with scratch.loaded(chunks, install, 18) as remote, remote.connect(17) as connection:
                assert connection.ask("GET", "a") == b"\0\xff"
                assert 9_000_000 < connection.ask("PTTL", "late") <= 10_000_000
                # A primary drops what has expired when it loads.
                assert connection.ask("DBSIZE") == 2
        else:
            refused = pytest.raises(
                ScratchError, match=r"not load the RDB file: (it is of RDB version|Wrong signature)"
            )
            with refused, scratch.loaded(chunks, install, 18):
                pass
    chosen = scratch.for_rdb(source.engine, version)
    assert chosen is not None
    assert chosen.engine is source.engine


def test_the_engine_for_a_file_is_of_its_family_where_it_must_and_may_be_newer(scratch: LocalScratch) -> None:
    def find(engine: Engine, version: int) -> str | None:
        found = scratch.for_rdb(engine, version)
        return found and f"{found.engine.label} {found.version.short}"

    assert find(Engine.VALKEY, 80) == find(Engine.VALKEY, 11) == "Valkey 9.1"
    assert find(Engine.VALKEY, 81) is None
    assert find(Engine.REDIS, 9) in ("Redis 7.0", "Redis 6.2")
    assert find(Engine.REDIS, 11) == "Valkey 9.1"
    # Redis 7.4 and newer went their own way, as Valkey 9 did.
    assert find(Engine.REDIS, 12) is find(Engine.REDIS, 80) is None
    redis8 = EngineInstall(Engine.REDIS, EngineVersion((8, 0, 1)), "/redis", "nowhere")
    redis3 = EngineInstall(Engine.REDIS, EngineVersion((3, 2)), "/redis", "nowhere")
    assert loads_rdb(redis8, Engine.REDIS, 12)
    assert not loads_rdb(redis8, Engine.VALKEY, 80)
    assert not loads_rdb(redis3, Engine.REDIS, 6)
    assert all(install.engine.speaks_resp for install in scratch.installs())


@pytest.mark.parametrize("version", VERSIONS)
def test_a_damaged_file_is_refused_with_the_engines_reason(
    scratch: LocalScratch, install_of: Any, version: str
) -> None:
    whole = saved(scratch, install_of(version))
    for rdb in (b"", b"HELLO0009", whole[:-4], whole[: len(whole) // 2], whole[:-1] + bytes([whole[-1] ^ 1])):
        refused = pytest.raises(ScratchError, match="the file is damaged, or no RDB file for this engine")
        with refused as told, scratch.loaded([rdb], install_of(version), 18):
            pass
        assert "\n" not in str(told.value)


def test_what_the_copy_itself_raises_comes_through(scratch: LocalScratch, install_of: Any, place: Path) -> None:
    def broken() -> Iterator[bytes]:
        yield b"REDIS0009"
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError), scratch.loaded(broken(), install_of("9.1"), 1):
        pass
    seen: list[int] = []

    def use(error: type[BaseException]) -> None:
        with scratch.empty(install_of("9.1"), 1) as remote:
            seen.append(pid_of(remote))
            raise error

    for error in (KeyboardInterrupt, ZeroDivisionError):
        with pytest.raises(error):
            use(error)
        assert not runs(seen.pop())
        assert list(place.iterdir()) == []


def test_a_disk_without_room_is_named(scratch: LocalScratch, install_of: Any, place: Path) -> None:
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2 << 20, before[1]))
    try:
        refused = pytest.raises(ScratchError, match=f"no space in {place} for the RDB file: it ended after 2 MiB")
        with refused, scratch.loaded((b"x" * 300_000 for _ in range(100)), install_of("9.1"), 1):
            pass
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_folder_that_is_not_there_and_a_program_that_is_not_are_named(
    catalogue: MachineCatalogue, scratch: LocalScratch, tmp_path: Path, install_of: Any
) -> None:
    nowhere = LocalScratch(catalogue, open_socket, tmp_path / "none")
    with pytest.raises(ScratchError, match="no folder can be made"), nowhere.empty(install_of("9.1"), 1):
        pass
    missing = EngineInstall(Engine.VALKEY, EngineVersion((9, 1)), str(tmp_path / "none"), "nowhere")
    with pytest.raises(ScratchError, match="does not start"), scratch.empty(missing, 1):
        pass
    memcached = EngineInstall(Engine.MEMCACHED, EngineVersion((1, 6)), "/bin/true", "nowhere")
    with pytest.raises(ScratchError, match="no RDB file"), scratch.empty(memcached, 1):
        pass


@pytest.mark.parametrize("name", ["d" * 120, 'quote" back\\slash and space'])
def test_a_long_or_odd_path_is_no_hindrance(
    catalogue: MachineCatalogue, install_of: Any, tmp_path: Path, name: str
) -> None:
    folder = tmp_path / name
    folder.mkdir()
    before = set(Path("/tmp").glob("cachekeep-*/s"))
    with LocalScratch(catalogue, open_socket, folder).empty(install_of("9.1"), 1) as remote:
        path = Path(remote.address.removeprefix("unix:"))
        assert len(os.fsencode(path)) <= 103
        assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
        with remote.connect() as connection:
            assert connection.ask("PING") == b"PONG"
    assert list(folder.iterdir()) == []
    assert path not in before
    assert not path.parent.exists()


def test_an_engine_that_crashes_in_use_leaves_nothing_behind(scratch: LocalScratch, install_of: Any) -> None:
    with scratch.empty(install_of("9.1"), 1) as remote, remote.connect() as connection:
        pid = pid_of(remote)
        connection.send(pack("BLPOP", "none", 0))
        os.kill(pid, signal.SIGKILL)
        with pytest.raises(RemoteError):
            connection.receive(1)


def test_the_engine_outlives_the_thread_that_started_it(scratch: LocalScratch, install_of: Any) -> None:
    # Which the kernel's own way to end a child with its parent would not allow.
    context = scratch.empty(install_of("9.1"), 1)
    made: list[Any] = []
    thread = threading.Thread(target=lambda: made.append(context.__enter__()))
    thread.start()
    thread.join()
    try:
        with made[0].connect() as connection:
            assert connection.ask("PING") == b"PONG"
    finally:
        context.__exit__(None, None, None)


KILLED = """
import sys
from pathlib import Path
from cachekeep.host.installs import MachineCatalogue
from cachekeep.host.scratch import LocalScratch
from cachekeep.remote.open import open_socket
scratch = LocalScratch(MachineCatalogue(), open_socket, Path(sys.argv[1]))
with scratch.empty(scratch.installs()[0], 1) as remote, remote.connect() as connection:
    print(connection.ask("INFO", "server").decode(), flush=True)
    connection.receive(1)
"""


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_the_engine_ends_with_us_however_we_end(place: Path, wait_until: Callable[..., Any], number: int) -> None:
    with tempfile.TemporaryFile() as errors:
        ours = subprocess.Popen(
            [sys.executable, "-c", KILLED, str(place)], stdout=subprocess.PIPE, stderr=errors, text=True
        )
        assert ours.stdout is not None
        with ours.stdout as lines:
            pid = next(int(line.partition(":")[2]) for line in lines if line.startswith("process_id:"))
            assert runs(pid)
            ours.send_signal(number)
            assert ours.wait(20) != 0
    wait_until(lambda: not runs(pid), "the engine ended")
    wait_until(lambda: not list(place.iterdir()), "its folder is gone")


def test_the_log_tells_the_reason_in_words() -> None:
    told = "The RDB file contains module data I can't load: no matching module type 'ReJSON-RL'"
    module = f"7:M 01 Jan 2026 00:00:00.000 # {told}"
    assert "the module type ReJSON-RL" in reason_of_end(module, 1)
    assert reason_of_end("", 137) == "it was killed by signal 9 (it said nothing); check memory and disk"
    assert "exit code 1 (Bad directive" in reason_of_end("*** FATAL ***\nBad directive or wrong number\n", 1)
