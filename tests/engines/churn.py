"""Changes of every kind without an end, by a client that survives what servers do. Not a test.

`Churn` writes from a thread of its own until it is stopped; while it is paused nothing of it is in flight anywhere.
"""

from __future__ import annotations

import random
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any, Self

import valkey
from churn_operations import BIG, Commands, Maker, Mix, Word
from truth import Listening
from valkey.crc import key_slot

NAME = "churn"
_BATCH = 12
_WITHIN_S = 60.0
_RETRY_S = 0.02
_ANSWER_S = 20.0
_GONE = (valkey.ConnectionError, valkey.TimeoutError, OSError)
# What a server says that is not, or not any more, the one to write to.
_ELSEWHERE = ("READONLY", "MOVED", "LOADING", "CLUSTERDOWN", "MASTERDOWN", "UNKILLABLE")

Address = tuple[str, int]


class Churn:
    """servers: one that is a primary, or all that may become one; of a cluster: some nodes.

    commands_per_s: 0: as fast as it gets. rare: whole sequences now and then, such as FLUSHDB, once in rare_every
    operations. late: a database that is first written to after late_after operations. done: answered commands.
    """

    def __init__(
        self,
        servers: Sequence[Listening],
        *,
        seed: int,
        commands_per_s: float = 3000,
        tags: int = 40,
        names: int = 6,
        databases: Sequence[int] = (0, 1, 5),
        late: int | None = 11,
        late_after: int = 2000,
        large: int = BIG,
        libraries: bool = True,
        rare: Sequence[Commands] = (),
        rare_every: int = 1500,
    ) -> None:
        self._servers, self._rate = [(one.host, one.port) for one in servers], commands_per_s
        with _client(self._servers[0]) as first:
            self._clustered = b"cluster_enabled:1" in first.execute_command("INFO", "cluster")
        version = tuple(map(int, servers[0].version.split(".")))
        chance = random.Random(seed)
        maker = Maker(chance, version, tags, names, not self._clustered, [0] if self._clustered else list(databases))
        maker.big = large
        self._mix = Mix(maker, large=bool(large), libraries=libraries)
        self._random, self._maker = chance, maker
        self._late, self._late_after = None if self._clustered else late, late_after
        self._rare, self._rare_every = rare, rare_every
        self._connections: dict[tuple[Address, int], valkey.Connection] = {}
        self._slots: list[Address | None] = []
        self.done, self.losses, self.refusals = 0, 0, Counter[str]()
        self._operations = 0
        self._wanted = threading.Event()  # running
        self._resting, self._stop = threading.Event(), threading.Event()
        self._resting.set()
        self._failure: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name=NAME)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._stop.set()
        self._wanted.set()
        self._thread.join()
        self._hang_up()
        if self._failure is not None and exc[0] is None:
            raise self._failure

    def fill(self, operations: int) -> None:
        """So many at once, before it starts or while it is paused."""
        assert self._resting.is_set()
        for _ in range(operations // _BATCH):
            self._batch()
        self._hang_up()

    def resume(self) -> None:
        self._resting.clear()
        self._wanted.set()

    def pause(self) -> None:
        """Returns when no server has anything of it any more."""
        self._wanted.clear()
        assert self._resting.wait(_WITHIN_S * 2), "the churn did not come to rest"
        if self._failure is not None:
            raise self._failure

    @contextmanager
    def paused(self) -> Iterator[None]:
        self.pause()
        yield
        self.resume()

    def do(self, commands: int) -> None:
        """Return when so many more were answered."""
        goal, deadline = self.done + commands, time.monotonic() + 2 * _WITHIN_S
        while self.done < goal and self._failure is None:
            assert time.monotonic() < deadline, f"{self.done} of {goal} commands; {self.refusals}"
            time.sleep(0.01)
        if self._failure is not None:
            raise self._failure

    # Below: in the thread.

    def _run(self) -> None:
        try:
            due = time.monotonic()
            while not self._stop.is_set():
                if not self._wanted.is_set():
                    self._rest()
                    self._wanted.wait()
                    due = time.monotonic()
                    continue
                before = self.done
                self._batch()
                if self._rate:
                    due = max(due, time.monotonic() - 0.2) + (self.done - before) / self._rate
                    self._stop.wait(max(0.0, due - time.monotonic()))
        except BaseException as error:  # noqa: BLE001  # told to whoever waits
            self._failure = error
            self._resting.set()

    def _rest(self) -> None:
        """What was sent on connections that broke may be carried out late: until no server knows them."""
        self._hang_up()
        deadline = time.monotonic() + _WITHIN_S
        for address in self._all():
            while any(one.get("name") == NAME for one in _clients_of(address)):
                assert time.monotonic() < deadline, f"{address} still has connections of the churn"
                time.sleep(_RETRY_S)
        if not self._wanted.is_set():
            self._resting.set()

    def _all(self) -> list[Address]:
        known = [address for address in self._slots if address is not None]
        return list(dict.fromkeys([*self._servers, *known]))

    def _batch(self) -> None:
        """Some operations, each batch in one database; they go out together, as from a client with a pipeline."""
        maker = self._maker
        if self._late is not None and self._operations >= self._late_after:
            maker.databases, self._late = [*maker.databases, self._late], None
        db = self._random.choice(list(maker.databases))
        made: dict[Address, list[Commands]] = {}
        for _ in range(_BATCH):
            self._operations += 1
            commands = self._mix.draw()
            if self._rare and self._operations % self._rare_every == 0:
                commands = self._random.choice(list(self._rare))
            made.setdefault(self._owner(b"{%d}" % maker.tag), []).append(commands)
        for address, operations in made.items():
            try:
                self._send(address, db, operations)
            except _GONE:
                self.losses += 1
                self._forget(address)

    def _owner(self, tag: bytes) -> Address:
        """Waits until there is one."""
        deadline = time.monotonic() + _WITHIN_S
        while True:
            if not self._slots:
                self._slots = self._topology()
            owner = self._slots[key_slot(tag)] if self._slots else None
            if owner is not None:
                return owner
            self._slots = []
            assert time.monotonic() < deadline, f"no server to write to among {self._servers}"
            if self._stop.wait(_RETRY_S):
                raise SystemExit

    def _topology(self) -> list[Address | None]:
        """Per slot its owner; outside of clusters the primary has all."""
        for address in self._servers:
            with suppress(valkey.ValkeyError, OSError), _client(address) as client:
                if not self._clustered:
                    if client.execute_command("ROLE")[0] == b"master":
                        return [address] * 16384
                    continue
                found: list[Address | None] = [None] * 16384
                for first, last, owner, *_ in client.execute_command("CLUSTER", "SLOTS"):
                    found[first : last + 1] = [(owner[0].decode(), owner[1])] * (last + 1 - first)
                return found
        return []

    def _send(self, address: Address, db: int, operations: list[Commands]) -> None:
        commands = [command for operation in operations for command in operation]
        connection = self._connection(address, db)
        connection.send_packed_command(connection.pack_commands(commands))
        asked: list[tuple[Word, ...]] = []
        for command in commands:
            reply = _reply(connection)
            self.done += 1
            if isinstance(reply, valkey.ResponseError):
                self._refused(command, reply, asked)
            else:
                self._learn(command, reply)
        for command in asked:
            self._ask_there(command)

    def _refused(self, command: tuple[Word, ...], error: valkey.ResponseError, asked: list[tuple[Word, ...]]) -> None:
        code = str(error).partition(" ")[0] if type(error) is valkey.ResponseError else type(error).__name__
        self.refusals[code] += 1
        if isinstance(error, valkey.exceptions.AskError):
            asked.append((*error.args[0].split()[-1].rsplit(":", 1), *command))
        elif code in _ELSEWHERE or isinstance(error, _MOVED):
            self._slots = []

    def _ask_there(self, command: tuple[Word, ...]) -> None:
        host, port, *words = command
        with suppress(*_GONE, valkey.ResponseError):
            connection = self._connection((str(host), int(port)), 0)
            connection.send_packed_command(connection.pack_commands([("ASKING",), tuple(words)]))
            for _ in range(2):
                _reply(connection)

    def _learn(self, command: tuple[Word, ...], reply: Any) -> None:
        if command[0] == "DUMP" and reply:
            self._maker.payloads.append(reply)
        elif command[0] == "XREADGROUP" and isinstance(reply, list):
            for stream, entries in reply:
                self._maker.delivered.extend((stream, str(command[2]).encode(), entry[0]) for entry in entries)

    def _connection(self, address: Address, db: int) -> valkey.Connection:
        place = address, db
        if place not in self._connections:
            made = valkey.Connection(
                host=address[0], port=address[1], db=db, client_name=NAME, socket_timeout=_ANSWER_S, retry=None
            )
            self._connections[place] = made
            made.connect()
        return self._connections[place]

    def _forget(self, address: Address) -> None:
        for place in [place for place in self._connections if place[0] == address]:
            self._connections.pop(place).disconnect()
        self._slots = []

    def _hang_up(self) -> None:
        for connection in self._connections.values():
            connection.disconnect()
        self._connections.clear()


_MOVED = (valkey.exceptions.MovedError, valkey.exceptions.ClusterDownError, valkey.exceptions.ReadOnlyError)


def _reply(connection: valkey.Connection) -> Any:
    """An error reply as a value, but for those that say that the server is not there yet."""
    try:
        return connection.read_response(disconnect_on_error=False)
    except valkey.ResponseError as error:
        return error


def _client(address: Address) -> valkey.Valkey:
    made = valkey.Valkey(host=address[0], port=address[1], socket_timeout=_ANSWER_S, socket_connect_timeout=2)
    made.response_callbacks.clear()
    return made


def _clients_of(address: Address) -> list[dict[str, str]]:
    """Of a server that is gone there are none."""
    with suppress(*_GONE), _client(address) as client:
        lines = client.execute_command("CLIENT", "LIST").decode().splitlines()
        return [dict(word.split("=", 1) for word in line.split() if "=" in word) for line in lines]
    return []
