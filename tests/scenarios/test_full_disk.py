"""A disk that is full: creations fail in words, deletions work, and nothing that serves stops."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from ipaddress import IPv4Network
from pathlib import Path
from typing import Any

import pytest

from .conftest import Service, connect, create_cluster, gone, group_status, messages, wait_for


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 48 MiB of the test's own."""
    place = tmp_path / "disk"
    place.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=48m", "tmpfs", str(place)], check=False)
    if mounted.returncode:
        pytest.skip("needs the right to mount a tmpfs")
    yield place
    subprocess.run(["umount", str(place)], check=True)


def fill(disk: Path) -> None:
    """Until not a byte more fits."""
    with (disk / "filler").open("ab", buffering=0) as file:
        for size in (1 << 20, 4096, 1):
            try:
                while True:
                    if file.write(b"x" * size) < size:
                        break
            except OSError:
                continue


def test_a_full_disk(small_disk: Path, loopback_range: IPv4Network) -> None:
    service = Service(small_disk / "state", list(loopback_range.subnets(new_prefix=27))[4])
    try:
        _run(service, small_disk)
    except BaseException:
        print(service.log.read_text()[-5000:])
        raise
    finally:
        service.dispose()


def _run(service: Service, disk: Path) -> None:
    ec = service.start().client()
    created: list[tuple[str, str]] = []
    cluster = create_cluster(ec, created, "before")
    client = connect(cluster["CacheNodes"][0]["Endpoint"])
    client.set("a", "1")
    # A store that was opened anew has its reserve too.
    service.stop()
    ec = service.start().client()
    fill(disk)
    ec.create_replication_group(ReplicationGroupId="full", ReplicationGroupDescription="x", NumCacheClusters=2)

    def failed() -> bool:
        fill(disk)
        return group_status(ec, "full") == "create-failed"

    wait_for(failed)
    assert any("No space left on device" in text for text in _all_messages(ec))
    assert client.get("a") == "1"
    assert list(service.engines()) == list(service.engines("before"))
    ec.delete_replication_group(ReplicationGroupId="full")
    wait_for(lambda: gone(ec, "group", "full"))
    assert not list(service.nodes_root.glob("*/full-*"))
    (disk / "filler").unlink()
    create_cluster(ec, created, "after")


def _all_messages(ec: Any) -> list[str]:
    return messages(ec, "replication-group", "full")
