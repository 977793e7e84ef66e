"""One snapshot at a time: taken, proved, exported, deleted. Called by snapshots.service, each time it is to be done.

A snapshot is `available` only after every byte of it was read back; that, and what becomes of its source, is written in
one transaction.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import NamedTuple

import structlog

from cachekeep.domain.cache_cluster import CacheCluster
from cachekeep.domain.engine import Engine, EngineVersion
from cachekeep.domain.nodes import NOTHING_SEEN, Address, NodeKey, ObservedNode
from cachekeep.domain.ports import Clock, Store
from cachekeep.domain.replication_group import NodeGroup, ReplicationGroup
from cachekeep.domain.snapshot import Snapshot, SnapshotStatus
from cachekeep.domain.snapshot_work import (
    CopyNode,
    CopyOrder,
    ExportOrder,
    Outcome,
    RemoveOrder,
    SnapshotWorker,
    VerifyOrder,
    WorkFailed,
)
from cachekeep.plan.snapshots import read_from
from cachekeep.snapshots.release import event, release

log = structlog.get_logger()

TRIES = 3
PAUSE_S = 2.0
# For a shard that has nobody who serves, as during a failover.
PATIENCE_S = 60.0


# By shard id: the node to read and its member's id.
_Read = Mapping[str, tuple[CopyNode, str]]


class _Held(NamedTuple):
    """What a node had when it was chosen: its process, and how many keys when it was last looked at, which may have
    been some seconds before."""

    member: str
    run_id: str
    keys: int

    def lost_since(self, before: _Held) -> bool:
        """Whether it came back empty. A process that was started anew and has nothing may have had what was not seen
        yet; another member that has nothing is what it seems."""
        anew = bool(before.run_id) and before.run_id != self.run_id
        return not self.keys and anew and (before.keys > 0 or before.member == self.member)


class Taking:
    def __init__(
        self,
        store: Store,
        worker: SnapshotWorker,
        clock: Clock,
        seen: Callable[[], Mapping[NodeKey, ObservedNode]],
    ) -> None:
        self._store, self._worker, self._clock, self._seen = store, worker, clock, seen
        self._noticed: dict[tuple[str, str], dict[str, _Held]] = {}

    def noticed(self, snapshot: Snapshot) -> None:
        """Remember what is there when it is asked for: it may be taken later, after others."""
        key = snapshot.region, snapshot.name
        if key not in self._noticed:
            read = self._choose(snapshot)
            self._noticed[key] = {} if read is None else self._held(snapshot, read)

    async def take(self, region: str, name: str) -> None:
        """From `creating` to `available`, or gone with an event that says why."""
        had = self._noticed.pop((region, name), {})
        for attempt in range(1, TRIES + 1):
            snapshot = self._store.get(Snapshot, region, name)
            if snapshot is None or snapshot.status is not SnapshotStatus.CREATING:
                return
            try:
                read = await self._chosen(snapshot)
                had = self._still_held(snapshot, read, had)
                order = CopyOrder(tuple(node for node, _ in read.values()), self._endpoints(snapshot))
                outcome = await self._worker.work(order, lambda begun: self._begun(region, name, begun))
            except WorkFailed as error:
                log.warning("a snapshot failed", snapshot=name, attempt=attempt, reason=str(error))
                if not error.again or attempt == TRIES:
                    await self._drop_half(region, name)
                    self.failed(self._store.get(Snapshot, region, name) or snapshot, str(error))
                    return
                await self._drop_half(region, name)
                await asyncio.sleep(PAUSE_S)
                continue
            self._taken(region, name, outcome, {shard: member for shard, (_, member) in read.items()})
            return

    def _still_held(self, snapshot: Snapshot, read: _Read, had: Mapping[str, _Held]) -> dict[str, _Held]:
        """What each node to read has. Raises WorkFailed when a shard has come back empty since it was asked for, or
        since the try before: what is there now is not what was to be kept."""
        held = self._held(snapshot, read)
        for shard, one in held.items():
            if shard in had and one.lost_since(had[shard]):
                raise WorkFailed(f"node group {shard} lost its data while the snapshot was taken", again=False)
        return {shard: one if one.run_id else had.get(shard, one) for shard, one in held.items()}

    def _held(self, snapshot: Snapshot, read: _Read) -> dict[str, _Held]:
        """As last seen; without a process where nothing is known."""
        members = {name: member for _, mine, _ in self._shards(snapshot) for name, member in mine.items()}
        held: dict[str, _Held] = {}
        for shard, (_, name) in read.items():
            facts = self._seen().get(members[name].key(members[name].nodes[0]), NOTHING_SEEN).facts
            held[shard] = _Held(name, facts.run_id, facts.keys) if facts is not None else _Held(name, "", 0)
        return held

    def _begun(self, region: str, name: str, generation: str) -> None:
        with self._store.transaction() as work:
            snapshot = work.get(Snapshot, region, name)
            if snapshot is not None:
                work.replace(snapshot, replace(snapshot, generation=generation))

    async def _drop_half(self, region: str, name: str) -> None:
        """A process that was killed leaves what it had written."""
        snapshot = self._store.get(Snapshot, region, name)
        if snapshot is None or not snapshot.generation:
            return
        try:
            await self._worker.work(RemoveOrder((snapshot.generation,)), lambda _: None)
        except WorkFailed as error:
            log.warning("what is half done of a snapshot stays until the next start", reason=str(error))
        with self._store.transaction() as work:
            work.replace(snapshot, replace(snapshot, generation=""))

    def _taken(self, region: str, name: str, outcome: Outcome, members: Mapping[str, str]) -> None:
        now = self._clock.now()
        lanes = {lane.shard: lane for lane in outcome.lanes}
        with self._store.transaction() as work:
            snapshot = work.get(Snapshot, region, name)
            if snapshot is None:
                return
            shards = tuple(
                replace(
                    shard,
                    cluster_id=members.get(shard.id, shard.cluster_id),
                    lane=lanes[shard.id].lane,
                    bytes=lanes[shard.id].bytes,
                    used_bytes=lanes[shard.id].used_bytes,
                    keys=lanes[shard.id].keys,
                    taken_at=now,
                )
                for shard in snapshot.shards
            )
            wrote = Engine(outcome.engine), EngineVersion.parse(outcome.version)
            new = replace(
                snapshot,
                status=SnapshotStatus.AVAILABLE,
                generation=outcome.generation,
                method=outcome.method,
                rdb_version=outcome.rdb_version,
                databases=outcome.databases,
                shards=shards,
                # As it really was when it was read: a version may be told less exactly than it runs.
                substitute=wrote[0] if wrote[0] is not snapshot.engine else snapshot.substitute,
                substitute_version=wrote[1],
            )
            work.replace(snapshot, new)
            release(work, snapshot, done=True)
            # Source of the text: ElastiCache guide, "Event notifications", SnapshotComplete.
            work.add_event(event(snapshot, now, f"Snapshot succeeded for snapshot {_called(snapshot)}"))

    def failed(self, snapshot: Snapshot, reason: str) -> None:
        """The snapshot is gone, its source is as it was, and an event says why."""
        with self._store.transaction() as work:
            release(work, snapshot, done=False)
            work.delete(snapshot)
            kept = "; it was not deleted" if snapshot.final else ""
            text = f"Snapshot failed for snapshot {_called(snapshot)}. Reason: {reason}{kept}"
            work.add_event(event(snapshot, self._clock.now(), text))

    async def _chosen(self, snapshot: Snapshot) -> dict[str, tuple[CopyNode, str]]:
        """By shard id, the node to read and its member's id. Raises WorkFailed when a shard has nobody who serves."""
        deadline = asyncio.get_running_loop().time() + PATIENCE_S
        while True:
            found = self._choose(snapshot)
            if found is not None:
                return found
            if asyncio.get_running_loop().time() > deadline:
                raise WorkFailed(f"a node group of {snapshot.told_source} has no node that serves")
            await asyncio.sleep(0.1)

    def _choose(self, snapshot: Snapshot) -> dict[str, tuple[CopyNode, str]] | None:
        found: dict[str, tuple[CopyNode, str]] = {}
        for shard, members, preferred in self._shards(snapshot):
            member = read_from(snapshot, shard, members, self._seen(), preferred)
            if member is None:
                return None
            slots = tuple((span.first, span.last) for span in shard.slots)
            found[shard.id] = CopyNode(shard.id, member.nodes[0].address, slots), member.id
        return found or None

    def _shards(self, snapshot: Snapshot) -> list[tuple[NodeGroup, dict[str, CacheCluster], str | None]]:
        """The shards that are to be read, as they are now."""
        region = snapshot.region
        group = self._store.get(ReplicationGroup, region, snapshot.group_id) if snapshot.group_id else None
        if group is None:
            alone = self._store.get(CacheCluster, region, snapshot.cluster_id or "")
            return [(NodeGroup("0001", (alone.id,), alone.id), {alone.id: alone}, None)] if alone else []
        names = (name for name in group.member_ids)
        members = {name: m for name in names if (m := self._store.get(CacheCluster, region, name)) is not None}
        return [(shard, members, group.snapshotting_cluster) for shard in group.node_groups if not shard.leaving]

    def _endpoints(self, snapshot: Snapshot) -> tuple[Address, ...]:
        return tuple(
            members[shard.primary_id].nodes[0].address
            for shard, members, _ in self._shards(snapshot)
            if shard.primary_id in members
        )

    async def prove(self, region: str, name: str) -> None:
        """A copy within the repository is a further name of the same data: `available` once that was read again."""
        copy = self._store.get(Snapshot, region, name)
        if copy is None:
            return
        reason = ""
        try:
            await self._worker.work(VerifyOrder(copy.generation), lambda _: None)
        except WorkFailed as error:
            if error.again:
                raise
            reason = str(error)
        now = self._clock.now()
        with self._store.transaction() as work:
            original = work.get(Snapshot, region, copy.copy_of)
            if original is not None and original.status is SnapshotStatus.COPYING:
                work.replace(original, replace(original, status=SnapshotStatus.AVAILABLE))
            if reason:
                work.delete(copy)
                text = f"Snapshot failed for snapshot {_called(copy)}. Reason: {reason}"
                work.add_event(event(copy, now, text))
                return
            work.replace(copy, replace(copy, status=SnapshotStatus.AVAILABLE, copy_of=""))
            work.add_event(event(copy, now, f"Snapshot succeeded for snapshot {_called(copy)}"))

    async def export(self, region: str, name: str) -> None:
        """RDB files into a bucket; the snapshot is available again whatever came of it."""
        snapshot = self._store.get(Snapshot, region, name)
        if snapshot is None:
            return
        bucket, _, target = snapshot.export.partition("/")
        lanes = tuple((shard.id, shard.lane) for shard in snapshot.shards)
        what = f"the export of snapshot with ID '{snapshot.told_name}' to {snapshot.export}"
        text = f"Snapshot succeeded for {what}"
        try:
            await self._worker.work(ExportOrder(snapshot.generation, lanes, bucket, target), lambda _: None)
        except WorkFailed as error:
            text = f"Snapshot failed for {what}. Reason: {error}"
        with self._store.transaction() as work:
            work.replace(snapshot, replace(snapshot, status=SnapshotStatus.AVAILABLE, export=""))
            work.add_event(event(snapshot, self._clock.now(), text))

    async def delete(self, region: str, name: str) -> None:
        """The data goes with the last snapshot that names it; the record after the data."""
        snapshot = self._store.get(Snapshot, region, name)
        if snapshot is None:
            return
        others = [s for s in self._store.all(Snapshot) if s.generation == snapshot.generation and s != snapshot]
        restores = [group.restore for group in self._store.all(ReplicationGroup)]
        restores += [cluster.restore for cluster in self._store.all(CacheCluster)]
        used = any(one is not None and one.generation == snapshot.generation for one in restores)
        if snapshot.generation and not others and not used:
            await self._worker.work(RemoveOrder((snapshot.generation,)), lambda _: None)
        with self._store.transaction() as work:
            work.delete(snapshot)


def _called(snapshot: Snapshot) -> str:
    source = f"cache cluster with ID '{snapshot.cluster_id}'"
    if snapshot.of_serverless:
        source = f"serverless cache with ID '{snapshot.told_source}'"
    elif snapshot.group_id:
        source = f"replication group with ID '{snapshot.group_id}'"
    return f"with ID '{snapshot.told_name}' of {source}"
