"""The hand-over of the primary's role under writers, and every way in which it can break off."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pytest

from cachekeep.domain.nodes import Address
from cachekeep.domain.ports import WorldError
from cachekeep.engine.admin import Admin

if TYPE_CHECKING:
    from conftest import Server

VERSIONS = ["9.1", "8.1", "7.0", "6.2"]
SLOW = pytest.mark.slow
Wait = Callable[..., Any]


class Writer(threading.Thread):
    """Counts one key up through an address, connecting anew whenever it must. acknowledged: the last answer."""

    def __init__(self, host: str, key: str) -> None:
        super().__init__(daemon=True)
        self.host, self.key = host, key
        self.acknowledged = self.answers = self.backwards = 0
        self.ended = threading.Event()

    def run(self) -> None:
        while not self.ended.is_set():
            with suppress(OSError), socket.create_connection((self.host, 6379), timeout=15) as link:
                while not self.ended.is_set() and self._count(link):
                    pass
            self.ended.wait(0.001)

    def _count(self, link: socket.socket) -> bool:
        link.sendall(f"INCR {self.key}\r\n".encode())
        answer = link.recv(200)
        if not answer.startswith(b":"):
            return False
        value = int(answer[1:])
        self.backwards += value <= self.acknowledged
        self.acknowledged = value
        self.answers += 1
        return True


@dataclass
class Pair:
    """Two engines, the first the primary with the endpoint, and writers through the endpoint."""

    old: Server
    new: Server
    endpoint: str
    wait: Wait
    writers: list[Writer] = field(default_factory=list)

    async def hand_over(self, *, through: Address | None = None, to: Address | None = None) -> None:
        """through, to: reach the old one and the successor by these addresses instead of their own."""
        old, new = Address(self.old.host, 6379), Address(self.new.host, 6379)
        await Admin().switch_over(through or old, to or new, [old.host], [new.host, self.endpoint], [self.endpoint])

    def swapped(self) -> Pair:
        return Pair(self.new, self.old, self.endpoint, self.wait, self.writers)

    def linked(self) -> bool:
        return b"master_link_status:up" in self.new.ask("INFO", "replication")

    def writes_go_on(self) -> None:
        """Every writer got answers from now on."""
        before = [writer.answers for writer in self.writers]
        self.wait(lambda: all(w.answers > n + 5 for w, n in zip(self.writers, before, strict=True)), "writes go on")

    def check(self) -> None:
        """`old` is the primary behind the endpoint, with every write that was acknowledged."""
        assert role(self.old) == b"master"
        assert binds(self.old) == [self.old.host, self.endpoint]
        self.writes_go_on()
        for writer in self.writers:
            writer.ended.set()
        for writer in self.writers:
            writer.join(20)
            assert writer.backwards == 0
            assert int(self.old.ask("GET", writer.key)) >= writer.acknowledged > 0


def role(server: Server) -> Any:
    return server.ask("ROLE")[0]


def binds(server: Server) -> list[str]:
    return str(server.ask("CONFIG", "GET", "bind")[1].decode()).split()


@pytest.fixture
def pair(start_server: Any, fresh_address: Any, wait_until: Wait) -> Iterator[Callable[..., Pair]]:
    made: list[Pair] = []

    def make(version: str, writers: int = 4) -> Pair:
        own = ("--repl-diskless-sync-delay", "0")
        old, new, endpoint = start_server(version, *own), start_server(version, *own), fresh_address().host
        old.ask("CONFIG", "SET", "bind", f"{old.host} {endpoint}")
        new.ask("REPLICAOF", old.host, old.port)
        both = Pair(old, new, endpoint, wait_until, [Writer(endpoint, f"count{n}") for n in range(writers)])
        made.append(both)
        wait_until(both.linked, "the replica is linked")
        for writer in both.writers:
            writer.start()
        both.writes_go_on()
        return both

    yield make
    for both in made:
        for writer in both.writers:
            writer.ended.set()


@pytest.mark.parametrize("version", VERSIONS)
def test_no_acknowledged_write_is_lost_by_hand_overs(pair: Any, version: str, wait_until: Wait) -> None:
    both = pair(version)
    first = both
    for _ in range(10):
        asyncio.run(both.hand_over())
        assert binds(both.old) == [both.old.host]
        both = both.swapped()
        assert role(both.new) == b"slave"
        both.writes_go_on()
        wait_until(both.linked, "the old primary follows")
    both.check()
    full = [server.ask("INFO", "stats") for server in (first.old, first.new)]
    assert b"sync_full:1\r\n" in full[0], "the one that made the replica"
    assert b"sync_full:0\r\n" in full[1]


def test_addresses_are_exchanged(pair: Any, fresh_address: Any, wait_until: Wait) -> None:
    both, reader = pair("9.1"), fresh_address().host
    both.new.ask("CONFIG", "SET", "bind", f"{both.new.host} {reader}")
    old, new = both.old, both.new
    with socket.create_connection((reader, 6379), timeout=5) as reading:
        asyncio.run(
            Admin().switch_over(
                Address(old.host, 6379),
                Address(new.host, 6379),
                [old.host, reader],
                [new.host, both.endpoint],
                [both.endpoint],
            )
        )
        assert reading.recv(1) == b"", "who read through the address that the successor gave up was cut"
    assert binds(old) == [old.host, reader]
    both.swapped().check()


def test_one_that_is_not_ready_is_refused(pair: Any) -> None:
    both = pair("9.1")
    with pytest.raises(WorldError, match="is not a primary"):
        asyncio.run(both.swapped().hand_over())
    both.new.ask("REPLICAOF", "NO", "ONE")
    with pytest.raises(WorldError, match="is not a replica"):
        asyncio.run(both.hand_over())
    both.new.ask("REPLICAOF", both.endpoint, 9)
    with pytest.raises(WorldError, match="is not linked to its primary"):
        asyncio.run(both.hand_over())
    both.check()


class Interposed:
    """An address that leads to a server. When what a client sends holds a word, something is done once, first."""

    def __init__(self, server: Server, address: Address, word: bytes, action: Callable[[], None]) -> None:
        self.server, self.address, self.word, self.action = server, address, word, action
        self.done = False
        self.dead = False
        self._links: list[asyncio.StreamWriter] = []

    async def __aenter__(self) -> Interposed:
        self._listening = await asyncio.start_server(self._serve, self.address.host, self.address.port)
        return self

    async def __aexit__(self, *_: object) -> None:
        self.close()
        await asyncio.sleep(0)

    def close(self) -> None:
        self._listening.close()
        for link in self._links:
            link.close()

    async def _serve(self, client: asyncio.StreamReader, back: asyncio.StreamWriter) -> None:
        try:
            reader, writer = await asyncio.open_connection(self.server.host, self.server.port)
        except OSError:
            back.close()
            return
        self._links += [back, writer]
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._pass(client, writer, watched=True))
                group.create_task(self._pass(reader, back))
        except* OSError:
            back.close()

    async def _pass(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, watched: bool = False) -> None:
        while data := await reader.read(65536):
            if watched and self.word in data and not self.done:
                self.done = True
                self.action()
                if self.dead:
                    self.close()
            writer.write(data)
            await writer.drain()
        writer.close()

    def kill(self) -> None:
        self.server.stop()
        self.dead = True

    def stop(self) -> None:
        os.kill(self.server.pid, signal.SIGSTOP)


async def broken_off(
    both: Pair, interposed: Server, address: Address, word: bytes, how: str, victim: Server | None = None
) -> WorldError | None:
    """Hand over; when the old one or the successor is sent the word, kill or stop it (or the victim) first."""
    middle = Interposed(interposed, address, word, lambda: None)
    if victim is not None:
        middle.action = victim.stop if how == "kill" else lambda: os.kill(victim.pid, signal.SIGSTOP)
    else:
        middle.action = middle.kill if how == "kill" else middle.stop
    async with middle:
        reach = {"through": address} if interposed is both.old else {"to": address}
        try:
            await both.hand_over(**reach)
        except WorldError as error:
            return error
        finally:
            assert middle.done
    return None


FAILURES = ["9.1", *(pytest.param(version, marks=SLOW) for version in VERSIONS[1:])]


@pytest.mark.parametrize("version", FAILURES)
@pytest.mark.parametrize("word", [b"ROLE", b"PAUSE"])
def test_successor_that_dies_before_it_is_promoted_changes_nothing(
    pair: Any, fresh_address: Any, version: str, word: bytes
) -> None:
    both = pair(version)
    begun = time.monotonic()
    error = asyncio.run(broken_off(both, both.new, fresh_address(), word, "kill"))
    assert isinstance(error, WorldError)
    assert time.monotonic() - begun < 8, "it does not wait for the pause to end"
    both.check()


@pytest.mark.parametrize("version", FAILURES)
def test_successor_that_hangs_while_it_catches_up_changes_nothing(
    pair: Any, fresh_address: Any, version: str, wait_until: Wait
) -> None:
    both = pair(version)
    error = asyncio.run(broken_off(both, both.new, fresh_address(), b"ROLE", "stop"))
    assert "did not answer" in str(error)
    both.writes_go_on()
    os.kill(both.new.pid, signal.SIGCONT)
    wait_until(both.linked, "it follows as before")
    both.check()
    assert role(both.new) == b"slave"


@pytest.mark.parametrize("version", FAILURES)
@pytest.mark.parametrize("word", [b"ONE", b"SET", b"UNPAUSE"])
def test_successor_that_dies_meanwhile_is_given_up(pair: Any, fresh_address: Any, version: str, word: bytes) -> None:
    both = pair(version)
    error = asyncio.run(broken_off(both, both.new, fresh_address(), word, "kill"))
    assert isinstance(error, WorldError)
    both.check()


@pytest.mark.parametrize("version", FAILURES)
def test_old_primary_that_dies_leaves_everything_to_the_successor(pair: Any, fresh_address: Any, version: str) -> None:
    both = pair(version)
    error = asyncio.run(broken_off(both, both.old, fresh_address(), b"REPLICAOF", "kill"))
    assert error is None
    both.swapped().check()


@pytest.mark.parametrize("version", FAILURES)
def test_old_primary_that_hangs_when_it_is_to_follow_stays_the_primary(
    pair: Any, fresh_address: Any, version: str, wait_until: Wait
) -> None:
    both = pair(version)

    async def run() -> None:
        error = await broken_off(both, both.old, fresh_address(), b"REPLICAOF", "stop")
        assert "did not answer" in str(error)

    asyncio.run(run())
    assert role(both.new) == b"slave"
    os.kill(both.old.pid, signal.SIGCONT)
    wait_until(lambda: role(both.old) == b"master", "it is the primary")
    both.check()


@pytest.mark.parametrize("version", FAILURES)
def test_old_primary_that_hangs_at_the_pause_is_not_left_paused(
    pair: Any, fresh_address: Any, version: str, wait_until: Wait
) -> None:
    both = pair(version)
    error = asyncio.run(broken_off(both, both.old, fresh_address(), b"PAUSE", "stop"))
    assert "did not answer" in str(error)
    os.kill(both.old.pid, signal.SIGCONT)
    begun = time.monotonic()
    both.writes_go_on()
    assert time.monotonic() - begun < 8
    both.check()
    assert role(both.new) == b"slave"


@pytest.mark.parametrize("version", FAILURES)
def test_old_primary_that_refuses_to_follow_stays_the_primary(pair: Any, version: str, wait_until: Wait) -> None:
    both = pair(version)
    both.old.ask("ACL", "SETUSER", "default", "-replicaof")
    with pytest.raises(WorldError, match="refused REPLICAOF"):
        asyncio.run(both.hand_over())
    both.old.ask("ACL", "SETUSER", "default", "+@all")
    assert role(both.new) == b"slave"
    both.check()


def test_addresses_that_are_taken_leave_all_as_it_was(pair: Any, fresh_address: Any) -> None:
    both, taken = pair("9.1"), fresh_address().host

    async def run() -> None:
        with socket.socket() as holder:
            holder.bind((taken, 6379))
            holder.listen()
            old, new = Address(both.old.host, 6379), Address(both.new.host, 6379)
            with pytest.raises(WorldError, match="Failed to bind"):
                await Admin().switch_over(old, new, [old.host], [new.host, both.endpoint, taken], [both.endpoint])

    asyncio.run(run())
    assert (role(both.new), binds(both.new)) == (b"slave", [both.new.host])
    both.check()


def test_cancelled_hand_over_is_whole_or_nothing(pair: Any, wait_until: Wait) -> None:
    both = pair("9.1")

    async def run(turns: int) -> None:
        task = asyncio.create_task(both.hand_over())
        for _ in range(turns):
            await asyncio.sleep(0)
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task

    for turns in range(0, 60, 6):
        asyncio.run(run(turns))
        if role(both.old) == b"slave":
            both = both.swapped()
        both.writes_go_on()
        wait_until(both.linked, "the replica is linked")
    both.check()
