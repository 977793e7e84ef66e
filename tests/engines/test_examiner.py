"""EngineExaminer on real engines."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from test_remote_tls import Authority

from cachekeep.codec.info import parse_info
from cachekeep.domain.metrics import Place
from cachekeep.domain.nodes import Address
from cachekeep.domain.ports import WorldError
from cachekeep.engine.examiner import EngineExaminer

StartServer = Callable[..., Any]
# The clients of these tests are of this very process.
EXAMINER = EngineExaminer(ours=lambda port: ())
RESTRICTED = "user default off\nuser looker on >sesame %R~* +info +select +randomkey +type +memory|usage{more}\n"


def place_of(server: Any, **options: Any) -> Place:
    return Place(Address(server.host, server.port), **options)


def clients(place: Place) -> dict[str, int]:
    return dict(asyncio.run(EXAMINER.clients_by_address(place)))


def sample(place: Place, most: int = 100, within_s: float = 10) -> list[Any]:
    return list(asyncio.run(EXAMINER.sample_keys(place, most=most, within_s=within_s)))


@pytest.mark.parametrize("version", ["9.1", "8.1", "7.0", "6.2"])
def test_clients_are_counted_by_address_and_keys_are_sampled(
    start_server: StartServer, version: str, wait_until: Callable[..., Any]
) -> None:
    server = start_server(version, "--maxmemory-policy", "allkeys-lru")
    for number in range(20):
        server.ask("SET", f"small:{number}", "x")
    server.ask("HSET", "big", "field", "x" * 300_000)
    server.ask("SET", b"\xff\x00odd", "x", db=3)
    with ExitStack() as stack:
        for last, count in ((1, 5), (2, 2)):
            for _ in range(count):
                link = stack.enter_context(socket.create_connection((server.host, 6379), 5, (f"127.0.5.{last}", 0)))
                link.sendall(b"PING\r\n")
                assert link.recv(64) == b"+PONG\r\n"
        counted = clients(place_of(server))
    assert counted == {"127.0.5.1": 5, "127.0.5.2": 2}
    assert list(counted) == ["127.0.5.1", "127.0.5.2"]

    def all_keys() -> list[Any]:
        found = sample(place_of(server))
        return found if len(found) == 22 else []  # random keys: one of them may be missing for once

    found = wait_until(all_keys, "a sample with every key")
    assert (found[0].name, found[0].type, found[0].db) == ("big", "hash", 0)
    assert found[0].memory_bytes > 300_000
    assert found[0].frequency is None
    assert len({(key.db, key.name) for key in found}) == len(found)
    assert [key.name for key in found if key.db == 3] == ["\\xff\\x00odd"]
    assert len(sample(place_of(server), most=3)) == 3


def test_connections_of_this_process_are_not_counted(start_server: StartServer) -> None:
    server = start_server("9.1")
    with socket.create_connection((server.host, 6379), 5) as link:
        link.sendall(b"PING\r\n")
        assert link.recv(64) == b"+PONG\r\n"
        assert sum(clients(place_of(server)).values()) == 1
        assert asyncio.run(EngineExaminer().clients_by_address(place_of(server))) == {}
        # It is still open.
        link.sendall(b"PING\r\n")
        assert link.recv(64) == b"+PONG\r\n"


def test_how_often_keys_are_used_is_told_where_the_policy_keeps_it(start_server: StartServer) -> None:
    server = start_server("9.1", "--maxmemory-policy", "allkeys-lfu")
    server.ask("SET", "cold", "x")
    server.ask("SET", "hot", "x")
    for _ in range(200):
        server.ask("EVAL", "for n = 1, 50 do server.call('GET', 'hot') end", 0)
    found = {key.name: key for key in sample(place_of(server))}
    assert found["hot"].frequency > found["cold"].frequency


def test_looking_changes_nothing_and_is_no_use_of_a_key(start_server: StartServer) -> None:
    server = start_server("9.1", "--maxmemory-policy", "allkeys-lfu", "--lfu-log-factor", "0")
    server.ask("SET", "a", "x")

    def state() -> tuple[Any, Any]:
        return server.ask("OBJECT", "FREQ", "a"), server.ask("DBSIZE")

    before = state()
    for _ in range(3):
        assert [key.name for key in sample(place_of(server))] == ["a"]
    assert state() == before


@pytest.mark.parametrize("version", ["9.1", "6.2"])
def test_looking_at_many_keys_is_hardly_seen_in_the_hit_rate(start_server: StartServer, version: str) -> None:
    server = start_server(version, "--maxmemory-policy", "allkeys-lru")
    for number in range(50):
        server.ask("SET", f"key:{number}", "x" * (number + 1))
    assert len(sample(place_of(server), most=40)) == 40
    stats = parse_info(server.ask("INFO", "stats").decode())
    assert (int(stats["keyspace_hits"]), int(stats["keyspace_misses"])) == (3, 0)  # TYPE of the three biggest


def test_an_empty_engine_has_no_keys(start_server: StartServer) -> None:
    assert sample(place_of(start_server())) == []


def test_replicas_are_no_clients(start_server: StartServer, wait_until: Callable[..., Any]) -> None:
    server = start_server("9.1", "--repl-diskless-sync-delay", "0")
    replica = start_server("9.1", "--replicaof", f"{server.host} 6379")
    wait_until(lambda: b"state=online" in server.ask("INFO", "replication"), "the replica is there")
    assert clients(place_of(server)) == {}
    assert clients(place_of(replica)) == {}


def test_a_restricted_user_is_told_which_permission_is_missing(start_server: StartServer) -> None:
    server = start_server(users=RESTRICTED.format(more=" +object|idletime"))
    user = place_of(server, username="looker", password="sesame")
    assert sample(user) == []
    with pytest.raises(WorldError, match=r"does not let user looker run CLIENT LIST; its ACL needs \+client\|list"):
        clients(user)


def test_keys_without_permission_are_a_sentence_not_an_empty_answer(start_server: StartServer) -> None:
    server = start_server(users="user default on nopass ~* +@all\nuser looker on >s ~app:* +@all -memory\n")
    server.ask("SET", "app:1", "x")
    user = place_of(server, username="looker", password="s")
    with pytest.raises(WorldError, match=r"run MEMORY USAGE; its ACL needs \+memory\|usage"):
        sample(user)
    server.ask("ACL", "SETUSER", "looker", "+memory")
    server.ask("SET", "other", "x")
    assert [key.name for key in sample(user)] == ["app:1"]
    server.ask("DEL", "app:1")
    with pytest.raises(WorldError, match="its ACL needs ~"):
        sample(user)


def test_without_the_right_password_there_is_a_sentence_without_it(start_server: StartServer) -> None:
    server = start_server("9.1", "--requirepass", "sesame")
    assert clients(place_of(server, password="sesame")) == {}
    with pytest.raises(WorldError, match="wants a login"):
        clients(place_of(server))
    with pytest.raises(WorldError, match=r"refused the login of user default \(WRONGPASS\); check user") as caught:
        clients(place_of(server, password="wrong-word"))
    assert "wrong-word" not in str(caught.value)


def test_a_node_that_is_gone_or_hangs_is_a_sentence(fresh_address: Callable[..., Address]) -> None:
    with pytest.raises(WorldError, match="cannot connect"):
        clients(Place(fresh_address()))
    address = fresh_address()
    with socket.create_server((address.host, address.port)), pytest.raises(WorldError, match="did not answer within"):
        sample(Place(address), within_s=0.2)


def test_what_no_engine_says_is_a_sentence_or_left_out(fresh_address: Callable[..., Address]) -> None:
    address = fresh_address()
    keyspaces = iter((b"# Keyspace\r\ndb0:keys=none\r\n", b"# Keyspace\r\ndb0:keys=5\r\ndb1:keys=-5\r\n"))
    # Quadratic to whoever looks for the flags anew behind each address; and one line as it should be.
    endless = b"id=1" + b" addr=1.1.1.1:1" * 200_000 + b"\nid=2 addr=127.0.5.1:7 laddr=x flags=N db=0\n"
    listings = iter((b":100000000000\r\n", b"$%d\r\n%s\r\n" % (len(endless), endless)))

    async def hostile(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while line := await reader.readline():
            if line.strip() == b"LIST":
                writer.write(next(listings))
            elif line.strip() == b"keyspace":
                info = next(keyspaces)
                writer.write(b"$%d\r\n%s\r\n" % (len(info), info))
            elif line.strip() == b"memory":
                writer.write(b"$0\r\n\r\n")
        writer.close()

    async def run() -> None:
        place = Place(address)
        async with await asyncio.start_server(hostile, address.host, address.port):
            with pytest.raises(WorldError, match="neither Redis nor Valkey"):
                await EXAMINER.clients_by_address(place)
            assert await EXAMINER.clients_by_address(place) == {"127.0.5.1": 1}
            for _ in range(2):
                with pytest.raises(WorldError, match="neither Redis nor Valkey"):
                    await EXAMINER.sample_keys(place, most=10, within_s=5)

    asyncio.run(run())


@pytest.mark.needs_redis7
def test_tls_trusts_only_the_authority_and_the_name_that_were_given(start_server: StartServer, tmp_path: Path) -> None:
    authority, other = Authority(tmp_path, "ours"), Authority(tmp_path, "other")
    cert, key = authority.sign("server", "cache.example")
    files = {"tls-cert-file": cert, "tls-key-file": key, "tls-ca-cert-file": authority.ca}
    server = start_server("7.0", tls={**{name: str(path) for name, path in files.items()}, "tls-auth-clients": "no"})
    named = {"tls": True, "server_name": "cache.example"}
    assert clients(place_of(server, ca_file=str(authority.ca), **named)) == {}
    assert sample(place_of(server, ca_file=str(authority.ca), **named)) == []
    for wrong in (
        {"ca_file": str(other.ca), **named},
        {"ca_file": str(authority.ca), "tls": True, "server_name": "else.example"},
    ):
        with pytest.raises(WorldError, match="no TLS with"):
            clients(place_of(server, **wrong))
    with pytest.raises(WorldError, match="cannot read the authority"):
        clients(place_of(server, ca_file=str(tmp_path / "absent.pem"), **named))


def test_memcached_tells_neither(fresh_address: Callable[..., Address]) -> None:
    place = Place(fresh_address(), speaks_resp=False)
    assert clients(place) == {}
    assert sample(place) == []
