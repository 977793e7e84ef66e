"""How the user can call this very program again, for the lines that commands print to be copied."""

from __future__ import annotations

import shlex
import shutil
import sys
from pathlib import Path


def program() -> str:
    """`cachekeep` where the shell finds this one under that name; else its path, short below the current folder."""
    beside = Path(sys.executable).with_name("cachekeep")
    called = Path(sys.argv[0])
    script = called if called.name == "cachekeep" and called.is_file() else beside
    if not script.is_file():
        return f"{shlex.quote(sys.executable)} -m cachekeep"
    found = shutil.which("cachekeep")
    if found is not None and Path(found).resolve() == script.resolve():
        return "cachekeep"
    script = script.absolute()
    here = Path.cwd()
    return shlex.quote(str(script.relative_to(here) if script.is_relative_to(here) else script))


def command_line(command: str, options: list[str]) -> str:
    """The line to type for one of our commands."""
    return " ".join([program(), command, *(shlex.quote(option) for option in options)])
