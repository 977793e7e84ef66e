"""Admin on real engines."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
from pymemcache.client.base import Client as MemcacheClient

from cachekeep.domain.engine import Engine, EngineInstall, EngineVersion
from cachekeep.domain.nodes import Address, NodeKey, NodeSpec, Role
from cachekeep.domain.ports import WorldError
from cachekeep.engine.admin import Admin
from cachekeep.host.installs import MachineCatalogue
from cachekeep.host.local import LocalHost

Eventually = Callable[..., Awaitable[Any]]
FreshAddress = Callable[..., Address]
EMPTY: Mapping[str, str] = {}
VERSIONS = [(Engine.VALKEY, "9.1"), (Engine.VALKEY, "8.1"), (Engine.REDIS, "7.0"), (Engine.REDIS, "6.2")]


@pytest.fixture(params=VERSIONS, ids=lambda v: f"{v[0].value}-{v[1]}")
def resp_install(request: pytest.FixtureRequest, catalogue: MachineCatalogue) -> EngineInstall:
    """Each version of Valkey and Redis that the machine has."""
    engine, version = request.param
    install = catalogue.best(engine, EngineVersion.parse(version))
    if install is None:
        pytest.skip(f"needs {engine.label} {version} on the machine")
    return install


def spec_of(
    install: EngineInstall,
    name: str,
    address: Address,
    config: Mapping[str, str] = EMPTY,
    follow: Address | None = None,
) -> NodeSpec:
    return NodeSpec(NodeKey("us-east-1", name), install.engine, install.version, address, config, follow)


def connect(host: str, port: int) -> socket.socket:
    return socket.create_connection((host, port), timeout=3)


def say(link: socket.socket, *words: str) -> bytes:
    link.sendall(" ".join(words).encode() + b"\r\n")
    return link.recv(65536)


def test_replica_follows_catches_up_and_is_promoted(
    resp_install: EngineInstall, host: LocalHost, fresh_address: FreshAddress, eventually: Eventually
) -> None:
    first, second = fresh_address(), fresh_address()
    engine = resp_install.engine

    async def run() -> None:
        admin = Admin()
        await host.start(spec_of(resp_install, "a-001", first), resp_install, keep_data=False)
        await eventually(lambda: admin.facts(engine, first, []))
        with connect(first.host, first.port) as link:
            assert say(link, "SET", "a", "1") == b"+OK\r\n"
        await host.start(spec_of(resp_install, "a-002", second, follow=first), resp_install, keep_data=False)

        async def in_sync() -> bool:
            primary, replica = await admin.facts(engine, first, []), await admin.facts(engine, second, [])
            return replica.link_up and replica.keys == primary.keys and replica.offset == primary.offset

        await eventually(in_sync)
        with connect(first.host, first.port) as link:
            assert say(link, "SET", "b", "2") == b"+OK\r\n"
        await eventually(in_sync)
        assert (await admin.facts(engine, first, [])).offset > 0
        replica = await admin.facts(engine, second, [])
        assert (replica.role, replica.primary, replica.keys) == (Role.REPLICA, first, 2)
        with connect(first.host, first.port) as link:
            assert f"ip={second.host},port={second.port}".encode() in say(link, "INFO", "replication")

        await admin.promote(second)
        await admin.follow(first, second)

        async def swapped() -> bool:
            old, new = await admin.facts(engine, first, []), await admin.facts(engine, second, [])
            return new.role is Role.PRIMARY and old.link_up and old.primary == second

        await eventually(swapped)
        await admin.close()

    asyncio.run(run())


def test_endpoint_moves_and_stale_clients_are_cut(
    resp_install: EngineInstall, host: LocalHost, fresh_address: FreshAddress, eventually: Eventually
) -> None:
    one, two, endpoint = fresh_address(), fresh_address(), fresh_address()
    engine = resp_install.engine

    async def run() -> None:
        admin = Admin()
        for name, address in (("a-001", one), ("a-002", two)):
            await host.start(spec_of(resp_install, name, address), resp_install, keep_data=False)
            await eventually(lambda address=address: admin.facts(engine, address, []))
        await admin.bind(one, [one.host, endpoint.host], [])
        assert (await admin.facts(engine, one, [])).binds == (one.host, endpoint.host)
        with connect(endpoint.host, endpoint.port) as through, connect(one.host, one.port) as direct:
            assert say(through, "PING") == say(direct, "PING") == b"+PONG\r\n"
            await admin.bind(one, [one.host], [endpoint.host])
            assert through.recv(1) == b"", "the connection through the endpoint was cut"
            assert say(direct, "PING") == b"+PONG\r\n"
        with pytest.raises(ConnectionRefusedError):
            connect(endpoint.host, endpoint.port)
        await admin.bind(two, [two.host, endpoint.host], [])
        with connect(endpoint.host, endpoint.port) as through:
            assert say(through, "CONFIG GET bind").endswith(f"{two.host} {endpoint.host}\r\n".encode())
        with pytest.raises(WorldError, match=f"{one} cannot listen on .*{endpoint.host}"):
            await admin.bind(one, [one.host, endpoint.host], [])
        assert (await admin.facts(engine, one, [])).binds == (one.host,)
        await admin.close()

    asyncio.run(run())


def test_bind_waits_for_the_address_of_a_holder_that_goes(
    host: LocalHost, valkey: EngineInstall, fresh_address: FreshAddress, eventually: Eventually
) -> None:
    one, endpoint = fresh_address(), fresh_address()

    async def run() -> None:
        admin = Admin()
        await host.start(spec_of(valkey, "a-001", one), valkey, keep_data=False)
        await eventually(lambda: admin.facts(Engine.VALKEY, one, []))
        with socket.socket() as holder:
            holder.bind((endpoint.host, endpoint.port))
            holder.listen()
            moving = asyncio.create_task(admin.bind(one, [one.host, endpoint.host], []))
            await eventually(lambda: any("bind" in line for line in host.log_tail(NodeKey("us-east-1", "a-001"), 5)))
            assert not moving.done()
        await moving
        assert (await admin.facts(Engine.VALKEY, one, [])).binds == (one.host, endpoint.host)
        await admin.close()

    asyncio.run(run())


def test_settings_are_set_and_read_back(
    resp_install: EngineInstall, host: LocalHost, fresh_address: FreshAddress, eventually: Eventually
) -> None:
    address, engine = fresh_address(), resp_install.engine
    limits = "normal 0 0 0\nreplica 1048576 524288 60"

    async def run() -> None:
        admin = Admin()
        config = {"client-output-buffer-limit": limits, "notify-keyspace-events": ""}
        spec = spec_of(resp_install, "a-001", address, config=config)
        await host.start(spec, resp_install, keep_data=False)
        names = ["maxmemory", "maxmemory-policy", "client-output-buffer-limit"]
        first = await eventually(lambda: admin.facts(engine, address, names))
        assert first.config.keys() == set(names)
        assert "slave 1048576 524288 60" in first.config["client-output-buffer-limit"]
        values = {"maxmemory": "64mb", "maxmemory-policy": "allkeys-lru", "client-output-buffer-limit": limits}
        await admin.configure(address, values)
        after = await admin.facts(engine, address, names)
        assert (after.config["maxmemory"], after.maxmemory_bytes) == ("67108864", 67108864)
        assert after.config["maxmemory-policy"] == "allkeys-lru"
        await admin.close()

        bad = {"maxmemory": "32mb", "maxmemory-policy": "no-such-policy"}
        with pytest.raises(WorldError, match="maxmemory-policy") as refused:
            await admin.configure(address, bad)
        kept = await admin.facts(engine, address, ["maxmemory"])
        if resp_install.version.major >= 7:
            assert kept.config["maxmemory"] == "67108864", "all or nothing"
        else:
            assert "already set: maxmemory" in str(refused.value)
        await admin.close()

    asyncio.run(run())


def test_failed_save_keeps_the_engine_running(
    resp_install: EngineInstall, host: LocalHost, nodes_root: Path, fresh_address: FreshAddress, eventually: Eventually
) -> None:
    address, engine = fresh_address(), resp_install.engine
    spec = spec_of(resp_install, "a-001", address)

    async def run() -> None:
        admin = Admin()
        process = await host.start(spec, resp_install, keep_data=False)
        await eventually(lambda: admin.facts(engine, address, []))
        # A folder where the file has to go: the rename at the end of the save fails.
        (nodes_root / "us-east-1" / "a-001" / "0001" / "dump.rdb" / "x").mkdir(parents=True)
        with pytest.raises(WorldError, match="could not save"):
            await admin.shutdown_saving(address)
        assert host.find(spec.key) == process
        await admin.facts(engine, address, [])
        await admin.close()

    asyncio.run(run())


def test_restarted_engine_is_seen_on_the_kept_connection(
    host: LocalHost, valkey: EngineInstall, fresh_address: FreshAddress, eventually: Eventually
) -> None:
    address = fresh_address()
    spec = spec_of(valkey, "a-001", address)

    async def run() -> None:
        admin = Admin()
        await host.start(spec, valkey, keep_data=False)
        before = await eventually(lambda: admin.facts(Engine.VALKEY, address, []))
        await host.stop(spec.key, grace_s=0)
        with pytest.raises(WorldError, match=f"cannot connect to {address}: Connection refused"):
            await admin.facts(Engine.VALKEY, address, [])
        await host.start(spec, valkey, keep_data=False)
        after = await eventually(lambda: admin.facts(Engine.VALKEY, address, []))
        assert before.run_id != after.run_id
        await admin.close()

    asyncio.run(run())


def test_suspended_engine_is_told_from_a_dead_one_by_its_deadline(
    host: LocalHost, valkey: EngineInstall, fresh_address: FreshAddress, eventually: Eventually
) -> None:
    address = fresh_address()

    async def run() -> None:
        admin = Admin(answer_timeout_s=0.2)
        process = await host.start(spec_of(valkey, "a-001", address), valkey, keep_data=False)
        await eventually(lambda: admin.facts(Engine.VALKEY, address, []))
        os.kill(process.pid, signal.SIGSTOP)
        with pytest.raises(WorldError, match=f"{address} did not answer within 0.2 s"):
            await admin.facts(Engine.VALKEY, address, [])
        os.kill(process.pid, signal.SIGCONT)
        # The late answer to the first question must not be taken for the answer to this one.
        facts = await eventually(lambda: admin.facts(Engine.VALKEY, address, ["maxmemory"]))
        assert facts.config == {"maxmemory": "0"}
        await admin.close()

    asyncio.run(run())


def test_loading_engine_says_so(
    host: LocalHost, valkey: EngineInstall, fresh_address: FreshAddress, eventually: Eventually
) -> None:
    address = fresh_address()
    # Half a second of loading: 5 ms for each of 100 keys.
    spec = spec_of(
        valkey, "a-001", address, config={"key-load-delay": "5000", "loading-process-events-interval-bytes": "1024"}
    )

    async def run() -> None:
        admin = Admin()
        await host.start(spec, valkey, keep_data=False)
        await eventually(lambda: admin.facts(Engine.VALKEY, address, []))
        with connect(address.host, address.port) as link:
            for number in range(100):
                say(link, "SET", f"key{number}", "x" * 200)
        host.mark_saved(spec.key, True)
        await admin.shutdown_saving(address)
        await eventually(lambda: host.find(spec.key) is None)
        await host.start(spec, valkey, keep_data=True)

        async def loading() -> bool:
            return bool((await admin.facts(Engine.VALKEY, address, ["maxmemory"])).loading)

        async def loaded() -> bool:
            return (await admin.facts(Engine.VALKEY, address, [])).keys == 100 and not await loading()

        await eventually(loading)
        with pytest.raises(WorldError, match="LOADING"):
            await admin.promote(address)
        await eventually(loaded)
        await admin.close()

    asyncio.run(run())


def test_memcached_facts(
    host: LocalHost, memcached: EngineInstall, fresh_address: FreshAddress, eventually: Eventually
) -> None:
    address = fresh_address(11211)
    spec = spec_of(memcached, "m", address, config={"-m": "100", "-t": "2", "-c": "200"})

    async def run() -> None:
        admin = Admin()
        process = await host.start(spec, memcached, keep_data=False)
        await eventually(lambda: admin.facts(Engine.MEMCACHED, address, []))
        client = MemcacheClient((address.host, address.port), connect_timeout=3, timeout=3)
        client.set("a", b"1", noreply=False)
        facts = await admin.facts(Engine.MEMCACHED, address, ["maxconns"])
        client.close()
        assert (facts.keys, facts.clients, facts.maxmemory_bytes) == (1, 2, 100 * 1024 * 1024)
        assert (facts.version, facts.run_id) == (str(memcached.version), str(process.pid))
        assert facts.binds == (address.host,)
        assert facts.config == {"maxconns": "200"}
        await admin.close()

    asyncio.run(run())


def test_other_protocol_is_a_world_error(
    host: LocalHost, memcached: EngineInstall, fresh_address: FreshAddress, eventually: Eventually
) -> None:
    address = fresh_address(11211)

    async def run() -> None:
        admin = Admin()
        await host.start(spec_of(memcached, "m", address), memcached, keep_data=False)
        await eventually(lambda: admin.facts(Engine.MEMCACHED, address, []))
        await admin.forget(address)
        with pytest.raises(WorldError, match=str(address)):
            await admin.facts(Engine.VALKEY, address, [])
        await admin.close()

    asyncio.run(run())
