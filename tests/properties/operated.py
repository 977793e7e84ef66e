"""A group on a simulated machine, kept by the real observer, planner and actor, one round at a time.

Every decision is audited against what was seen and against what is true; what a user does is a method.
"""

from __future__ import annotations

import asyncio
from dataclasses import replace

from cachekeep.control.act import Actor
from cachekeep.control.attempts import Attempts
from cachekeep.control.observe import Observer
from cachekeep.domain.cache_cluster import CacheCluster, NodeStatus, Pending, Status
from cachekeep.domain.nodes import NodeKey, ObservedNode, Role
from cachekeep.domain.replication_group import ReplicationGroup
from cachekeep.domain.steps import Bind, Configure, Follow, Promote, Remove, Start, Stop
from cachekeep.plan.decision import REST_S, Decision, Look
from cachekeep.plan.nodes import wants_reboot
from cachekeep.plan.replication_group import plan_group
from tests.properties.simulated import FakeAdmin, FakeCatalogue, FakeHost, Mischief, ServiceDied, World
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
    upkeep,
)


class Operated:
    """The stored group, the machine, and the service that may be killed at any step."""

    def __init__(self, size: int) -> None:
        self.world = World()
        self.mischief = Mischief()
        self.loop = asyncio.new_event_loop()
        names = tuple(f"g-{n:03d}" for n in range(1, size + 1))
        self.group = group_of("g", names)
        self.clusters = {name: cluster_of(name, n, group="g") for n, name in enumerate(names, 1)}
        self.next_number = size + 1
        self.gone = False
        self.acknowledged: set[int] = set()
        self.last: Decision | None = None
        self.restart_service()

    def close(self) -> None:
        self.loop.close()

    def restart_service(self) -> None:
        """A new service knows what is stored and nothing else."""
        self.world.exits.clear()
        host, admin = FakeHost(self.world, self.mischief), FakeAdmin(self.world, self.mischief)
        attempts = Attempts()
        self.observer = Observer(host, admin, attempts, lambda key: None)
        self.actor = Actor(host, admin, FakeCatalogue(), attempts)

    @property
    def members(self) -> list[CacheCluster]:
        return [self.clusters[name] for name in self.group.member_ids]

    def key(self, name: str) -> NodeKey:
        return NodeKey(REGION, name)

    # --- what a user and the world do -----------------------------------------------------------------------------

    def write(self, value: int) -> None:
        if self.world.write(PRIMARY_HOST, value):
            self.acknowledged.add(value)

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
        if self.group.status is Status.AVAILABLE and len(self.members) < 5:
            name = f"g-{self.next_number:03d}"
            self.clusters[name] = cluster_of(name, self.next_number, group="g", node_type=self.group.node_type)
            self.next_number += 1
            self.group = replace(self.group, member_ids=(*self.group.member_ids, name), status=Status.MODIFYING)

    def delete(self, *, retain: bool = False) -> None:
        self.group = replace(self.group, status=Status.DELETING, retain_primary=retain)
        for cluster in self.members:
            if not (retain and cluster.id == self.group.primary_id):
                self.clusters[cluster.id] = replace(cluster, status=Status.DELETING)

    # --- one round ------------------------------------------------------------------------------------------------

    def round(self, between: tuple[str, int] | None = None) -> Decision:
        """Look, (the world moves), decide, check, store, act."""
        specs = specs_of(*self.members)
        nodes = self.loop.run_until_complete(self.observer.look(specs))
        if between is not None:
            self.trouble(*between)
        look = Look(NOW, nodes, specs, families_of(*self.members))
        decision = plan_group(self.group, self.members, look)
        self._audit(decision, look)
        self._commit(decision)
        try:
            self.loop.run_until_complete(self.actor.run(decision.stages))
        except ServiceDied:
            self.restart_service()
        self.last = decision
        return decision

    def trouble(self, kind: str, index: int) -> None:
        key = self.members[index % len(self.members)].id
        engine = self.world.running.get(self.key(key))
        match kind:
            case "kill":
                self.world.kill(self.key(key))
            case "silence" if engine is not None:
                engine.silent = 3
            case "stall" if engine is not None:
                engine.stalled = 3

    def _commit(self, decision: Decision) -> None:
        for put in decision.puts:
            if isinstance(put, ReplicationGroup):
                self.group = put
            else:
                self.clusters[put.id] = put
        for cluster in decision.drops:
            del self.clusters[cluster.id]
        self.gone = decision.forget

    # --- what must hold for every decision ------------------------------------------------------------------------

    def _audit(self, decision: Decision, look: Look) -> None:
        held = {key: set(seen.facts.binds) for key, seen in look.nodes.items() if seen.serving and seen.facts}
        for stage in decision.stages:
            for step in stage:
                match step:
                    case Start():
                        self._audit_start(step)
                    case Promote(key):
                        self._audit_promotion(key, look)
                    case Stop(key) | Remove(key):
                        self._audit_end(key, look)
                    case Follow(_, _, primary):
                        assert primary == look.specs[self.key(self.group.primary_id)].address
                    case Bind():
                        self._audit_bind(step, look, held)
                    case Configure():
                        assert look.nodes[step.key].serving
            for step in stage:
                if isinstance(step, Bind):
                    held[step.key] = set(step.hosts)
            every = [host for hosts in held.values() for host in hosts]
            assert len(every) == len(set(every)), f"two members would hold one address: {held}"

    def _audit_start(self, step: Start) -> None:
        assert step.spec.key not in self.world.running
        if step.spec.key.cluster_id == self.group.primary_id and not step.keep_data:
            others = [self.world.running.get(self.key(c.id)) for c in self._staying() if c.id != self.group.primary_id]
            assert not any(e is not None and e.writes for e in others), "an empty primary while a replica has data"

    def _audit_promotion(self, promoted: NodeKey, look: Look) -> None:
        primary = self.key(self.group.primary_id)
        if promoted == primary:
            return
        assert look.nodes[primary].process is None, "a promotion while the primary lives"
        offsets = {
            c.id: seen.facts.offset
            for c in self._staying()
            if (seen := look.nodes[self.key(c.id)]).serving and seen.facts
        }
        assert offsets[promoted.cluster_id] == max(offsets.values())

    def _audit_end(self, key: NodeKey, look: Look) -> None:
        cluster = self.clusters[key.cluster_id]
        leaving = cluster.status in (Status.DELETING, Status.CREATE_FAILED)
        failing = self.group.status is Status.CREATING
        assert leaving or failing or wants_reboot(cluster.nodes[0], look.nodes[key]), f"{key} was not to be ended"

    def _audit_bind(self, step: Bind, look: Look, held: dict[NodeKey, set[str]]) -> None:
        seen = look.nodes[step.key]
        primary = look.specs[self.key(self.group.primary_id)].address
        taken = set(step.hosts) - held[step.key]
        assert seen.facts is not None
        for other, hosts in held.items():
            assert other == step.key or not taken & hosts, "taken before it was given up"
        if PRIMARY_HOST in taken:
            assert step.address == primary
            assert seen.facts.role is Role.PRIMARY
        if READER_HOST in taken and step.address != primary:
            assert seen.facts.role is Role.REPLICA
            assert seen.facts.link_up
            assert seen.facts.primary == primary

    def _staying(self) -> list[CacheCluster]:
        return [c for c in self.members if c.status is not Status.DELETING]

    # --- how it ends ----------------------------------------------------------------------------------------------

    def calm_down(self, rounds: int = 40) -> None:
        """The world stops misbehaving; after so many rounds everything is in its place."""
        self.mischief.arm(None, 0)
        for engine in self.world.running.values():
            engine.silent = engine.stalled = 0
        resting = 0
        for _ in range(rounds):
            decision = self.round()
            resting = resting + 1 if self._at_rest(decision) else 0
            # Three times, so that a replica that was just told of the last writes has them.
            if self.gone or resting == 3:
                return
            self.world.tick()
        raise AssertionError(f"not settled: {decision.sentence}; {self.group}; {self.world.running}")

    def _at_rest(self, decision: Decision) -> bool:
        return decision.recheck_s == REST_S and not decision.stages and not decision.puts and not decision.drops

    def check_in_place(self) -> None:
        """What a user may rely on when the group says `available`."""
        if self.group.status is Status.CREATE_FAILED:
            assert not self.world.running
            return
        engines = {c.id: self.world.running[self.key(c.id)] for c in self.members}
        primary = engines[self.group.primary_id]
        assert set(self.world.running) == {self.key(c.id) for c in self.members}, "something was left behind"
        assert set(self.world.folders) == set(self.world.running)
        assert primary.role is Role.PRIMARY
        assert PRIMARY_HOST in primary.binds
        reader = self.world.at(READER_HOST)
        assert reader is not None
        assert (reader is primary) == (len(engines) == 1)
        for cluster in self.members:
            engine = engines[cluster.id]
            assert engine is primary or (engine.link_up and engine.writes == primary.writes)
            assert engine.config == dict(specs_of(cluster)[self.key(cluster.id)].config)
            assert cluster.status is Status.AVAILABLE
            assert cluster.nodes[0].status is NodeStatus.AVAILABLE
            assert cluster.nodes[0].process == engine.process.identity

    def seen(self, name: str) -> ObservedNode:
        specs = specs_of(*self.members)
        return self.loop.run_until_complete(self.observer.look(specs))[self.key(name)]
