"""Slots moved key by key under writers through a stock cluster client, broken off anywhere and taken up again."""

from __future__ import annotations

import asyncio
import os
import signal
import threading
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import pytest
import valkey
from valkey.cluster import ValkeyCluster

from cachekeep.codec.slots import tag_of
from cachekeep.domain.engine import Engine
from cachekeep.domain.nodes import Address, ClusterFacts, Peer, Role
from cachekeep.domain.ports import WorldError
from cachekeep.domain.slots import numbers_of, parse_slots
from cachekeep.engine.admin import Admin
from cachekeep.engine.move_slots import divide

if TYPE_CHECKING:
    from conftest import Server

VERSIONS = ["8.1", "6.2", pytest.param("7.0", marks=pytest.mark.slow)]
WITH_6 = ["6.2", *(pytest.param(version, marks=pytest.mark.slow) for version in ("8.1", "7.0"))]
WITH_8 = ["8.1", *(pytest.param(version, marks=pytest.mark.slow) for version in ("7.0", "6.2"))]
Eventually = Callable[..., Awaitable[Any]]
WANTED = parse_slots("0-299")


class Writer(threading.Thread):
    """Counts keys up through a cluster client. counts: key -> the last answer."""

    def __init__(self, node: Server, number: int) -> None:
        super().__init__(daemon=True)
        self.client: Any = ValkeyCluster(host=node.host, port=node.port)
        self.keys = [f"{{{tag_of(slot).decode()}}}{number}:{part}" for slot in range(300) for part in range(4)]
        self.counts: dict[str, int] = {}
        self.backwards = 0
        self.errors: list[str] = []
        self.ended = threading.Event()

    def run(self) -> None:
        while not self.ended.is_set():
            for key in self.keys:
                if self.ended.is_set():
                    return
                try:
                    value = int(self.client.incr(key))
                except (valkey.ValkeyError, OSError) as error:
                    self.errors.append(repr(error))
                    continue
                self.backwards += value <= self.counts.get(key, 0)
                self.counts[key] = value

    def check(self) -> None:
        self.ended.set()
        self.join(20)
        assert self.backwards == 0
        assert self.counts
        lost = {key: count for key, count in self.counts.items() if int(self.client.get(key) or 0) < count}
        assert lost == {}
        self.client.close()


class Two:
    """A source and a target of slots, each perhaps with a replica."""

    def __init__(self, nodes: list[Server]) -> None:
        self.nodes = nodes
        self.source, self.target = nodes[0], nodes[1]
        self.admin = Admin()

    async def facts(self, node: Server) -> ClusterFacts:
        known = (await self.admin.facts(Engine.VALKEY, Address(node.host, node.port), [])).cluster
        assert known is not None
        return known

    async def call(self, slots: Any = WANTED) -> None:
        source, target = await self.facts(self.source), await self.facts(self.target)
        await self.admin.move_slots(
            Address(self.source.host, self.source.port),
            slots,
            source.id,
            Address(self.target.host, self.target.port),
            target.id,
            [Address(node.host, node.port) for node in self.nodes[2:3]],
        )

    async def moved(self, slots: Any = WANTED) -> bool:
        source, target = await self.facts(self.source), await self.facts(self.target)
        wanted = numbers_of(slots)
        there = wanted <= numbers_of(target.slots) and not wanted & numbers_of(source.slots)
        return there and not (source.exporting or target.importing)

    async def finish(self) -> None:
        deadline = time.monotonic() + 60
        while not await self.moved():
            assert time.monotonic() < deadline
            try:
                await self.call()
            except WorldError:  # it does not know yet that the target's roles have changed
                await asyncio.sleep(0.05)
        await self.admin.close()


@pytest.mark.parametrize("version", VERSIONS)
def test_nothing_is_lost_when_moving_is_broken_off_again_and_again(start_cluster: Any, version: str) -> None:
    two = Two(start_cluster(version, 3, arguments=("--cluster-node-timeout", "5000")))
    writers = [Writer(two.source, number) for number in range(2)]
    for writer in writers:
        writer.start()

    async def run() -> None:
        for turns in range(40, 2000, 120):
            task = asyncio.create_task(two.call())
            for _ in range(turns):
                await asyncio.sleep(0)
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task
            if await two.moved():
                break
        await two.finish()

    asyncio.run(run())
    for writer in writers:
        writer.check()
    assert {error for writer in writers for error in writer.errors} == set(), "a stock client sees no errors"


@pytest.mark.parametrize("version", WITH_6)
def test_copy_that_a_broken_off_migrate_left_does_not_win(start_cluster: Any, version: str) -> None:
    two = Two(start_cluster(version, 2))
    key = tag_of(7).decode()

    async def run() -> None:
        source, target = await two.facts(two.source), await two.facts(two.target)
        two.target.ask("CLUSTER", "SETSLOT", 7, "IMPORTING", source.id)
        for number in range(5):
            two.source.ask("SET", f"{{{key}}}{number}", "old")
            two.source.ask("MIGRATE", two.target.host, two.target.port, f"{{{key}}}{number}", 0, 1000, "COPY")
            two.source.ask("SET", f"{{{key}}}{number}", "new")
        two.source.ask("CLUSTER", "SETSLOT", 7, "MIGRATING", target.id)
        two.target.ask("CLUSTER", "SETSLOT", 7, "STABLE")  # as one that failed over
        await two.finish()
        assert [two.target.ask("GET", f"{{{key}}}{number}") for number in range(5)] == [b"new"] * 5

    asyncio.run(run())


@pytest.mark.parametrize("version", WITH_8)
def test_moved_at_the_target_only_is_ended(start_cluster: Any, version: str) -> None:
    two = Two(start_cluster(version, 3))

    async def run() -> None:
        source, target = await two.facts(two.source), await two.facts(two.target)
        for slot in (5, 6):
            two.target.ask("CLUSTER", "SETSLOT", slot, "IMPORTING", source.id)
            two.source.ask("CLUSTER", "SETSLOT", slot, "MIGRATING", target.id)
        two.target.ask("CLUSTER", "SETSLOT", 5, "NODE", target.id)
        await two.call(parse_slots("5"))
        assert await two.moved(parse_slots("5")) is False, "slot 6 is half moved still"
        await two.call(parse_slots("5-6"))
        assert await two.moved(parse_slots("5-6"))
        with pytest.raises(WorldError, match="does not own slots 16000"):
            await two.call(parse_slots("7,16000"))
        assert await two.moved(parse_slots("7")), "what it owns is moved all the same"
        await two.admin.close()

    asyncio.run(run())


@pytest.mark.parametrize("version", WITH_6)
def test_target_that_hangs_holds_nothing_up_for_long_and_gets_the_rest_later(
    start_cluster: Any, version: str, eventually: Eventually
) -> None:
    two = Two(start_cluster(version, 2))
    with valkey.Valkey(host=two.source.host, port=two.source.port) as filling, filling.pipeline(False) as pipe:
        for number in range(30_000):
            pipe.execute_command("SET", f"{{{tag_of(number % 300).decode()}}}{number}", number)
        pipe.execute()

    async def run() -> None:
        task = asyncio.create_task(two.call())

        async def begun() -> bool:
            return bool((await two.facts(two.source)).exporting)

        await eventually(begun)
        os.kill(two.target.pid, signal.SIGSTOP)
        with pytest.raises(WorldError):
            await task
        os.kill(two.target.pid, signal.SIGCONT)
        for node in two.nodes:  # the source waits for the target, too
            await eventually(lambda node=node: two.facts(node))
        await two.finish()

    asyncio.run(run())
    assert two.target.ask("DBSIZE") == 30_000
    assert two.source.ask("DBSIZE") == 0


@pytest.mark.parametrize("version", WITH_8)
def test_big_keys_and_small_ones_of_one_slot(start_cluster: Any, version: str) -> None:
    two = Two(start_cluster(version, 2))
    tag = tag_of(3).decode()
    for number in range(20):
        two.source.ask("SET", f"{{{tag}}}big{number}", b"x" * 2_000_000)
    for number in range(500):
        two.source.ask("SET", f"{{{tag}}}\xff{number}".encode("latin-1"), b"x")
    asyncio.run(two.finish())
    assert two.target.ask("DBSIZE") == 520


@pytest.mark.slow
@pytest.mark.parametrize("version", ["8.1", "7.0", "6.2"])
def test_failover_of_the_target_does_not_lose_what_is_half_moved(
    start_cluster: Any, version: str, eventually: Eventually
) -> None:
    nodes = start_cluster(version, 2, 1)
    two = Two(nodes)
    writers = [Writer(two.source, number) for number in range(2)]
    for writer in writers:
        writer.start()

    async def run() -> None:
        for turns in (150, 400):
            task = asyncio.create_task(two.call())
            for _ in range(turns):
                await asyncio.sleep(0)
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task
        await two.admin.cluster_switch_over(Address(nodes[3].host, 6379))
        two.target = nodes[3]
        await two.finish()

    asyncio.run(run())
    for writer in writers:
        writer.check()


def test_what_is_half_moved_to_a_third_node_is_left_alone() -> None:
    third = "c" * 40
    peer = Peer(third, None, Role.PRIMARY)
    source = ClusterFacts("a" * 40, slots=parse_slots("0-9"), exporting=((3, third), (4, "d" * 40)), peers=(peer,))
    target = ClusterFacts("b" * 40, slots=parse_slots("20-29"), importing=((8, "a" * 40), (21, "a" * 40)))
    work = divide(numbers_of(parse_slots("0-9,21,40")), source, target)
    assert work.to_move == (4, 8, 0, 1, 2, 5, 6, 7, 9)
    assert (work.elsewhere, work.ended) == ((3, 40), (21,))
