"""The service of snapshots: one task for each that has something to be done, and a look at the clock for daily ones.

Level-triggered: what is wanted stands in the store, so a service that was killed anywhere takes it up. Only a copy that
was under way is given up then: of what its engines were at that moment nobody knows.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import structlog

from cachekeep.domain.cache_cluster import CacheCluster, Status
from cachekeep.domain.nodes import NodeKey, ObservedNode
from cachekeep.domain.ports import Clock, Conflict, Resource, Store, WorldError
from cachekeep.domain.replication_group import ReplicationGroup
from cachekeep.domain.restore import RestorePhase
from cachekeep.domain.snapshot import Snapshot, SnapshotStatus
from cachekeep.domain.snapshot_work import SnapshotWorker, SweepOrder, WorkFailed
from cachekeep.rounds import Rounds
from cachekeep.snapshots.daily import take_daily
from cachekeep.snapshots.release import held
from cachekeep.snapshots.restoring import Restoring
from cachekeep.snapshots.taking import Taking

log = structlog.get_logger()

# The clock is looked at so often; changes of the store wake at once.
LOOK_EVERY_S = 15.0
# What failed by the world's doing is tried again after so long.
AGAIN_S = 5.0
AT_ONCE = 2
Key = tuple[str, str, str]
# Of restores, which wait for engines most of the time.
RESTORES_AT_ONCE = 4
_RESTORES: Mapping[str, type[ReplicationGroup] | type[CacheCluster]] = {
    "group": ReplicationGroup,
    "cluster": CacheCluster,
}


@dataclass(frozen=True)
class Doors:
    """What the service works with. seen: the last look at every node."""

    store: Store
    worker: SnapshotWorker
    clock: Clock
    seen: Callable[[], Mapping[NodeKey, ObservedNode]]


class Snapshotting:
    """Runs until cancelled."""

    def __init__(self, doors: Doors) -> None:
        self._doors = doors
        self._store = doors.store
        self._rounds = Rounds[Key](LOOK_EVERY_S)
        self._room = asyncio.Semaphore(AT_ONCE)
        self._room_to_restore = asyncio.Semaphore(RESTORES_AT_ONCE)
        self._taking = Taking(doors.store, doors.worker, doors.clock, doors.seen)
        self._restoring = Restoring(doors.store, doors.worker, doors.clock, doors.seen)
        self._store.subscribe(self._changed)

    def _changed(self, resources: Sequence[Resource]) -> None:
        if any(isinstance(one, (Snapshot, ReplicationGroup, CacheCluster)) for one in resources):
            self._rounds.wake()

    async def run(self) -> None:
        self._take_up()
        await self._sweep()
        await self._rounds.run(self._look)

    def _take_up(self) -> None:
        """At the start: copies that were under way when the last service ended have failed."""
        for snapshot in self._store.all(Snapshot):
            if snapshot.status is SnapshotStatus.CREATING and snapshot.generation and not snapshot.copy_of:
                self._taking.failed(snapshot, "the service ended while it was taken")
        with self._store.transaction() as work:
            creating = [s for s in work.all(Snapshot) if s.status is SnapshotStatus.CREATING and not s.copy_of]
            for source in held(work, creating):
                work.replace(source, replace(source, status=Status.AVAILABLE, final_snapshot=""))
                if isinstance(source, ReplicationGroup):
                    for name in source.member_ids:
                        member = work.get(CacheCluster, source.region, name)
                        if member is not None and member.status is Status.SNAPSHOTTING:
                            work.replace(member, replace(member, status=Status.AVAILABLE, final_snapshot=""))

    async def _sweep(self) -> None:
        """What a killed service left half done."""
        wanted = {s.generation for s in self._store.all(Snapshot)} | {r.generation for r in self._restoring.wanted()}
        folders = tuple(self._restoring.folders())
        try:
            await self._doors.worker.work(SweepOrder(tuple(sorted(wanted - {""})), folders), lambda _: None)
        except WorkFailed as error:
            log.warning("cannot sweep the snapshots", reason=str(error))

    def _could(self, do: Callable[[], None]) -> bool:
        """Whether it was done. A store that cannot be written, as on a full disk, must not end what is under way, and
        least of all the deletion of snapshots."""
        try:
            do()
        except (WorldError, Conflict) as error:
            log.warning("what is to be done about snapshots cannot be stored, tried again", reason=str(error))
            return False
        return True

    def _look(self) -> None:
        """Begin what is to be done and is not under way."""
        self._could(lambda: take_daily(self._store, self._doors.clock.now()))
        for snapshot in self._store.all(Snapshot):
            match snapshot.status:
                case SnapshotStatus.CREATING if snapshot.copy_of:
                    self._begin("copy", snapshot.region, snapshot.name, self._taking.prove)
                case SnapshotStatus.CREATING:
                    if ("take", snapshot.region, snapshot.name) not in self._rounds.under_way():
                        self._taking.noticed(snapshot)
                    self._begin("take", snapshot.region, snapshot.name, self._taking.take)
                case SnapshotStatus.DELETING:
                    self._begin("delete", snapshot.region, snapshot.name, self._taking.delete)
                case SnapshotStatus.COPYING if snapshot.export:
                    self._begin("export", snapshot.region, snapshot.name, self._taking.export)
                case SnapshotStatus.RESTORING:
                    self._could(partial(self._restoring.finish, snapshot))
                case _:
                    continue
        self._end_restores()
        for group in self._store.all(ReplicationGroup):
            if group.restore is not None and group.restore.phase is not RestorePhase.START:
                self._begin("group", group.region, group.id, self._restoring.group)
        for cluster in self._store.all(CacheCluster):
            if cluster.restore is not None and cluster.restore.phase is not RestorePhase.START:
                self._begin("cluster", cluster.region, cluster.id, self._restoring.cluster)
        self._begin("tidy", "", "", self._restoring.drop_left) if self._restoring.left() else None

    def _end_restores(self) -> None:
        """Those of what is available by now, was given up or deleted: the writer of a pipe does not end by itself."""
        for key in self._rounds.under_way():
            what, region, name = key
            if what in _RESTORES:
                new = self._store.get(_RESTORES[what], region, name)
                if new is None or new.restore is None or new.status is not Status.CREATING:
                    self._rounds.cancel(key)

    def _begin(self, what: str, region: str, name: str, do: Callable[[str, str], Coroutine[Any, Any, None]]) -> None:
        key = what, region, name
        self._rounds.begin(key, partial(self._carry_out, key, do), f"snapshot {what} {name}")

    async def _carry_out(self, key: Key, do: Callable[[str, str], Coroutine[Any, Any, None]]) -> None:
        try:
            async with self._room_to_restore if key[0] in _RESTORES else self._room:
                await do(key[1], key[2])
        except (WorldError, Conflict) as error:
            log.warning("work on a snapshot failed, tried again", what=key[0], name=key[2], reason=str(error))
            await asyncio.sleep(AGAIN_S)
        except Exception:
            log.exception("work on a snapshot failed, tried again", what=key[0], name=key[2])
            await asyncio.sleep(AGAIN_S)
        finally:
            self._rounds.wake()
