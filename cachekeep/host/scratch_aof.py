"""An append-only file for an engine to load: an RDB file, and commands that follow it. Called by host.scratch.

From Redis 7.0 on it is a folder: a manifest names the base and the increments, each a file. Before, it is one file, an
RDB file with commands behind it. While an engine loads either, keys expire by commands alone.
Source: redis.io "Persistence"; src/aof.c: aofLoadManifestFromDisk, loadSingleAppendOnlyFile.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from itertools import chain
from pathlib import Path

from cachekeep.domain.engine import Engine, EngineInstall

AOF_NAME, AOF_FOLDER = "appendonly.aof", "appendonlydir"
_BASE, _INCREMENT = f"{AOF_NAME}.1.base.rdb", f"{AOF_NAME}.1.incr.aof"
_MANIFEST = f"file {_BASE} seq 1 type b\nfile {_INCREMENT} seq 1 type i\n"
# What an engine says and then goes on: a command that it could not carry out.
_REFUSED = re.compile(r"^.*sending an error to its AOF-loading-client: (.+)$", re.MULTILINE)

SETTINGS = {
    "appendonly": "yes",
    "appendfilename": AOF_NAME,
    "appendfsync": "no",
    # A file that ends in the middle of a command is refused, and not cut there with a line in the log.
    "aof-load-truncated": "no",
    "auto-aof-rewrite-percentage": "0",
}


def write_aof(
    rdb: Iterable[bytes],
    commands: Iterable[bytes],
    install: EngineInstall,
    folder: Path,
    write: Callable[[Iterable[bytes], Path], None],
) -> Mapping[str, str]:
    """Into the engine's folder; returns the settings to start it with. write: makes a new file.

    What iterating rdb and commands raises comes through.
    """
    if not _in_parts(install):
        write(chain(rdb, commands), folder / AOF_NAME)
        return SETTINGS
    inside = folder / AOF_FOLDER
    inside.mkdir(0o700)
    write(rdb, inside / _BASE)
    write(commands, inside / _INCREMENT)
    write([_MANIFEST.encode()], inside / f"{AOF_NAME}.manifest")
    return SETTINGS | {"appenddirname": AOF_FOLDER}


def refusal_in(log: str) -> str | None:
    """What the engine said to a command of the file that it did not carry out; None when there is none."""
    found = _REFUSED.search(log)
    return found[1].strip() if found else None


def _in_parts(install: EngineInstall) -> bool:
    return install.engine is Engine.VALKEY or install.version.major >= 7
