"""Engines that run for one test: a server, a cluster, and a client to each. Nothing here is of the product's making
but the catalogue of installed engines, and engines for a moment that it starts.

`from __future__` annotations only: other test files name the types in `TYPE_CHECKING` or not at all.
"""

from __future__ import annotations

import os
import signal
import socket
import ssl
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import valkey

from cachekeep.domain.engine import Engine, EngineInstall, EngineVersion
from cachekeep.domain.nodes import Address
from cachekeep.host.installs import MachineCatalogue
from cachekeep.host.scratch import LocalScratch
from cachekeep.remote.open import open_socket

ENGINES = {"9.1": Engine.VALKEY, "8.1": Engine.VALKEY, "7.0": Engine.REDIS, "6.2": Engine.REDIS}
WITHIN_S = 20.0
# Who follows whom is told by gossip, which may take half of cluster-node-timeout (15 s) a hop.
CLUSTER_WITHIN_S = 60.0
SLOTS = 16384


@dataclass(frozen=True)
class Server:
    """A running engine. folder: its working folder, with `engine.log`. version: `9.1`, `8.1`, `7.0` or `6.2`."""

    host: str
    port: int
    pid: int
    folder: Path
    version: str
    tls: Mapping[str, str] | None = None

    @property
    def url(self) -> str:
        return f"{'rediss' if self.tls else 'redis'}://{self.host}:{self.port}"

    def ask(self, *words: Any, db: int = 0, **options: Any) -> Any:
        """One command on a connection of its own, as the default user; RESP2 replies as they are."""
        with _connection(self, db, **options) as made:
            made.response_callbacks.clear()
            return made.execute_command(*words)

    def stop(self) -> None:
        """End it at once, as a crash would. Its number stays taken until the test ends."""
        os.kill(self.pid, signal.SIGKILL)

    def log(self) -> str:
        return (self.folder / "engine.log").read_text("utf-8", "replace")


def wait_until(ask: Callable[[], Any], what: str, within_s: float = WITHIN_S) -> Any:
    """The first true answer. A refused or dropped connection counts as not yet."""
    deadline = time.monotonic() + within_s
    answer: Any = None
    while time.monotonic() < deadline:
        try:
            answer = ask()
        except (valkey.ValkeyError, OSError) as error:
            answer = error
        else:
            if answer:
                return answer
        time.sleep(0.01)
    raise AssertionError(f"not within {within_s:g} s: {what}; last answer: {answer!r}")


@pytest.fixture(name="wait_until")
def _wait_until() -> Callable[..., Any]:
    """Call it with a question and a name for it; returns the first true answer, fails after 20 s."""
    return wait_until


@pytest.fixture
def install_of(catalogue: MachineCatalogue) -> Callable[[str], EngineInstall]:
    """The installed engine by its short version; skips the test only where Redis 7.0 is absent."""

    def find(version: str) -> EngineInstall:
        install = catalogue.best(ENGINES[version], EngineVersion.parse(version))
        if install is None and version == "7.0":
            pytest.skip("needs redis-server 7.0 on the machine")
        assert install is not None, f"no {ENGINES[version].label} {version} on this machine"
        return install

    return find


@pytest.fixture
def start_server(
    install_of: Callable[[str], EngineInstall], fresh_address: Callable[..., Address]
) -> Iterator[Callable[..., Server]]:
    """`start_server(version="9.1", *arguments, users=None, tls=None, wait=True) -> Server`.

    arguments: more of the command line, `"--databases", "32"`. users: the text of an ACL file.
    tls: `tls-cert-file`, `tls-key-file`, `tls-ca-cert-file`, ... -> value; the port speaks TLS only, then.
    """
    with ExitStack() as stack:

        def start(
            version: str = "9.1",
            *arguments: str,
            users: str | None = None,
            tls: Mapping[str, str] | None = None,
            wait: bool = True,
        ) -> Server:
            install, host = install_of(version), fresh_address().host
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="cachekeep-server-")))
            command = [install.program, "--bind", host, "--protected-mode", "no", "--save", "", "--appendonly", "no"]
            command += ["--dir", str(folder)]
            if users is not None:
                (folder / "users.acl").write_text(users, encoding="utf-8")
                command += ["--aclfile", str(folder / "users.acl")]
            if tls is None:
                command += ["--port", "6379"]
            else:
                command += ["--port", "0", "--tls-port", "6379"]
                command += [word for name, value in tls.items() for word in (f"--{name}", str(value))]
            process = _run([*command, *arguments], folder)
            stack.callback(_end, process)
            server = Server(host, 6379, process.pid, folder, version, tls)
            if wait:
                wait_until(lambda: _answers(server, process), f"{install} at {server.url}")
            return server

        yield start


def _run(command: Sequence[str], folder: Path) -> subprocess.Popen[bytes]:
    with (folder / "engine.log").open("wb") as output:
        return subprocess.Popen(
            command, cwd=folder, stdin=subprocess.DEVNULL, stdout=output, stderr=output, start_new_session=True
        )


def _end(process: subprocess.Popen[bytes]) -> None:
    if process.poll() is None:
        process.kill()
    process.wait()


def _answers(server: Server, process: subprocess.Popen[bytes]) -> bool:
    """True when the port answers PING with anything but LOADING; fails at once when the engine has ended."""
    assert process.poll() is None, f"the engine ended: {server.log()[-2000:]}"
    if server.tls is not None:  # who may talk TLS to it is the test's matter
        with socket.create_connection((server.host, server.port), timeout=5):
            return True
    with socket.create_connection((server.host, server.port), timeout=5) as plain:
        plain.sendall(b"PING\r\n")
        return plain.recv(64).startswith((b"+PONG", b"-NOAUTH", b"-NOPERM"))


@pytest.fixture
def start_cluster(start_server: Callable[..., Server]) -> Callable[..., list[Server]]:
    """`start_cluster(version="9.1", primaries=3, replicas=0, arguments=(), users=None) -> list[Server]`.

    Primaries first; their slots in equal ranges in that order. replicas: of each primary; the i-th replica follows
    primary i modulo primaries. Returns when every node finds the cluster's state ok and every replica is linked.
    """

    def start(
        version: str = "9.1",
        primaries: int = 3,
        replicas: int = 0,
        arguments: Sequence[str] = (),
        users: str | None = None,
    ) -> list[Server]:
        nodes = []
        for _ in range(primaries * (1 + replicas)):
            # Without the delay: five seconds for every replica otherwise.
            own = ("--cluster-enabled", "yes", "--repl-diskless-sync-delay", "0")
            node = start_server(version, *own, *arguments, users=users)
            node.ask("CONFIG", "SET", "cluster-announce-ip", node.host)
            nodes.append(node)
        for number, node in enumerate(nodes):
            node.ask("CLUSTER", "SET-CONFIG-EPOCH", number + 1)
        for other in nodes[1:]:
            nodes[0].ask("CLUSTER", "MEET", other.host, other.port)
        for number, node in enumerate(nodes[:primaries]):
            slots = range(number * SLOTS // primaries, (number + 1) * SLOTS // primaries)
            node.ask("CLUSTER", "ADDSLOTS", *slots)
        for node in nodes:
            wait_until(lambda node=node: _knows(node, len(nodes)), f"{node.url} knows all nodes", CLUSTER_WITHIN_S)
        for number, node in enumerate(nodes[primaries:]):
            followed = nodes[number % primaries].ask("CLUSTER", "MYID")
            wait_until(
                lambda n=node, f=followed: n.ask("CLUSTER", "REPLICATE", f), f"{node.url} follows", CLUSTER_WITHIN_S
            )
        for node in nodes[primaries:]:
            wait_until(
                lambda n=node: b"link_status:up" in n.ask("INFO", "replication"), f"{node.url} linked", CLUSTER_WITHIN_S
            )
        for node in nodes:
            wait_until(lambda node=node: _agrees(node, primaries, replicas), f"{node.url} agrees", CLUSTER_WITHIN_S)
        return nodes

    return start


def _knows(node: Server, count: int) -> bool:
    lines = node.ask("CLUSTER", "NODES").splitlines()
    return len(lines) == count and not any(b"handshake" in line for line in lines)


def _agrees(node: Server, primaries: int, replicas: int) -> bool:
    ranges = node.ask("CLUSTER", "SLOTS")
    whole = len(ranges) == primaries and all(len(entry) == 3 + replicas for entry in ranges)
    return whole and b"cluster_state:ok" in node.ask("CLUSTER", "INFO")


@pytest.fixture
def client() -> Iterator[Callable[..., valkey.Valkey]]:
    """`client(server, db=0, **options) -> valkey.Valkey` with bytes as replies, closed at the end of the test."""
    with ExitStack() as stack:

        def connect(server: Server, db: int = 0, **options: Any) -> valkey.Valkey:
            return stack.enter_context(_connection(server, db, **options))

        yield connect


@pytest.fixture
def pair(start_server: Callable[..., Server], client: Callable[..., Any]) -> tuple[Server, Any, Server, Any]:
    """source, its client, target, its client; replies are as on the wire."""
    source, target = start_server(), start_server()
    clients = client(source), client(target)
    for one in clients:
        one.response_callbacks.clear()
    return source, clients[0], target, clients[1]


@pytest.fixture
def scratch(catalogue: MachineCatalogue) -> LocalScratch:
    """Engines of this machine, for a moment each."""
    return LocalScratch(catalogue, open_socket)


def _connection(server: Server, db: int, **options: Any) -> valkey.Valkey:
    if server.tls is not None:
        options = {
            "ssl": True,
            "ssl_ca_certs": server.tls.get("tls-ca-cert-file"),
            "ssl_certfile": server.tls.get("tls-cert-file"),
            "ssl_keyfile": server.tls.get("tls-key-file"),
            "ssl_cert_reqs": ssl.CERT_REQUIRED,
            "ssl_check_hostname": False,
            **options,
        }
    return valkey.Valkey(host=server.host, port=server.port, db=db, socket_timeout=30, **options)
