"""What a killed engine has kept, and what the next process loads of it."""

from __future__ import annotations

import asyncio
import os
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
import valkey
from persisting import ALWAYS, AOF, KEY, SNAPSHOTS, VERSIONS, Eventually, Node

from cachekeep.data.load import families
from cachekeep.domain.engine import EngineInstall
from cachekeep.domain.nodes import Address
from cachekeep.engine.admin import Admin
from cachekeep.host.local import LocalHost

every_version = pytest.mark.parametrize("version", VERSIONS)


@pytest.fixture
def node_of(
    host: LocalHost,
    install_of: Callable[[str], EngineInstall],
    fresh_address: Callable[..., Address],
    eventually: Eventually,
) -> Callable[[str], Node]:
    return lambda version: Node(host, install_of(version), fresh_address(), eventually)


class Writer:
    """Counts up, one acknowledged command after the other, until its engine is gone."""

    def __init__(self, node: Node) -> None:
        self.acknowledged: list[float] = []
        self._client = node.client()
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        try:
            while True:
                self._client.incr("counter")
                self.acknowledged.append(time.monotonic())
        except (valkey.ValkeyError, OSError):
            self._client.close()

    def ended(self) -> list[float]:
        self._thread.join(10)
        assert not self._thread.is_alive()
        return self.acknowledged


@every_version
@pytest.mark.parametrize(("fsync", "may_lack_s"), [("always", 0.0), ("everysec", 2.0)])
def test_acknowledged_writes_are_there_after_a_kill(
    node_of: Callable[[str], Node], eventually: Eventually, version: str, fsync: str, may_lack_s: float
) -> None:
    node, values = node_of(version), {"appendonly": "yes", "appendfsync": fsync}

    async def run() -> None:
        await node.start(values)
        writer = Writer(node)
        # The engine may put a write off for two seconds while the disk is busy with what was before it.
        await eventually(
            lambda: len(writer.acknowledged) > 500 and time.monotonic() - writer.acknowledged[0] > may_lack_s + 0.5
        )
        killed = time.monotonic()
        await node.kill()
        acknowledged = writer.ended()
        await node.again(values, "aof")
        count = int(node.ask("GET", "counter"))
        safe = [moment for moment in acknowledged if not may_lack_s or moment <= killed - may_lack_s]
        assert 0 < len(safe) <= count <= len(acknowledged) + 1

    asyncio.run(run())


@every_version
def test_append_only_file_is_switched_on_and_off_live(node_of: Callable[[str], Node], version: str) -> None:
    node = node_of(version)

    async def run() -> None:
        await node.start({})
        node.ask("SET", "before", "1")
        assert (await node.lacks(ALWAYS)).live == ALWAYS
        await node.apply(ALWAYS)
        node.ask("SET", "after", "1")
        await node.kill()
        await node.again(AOF, "aof")
        assert node.ask("DBSIZE") == 2
        await node.apply({})
        await node.kill()
        await node.again({}, "")
        assert node.ask("DBSIZE") == 0
        await node.kill()
        assert node.host.kept(KEY, node.config(ALWAYS)) == "", "what was not kept is gone for good"

    asyncio.run(run())


@every_version
def test_snapshots_are_written_and_loaded(node_of: Callable[[str], Node], eventually: Eventually, version: str) -> None:
    node = node_of(version)

    async def run() -> None:
        await node.start({"save": "900 1 300 10"})
        assert node.ask("CONFIG", "GET", "save") in ({"save": "900 1 300 10"}, ["save", "900 1 300 10"])
        assert not await node.lacks({"save": "900 1 300 10"})
        assert not await node.lacks({"save": "300 10 900 1"})
        await node.apply({"save": "1 1"})
        node.ask("SET", "a", "1")
        await eventually(lambda: node.ask("INFO", "persistence")["rdb_changes_since_last_save"] == 0)
        await eventually(lambda: node.ask("INFO", "persistence")["rdb_bgsave_in_progress"] == 0)
        await node.apply(SNAPSHOTS)
        node.ask("SET", "too late", "1")
        await node.kill()
        await node.again(SNAPSHOTS, "rdb")
        assert node.ask("KEYS", "*") == ["a"]
        await node.apply({})
        await node.kill()
        assert node.host.kept(KEY, node.config({})) == ""

    asyncio.run(run())


@every_version
def test_orderly_stop_counts_more_than_an_older_append_only_file(
    node_of: Callable[[str], Node], eventually: Eventually, version: str
) -> None:
    node = node_of(version)

    async def run() -> None:
        await node.start(AOF)
        node.ask("SET", "a", "old")
        await node.apply({})
        node.ask("SET", "a", "new")
        node.host.mark_saved(KEY, True)
        admin = Admin()
        await admin.shutdown_saving(node.address)
        await eventually(lambda: node.host.find(KEY) is None)
        assert node.host.is_saved(KEY)
        await node.start(ALWAYS, keep_data=True)
        assert node.ask("GET", "a") == "new"
        started_with = node.host.started_with(KEY)
        assert started_with is not None
        assert (started_with["appendonly"], started_with["appendfsync"]) == ("no", "always")
        node.host.mark_saved(KEY, False)
        assert (await node.lacks(ALWAYS)).live == AOF
        await node.apply(ALWAYS)
        node.ask("SET", "a", "newest")
        await node.kill()
        await node.again(ALWAYS, "aof")
        assert node.ask("GET", "a") == "newest"

    asyncio.run(run())


@every_version
def test_settings_that_change_while_a_node_is_down_lose_nothing(node_of: Callable[[str], Node], version: str) -> None:
    node = node_of(version)

    async def run() -> None:
        await node.start(ALWAYS)
        node.ask("SET", "a", "1")
        await node.kill()
        await node.again(SNAPSHOTS, "aof")
        assert node.ask("GET", "a") == "1"
        await node.apply(SNAPSHOTS)
        node.ask("SET", "b", "2")
        node.ask("SAVE")
        _made_earlier(node.folder, 10)
        await node.kill()
        await node.again(ALWAYS, "rdb")
        assert sorted(node.ask("KEYS", "*")) == ["a", "b"]
        await node.apply(ALWAYS)
        await node.kill()
        assert node.host.kept(KEY, node.config({})) == ""

    asyncio.run(run())


def _made_earlier(folder: Path, by_s: float) -> None:
    """As if the append-only file had been switched off by_s seconds before: a snapshot tells its moment in seconds."""
    for path in (*folder.glob("appendonly.aof"), *folder.glob("appendonlydir/*")):
        was = path.stat().st_mtime - by_s
        os.utime(path, (was, was))


@every_version
def test_the_newer_of_snapshot_and_append_only_file_is_loaded(node_of: Callable[[str], Node], version: str) -> None:
    node, both = node_of(version), {**ALWAYS, **SNAPSHOTS}

    async def run() -> None:
        await node.start(both)
        node.ask("SET", "a", "1")
        node.ask("SAVE")
        node.ask("SET", "a", "2")
        await node.kill()
        await node.again(both, "aof")
        assert node.ask("GET", "a") == "2"
        await node.apply(SNAPSHOTS)
        node.ask("SET", "a", "3")
        node.ask("SAVE")
        await node.kill()
        _made_earlier(node.folder, 10)
        await node.again(both, "rdb")
        assert node.ask("GET", "a") == "3"

    asyncio.run(run())


@every_version
def test_an_old_snapshot_is_not_loaded_without_persistence(node_of: Callable[[str], Node], version: str) -> None:
    node = node_of(version)

    async def run() -> None:
        await node.start({})
        node.ask("SET", "a", "1")
        node.ask("SAVE")
        await node.kill()
        await node.start({}, keep_data=True)
        assert node.ask("DBSIZE") == 0

    asyncio.run(run())


@every_version
def test_kill_in_the_middle_of_a_rewriting_loses_nothing(node_of: Callable[[str], Node], version: str) -> None:
    node = node_of(version)

    async def run() -> None:
        await node.start({**ALWAYS, **SNAPSHOTS})
        node.ask("CONFIG", "SET", "rdb-key-save-delay", "100000")
        for number in range(100):
            node.ask("SET", f"key:{number}", "value")
        node.ask("BGREWRITEAOF")
        assert node.ask("INFO", "persistence")["aof_rewrite_in_progress"] == 1
        node.ask("SET", "while it is written", "value")
        await node.kill()
        await node.again(ALWAYS, "aof")
        assert node.ask("DBSIZE") == 101
        assert not list(node.folder.rglob("temp*"))

    asyncio.run(run())


@every_version
def test_crash_before_the_append_only_file_is_made_loads_what_the_reboot_kept(
    node_of: Callable[[str], Node], eventually: Eventually, version: str
) -> None:
    node = node_of(version)

    async def run() -> None:
        await node.start(AOF)
        for number in range(100):
            node.ask("SET", f"key:{number}", "value")
        node.host.mark_saved(KEY, True)
        admin = Admin()
        await admin.shutdown_saving(node.address)
        await eventually(lambda: node.host.find(KEY) is None)
        await node.start(AOF, keep_data=True)
        node.host.mark_saved(KEY, False)
        node.ask("CONFIG", "SET", "rdb-key-save-delay", "100000")
        await admin.configure(node.address, (await node.lacks(AOF)).live)
        await admin.close()
        assert node.ask("INFO", "persistence")["aof_rewrite_in_progress"] == 1
        node.ask("SET", "not yet kept", "value")
        await node.kill()
        await node.again(AOF, "rdb")
        assert node.ask("DBSIZE") == 100

    asyncio.run(run())


@pytest.mark.parametrize("version", ["7.0", "6.2"])
@pytest.mark.parametrize("values", [ALWAYS, SNAPSHOTS], ids=["aof", "rdb"])
def test_newer_engine_loads_what_an_older_one_kept(
    node_of: Callable[[str], Node],
    install_of: Callable[[str], EngineInstall],
    version: str,
    values: Mapping[str, str],
) -> None:
    node = node_of(version)

    async def run() -> None:
        await node.start(values)
        node.ask("SET", "a", "1")
        if values is SNAPSHOTS:
            node.ask("SAVE")
        await node.kill()
        node.install = install_of("9.1")
        node.family = families()["valkey9"]
        await node.again(values, "rdb" if values is SNAPSHOTS else "aof")
        assert node.ask("GET", "a") == "1"
        node.ask("SET", "a", "2")
        if values is SNAPSHOTS:
            node.ask("SAVE")
        await node.kill()
        await node.again(values, "rdb" if values is SNAPSHOTS else "aof")
        assert node.ask("GET", "a") == "2"

    asyncio.run(run())


@every_version
def test_kill_while_the_first_append_only_file_is_written_brings_no_old_snapshot_back(
    node_of: Callable[[str], Node], version: str
) -> None:
    """What a snapshot left beside a node without persistence is of any age: a deleted key must not be back."""
    node = node_of(version)

    async def run() -> None:
        await node.start({})
        for number in range(100):
            node.ask("SET", f"key:{number}", "value")
        node.ask("SAVE")
        node.ask("DEL", "key:0")
        node.ask("CONFIG", "SET", "rdb-key-save-delay", "100000")
        admin, missing = Admin(), (await node.lacks(AOF)).live
        assert node.host.note_keeping(KEY, missing, done=False)
        await admin.configure(node.address, missing)
        node.host.note_keeping(KEY, missing, done=True)
        await admin.close()
        assert node.ask("INFO", "persistence")["aof_rewrite_in_progress"] == 1
        await node.kill()
        assert (node.folder / "dump.rdb").exists()
        await node.again(AOF, "")
        assert node.ask("DBSIZE") == 0

    asyncio.run(run())


@every_version
def test_save_points_that_are_switched_on_begin_with_a_file_of_what_is_there(
    node_of: Callable[[str], Node], version: str
) -> None:
    node = node_of(version)

    async def run() -> None:
        await node.start({})
        node.ask("SET", "a", "1")
        node.ask("SAVE")
        assert node.ask("INFO", "persistence")["rdb_changes_since_last_save"] == 0
        await node.apply(SNAPSHOTS)
        await node.kill()
        await node.again(SNAPSHOTS, "rdb")
        assert node.ask("GET", "a") == "1"

    asyncio.run(run())
