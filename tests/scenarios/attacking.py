"""What the security review attacks engines with: commands that nobody may use, connections without a handshake, and
somebody who knocks all the time. Used by test_security_review.
"""

from __future__ import annotations

import re
import socket
import threading
from collections import Counter
from contextlib import ExitStack, suppress
from typing import Any

import valkey

from cachekeep import credentials

from .conftest import Service
from .test_users import Made

# What no user gets, whatever its access string says.
REFUSED = """
CONFIG GET *|config get masterauth|CONFIG SET requirepass x|CONFIG REWRITE|CONFIG RESETSTAT|ACL LIST
ACL GETUSER cachekeep|ACL SETUSER eve nopass|ACL DELUSER eve|ACL LOAD|ACL SAVE|ACL DRYRUN eve get x|MODULE LIST
REPLICAOF NO ONE|SLAVEOF NO ONE|FAILOVER|PSYNC ? -1|SYNC|REPLCONF listening-port 1|DEBUG SLEEP 0
MIGRATE 127.0.0.1 1 k 0 100|SHUTDOWN NOSAVE|SAVE|BGSAVE|BGREWRITEAOF|CLUSTER RESET|CLUSTER MEET 127.0.0.1 1
CLUSTER FAILOVER FORCE|CLUSTER FORGET x|PFSELFTEST|RESTORE-ASKING a 0 x
"""
# What it gets, and what must not tell a secret.
TOLD = "ACL USERS|ACL LOG|CLIENT LIST|CLIENT INFO|INFO everything|SLOWLOG GET 1000|LATENCY DOCTOR|COMMAND|ROLE|HELLO 3"


def engine_secrets(service: Service) -> set[str]:
    """The service's password, those of the links, and the digests of all."""
    files = [path.read_text() for path in service.nodes_root.glob("**/engine.conf")]
    return {credentials.load_engine_password(service.state_dir), *re.findall(r"[0-9a-f]{64}", "".join(files))}


def group_of_eve(made: Made) -> str:
    """Of a user who may do whatever a user can be allowed."""
    return made.user_group(made.user("on ~* &* +@all", name="eve"))


def ask(client: Any, words: str) -> str:
    """The answer, or the refusal, as text."""
    try:
        return str(client.execute_command(*words.split()))
    except valkey.ResponseError as error:
        return f"refused: {error}"


def attack(client: Any, secrets: set[str]) -> None:
    for words in REFUSED.strip().replace("\n", "|").split("|"):
        name = words.split()[0].lower()
        script = f"return redis.call({', '.join(repr(word) for word in words.split())})"
        for answer in (ask(client, words), _eval(client, script)):
            assert answer.startswith("refused: "), words
            assert not [secret for secret in secrets if secret in answer], words
        assert "ermission" in ask(client, words) or name in ("debug", "module"), words
    for words in TOLD.split("|"):
        assert not [secret for secret in secrets if secret in ask(client, words)], words


def _eval(client: Any, script: str) -> str:
    try:
        return str(client.eval(script, 0))
    except valkey.ResponseError as error:
        return f"refused: {error}"


class Raw:
    """A connection without a handshake: what is sent is what was meant."""

    def __init__(self, endpoint: dict[str, Any], stack: ExitStack) -> None:
        self._link = stack.enter_context(socket.create_connection((endpoint["Address"], endpoint["Port"]), 20))

    def execute_command(self, *words: str) -> str:
        self._link.sendall(" ".join(words).encode() + b"\r\n")
        answer = self._link.recv(4096).decode()
        if not answer or answer.startswith("-"):
            raise valkey.ResponseError(answer)
        return answer

    def first_answer(self, *words: bytes) -> bytes:
        """To a command whose words hold whatever they hold."""
        parts = b"".join(b"$%d\r\n%s\r\n" % (len(word), word) for word in words)
        self._link.sendall(b"*%d\r\n%s" % (len(words), parts))
        return self._link.recv(4096)

    def wait_for_end(self) -> None:
        """Until the other side hangs up. Raises TimeoutError."""
        with suppress(ConnectionResetError):
            while self._link.recv(4096):
                pass


def raw(made: Made, endpoint: dict[str, Any]) -> Raw:
    return Raw(endpoint, made.stack)


class Knocking:
    """Asks every address of a service for a key, without a name, as often as it can, and keeps what it was told."""

    def __init__(self, service: Service) -> None:
        self.answers: Counter[str] = Counter()
        self._hosts = [str(host) for host in service.network.hosts()]
        self._over = threading.Event()
        self._threads = [threading.Thread(target=self._knock, args=(self._hosts[at::3],)) for at in range(3)]

    def __enter__(self) -> Knocking:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        for thread in self._threads:
            thread.join()

    def _knock(self, hosts: list[str]) -> None:
        while not self._over.is_set():
            for host in hosts:
                with suppress(OSError), socket.create_connection((host, 6379), 1) as link:
                    link.sendall(b"GET x\r\n")
                    self.answers[link.recv(100).decode().split(" ")[0].strip()] += 1
