"""What a node begins with is there, or it does not begin."""

from __future__ import annotations

import os
import zlib
from pathlib import Path

import pytest

from cachekeep.domain.restore import Seed
from cachekeep.domain.world import WorldError
from cachekeep.host.seed import plant


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "node").mkdir()
    return tmp_path / "node"


def test_a_file_is_proved(tmp_path: Path, folder: Path) -> None:
    (tmp_path / "0001.rdb").write_bytes(b"REDIS")
    seed = Seed(str(tmp_path / "0001.rdb"), f"{zlib.crc32(b'REDIS'):08x}", 5)
    plant(seed, folder)
    assert (folder / "dump.rdb").read_bytes() == b"REDIS"
    (folder / "dump.rdb").unlink()
    (tmp_path / "0001.rdb").write_bytes(b"RADIS")
    with pytest.raises(WorldError, match="it was altered"):
        plant(seed, folder)
    assert not (folder / "dump.rdb").exists()


def test_a_pipe_is_led_to(tmp_path: Path, folder: Path) -> None:
    os.mkfifo(tmp_path / "0001.rdb")
    plant(Seed(str(tmp_path / "0001.rdb"), "", 0), folder)
    assert (folder / "dump.rdb").is_fifo()


def test_without_its_pipe_nothing_begins(tmp_path: Path, folder: Path) -> None:
    seed = Seed(str(tmp_path / "0001.rdb"), "", 0)
    with pytest.raises(FileNotFoundError):
        plant(seed, folder)
    (tmp_path / "0001.rdb").write_bytes(b"REDIS")
    with pytest.raises(WorldError, match="is not the pipe that was made"):
        plant(seed, folder)
    assert not list(folder.iterdir())
