"""Nodes in cluster mode on real processes: who they are, what they remember, what is forgotten."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest
from persisting import KEY, VERSIONS, Eventually, Node

from cachekeep.domain.engine import EngineInstall
from cachekeep.domain.nodes import Address, NodeKey
from cachekeep.host.local import LocalHost

every_version = pytest.mark.parametrize("version", VERSIONS)


@pytest.fixture
def node_at(
    host: LocalHost,
    install_of: Callable[[str], EngineInstall],
    fresh_address: Callable[..., Address],
    eventually: Eventually,
) -> Callable[..., Node]:
    """`node_at(version, port=6379, key=KEY)`: one in cluster mode."""

    def make(version: str, port: int = 6379, key: NodeKey = KEY) -> Node:
        return Node(host, install_of(version), fresh_address(port), eventually, clustered=True, key=key)

    return make


@every_version
def test_node_in_cluster_mode_keeps_its_id_until_it_starts_without_data(
    node_at: Callable[..., Node], eventually: Eventually, version: str
) -> None:
    node = node_at(version)

    async def run() -> None:
        await node.start({})
        assert not await node.lacks({})
        first = node.ask("CLUSTER", "MYID")
        node.ask("CLUSTER", "ADDSLOTS", 1, 2, 3)
        await node.kill()
        await node.start({}, keep_data=True)
        assert node.ask("CLUSTER", "MYID") == first
        assert "cluster_slots_assigned:3" in node.ask("CLUSTER", "INFO")
        await node.kill()
        await node.start({})
        assert node.ask("CLUSTER", "MYID") != first
        assert "cluster_slots_assigned:0" in node.ask("CLUSTER", "INFO")

    asyncio.run(run())


@every_version
def test_nodes_meet_at_the_addresses_that_they_announce(
    node_at: Callable[..., Node], eventually: Eventually, version: str
) -> None:
    port = 6379 if version == "6.2" else 60000  # before 7.0 the bus is always above
    one, other = node_at(version, port), node_at(version, port, NodeKey(KEY.region, "kept-002"))
    bus = port + 10_000 if port < 55536 else port - 10_000

    async def run() -> None:
        await one.start({})
        await other.start({})
        one.ask("CLUSTER", "MEET", other.address.host, other.address.port, bus)
        for node, peer in ((one, other), (other, one)):
            expected = f"{peer.address}@{bus}"
            await eventually(lambda n=node, e=expected: e in _seen(n), 20)

    asyncio.run(run())


def _seen(node: Node) -> set[str]:
    """`host:port@bus` of the peers that it has shaken hands with."""
    with node.client() as client:
        client.response_callbacks.clear()
        lines = str(client.execute_command("CLUSTER", "NODES")).splitlines()
    return {line.split()[1].partition(",")[0] for line in lines if "handshake" not in line and "myself" not in line}


@every_version
def test_parameters_of_a_cluster_reach_its_nodes(node_at: Callable[..., Node], version: str) -> None:
    node = node_at(version)
    values = {"cluster-require-full-coverage": "yes", "cluster-allow-reads-when-down": "yes"}
    if version == "9.1":
        values["cluster-databases"] = "16"

    async def run() -> None:
        await node.start(values)
        assert not await node.lacks(values)
        for name, value in values.items():
            assert node.ask("CONFIG", "GET", name) in ({name: value}, [name, value])
        for name, value in (
            ("cluster-enabled", "yes"),
            ("cluster-node-timeout", "5000"),
            ("cluster-allow-replica-migration", "no"),
            ("cluster-replica-validity-factor", "0"),
            ("cluster-replica-no-failover", "no"),
        ):
            assert node.ask("CONFIG", "GET", name) in ({name: value}, [name, value])
        live = {name: "no" for name in values if name != "cluster-databases"}
        await node.apply({**values, **live})

    asyncio.run(run())
