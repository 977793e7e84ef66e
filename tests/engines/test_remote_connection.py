"""Connections to real servers, and to sockets that are none: what comes back, and what is said when nothing does."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

import pytest

from cachekeep.codec.resp import pack
from cachekeep.domain.nodes import Address
from cachekeep.domain.remote import Refusal, RemoteError, RemoteFault
from cachekeep.remote import connection as door
from cachekeep.remote.open import open_remote, open_socket

VERSIONS = ("9.1", "8.1", "7.0", "6.2")
SECRET = "sesame/:@ ü"
USERS = """user default off
user ann on >sesame ~* &* +@all
user few on >sesame ~* &* -@all +get
user open on nopass ~* +@all
"""
Script = Callable[[socket.socket], None]


@pytest.fixture
def pretend() -> Iterator[Callable[[Script], str]]:
    """`pretend(script) -> host:port`: a listener whose first client is given to script, in a thread."""
    with ExitStack() as stack:

        def start(script: Script) -> str:
            listener = stack.enter_context(socket.create_server(("127.0.0.1", 0)))

            def serve() -> None:
                with closing(listener.accept()[0]) as client:
                    script(client)

            thread = threading.Thread(target=serve)
            thread.start()
            stack.callback(thread.join, 20)
            return f"127.0.0.1:{listener.getsockname()[1]}"

        yield start


def until_the_end(client: socket.socket) -> None:
    try:
        while client.recv(65536):
            pass
    except OSError:
        return


def trouble(url: str, db: int = 0, **options: Any) -> RemoteError:
    """What is said of a connection that does not come about; never with a credential, in one line."""
    with pytest.raises(RemoteError) as told:
        open_remote(url, **{"connect_timeout_s": 5, **options}).connect(db)
    text = str(told.value) + repr(told.value)
    assert "sesame" not in text
    assert "\n" not in str(told.value)
    assert told.value.advice
    return told.value


@pytest.mark.parametrize("version", VERSIONS)
def test_replies_come_back_in_order_as_what_they_are(start_server: Any, version: str) -> None:
    server = start_server(version)
    with open_remote(server.url).connect(3) as connection:
        assert (connection.address, connection.db) == (f"{server.host}:6379", 3)
        assert connection.ask("SET", b"\xff\r\n", b"\0\xfe") == b"OK"
        assert connection.ask("RPUSH", "list", 1, "ü") == 2
        connection.send(
            pack("GET", b"\xff\r\n") + pack("GET", "none") + pack("GET", "list") + pack("LRANGE", "list", 0, -1)
        )
        first, *_, last = connection.receive(2) + connection.receive(2)[1:]
        assert first == b"\0\xfe"
        assert last == [b"1", "ü".encode()]
        connection.send(pack("GET", "list") + pack("MULTI") + pack("GET", "list") + pack("EXEC"))
        refused, *_, executed = connection.receive(4)
        assert isinstance(refused, Refusal)
        assert refused.code == executed[0].code == "WRONGTYPE"
        with pytest.raises(Refusal, match="unknown command"):
            connection.ask("NOSUCH")
        assert b"name=cachekeep" in connection.ask("CLIENT", "LIST")
    assert server.ask("DBSIZE", db=3) == 2


def test_many_replies_and_large_ones_arrive_whole(start_server: Any) -> None:
    with open_remote(start_server().url).connect() as connection:
        large = b"x" * 40_000_000
        assert connection.ask("SET", "large", large) == b"OK"
        connection.send(pack("GET", "large") + pack("PING") * 100_000)
        replies = connection.receive(100_001)
        assert replies[0] == large
        assert replies.count(b"PONG") == 100_000


def test_a_login_may_be_a_password_or_a_user_with_one(start_server: Any) -> None:
    plain, users = start_server("9.1", "--requirepass", SECRET), start_server("6.2", users=USERS)
    with open_remote(plain.url, password=SECRET).connect() as connection:
        assert connection.ask("PING") == b"PONG"
    for url, options in (
        ("redis://ann:sesame@", {}),
        ("redis://ann@", {"password": "sesame"}),
        ("redis://", {"user": "ann", "password": "sesame"}),
        ("redis://open@", {}),
    ):
        with open_remote(f"{url}{users.host}", **options).connect(2) as connection:
            assert connection.ask("ACL", "WHOAMI") in (b"ann", b"open")


@pytest.mark.parametrize("version", VERSIONS)
def test_who_is_not_let_in_is_told_why(start_server: Any, version: str) -> None:
    server, bare = start_server(version, users=USERS), start_server(version)
    where = f"{server.host}:6379"
    missing = trouble(f"redis://{where}")
    assert (missing.fault, missing.what) == (RemoteFault.DENIED, f"{where} asks for a password")
    wrong = trouble(f"redis://ann:sesame2@{where}")
    assert (wrong.fault, wrong.what) == (RemoteFault.DENIED, f"{where} does not accept the user and password")
    needless = trouble(f"redis://:sesame@{bare.host}")
    assert needless.fault is RemoteFault.DENIED
    assert "leave it out" in needless.advice
    far = trouble(bare.url, db=99)
    assert (far.fault, far.what) == (RemoteFault.DENIED, f"{bare.host}:6379 has no database 99")
    select = trouble(f"redis://few:sesame@{where}", db=1)
    assert select.fault is RemoteFault.DENIED
    assert "SELECT" in select.what
    with open_remote(f"redis://few:sesame@{where}").connect() as connection, pytest.raises(Refusal, match="NOPERM"):
        connection.ask("SET", "a", 1)


@pytest.mark.parametrize("version", VERSIONS)
def test_a_server_without_auth_that_repeats_the_password_is_not_quoted(start_server: Any, version: str) -> None:
    server = start_server(version, "--rename-command", "AUTH", "")
    assert "unknown command" in trouble(f"redis://sesame1:sesame@{server.host}").what


def test_a_full_server_says_so(start_server: Any) -> None:
    server = start_server("7.0", "--maxclients", "1")
    with open_remote(server.url).connect() as connection:
        full = trouble(server.url)
        assert full.fault is RemoteFault.UNREACHABLE
        assert "no room for another client" in full.what
        assert connection.ask("PING") == b"PONG"


def test_a_loading_server_is_unreachable_for_now(start_server: Any) -> None:
    first = start_server("7.0")
    first.ask("MSET", *(word for number in range(3000) for word in (number, number)))
    first.ask("SAVE")
    slow = ("--key-load-delay", "20000", "--loading-process-events-interval-bytes", "1024", "--dir", str(first.folder))
    second = start_server("7.0", *slow, wait=False)
    deadline = time.monotonic() + 15
    while "refuses" in (error := trouble(second.url)).what and time.monotonic() < deadline:
        time.sleep(0.01)
    assert error.fault is RemoteFault.UNREACHABLE
    assert "loading its data set" in error.what


def test_a_replica_without_its_primary_that_serves_no_stale_data_is_unreachable(
    start_server: Any, fresh_address: Callable[..., Address], wait_until: Any
) -> None:
    server = start_server("8.1", "--replica-serve-stale-data", "no")
    server.ask("REPLICAOF", fresh_address().host, 6379)
    wait_until(lambda: b"master_link_status:down" in server.ask("INFO", "replication"), "the link is down")
    assert "lost its primary" in trouble(server.url).what


def test_a_cluster_has_no_second_database(start_cluster: Any) -> None:
    node = start_cluster("7.0", 1)[0]
    assert trouble(node.url, db=1).fault is RemoteFault.DENIED


def test_nothing_there_is_told_apart(fresh_address: Callable[..., Address], tmp_path: Path) -> None:
    host = fresh_address().host
    for url, words in (
        (f"redis://{host}:6379", "refuses the connection"),
        ("redis://no-such-host.invalid", "has no address"),
        ("redis://" + "a" * 80, "has no address"),
        (f"unix://{tmp_path}/none", "does not exist"),
        (f"unix://{tmp_path}/{'x' * 120}", "cannot be reached"),
    ):
        error = trouble(url)
        assert error.fault is RemoteFault.UNREACHABLE
        assert words in error.what


@pytest.mark.parametrize(
    ("says", "words"),
    [
        (b"HTTP/1.1 400 Bad Request\r\n\r\n", "is no Redis or Valkey: it says `HTTP/1.1 400 Bad Request"),
        (b"SSH-2.0-OpenSSH_9.2p1\r\n", "SSH-2.0-OpenSSH_9.2p1"),
        (b"\x15\x03\x03\x00\x02\x02\x28", "speaks TLS"),
        (b"220 mail.example ESMTP\r\n", "220 mail.example"),
        (b"*-7\r\n", "is no Redis or Valkey"),
        (b"*1\r\n" * 20_000, "is no Redis or Valkey"),
        (b"$99999999999999999999999\r\n", "is no Redis or Valkey"),
        (b"~1\r\n*0\r\n", "is no Redis or Valkey"),
    ],
)
def test_what_speaks_something_else_is_named_by_what_it_says(pretend: Any, says: bytes, words: str) -> None:
    def serve(client: socket.socket) -> None:
        client.sendall(says)
        until_the_end(client)

    error = trouble(f"redis://:sesame@{pretend(serve)}")
    assert error.fault is RemoteFault.FOREIGN
    assert words in error.what


def test_who_says_nothing_or_hangs_up_is_unreachable_and_tls_is_suspected(pretend: Any) -> None:
    silent = trouble(f"redis://{pretend(until_the_end)}", connect_timeout_s=0.2)
    assert silent.fault is RemoteFault.UNREACHABLE
    assert "says nothing for 0.2 s" in silent.what
    assert "rediss://" in silent.advice
    hung_up = trouble(f"redis://{pretend(lambda client: None)}")
    assert "drops it at the first word" in hung_up.what
    assert "rediss://" in hung_up.advice


def test_a_handshake_that_drips_ends_all_the_same(pretend: Any) -> None:
    def drip(client: socket.socket) -> None:
        client.sendall(b"+")
        try:
            while client.send(b"x"):
                time.sleep(0.02)  # how fast it drips
        except OSError:
            return

    assert "says nothing" in trouble(f"redis://{pretend(drip)}", connect_timeout_s=0.5).what


def greet(client: socket.socket) -> None:
    """As a server without a password answers CLIENT SETNAME and DBSIZE."""
    client.recv(65536)
    client.sendall(b"+OK\r\n:0\r\n")


def test_one_reply_is_not_held_without_limit(pretend: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(door, "REPLY_LIMIT_BYTES", 3 << 20)

    def flood(client: socket.socket) -> None:
        greet(client)
        try:
            client.sendall(b"$4294967295\r\n")
            while True:
                client.sendall(b"x" * 65536)
        except OSError:
            return

    with open_remote(f"redis://{pretend(flood)}").connect() as connection:
        with pytest.raises(RemoteError, match="longer than 3 MiB") as told:
            connection.receive(1)
        assert told.value.fault is RemoteFault.FOREIGN
        with pytest.raises(RemoteError, match="was closed here"):
            connection.send(pack("PING"))


def test_a_dropped_connection_a_crash_and_a_silence_are_unreachable(start_server: Any, pretend: Any) -> None:
    server = start_server()
    cut, lost = open_remote(server.url).connect(), open_remote(server.url).connect()
    with cut, lost:
        server.ask("CLIENT", "KILL", "ID", cut.ask("CLIENT", "ID"))
        with pytest.raises(RemoteError, match="dropped the connection") as told:
            cut.ask("PING")
        assert told.value.fault is RemoteFault.UNREACHABLE
        lost.send(pack("BLPOP", "none", 0))
        server.stop()
        with pytest.raises(RemoteError, match="dropped the connection"):
            lost.receive(1)

    def mute(client: socket.socket) -> None:
        greet(client)
        until_the_end(client)

    slow = open_remote(f"redis://{pretend(mute)}").connect(timeout_s=0.2)
    with slow, pytest.raises(RemoteError, match=r"says nothing for 0\.2 s"):
        slow.ask("PING")


def test_closing_from_another_thread_wakes_a_reader(start_server: Any, wait_until: Any) -> None:
    server = start_server()
    connection = open_remote(server.url).connect()
    connection.send(pack("BLPOP", "none", 0))
    told: list[RemoteError] = []

    def wait() -> None:
        with pytest.raises(RemoteError, match="was closed here") as error:
            connection.receive(1)
        told.append(error.value)

    reader = threading.Thread(target=wait)
    reader.start()
    wait_until(lambda: connection._waiting, "the reader waits")
    connection.close()
    connection.close()
    reader.join(15)
    assert told
    assert connection._sock.fileno() < 0
    wait_until(lambda: b"blocked_clients:0" in server.ask("INFO", "clients"), "the server noticed")


@pytest.mark.parametrize("version", VERSIONS)
def test_a_stream_of_psync_loses_no_byte_behind_its_reply(start_server: Any, version: str, wait_until: Any) -> None:
    server = start_server(version, "--repl-diskless-sync", "no")
    server.ask("SET", "a", "1" * 300_000)
    with open_remote(server.url).connect() as connection:
        assert connection.ask("PSYNC", "?", -1).startswith(b"FULLRESYNC ")
        stream = b""
        while b"\r\n" not in stream.lstrip(b"\n"):
            stream += connection.receive_bytes()
        size, _, held = stream.lstrip(b"\n").partition(b"\r\n")
        while len(held) < int(size[1:]):
            held += connection.receive_bytes()
        assert held.startswith((b"REDIS", b"VALKEY"))
        assert held[int(size[1:]) - 9] == 0xFF


def test_bytes_behind_a_reply_that_was_asked_for_alone_are_kept(pretend: Any) -> None:
    def serve(client: socket.socket) -> None:
        greet(client)
        client.recv(65536)
        client.sendall(b"\n")
        client.sendall(b"\n\n+FULLRESYNC x 0\r\n\n$5\r\nab\0cd")
        client.recv(65536)
        client.sendall(b"ef")

    with open_remote(f"redis://{pretend(serve)}").connect() as connection:
        assert connection.ask("PSYNC", "?", -1) == b"FULLRESYNC x 0"
        stream = connection.receive_bytes()
        while len(stream) < 10:
            stream += connection.receive_bytes()
        connection.send(b"x")
        assert stream + connection.receive_bytes() == b"\n$5\r\nab\0cdef"


def test_a_unix_socket_is_an_endpoint_too(start_server: Any) -> None:
    server = start_server("8.1", "--unixsocket", "v.sock")
    path = server.folder / "v.sock"
    for remote in (open_remote(f"unix://{path}"), open_socket(path)):
        assert remote.address == f"unix:{path}"
        with remote.connect(4) as connection:
            assert (connection.ask("PING"), connection.db, connection.address) == (b"PONG", 4, remote.address)
        assert remote.at("", 6379).address == remote.address
    with open_socket(path).at(server.host, 6379).connect() as connection:
        assert connection.ask("PING") == b"PONG"
