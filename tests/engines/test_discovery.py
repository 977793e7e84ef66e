"""The discovery responder with real memcached nodes and a raw client."""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import pytest
from pymemcache.client.base import Client as MemcacheClient

from cachekeep.domain.engine import Engine, EngineInstall
from cachekeep.domain.nodes import Address, NodeKey, NodeSpec, ProgramKind
from cachekeep.host.local import LocalHost

Eventually = Callable[..., Awaitable[object]]
CONFIG = NodeKey("us-east-1", "mem", "cfg")


@dataclass
class Cluster:
    """Two cache nodes and the responder in front of them."""

    host: LocalHost
    endpoint: Address
    members: tuple[Address, Address]

    def dial(self) -> socket.socket:
        return socket.create_connection((self.endpoint.host, self.endpoint.port), timeout=5)


@pytest.fixture
def cluster(
    host: LocalHost, memcached: EngineInstall, fresh_address: Callable[..., Address], eventually: Eventually
) -> Cluster:
    endpoint, members = fresh_address(11211), (fresh_address(11211), fresh_address(11211))

    async def run() -> None:
        host.advertise(CONFIG, 3, members)
        for number, member in enumerate(members, 1):
            key = NodeKey("us-east-1", "mem", f"{number:04}")
            await host.start(NodeSpec(key, Engine.MEMCACHED, memcached.version, member), memcached, keep_data=False)
        program = ProgramKind.DISCOVERY
        spec = NodeSpec(CONFIG, Engine.MEMCACHED, memcached.version, endpoint, program=program)
        await host.start(spec, None, keep_data=False)
        for address in (*members, endpoint):
            await eventually(lambda address=address: accepts(address))

    asyncio.run(run())
    return Cluster(host, endpoint, members)


def accepts(address: Address) -> bool:
    try:
        socket.create_connection((address.host, address.port), timeout=1).close()
    except OSError:
        return False
    return True


def until(link: socket.socket, end: bytes) -> bytes:
    """Read up to and with `end`."""
    got = b""
    while not got.endswith(end):
        chunk = link.recv(65536)
        assert chunk, f"hung up after {got[-200:]!r}"
        got += chunk
    return got


def announced(version: int, members: tuple[Address, ...]) -> bytes:
    nodes = " ".join(f"{m.host}|{m.host}|{m.port}" for m in members)
    return f"{version}\n{nodes}\n".encode()


def test_members_are_told_in_the_format_of_elasticache(cluster: Cluster) -> None:
    body = announced(3, cluster.members)
    with cluster.dial() as link:
        link.sendall(b"config get cluster\r\n")
        assert until(link, b"\n\r\nEND\r\n") == b"CONFIG cluster 0 %d\r\n%s\r\nEND\r\n" % (len(body), body)
        link.sendall(b"get AmazonElastiCache:cluster\r\n")
        expected = b"VALUE AmazonElastiCache:cluster 0 %d\r\n%s\r\nEND\r\n" % (len(body), body)
        assert until(link, b"\n\r\nEND\r\n") == expected


def test_new_members_are_told_on_an_open_connection(cluster: Cluster) -> None:
    with cluster.dial() as link:
        for version in range(4, 9):
            members = cluster.members[: 1 + version % 2]
            cluster.host.advertise(CONFIG, version, members)
            link.sendall(b"config get cluster\r\n")
            assert announced(version, members) in until(link, b"\n\r\nEND\r\n")


def test_what_is_announced_cannot_be_overwritten(cluster: Cluster) -> None:
    """Nor is the stream out of step afterwards: the block of data is no command."""
    with cluster.dial() as link:
        for line in (b"config set cluster 0 9\r\nget a b c\r\n", b"config delete cluster\r\n"):
            link.sendall(line + b"version\r\n")
            answers = b""
            while answers.count(b"\r\n") < 2:
                answers += link.recv(4096)
            refused, version = answers.splitlines()
            assert refused.startswith(b"CLIENT_ERROR the configuration of the cluster follows its members")
            assert version.startswith(b"VERSION ")
        # The key that clients of 1.4.13 and before read is an ordinary one at a node, and not at the endpoint.
        link.sendall(b"set AmazonElastiCache:cluster 0 0 5\r\nwrong\r\n")
        assert until(link, b"\r\n") == b"STORED\r\n"
        link.sendall(b"get AmazonElastiCache:cluster\r\nconfig get cluster\r\n")
        told = announced(3, cluster.members)
        length = str(len(told)).encode()
        for title in (b"VALUE AmazonElastiCache:cluster 0 ", b"CONFIG cluster 0 "):
            expected = title + length + b"\r\n" + told + b"\r\nEND\r\n"
            got = b""
            while len(got) < len(expected):
                got += link.recv(len(expected) - len(got))
            assert got == expected


def test_version_and_quit_are_answered(cluster: Cluster, memcached: EngineInstall) -> None:
    with cluster.dial() as link:
        link.sendall(b"version\r\n")
        assert until(link, b"\r\n") == f"VERSION {memcached.version}\r\n".encode()
        link.sendall(b"quit\r\n")
        assert link.recv(1) == b""


def test_endpoint_serves_data_like_a_node(cluster: Cluster) -> None:
    client = MemcacheClient((cluster.endpoint.host, cluster.endpoint.port), timeout=5, connect_timeout=5)
    client.set("a", b"x" * 300_000, noreply=False)
    assert client.get("a") == b"x" * 300_000
    client.set_many({f"k{n}": b"%d" % n for n in range(500)}, noreply=True)
    assert len(client.get_many([f"k{n}" for n in range(500)])) == 500
    client.close()
    first = MemcacheClient((cluster.members[0].host, cluster.members[0].port), timeout=5, connect_timeout=5)
    assert first.get("k7") == b"7"
    first.close()


def test_data_that_looks_like_commands_is_data(cluster: Cluster) -> None:
    data = b"config get cluster\r\nquit\r\n"
    with cluster.dial() as link:
        for command in (b"set a 0 0 %d\r\n", b"ms a %d\r\n", b"append a 0 0 %d\r\n"):
            link.sendall(command % len(data) + data + b"\r\n")
            assert until(link, b"\r\n") in (b"STORED\r\n", b"HD\r\n")
        link.sendall(b"get a\r\n")
        assert until(link, b"END\r\n") == b"VALUE a 0 %d\r\n%s\r\nEND\r\n" % (2 * len(data), 2 * data)


def test_replies_keep_their_order_in_a_pipeline(cluster: Cluster) -> None:
    value = b"y" * 500_000
    with cluster.dial() as link:
        link.sendall(b"set a 0 0 %d\r\n%s\r\n" % (len(value), value))
        assert until(link, b"\r\n") == b"STORED\r\n"
        link.sendall(b"get a\r\nconfig get cluster\r\nget a\r\nversion\r\nset b 0 0 1\r\n1\r\nquit\r\n")
        got = b""
        while chunk := link.recv(1 << 20):
            got += chunk
    reply, body = b"VALUE a 0 500000\r\n" + value + b"\r\nEND\r\n", announced(3, cluster.members)
    config = b"CONFIG cluster 0 %d\r\n%s\r\nEND\r\n" % (len(body), body)
    assert got.startswith(reply + config + reply + b"VERSION ")
    assert got.endswith(b"STORED\r\n")


def test_next_member_serves_when_the_first_is_gone(cluster: Cluster) -> None:
    with cluster.dial() as link:
        link.sendall(b"set a 0 0 1\r\n1\r\n")
        assert until(link, b"\r\n") == b"STORED\r\n"
        asyncio.run(cluster.host.stop(NodeKey("us-east-1", "mem", "0001"), grace_s=2))
        assert link.recv(1) == b"", "the client sees that its node is gone"
    with cluster.dial() as link:
        link.sendall(b"get a\r\n")
        assert until(link, b"END\r\n") == b"END\r\n"
    asyncio.run(cluster.host.stop(NodeKey("us-east-1", "mem", "0002"), grace_s=2))
    with cluster.dial() as link:
        link.sendall(b"get a\r\n")
        assert until(link, b"\r\n").startswith(b"SERVER_ERROR no cache node")
        assert link.recv(1) == b""
    with cluster.dial() as link:
        link.sendall(b"config get cluster\r\n")
        until(link, b"\n\r\nEND\r\n")


def test_endless_line_costs_the_connection(cluster: Cluster) -> None:
    with cluster.dial() as link, suppress(ConnectionError):
        for _ in range(64):
            link.sendall(b"x" * 65536)
        assert link.recv(1) == b""
    with cluster.dial() as link:
        link.sendall(b"config get cluster\r\n")
        until(link, b"\n\r\nEND\r\n")


def test_binary_protocol_passes_through(cluster: Cluster) -> None:
    version_request = bytes([0x80, 0x0B]) + bytes(22)
    with cluster.dial() as link:
        link.sendall(version_request)
        reply = link.recv(1024)
        assert reply[:2] == bytes([0x81, 0x0B])


def test_responder_stays_small_and_leaks_nothing(cluster: Cluster) -> None:
    process = cluster.host.find(CONFIG)
    assert process is not None
    for _ in range(200):
        with cluster.dial() as link:
            link.sendall(b"get a\r\nconfig get cluster\r\n")
            until(link, b"\n\r\nEND\r\n")
    deadline = time.monotonic() + 5
    while open_files(process.pid) > 12 and time.monotonic() < deadline:
        time.sleep(0.01)
    assert open_files(process.pid) <= 12
    status = Path(f"/proc/{process.pid}/status").read_text()
    resident_kib = int(status.split("VmRSS:")[1].split()[0])
    assert resident_kib < 24 * 1024


def open_files(pid: int) -> int:
    return sum(1 for _ in Path(f"/proc/{pid}/fd").iterdir())
