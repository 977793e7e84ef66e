"""LocalHost on real processes."""

from __future__ import annotations

import asyncio
import json
import os
import resource
import shutil
import signal
import socket
import subprocess
import sys
import textwrap
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from cachekeep.domain.engine import Engine, EngineInstall, EngineVersion
from cachekeep.domain.nodes import Address, NodeKey, NodeSpec, Process, ProgramKind
from cachekeep.domain.ports import WorldError
from cachekeep.engine.admin import Admin
from cachekeep.host.installs import MachineCatalogue
from cachekeep.host.local import LocalHost
from cachekeep.host.process import look

KEY = NodeKey("us-east-1", "cache-001", "0001")
Eventually = Callable[..., Awaitable[object]]
FreshAddress = Callable[..., Address]


def spec_of(install: EngineInstall, address: Address, key: NodeKey = KEY, **config: str) -> NodeSpec:
    values = {name.replace("_", "-"): value for name, value in config.items()}
    return NodeSpec(key, install.engine, install.version, address, values)


def command(address: Address, *words: str) -> bytes:
    """Say one inline command and return the first bytes of the answer."""
    with socket.create_connection((address.host, address.port), timeout=3) as link:
        link.sendall(" ".join(words).encode() + b"\r\n")
        return link.recv(65536)


def answers(address: Address) -> bool:
    try:
        return command(address, "PING") == b"+PONG\r\n"
    except OSError:
        return False


def open_files() -> int:
    return sum(1 for _ in Path("/proc/self/fd").iterdir())


def children_of(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def node_folder(root: Path, key: NodeKey = KEY) -> Path:
    return root / key.region / key.cluster_id / key.node_id


def test_every_installed_engine_starts_is_found_and_stops(
    catalogue: MachineCatalogue, host: LocalHost, fresh_address: FreshAddress, eventually: Eventually
) -> None:
    async def run(number: int, install: EngineInstall) -> None:
        key = NodeKey("us-east-1", f"each-{number}")
        address = fresh_address(install.engine.default_port)
        admin = Admin()
        process = await host.start(spec_of(install, address, key), install, keep_data=False)
        facts = await eventually(lambda: admin.facts(install.engine, address, []))
        assert facts.version == str(install.version)  # type: ignore[attr-defined]
        assert host.find(key) == process
        assert host.nodes() == [key]
        await admin.close()
        await host.stop(key, grace_s=5)
        assert host.find(key) is None
        assert look(process.pid) is None, "an ended child is reaped"
        await host.remove(key)
        assert host.nodes() == []

    for number, install in enumerate(catalogue.installs()):
        asyncio.run(run(number, install))


def test_only_the_owner_can_enter_the_folder_or_read_its_files(
    host: LocalHost, nodes_root: Path, valkey: EngineInstall, fresh_address: FreshAddress, eventually: Eventually
) -> None:
    address = fresh_address()

    async def run() -> None:
        await host.start(spec_of(valkey, address), valkey, keep_data=False)
        await eventually(lambda: answers(address))
        command(address, "SAVE")
        host.mark_saved(KEY, True)

    asyncio.run(run())
    folders = [nodes_root, *(p for p in nodes_root.rglob("*") if p.is_dir())]
    assert {oct(p.stat().st_mode & 0o777) for p in folders} == {"0o700"}
    written = {p.name: oct(p.stat().st_mode & 0o777) for p in node_folder(nodes_root).iterdir()}
    assert written.keys() >= {"engine.conf", "engine.log", "node.json", "dump.rdb", "saved"}
    assert set(written.values()) == {"0o600"}


def test_starting_a_running_node_starts_nothing(
    host: LocalHost, valkey: EngineInstall, fresh_address: FreshAddress
) -> None:
    spec = spec_of(valkey, fresh_address())

    async def run() -> None:
        first = await host.start(spec, valkey, keep_data=False)
        assert await host.start(spec, valkey, keep_data=False) == first

    asyncio.run(run())


def test_engine_inherits_no_secret(
    host: LocalHost, valkey: EngineInstall, fresh_address: FreshAddress, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "not-for-engines")
    process = asyncio.run(host.start(spec_of(valkey, fresh_address()), valkey, keep_data=False))
    environment = Path(f"/proc/{process.pid}/environ").read_bytes()
    assert b"not-for-engines" not in environment
    assert b"CACHEKEEP_NODE=us-east-1/cache-001/0001" in environment


def test_node_outlives_a_killed_service_and_is_adopted_and_watched(
    nodes_root: Path, valkey: EngineInstall, fresh_address: FreshAddress, eventually: Eventually
) -> None:
    address = fresh_address()
    service = textwrap.dedent(f"""
        import asyncio, sys, time
        from pathlib import Path
        from cachekeep.domain.engine import *
        from cachekeep.domain.nodes import *
        from cachekeep.host.local import LocalHost
        install = EngineInstall(Engine.VALKEY, EngineVersion.parse("{valkey.version}"), {valkey.program!r}, "test")
        spec = NodeSpec(NodeKey("us-east-1", "cache-001"), install.engine, install.version,
                        Address("{address.host}", {address.port}))
        process = asyncio.run(LocalHost(Path({str(nodes_root)!r})).start(spec, install, keep_data=False))
        print(process.pid, flush=True)
        time.sleep(60)
    """)
    with subprocess.Popen([sys.executable, "-c", service], stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        pid = int(parent.stdout.readline())
        parent.kill()
    adopted = LocalHost(nodes_root)

    async def run() -> None:
        await eventually(lambda: answers(address))
        process = adopted.find(KEY)
        assert process is not None
        assert process.pid == pid
        ended = asyncio.Event()
        adopted.watch(KEY, process, ended.set)
        os.kill(pid, signal.SIGKILL)
        await asyncio.wait_for(ended.wait(), 5)
        assert adopted.find(KEY) is None
        late = asyncio.Event()
        adopted.watch(KEY, process, late.set)
        await asyncio.wait_for(late.wait(), 5)

    open_before = open_files()
    asyncio.run(run())
    adopted.close()
    assert open_files() == open_before, "every pidfd was closed"


def test_process_of_a_service_that_died_before_recording_it_is_found_by_its_folder(
    host: LocalHost, nodes_root: Path, valkey: EngineInstall, fresh_address: FreshAddress
) -> None:
    process = asyncio.run(host.start(spec_of(valkey, fresh_address()), valkey, keep_data=False))
    (node_folder(nodes_root) / "node.json").unlink()
    later = LocalHost(nodes_root)
    assert later.find(KEY) == process
    spec = spec_of(valkey, fresh_address())
    assert asyncio.run(LocalHost(nodes_root).start(spec, valkey, keep_data=False)) == process


def test_somebody_who_looks_at_the_folder_is_not_taken_for_the_node(host: LocalHost, nodes_root: Path) -> None:
    node_folder(nodes_root).mkdir(parents=True)
    with subprocess.Popen(["sleep", "60"], cwd=node_folder(nodes_root), start_new_session=True) as reader:
        assert LocalHost(nodes_root).find(KEY) is None
        assert host.stray_processes() == []
        reader.kill()


def test_reused_pid_is_not_taken_for_the_node(host: LocalHost, nodes_root: Path) -> None:
    folder = node_folder(nodes_root)
    folder.mkdir(parents=True)
    me = look(os.getpid())
    assert me is not None
    for started in ("1", me.process.started):
        # The second one has even the right start time, as after a reboot: but it runs elsewhere.
        (folder / "node.json").write_text(json.dumps({"pid": os.getpid(), "started": started}))
        assert host.find(KEY) is None
    asyncio.run(host.stop(KEY, grace_s=0))
    assert look(os.getpid()) == me or look(os.getpid()) is not None


@pytest.mark.parametrize("grace_s", [0, 30])
def test_suspended_process_is_killed_without_waiting(
    host: LocalHost, valkey: EngineInstall, fresh_address: FreshAddress, eventually: Eventually, grace_s: float
) -> None:
    address = fresh_address()

    async def run() -> None:
        process = await host.start(spec_of(valkey, address), valkey, keep_data=False)
        await eventually(lambda: answers(address))
        os.kill(process.pid, signal.SIGSTOP)
        await eventually(lambda: (seen := look(process.pid)) is not None and seen.stopped)
        await asyncio.wait_for(host.stop(KEY, grace_s=grace_s), 5)
        assert host.find(KEY) is None
        assert not answers(address)

    asyncio.run(run())


def test_saved_data_is_loaded_and_without_keep_data_removed(
    host: LocalHost, nodes_root: Path, valkey: EngineInstall, fresh_address: FreshAddress, eventually: Eventually
) -> None:
    address = fresh_address()

    async def run() -> None:
        await host.start(spec_of(valkey, address), valkey, keep_data=False)
        await eventually(lambda: answers(address))
        command(address, "SET", "a", "1")
        command(address, "SAVE")
        os.utime(node_folder(nodes_root) / "dump.rdb", (1, 1))
        host.mark_saved(KEY, True)
        assert not host.is_saved(KEY), "the data file is older than the mark"
        await Admin().shutdown_saving(address)
        await eventually(lambda: host.find(KEY) is None)
        assert host.is_saved(KEY)
        await host.start(spec_of(valkey, address), valkey, keep_data=True)
        await eventually(lambda: answers(address))
        assert command(address, "GET", "a") == b"$1\r\n1\r\n"
        await host.stop(KEY, grace_s=5)
        await host.start(spec_of(valkey, address), valkey, keep_data=False)
        assert not host.is_saved(KEY)
        await eventually(lambda: answers(address))
        assert command(address, "GET", "a") == b"$-1\r\n"

    asyncio.run(run())


def test_snapshot_of_a_killed_engine_does_not_reach_the_next_one(
    host: LocalHost, valkey: EngineInstall, fresh_address: FreshAddress, eventually: Eventually
) -> None:
    address = fresh_address()

    async def run() -> None:
        process = await host.start(spec_of(valkey, address, rdb_key_save_delay="1000000"), valkey, keep_data=False)
        await eventually(lambda: answers(address))
        for number in range(20):
            command(address, "SET", f"key{number}", "old")
        command(address, "BGSAVE")
        [child] = children_of(process.pid)
        os.kill(process.pid, signal.SIGKILL)
        await eventually(lambda: host.find(KEY) is None)
        left = look(child)
        assert left is not None
        assert left.alive
        assert LocalHost(host._root).find(KEY) is None, "a fork child is not the engine"
        await host.start(spec_of(valkey, address), valkey, keep_data=False)
        left = look(child)
        assert left is None or not left.alive

    asyncio.run(run())


def test_process_whose_folder_was_deleted_is_a_stray_and_bars_a_second_one(
    host: LocalHost, nodes_root: Path, valkey: EngineInstall, fresh_address: FreshAddress
) -> None:
    process = asyncio.run(host.start(spec_of(valkey, fresh_address()), valkey, keep_data=False))
    assert host.stray_processes() == []
    shutil.rmtree(node_folder(nodes_root))
    later = LocalHost(nodes_root)
    assert later.find(KEY) is None
    assert [stray.process for stray in later.stray_processes()] == [process]
    with pytest.raises(WorldError, match=f"process {process.pid} of {KEY} still runs"):
        asyncio.run(later.start(spec_of(valkey, fresh_address()), valkey, keep_data=False))


def test_folder_stays_while_its_process_lives(
    host: LocalHost, valkey: EngineInstall, fresh_address: FreshAddress
) -> None:
    asyncio.run(host.start(spec_of(valkey, fresh_address()), valkey, keep_data=False))
    with pytest.raises(WorldError, match="still runs"):
        asyncio.run(host.remove(KEY))
    assert host.has_folder(KEY)


def test_value_with_quotes_reaches_the_engine_as_one_value(
    host: LocalHost, valkey: EngineInstall, fresh_address: FreshAddress, eventually: Eventually
) -> None:
    address = fresh_address()
    value = 'a" b\\ # c'

    async def run() -> None:
        admin = Admin()
        await host.start(spec_of(valkey, address, syslog_ident=value), valkey, keep_data=False)
        facts = await eventually(lambda: admin.facts(Engine.VALKEY, address, ["syslog-ident"]))
        assert facts.config["syslog-ident"] == value  # type: ignore[attr-defined]
        await admin.close()

    asyncio.run(run())


def test_configuration_that_would_become_a_second_directive_is_refused(
    host: LocalHost, valkey: EngineInstall, fresh_address: FreshAddress
) -> None:
    for config in ({"maxmemory": "1mb\nport 1"}, {"dir": "/"}, {"maxmemory 1\nport": "1"}, {"maxmemory": "1\r"}):
        spec = NodeSpec(KEY, valkey.engine, valkey.version, fresh_address(), config)
        with pytest.raises(ValueError, match=r"line break|set by Cachekeep|not the name|control character"):
            asyncio.run(host.start(spec, valkey, keep_data=False))
    assert host.find(KEY) is None


def test_log_tells_why_an_engine_did_not_start(
    host: LocalHost, valkey: EngineInstall, fresh_address: FreshAddress, eventually: Eventually
) -> None:
    async def run() -> None:
        await host.start(spec_of(valkey, fresh_address(), no_such_directive="1"), valkey, keep_data=False)
        await eventually(lambda: host.find(KEY) is None)
        assert any("no-such-directive" in line for line in host.log_tail(KEY, 10))
        assert host.log_tail(KEY, 1) == host.log_tail(KEY, 10)[-1:]

    asyncio.run(run())


def test_long_log_is_cut_at_the_next_start(
    host: LocalHost, nodes_root: Path, valkey: EngineInstall, fresh_address: FreshAddress
) -> None:
    log = node_folder(nodes_root) / "engine.log"
    log.parent.mkdir(parents=True)
    log.write_text("an old line\n" * 1_000_000 + "the last old line\n")
    asyncio.run(host.start(spec_of(valkey, fresh_address()), valkey, keep_data=False))
    assert log.stat().st_size < 2 * 1024 * 1024
    assert "the last old line" in log.read_text()


def test_full_disk_is_told_with_path_and_advice(
    nodes_root: Path, valkey: EngineInstall, fresh_address: FreshAddress
) -> None:
    address = fresh_address()
    service = textwrap.dedent(f"""
        import asyncio, resource
        from pathlib import Path
        from cachekeep.domain.engine import *
        from cachekeep.domain.nodes import *
        from cachekeep.domain.ports import WorldError
        from cachekeep.host.local import LocalHost
        key = NodeKey("us-east-1", "cache-001")
        install = EngineInstall(Engine.VALKEY, EngineVersion.parse("{valkey.version}"), {valkey.program!r}, "test")
        spec = NodeSpec(key, install.engine, install.version, Address("{address.host}", {address.port}))
        host = LocalHost(Path({str(nodes_root)!r}))
        resource.setrlimit(resource.RLIMIT_FSIZE, (10, 10))
        try:
            asyncio.run(host.start(spec, install, keep_data=False))
        except WorldError as error:
            print(error)
        print(host.find(key))
    """)
    done = subprocess.run([sys.executable, "-c", service], capture_output=True, text=True, timeout=30)
    assert done.returncode == 0, done.stderr
    assert str(node_folder(nodes_root)) in done.stdout
    assert "free some space" in done.stdout
    assert done.stdout.endswith("None\n")


def test_process_that_cannot_be_recorded_is_not_left_running(
    host: LocalHost, nodes_root: Path, valkey: EngineInstall, fresh_address: FreshAddress
) -> None:
    # A folder in the file's place makes the last write fail, after the spawn.
    (node_folder(nodes_root) / "node.json" / "x").mkdir(parents=True)
    with pytest.raises(WorldError, match=r"node\.json"):
        asyncio.run(host.start(spec_of(valkey, fresh_address()), valkey, keep_data=False))
    assert host.find(KEY) is None
    assert host.stray_processes() == []


def test_program_that_cannot_be_run_is_named(host: LocalHost, tmp_path: Path, fresh_address: FreshAddress) -> None:
    program = tmp_path / "not-executable"
    program.write_text("x")
    install = EngineInstall(Engine.VALKEY, EngineVersion.parse("9.1"), str(program), "test")
    with pytest.raises(WorldError, match="not-executable"):
        asyncio.run(host.start(spec_of(install, fresh_address()), install, keep_data=False))


def test_a_machine_without_files_to_open_is_told_of_and_tried_again(
    host: LocalHost, valkey: EngineInstall, fresh_address: FreshAddress
) -> None:
    spec = spec_of(valkey, fresh_address())

    async def run() -> None:
        await asyncio.to_thread(look, os.getpid())  # the thread and what it imports are there
        before = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (3, before[1]))
        try:
            with pytest.raises(WorldError, match=r"Too many open files; raise the limit of open files"):
                await host.start(spec, valkey, keep_data=False)
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, before)
        process = await host.start(spec, valkey, keep_data=False)
        assert host.find(KEY) == process
        await host.stop(KEY, grace_s=5)

    asyncio.run(run())


def test_key_that_leaves_the_root_is_refused(host: LocalHost) -> None:
    for part in ("..", "a/b", "", ".hidden"):
        with pytest.raises(ValueError, match="name of a folder"):
            host.find(NodeKey("us-east-1", part))


def test_second_watch_of_a_process_replaces_the_first(
    host: LocalHost, valkey: EngineInstall, fresh_address: FreshAddress
) -> None:
    async def run() -> None:
        process = await host.start(spec_of(valkey, fresh_address()), valkey, keep_data=False)
        calls: list[str] = []
        ended = asyncio.Event()

        def second() -> None:
            calls.append("second")
            ended.set()

        host.watch(KEY, process, lambda: calls.append("first"))
        host.watch(KEY, process, second)
        os.kill(process.pid, signal.SIGKILL)
        await asyncio.wait_for(ended.wait(), 5)
        assert calls == ["second"]

    asyncio.run(run())


def test_advertised_members_are_read_back(host: LocalHost) -> None:
    key = NodeKey("us-east-1", "mem", "cfg")
    assert host.discovery_members(key) is None
    members = [Address("127.0.0.2", 11211), Address("127.0.0.3", 11211)]
    host.advertise(key, 7, members)
    assert host.discovery_members(key) == (7, tuple(members))


def test_discovery_responder_runs_like_a_node(
    host: LocalHost, nodes_root: Path, fresh_address: FreshAddress, eventually: Eventually
) -> None:
    key = NodeKey("us-east-1", "mem", "cfg")
    address = fresh_address(11211)
    version = EngineVersion.parse("1.6.18")
    spec = NodeSpec(key, Engine.MEMCACHED, version, address, program=ProgramKind.DISCOVERY)

    async def run() -> Process:
        host.advertise(key, 1, [Address("127.0.0.2", 11211)])
        process = await host.start(spec, None, keep_data=False)
        await eventually(lambda: _config(address).startswith(b"CONFIG cluster 0 "))
        return process

    process = asyncio.run(run())
    assert LocalHost(nodes_root).find(key) == process


def _config(address: Address) -> bytes:
    try:
        return command(address, "config", "get", "cluster")
    except OSError:
        return b""
