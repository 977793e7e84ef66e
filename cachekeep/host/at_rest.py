"""Whether what is written below a folder is encrypted on its disk, as far as Linux tells. Called by the app.

Seen: dm-crypt and LUKS, also below LVM (the device's `dm/uuid` begins with CRYPT-, or all that it is made of do), and
fscrypt (the folder has an encryption policy). Not seen, and so not believed: self-encrypting disks, encrypted volumes
of a cloud, ZFS and eCryptfs; for those the operator states it by the setting encrypted_state.
Sources: kernel docs, device-mapper and filesystems/fscrypt; cryptsetup libdevmapper.c (DM_UUID_PREFIX).
"""

from __future__ import annotations

import fcntl
import os
import struct
from pathlib import Path

# _IOWR('f', 22, __u8[9])
_GET_POLICY_EX = 0xC0096616
_POLICY_BYTES = 24


def encrypted_by(folder: Path, devices: Path = Path("/sys/dev/block")) -> str | None:
    """In words by what the folder's disk is encrypted; None when it is not, or cannot be seen.

    devices: where the kernel lists block devices by number.
    """
    number = folder.stat().st_dev
    device = devices / f"{os.major(number)}:{os.minor(number)}"
    if device.exists() and _is_crypt(device):
        return "dm-crypt"
    return "fscrypt" if _has_policy(folder) else None


def _is_crypt(device: Path, depth: int = 8) -> bool:
    try:
        if (device / "dm" / "uuid").read_text(encoding="ascii", errors="replace").startswith("CRYPT-"):
            return True
    except OSError:
        # A plain disk or partition has no such file.
        return False
    try:
        below = list((device / "slaves").iterdir())
    except OSError:
        return False
    return depth > 0 and bool(below) and all(_is_crypt(path, depth - 1) for path in below)


def _has_policy(folder: Path) -> bool:
    try:
        handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        fcntl.ioctl(handle, _GET_POLICY_EX, struct.pack("=Q", _POLICY_BYTES) + bytes(_POLICY_BYTES))
    except OSError:  # no policy, or a file system that knows none
        return False
    finally:
        os.close(handle)
    return True
