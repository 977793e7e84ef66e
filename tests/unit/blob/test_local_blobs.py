"""Objects in a folder: permissions, what a killed writer leaves, a disk that is full or read-only."""

from __future__ import annotations

import os
import signal
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from cachekeep.blob.local import LocalBlobs
from cachekeep.domain.blobs import BlobError, BlobFault, BlobInfo

MIB = 1 << 20


def left_over(folder: Path) -> list[Path]:
    return list(folder.rglob(".part-*"))


def test_nobody_else_may_read_a_backup(tmp_path: Path) -> None:
    LocalBlobs(tmp_path / "backups").put("a/b", b"x")
    modes = {path: stat.S_IMODE(path.stat().st_mode) for path in (tmp_path / "backups").rglob("*")}
    assert set(modes.values()) == {0o700, 0o600}
    assert stat.S_IMODE((tmp_path / "backups").stat().st_mode) == 0o700


WRITER = """
import sys, time
from pathlib import Path
from cachekeep.blob.local import LocalBlobs

def parts():
    yield b"half"
    print("half", flush=True)
    time.sleep(60)

LocalBlobs(Path(sys.argv[1])).put("a/b", parts())
"""


@pytest.fixture
def half_way(tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    """A writer of a/b that has written half of it."""
    process = subprocess.Popen([sys.executable, "-c", WRITER, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "half\n"
    yield process
    process.kill()
    process.wait(10)
    process.stdout.close()


def test_what_a_killed_writer_left_is_invisible_and_removed(tmp_path: Path, half_way: subprocess.Popen[str]) -> None:
    blobs = LocalBlobs(tmp_path)
    half_way.send_signal(signal.SIGKILL)
    half_way.wait(10)
    assert left_over(tmp_path)
    assert blobs.list() == []
    assert not blobs.exists("a/b")
    blobs.put("a/c", b"x")
    assert left_over(tmp_path) == []


def test_the_file_of_a_living_writer_is_left_alone(tmp_path: Path, half_way: subprocess.Popen[str]) -> None:
    blobs = LocalBlobs(tmp_path)
    blobs.put("a/c", b"x")
    assert len(left_over(tmp_path)) == 1
    assert half_way.poll() is None
    assert blobs.list() == [BlobInfo("a/c", 1)]


def test_a_reader_that_stops_early_lets_the_file_go(tmp_path: Path) -> None:
    blobs = LocalBlobs(tmp_path)
    blobs.put("a", b"x" * (3 * MIB))
    before = len(list(Path("/proc/self/fd").iterdir()))
    chunks = blobs.open("a")
    assert len(next(chunks)) == MIB
    del chunks
    blobs.open("a")
    assert len(list(Path("/proc/self/fd").iterdir())) == before


def test_a_replaced_object_is_read_to_its_old_end(tmp_path: Path) -> None:
    blobs = LocalBlobs(tmp_path)
    blobs.put("a", b"old" * MIB)
    chunks = blobs.open("a")
    first = next(chunks)
    blobs.put("a", b"new")
    assert b"".join([first, *chunks]) == b"old" * MIB


def test_no_hard_links_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(self: Path, target: Path) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(Path, "hardlink_to", refuse)
    blobs = LocalBlobs(tmp_path)
    blobs.put("a", b"first", new=True)
    with pytest.raises(BlobError, match="is there already"):
        blobs.put("a", b"second", new=True)
    assert blobs.get("a") == b"first"
    assert left_over(tmp_path) == []


@pytest.mark.parametrize("new", [False, True])
def test_a_file_where_the_folder_should_be(tmp_path: Path, new: bool) -> None:
    (tmp_path / "file").write_text("somebody's")
    blobs = LocalBlobs(tmp_path / "file")
    for call in (lambda: blobs.put("a", b"x", new=new), blobs.list):
        with pytest.raises(BlobError, match="name another folder") as caught:
            call()
        assert caught.value.fault is BlobFault.FORBIDDEN
    assert (tmp_path / "file").read_text() == "somebody's"


def test_a_folder_where_the_object_should_be(tmp_path: Path) -> None:
    blobs = LocalBlobs(tmp_path)
    blobs.put("a/b", b"x")
    for new in (False, True):
        with pytest.raises(BlobError, match="name another folder"):
            blobs.put("a", b"x", new=new)
    assert blobs.list() == [BlobInfo("a/b", 1)]
    assert left_over(tmp_path) == []


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 4 MiB of the test's own."""
    place = tmp_path / "disk"
    place.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", str(place)], check=False).returncode:
        pytest.skip("needs the right to mount a tmpfs")
    yield place
    subprocess.run(["umount", str(place)], check=True)


def test_a_full_disk_keeps_what_was_whole_and_says_what_to_do(small_disk: Path) -> None:
    blobs = LocalBlobs(small_disk / "backups")
    blobs.put("a/old", b"old")
    with pytest.raises(BlobError, match=r"a/new: No space left on device; free space there") as caught:
        blobs.put("a/new", (b"x" * MIB for _ in range(8)))
    assert caught.value.fault is BlobFault.FULL
    with pytest.raises(BlobError, match="free space"):
        blobs.put("a/old", b"x" * (8 * MIB))
    assert left_over(small_disk) == []
    assert blobs.list() == [BlobInfo("a/old", 3)]
    assert blobs.get("a/old") == b"old"
    blobs.put("a/new", (b"x" * MIB for _ in range(2)))
    assert len(blobs.get("a/new")) == 2 * MIB


def test_a_disk_that_is_read_only(small_disk: Path) -> None:
    blobs = LocalBlobs(small_disk)
    blobs.put("a", b"old")
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
    for call in (lambda: blobs.put("b", b"x"), lambda: blobs.put("c/d", b"x"), lambda: blobs.delete("a")):
        with pytest.raises(BlobError, match="read-only") as caught:
            call()
        assert caught.value.fault is BlobFault.FORBIDDEN
    assert blobs.get("a") == b"old"


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_folder_of_somebody_else(tmp_path: Path) -> None:
    (tmp_path / "locked").mkdir(mode=0o500)
    with pytest.raises(BlobError, match="give this user the right"):
        LocalBlobs(tmp_path / "locked").put("a", b"x")
