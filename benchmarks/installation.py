"""One installation of Cachekeep to measure: a state directory, a port, a range of addresses. Leaves nothing behind."""

from __future__ import annotations

import fcntl
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from ipaddress import IPv4Network
from pathlib import Path
from typing import Any

import botocore.session
from botocore.config import Config

from cachekeep import credentials
from cachekeep.host.process import inhabitants

REGION = "us-east-1"
START_DEADLINE_S = 30.0
_DISPOSE_S = 20.0


class BenchmarkError(Exception):
    """A figure cannot be measured; the text says why."""


def wait_for(ask: Callable[[], bool], deadline_s: float, what: str, every_s: float = 0.01) -> float:
    """Ask until true; returns the seconds that it took. Raises BenchmarkError after deadline_s."""
    begin = time.perf_counter()
    while not ask():
        if time.perf_counter() - begin > deadline_s:
            raise BenchmarkError(f"{what}: not within {deadline_s:g} s")
        time.sleep(every_s)
    return time.perf_counter() - begin


@dataclass
class Installation:
    """Started and killed at will; the engines live below state_dir. first_start_s: how long the first start took."""

    state_dir: Path
    network: IPv4Network
    port: int
    process: subprocess.Popen[bytes] | None = field(default=None, repr=False)
    first_start_s: float = 0.0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def pid(self) -> int:
        """Raises BenchmarkError with the end of the log when the service has ended."""
        if self.process is None or self.process.poll() is not None:
            raise BenchmarkError(f"the service has ended; the end of its log:\n{self._log_end()}")
        return self.process.pid

    @property
    def key(self) -> credentials.AccessKey:
        return credentials.load(self.state_dir)

    def start(self) -> float:
        """Run the service; returns the seconds until /healthz answered."""
        clean = {k: v for k, v in os.environ.items() if not k.startswith(("CACHEKEEP_", "AWS_"))}
        begin = time.perf_counter()
        with self._log.open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "cachekeep", "serve"],
                env=clean
                | {
                    "CACHEKEEP_STATE_DIR": str(self.state_dir),
                    "CACHEKEEP_PORT": str(self.port),
                    "CACHEKEEP_ADDRESS_RANGE": str(self.network),
                    "CACHEKEEP_AUTH_WITHOUT_TLS": "yes",
                },
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        wait_for(self._answers, START_DEADLINE_S, "the service answers")
        return time.perf_counter() - begin

    def _answers(self) -> bool:
        running = self.pid > 0
        try:
            with urllib.request.urlopen(f"{self.url}/healthz", timeout=2) as answer:
                return running and bool(answer.status == 200)
        except (urllib.error.URLError, ConnectionError, TimeoutError):
            return False

    def kill(self) -> None:
        """kill -9 of the service, and wait for its end. Engines run on."""
        os.kill(self.pid, signal.SIGKILL)
        assert self.process is not None
        self.process.wait(10)

    def client(self) -> Any:
        """An ElastiCache client as boto3 makes it, from nothing but this installation's key."""
        session = botocore.session.Session()
        session.set_config_variable("profile", None)
        return session.create_client(
            "elasticache",
            region_name=REGION,
            endpoint_url=self.url,
            aws_access_key_id=self.key.id,
            aws_secret_access_key=self.key.secret,
            config=Config(retries={"max_attempts": 0}, connect_timeout=5, read_timeout=30),
        )

    def engines(self) -> list[int]:
        """The pids of the processes that live below the nodes' folder."""
        return [found.seen.process.pid for found in inhabitants((self.state_dir / "nodes").resolve())]

    def _log_end(self) -> str:
        return self._log.read_text(errors="replace")[-1500:] if self._log.exists() else ""

    @property
    def _log(self) -> Path:
        return self.state_dir.with_suffix(".log")

    def dispose(self) -> None:
        """End the service, then the engines, each by its pid."""
        if self.process is not None and self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(_DISPOSE_S)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait(_DISPOSE_S)
        deadline = time.monotonic() + _DISPOSE_S
        while (left := self.engines()) and time.monotonic() < deadline:
            for pid in left:
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            time.sleep(0.02)


@contextmanager
def installation() -> Iterator[Installation]:
    """A running installation; at the end its processes and its folder are gone."""
    folder = Path(tempfile.mkdtemp(prefix="cachekeep-bench-"))
    try:
        with _own_range() as network:
            it = Installation(folder / "state", network, _free_port())
            try:
                it.first_start_s = it.start()
                yield it
            finally:
                it.dispose()
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def _own_range() -> Iterator[IPv4Network]:
    """A /22 of loopback addresses that no other benchmark run has: whoever holds its lock."""
    for _ in range(100):
        network = IPv4Network(f"127.{random.randint(201, 250)}.{random.randrange(0, 256, 4)}.0/22")
        path = Path(tempfile.gettempdir()) / f"cachekeep-bench-{network.network_address}.lock"
        with path.open("w") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                mine = path.stat().st_ino == os.fstat(lock.fileno()).st_ino
            except (BlockingIOError, FileNotFoundError):
                continue
            if not mine:  # the last holder deleted the file before it was locked
                continue
            try:
                yield network
            finally:
                path.unlink(missing_ok=True)
            return
    raise BenchmarkError("no free range of loopback addresses")


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
