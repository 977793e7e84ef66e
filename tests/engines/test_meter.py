"""EngineMeter on real engines."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from pymemcache.client.base import Client as MemcacheClient

from cachekeep.domain.engine import EngineInstall
from cachekeep.domain.metrics import Place
from cachekeep.domain.nodes import Address, NodeKey, NodeSpec
from cachekeep.domain.ports import WorldError
from cachekeep.engine.meter import EngineMeter
from cachekeep.host.local import LocalHost


def place_of(server: Any, **more: Any) -> Place:
    return Place(Address(server.host, server.port), **more)


@pytest.mark.parametrize("version", ["9.1", "6.2"])
def test_info_and_latencies_tell_what_was_done(start_server: Callable[..., Any], version: str) -> None:
    server = start_server(version)
    for _ in range(3):
        server.ask("GET", "absent")

    async def run() -> None:
        meter = EngineMeter()
        info = await meter.read(place_of(server))
        assert info["keyspace_misses"] == "3"
        assert info["cmdstat_get"].startswith("calls=3,")
        for _ in range(2):
            latencies = await meter.latencies(place_of(server))
            if version == "6.2":
                assert latencies == {}
            else:
                assert sum(count for _, count in latencies["get"]) == 3
        await meter.close()

    asyncio.run(run())


def test_password_opens_and_never_shows(start_server: Callable[..., Any]) -> None:
    server = start_server("9.1", "--requirepass", "open-sesame")

    async def run() -> None:
        meter = EngineMeter()
        with pytest.raises(WorldError, match=r"NOAUTH.*give a user"):
            await meter.read(place_of(server))
        wrong = place_of(server, password="not-this-one")
        with pytest.raises(WorldError, match="WRONGPASS") as refused:
            await meter.read(wrong)
        assert "not-this-one" not in f"{refused.value}{wrong!r}"
        right = place_of(server, username="default", password="open-sesame")
        assert (await meter.read(right))["loading"] == "0"
        await meter.close()

    asyncio.run(run())


def test_cut_connection_is_made_anew_and_a_silent_engine_is_said(start_server: Callable[..., Any]) -> None:
    server = start_server("9.1")

    async def run() -> None:
        meter = EngineMeter(answer_timeout_s=0.3)
        await meter.read(place_of(server))
        server.ask("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
        assert (await meter.read(place_of(server)))["total_connections_received"]
        os.kill(server.pid, signal.SIGSTOP)
        with pytest.raises(WorldError, match=f"{server.host}:6379 did not answer within 0.3 s"):
            await meter.read(place_of(server))
        os.kill(server.pid, signal.SIGCONT)
        with pytest.raises(WorldError, match="Connection refused"):
            await meter.read(Place(Address(server.host, 6380)))
        await meter.close()

    asyncio.run(run())


def test_memcached_tells_stats_and_its_limit_of_connections(
    host: LocalHost,
    memcached: EngineInstall,
    fresh_address: Callable[..., Address],
    eventually: Callable[..., Awaitable[Any]],
) -> None:
    address = fresh_address(11211)
    spec = NodeSpec(
        NodeKey("us-east-1", "m"), memcached.engine, memcached.version, address, {"-m": "64", "-c": "200"}, None
    )

    async def run() -> None:
        meter, place = EngineMeter(), Place(address, speaks_resp=False)
        await host.start(spec, memcached, keep_data=False)
        await eventually(lambda: meter.read(place))
        client = MemcacheClient((address.host, address.port), connect_timeout=3, timeout=3)
        client.get("absent")
        client.close()
        stats = await meter.read(place)
        assert (stats["get_misses"], stats["settings.maxconns"]) == ("1", "200")
        assert await meter.latencies(place) == {}
        await meter.close()

    asyncio.run(run())
