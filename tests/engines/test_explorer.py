"""EngineExplorer on real engines."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import threading
from collections.abc import Awaitable, Callable, Collection
from pathlib import Path
from typing import Any

import pytest
from test_remote_tls import Authority

from cachekeep.domain.engine import EngineInstall
from cachekeep.domain.metric_ports import Explored
from cachekeep.domain.metrics import Place
from cachekeep.domain.nodes import Address, NodeKey, NodeSpec
from cachekeep.domain.ports import WorldError
from cachekeep.engine.explorer import EngineExplorer
from cachekeep.engine.name_lookup import NameLookup
from cachekeep.host.local import LocalHost

StartServer = Callable[..., Any]
REPLICA = ("--repl-diskless-sync-delay", "0")


def address_of(server: Any) -> Address:
    return Address(server.host, server.port)


def explore(place: Any, known: Collection[Address] = (), **options: Any) -> Explored:
    wanted = place if isinstance(place, Place) else Place(address_of(place), **options)
    return asyncio.run(EngineExplorer().explore(wanted, known))


@pytest.mark.parametrize(("version", "engine"), [("9.1", "valkey"), ("6.2", "redis")])
def test_a_single_node_tells_its_engine(start_server: StartServer, version: str, engine: str) -> None:
    server = start_server(version)
    found = explore(server)
    assert [(node.address, node.primary, node.shard) for node in found.nodes] == [(address_of(server), True, "")]
    assert (found.engine, found.clustered, found.note) == (engine, False, None)
    assert found.version.startswith(version)


def test_logins_that_fail_say_what_to_do_and_show_no_password(start_server: StartServer) -> None:
    server = start_server("9.1", "--requirepass", "sesame")
    assert len(explore(server, password="sesame").nodes) == 1
    with pytest.raises(WorldError, match="wants a login; give a password"):
        explore(server)
    with pytest.raises(
        WorldError, match=r"refused the login of user bob \(WRONGPASS\); check user and password"
    ) as caught:
        explore(server, username="bob", password="wrong-word")
    assert "wrong-word" not in str(caught.value)
    with pytest.raises(WorldError, match="has no password for user default; give none"):
        explore(start_server(), password="sesame")


def test_a_permission_that_is_missing_is_named(start_server: StartServer) -> None:
    users = "user default on nopass ~* +@all\nuser blind on >sesame +ping\nuser looker on >sesame +info\n"
    server = start_server(users=users)
    with pytest.raises(WorldError, match=r"does not let user blind run INFO; its ACL needs \+info"):
        explore(server, username="blind", password="sesame")
    assert len(explore(server, username="looker", password="sesame").nodes) == 1


def test_primary_and_replica_lead_to_each_other(start_server: StartServer, wait_until: Callable[..., Any]) -> None:
    primary = start_server("9.1", *REPLICA)
    replica = start_server("9.1")
    replica.ask("CONFIG", "SET", "replica-announce-ip", replica.host)
    replica.ask("REPLICAOF", primary.host, 6379)
    wait_until(
        lambda: f"ip={replica.host},port=6379,state=online".encode() in primary.ask("INFO", "replication"),
        "it is there",
    )
    wanted = [(address_of(primary), True), (address_of(replica), False)]
    for server in (primary, replica):
        assert [(node.address, node.primary) for node in explore(server).nodes] == wanted
    # A replica that hangs is left out, unless it was known before.
    os.kill(replica.pid, signal.SIGSTOP)
    try:
        found = explore(primary)
        assert [node.address for node in found.nodes] == [address_of(primary)]
        assert found.note == f"1 more node does not answer from here and is not watched: {address_of(replica)}"
        assert len(explore(primary, [address_of(replica)]).nodes) == 2
    finally:
        os.kill(replica.pid, signal.SIGCONT)


def test_every_node_of_a_cluster_is_found_with_its_shard(start_cluster: Callable[..., list[Any]]) -> None:
    nodes = start_cluster(primaries=3, arguments=("--cluster-announce-hostname", "node.example"))
    found = explore(nodes[1])
    assert [node.address for node in found.nodes] == [address_of(node) for node in nodes]
    assert len({node.shard for node in found.nodes}) == 3
    assert {node.host_name for node in found.nodes} == {"node.example"}
    assert found.clustered
    # Behind a port that is forwarded the announced address of the node itself does not answer.
    nodes[0].ask("CONFIG", "SET", "cluster-announce-ip", "127.0.0.1")
    assert address_of(nodes[0]) in [node.address for node in explore(nodes[0]).nodes]


def test_members_that_may_not_be_told_leave_the_endpoint(start_server: StartServer) -> None:
    users = "user default on nopass ~* +@all\nuser looker on >sesame +info\n"
    server = start_server("9.1", "--cluster-enabled", "yes", users=users)
    found = explore(server, username="looker", password="sesame")
    assert [node.address for node in found.nodes] == [address_of(server)]
    assert "its ACL needs +cluster|nodes; only the node at the endpoint is watched" in str(found.note)


def test_unreachable_unknown_and_odd_endpoints_are_sentences(fresh_address: Callable[..., Address]) -> None:
    with pytest.raises(WorldError, match="cannot connect"):
        explore(Place(fresh_address()))
    with pytest.raises(WorldError, match=r"the host no\.such\.host\.invalid has no address"):
        explore(Place(Address("no.such.host.invalid", 6379)))
    address = fresh_address()
    for resp, answer, words in (
        (True, b"HTTP/1.1 400 Bad Request\r\n\r\n", "does not speak the expected protocol"),
        (True, b"$8\r\nabc:defg\r\n", "neither Redis nor Valkey"),
        (False, b"-ERR unknown command\r\n", "does not speak the expected protocol"),
    ):
        with _answering(address, answer), pytest.raises(WorldError, match=words):
            explore(Place(address, speaks_resp=resp))


def test_what_talks_no_tls_is_told_from_what_does_not_answer(fresh_address: Callable[..., Address]) -> None:
    address, silent = fresh_address(), fresh_address()
    hint = r"answers, but not with TLS; if it is plain, its URL begins with redis://"
    # Redis takes what TLS begins with for a command, or for the begin of one.
    with _answering(address, b"-ERR unknown command\r\n"), pytest.raises(WorldError, match=hint):
        explore(Place(address, tls=True))
    with (
        socket.create_server((silent.host, silent.port)),
        pytest.raises(WorldError, match=rf"{silent} {hint}"),
    ):
        asyncio.run(EngineExplorer(connect_timeout_s=0.2).explore(Place(silent, tls=True)))
    with pytest.raises(WorldError, match="cannot connect to"):
        explore(Place(silent, tls=True))


def test_what_a_server_says_reaches_no_terminal_as_it_is(fresh_address: Callable[..., Address]) -> None:
    address = fresh_address()
    for version, told in (("\x1b]0;owned\x07", "unknown"), ("7" * 33, "unknown"), ("8.1.4-rc2", "8.1.4-rc2")):
        text = f"redis_version:{version}\r\nrole:master\r\n".encode()
        with _answering(address, b"$%d\r\n%s\r\n" % (len(text), text)):
            assert explore(Place(address)).version == told
    with _answering(address, b"-ODD \x1b[2Jtext\r\n"), pytest.raises(WorldError) as refused:
        explore(Place(address))
    assert str(refused.value).endswith(r"refused INFO: ODD ?[2Jtext")


class _answering:
    """A server that gives everybody the same answer."""

    def __init__(self, address: Address, answer: bytes) -> None:
        self._server, self._answer = socket.create_server((address.host, address.port)), answer
        self._thread = threading.Thread(target=self._serve)

    def __enter__(self) -> None:
        self._thread.start()

    def _serve(self) -> None:
        link, _ = self._server.accept()
        with link:
            link.recv(1000)
            link.sendall(self._answer)
            link.recv(1000)

    def __exit__(self, *_: object) -> None:
        self._thread.join()
        self._server.close()


def test_a_silent_endpoint_costs_its_deadline_only(fresh_address: Callable[..., Address]) -> None:
    address = fresh_address()

    async def run() -> None:
        explorer = EngineExplorer(answer_timeout_s=0.2)
        with pytest.raises(WorldError, match=r"did not answer within 0\.2 s"):
            await explorer.explore(Place(address))

    with socket.create_server((address.host, address.port)):
        asyncio.run(run())


@pytest.mark.needs_redis7
def test_tls_is_verified_and_names_the_endpoint(start_server: StartServer, tmp_path: Path) -> None:
    authority, other = Authority(tmp_path, "ours"), Authority(tmp_path, "other")
    cert, key = authority.sign("server", "localhost")
    files = {"tls-cert-file": cert, "tls-key-file": key, "tls-ca-cert-file": authority.ca}
    server = start_server("7.0", tls={**{name: str(path) for name, path in files.items()}, "tls-auth-clients": "no"})
    options: dict[str, Any] = {"tls": True, "server_name": "localhost"}
    assert len(explore(server, ca_file=str(authority.ca), **options).nodes) == 1
    with pytest.raises(WorldError, match="TLS"):
        explore(server, ca_file=str(other.ca), **options)
    with pytest.raises(WorldError, match="TLS"):
        explore(server, ca_file=str(authority.ca), tls=True)  # its certificate is not for the address


def test_memcached_tells_its_members_where_it_can(
    host: LocalHost,
    memcached: EngineInstall,
    fresh_address: Callable[..., Address],
    eventually: Callable[..., Awaitable[Any]],
) -> None:
    address, configuration = fresh_address(11211), fresh_address(11211)
    spec = NodeSpec(NodeKey("us-east-1", "m"), memcached.engine, memcached.version, address, {"-m": "64"}, None)
    members = f"3\nlocalhost|{address.host}|11211 gone.example|{fresh_address().host}|11211\n"

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readline()
        writer.write(b"VERSION 1.6.22\r\n")
        await reader.readline()
        writer.write(f"CONFIG cluster 0 {len(members)}\r\n{members}\r\nEND\r\n".encode())
        await reader.read()
        writer.close()

    async def run() -> None:
        explorer = EngineExplorer()
        await host.start(spec, memcached, keep_data=False)
        alone: Any = await eventually(lambda: explorer.explore(Place(address, speaks_resp=False)))
        assert (alone.engine, alone.version) == ("memcached", str(memcached.version))
        assert [node.address for node in alone.nodes] == [address]
        async with await asyncio.start_server(answer, configuration.host, 11211):
            found = await explorer.explore(Place(configuration, speaks_resp=False))
        assert [(node.address, node.host_name) for node in found.nodes] == [(address, "localhost")]
        assert "1 more node does not answer" in str(found.note)

    asyncio.run(run())


def test_a_resolver_that_hangs_holds_up_nobody_else() -> None:
    free = threading.Event()

    def resolve(host: str) -> str:
        if host == "hangs.example":
            assert free.wait(30)
        return "10.0.0.1"

    async def run() -> None:
        names = NameLookup(resolve, most=2)
        with pytest.raises(WorldError, match=r"hangs\.example could not be looked up within 0\.05 s"):
            await names.address("hangs.example", 0.05)
        assert await names.address("quick.example", 10) == "10.0.0.1"
        with pytest.raises(WorldError):
            await names.address("hangs.example", 0.05)
        with pytest.raises(WorldError):  # both turns are taken now
            await names.address("quick.example", 0.05)
        free.set()
        assert await names.address("quick.example", 10) == "10.0.0.1"

    asyncio.run(run())
