"""The loop: one task per resource; look, decide, store, act, and look again until nothing is left to do.

Level-triggered: nothing is remembered between rounds but the store and a back-off, so a service that was killed
anywhere goes on where the world is. Rounds of one resource never overlap.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass

import structlog

from cachekeep.control.act import Actor
from cachekeep.control.attempts import Attempts
from cachekeep.control.certificates import keep_certificates
from cachekeep.control.heartbeat import Heartbeat
from cachekeep.control.journal import Journal
from cachekeep.control.observe import Observer
from cachekeep.control.regions import Regions, units_of
from cachekeep.control.unit import Unit, load_unit, unit_of
from cachekeep.control.users import UserChanges
from cachekeep.domain.cache_cluster import CacheCluster
from cachekeep.domain.global_group import GlobalGroup
from cachekeep.domain.migration import MigrationPhase, SourceFacts
from cachekeep.domain.nodes import Address, NodeKey, NodeSpec, ObservedNode
from cachekeep.domain.parameters import ParameterGroup
from cachekeep.domain.ports import Clock, Conflict, EngineAdmin, EngineCatalogue, Host, Resource, Store, WorldError
from cachekeep.domain.replication_group import SWITCH_NODE, ReplicationGroup
from cachekeep.plan.cache_cluster import plan_cluster
from cachekeep.plan.decision import Decision, Limits, Look
from cachekeep.plan.memcached import plan_memcached
from cachekeep.plan.replication_group import plan_group
from cachekeep.plan.specs import Abilities, Catalog, families_by_node, node_specs, parameter_group_names
from cachekeep.plan.transit import switch_spec
from cachekeep.plan.users import Entrants
from cachekeep.rounds import woken

log = structlog.get_logger()

# A round that decides the same as the one before waits this long, doubling up to the limit.
FIRST_BACK_OFF_S = 0.01
LONGEST_BACK_OFF_S = 2.0
# A round that only waits (for an engine to load, a replica to synchronise) looks again this seldom in the end.
LONGEST_WAIT_S = 0.5
# Slowly: what it waits for is then seen within a twentieth of the time that it took.
WAIT_GROWTH = 1.05
SWEEP_GRACE_S = 5.0


_MadeFrom = tuple[list[CacheCluster], dict[str, ParameterGroup], Entrants, bool, tuple[Address, ...]]


@dataclass(frozen=True)
class World:
    """The ports that control needs."""

    store: Store
    host: Host
    admin: EngineAdmin
    catalogue: EngineCatalogue
    clock: Clock


class Control:
    """Keeps every resource of the store as it is wanted, for as long as `run` runs."""

    def __init__(
        self,
        world: World,
        catalog: Catalog,
        abilities: Abilities,
        limits: Limits | None = None,
        seen: dict[NodeKey, ObservedNode] | None = None,
    ) -> None:
        """seen: where the last look at every node is kept, for whoever shows or judges it."""
        self._world = world
        self._catalog = catalog
        self._abilities = abilities
        self._limits = limits or Limits()
        self._attempts = Attempts()
        self._heartbeat = Heartbeat(world.admin, self._limits.hang_s, self._wake_node)
        self._observer = Observer(world.host, world.admin, self._attempts, self._heartbeat, self._node_died)
        self._actor = Actor(world.host, world.admin, world.catalogue, self._attempts, self._wake_node)
        self._journal = Journal(world.store, world.clock)
        self._wakes: dict[Unit, asyncio.Event] = {}
        self._new_units: asyncio.Queue[Unit] = asyncio.Queue()
        self._specs: dict[Unit, tuple[_MadeFrom, dict[NodeKey, NodeSpec]]] = {}
        self.seen = {} if seen is None else seen
        self._regions = Regions(world.store, world.admin, world.clock, self.seen)
        self._users = UserChanges(world.store, world.clock, self._told, self.seen, self.wake)

    async def run(self) -> None:
        """Until cancelled. Engines go on when it ends."""
        self._world.store.subscribe(self._changed)
        for group in self._world.store.all(ReplicationGroup):
            self.wake(unit_of(group))
        for cluster in self._world.store.all(CacheCluster):
            self.wake(unit_of(cluster))
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._sweep(), name="sweep")
            tasks.create_task(self._heartbeat.run(), name="heartbeat")
            tasks.create_task(
                keep_certificates(
                    self._world.host, self._world.admin, self._world.store, self._world.clock, self._all_specs
                ),
                name="certificates",
            )
            tasks.create_task(self._users.run(), name="users")
            try:
                while True:
                    unit = await self._new_units.get()
                    tasks.create_task(self._keep(unit), name=str(unit))
            finally:
                await self._actor.close()

    def wake(self, unit: Unit) -> None:
        """Look at a resource now."""
        if unit not in self._wakes:
            self._wakes[unit] = asyncio.Event()
            self._new_units.put_nowait(unit)
        self._wakes[unit].set()

    def _changed(self, resources: Sequence[Resource]) -> None:
        for resource in resources:
            self._users.note(resource)
            if isinstance(resource, (ReplicationGroup, CacheCluster)):
                self.wake(unit_of(resource))
                for unit in self._regions.others(resource) if isinstance(resource, ReplicationGroup) else ():
                    self.wake(unit)
            elif isinstance(resource, GlobalGroup):
                for unit in units_of(resource):
                    self.wake(unit)
            elif isinstance(resource, ParameterGroup):
                for cluster in self._world.store.all(CacheCluster, resource.region):
                    if resource.name in parameter_group_names([cluster]):
                        self.wake(unit_of(cluster))

    def _node_died(self, key: NodeKey) -> None:
        log.info("process ended", node=str(key))
        self._wake_node(key)

    def _wake_node(self, key: NodeKey) -> None:
        if key.node_id == SWITCH_NODE:
            group = self._world.store.get(ReplicationGroup, key.region, key.cluster_id)
            if group is not None:
                self.wake(unit_of(group))
            return
        cluster = self._world.store.get(CacheCluster, key.region, key.cluster_id)
        if cluster is not None:
            self.wake(unit_of(cluster))

    async def _sweep(self) -> None:
        """What has a folder or a process here but no resource in the store is the rest of a delete: finish it."""
        for key in self._world.host.nodes():
            if self._is_wanted(key):
                continue
            log.warning("removing a node that belongs to nothing", node=str(key))
            try:
                await self._world.host.stop(key, grace_s=SWEEP_GRACE_S)
                await self._world.host.remove(key)
            except WorldError as error:
                log.warning("a node that belongs to nothing stays", node=str(key), reason=str(error))
        try:
            for stray in await self._world.host.end_strays(self._is_wanted):
                log.warning("ended a process that belonged to nothing", node=stray)
        except WorldError as error:
            log.warning("cannot look for processes that belong to nothing", reason=str(error))

    def _is_wanted(self, key: NodeKey) -> bool:
        if key.node_id == SWITCH_NODE:
            group = self._world.store.get(ReplicationGroup, key.region, key.cluster_id)
            return group is not None and group.transit_moves
        cluster = self._world.store.get(CacheCluster, key.region, key.cluster_id)
        return cluster is not None and key in _keys_of(cluster)

    async def _keep(self, unit: Unit) -> None:
        wake = self._wakes[unit]
        back_off = FIRST_BACK_OFF_S
        previous: Decision | None = None
        while True:
            wake.clear()
            try:
                decision = await self._round(unit)
            except WorldError as error:
                log.warning("round failed", unit=str(unit), reason=str(error))
                decision = Decision(recheck_s=LONGEST_BACK_OFF_S, sentence="failed")
            except Exception:
                log.exception("round failed", unit=str(unit))
                decision = Decision(recheck_s=LONGEST_BACK_OFF_S, sentence="failed")
            if decision is None:
                del self._wakes[unit]
                self._specs.pop(unit, None)
                self._journal.forget(unit)
                return
            acted = bool(decision.steps or decision.puts)
            if decision == previous:
                growth, longest = (2.0, LONGEST_BACK_OFF_S) if acted else (WAIT_GROWTH, LONGEST_WAIT_S)
                back_off = min(back_off * growth, longest)
                await _wait(wake, back_off if acted else max(decision.recheck_s, back_off))
            else:
                back_off = FIRST_BACK_OFF_S
                await _wait(wake, 0.0 if acted else decision.recheck_s)
            if wake.is_set():
                back_off = FIRST_BACK_OFF_S
            previous = decision

    async def _round(self, unit: Unit) -> Decision | None:
        """Look once, decide once, act once. None when the resource is gone."""
        group, clusters = load_unit(self._world.store, unit)
        if group is None and not clusters:
            return None
        parameter_groups = {name: self._parameter_group(unit.region, name) for name in parameter_group_names(clusters)}
        clustered = group is not None and group.clustered
        source = await self._source(group)
        entrants = self._users.entrants(group or clusters[0])
        specs = self._node_specs(unit, group, clusters, parameter_groups, entrants, clustered=clustered)
        nodes = await self._observer.look(specs)
        self.seen.update(nodes)
        self._regions.fence(group, entrants, specs)
        look = Look(
            now=self._world.clock.now(),
            nodes=nodes,
            specs=specs,
            parameter_families=families_by_node(clusters, parameter_groups, self._catalog),
            hold_s={key: hold for key in specs if (hold := self._attempts.hold_s(key)) > 0},
            switch_hold_s={key: hold for key in specs if (hold := self._attempts.switch_hold_s(key)) > 0},
            limits=self._limits,
            source=source,
            upstream=await self._regions.upstream(group),
        )
        decision = self._decide(group, clusters, look)
        try:
            if not self._commit(group, clusters, decision):
                return Decision(recheck_s=0.0, sentence="changed meanwhile")
        except WorldError:
            # A store that cannot be written must not keep an heir from taking over: steps are safe without it.
            await self._actor.run(decision.stages)
            raise
        if decision.released:
            self._forget_nodes(clusters)
        failures = await self._actor.run(decision.stages, specs)
        try:
            self._users.settle()
            self._journal.write(unit, decision, failures)
        except WorldError as error:
            # What was done was done: the next round must not wait for a disk.
            log.warning("the journal could not be written", unit=str(unit), reason=str(error))
        return decision

    def _node_specs(
        self,
        unit: Unit,
        group: ReplicationGroup | None,
        clusters: list[CacheCluster],
        parameter_groups: dict[str, ParameterGroup],
        entrants: Entrants,
        *,
        clustered: bool,
    ) -> dict[NodeKey, NodeSpec]:
        """Those of the last round while nothing that they are made from has changed: they cost more than a look."""
        endpoints = group.endpoints if group is not None else ()
        made_from = (clusters, parameter_groups, entrants, clustered, endpoints)
        known = self._specs.get(unit)
        if known is None or known[0] != made_from:
            specs = node_specs(
                clusters,
                parameter_groups,
                self._catalog,
                self._abilities,
                clustered=clustered,
                endpoints=endpoints,
                entrants=entrants,
            )
            known = made_from, specs
            self._specs[unit] = known
        return {**known[1], **switch_spec(group)} if group is not None and group.transit_moves else known[1]

    def _all_specs(self) -> list[NodeSpec]:
        return [spec for _, specs in list(self._specs.values()) for spec in specs.values()]

    async def _source(self, group: ReplicationGroup | None) -> SourceFacts | None:
        """Asked before the group's own nodes are: what it had acknowledged by then they may have."""
        migration = group.migration if group is not None else None
        if group is None or migration is None or migration.is_captured or migration.rests:
            return None
        if migration.phase is MigrationPhase.FOLLOWING and self._is_latched(group):
            return None
        return await self._world.admin.look_outside(migration.source)

    def _is_latched(self, group: ReplicationGroup) -> bool:
        """As last seen, its primary is in sync with the source, and nothing is to be decided about that."""
        primary = self._world.store.get(CacheCluster, group.region, group.primary_id)
        seen = self.seen.get(primary.key(primary.nodes[0])) if primary is not None else None
        return seen is not None and seen.facts is not None and seen.facts.link_up and seen.facts.latched

    def _told(self, unit: Unit) -> tuple[Entrants, dict[NodeKey, NodeSpec]] | None:
        known = self._specs.get(unit)
        return None if known is None else (known[0][2], known[1])

    def _decide(self, group: ReplicationGroup | None, clusters: list[CacheCluster], look: Look) -> Decision:
        if group is not None:
            return plan_group(group, clusters, look)
        cluster = clusters[0]
        return plan_cluster(cluster, look) if cluster.engine.speaks_resp else plan_memcached(cluster, look)

    def _parameter_group(self, region: str, name: str) -> ParameterGroup:
        stored = self._world.store.get(ParameterGroup, region, name)
        return stored or self._catalog.default_groups[name]

    def _commit(self, group: ReplicationGroup | None, clusters: list[CacheCluster], decision: Decision) -> bool:
        """False when somebody changed the resource since it was read; nothing is stored then."""
        if not (decision.puts or decision.drops or decision.forget or decision.events):
            return True
        old: dict[tuple[type, str], ReplicationGroup | CacheCluster] = {(CacheCluster, c.id): c for c in clusters}
        if group is not None:
            old[ReplicationGroup, group.id] = group
        try:
            with self._world.store.transaction() as work:
                for put in decision.puts:
                    work.replace(old[type(put), put.id], put)
                for cluster in decision.drops:
                    work.replace(cluster, cluster)
                    work.delete(cluster)
                    work.release(cluster.addresses)
                if decision.forget and group is not None:
                    self.seen.pop(group.switch_key, None)
                    work.replace(group, group)
                    work.delete(group)
                    work.release(group.endpoints)
                work.release(decision.released)
                for event in decision.events:
                    work.add_event(event)
        except Conflict:
            return False
        for cluster in decision.drops:
            for key in _keys_of(cluster):
                self._forget_node(key)
        log.info("decided", sentence=decision.sentence, events=[e.message for e in decision.events])
        return True

    def _forget_nodes(self, clusters: list[CacheCluster]) -> None:
        """Nodes that left their cluster are shown no more."""
        for cluster in clusters:
            kept = self._world.store.get(CacheCluster, cluster.region, cluster.id)
            here = set(_keys_of(kept)) if kept else set()
            for key in set(_keys_of(cluster)) - here:
                self._forget_node(key)

    def _forget_node(self, key: NodeKey) -> None:
        self.seen.pop(key, None)
        self._attempts.forget(key)
        self._observer.forget(key)


def _keys_of(cluster: CacheCluster) -> tuple[NodeKey, ...]:
    """Every node that may have a folder and a process for it."""
    spares = (cluster.spare.node,) if cluster.spare is not None else ()
    return (*(cluster.key(n) for n in (*cluster.nodes, *spares)), cluster.discovery_key)


async def _wait(wake: asyncio.Event, seconds: float) -> None:
    """Until woken, at most so long."""
    if seconds > 0:
        await woken(wake, seconds)
