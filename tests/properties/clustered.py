"""A group in cluster mode on a simulated machine: Operated, with shards, slots and a configuration endpoint."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace

import pytest

from cachekeep.domain import slots as domain_slots
from cachekeep.domain.cache_cluster import Status
from cachekeep.domain.engine import EngineVersion
from cachekeep.domain.nodes import Address, NodeKey, Role
from cachekeep.domain.replication_group import ClusterMode, HandOver, NodeGroup, ReplicationGroup
from cachekeep.domain.slots import Slots, divided, numbers_of
from cachekeep.domain.steps import AddSlots, MigrateSlots, MoveSlots, Remove, Stop
from cachekeep.plan.decision import Decision
from cachekeep.plan.rebalance import rebalance
from tests.properties.bus import bus_of, slot_of
from tests.properties.machine import Running
from tests.properties.operated import Operated
from tests.properties.stored import PRIMARY_HOST, group_of

# A hundredth of the real number, so that many stories can be told.
FEW = 120
MOST_SHARDS = 4


@contextmanager
def few_slots() -> Iterator[None]:
    """A cluster has fewer slots within the block."""
    with pytest.MonkeyPatch.context() as patch:
        for module in ("domain.slots", "plan.cluster_mode", "plan.replication_group", "plan.rebalance"):
            patch.setattr(f"cachekeep.{module}.SLOTS", FEW)
        yield


class Clustered(Operated):
    """`size` shards, each of a primary and `replicas`."""

    def __init__(
        self, size: int, replicas: int, more: Mapping[str, str] | None = None, *, version: str = "9.1"
    ) -> None:
        self.replicas = replicas
        self.version = EngineVersion.parse(version)
        self.next_shard = 1
        super().__init__(size, {**(more or {}), "cluster-enabled": "yes"})

    def _stored(self, size: int) -> ReplicationGroup:
        shards = tuple(self._new_shard(slots) for slots in divided(size))
        return replace(
            group_of("g", ("none",)),
            version=self.version,
            node_groups=shards,
            automatic_failover=True,
            cluster_mode=ClusterMode.ENABLED,
            primary_endpoint=None,
            reader_endpoint=None,
            configuration_endpoint=Address(PRIMARY_HOST, 6379),
        )

    def _new_shard(self, slots: Slots) -> NodeGroup:
        shard_id = f"{self.next_shard:04d}"
        self.next_shard += 1
        names = tuple(self._new_member(f"g-{shard_id}-{n:03d}") for n in range(1, self.replicas + 2))
        for name in names:
            version = self.version if not hasattr(self, "group") else self.group.version
            self.clusters[name] = replace(self.clusters[name], version=version)
        return NodeGroup(shard_id, names, names[0], slots)

    # --- what users and the world do ------------------------------------------------------------------------------

    def owner_of(self, value: int) -> Running | None:
        """Whom a client that follows redirections ends up at."""
        slot = slot_of(value)
        owners = [
            e
            for e in self.world.running.values()
            if e.bus is not None and slot in e.bus.slots and e.answers and not e.loading and e.role is Role.PRIMARY
        ]
        if not owners:
            return None
        owner = max(owners, key=lambda e: bus_of(e).epoch)
        end = bus_of(owner).exporting.get(slot)
        if end is None:
            return owner if bus_of(owner).ok else None
        asked = [e for e in self.world.running.values() if e.bus is not None and e.bus.id == end and e.answers]
        return asked[0] if asked and asked[0].role is Role.PRIMARY and slot in bus_of(asked[0]).importing else None

    def write(self, value: int) -> None:
        owner = self.owner_of(value)
        if owner is not None and not owner.loading:
            owner.writes, owner.synced = (*owner.writes, value), True
            self.acknowledged.add(value)

    def tick(self) -> None:
        """What gossip elects is an unplanned succession."""
        before = {key for key, e in self.world.running.items() if e.role is Role.PRIMARY}
        super().tick()
        for key, engine in self.world.running.items():
            shard = self.group.shard_of(key.cluster_id)
            if engine.role is Role.PRIMARY and key not in before and shard is not None:
                self._forgive(shard, engine.data)

    def hand_over(self, index: int, *, test: bool = False) -> None:
        shard = self.group.node_groups[index % len(self.group.node_groups)]
        name = shard.member_ids[index // 2 % len(shard.member_ids)]
        if self.group.status is Status.AVAILABLE and len(shard.member_ids) > 1 and (test or name != shard.primary_id):
            self._want(replace(shard, hand_over=HandOver(None if test else name, test)))

    def leave(self, index: int) -> None:
        """As DecreaseReplicaCount does."""
        shard = self.group.node_groups[index % len(self.group.node_groups)]
        replicas = [name for name in shard.member_ids if name != shard.primary_id]
        if self.group.status is Status.AVAILABLE and replicas:
            self.group = replace(self.group, status=Status.MODIFYING)
            gone = self.clusters[replicas[-1]]
            self.clusters[gone.id] = replace(gone, status=Status.DELETING)

    def join(self) -> None:
        """As IncreaseReplicaCount does, of one shard."""
        shard = min(self.group.node_groups, key=lambda s: len(s.member_ids))
        if self.group.status is Status.AVAILABLE and len(shard.member_ids) < 4 and self.group.engine_change is None:
            name = self._new_member(f"g-{shard.id}-{self.next_number:03d}")
            self.clusters[name] = replace(self.clusters[name], version=self.group.version)
            self._want(replace(shard, member_ids=(*shard.member_ids, name)))

    def reshard(self, count: int) -> None:
        """As ModifyReplicationGroupShardConfiguration does: the last shards leave, new ones come, slots are divided."""
        now = self.group.node_groups
        if self.group.status is not Status.AVAILABLE or count == len(now) or self.group.engine_change is not None:
            return
        kept = now[:count]
        new = tuple(self._new_shard(()) for _ in range(count - len(kept)))
        wanted = rebalance({s.id: s.slots for s in now}, [s.id for s in (*kept, *new)])
        shards = tuple(replace(s, slots=wanted.get(s.id, ()), leaving=s.id not in wanted) for s in (*now, *new))
        self.group = replace(self.group, node_groups=shards, status=Status.MODIFYING, resharding=0.0)

    # --- what must hold -------------------------------------------------------------------------------------------

    def _covered(self) -> bool:
        return self.acknowledged <= frozenset().union(*self._copies())

    def _elsewhere(self, shard: NodeGroup) -> frozenset[int]:
        """What other shards hold, whether it lives or is to be loaded."""
        found = [
            e.data | set(e.incoming if e.loading else ())
            for key, e in self.world.running.items()
            if e.role is Role.PRIMARY and key.cluster_id not in shard.member_ids
        ]
        for key, folder in self.world.folders.items():
            if key.cluster_id not in shard.member_ids and key not in self.world.running:
                found += [frozenset(folder.data)] if folder.saved and folder.data is not None else []
                found += [frozenset(kept) for kept in folder.kept.values()]
        return frozenset().union(*found)

    def audit_slots(self, decision: Decision) -> None:
        """No slot is given to a second owner, moved from one who does not have it, or lost with a shard that leaves."""
        wanted = {s.id: numbers_of(s.slots) for s in self.group.node_groups}
        for step in decision.steps:
            match step:
                case AddSlots(key, _, slots):
                    for other, engine in self.world.running.items():
                        assert other == key or not bus_of(engine).slots & numbers_of(slots), f"{other} owns them"
                case MigrateSlots(key, _, slots, target_id) | MoveSlots(key, _, slots, _, _, target_id):
                    self._audit_move(key, numbers_of(slots), target_id, wanted)
                case Stop(key) | Remove(key):
                    shard = self.group.shard_of(key.cluster_id)
                    ending = self.world.running.get(key)
                    going = self.group.status is not Status.DELETING and shard is not None and shard.leaving
                    if going and ending is not None and not (isinstance(step, Stop) and (step.fence or step.save)):
                        assert not bus_of(ending).slots or ending.role is Role.REPLICA, f"{key} still owns slots"

    def _audit_move(
        self, key: NodeKey, slots: frozenset[int], target_id: str, wanted: Mapping[str, frozenset[int]]
    ) -> None:
        source = self.world.running.get(key)
        target = next((k for k, e in self.world.running.items() if bus_of(e).id == target_id), None)
        if source is None or target is None:
            return
        shard = self.group.shard_of(target.cluster_id)
        assert shard is not None
        assert slots <= wanted[shard.id], "moved to where they are not wanted"
        assert not any(m.running and m.slots & slots for m in bus_of(source).migrations), "moved twice at once"

    def check_in_place(self) -> None:
        if self.group.status is Status.CREATE_FAILED:
            assert not self.world.running
            return
        assert self.group.status is Status.AVAILABLE
        assert self.group.resharding is None
        spares = {c.key(c.spare.node) for c in self.members if c.spare is not None}
        assert set(self.world.running) == {self.key(c.id) for c in self.members} | spares, "something was left"
        assert set(self.world.folders) == set(self.world.running)
        owned: list[int] = []
        for shard in self.group.node_groups:
            assert not shard.leaving
            primary = self.engine(shard.primary_id)
            assert primary.role is Role.PRIMARY
            assert bus_of(primary).slots == numbers_of(shard.slots)
            assert not bus_of(primary).importing
            assert not bus_of(primary).exporting
            owned += sorted(bus_of(primary).slots)
            for name in shard.member_ids:
                engine = self.engine(name)
                assert engine is primary or (engine.link_up and engine.writes == primary.writes)
                assert engine is primary or bus_of(engine).primary_id == bus_of(primary).id
                assert self.clusters[name].status is Status.AVAILABLE
                assert self.mixed or self.clusters[name].version == self.group.version
        assert sorted(owned) == list(range(domain_slots.SLOTS)), "every slot once"
        self._check_views()
        holder = self.world.at(PRIMARY_HOST)
        assert holder is not None
        assert holder.role is Role.PRIMARY
        for value in self.acknowledged:
            asked = self.owner_of(value)
            assert asked is not None
            assert value in asked.data, f"{value} is lost"

    def _check_views(self) -> None:
        """All know all, and nobody else; all agree about the owners."""
        ids = {bus_of(e).id for e in self.world.running.values()}
        heads = [bus_of(self.engine(s.primary_id)) for s in self.group.node_groups]
        for engine in self.world.running.values():
            bus = bus_of(engine)
            assert set(bus.peers) == ids - {bus.id}
            assert bus.ok
            for head in heads:
                assert head.id == bus.id or bus.peers[head.id].slots == head.slots
