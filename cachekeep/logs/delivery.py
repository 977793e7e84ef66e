"""Keeps a lane for every log that a group or cluster wants delivered, and says in the store how it goes.

Level-triggered like control: what is wanted is read from the store, so a service that was killed goes on.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

import structlog

from cachekeep.domain.cache_cluster import CacheCluster, Status
from cachekeep.domain.events import Event, SourceType
from cachekeep.domain.log_delivery import LogDelivery, LogStatus, LogType
from cachekeep.domain.log_ports import EngineLogs, LogDestinations, LogPositions, LogStream, SlowLogs
from cachekeep.domain.ports import Clock, Conflict, Resource, Store, WorldError
from cachekeep.domain.replication_group import ReplicationGroup
from cachekeep.logs.lane import Lane, Route
from cachekeep.logs.source import EngineSource, SlowSource, Source
from cachekeep.rounds import woken

log = structlog.get_logger()

_NOT_YET = frozenset({Status.CREATING, Status.CREATE_FAILED, Status.DELETING})
LOOK_EVERY_S = 10.0
# Of many changes of the store at once, one look.
GATHER_S = 0.2
# Losses of one log are told this seldom, with their sum.
TELL_LOSSES_EVERY_S = 60.0
Owner = ReplicationGroup | CacheCluster


@dataclass(frozen=True)
class LogWorld:
    """The ports that log delivery needs."""

    store: Store
    clock: Clock
    slow_logs: SlowLogs
    engine_logs: EngineLogs
    destinations: LogDestinations
    positions: LogPositions


class LogKeeper:
    """Run `run` for as long as the service runs."""

    def __init__(self, world: LogWorld) -> None:
        self._world = world
        self._lanes: dict[Route, tuple[Lane, asyncio.Task[None]]] = {}
        self._changed = asyncio.Event()
        self._swept = False
        self._lost: Counter[tuple[str, str, LogType]] = Counter()
        self._told_at: dict[tuple[str, str, LogType], float] = {}
        world.store.subscribe(self._note)

    def _note(self, touched: Sequence[Resource]) -> None:
        if any(isinstance(resource, (ReplicationGroup, CacheCluster)) for resource in touched):
            self._changed.set()

    async def run(self) -> None:
        """Until cancelled."""
        try:
            while True:
                self._changed.clear()
                await self._look()
                if await woken(self._changed, LOOK_EVERY_S):
                    await asyncio.sleep(GATHER_S)
        finally:
            await self._end(list(self._lanes))

    async def _look(self) -> None:
        owners = list(self._owners())
        wanted = {route for owner, members in owners for route in _routes(owner, members)}
        gone = [route for route, (_, task) in self._lanes.items() if route not in wanted or task.done()]
        await self._end(gone)
        for route in wanted - self._lanes.keys():
            world = self._world
            lane = Lane(route, self._source(route), world.destinations, world.positions, self._changed.set)
            self._lanes[route] = lane, asyncio.create_task(lane.run(), name=route.stream.name)
        if gone or not self._swept:
            await self._forget(wanted)
        for owner, _ in owners:
            try:
                self._record(owner)
            except Conflict:
                self._changed.set()  # control was faster: the next look sees what it wrote
            except WorldError as error:
                log.warning("how logs are delivered cannot be stored", id=owner.id, reason=str(error))

    def _owners(self) -> Iterator[tuple[Owner, list[CacheCluster]]]:
        """Whoever has logs delivered, with the clusters that they are of."""
        store = self._world.store
        for group in store.all(ReplicationGroup):
            if group.upkeep.log_deliveries:
                found = (store.get(CacheCluster, group.region, name) for name in group.member_ids)
                yield group, [member for member in found if member is not None]
        for cluster in store.all(CacheCluster):
            if cluster.upkeep.log_deliveries and cluster.replication_group_id is None:
                yield cluster, [cluster]

    def _source(self, route: Route) -> Source:
        delivery, world = route.stream.delivery, self._world
        names = route.key.cluster_id, route.stream.name.split("/")[3]
        if delivery.log_type is LogType.SLOW:
            return SlowSource(world.slow_logs, route.address, names, delivery.log_format)
        return EngineSource(world.engine_logs, route.key, names, delivery.log_format)

    async def _end(self, routes: Iterable[Route]) -> None:
        routes = list(routes)
        tasks = [self._lanes.pop(route)[1] for route in routes]
        for task in tasks:
            task.cancel()
        for result in await asyncio.gather(*tasks, return_exceptions=True):
            if isinstance(result, Exception):
                log.error("delivery of a log failed; it begins anew", exc_info=result)
        for route in routes:
            if route.stream.delivery.log_type is LogType.SLOW:
                await self._world.slow_logs.forget(route.address)

    async def _forget(self, wanted: Iterable[Route]) -> None:
        left = [(route.key, route.stream.delivery.log_type.value) for route in wanted]
        try:
            await asyncio.to_thread(self._world.positions.keep_only, left)
            self._swept = True
        except WorldError as error:
            log.warning("old positions of log delivery stay", reason=str(error))

    def _record(self, owner: Owner) -> None:
        """Write how it goes where that has changed."""
        goes = (self._as_it_goes(owner, delivery) for delivery in owner.upkeep.log_deliveries)
        now = tuple(delivery for delivery in goes if delivery is not None)
        self._tell_losses(owner)
        if now == owner.upkeep.log_deliveries:
            return
        upkeep = replace(owner.upkeep, log_deliveries=now)
        with self._world.store.transaction() as work:
            work.replace(owner, replace(owner, upkeep=upkeep))
            for name in owner.member_ids if isinstance(owner, ReplicationGroup) else ():
                member = work.get(CacheCluster, owner.region, name)
                if member is not None:
                    work.replace(member, replace(member, upkeep=upkeep))
            for event in _events_of(owner, now, self._world.clock.now()):
                work.add_event(event)

    def _lanes_of(self, owner: Owner, delivery: LogDelivery) -> list[Lane]:
        ids = set(owner.member_ids) if isinstance(owner, ReplicationGroup) else {owner.id}
        return [
            lane
            for route, (lane, _) in self._lanes.items()
            if route.key.region == owner.region
            and route.key.cluster_id in ids
            and route.stream.delivery == delivery.route
        ]

    def _as_it_goes(self, owner: Owner, delivery: LogDelivery) -> LogDelivery | None:
        """None once what was switched off has ended."""
        if not delivery.is_wanted:
            return None
        lanes = self._lanes_of(owner, delivery)
        problems = sorted({lane.problem for lane in lanes if lane.problem})
        if problems:
            return replace(delivery, status=LogStatus.ERROR, message=problems[0][:500])
        if lanes and (all(lane.ready for lane in lanes) or delivery.status is LogStatus.ACTIVE):
            return replace(delivery, status=LogStatus.ACTIVE, message="")
        return delivery

    def _tell_losses(self, owner: Owner) -> None:
        now = self._world.clock.now()
        for delivery in owner.upkeep.log_deliveries:
            for lane in self._lanes_of(owner, delivery):
                key = (owner.region, lane.route.key.cluster_id, delivery.log_type)
                self._lost[key] += lane.lost
                lane.lost = 0
                if self._lost[key] and now >= self._told_at.get(key, 0.0) + TELL_LOSSES_EVERY_S:
                    text = (
                        f"{self._lost[key]} entries of the {delivery.log_type.value} of {key[1]} were not "
                        "delivered: the engine or the queue held no more, or the destination refused them"
                    )
                    with self._world.store.transaction() as work:
                        work.add_event(_event(owner, now, text))
                    self._told_at[key] = now
                    del self._lost[key]


def _routes(owner: Owner, members: Sequence[CacheCluster]) -> Iterator[Route]:
    for delivery in owner.upkeep.log_deliveries:
        if not delivery.is_wanted:
            continue
        for cluster in members:
            if cluster.status in _NOT_YET:
                continue
            for node in cluster.nodes:
                name = f"elasticache/{cluster.engine.value}/{cluster.id}/{node.node_id}/{delivery.log_type.value}"
                yield Route(cluster.key(node), node.address, LogStream(owner.region, delivery.route, name))


def _events_of(owner: Owner, now: Sequence[LogDelivery], at: float) -> Iterator[Event]:
    before = {delivery.log_type: delivery for delivery in owner.upkeep.log_deliveries}
    for delivery in now:
        old = before[delivery.log_type]
        what = f"{delivery.log_type.value} to {delivery.destination_type.value} {delivery.destination}"
        if delivery.status is LogStatus.ERROR and old.status is not LogStatus.ERROR:
            yield _event(owner, at, f"Log delivery of {what} fails: {delivery.message}")
        elif delivery.status is LogStatus.ACTIVE and old.status is not LogStatus.ACTIVE:
            again = " again" if old.status is LogStatus.ERROR else ""
            yield _event(owner, at, f"Log delivery of {what} is active{again}")
    for log_type in before.keys() - {delivery.log_type for delivery in now}:
        yield _event(owner, at, f"Log delivery of {log_type.value} has ended")


def _event(owner: Owner, at: float, text: str) -> Event:
    kind = SourceType.REPLICATION_GROUP if isinstance(owner, ReplicationGroup) else SourceType.CACHE_CLUSTER
    return Event(at, owner.region, kind, owner.id, text)
