"""The slow logs of real engines: read by number, gaps counted, a new process noticed."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest
import valkey as client_library

from cachekeep.domain.engine import Engine, EngineInstall, EngineVersion
from cachekeep.domain.nodes import Address, NodeKey, NodeSpec
from cachekeep.engine.slow_log import EngineSlowLogs
from cachekeep.host.installs import MachineCatalogue
from cachekeep.host.local import LocalHost

KEY = NodeKey("us-east-1", "slow-001")


def _client(address: Address) -> client_library.Valkey:
    return client_library.Valkey(host=address.host, port=address.port, socket_timeout=10)


async def _start(host: LocalHost, install: EngineInstall, address: Address) -> None:
    config = {"slowlog-log-slower-than": "0", "slowlog-max-len": "10"}
    await host.start(NodeSpec(KEY, install.engine, install.version, address, config), install, keep_data=False)


@pytest.mark.parametrize(
    ("engine", "version"),
    [
        pytest.param(Engine.VALKEY, "9.1", id="valkey 9.1"),
        pytest.param(Engine.VALKEY, "8.1", id="valkey 8.1"),
        pytest.param(Engine.REDIS, "7.0", id="redis 7.0", marks=pytest.mark.needs_redis7),
        pytest.param(Engine.REDIS, "6.2", id="redis 6.2"),
    ],
)
def test_entries_are_read_on_and_what_the_ring_lost_is_counted(
    engine: Engine,
    version: str,
    catalogue: MachineCatalogue,
    host: LocalHost,
    fresh_address: Callable[..., Address],
    eventually: Callable[..., object],
) -> None:
    install = catalogue.best(engine, EngineVersion.parse(version))
    if install is None:
        pytest.skip(f"needs {engine} {version}")
    address = fresh_address()

    async def story() -> None:
        logs = EngineSlowLogs()
        await _start(host, install, address)
        try:
            await told(logs)
        finally:
            await logs.close()
            await host.stop(KEY, grace_s=5)

    async def told(logs: EngineSlowLogs) -> None:

        async def first() -> object:
            return await logs.read(address, "", 0)

        seen = await eventually(first, 30)  # type: ignore[misc]
        with _client(address) as client:
            client.client_setname("me")
            client.set("secret-key", "secret-value")
        start = seen.entries[-1].number + 1 if seen.entries else 0
        more = await logs.read(address, seen.run_id, start)
        assert more.lost == 0
        numbers = [entry.number for entry in more.entries]
        assert numbers == list(range(start, start + len(numbers)))
        (entry,) = [entry for entry in more.entries if entry.command == "SET"]
        assert (entry.arguments, entry.client_name) == (2, "me")
        with _client(address) as client:
            for number in range(40):
                client.set("k", number)
        after = numbers[-1] + 1
        flooded = await logs.read(address, seen.run_id, after)
        assert flooded.lost == flooded.entries[0].number - after > 0
        await host.stop(KEY, grace_s=5)
        await _start(host, install, address)
        again = await eventually(lambda: logs.read(address, seen.run_id, 10**6), 30)  # type: ignore[misc]
        assert again.run_id != seen.run_id
        assert again.lost == 0

    asyncio.run(story())
