"""Keeps service updates and what became of them. Level-triggered: everything is read from the store at each look.

Asks the API to begin a change of version, as a user would, and reads how far it came off the members.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

import structlog

from cachekeep.domain.cache_cluster import CacheCluster, Status
from cachekeep.domain.events import Event, SourceType
from cachekeep.domain.faults import Fault
from cachekeep.domain.ports import Clock, Conflict, EngineCatalogue, Resource, Store, WorldError
from cachekeep.domain.replication_group import ReplicationGroup
from cachekeep.domain.service_updates import (
    ActionStatus,
    Initiator,
    ServiceUpdate,
    UpdateAction,
    UpdateStatus,
    UpkeepNotice,
    action_name,
    update_name,
)
from cachekeep.domain.support import SupportEnd
from cachekeep.plan import service_updates as plan
from cachekeep.rounds import woken

log = structlog.get_logger()

# Windows open and close by the minute.
LOOK_EVERY_S = 20.0
# Of many changes of the store at once, one look.
GATHER_S = 0.5
# The end of standard support is told so long before.
TELL_SUPPORT_S = 180 * 86400.0
Kept = ReplicationGroup | CacheCluster


@dataclass(frozen=True)
class UpkeepWorld:
    """begin: changes the version of a group or cluster now; raises Fault."""

    store: Store
    catalogue: EngineCatalogue
    clock: Clock
    begin: Callable[[ServiceUpdate, Kept], None]
    support: Sequence[SupportEnd] = ()
    next_major: bool = False


class UpdateKeeper:
    """Run `run` for as long as the service runs."""

    def __init__(self, world: UpkeepWorld) -> None:
        self._world = world
        self._changed = asyncio.Event()
        world.store.subscribe(self._note)

    def _note(self, touched: Sequence[Resource]) -> None:
        if any(isinstance(one, (ReplicationGroup, CacheCluster, UpdateAction)) for one in touched):
            self._changed.set()

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            self._changed.clear()
            try:
                self.look()
            except (WorldError, Conflict) as error:
                log.warning("service updates cannot be kept", reason=str(error))
            if await woken(self._changed, LOOK_EVERY_S):
                await asyncio.sleep(GATHER_S)

    def look(self) -> None:
        """Once, without an await: nobody changes the store in between."""
        updates = self._updates()
        actions = {(action.region, action.name): action for action in self._world.store.all(UpdateAction)}
        kept = list(self._kept())
        for resource, members in kept:
            for update in updates:
                name = action_name(update.name, resource.id, is_group=isinstance(resource, ReplicationGroup))
                if self._keep(update, actions.get((resource.region, name)), resource, members):
                    break  # it is not what was read any more
            self._tell_support(resource)
        self._forget(
            actions.values(),
            {(resource.region, isinstance(resource, ReplicationGroup), resource.id) for resource, _ in kept},
        )

    def _updates(self) -> list[ServiceUpdate]:
        """One for each version that this machine has or had; new ones are written down with the moment."""
        store, now = self._world.store, self._world.clock.now()
        known = {(update.engine, update.version): update for update in store.all(ServiceUpdate, "")}
        for install in self._world.catalogue.installs():
            if (install.engine, install.version) not in known:
                name = update_name(install.engine, install.version, now)
                update = ServiceUpdate(name, install.engine, install.version, now)
                with store.transaction() as work:
                    work.insert(update)
                known[install.engine, install.version] = update
        return list(known.values())

    def _kept(self) -> Iterator[tuple[Kept, list[CacheCluster]]]:
        store = self._world.store
        clusters = store.all(CacheCluster)
        by_name = {(c.region, c.id): c for c in clusters}
        for group in store.all(ReplicationGroup):
            yield group, [m for name in group.member_ids if (m := by_name.get((group.region, name))) is not None]
        for cluster in clusters:
            if cluster.replication_group_id is None:
                yield cluster, [cluster]

    def _keep(
        self, update: ServiceUpdate, action: UpdateAction | None, resource: Kept, members: list[CacheCluster]
    ) -> bool:
        """Whether a change of version was begun."""
        world, now = self._world, self._world.clock.now()
        installs = world.catalogue.installs()
        may = plan.status_of(update, installs) is UpdateStatus.AVAILABLE and plan.applies(
            update, resource, installs, next_major=world.next_major
        )
        if action is None:
            if may and resource.status is Status.AVAILABLE:
                self._offer(update, resource, members, now)
            return False
        seen = plan.observed(action, update, resource, members, now)
        if seen != action:
            with world.store.transaction() as work:
                work.replace(action, seen)
        waits = seen.status is ActionStatus.WAITING_TO_START and plan.is_free(resource)
        automatic = may and plan.is_automatic(seen, update, resource, now)
        if waits or automatic:
            self._begin(update, seen, resource, Initiator.SYSTEM if automatic else seen.asked_by)
            return True
        return False

    def _offer(self, update: ServiceUpdate, resource: Kept, members: list[CacheCluster], now: float) -> None:
        is_group = isinstance(resource, ReplicationGroup)
        name = action_name(update.name, resource.id, is_group=is_group)
        blank = UpdateAction(resource.region, name, update.name, resource.id, is_group, now, modified_at=now)
        with self._world.store.transaction() as work:
            stored = work.get(ServiceUpdate, "", update.name)
            if stored is not None and not stored.offered:
                work.replace(stored, replace(stored, offered=True))
            work.insert(plan.observed(blank, update, resource, members, now))
            for cluster in members:
                text = f"Service update {update.name} is available for cache cluster {cluster.id}"
                work.add_event(Event(now, cluster.region, SourceType.CACHE_CLUSTER, cluster.id, text))

    def _begin(self, update: ServiceUpdate, action: UpdateAction, resource: Kept, by: Initiator) -> None:
        store, now = self._world.store, self._world.clock.now()
        try:
            self._world.begin(update, resource)
        except Fault as fault:
            log.info("a service update cannot be applied", update=update.name, id=resource.id, reason=fault.message)
            new = plan.failed(action, fault.message, now)
            event = f"Service update {update.name} could not be applied: {fault.message}"
        else:
            new = plan.asked(action, by, now) if by is Initiator.SYSTEM else action
            why = " as AutoMinorVersionUpgrade asks for" if by is Initiator.SYSTEM else ""
            event = f"Applying service update {update.name}{why}"
        with store.transaction() as work:
            if new != action:
                work.replace(action, new)
            work.add_event(_event(resource, now, event))

    def _tell_support(self, resource: Kept) -> None:
        """Once for each end of standard support that is near or past."""
        now = self._world.clock.now()
        for end in self._world.support:
            if not end.concerns(resource.engine, resource.version) or now < end.standard_at - TELL_SUPPORT_S:
                continue
            kind = "replicationgroup" if isinstance(resource, ReplicationGroup) else "cluster"
            name = f"support/{end.engine.value}-{end.major}/{kind}/{resource.id}"
            if self._world.store.get(UpkeepNotice, resource.region, name) is None:
                with self._world.store.transaction() as work:
                    work.insert(UpkeepNotice(resource.region, name, now))
                    work.add_event(_event(resource, now, end.sentence(now)))

    def _forget(self, actions: Iterable[UpdateAction], there: set[tuple[str, bool, str]]) -> None:
        """Actions and notices of whom is gone."""
        store = self._world.store
        gone: list[UpdateAction | UpkeepNotice] = [
            action for action in actions if (action.region, action.is_group, action.resource_id) not in there
        ]
        for notice in store.all(UpkeepNotice):
            _, _, kind, resource_id = notice.name.split("/")
            if (notice.region, kind == "replicationgroup", resource_id) not in there:
                gone.append(notice)
        if gone:
            with store.transaction() as work:
                for one in gone:
                    work.delete(one)


def _event(resource: Kept, at: float, text: str) -> Event:
    kind = SourceType.REPLICATION_GROUP if isinstance(resource, ReplicationGroup) else SourceType.CACHE_CLUSTER
    return Event(at, resource.region, kind, resource.id, text)
