"""Nodes that load the auth module at their start, and those that must do without it."""

from __future__ import annotations

import shutil
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from cachekeep.access.iam_module import IamModule
from cachekeep.domain.engine import Engine, EngineInstall, EngineVersion
from cachekeep.domain.nodes import Address, NodeFacts, NodeKey, NodeSpec
from cachekeep.domain.ports import WorldError
from cachekeep.engine.admin import Admin
from cachekeep.host.installs import MachineCatalogue
from cachekeep.host.local import LocalHost

pytestmark = pytest.mark.anyio
KEY = NodeKey("us-east-1", "my-rg-001")


@pytest.fixture
def module(tmp_path: Path, catalogue: MachineCatalogue) -> IamModule:
    return IamModule(tmp_path / "state", catalogue.installs)


def install(catalogue: MachineCatalogue, engine: Engine, version: str) -> EngineInstall:
    found = catalogue.best(engine, EngineVersion.parse(version))
    if found is None:
        pytest.skip(f"no {engine.label} {version} on this machine")
    return found


async def facts_of(
    host: LocalHost, spec: NodeSpec, program: EngineInstall, eventually: Callable[..., Awaitable[object]]
) -> NodeFacts:
    admin = Admin()
    await host.start(spec, program, keep_data=False)

    async def facts() -> NodeFacts | None:
        try:
            return await admin.facts(spec.engine, spec.address, ())
        except WorldError:
            return None

    seen: list[NodeFacts | None] = []

    async def answered() -> bool:
        seen.append(await facts())
        return seen[-1] is not None

    try:
        await eventually(answered, 30.0)
        second = await facts()  # by name of sections, once the version is known
        assert second is not None
        assert seen[-1] is not None
        assert second.takes_tokens == seen[-1].takes_tokens
        return second
    finally:
        await admin.close()
        await host.stop(spec.key, grace_s=10.0)


@pytest.mark.parametrize(
    ("engine", "version", "takes"),
    [
        (Engine.VALKEY, "9.1", True),
        (Engine.VALKEY, "8.1", True),
        (Engine.REDIS, "7.0", False),
        (Engine.REDIS, "6.2", False),
    ],
)
async def test_every_valkey_that_knows_how_loads_the_module(
    tmp_path: Path, module: IamModule, catalogue: MachineCatalogue, fresh_address: Callable[..., Address],
    eventually: Callable[..., Awaitable[object]], engine: Engine, version: str, *, takes: bool,
) -> None:  # fmt: skip
    (tmp_path / "state").mkdir(mode=0o700)
    program = install(catalogue, engine, version)
    module.prepare()
    host = LocalHost(tmp_path / "nodes", modules=module.words_for)
    try:
        spec = NodeSpec(KEY, engine, program.version, fresh_address())
        assert (await facts_of(host, spec, program, eventually)).takes_tokens is takes
    finally:
        host.close()
        module.close()


async def test_nobody_loads_it_before_somebody_wants_it(
    tmp_path: Path, module: IamModule, catalogue: MachineCatalogue, fresh_address: Callable[..., Address],
    eventually: Callable[..., Awaitable[object]],
) -> None:  # fmt: skip
    (tmp_path / "state").mkdir(mode=0o700)
    program = install(catalogue, Engine.VALKEY, "9.1")
    host = LocalHost(tmp_path / "nodes", modules=module.words_for)
    try:
        spec = NodeSpec(KEY, Engine.VALKEY, program.version, fresh_address())
        assert not (await facts_of(host, spec, program, eventually)).takes_tokens
    finally:
        host.close()
        module.close()


async def test_a_module_that_an_engine_cannot_load_stops_no_node(
    tmp_path: Path, module: IamModule, catalogue: MachineCatalogue, fresh_address: Callable[..., Address],
    eventually: Callable[..., Awaitable[object]], monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    """A prebuilt one of another machine, say: the proof fails, and the node starts without it."""
    (tmp_path / "state" / "modules").mkdir(mode=0o700, parents=True)
    broken = tmp_path / "broken.so"
    shutil.copy(__file__, broken)
    broken.chmod(0o500)
    monkeypatch.setattr("cachekeep.access.iam_module.find_or_build", lambda _: broken)
    with pytest.raises(WorldError, match="cannot load the IAM module"):
        module.prepare()
    program = install(catalogue, Engine.VALKEY, "9.1")
    host = LocalHost(tmp_path / "nodes", modules=module.words_for)
    try:
        spec = NodeSpec(KEY, Engine.VALKEY, program.version, fresh_address())
        assert not (await facts_of(host, spec, program, eventually)).takes_tokens
    finally:
        host.close()
        module.close()
