"""An append-only file that is torn, damaged, or on a full disk is never the reason for an empty start."""

from __future__ import annotations

import asyncio
import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import valkey
from persisting import ALWAYS, KEY, VERSIONS, Eventually, Node

from cachekeep.domain.engine import EngineInstall
from cachekeep.domain.nodes import Address
from cachekeep.domain.ports import WorldError
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


def _increment(folder: Path) -> Path:
    """The file that an engine appends to."""
    return max([*folder.glob("appendonly.aof"), *folder.glob("appendonlydir/*.incr.aof")])


@every_version
def test_torn_end_of_an_append_only_file_is_cut_off(node_of: Callable[[str], Node], version: str) -> None:
    node = node_of(version)

    async def run() -> None:
        await node.start(ALWAYS)
        for number in range(100):
            node.ask("SET", f"key:{number}", "value")
        await node.kill()
        file = _increment(node.folder)
        os.truncate(file, file.stat().st_size - 3)
        await node.again(ALWAYS, "aof")
        assert node.ask("DBSIZE") == 99
        await node.kill()
        file = _increment(node.folder)
        os.truncate(file, file.stat().st_size - 3)
        await node.begin({**ALWAYS, "aof-load-truncated": "no"}, keep_data=True)
        assert "Unexpected end of file" in await node.refused()

    asyncio.run(run())


def _overwrite(path: Path, at: int, data: bytes) -> None:
    with path.open("r+b") as file:
        file.seek(at)
        file.write(data)


DAMAGES: dict[str, Callable[[Path], None]] = {
    "manifest": lambda folder: (folder / "appendonlydir" / "appendonly.aof.manifest").write_text("nonsense\n") and None,
    "base": lambda folder: [path.unlink() for path in folder.glob("appendonlydir/*.base.rdb")] and None,
    "middle": lambda folder: _overwrite(_increment(folder), 200, b"nonsense"),
}


@pytest.mark.parametrize(
    ("version", "damage"), [(v, d) for v in VERSIONS for d in DAMAGES if v != "6.2" or d == "middle"]
)
def test_damaged_append_only_file_is_never_an_empty_start(
    node_of: Callable[[str], Node], version: str, damage: str
) -> None:
    node = node_of(version)

    async def run() -> None:
        await node.start(ALWAYS)
        for number in range(100):
            node.ask("SET", f"key:{number}", "value")
        await node.kill()
        DAMAGES[damage](node.folder)
        for _ in range(2):
            assert node.host.kept(KEY, node.config(ALWAYS)) == "aof"
            await node.begin(ALWAYS, keep_data=True)
            words = await node.refused()
            assert "Invalid AOF manifest" in words or "No such file" in words or "Bad file format" in words

    asyncio.run(run())


@pytest.mark.parametrize("version", ["9.1", "8.1", "7.0"])
def test_append_only_file_without_its_manifest_is_not_passed_over(node_of: Callable[[str], Node], version: str) -> None:
    node = node_of(version)

    async def run() -> None:
        await node.start(ALWAYS)
        node.ask("SET", "a", "1")
        await node.kill()
        manifest = node.folder / "appendonlydir" / "appendonly.aof.manifest"
        text = manifest.read_text()
        manifest.unlink()
        assert node.host.kept(KEY, node.config(ALWAYS)) == "aof"
        with pytest.raises(
            WorldError, match=r"no appendonly\.aof\.manifest, so .* would start empty; put the manifest"
        ):
            await node.begin(ALWAYS, keep_data=True)
        manifest.write_text(text)
        await node.again(ALWAYS, "aof")
        assert node.ask("GET", "a") == "1"

    asyncio.run(run())


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 24 MiB of the test's own."""
    place = tmp_path / "disk"
    place.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=24m", "tmpfs", str(place)], check=False).returncode:
        pytest.skip("needs the right to mount a tmpfs")
    yield place
    subprocess.run(["umount", str(place)], check=True)


def _fill(disk: Path) -> None:
    with (disk / "filler").open("ab", buffering=0) as file:
        for size in (1 << 20, 4096, 1):
            try:
                while file.write(b"x" * size) == size:
                    continue
            except OSError:
                continue


@every_version
def test_full_disk_refuses_writes_and_hinders_no_stop_and_later_start(
    small_disk: Path,
    install_of: Callable[[str], EngineInstall],
    fresh_address: Callable[..., Address],
    eventually: Eventually,
    version: str,
) -> None:
    host = LocalHost(small_disk / "nodes")
    node, values = Node(host, install_of(version), fresh_address(), eventually), {"appendonly": "yes"}
    acknowledged = 0

    def refuses() -> bool:
        nonlocal acknowledged
        try:
            node.ask("RPUSH", "list", "x" * 1000)
            acknowledged += 1
        except valkey.ResponseError as error:
            return "MISCONF" in str(error)
        return False

    async def run() -> None:
        await node.start(values)
        node.ask("SET", "a", "1")
        _fill(small_disk)
        await eventually(refuses)
        assert node.ask("GET", "a") == "1", "reads are still answered"
        await host.stop(KEY, grace_s=2)
        assert host.find(KEY) is None
        _fill(small_disk)
        with pytest.raises(WorldError, match="free some space"):
            await node.begin(values, keep_data=True)
        (small_disk / "filler").unlink()
        await node.again(values, "aof")
        assert node.ask("GET", "a") == "1"
        # The write that found the disk full was answered before it was to be on disk (everysec).
        assert acknowledged - 1 <= node.ask("LLEN", "list") <= acknowledged
        await node.kill()

    try:
        asyncio.run(run())
    finally:
        host.close()
        asyncio.run(host.stop(KEY, grace_s=0))
