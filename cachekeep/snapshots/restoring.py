"""New groups and clusters that begin with data. Called by snapshots.service, each time something is to be done.

Seeded: the RDB files are unpacked and the primaries told where they are; control starts the engines with them. Of
engines that keep nothing on disk they are pipes, which are written while the engines load. Filled: control starts the
engines empty and asks for the keys once everything is in place. None is available before.

The writer of pipes ends with the service. What it fed then begins anew: control stops it, other pipes are made.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import replace

import structlog

from cachekeep.codec.rdb_head import why_not_loaded
from cachekeep.domain.cache_cluster import CacheCluster, Status
from cachekeep.domain.engine import Engine, EngineVersion
from cachekeep.domain.events import Event, SourceType
from cachekeep.domain.nodes import Address, NodeKey, ObservedNode
from cachekeep.domain.ports import Clock, Store
from cachekeep.domain.replication_group import ReplicationGroup
from cachekeep.domain.restore import Restore, RestorePhase, Seed
from cachekeep.domain.snapshot import Snapshot, SnapshotStatus
from cachekeep.domain.snapshot_work import (
    FeedOrder,
    FillOrder,
    LaneDone,
    Outcome,
    RemoveOrder,
    SnapshotWorker,
    TakeInOrder,
    UnpackOrder,
    WorkFailed,
)

log = structlog.get_logger()

TRIES = 3
# So long may an engine of an earlier try take to be stopped.
PATIENCE_S = 60.0
_LOOK_EVERY_S = 0.005
New = ReplicationGroup | CacheCluster


class Restoring:
    def __init__(
        self,
        store: Store,
        worker: SnapshotWorker,
        clock: Clock,
        seen: Callable[[], Mapping[NodeKey, ObservedNode]],
    ) -> None:
        self._store, self._worker, self._clock, self._seen = store, worker, clock, seen
        self._failures: dict[str, int] = {}
        # Staging folders that were filled, each with the generation that goes with it.
        self._staged: dict[str, str] = {}

    def wanted(self) -> list[Restore]:
        """All that are under way."""
        return [one.restore for one in self._new() if one.restore is not None]

    def folders(self) -> list[str]:
        """Staging folders that are in use."""
        return [_folder(one) for one in self._new() if one.restore is not None]

    def _new(self) -> list[New]:
        return [*self._store.all(ReplicationGroup), *self._store.all(CacheCluster)]

    def finish(self, snapshot: Snapshot) -> None:
        """A snapshot that nothing is restored from any more is available again."""
        for new in self._new():
            if new.restore is not None and (new.region, new.restore.snapshot) == (snapshot.region, snapshot.name):
                return
        with self._store.transaction() as work:
            work.replace(snapshot, replace(snapshot, status=SnapshotStatus.AVAILABLE))

    def left(self) -> list[str]:
        """Staging folders that nobody needs any more."""
        in_use = set(self.folders())
        return [folder for folder in self._staged if folder not in in_use]

    async def drop_left(self, region: str, name: str) -> None:
        """Remove them. region, name: not looked at."""
        folders = self.left()
        generations = tuple(filter(None, (self._staged[folder] for folder in folders)))
        await self._worker.work(RemoveOrder(generations, tuple(folders)), lambda _: None)
        for folder in folders:
            self._staged.pop(folder, None)

    async def group(self, region: str, name: str) -> None:
        await self._go_on(self._store.get(ReplicationGroup, region, name))

    async def cluster(self, region: str, name: str) -> None:
        await self._go_on(self._store.get(CacheCluster, region, name))

    async def _go_on(self, new: New | None) -> None:
        if new is None or new.restore is None:
            return
        if new.status is not Status.CREATING:
            # It was deleted meanwhile, or its engine did not start.
            self._put(new, replace(new, restore=None))
            return
        try:
            match new.restore.phase:
                case RestorePhase.PREPARE:
                    await self._prepare(new, new.restore)
                case RestorePhase.FEED:
                    # Of a service that has ended, or of a try that failed.
                    await self._stop_feeding(new, new.restore)
                case _:
                    await self._fill(new, new.restore)
        except WorkFailed as error:
            failures = self._failures[_folder(new)] = self._failures.get(_folder(new), 0) + 1
            if error.again and failures < TRIES:
                raise
            now = self._store.get(type(new), new.region, new.id)
            if now is not None and now.restore is not None and now.restore.phase is RestorePhase.FEED:
                await self._stop_feeding(now, now.restore)
            self._fail(new, f"{new.restore.label} could not be restored: {error}")

    async def _prepare(self, new: New, wish: Restore) -> None:
        self._staged[_folder(new)] = wish.generation if wish.temporary else ""
        if wish.urls and not wish.generation:
            found = await self._worker.work(TakeInOrder(wish.urls), lambda _: None)
            self._staged[_folder(new)] = found.generation
            wish = self._of_files(new, wish, found)
        if wish.seeded and wish.piped:
            await self._feed(new, wish)
            return
        lanes: tuple[LaneDone, ...] = ()
        if wish.seeded:
            order = UnpackOrder(wish.generation, wish.lanes, _folder(new))
            lanes = (await self._worker.work(order, lambda _: None)).lanes
        seeds = {lane.shard: Seed(lane.path, lane.digest, lane.bytes, lane.keys) for lane in lanes}
        self._enter(new, replace(wish, phase=RestorePhase.START), seeds)

    async def _feed(self, new: New, wish: Restore) -> None:
        """Until the new cache is available, or given up: then this is cancelled."""
        await self._nothing_runs(new, {})
        paths = self._worker.pipes(_folder(new), [shard for shard, _ in wish.lanes])
        keys = self._keys(new, wish)
        seeds = {shard: Seed(paths[shard], "", 0, keys.get(lane)) for shard, lane in wish.lanes}
        self._enter(new, replace(wish, phase=RestorePhase.FEED), seeds)
        lanes = tuple((lane, paths[shard]) for shard, lane in wish.lanes)
        await self._worker.work(FeedOrder(wish.generation, lanes), lambda _: None)

    async def _stop_feeding(self, new: New, wish: Restore) -> None:
        """An engine of this try reads a pipe of this try: control stops it. Raises WorkFailed where it cannot."""
        before = dict(self._seen())
        self._enter(new, replace(wish, phase=RestorePhase.PREPARE), {})
        await self._nothing_runs(new, before)

    async def _nothing_runs(self, new: New, before: Mapping[NodeKey, ObservedNode]) -> None:
        """Returns once later looks than those of before have seen no process. Raises WorkFailed."""
        deadline = asyncio.get_running_loop().time() + PATIENCE_S
        members = list(new.member_ids) if isinstance(new, ReplicationGroup) else [new.id]
        while True:
            found = [self._store.get(CacheCluster, new.region, name) for name in members]
            keys = [one.key(node) for one in found if one is not None for node in one.nodes]
            seen = [self._seen().get(key) for key in keys]
            late = all(node is not None and node is not before.get(key) for key, node in zip(keys, seen, strict=True))
            if late and all(node is not None and node.process is None for node in seen):
                return
            if asyncio.get_running_loop().time() > deadline:
                raise WorkFailed("an engine of an earlier try still runs", again=True)
            await asyncio.sleep(_LOOK_EVERY_S)

    def _keys(self, new: New, wish: Restore) -> dict[str, int | None]:
        """By lane, how many keys its file has, where the snapshot tells."""
        snapshot = self._store.get(Snapshot, new.region, wish.snapshot)
        return {shard.lane: shard.keys for shard in snapshot.shards} if snapshot is not None else {}

    def _of_files(self, new: New, wish: Restore, found: Outcome) -> Restore:
        """Raises WorkFailed where the new engine does not load what the files have."""
        engine, version = _runs(new)
        reason = why_not_loaded(engine, version, Engine(found.engine), found.rdb_version)
        if reason is not None:
            raise WorkFailed(reason)
        shards = [shard.id for shard in new.node_groups] if isinstance(new, ReplicationGroup) else ["0001"]
        alone = len(wish.urls) == len(shards) == 1
        lanes = ((shards[0], found.lanes[0].lane),) if alone else ()
        return replace(wish, generation=found.generation, seeded=alone, lanes=lanes, temporary=True)

    def _enter(self, new: New, wish: Restore, seeds: Mapping[str, Seed]) -> None:
        """The primaries know where their files are, and control goes by the new phase. seeds: by shard."""
        with self._store.transaction() as work:
            now = work.get(type(new), new.region, new.id)
            if now is None or now.status is not Status.CREATING:
                return
            if isinstance(now, CacheCluster):
                work.replace(now, replace(now, restore=wish, seed=seeds.get("0001")))
                return
            for shard in now.node_groups:
                primary = work.get(CacheCluster, new.region, shard.primary_id)
                if primary is not None and primary.seed != seeds.get(shard.id):
                    work.replace(primary, replace(primary, seed=seeds.get(shard.id)))
            work.replace(now, replace(now, restore=wish))

    async def _fill(self, new: New, wish: Restore) -> None:
        await self._worker.work(FillOrder(wish.generation, self._endpoint(new)), lambda _: None)
        now = self._store.get(type(new), new.region, new.id)
        if now is not None and now.status is Status.CREATING:
            self._put(now, replace(now, restore=None))

    def _endpoint(self, new: New) -> Address:
        primary = (
            self._store.get(CacheCluster, new.region, new.primary_id) if isinstance(new, ReplicationGroup) else new
        )
        if primary is None:
            raise WorkFailed(f"{new.id} has no primary")
        return primary.nodes[0].address

    def _fail(self, new: New, reason: str) -> None:
        """create-failed, for a cluster told as restore-failed, with the reason; control ends what runs."""
        self._failures.pop(_folder(new), None)
        with self._store.transaction() as work:
            now = work.get(type(new), new.region, new.id)
            if now is None or now.status is not Status.CREATING:
                return
            if isinstance(now, ReplicationGroup):
                work.replace(now, replace(now, status=Status.CREATE_FAILED, restore=None))
            else:
                work.replace(now, replace(now, status=Status.CREATE_FAILED, restore=None, restore_failed=True))
            kind, what = _told_as(now)
            text = f"Failed to create {what} {now.serverless or now.id}. {reason}"
            work.add_event(Event(self._clock.now(), now.region, kind, now.serverless or now.id, text))
            if isinstance(now, ReplicationGroup):
                for name in now.member_ids:
                    member = work.get(CacheCluster, now.region, name)
                    if member is not None:
                        work.replace(member, replace(member, status=Status.CREATE_FAILED, seed=None))
        log.warning("a restore failed", resource=new.id, reason=reason)

    def _put(self, old: New, new: New) -> None:
        with self._store.transaction() as work:
            work.replace(old, new)


def _folder(new: New) -> str:
    kind = "group" if isinstance(new, ReplicationGroup) else "cluster"
    return f"{new.region}.{kind}.{new.id}"


def _told_as(new: New) -> tuple[SourceType, str]:
    if new.serverless is not None:
        return SourceType.SERVERLESS_CACHE, "serverless cache"
    if isinstance(new, ReplicationGroup):
        return SourceType.REPLICATION_GROUP, "replication group"
    return SourceType.CACHE_CLUSTER, "cache cluster"


def _runs(new: New) -> tuple[Engine, EngineVersion]:
    return new.substitute or new.engine, new.substitute_version or new.version
