"""Certificates of running nodes: renewed without a dropped connection, and kept when they cannot be."""

from __future__ import annotations

import asyncio
import socket
import ssl
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from cachekeep.domain.engine import Engine, EngineInstall, with_tls
from cachekeep.domain.nodes import Address, NodeKey, NodeSpec, ProgramKind
from cachekeep.domain.ports import WorldError
from cachekeep.domain.transit import Listening, Transit
from cachekeep.engine.access import Access
from cachekeep.engine.admin import Admin
from cachekeep.engine.secured import Secured
from cachekeep.host.authority import Authority
from cachekeep.host.installs import MachineCatalogue
from cachekeep.host.local import LocalHost

Eventually = Callable[..., Awaitable[object]]
MONTH_S = 30 * 86400.0


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    made = Authority(tmp_path / "ca")
    made.certificate()
    return made


@pytest.fixture
def secured_host(nodes_root: Path, authority: Authority) -> LocalHost:
    return LocalHost(nodes_root, authority=authority)


def _install(catalogue: MachineCatalogue, engine: Engine) -> EngineInstall:
    found = with_tls(catalogue.installs(), engine)
    if found is None:
        pytest.skip(f"needs a {engine.label} with TLS on the machine")
    return found


def _spec(address: Address, install: EngineInstall) -> NodeSpec:
    return NodeSpec(
        NodeKey("us-east-1", "c"), install.engine, install.version, address,
        transit=Transit.REQUIRED, hosts=(address.host, "localhost"),
    )  # fmt: skip


@asynccontextmanager
async def _admin(authority: Authority, *addresses: Address) -> AsyncIterator[Admin]:
    secured = Secured(authority.ca_file)
    for address in addresses:
        secured.seen(address, Listening(address.port, tls=True))
    admin = Admin(Access(None, secured.context_for, secured))
    try:
        yield admin
    finally:
        await admin.close()


def _opened(authority: Authority, address: Address) -> ssl.SSLSocket:
    context = ssl.create_default_context(cafile=authority.ca_file)
    plain = socket.create_connection((address.host, address.port), 10)
    return context.wrap_socket(plain, server_hostname=address.host)


def _serial(authority: Authority, address: Address) -> str:
    with _opened(authority, address) as line:
        found = line.getpeercert()
    assert found is not None
    return str(found["serialNumber"])


@pytest.mark.parametrize(
    ("engine", "question", "answer"),
    [(Engine.REDIS, b"PING\r\n", b"+PONG\r\n"), (Engine.MEMCACHED, b"mn\r\n", b"MN\r\n")],
)
def test_a_renewed_certificate_is_shown_to_new_connections_and_open_ones_stay(
    engine: Engine, question: bytes, answer: bytes, catalogue: MachineCatalogue, authority: Authority,
    secured_host: LocalHost, fresh_address: Callable[..., Address], eventually: Eventually,
) -> None:  # fmt: skip
    async def story() -> None:
        install, address = _install(catalogue, engine), fresh_address()
        spec = _spec(address, install)
        await secured_host.start(spec, install, keep_data=False)
        async with _admin(authority, address) as admin:
            await eventually(lambda: admin.facts(engine, address, ()), 30)
            assert not secured_host.renew(spec, time.time()), "it is fresh"
            held, old = _opened(authority, address), _serial(authority, address)
            assert secured_host.renew(spec, time.time() + MONTH_S)
            assert secured_host.renew(spec, time.time()), "it was not marked as read"
            await admin.reload_certificate(engine, address)
            secured_host.renewed(spec.key)
            await eventually(lambda: asyncio.to_thread(lambda: _serial(authority, address) != old), 30)
            held.sendall(question)
            assert held.recv(100) == answer
            held.close()
            assert not secured_host.renew(spec, time.time())

    asyncio.run(story())


def test_while_the_authority_is_gone_a_node_keeps_its_certificate_and_a_new_node_does_not_start(
    catalogue: MachineCatalogue, authority: Authority, secured_host: LocalHost,
    fresh_address: Callable[..., Address], eventually: Eventually, tmp_path: Path,
) -> None:  # fmt: skip
    async def story() -> None:
        install, address = _install(catalogue, Engine.REDIS), fresh_address()
        spec = _spec(address, install)
        await secured_host.start(spec, install, keep_data=False)
        async with _admin(authority, address) as admin:
            await eventually(lambda: admin.facts(Engine.REDIS, address, ()), 30)
            (tmp_path / "ca" / "ca.key").rename(tmp_path / "ca.key")
            serial = _serial(authority, address)
            with pytest.raises(WorldError, match=r"ca\.key is gone"):
                secured_host.renew(spec, time.time() + MONTH_S)
            assert _serial(authority, address) == serial
            other = NodeSpec(
                NodeKey("us-east-1", "d"), install.engine, install.version, fresh_address(),
                transit=Transit.REQUIRED, hosts=("127.0.0.1",),
            )  # fmt: skip
            with pytest.raises(WorldError, match=r"ca\.key is gone"):
                await secured_host.start(other, install, keep_data=False)
            assert secured_host.find(other.key) is None
            (tmp_path / "ca.key").rename(tmp_path / "ca" / "ca.key")
            await secured_host.start(other, install, keep_data=False)

    asyncio.run(story())


def test_the_service_does_not_talk_to_whom_its_authority_did_not_sign(
    catalogue: MachineCatalogue, authority: Authority, secured_host: LocalHost,
    fresh_address: Callable[..., Address], eventually: Eventually, tmp_path: Path,
) -> None:  # fmt: skip
    async def story() -> None:
        install, address = _install(catalogue, Engine.REDIS), fresh_address()
        await secured_host.start(_spec(address, install), install, keep_data=False)
        async with _admin(authority, address) as ours:
            await eventually(lambda: ours.facts(Engine.REDIS, address, ()), 30)
        stranger = Authority(tmp_path / "other")
        stranger.certificate()
        async with _admin(stranger, address) as theirs:
            with pytest.raises(WorldError, match="cannot connect"):
                await theirs.facts(Engine.REDIS, address, ())

    asyncio.run(story())


def test_the_responder_shows_a_renewed_certificate(
    catalogue: MachineCatalogue, authority: Authority, secured_host: LocalHost,
    fresh_address: Callable[..., Address], eventually: Eventually,
) -> None:  # fmt: skip
    async def story() -> None:
        install, address = _install(catalogue, Engine.MEMCACHED), fresh_address()
        spec = NodeSpec(
            NodeKey("us-east-1", "c", "cfg"), Engine.MEMCACHED, install.version, address,
            program=ProgramKind.DISCOVERY, transit=Transit.REQUIRED, hosts=(address.host,),
        )  # fmt: skip
        secured_host.advertise(spec.key, 1, [])
        await secured_host.start(spec, None, keep_data=False)
        serial = str(await eventually(lambda: asyncio.to_thread(_serial_or_none, authority, address), 30))
        assert secured_host.renew(spec, time.time() + MONTH_S)
        await eventually(lambda: asyncio.to_thread(lambda: _serial(authority, address) != serial), 30)

    asyncio.run(story())


def _serial_or_none(authority: Authority, address: Address) -> str | None:
    try:
        return _serial(authority, address)
    except OSError:
        return None
