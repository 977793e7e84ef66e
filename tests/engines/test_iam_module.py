"""The auth module in real engines, with the agent: who is let in, who is not, and what becomes of connections."""

from __future__ import annotations

import asyncio
import os
import socket
import stat
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
import valkey
from valkey.exceptions import AuthenticationError, ConnectionError, ResponseError

from cachekeep.access import module_build
from cachekeep.access.agent import Agent, socket_path
from cachekeep.access.module_build import find_or_build
from cachekeep.codec.iam_token import TokenError, verify_token
from cachekeep.domain.identity import Verdict
from cachekeep.domain.ports import WorldError
from tests.iam_tokens import make_token

KEY, SECRET = "AKIAEXAMPLE", "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY"
NODE = "us-east-1/my-rg-001/0001/0001"
USERS = (
    "user default on nopass ~* +@all\n"
    "user alice on resetpass ~app:* +@read +@connection +acl|whoami\n"
    "user bob on >bobs-own-password ~* +@all\n"
    "user off off resetpass ~* +@all\n"
)


def token(user: str = "alice", cache: str = "my-rg", **more: Any) -> str:
    return make_token(cache, user, KEY, SECRET, **more)


class Judge:
    """Verifies as the service does. Bob has a password; `off` is known here, and switched off in the engine."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, str]] = []
        self.hold = threading.Event()
        self.hold.set()

    def __call__(self, node: str, user: str, text: str) -> Verdict:
        self.asked.append((node, user))
        self.hold.wait(30)
        if user == "bob":
            return Verdict.PASS
        if user == "trouble":
            raise KeyError(text)
        try:
            found = verify_token(text, {KEY: SECRET}.get, time.time())
        except TokenError:
            return Verdict.REFUSE
        good = (found.cache, found.user, found.caller.region) == ("my-rg", user, "us-east-1")
        return Verdict.LET_IN if good else Verdict.REFUSE


@contextmanager
def running(path: Path, judge: Any) -> Iterator[None]:
    """An agent in an event loop of its own."""
    ready, done = threading.Event(), asyncio.Event()
    loop = asyncio.new_event_loop()
    agent = Agent(path, judge)

    async def run() -> None:
        await agent.start()
        ready.set()
        await done.wait()
        await agent.close()

    thread = threading.Thread(target=lambda: loop.run_until_complete(run()))
    thread.start()
    try:
        assert ready.wait(20)
        yield
    finally:
        loop.call_soon_threadsafe(done.set)
        thread.join(20)
        loop.close()


@pytest.fixture(scope="module")
def module(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return find_or_build(tmp_path_factory.mktemp("built"))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return socket_path(tmp_path)


@pytest.fixture
def judge() -> Judge:
    return Judge()


@pytest.fixture
def engine(start_server: Callable[..., Any], module: Path, path: Path) -> Callable[..., Any]:
    def start(version: str = "9.1", *more: str) -> Any:
        arguments = ("--loadmodule", str(module), str(path), NODE, *more)
        return start_server(version, *arguments, users=USERS)

    return start


def client(server: Any, user: str, password: str, **options: Any) -> valkey.Valkey[Any]:
    return valkey.Valkey(
        host=server.host, port=server.port, username=user, password=password, socket_timeout=20,
        decode_responses=True, **options,
    )  # fmt: skip


def counters(server: Any) -> dict[str, int]:
    text = server.ask("INFO", "everything").decode()
    lines = [line for line in text.splitlines() if line.startswith("cachekeep_iam_")]
    return {name.removeprefix("cachekeep_iam_"): int(value) for name, value in (line.split(":") for line in lines)}


@pytest.mark.parametrize("version", ["9.1", "8.1"])
def test_a_token_lets_its_user_in_and_the_acl_says_what_it_may(
    engine: Callable[..., Any], path: Path, judge: Judge, version: str
) -> None:
    server = engine(version)
    with running(path, judge):
        for protocol in (2, 3):
            with client(server, "alice", token(), protocol=protocol) as alice:
                assert alice.acl_whoami() == "alice"
                assert alice.get("app:1") is None
                with pytest.raises(ResponseError, match=r"[Nn]o permissions"):
                    alice.get("other")
                with pytest.raises(ResponseError, match=r"[Nn]o permissions"):
                    alice.set("app:1", "x")
    assert judge.asked == [(NODE, "alice")] * 2
    assert counters(server)["let_in"] == 2
    assert "X-Amz" not in server.log()


def test_bad_tokens_are_refused(engine: Callable[..., Any], path: Path, judge: Judge) -> None:
    server = engine()
    good = token()
    bad = [
        ("alice", good[:-1] + ("0" if good[-1] != "0" else "1")),
        ("alice", token(at=time.time() - 1000)),
        ("alice", token(at=time.time() + 2000)),
        ("alice", token("bob")),
        ("alice", token(cache="your-rg")),
        ("alice", token(region="eu-west-1")),
        ("alice", make_token("my-rg", "alice", "AKIAOTHER", SECRET)),
        ("alice", make_token("my-rg", "alice", KEY, "wrong")),
        ("alice", good + "&User=off"),
        ("alice", good + "x" * 4000),
        ("alice", good + "x" * 9000),
        ("alice", "X-Amz-Signature="),
        ("alice", "\xff\0X-Amz-Signature=\0\xff"),
        ("off", token("off")),
        ("nobody", token("nobody")),
        ("trouble", token("trouble")),
        ("a" * 600, token("alice")),
        ("default", good),
        ("bob", token("bob")),
    ]
    with running(path, judge):
        for user, password in bad:
            with (
                client(server, user, password) as refused,
                pytest.raises(AuthenticationError, match="invalid username-password"),
            ):
                refused.ping()
        # No token lets anybody in with an empty password, or without one.
        for password in ("", "on", "alice"):
            with client(server, "alice", password) as refused, pytest.raises((AuthenticationError, ResponseError)):
                refused.execute_command("AUTH", "alice", password)
        with client(server, "alice", good) as alice:
            assert alice.acl_whoami() == "alice"
        assert server.ask("PING") == b"PONG"
    told = counters(server)
    assert told["let_in"] == 1
    # The engine counts them as it counts wrong passwords, which the metric AuthenticationFailures is made of.
    denied = next(
        line for line in server.ask("INFO", "stats").decode().split() if line.startswith("acl_access_denied_a")
    )
    assert int(denied.partition(":")[2]) >= told["refused"] > 10
    log = server.ask("ACL", "LOG")
    assert any(b"alice" in entry and b"auth" in entry for entry in log)
    assert all(b"X-Amz" not in bytes(word) for entry in log for word in entry if isinstance(word, bytes))


def test_passwords_are_the_engines_own_matter(engine: Callable[..., Any], path: Path, judge: Judge) -> None:
    server = engine()
    with client(server, "bob", "bobs-own-password") as bob:  # with no agent at all
        assert bob.acl_whoami() == "bob"
    with running(path, judge), client(server, "bob", "bobs-own-password") as bob:
        assert bob.acl_whoami() == "bob"
    assert judge.asked == []


def test_without_an_agent_nobody_is_let_in(engine: Callable[..., Any], path: Path, judge: Judge) -> None:
    server = engine()
    with client(server, "alice", token()) as alice, pytest.raises(ResponseError, match="not available now"):
        alice.ping()
    with running(path, judge), client(server, "alice", token()) as alice:
        assert alice.acl_whoami() == "alice"
    with client(server, "alice", token()) as alice, pytest.raises(ResponseError, match="not available now"):
        alice.ping()
    assert counters(server)["unanswered"] == 2


@pytest.mark.parametrize("answer", [b"", b"?", b"\0", None])
def test_an_agent_that_talks_nonsense_or_nothing_lets_nobody_in(
    engine: Callable[..., Any], path: Path, answer: bytes | None
) -> None:
    server = engine()
    path.parent.mkdir(mode=0o700)
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen()

        def reply() -> None:
            link, _ = listener.accept()
            with link:
                link.recv(1 << 16)
                if answer is None:
                    while link.recv(1 << 16):  # say nothing until the engine hangs up
                        pass
                else:
                    link.sendall(answer)

        thread = threading.Thread(target=reply)
        thread.start()
        with client(server, "alice", token()) as alice, pytest.raises(ResponseError, match="not available now"):
            alice.ping()
        thread.join(20)


def test_others_are_served_while_the_agent_thinks(engine: Callable[..., Any], path: Path, judge: Judge) -> None:
    server = engine()
    judge.hold.clear()
    with running(path, judge), client(server, "alice", token()) as alice:
        who: list[Any] = []
        thread = threading.Thread(target=lambda: who.append(alice.acl_whoami()))
        thread.start()
        deadline = time.monotonic() + 20
        while not judge.asked and time.monotonic() < deadline:
            assert server.ask("PING") == b"PONG"
        judge.hold.set()
        thread.join(20)
    assert who == ["alice"]


def test_a_client_that_goes_while_it_waits_does_no_harm(engine: Callable[..., Any], path: Path, judge: Judge) -> None:
    server = engine()
    judge.hold.clear()
    with running(path, judge):
        for _ in range(20):
            with socket.create_connection((server.host, server.port), timeout=20) as plain:
                text = token().encode()
                plain.sendall(b"*3\r\n$4\r\nAUTH\r\n$5\r\nalice\r\n$%d\r\n%s\r\n" % (len(text), text))
        judge.hold.set()
        with client(server, "alice", token()) as alice:
            assert alice.acl_whoami() == "alice"
    assert server.ask("PING") == b"PONG"


def test_a_transaction_cannot_authenticate(engine: Callable[..., Any], path: Path, judge: Judge) -> None:
    server = engine()
    with running(path, judge), client(server, "bob", "bobs-own-password", single_connection_client=True) as bob:
        bob.execute_command("MULTI")
        with suppress(ResponseError):
            bob.execute_command("AUTH", "alice", token())
        with suppress(ResponseError):
            bob.execute_command("EXEC")
        assert bob.acl_whoami() == "bob"
        assert server.ask("PING") == b"PONG"


def _ended(one: valkey.Valkey[Any]) -> bool:
    try:
        one.ping()
    except ConnectionError:
        return True
    return False


def test_a_connection_is_closed_when_its_time_is_over(
    engine: Callable[..., Any], path: Path, judge: Judge, wait_until: Callable[..., Any]
) -> None:
    server = engine("9.1", "1500")
    lone = {"single_connection_client": True, "retry_on_error": [], "retry": None}
    with running(path, judge), client(server, "alice", token(), **lone) as alice:
        began = time.monotonic()
        number = alice.client_id()
        assert number in _clients(server)
        # Agent and service are needed for none of it.
        while time.monotonic() - began < 1.0:
            alice.execute_command("AUTH", "alice", token())
            assert alice.client_id() == number
        # What authenticated anew began a new lifetime; what became somebody else by a password has none.
        alice.execute_command("AUTH", "bob", "bobs-own-password")
        with client(server, "alice", token(), **lone) as other:
            own = other.client_id()
            wait_until(lambda: own not in _clients(server), "the connection is closed", 30.0)
        assert alice.client_id() == number
    assert counters(server)["expired"] == 1


def _clients(server: Any) -> set[int]:
    lines = server.ask("CLIENT", "LIST").decode().splitlines()
    return {int(line.split()[0].partition("=")[2]) for line in lines}


def test_many_at_once_are_let_in_or_told_to_try_again(engine: Callable[..., Any], path: Path, judge: Judge) -> None:
    server = engine()
    text = token().encode()
    request = b"*3\r\n$4\r\nAUTH\r\n$5\r\nalice\r\n$%d\r\n%s\r\n" % (len(text), text)
    judge.hold.clear()
    links = [socket.create_connection((server.host, server.port), timeout=30) for _ in range(160)]
    try:
        with running(path, judge):
            for link in links:
                link.sendall(request)
            server.ask("PING")
            judge.hold.set()
            answers = [link.recv(200) for link in links]
    finally:
        for link in links:
            link.close()
    told = counters(server)
    assert sum(answer == b"+OK\r\n" for answer in answers) == told["let_in"] >= 1
    assert told["let_in"] + told["throttled"] + told["unanswered"] == 160
    assert all(answer.startswith((b"+OK", b"-ERR")) for answer in answers)


def test_the_socket_is_private_and_refuses_what_is_no_question(path: Path, judge: Judge) -> None:
    with running(path, judge):
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
        for question in (
            b"\xff\xff\xff\xff",
            b"\0\0\0\0",
            b"\0\0\0\1x",
            b"\0\0\0\5\xff\xffabc",
            b"\0\0\0\4\0\0\xff\xff",
            os.urandom(300),
        ):
            with socket.socket(socket.AF_UNIX) as link:
                link.settimeout(20)
                link.connect(str(path))
                with suppress(OSError):
                    link.sendall(question)
                    link.shutdown(socket.SHUT_WR)
                with suppress(ConnectionResetError):
                    assert link.recv(10) in (b"", b"N")
    assert judge.asked == []
    assert not path.exists()


def test_a_folder_that_is_not_ours_is_not_used(path: Path, tmp_path: Path, judge: Judge) -> None:
    (tmp_path / "elsewhere").mkdir()
    path.parent.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(WorldError, match="cannot be made"):
        asyncio.run(Agent(path, judge).start())


def test_a_deep_state_directory_has_its_socket_elsewhere(tmp_path: Path) -> None:
    deep = tmp_path / ("x" * 120)
    assert len(str(socket_path(deep))) <= 107
    assert socket_path(deep) == socket_path(deep) != socket_path(tmp_path / ("y" * 120))


def test_the_module_is_built_once_and_only_where_it_is_trusted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    built = find_or_build(tmp_path)
    assert stat.S_IMODE(built.stat().st_mode) == 0o500
    stamp = built.stat()
    assert find_or_build(tmp_path) == built
    assert built.stat().st_ino == stamp.st_ino
    assert [path.name for path in built.parent.iterdir()] == [built.name]
    built.chmod(0o777)  # somebody else might have written it: built anew
    assert find_or_build(tmp_path) == built
    assert stat.S_IMODE(built.stat().st_mode) == 0o500
    monkeypatch.setenv("PATH", str(tmp_path))
    assert find_or_build(tmp_path) == built
    with pytest.raises(WorldError, match="no C compiler"):
        find_or_build(tmp_path / "other")
    monkeypatch.setattr(module_build, "PLACES", (built.parent,))
    assert find_or_build(tmp_path / "other") == built


def test_a_compiler_that_fails_is_told_and_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    broken = tmp_path / "bin" / "cc"
    broken.parent.mkdir()
    broken.write_text("#!/bin/sh\necho 'fatal error: stdint.h: No such file' >&2\nexit 1\n")
    broken.chmod(0o755)
    monkeypatch.setenv("PATH", str(broken.parent))
    with pytest.raises(WorldError, match=r"cannot build .* stdint\.h"):
        find_or_build(tmp_path)
    assert list((tmp_path / "modules").iterdir()) == []


def test_engines_without_such_callbacks_do_not_load_it(
    start_server: Callable[..., Any], module: Path, path: Path, wait_until: Callable[..., Any]
) -> None:
    server = start_server("6.2", "--loadmodule", str(module), str(path), NODE, users=USERS, wait=False)
    wait_until(lambda: "OnLoad" in server.log(), "the engine says why it ends")
