"""How the service gets into its own engines, on real ones: its user, the link between nodes, and who is kept out."""

from __future__ import annotations

import asyncio
import stat
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
import valkey as client
from libvalkey import ReplyError

from cachekeep.domain.access import SERVICE_USER, EngineLogin
from cachekeep.domain.engine import Engine, EngineInstall, EngineVersion
from cachekeep.domain.metrics import Place
from cachekeep.domain.nodes import Address, NodeKey, NodeSpec, Role
from cachekeep.domain.ports import WorldError
from cachekeep.engine.access import Access
from cachekeep.engine.admin import Admin
from cachekeep.engine.examiner import EngineExaminer
from cachekeep.engine.line import Line
from cachekeep.engine.meter import EngineMeter
from cachekeep.host.installs import MachineCatalogue
from cachekeep.host.local import LocalHost

Eventually = Callable[..., Awaitable[Any]]
FreshAddress = Callable[..., Address]
LOGIN = EngineLogin("the-installation's-own")
CLOSED = (("default", "off"), ("ann", "on", "#" + "0" * 64, "~*", "+get"))
VERSIONS = [(Engine.VALKEY, "9.1"), (Engine.VALKEY, "8.1"), (Engine.REDIS, "7.0"), (Engine.REDIS, "6.2")]


@pytest.fixture(params=VERSIONS, ids=lambda v: f"{v[0].value}-{v[1]}")
def install(request: pytest.FixtureRequest, catalogue: MachineCatalogue) -> EngineInstall:
    engine, version = request.param
    found = catalogue.best(engine, EngineVersion.parse(version))
    if found is None:
        pytest.skip(f"needs {engine.label} {version} on the machine")
    return found


@pytest.fixture
def closed_host(nodes_root: Path) -> LocalHost:
    return LocalHost(nodes_root, LOGIN)


def spec_of(install: EngineInstall, name: str, address: Address, follow: Address | None = None) -> NodeSpec:
    key = NodeKey("us-east-1", name)
    return NodeSpec(key, install.engine, install.version, address, {}, follow, link="us-east-1/a", users=CLOSED)


def test_service_gets_into_nodes_that_nobody_else_may_enter(
    install: EngineInstall, closed_host: LocalHost, fresh_address: FreshAddress, eventually: Eventually
) -> None:
    """Looks, replication, a change of roles, numbers and a closer look, on every version."""
    first, second = fresh_address(), fresh_address()
    access = Access(LOGIN)

    async def run() -> None:
        admin, meter = Admin(access), EngineMeter(access=access)
        await closed_host.start(spec_of(install, "a-001", first), install, keep_data=False)
        await closed_host.start(spec_of(install, "a-002", second, first), install, keep_data=False)

        async def linked(replica: Address) -> bool:
            return (await admin.facts(install.engine, replica, [])).link_up

        await eventually(lambda: linked(second))
        await admin.switch_over(first, second, [first.host], [second.host], [])
        await eventually(lambda: linked(first))
        assert (await admin.facts(install.engine, second, [])).role is Role.PRIMARY
        place = Place(second, own=True)
        assert (await meter.read(place))["role"] == "master"
        assert await EngineExaminer(access=access).clients_by_address(place) is not None
        nobody, blind = Admin(), EngineMeter()
        with pytest.raises(WorldError, match="NOAUTH"):
            await nobody.facts(install.engine, second, [])
        with pytest.raises(WorldError, match="NOAUTH"):
            await blind.read(place)
        for closing in (admin, meter, nobody, blind):
            await closing.close()

    asyncio.run(run())


def test_link_password_opens_its_own_scope_only_and_no_file_has_the_installations(
    valkey: EngineInstall, closed_host: LocalHost, nodes_root: Path, fresh_address: FreshAddress, eventually: Eventually
) -> None:
    at = fresh_address()

    async def run() -> None:
        admin = Admin(Access(LOGIN))
        await closed_host.start(spec_of(valkey, "a-001", at), valkey, keep_data=False)
        await eventually(lambda: admin.facts(valkey.engine, at, []))
        await admin.close()

    asyncio.run(run())
    for scope, opens in (("us-east-1/a", True), ("us-east-1/b", False)):
        with client.Valkey(
            host=at.host, port=at.port, username=SERVICE_USER, password=LOGIN.link_password(scope)
        ) as link:
            if opens:
                assert link.execute_command("ACL", "WHOAMI") == SERVICE_USER.encode()
            else:
                with pytest.raises(client.AuthenticationError):
                    link.ping()
    folder = nodes_root / "us-east-1" / "a-001" / "0001"
    files = {path.name: path for path in folder.iterdir() if path.is_file()}
    assert all(stat.S_IMODE(path.stat().st_mode) == 0o600 for path in files.values())
    assert not any(LOGIN.password in path.read_text("utf-8", "replace") for path in files.values())
    assert LOGIN.link_password("us-east-1/a") not in files["node.json"].read_text()
    assert LOGIN.password not in repr(LOGIN)


def test_engine_that_does_not_know_the_service_is_talked_to_as_anybody(
    valkey: EngineInstall, host: LocalHost, fresh_address: FreshAddress, eventually: Eventually
) -> None:
    """It was started by an earlier version of the service, or somebody took the user away."""
    at = fresh_address()
    key = NodeKey("us-east-1", "a-001")

    async def run() -> None:
        access = Access(LOGIN)
        admin, meter = Admin(access), EngineMeter(access=access)
        await host.start(NodeSpec(key, valkey.engine, valkey.version, at), valkey, keep_data=False)
        await eventually(lambda: admin.facts(valkey.engine, at, []))
        assert (await meter.read(Place(at, own=True)))["role"] == "master"
        line = await Line.connect(at, 2.0, access)
        assert not line.logged_in
        assert not isinstance((await line.ask(("ROLE",), timeout_s=2.0))[0], ReplyError)
        line.close()
        await admin.close()
        await meter.close()

    asyncio.run(run())
