"""One look at a serverless cache of Valkey or Redis: more or less memory, more or fewer shards. Called by the scaler.

What is decided is plan.serverless; here it is read and written. A write is one transaction: a service that is killed
before it has done nothing, after it control goes on.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

import structlog

from cachekeep.api.context import Call, Services
from cachekeep.api.ops.members import free_names, insert_members, members_of
from cachekeep.domain.cache_cluster import CacheCluster, Status
from cachekeep.domain.faults import Fault
from cachekeep.domain.metrics import Current, Subject
from cachekeep.domain.ports import Transaction
from cachekeep.domain.replication_group import NodeGroup, ReplicationGroup
from cachekeep.domain.serverless import GB, ServerlessCache, ServerlessStatus
from cachekeep.plan import serverless as plan
from cachekeep.plan.placement import promised_bytes, spread
from cachekeep.plan.rebalance import rebalance
from cachekeep.plan.serverless import ShardUse
from cachekeep.serverless.life import event

log = structlog.get_logger()

# What was seen longer ago says nothing of now.
STALE_S = 10.0
_USED = "BytesUsedForCache"


class Grower:
    """current: what monitoring saw of a node last."""

    def __init__(self, services: Services, current: Callable[[Subject], Current | None]) -> None:
        self._services, self._current = services, current
        self._scaling = services.scaling
        # What each shard held last, by region and group.
        self._used: dict[tuple[str, str], dict[str, int]] = {}
        # Since when a cache is too large, by region and name.
        self._large_since: dict[tuple[str, str], float] = {}

    def look(self, cache: ServerlessCache, group: ReplicationGroup) -> bool:
        """Whether it is not as it shall be yet. Raises Conflict when something was changed meanwhile."""
        members = {m.id: m for m in members_of(self._services.store, group)}
        uses = self._uses(group, members)
        if group.status in (Status.CREATING, Status.DELETING, Status.CREATE_FAILED):
            return False
        if uses is None:
            return cache.status is ServerlessStatus.MODIFYING
        if group.resharding is not None or any(shard.leaving for shard in group.node_groups):
            everything = plan.memory_while_moving(uses, self._scaling)
            return self._set_memory(cache, group, members, {use.id: everything for use in uses}, "")
        calm = self._is_calm(cache, uses)
        bound, why = self._bound(cache, group, members, uses)
        wanted = plan.memory_of(uses, cache.least_bytes, bound, self._scaling, calm=calm)
        unbound = plan.memory_of(uses, cache.least_bytes, cache.most_bytes or 1 << 62, self._scaling, calm=calm)
        trouble = why if sum(wanted.values()) < sum(unbound.values()) else ""
        if self._set_memory(cache, group, members, wanted, trouble):
            return True
        count = plan.shard_count(uses, self._scaling, calm=calm)
        return self._reshard(cache, group, members, uses, count)

    def _uses(self, group: ReplicationGroup, members: Mapping[str, CacheCluster]) -> list[ShardUse] | None:
        """None while a shard has never told: what is not known is not decided on. One that does not answer now holds
        what it held last, so that it keeps no other from growing."""
        known = self._used.setdefault((group.region, group.id), {})
        for shard in group.node_groups:
            primary = members[shard.primary_id]
            seen = self._current(Subject(primary.region, primary.id, primary.nodes[0].node_id))
            used = None if seen is None else seen.values.get(_USED)
            if seen is not None and used is not None and self._services.clock.now() - seen.at <= STALE_S:
                known[shard.id] = int(used)
        if any(shard.id not in known for shard in group.node_groups):
            return None
        return [
            ShardUse(shard.id, known[shard.id], members[shard.primary_id].memory_bytes or 0)
            for shard in group.node_groups
        ]

    def forget(self, cache: ServerlessCache) -> None:
        """It is gone."""
        self._used.pop((cache.region, cache.backing_id), None)
        self._large_since.pop((cache.region, cache.name), None)

    def _is_calm(self, cache: ServerlessCache, uses: Sequence[ShardUse]) -> bool:
        key, now = (cache.region, cache.name), self._services.clock.now()
        if cache.status is not ServerlessStatus.AVAILABLE or not plan.too_large(uses, cache.least_bytes, self._scaling):
            self._large_since.pop(key, None)
            return False
        since = self._large_since.setdefault(key, now)
        return now - since >= self._scaling.calm_s

    def _bound(
        self,
        cache: ServerlessCache,
        group: ReplicationGroup,
        members: Mapping[str, CacheCluster],
        uses: Sequence[ShardUse],
    ) -> tuple[int, str]:
        """What all shards together may hold, by the limit or by what the machine promises; why, where the machine."""
        machine = self._services.machine
        promised = promised_bytes(self._services.store.all(CacheCluster), self._services.catalog.node_types)
        copies = -(-len(members) // len(group.node_groups))
        possible = sum(use.memory_bytes for use in uses) + max(0, machine.promised_at_most - promised) // copies
        if cache.most_bytes is not None and cache.most_bytes <= possible:
            return cache.most_bytes, ""
        return possible, (
            f"Serverless cache {cache.name} cannot grow beyond {possible / GB:.2f} GiB: this machine promises "
            f"{machine.promised_at_most / GB:.2f} GiB in all, and the rest is promised to other caches"
        )

    def _set_memory(
        self,
        cache: ServerlessCache,
        group: ReplicationGroup,
        members: Mapping[str, CacheCluster],
        wanted: Mapping[str, int],
        trouble: str,
    ) -> bool:
        changed = [
            (members[name], replace(members[name], memory_bytes=wanted[shard.id]))
            for shard in group.node_groups
            for name in shard.member_ids
            if members[name].memory_bytes != wanted[shard.id]
        ]
        told = bool(trouble) != bool(cache.trouble)
        if not changed and not told:
            return False
        with self._services.store.transaction() as work:
            for old, new in changed:
                work.replace(old, new)
            if told:
                work.replace(cache, replace(cache, trouble=trouble))
                if trouble:
                    work.add_event(event(self._services, cache, trouble))
        log.info("serverless memory", cache=cache.name, bytes=sum(wanted.values()), trouble=trouble)
        return True

    def _reshard(
        self,
        cache: ServerlessCache,
        group: ReplicationGroup,
        members: Mapping[str, CacheCluster],
        uses: Sequence[ShardUse],
        count: int,
    ) -> bool:
        have = len(group.node_groups)
        if count == have or group.status is not Status.AVAILABLE:
            return False
        room = plan.memory_while_moving(uses, self._scaling)
        staying = [shard.id for shard in group.node_groups[:count]]
        free = (name for number in range(1, 10_000) if group.shard(name := f"{number:04d}") is None)
        coming = [next(free) for _ in range(count - have)]
        slots = rebalance({shard.id: shard.slots for shard in group.node_groups}, [*staying, *coming])
        try:
            with self._services.store.transaction() as work:
                for member in members.values():
                    work.replace(member, replace(member, memory_bytes=room))
                shards = [replace(s, slots=slots.get(s.id, ()), leaving=s.id not in slots) for s in group.node_groups]
                size = min(len(shard.member_ids) for shard in group.node_groups)
                for name in coming:
                    names = self._insert(work, group, name, size, room)
                    shards.append(NodeGroup(name, names, names[0], slots[name]))
                shards.sort(key=lambda shard: shard.id)
                new = replace(group, node_groups=tuple(shards), status=Status.MODIFYING, resharding=0.0)
                work.replace(group, new)
                text = f"Serverless cache {cache.name} goes from {have} to {count} shards"
                work.add_event(event(self._services, cache, text))
        except Fault as fault:
            log.warning("no addresses for more shards", cache=cache.name, reason=fault.message)
            return False
        log.info("serverless shards", cache=cache.name, before=have, count=count)
        return True

    def _insert(
        self, work: Transaction, group: ReplicationGroup, shard_id: str, size: int, memory_bytes: int
    ) -> tuple[str, ...]:
        """The members of a new shard, as many as another has."""
        call = Call(self._services, "Scale", group.region, {})
        names = free_names(work, group, NodeGroup(shard_id, (), ""), size)
        zones = spread(group.region, size, (), several=True)
        for member in insert_members(call, work, group, list(zip(names, zones, strict=True))):
            work.replace(member, replace(member, memory_bytes=memory_bytes))
        return tuple(names)
