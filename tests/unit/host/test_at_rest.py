"""What the kernel tells of a disk: encrypted itself, encrypted all the way below, or not."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from cachekeep.host.at_rest import encrypted_by


@pytest.fixture
def device(tmp_path: Path) -> Path:
    """The entry of the disk that the test's folder is on, in a made-up list of devices."""
    number = tmp_path.stat().st_dev
    made = tmp_path / "devices" / f"{os.major(number)}:{os.minor(number)}"
    made.mkdir(parents=True)
    return made


def _mapped(device: Path, uuid: str) -> None:
    (device / "dm").mkdir(parents=True)
    (device / "dm" / "uuid").write_text(uuid)


def test_a_crypt_device_is_encrypted(tmp_path: Path, device: Path) -> None:
    _mapped(device, "CRYPT-LUKS2-0123-name\n")
    assert encrypted_by(tmp_path, device.parent) == "dm-crypt"


def test_a_volume_is_encrypted_when_all_that_it_is_made_of_is(tmp_path: Path, device: Path) -> None:
    _mapped(device, "LVM-0123")
    _mapped(device / "slaves" / "dm-0", "CRYPT-LUKS2-0123-name")
    assert encrypted_by(tmp_path, device.parent) == "dm-crypt"
    (device / "slaves" / "sda1").mkdir()
    assert encrypted_by(tmp_path, device.parent) is None


def test_a_plain_disk_is_not(tmp_path: Path, device: Path) -> None:
    assert encrypted_by(tmp_path, device.parent) is None
