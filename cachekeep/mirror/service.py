"""The service of living copies: one task for each migration that goes on by capture (domain.migration.Way).

Level-triggered, as control is: what is wanted stands in the store, and what a copy has come to is written there. A
service that was killed anywhere begins the copy anew; the group's keys are compared with the source's in that pass.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import structlog

from cachekeep.domain.cache_cluster import CacheCluster, Status
from cachekeep.domain.events import Event, SourceType
from cachekeep.domain.migration import Migration, MigrationPhase
from cachekeep.domain.nodes import Address
from cachekeep.domain.ports import Clock, Conflict, Resource, Store
from cachekeep.domain.remote import Remote, RemoteError, RemoteFault
from cachekeep.domain.replication_group import ReplicationGroup
from cachekeep.domain.serverless import shown_text
from cachekeep.mirror.mirror import Mark, Mirror
from cachekeep.mirror.target import TargetLost
from cachekeep.plan.migration import COMPLETE_WITHIN_S, not_started
from cachekeep.rounds import Rounds

log = structlog.get_logger()

LOOK_EVERY_S = 1.0
TICK_S, SOON_S = 0.5, 0.05
AGAIN_S = 1.0
CHECK_EVERY_S = 3.0
_FINAL = (RemoteFault.DENIED, RemoteFault.FOREIGN, RemoteFault.UNTRUSTED)
Key = tuple[str, str]


@dataclass(frozen=True)
class Doors:
    """What the service works with. outside: a source by its address; own: a node of ours, logged in there."""

    store: Store
    clock: Clock
    outside: Callable[[Address], Remote]
    own: Callable[[Address], Remote]


class Mirroring:
    """Runs until cancelled."""

    def __init__(self, doors: Doors) -> None:
        self._doors = doors
        self._rounds = Rounds[Key](LOOK_EVERY_S)
        doors.store.subscribe(self._changed)

    async def run(self) -> None:
        await self._rounds.run(self._look)

    def _changed(self, resources: Sequence[Resource]) -> None:
        if any(isinstance(one, ReplicationGroup) and one.migration is not None for one in resources):
            self._rounds.wake()

    def _look(self) -> None:
        for group in self._doors.store.all(ReplicationGroup):
            if _wanted(group) is not None:
                key = group.region, group.id
                self._rounds.begin(key, Copying(self._doors, key).run, f"copy for {group.id}")


class Copying:
    """One migration, until it ends or is no more wanted."""

    def __init__(self, doors: Doors, key: Key) -> None:
        self._doors, self._store, self._key = doors, doors.store, key
        self._why = "its copy has not begun yet"
        self._told_refused = False
        # What it waits for by the last event of that, until it is in sync: each of its tries may fail for that again.
        self._told_why = ""

    async def run(self) -> None:
        while (group := self._group()) is not None:
            if not self._is_to_wait(group):
                return
            try:
                await self._copy(group)
            except RemoteError as error:
                self._failed(error, final=error.fault in _FINAL)
            except TargetLost as error:
                self._failed(error, final=False)
            except Conflict:
                log.debug("a migration changed meanwhile", group=group.id)
                continue
            except Exception as error:
                log.exception("a copy failed; it begins anew", group=group.id)
                self._failed(error, final=False)
            await asyncio.sleep(AGAIN_S)

    async def _copy(self, group: ReplicationGroup) -> None:
        """Raises RemoteError, TargetLost, Conflict: whatever ends this copy, but not the migration."""
        migration = group.migration
        address = self._primary(group)
        if migration is None or address is None:
            return
        mirror = Mirror(self._doors.outside(migration.source), self._doors.own(address), migration)
        try:
            await asyncio.to_thread(mirror.begin)
            if not migration.clear:  # from here on what it has is the copy's
                self._put(group, replace(migration, clear=True))
            mirror.start()
            await self._attend(mirror, address, migration.started)
        finally:
            await asyncio.to_thread(mirror.close)

    async def _attend(self, mirror: Mirror, address: Address, started: float) -> None:
        """Until the migration is over or another, or the group's primary is."""
        mark: Mark | None = None
        checked = self._doors.clock.now()
        while (group := self._group()) is not None and self._primary(group) == address:
            migration = group.migration
            if migration is None or migration.started != started:
                return  # stopped, and started anew: the group may have got keys in between
            if migration.phase is MigrationPhase.COMPLETING and migration.force:
                return  # ended by `run`, once nothing is written any more
            in_sync = mirror.in_sync()
            self._why = mirror.why_not_whole()
            group = self._noted(group, mirror, in_sync=in_sync)
            if migration.phase is MigrationPhase.COMPLETING:
                mark = mark or mirror.mark()
                if mirror.has_all_of(mark):
                    await asyncio.to_thread(mirror.end)
                    self._end(address)
                    return
            else:
                mark = None
            self._is_to_wait(group)
            if self._doors.clock.now() - checked > CHECK_EVERY_S:
                await asyncio.to_thread(mirror.target.check)
                checked = self._doors.clock.now()
            await asyncio.sleep(SOON_S if mark is not None else TICK_S)

    # The store

    def _group(self) -> ReplicationGroup | None:
        """While it is wanted."""
        group = self._store.get(ReplicationGroup, *self._key)
        return group if group is not None and _wanted(group) is not None else None

    def _primary(self, group: ReplicationGroup) -> Address | None:
        """Of the first shard: in cluster mode it tells of the others."""
        member = self._store.get(CacheCluster, group.region, group.primary_id)
        return member.nodes[0].address if member is not None else None

    def _is_to_wait(self, group: ReplicationGroup) -> bool:
        """False when the migration is over, by Force. A completion that takes too long is given up: it goes on."""
        migration = group.migration
        if migration is None or migration.phase is not MigrationPhase.COMPLETING:
            return migration is not None
        if migration.force:
            self._put(group, None)
            return False
        if self._doors.clock.now() - migration.since > COMPLETE_WITHIN_S:
            text = f"Complete migration failed for {group.id} from {migration.source}: data not in sync: {self._why}"
            self._put(group, replace(migration, phase=MigrationPhase.FOLLOWING, since=self._doors.clock.now()), text)
        return True

    def _noted(self, group: ReplicationGroup, mirror: Mirror, *, in_sync: bool) -> ReplicationGroup:
        """The group with what its copy has come to; events where that is news."""
        migration = group.migration
        if migration is None:
            return group
        held, refused = bool(mirror.held), len(mirror.target.refused)
        new = replace(migration, in_sync=in_sync, held=held)
        if in_sync:
            self._told_why = ""
            new = replace(new, run_id=mirror.run_id)
        texts = []
        if refused and not self._told_refused and mirror.is_followed():
            self._told_refused = True
            texts.append(f"{group.id} cannot have all of {migration.source}: {mirror.why_not_whole()}")
        if new == migration and not texts:
            return group
        if in_sync and not migration.in_sync:
            texts.append(f"{group.id} has what {migration.source} has, and is told of every change ({mirror.method})")
        if held and not migration.held:
            texts.append(_held(group, mirror.held))
        return self._put(group, new, *texts)

    def _failed(self, error: Exception, *, final: bool) -> None:
        """Not in sync; where it cannot ever be, and never was, the migration is over."""
        group = self._group()
        migration = group.migration if group is not None else None
        text = error.what if isinstance(error, RemoteError) else str(error)
        log.info("a copy ended; it begins anew", group=self._key[1], why=text, final=final)
        news = text != self._told_why
        self._why = self._told_why = text
        if group is None or migration is None:
            return
        try:
            if final and not migration.run_id:
                told_why = f"Start migration failed for {group.id} from {migration.source}: {text}"
                self._put(group, not_started(group, migration), told_why)
                return
            events = [f"The migration of {group.id} from {migration.source} waits: {text}"] if news else []
            self._put(group, replace(migration, in_sync=False), *events)
        except Conflict:
            log.debug("a migration changed meanwhile", group=group.id)

    def _end(self, address: Address) -> None:
        """The group is what it was copied to still: then it takes over. Raises Conflict."""
        group = self._group()
        if group is not None and self._primary(group) == address:
            self._put(group, None)

    def _put(self, group: ReplicationGroup, migration: Migration | None, *texts: str) -> ReplicationGroup:
        """Raises Conflict."""
        status = Status.AVAILABLE if migration is not None and migration.rests else group.status
        new = replace(group, migration=migration, status=status)
        told = group.serverless or group.id
        kind = SourceType.SERVERLESS_CACHE if group.serverless else SourceType.REPLICATION_GROUP
        with self._store.transaction() as work:
            if new != group:
                work.replace(group, new)
            for text in texts:
                work.add_event(Event(self._doors.clock.now(), group.region, kind, told, shown_text(text)))
        return new


def _wanted(group: ReplicationGroup) -> Migration | None:
    migration = group.migration
    return migration if migration is not None and migration.is_captured and group.status is Status.MIGRATING else None


def _held(group: ReplicationGroup, why: str) -> str:
    return (
        f"{why}: it is not copied from again, as that would replace them. Put the data of the source back, or complete "
        f"the migration with Force to go on with those of {group.id}"
    )
