"""A group on a simulated machine, kept by the real observer, planner and actor, one round at a time.

Every decision is audited against what was seen and against what is true (tests.properties.audit); what a user does is
a method.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from cachekeep.control.act import Actor
from cachekeep.control.attempts import Attempts
from cachekeep.control.heartbeat import Heartbeat
from cachekeep.control.observe import Observer
from cachekeep.domain.cache_cluster import CacheCluster, NodeStatus, Pending, Status
from cachekeep.domain.engine import EngineVersion
from cachekeep.domain.nodes import NodeKey, NodeSpec, ObservedNode, Role
from cachekeep.domain.replication_group import HandOver, NodeGroup, ReplicationGroup
from cachekeep.domain.steps import Promote, Start, Stop, TakeOver
from cachekeep.plan.decision import REST_S, Decision, Limits, Look
from cachekeep.plan.replication_group import plan_group
from tests.properties.audit import audit
from tests.properties.machine import FOREVER, Running, World
from tests.properties.simulated import FakeAdmin, FakeCatalogue, FakeHost, Mischief, ServiceDied
from tests.properties.stored import (
    NOW,
    OPEN_WINDOW,
    PRIMARY_HOST,
    READER_HOST,
    REGION,
    cluster_of,
    families_of,
    group_of,
    specs_of,
    upgrading,
    upkeep,
)

LIMITS = Limits(hang_s=5.0, sync_s=40.0, rollback_s=60.0)
# Rounds of a calm world: hung engines wake up after the first of them, and everything must be in place after all.
HUNG_ROUNDS = 40
CALM_ROUNDS = 220


NOBODY = NodeKey(REGION, "nobody")


class Operated:
    """The stored group, the machine, and the service that may be killed at any step.

    acknowledged: writes that must not get lost. forgiven: those that went with a death: they were on no member that
    took over.
    """

    def __init__(self, size: int, more: Mapping[str, str] | None = None) -> None:
        self.world = World()
        self.mischief = Mischief()
        self.loop = asyncio.new_event_loop()
        self.spawned: list[asyncio.Task[Any]] = []
        self.loop.set_task_factory(self._spawn)
        self.more = more or {}
        self.next_number = 1
        self.clusters: dict[str, CacheCluster] = {}
        self.group = self._stored(size)
        self.gone = False
        self.acknowledged: set[int] = set()
        self.forgiven: set[int] = set()
        self.events: list[str] = []
        self.last: Decision | None = None
        self.restart_service()

    def _stored(self, size: int) -> ReplicationGroup:
        names = tuple(self._new_member(f"g-{n:03d}") for n in range(1, size + 1))
        return replace(group_of("g", names), automatic_failover=True)

    def _new_member(self, name: str) -> str:
        """Stored as one that is being created."""
        made = cluster_of(name, self.next_number, group="g")
        self.clusters[name] = made
        self.next_number += 1
        return name

    def close(self) -> None:
        self.loop.close()

    def restart_service(self) -> None:
        """A new service knows what is stored and nothing else."""
        self.world.exits.clear()
        host, admin = FakeHost(self.world, self.mischief), FakeAdmin(self.world, self.mischief)
        self.attempts = Attempts(lambda: float(self.world.ticks))
        self.heartbeat = Heartbeat(admin, LIMITS.hang_s, lambda key: None)
        self.observer = Observer(host, admin, self.attempts, self.heartbeat, lambda key: None)
        self.actor = Actor(host, admin, FakeCatalogue(), self.attempts, lambda key: None)

    @property
    def members(self) -> list[CacheCluster]:
        return [self.clusters[name] for name in self.group.member_ids]

    @property
    def now(self) -> float:
        return NOW + self.world.ticks

    def key(self, name: str) -> NodeKey:
        """Of the instance that is the member's node now."""
        cluster = self.clusters.get(name)
        return cluster.key(cluster.nodes[0]) if cluster is not None else NodeKey(REGION, name)

    def engine(self, name: str) -> Running:
        return self.world.running[self.key(name)]

    @property
    def specs(self) -> dict[NodeKey, NodeSpec]:
        return specs_of(*self.members, more=self.more)

    # --- what a user and the world do -----------------------------------------------------------------------------

    def write(self, value: int) -> None:
        if self.world.write(PRIMARY_HOST, value):
            self.acknowledged.add(value)

    def tick(self) -> None:
        self.world.tick()
        self.loop.run_until_complete(self.heartbeat.beat(1.0))

    def reboot(self, index: int) -> None:
        """As RebootCacheCluster does. A node without a process is left out: scripts/defects."""
        cluster = self.members[index % len(self.members)]
        node = cluster.nodes[0]
        if cluster.status is Status.AVAILABLE and node.process is not None:
            node = replace(node, status=NodeStatus.REBOOTING, reboot_from=node.process)
            self.clusters[cluster.id] = replace(cluster.with_node(node), status=Status.REBOOTING)

    def change_node_type(self, name: str) -> None:
        """As ModifyReplicationGroup does, the maintenance window being open."""
        if self.group.status is Status.AVAILABLE:
            self.group = replace(
                self.group, pending=Pending(node_type=name), upkeep=upkeep(OPEN_WINDOW), status=Status.MODIFYING
            )

    def leave(self, index: int) -> None:
        """As DeleteCacheCluster does with a replica."""
        cluster = self.members[index % len(self.members)]
        if self.group.status is Status.AVAILABLE and cluster.id != self.group.primary_id:
            self.group = replace(self.group, status=Status.MODIFYING)
            self.clusters[cluster.id] = replace(cluster, status=Status.DELETING)

    def join(self) -> None:
        if self.group.status is Status.AVAILABLE and len(self.members) < 5 and self.group.engine_change is None:
            name = self._new_member(f"g-{self.next_number:03d}")
            made = self.clusters[name]
            self.clusters[name] = replace(made, node_type=self.group.node_type, version=self.group.version)
            shard = self.group.node_groups[0]
            self._want(replace(shard, member_ids=(*shard.member_ids, name)))

    def hand_over(self, index: int, *, test: bool = False) -> None:
        """As TestFailover does, and ModifyReplicationGroup with a PrimaryClusterId."""
        shard = self.group.node_groups[0]
        name = shard.member_ids[index % len(shard.member_ids)]
        if self.group.status is Status.AVAILABLE and len(shard.member_ids) > 1 and (test or name != shard.primary_id):
            self._want(replace(shard, hand_over=HandOver(None if test else name, test)))

    def upgrade(self, version: str) -> None:
        """As ModifyReplicationGroup with an EngineVersion: to a new one, or back."""
        wanted = EngineVersion.parse(version)
        spares = [c.spare for c in self.members if c.spare is not None]
        if self.group.status is not Status.AVAILABLE or self.group.version == wanted:
            return
        if any(s.version != wanted or s.leaving for s in spares):
            return
        begun = upgrading(self.group, self.members, version, self.now)
        self.group = begun.group
        self.clusters |= {c.id: c for c in begun.members}

    def stop_upgrade(self) -> None:
        """As BatchStopUpdateAction; nothing goes on: no effect."""
        change = self.group.engine_change
        if change is not None and change.done_at is None and self.group.status is Status.MODIFYING:
            self.group = replace(self.group, engine_change=replace(change, stopping=True))

    def _want(self, shard: NodeGroup) -> None:
        self.group = replace(self.group.with_shard(shard), status=Status.MODIFYING)

    def delete(self, *, retain: bool = False) -> None:
        self.group = replace(self.group, status=Status.DELETING, retain_primary=retain)
        for cluster in self.members:
            if not (retain and cluster.id == self.group.primary_id):
                self.clusters[cluster.id] = replace(cluster, status=Status.DELETING)

    # --- one round ------------------------------------------------------------------------------------------------

    def look(self) -> Look:
        specs = self.specs
        nodes = self.loop.run_until_complete(self.observer.look(specs))
        return Look(
            self.now,
            nodes,
            specs,
            families_of(*self.members),
            hold_s={key: hold for key in specs if (hold := self.attempts.hold_s(key)) > 0},
            switch_hold_s={key: hold for key in specs if (hold := self.attempts.switch_hold_s(key)) > 0},
            limits=LIMITS,
        )

    def round(self, between: tuple[str, int] | None = None) -> Decision:
        """Look, (the world moves), decide, check, store, act."""
        look = self.look()
        if between is not None:
            self.trouble(*between)
        decision = plan_group(self.group, self.members, look)
        audit(self.group, self.clusters, decision, look)
        self.audit_slots(decision)
        self._account(decision)
        fencing = any(isinstance(step, Stop) and step.fence for step in decision.steps)
        self._commit(decision)
        covered = not (fencing or self._is_given_up) and self._covered()

        def done() -> None:
            assert not covered or self._covered(), f"the last copy went with {decision.steps}"

        self.mischief.done = done
        try:
            self.loop.run_until_complete(self._act(decision))
        except ServiceDied:
            self.restart_service()
        finally:
            self.mischief.done = lambda: None
        self.last = decision
        return decision

    @property
    def _is_given_up(self) -> bool:
        deleted = self.group.status is Status.DELETING and not self.group.retain_primary
        return deleted or self.group.status is Status.CREATE_FAILED

    async def _act(self, decision: Decision) -> None:
        """With what goes on in the background (slots that move key by key) brought to its end."""
        self.spawned.clear()
        await self.actor.run(decision.stages)
        for ended in await asyncio.gather(*self.spawned, return_exceptions=True):
            if isinstance(ended, BaseException):
                raise ended

    def _spawn(self, loop: asyncio.AbstractEventLoop, coroutine: Any, **_: Any) -> asyncio.Task[Any]:
        task = asyncio.Task(coroutine, loop=loop)
        if str(coroutine.__qualname__).endswith("_move_slots"):
            self.spawned.append(task)
        return task

    def audit_slots(self, decision: Decision) -> None:
        """For a group in cluster mode."""

    def trouble(self, kind: str, index: int) -> None:
        every = [c.key(n) for c in self.members for n in (*c.nodes, *((c.spare.node,) if c.spare else ()))]
        key = every[index % len(every)]
        engine = self.world.running.get(key)
        match kind:
            case "kill":
                self.world.kill(key)
            case "silence" if engine is not None and self.heartbeat.silent_s(key) == 0:
                # Never so often in a row that it counts as hung.
                engine.silent = max(engine.silent, 3)
            case "hang" if engine is not None:
                engine.silent = FOREVER
            case "stall" if engine is not None:
                engine.stalled = 3
            case "diverge" if engine is not None and engine.role is Role.REPLICA:
                engine.errors += 1
            case "unreadable":
                self.world.unreadable ^= {self.members[0].version}

    def _copies(self) -> list[frozenset[int]]:
        """Every data set that lives or lies on disk to be loaded."""
        found = [e.data | set(e.incoming if e.loading else ()) for e in self.world.running.values()]
        for folder in self.world.folders.values():
            found += [frozenset(folder.data)] if folder.saved and folder.data is not None else []
            found += [frozenset(kept) for kept in folder.kept.values()]
        return found

    def _covered(self) -> bool:
        return any(self.acknowledged <= copy for copy in self._copies())

    def _elsewhere(self, shard: NodeGroup) -> frozenset[int]:
        """What the primaries of other shards hold."""
        return frozenset()

    def _forgive(self, shard: NodeGroup, kept: frozenset[int]) -> None:
        lost = self.acknowledged - kept - self._elsewhere(shard)
        self.forgiven |= lost
        self.acknowledged -= lost

    def _account(self, decision: Decision) -> None:
        """A succession ends what only others had; that it was the best one is for the audit."""
        for step in decision.steps:
            key = step.spec.key if isinstance(step, Start) else step.key
            shard = self.group.shard_of(key.cluster_id)
            if shard is None:
                continue
            primary = self.key(shard.primary_id)
            match step:
                case Promote() | TakeOver() if key in self.world.running:
                    self._forgive(shard, self.world.running[key].data)
                case Start(spec, keep_data) if spec.follow is None and primary not in self.world.running:
                    folder = self.world.folders.get(key)
                    if keep_data and folder is not None:
                        data = folder.data if folder.saved and folder.data else _kept(folder.kept)
                        self._forgive(shard, frozenset(data))
                    elif key == primary:
                        self._forgive(shard, frozenset())

    def _commit(self, decision: Decision) -> None:
        before = {shard.id: self.key(shard.primary_id) for shard in self.group.node_groups}
        for put in decision.puts:
            if isinstance(put, ReplicationGroup):
                self.group = put
            else:
                self.clusters[put.id] = put
        for cluster in decision.drops:
            del self.clusters[cluster.id]
        self.gone = decision.forget
        self.events += [event.message for event in decision.events]
        for shard in () if self.gone else self.group.node_groups:
            now, old = self.key(shard.primary_id), self.world.running.get(before.get(shard.id, NOBODY))
            if shard.id in before and now != before[shard.id] and (old is None or not old.answers):
                engine = self.world.running.get(now)
                self._forgive(shard, engine.data if engine is not None else frozenset())

    # --- how it ends ----------------------------------------------------------------------------------------------

    def calm_down(self, rounds: int = CALM_ROUNDS) -> None:
        """The world stops misbehaving; after so many rounds everything is in its place. Hung engines wake up late."""
        self.mischief.arm(None, 0)
        self.world.unreadable.clear()
        for engine in self.world.running.values():
            engine.stalled = 0
            engine.silent = engine.silent if engine.silent > FOREVER // 2 else 0
        resting = 0
        for number in range(rounds):
            if number == HUNG_ROUNDS:
                for engine in self.world.running.values():
                    engine.silent = 0
            decision = self.round()
            hung = any(engine.silent for engine in self.world.running.values())
            resting = resting + 1 if self.at_rest and not hung else 0
            # Three times, so that a replica that was just told of the last writes has them.
            if self.gone or resting == 3:
                return
            self.tick()
        raise AssertionError(f"not settled: {decision.sentence}; {self.group}; {self.world.running}")

    @property
    def at_rest(self) -> bool:
        """The last round found nothing to do and nothing to wait for."""
        last = self.last
        return last is not None and last.recheck_s == REST_S and not (last.stages or last.puts or last.drops)

    @property
    def mixed(self) -> bool:
        """A former instance had the only copy of the data, or a change of version was given up or stopped half
        way."""
        said = ("Only the instance of", "Failed applying modification of the engine", "The change to ")
        return any(message.startswith(said) for message in self.events)

    def check_in_place(self) -> None:
        """What a user may rely on when the group says `available`."""
        if self.group.status is Status.CREATE_FAILED:
            assert not self.world.running
            return
        assert self.group.status is Status.AVAILABLE
        engines = {c.id: self.engine(c.id) for c in self.members}
        spares = {c.key(c.spare.node): c for c in self.members if c.spare is not None}
        primary = engines[self.group.primary_id]
        assert set(self.world.running) == {self.key(c.id) for c in self.members} | set(spares), "something was left"
        assert set(self.world.folders) == set(self.world.running)
        assert primary.role is Role.PRIMARY
        assert PRIMARY_HOST in primary.binds
        assert self.acknowledged <= primary.data
        reader = self.world.at(READER_HOST)
        assert reader is not None
        assert (reader is primary) == (len(engines) == 1)
        for key in spares:
            spare = self.world.running[key]
            assert spare.link_up
            assert spare.writes == primary.writes
        for cluster in self.members:
            node, engine = cluster.nodes[0], engines[cluster.id]
            assert engine is primary or (engine.link_up and engine.writes == primary.writes)
            assert engine.config == dict(self.specs[self.key(cluster.id)].config)
            assert engine.spec.version == cluster.version
            assert self.mixed or cluster.version == self.group.version
            assert cluster.status is Status.AVAILABLE
            assert node.status is NodeStatus.AVAILABLE
            assert node.process == engine.process.identity
            assert node.published is None or cluster.spare is not None or node.published.host in engine.binds

    def seen(self, name: str) -> ObservedNode:
        return self.loop.run_until_complete(self.observer.look(self.specs))[self.key(name)]


def _kept(kept: Mapping[str, tuple[int, ...]]) -> tuple[int, ...]:
    return kept.get("aof", kept.get("rdb", ()))
