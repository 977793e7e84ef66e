"""The real Control on a real store, over a simulated machine (tests.properties.simulated) whose time is its looks."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from pathlib import Path

import pytest
import structlog

from cachekeep.control.loop import Control, World
from cachekeep.data.load import default_groups, families, node_types
from cachekeep.domain.cache_cluster import CacheCluster, Status
from cachekeep.domain.engine import Engine
from cachekeep.domain.nodes import Address, NodeFacts, NodeKey, NodeSpec, Process
from cachekeep.domain.parameters import ParameterGroup
from cachekeep.domain.ports import WorldError
from cachekeep.domain.replication_group import ReplicationGroup
from cachekeep.plan.nodes import GIVE_UP_AFTER
from cachekeep.plan.specs import Abilities, Catalog
from cachekeep.store.sqlite import SqliteStore
from tests.properties.machine import World as Machine
from tests.properties.simulated import FakeAdmin, FakeCatalogue, FakeClock, FakeHost
from tests.properties.stored import NOW, PRIMARY_HOST, REGION, address_of, cluster_of, group_of, memcached_of

Eventually = Callable[..., Awaitable[object]]


@pytest.fixture(autouse=True)
def quiet_logs() -> Iterator[None]:
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger("critical"))
    yield
    structlog.reset_defaults()


class Installation:
    """A store, a machine, and a service that can be started and killed."""

    def __init__(self, folder: Path) -> None:
        self.store = SqliteStore(folder / "store.db")
        self.machine = Machine()
        self.host = FakeHost(self.machine)
        self.admin = FakeAdmin(self.machine, ticking=True)
        self.catalogue = FakeCatalogue()
        self.ended = False
        groups = {g.name: ParameterGroup(REGION, g.name, g.family, "", {}, True) for g in default_groups()}
        self.catalog = Catalog(families(), node_types(), groups)

    @asynccontextmanager
    async def service(self) -> AsyncIterator[Control]:
        world = World(self.store, self.host, self.admin, self.catalogue, FakeClock())
        control = Control(world, self.catalog, Abilities())
        task = asyncio.create_task(control.run())
        task.add_done_callback(lambda _: setattr(self, "ended", True))
        try:
            yield control
            if task.done():
                await task
        finally:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task

    def put(self, *resources: CacheCluster | ReplicationGroup) -> None:
        with self.store.transaction() as work:
            for resource in resources:
                work.insert(resource)

    def change(self, old: CacheCluster, **values: object) -> None:
        with self.store.transaction() as work:
            work.replace(old, replace(old, **values))  # type: ignore[arg-type]

    def cluster(self, name: str) -> CacheCluster:
        found = self.store.get(CacheCluster, REGION, name)
        assert found is not None
        return found

    def is_available(self, name: str) -> bool:
        return self.cluster(name).status is Status.AVAILABLE

    def group_status(self) -> Status | None:
        group = self.store.get(ReplicationGroup, REGION, "g")
        return group.status if group else None

    def events(self, name: str) -> list[str]:
        found = self.store.events(REGION, since=0, until=NOW * 2, source_type=None, source_id=name)
        return [event.message for event in found]


@pytest.fixture
def installation(tmp_path: Path) -> Iterator[Installation]:
    made = Installation(tmp_path)
    yield made
    made.store.close()


def _key(name: str) -> NodeKey:
    return NodeKey(REGION, name)


def _pair() -> tuple[ReplicationGroup, CacheCluster, CacheCluster]:
    return group_of("g", ("a", "b")), cluster_of("a", 1, group="g"), cluster_of("b", 2, group="g")


def test_what_is_stored_before_and_after_the_start_becomes_available(
    installation: Installation, eventually: Eventually
) -> None:
    async def story() -> None:
        installation.put(cluster_of("early", 1))
        async with installation.service():
            installation.put(*_pair()[:1], cluster_of("a", 3, group="g"), cluster_of("b", 4, group="g"))
            responder = Address("10.0.8.1", 11211)
            installation.put(replace(memcached_of("m", (5, 6)), configuration_endpoint=responder))
            for name in ("early", "a", "b", "m"):
                await eventually(lambda name=name: installation.is_available(name))
            await eventually(lambda: installation.group_status() is Status.AVAILABLE)
        assert installation.host.stopped == [], "engines go on when the service ends"

    asyncio.run(story())


def test_a_death_wakes_the_loop_long_before_its_next_look(installation: Installation, eventually: Eventually) -> None:
    """At rest a resource is looked at every ten seconds, longer than `eventually` waits."""

    async def story() -> None:
        installation.put(*_pair())
        async with installation.service():
            await eventually(lambda: installation.group_status() is Status.AVAILABLE)
            assert installation.machine.write(PRIMARY_HOST, 1)
            installation.machine.tick()
            installation.machine.kill(_key("a"))
            await eventually(lambda: "b" in {g.primary_id for g in installation.store.all(ReplicationGroup)})
            await eventually(lambda: installation.machine.at(PRIMARY_HOST) is installation.machine.running[_key("b")])
            assert installation.machine.write(PRIMARY_HOST, 2)
            await eventually(lambda: _key("a") in installation.machine.running)
        assert installation.machine.running[_key("b")].writes == (1, 2)

    asyncio.run(story())


def test_a_service_that_starts_anew_adopts_what_runs(installation: Installation, eventually: Eventually) -> None:
    async def story() -> None:
        installation.put(*_pair())
        async with installation.service():
            await eventually(lambda: installation.group_status() is Status.AVAILABLE)
        before = {key: engine.process for key, engine in installation.machine.running.items()}
        installation.put(cluster_of("new", 5))
        async with installation.service() as control:
            await eventually(lambda: installation.is_available("new"))
            await eventually(lambda: _key("b") in control.seen)
        assert before.items() <= {key: e.process for key, e in installation.machine.running.items()}.items()

    asyncio.run(story())


class LimitedHost(FakeHost):
    """Refuses the first so many starts."""

    def __init__(self, machine: Machine, refused: int) -> None:
        super().__init__(machine)
        self.refused = refused
        self.tried_at: list[float] = []

    async def start(self, spec: NodeSpec, install: object, *, keep_data: bool) -> Process:
        self.tried_at.append(asyncio.get_running_loop().time())
        if len(self.tried_at) <= self.refused:
            raise WorldError("no space left on device")
        return await super().start(spec, None, keep_data=keep_data)


def test_a_start_that_fails_is_tried_again_after_a_growing_while(
    installation: Installation, eventually: Eventually
) -> None:
    async def story() -> None:
        host = LimitedHost(installation.machine, GIVE_UP_AFTER - 1)
        installation.host = host
        installation.put(cluster_of("c", 1))
        async with installation.service():
            await eventually(lambda: installation.is_available("c"))
        first, second, third = host.tried_at
        assert third - second > second - first, "each wait is longer than the one before"

    asyncio.run(story())


def test_a_creation_is_given_up_in_the_engines_own_words(installation: Installation, eventually: Eventually) -> None:
    async def story() -> None:
        installation.machine.broken_starts.add(_key("c"))
        installation.put(cluster_of("c", 1))
        async with installation.service():
            await eventually(lambda: installation.cluster("c").status is Status.CREATE_FAILED)
            assert any("Fatal error, can't open config file" in text for text in installation.events("c"))
            assert any(f"({GIVE_UP_AFTER} tries)" in text for text in installation.events("c"))
            installation.change(installation.cluster("c"), status=Status.DELETING)
            await eventually(lambda: installation.store.get(CacheCluster, REGION, "c") is None)
        assert installation.machine.folders == {}

    asyncio.run(story())


def test_a_missing_engine_is_named(installation: Installation, eventually: Eventually) -> None:
    async def story() -> None:
        installation.catalogue.missing = True
        installation.put(cluster_of("c", 1))
        async with installation.service():
            await eventually(lambda: installation.cluster("c").status is Status.CREATE_FAILED)
        assert any("is not installed on this machine any more" in text for text in installation.events("c"))

    asyncio.run(story())


def test_a_bug_in_one_round_does_not_stop_the_others(installation: Installation, eventually: Eventually) -> None:
    async def story() -> None:
        installation.put(cluster_of("broken", 1, node_type="cache.of.nobody"), cluster_of("sound", 2))
        async with installation.service():
            await eventually(lambda: installation.is_available("sound"))
            installation.machine.kill(_key("sound"))
            await eventually(lambda: _key("sound") in installation.machine.running)
            installation.change(installation.cluster("broken"), node_type="cache.t4g.micro")
            await eventually(lambda: installation.is_available("broken"))

    asyncio.run(story())


class MeddlingAdmin(FakeAdmin):
    """Calls `meddle` once, between a look and what is decided from it."""

    def __init__(self, machine: Machine) -> None:
        super().__init__(machine, ticking=True)
        self.meddle: Callable[[], None] | None = None

    async def facts(self, engine: Engine, address: Address, settings: object) -> NodeFacts:
        facts = await super().facts(engine, address, settings)  # type: ignore[arg-type]
        if self.meddle is not None and facts.role is not None:
            meddle, self.meddle = self.meddle, None
            meddle()
        return facts


def test_a_change_in_the_middle_of_a_round_is_kept_and_planned_from(
    installation: Installation, eventually: Eventually
) -> None:
    async def story() -> None:
        admin = MeddlingAdmin(installation.machine)
        installation.admin = admin
        installation.put(cluster_of("c", 1))
        # This very look would make it available; the user's delete comes in between and wins.
        admin.meddle = lambda: installation.change(installation.cluster("c"), status=Status.DELETING)
        async with installation.service():
            await eventually(lambda: installation.store.get(CacheCluster, REGION, "c") is None)
        assert installation.events("c") == ["Cache cluster deleted"]
        assert installation.machine.folders == {}

    asyncio.run(story())


def test_the_rest_of_a_delete_is_swept_away_at_the_start(installation: Installation, eventually: Eventually) -> None:
    async def story() -> None:
        orphan = NodeSpec(_key("orphan"), Engine.VALKEY, cluster_of("c", 1).version, address_of(9))
        installation.machine.start(orphan, keep_data=False)
        installation.put(cluster_of("c", 1))
        async with installation.service():
            await eventually(lambda: installation.is_available("c"))
        assert set(installation.machine.running) == {_key("c")}
        assert set(installation.machine.folders) == {_key("c")}

    asyncio.run(story())


class StickyHost(FakeHost):
    """One folder cannot be deleted."""

    async def remove(self, key: NodeKey) -> None:
        if key.cluster_id == "orphan":
            raise WorldError("cannot delete: Device or resource busy")
        await super().remove(key)


def test_an_orphan_that_cannot_be_removed_stops_nobody(installation: Installation, eventually: Eventually) -> None:
    async def story() -> None:
        installation.host = StickyHost(installation.machine)
        orphan = NodeSpec(_key("orphan"), Engine.VALKEY, cluster_of("c", 1).version, address_of(9))
        installation.machine.start(orphan, keep_data=False)
        installation.put(cluster_of("c", 1))
        async with installation.service():
            await eventually(lambda: installation.is_available("c") or installation.ended)

    asyncio.run(story())


def test_a_deleted_group_leaves_nothing(installation: Installation, eventually: Eventually) -> None:
    async def story() -> None:
        installation.put(*_pair())
        async with installation.service():
            await eventually(lambda: installation.group_status() is Status.AVAILABLE)
            with installation.store.transaction() as work:
                for resource in (*work.all(ReplicationGroup), *work.all(CacheCluster)):
                    work.replace(resource, replace(resource, status=Status.DELETING))
            await eventually(lambda: installation.group_status() is None)
            # The same name again, at once.
            installation.put(*_pair())
            await eventually(lambda: installation.group_status() is Status.AVAILABLE)
        assert installation.store.all(CacheCluster, REGION) != []

    asyncio.run(story())


def test_a_save_whose_reply_was_lost_keeps_its_data(installation: Installation, eventually: Eventually) -> None:
    """The engine saved and ended, but slower than the service waited: the data is loaded at the next start."""

    async def story() -> None:
        installation.put(cluster_of("c", 1))
        async with installation.service():
            await eventually(lambda: installation.is_available("c") and installation.cluster("c").nodes[0].process)
            assert installation.machine.write(address_of(1).host, 1)
            installation.admin.save_reply_lost = True
            cluster = installation.cluster("c")
            node = replace(cluster.nodes[0], reboot_from=cluster.nodes[0].process)
            installation.change(cluster, nodes=(node,), status=Status.REBOOTING)
            await eventually(lambda: installation.is_available("c"))
        assert installation.machine.running[_key("c")].writes == (1,)

    asyncio.run(story())
