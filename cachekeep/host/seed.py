"""An RDB file that a node begins with, put into its folder. Called by host.local before the node's first start.

Or the pipe that stands for one: every engine reads a dump.rdb from its beginning to its end, once. Its name in the
node's folder leads to where it lies, so that nothing is left of it once that is gone.
Source: rdb.c rdbLoad; tried on Redis 6.2.5 and 7.0.15, Valkey 8.1.8 and 9.1.2, which open the name once more after they
have loaded or failed to: whoever writes must hold the pipe open until then.
"""

from __future__ import annotations

import errno
import os
import shutil
import stat
import zlib
from pathlib import Path

from cachekeep.domain.restore import Seed
from cachekeep.domain.world import WorldError
from cachekeep.host.folder import sync_folder

_READ_BYTES = 1 << 20
_NO_LINKS = frozenset({errno.EXDEV, errno.EPERM, errno.EMLINK, errno.ENOTSUP})


def plant(seed: Seed, folder: Path) -> None:
    """As dump.rdb, proved by its digest. A link where that can be: engines put new files in place of old ones.

    Raises WorldError for a file that is not the one that was unpacked; OSError.
    """
    source, target = Path(seed.path), folder / "dump.rdb"
    if not seed.digest:
        if not stat.S_ISFIFO(source.stat().st_mode):
            raise WorldError(f"{source} is not the pipe that was made: it was altered; restore once more")
        target.symlink_to(source)
        return
    try:
        os.link(source, target)
    except OSError as error:
        if error.errno not in _NO_LINKS:
            raise
        shutil.copyfile(source, target)
        target.chmod(0o600)
    digest = 0
    with target.open("rb") as file:
        while chunk := file.read(_READ_BYTES):
            digest = zlib.crc32(chunk, digest)
    if f"{digest:08x}" != seed.digest:
        target.unlink()
        raise WorldError(f"{source} is not the file that was unpacked: it was altered; restore once more")
    sync_folder(folder)
