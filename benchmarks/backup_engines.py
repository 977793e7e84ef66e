"""Engines that the backup figures are measured on: loopback, no persistence, folders of their own. None outlives a run.

Called by the backup benchmarks; they need no installation.
"""

from __future__ import annotations

import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.backup_wire import HOST, Wire
from benchmarks.installation import BenchmarkError, wait_for
from cachekeep.domain.engine import Engine, EngineInstall
from cachekeep.host.installs import MachineCatalogue

RDB = "dump.rdb"
_LOAD_DEADLINE_S = 120.0
_END_S = 20.0
# A cluster's bus has the port 10000 above.
_HIGHEST_PORT = 55_000


@dataclass(frozen=True)
class Server:
    """A running engine. folder: its own, where it writes its RDB file."""

    install: EngineInstall
    port: int
    folder: Path
    process: subprocess.Popen[bytes]

    @property
    def url(self) -> str:
        return f"redis://{HOST}:{self.port}"

    @property
    def rdb(self) -> Path:
        return self.folder / RDB

    def ask(self, *words: bytes | str | int) -> Any:
        """One command on a connection of its own."""
        with Wire(self.port) as wire:
            return wire.ask(*words)

    def info(self, section: str) -> dict[str, str]:
        lines = self.ask("INFO", section).decode().splitlines()
        return dict(line.split(":", 1) for line in lines if ":" in line)

    def keys(self) -> int:
        return sum(int(sizes.split(",")[0].removeprefix("keys=")) for sizes in self.info("keyspace").values())

    def cpu_s(self) -> float:
        usage = self.info("cpu")
        return float(usage["used_cpu_user"]) + float(usage["used_cpu_sys"])


def engines() -> list[EngineInstall]:
    """Those with figures of their own: Redis 7.0 where there is one, the newest Valkey."""
    installs = MachineCatalogue().installs()
    redis = [one for one in installs if one.engine is Engine.REDIS and str(one.version).startswith("7.0.")]
    valkeys = [one for one in installs if one.engine is Engine.VALKEY]
    return redis[:1] + valkeys[:1]


def described(install: EngineInstall) -> str:
    return f"{install.engine.value} {install.version}"


@contextmanager
def server(install: EngineInstall, *options: str, rdb: Path | None = None) -> Iterator[Server]:
    """A running engine, empty or with what is in the RDB file, which is used up. Raises BenchmarkError."""
    folder = Path(tempfile.mkdtemp(prefix="cachekeep-bench-engine-"))
    try:
        if rdb:
            shutil.move(rdb, folder / RDB)
        port = _free_port()
        argv = [install.program, "--bind", HOST, "--port", str(port), "--dir", str(folder)]
        # Without the delay of 5 s in which a primary waits for more replicas: it is the same for every tool.
        argv += ["--save", "", "--appendonly", "no", "--repl-diskless-sync", "yes", "--repl-diskless-sync-delay", "0"]
        argv += ["--loglevel", "warning", "--logfile", str(folder / "log"), *options]
        process = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, start_new_session=True)
        try:
            it = Server(install, port, folder, process)
            wait_for(lambda: _serves(it), _LOAD_DEADLINE_S, f"{described(install)} is up")
            yield it
        finally:
            process.kill()
            process.wait(_END_S)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _serves(it: Server) -> bool:
    if it.process.poll() is not None:
        log = it.folder / "log"
        said = log.read_text(errors="replace")[-500:] if log.exists() else "nothing"
        raise BenchmarkError(f"{described(it.install)} has ended; it said: {said}")
    try:
        return bool(it.ask("PING") == b"PONG")
    except (ConnectionError, RuntimeError):  # a server that loads says so
        return False


def _free_port() -> int:
    for _ in range(1000):
        with socket.socket() as probe:
            probe.bind((HOST, 0))
            port = int(probe.getsockname()[1])
        if port < _HIGHEST_PORT:
            return port
    raise BenchmarkError(f"no free port below {_HIGHEST_PORT}")
