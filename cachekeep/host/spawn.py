"""Starts a node's program so that it outlives this service, and reaps it when it ends first.

Called by host.local only.
"""

from __future__ import annotations

import importlib.util
import os
import pwd
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from cachekeep.domain.access import EngineLogin
from cachekeep.domain.engine import Engine, EngineInstall
from cachekeep.domain.nodes import NodeKey, NodeSpec, Process, ProgramKind
from cachekeep.domain.transit import internal_ports
from cachekeep.host.config_file import engine_config, memcached_arguments
from cachekeep.host.folder import append_to, write_json, write_whole
from cachekeep.host.process import MARK, look

# Children belong to this Python process, whichever LocalHost started them: only their parent can reap them.
_children: set[int] = set()


def prepare(
    spec: NodeSpec,
    install: EngineInstall | None,
    folder: Path,
    login: EngineLogin | None = None,
    modules: Sequence[Sequence[str]] = (),
) -> list[str]:
    """Write what the program reads at its start and return its command line.

    Raises OSError, and ValueError for a configuration that cannot be written safely.
    """
    if spec.program is ProgramKind.DISCOVERY:
        host, port = spec.address.host, spec.address.port
        write_json(folder / "responder.json", {"host": host, "port": port, "version": str(spec.version)})
        # By path, isolated and without site-packages: 5 MiB less per responder than `python -m`, and no
        # surprise from the environment. The responder needs nothing but the standard library.
        secured = ["--tls"] if spec.transit.encrypted else []
        return [sys.executable, "-I", "-S", _program("discovery"), str(folder), *secured]
    if spec.program is ProgramKind.SWITCH:
        plain, tls = internal_ports(spec.address.port)
        write_json(folder / "switch.json", {"port": spec.address.port, "plain": plain, "tls": tls})
        return [sys.executable, "-I", "-S", _program("switch"), str(folder)]
    if install is None:
        raise ValueError(f"{spec.key} needs an engine program to run")
    if spec.engine is Engine.MEMCACHED:
        run_as = pwd.getpwuid(os.getuid()).pw_name if os.getuid() == 0 else None
        return [install.program, *memcached_arguments(spec, run_as)]
    config = folder / "engine.conf"
    write_whole(config, engine_config(spec, folder, install.version, login, modules))
    return [install.program, str(config)]


def _program(name: str) -> str:
    # Found by name and not imported: host and endpoint know nothing of each other but this program.
    found = importlib.util.find_spec(f"cachekeep.endpoint.{name}")
    if found is None or found.origin is None:
        raise ValueError(f"cachekeep.endpoint.{name} is missing from this installation")
    return found.origin


def spawn(key: NodeKey, command: Sequence[str], folder: Path) -> Process:
    """Run the command in a session of its own; returns its process, which may already have ended again.

    Raises OSError when the program cannot be executed.
    """
    log = append_to(folder / "engine.log")
    try:
        child = subprocess.Popen(
            command,
            cwd=folder,
            # Nothing of ours: credentials in the environment of a service must not be readable in an engine's.
            env={"PATH": os.defpath, "LC_ALL": "C", MARK: str(key)},
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            close_fds=True,
            start_new_session=True,
            umask=0o077,
        )
    finally:
        os.close(log)
    # Popen is done with it: it would complain of a child that outlives it, and outliving is the point.
    child.returncode = 0
    _reap_all()
    _children.add(child.pid)
    seen = look(child.pid)
    # Our own child keeps its number until it is reaped, so it is always seen.
    return seen.process if seen is not None else Process(child.pid, started="")


def kill_child(process: Process) -> None:
    """End a child that was just started, and reap it."""
    os.kill(process.pid, signal.SIGKILL)
    os.waitpid(process.pid, 0)
    _children.discard(process.pid)


def reap(process: Process) -> None:
    """Let an ended child go. No effect on what still runs or was started by an earlier service."""
    if process.pid in _children:
        _reap(process.pid)


def _reap_all() -> None:
    """Let go of ended children that nobody has asked for since."""
    for pid in list(_children):
        _reap(pid)


def _reap(pid: int) -> None:
    try:
        ended = os.waitpid(pid, os.WNOHANG)[0] == pid
    except ChildProcessError:  # another thread was faster
        ended = True
    if ended:
        _children.discard(pid)
