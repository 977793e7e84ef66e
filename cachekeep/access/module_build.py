"""The auth module for engines: built from our own source with the machine's compiler, once, or found where a package
put it.

It stands in `<state dir>/modules`, named by the digest of its source and the kind of machine: another Cachekeep never
loads what an earlier one built, and what runs keeps its file. The engine's interface is found by name at load time,
so that one file does for every Valkey from 8.0 on.
"""

from __future__ import annotations

import hashlib
import os
import platform
import shutil
import stat
import subprocess
import tempfile
from pathlib import Path

from cachekeep.domain.world import WorldError

FOLDER = "modules"
# Where packages may put a module that is built already, under the same name.
PLACES = (Path("/usr/local/lib/cachekeep/modules"), Path("/usr/lib/cachekeep/modules"))
COMPILERS = ("cc", "gcc", "clang")
_FLAGS = ("-std=c11", "-O2", "-fPIC", "-shared", "-pthread", "-fstack-protector-strong", "-Wl,-z,relro,-z,now")
_BUILD_S = 120
_SOURCES = Path(__file__).resolve().parent.parent / "module"


def find_or_build(state_dir: Path) -> Path:
    """The module's file. Blocks for about a second where it is built. Raises WorldError with the reason."""
    name = module_name()
    own = state_dir / FOLDER / name
    there = find(state_dir)
    if there is not None:
        return there
    compiler = find_compiler()
    if compiler is None:
        raise WorldError(
            f"no C compiler ({', '.join(COMPILERS)}) is on this machine, and no {name} in {PLACES[0]}; install one, "
            "such as the package gcc"
        )
    try:
        own.parent.mkdir(mode=0o700, exist_ok=True)
        _build(compiler, own)
    except OSError as error:
        raise WorldError(f"{own} cannot be written: {error.strerror}") from error
    return own


def find(state_dir: Path) -> Path | None:
    """The module's file where it is built already."""
    places = (state_dir / FOLDER, *PLACES)
    return next((folder / module_name() for folder in places if _is_trusted(folder / module_name())), None)


def find_compiler() -> str | None:
    """The machine's C compiler."""
    return next(filter(None, map(shutil.which, COMPILERS)), None)


def module_name() -> str:
    """Of the file, by its source and the machine's kind."""
    digest = hashlib.sha256()
    for source in ("iam_auth.c", "valkey_api.h"):
        digest.update((_SOURCES / source).read_bytes())
    libc = "-".join(filter(None, platform.libc_ver())) or "libc"
    return f"iam_auth-{digest.hexdigest()[:16]}-{platform.machine()}-{libc}.so"


def _build(compiler: str, target: Path) -> None:
    with tempfile.TemporaryDirectory(dir=target.parent) as folder:
        made = Path(folder) / "iam_auth.so"
        command = [compiler, *_FLAGS, "-o", str(made), str(_SOURCES / "iam_auth.c")]
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=_BUILD_S, check=False, cwd=folder)
        except subprocess.TimeoutExpired:
            raise WorldError(f"{compiler} did not build the IAM module within {_BUILD_S} s") from None
        if done.returncode != 0:
            lines = [line for line in done.stderr.splitlines() if "error" in line] or done.stderr.splitlines()[-1:]
            raise WorldError(f"{compiler} cannot build the IAM module: {' '.join(lines)[:300]}")
        made.chmod(0o500)
        descriptor = os.open(made, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        made.rename(target)


def _is_trusted(path: Path) -> bool:
    """A file that nobody but we and root could have written: it becomes a part of the engine."""
    try:
        seen = path.stat()
    except OSError:
        return False
    written_by_others = seen.st_mode & (stat.S_IWGRP | stat.S_IWOTH)
    return stat.S_ISREG(seen.st_mode) and not written_by_others and seen.st_uid in (0, os.getuid())
