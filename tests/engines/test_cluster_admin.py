"""A cluster formed by Admin's commands alone: what is seen of it, who takes over."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import pytest

from cachekeep.domain.engine import Engine
from cachekeep.domain.nodes import Address, ClusterFacts, NodeFacts, Role
from cachekeep.domain.ports import WorldError
from cachekeep.domain.slots import divided, parse_slots
from cachekeep.engine.admin import Admin
from cachekeep.engine.cluster import bus_port

if TYPE_CHECKING:
    from conftest import Server

VERSIONS = ["9.1", "8.1", "7.0", "6.2"]
SOME = ["9.1", "6.2", *(pytest.param(version, marks=pytest.mark.slow) for version in ("8.1", "7.0"))]
WITH_9 = ["9.1", *(pytest.param(version, marks=pytest.mark.slow) for version in VERSIONS[1:])]
WITH_6 = ["6.2", *(pytest.param(version, marks=pytest.mark.slow) for version in VERSIONS[:3])]
Eventually = Callable[..., Awaitable[Any]]


def at(server: Server) -> Address:
    return Address(server.host, server.port)


async def facts(admin: Admin, server: Server) -> NodeFacts:
    return await admin.facts(Engine.VALKEY, at(server), [])


async def cluster(admin: Admin, server: Server) -> ClusterFacts:
    known = (await facts(admin, server)).cluster
    assert known is not None
    return known


async def form(admin: Admin, nodes: list[Server], primaries: int, eventually: Eventually) -> list[str]:
    """Make a cluster of them, primaries first; everything twice. The ids."""
    for number, (node, slots) in enumerate(zip(nodes, divided(primaries), strict=False)):
        for _ in range(2):
            await admin.add_slots(at(node), slots, number + 1)
    for node in nodes[1:]:
        await admin.meet(at(nodes[0]), at(node))

    async def known() -> bool:
        seen = [await cluster(admin, node) for node in nodes]
        return all(len(one.peers) == len(nodes) - 1 and not any(p.handshake for p in one.peers) for one in seen)

    await eventually(known, 30)
    ids = [(await cluster(admin, node)).id for node in nodes]
    for number, node in enumerate(nodes[primaries:]):
        for _ in range(2):
            await admin.replicate(at(node), ids[number % primaries])

    async def whole() -> bool:
        seen = [await facts(admin, node) for node in nodes]
        linked = all(one.link_up for one in seen[primaries:])
        return linked and all(one.cluster is not None and one.cluster.ok for one in seen)

    await eventually(whole, 30)
    return ids


@pytest.fixture
def start_nodes(start_server: Any) -> Callable[..., list[Server]]:
    def start(version: str, count: int, node_timeout_ms: int = 5000) -> list[Server]:
        own = ["--cluster-enabled", "yes", "--cluster-node-timeout", str(node_timeout_ms)]
        nodes = [start_server(version, *own, "--repl-diskless-sync-delay", "0") for _ in range(count)]
        for node in nodes:
            node.ask("CONFIG", "SET", "cluster-announce-ip", node.host)
        return nodes

    return start


@pytest.mark.parametrize("version", SOME)
def test_cluster_is_formed_and_seen(start_nodes: Any, version: str, eventually: Eventually) -> None:
    nodes = start_nodes(version, 6)

    async def run() -> None:
        admin = Admin()
        ids = await form(admin, nodes, 3, eventually)

        async def told() -> bool:
            return sum(peer.role is Role.REPLICA for peer in (await cluster(admin, nodes[0])).peers) == 3

        await eventually(told, 20)
        first, replica = await cluster(admin, nodes[0]), await facts(admin, nodes[3])
        assert (first.slots, first.epoch, first.ok) == (divided(3)[0], 1, True)
        peers = {peer.id: peer for peer in first.peers}
        assert set(peers) == set(ids[1:])
        assert (peers[ids[1]].slots, peers[ids[1]].address) == (divided(3)[1], at(nodes[1]))
        assert (peers[ids[3]].role, peers[ids[3]].primary_id) == (Role.REPLICA, ids[0])
        assert (replica.role, replica.primary) == (Role.REPLICA, at(nodes[0]))
        assert replica.cluster is not None
        assert replica.cluster.slots == ()
        with pytest.raises(WorldError, match="refused CLUSTER ADDSLOTS"):
            await admin.add_slots(at(nodes[0]), divided(3)[1], 9)

        nodes[5].stop()
        for node in nodes[:5]:
            for _ in range(2):
                await admin.forget_node(at(node), ids[5])
        for node in nodes[:5]:
            assert ids[5] not in {peer.id for peer in (await cluster(admin, node)).peers}
        with pytest.raises(WorldError, match="refused CLUSTER FORGET"):
            await admin.forget_node(at(nodes[0]), ids[0])
        await admin.close()

    asyncio.run(run())


@pytest.mark.parametrize("version", WITH_9)
def test_replica_takes_over_with_a_majority_and_without(start_nodes: Any, version: str, eventually: Eventually) -> None:
    nodes = start_nodes(version, 6, 60_000)  # gossip would not do it within the test

    async def run() -> None:
        admin = Admin()
        ids = await form(admin, nodes, 3, eventually)
        nodes[0].stop()
        for _ in range(2):
            await admin.take_over(at(nodes[3]), vote=True)
        after = await facts(admin, nodes[3])
        assert after.role is Role.PRIMARY
        assert after.cluster is not None
        assert after.cluster.slots == divided(3)[0]
        for node in nodes[1:3]:
            node.stop()
        await admin.take_over(at(nodes[4]), vote=True)  # one of three is left to vote
        await admin.take_over(at(nodes[5]), vote=False)

        async def agreed() -> bool:
            seen = [await cluster(admin, node) for node in nodes[3:]]
            owners = [{peer.id: peer.slots for peer in one.peers if peer.slots} for one in seen]
            return all(one.ok for one in seen) and all(set(one) < set(ids[3:]) and len(one) == 2 for one in owners)

        await eventually(agreed, 20)
        await admin.close()

    asyncio.run(run())


@pytest.mark.slow
@pytest.mark.parametrize("version", WITH_6)
def test_roles_are_exchanged_again_and_again(start_nodes: Any, version: str, eventually: Eventually) -> None:
    nodes = start_nodes(version, 4)

    async def run() -> None:
        admin = Admin()
        await form(admin, nodes, 2, eventually)
        old, new = nodes[0], nodes[2]
        for _ in range(4):
            for _ in range(2):
                await admin.cluster_switch_over(at(new))
            assert (await facts(admin, new)).role is Role.PRIMARY

            async def follows(old: Server = old, new: Server = new) -> bool:
                seen = await facts(admin, old)
                return seen.link_up and seen.primary == at(new)

            await eventually(follows)
            old, new = new, old
        os.kill(old.pid, signal.SIGSTOP)
        with pytest.raises(WorldError, match=r"handed|FAILOVER"):
            await admin.cluster_switch_over(at(new))
        os.kill(old.pid, signal.SIGCONT)

        async def as_before() -> bool:
            return (await facts(admin, old)).role is Role.PRIMARY and (await facts(admin, new)).role is Role.REPLICA

        await eventually(as_before)
        await admin.close()

    asyncio.run(run())


def test_slots_are_migrated_at_once_and_it_can_be_given_up(start_nodes: Any, eventually: Eventually) -> None:
    nodes = start_nodes("9.1", 2)

    async def run() -> None:
        admin = Admin()
        source = at(nodes[0])
        ids = await form(admin, nodes, 2, eventually)
        await admin.cancel_migrations(source)
        os.kill(nodes[1].pid, signal.SIGSTOP)
        for slots in ("0-99", "50-149", "0-149"):
            await admin.migrate_slots(source, parse_slots(slots), ids[1])
        running = [one for one in (await cluster(admin, nodes[0])).migrations if one.running]
        assert {one.slots for one in running} == {parse_slots("0-99"), parse_slots("100-149")}
        assert {(one.exports, one.target_id) for one in running} == {(True, ids[1])}
        for _ in range(2):
            await admin.cancel_migrations(source)
        seen = await cluster(admin, nodes[0])
        assert {one.state for one in seen.migrations} == {"cancelled"}
        assert seen.slots == divided(2)[0]
        os.kill(nodes[1].pid, signal.SIGCONT)
        await eventually(lambda: facts(admin, nodes[1]))
        await admin.migrate_slots(source, parse_slots("0-149"), ids[1])

        async def moved() -> bool:
            return (await cluster(admin, nodes[1])).slots == parse_slots("0-149,8192-16383")

        await eventually(moved)
        await eventually(lambda: _seen(admin, nodes[0], ids[1], "0-149,8192-16383"))
        await admin.migrate_slots(source, parse_slots("0-149"), ids[1])
        with pytest.raises(WorldError, match="refused CLUSTER MIGRATESLOTS"):
            await admin.migrate_slots(source, parse_slots("200"), "f" * 40)
        assert [one.state for one in (await cluster(admin, nodes[0])).migrations][:1] == ["success"]
        await admin.close()

    asyncio.run(run())


async def _seen(admin: Admin, node: Server, peer_id: str, slots: str) -> bool:
    return any(p.id == peer_id and p.slots == parse_slots(slots) for p in (await cluster(admin, node)).peers)


def test_port_of_the_bus_stays_a_port(start_server: Any, fresh_address: Any, eventually: Eventually) -> None:
    assert (bus_port(6379), bus_port(55535), bus_port(55536)) == (16379, 65535, 45536)
    own = ("--cluster-enabled", "yes", "--port", "60000", "--cluster-port", str(bus_port(60000)))
    nodes = [Address(start_server("9.1", *own, wait=False).host, 60000) for _ in range(2)]

    async def run() -> None:
        admin = Admin()
        for node in nodes:
            await eventually(lambda node=node: admin.facts(Engine.VALKEY, node, []))
            await admin.configure(node, {"cluster-announce-ip": node.host})
        await admin.meet(*nodes)

        async def linked() -> bool:
            known = (await admin.facts(Engine.VALKEY, nodes[1], [])).cluster
            return known is not None and [(p.address, p.handshake) for p in known.peers] == [(nodes[0], False)]

        await eventually(linked)
        await admin.close()

    asyncio.run(run())


def test_restarted_without_cluster_mode_is_seen(start_server: Any) -> None:
    node = start_server("9.1")

    async def run() -> None:
        admin = Admin()
        assert (await facts(admin, node)).cluster is None
        with pytest.raises(WorldError, match="cluster support disabled"):
            await admin.add_slots(at(node), parse_slots("1"), 1)
        await admin.close()

    asyncio.run(run())


@pytest.mark.parametrize("version", VERSIONS)
def test_engine_that_is_busy_lives_and_is_interrupted(start_server: Any, version: str, eventually: Eventually) -> None:
    node = start_server(version, "--lua-time-limit", "100")

    async def run() -> None:
        admin = Admin()
        await admin.ping(at(node), 1.0)
        await admin.interrupt(at(node))
        with socket.create_connection((node.host, node.port), timeout=10) as link:
            link.sendall(b'EVAL "while true do end" 0\r\n')

            async def busy() -> bool:
                try:
                    await admin.ping(at(node), 0.3)
                except WorldError as error:
                    return "BUSY" in str(error)
                return False

            await eventually(busy)
            await admin.interrupt(at(node))
            assert b"killed" in link.recv(4096)
            await admin.ping(at(node), 1.0)
            link.sendall(b"EVAL \"redis.call('set', 'a', 1) while true do end\" 0\r\n")
            await eventually(busy)
            with pytest.raises(WorldError, match="UNKILLABLE"):
                await admin.interrupt(at(node))
        await admin.close()

    asyncio.run(run())


def test_engine_that_hangs_does_not_answer_and_one_without_room_does(start_server: Any, eventually: Eventually) -> None:
    node = start_server("9.1", "--maxclients", "20")

    async def run() -> None:
        admin = Admin()
        links = [socket.create_connection((node.host, node.port), timeout=5) for _ in range(25)]
        await admin.ping(at(node), 1.0)
        for link in links:
            link.close()
        await admin.forget(at(node))
        os.kill(node.pid, signal.SIGSTOP)
        with pytest.raises(WorldError, match=r"did not answer ROLE within 0\.2 s"):
            await admin.ping(at(node), 0.2)
        node.stop()

        async def refused() -> bool:
            with suppress(WorldError):
                return await admin.ping(at(node), 0.2) is not None
            return True

        await eventually(refused)
        await admin.close()

    asyncio.run(run())
