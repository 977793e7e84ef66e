"""A real engine that never has the files it needs: it runs, says what it is, and gives up at every start."""

from __future__ import annotations

import os
import shlex
from pathlib import Path

from cachekeep.domain.engine import Engine
from cachekeep.host.installs import MachineCatalogue

# Of the major version that is there, and newer than any release of it, so that it is the one chosen.
VERSION = "9.1.99"
# With 32 files or fewer Valkey ends at its start. The limit is the engine's alone: the service keeps its own.
_SCRIPT = """#!/bin/sh
if [ "$1" = --version ]; then
    {real} --version | sed 's/v={version} /v={claimed} /'
    exit
fi
ulimit -n 32
exec {real} "$@"
"""


def starved_engine(catalogue: MachineCatalogue, folder: Path) -> str:
    """Put the engine into the folder, which is made; returns a PATH on which a service finds it."""
    real = catalogue.best(Engine.VALKEY, None)
    assert real is not None
    folder.mkdir()
    program = folder / "valkey-server"
    program.write_text(_SCRIPT.format(real=shlex.quote(real.program), version=real.version, claimed=VERSION))
    program.chmod(0o755)
    return os.pathsep.join((str(folder), os.environ["PATH"]))
