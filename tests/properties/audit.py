"""What must hold for every decision about a replication group, whatever came before. Raises AssertionError."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from cachekeep.domain.cache_cluster import CacheCluster, Status
from cachekeep.domain.nodes import NOTHING_SEEN, NodeKey, ObservedNode, Role
from cachekeep.domain.replication_group import ReplicationGroup
from cachekeep.domain.steps import (
    Bind,
    ClusterSwitchOver,
    Configure,
    Follow,
    Promote,
    Remove,
    Start,
    Step,
    Stop,
    SwitchOver,
    TakeOver,
)
from cachekeep.plan.decision import Decision, Look
from cachekeep.plan.nodes import is_outdated, wants_reboot


@dataclass(frozen=True)
class Instance:
    """One node of a member. standby: the second one."""

    cluster: CacheCluster
    key: NodeKey
    seen: ObservedNode
    leaving: bool
    standby: bool

    @property
    def has_data(self) -> bool:
        facts = self.seen.facts
        return self.seen.serving and facts is not None and (facts.offset > 1 or facts.keys > 0)

    @property
    def offset(self) -> int:
        return self.seen.facts.offset if self.seen.facts is not None else 0

    @property
    def tier(self) -> int:
        """Who comes first as an heir: members, then second instances, then those that leave."""
        return 2 if self.leaving else 1 if self.standby else 0


class Audit:
    """One decision, with what was stored and seen before it."""

    def __init__(self, group: ReplicationGroup, clusters: Mapping[str, CacheCluster], look: Look) -> None:
        self.group = group
        self.look = look
        self.instances: dict[NodeKey, Instance] = {}
        for name in group.member_ids:
            cluster = clusters[name]
            going = cluster.status is Status.DELETING
            self._add(cluster, cluster.key(cluster.nodes[0]), leaving=going, standby=False)
            if cluster.spare is not None:
                leaving = going or cluster.spare.leaving
                self._add(cluster, cluster.key(cluster.spare.node), leaving=leaving, standby=True)

    def _add(self, cluster: CacheCluster, key: NodeKey, *, leaving: bool, standby: bool) -> None:
        self.instances[key] = Instance(cluster, key, self.look.nodes.get(key, NOTHING_SEEN), leaving, standby)

    def primary(self, key: NodeKey) -> Instance:
        """The one of record in the shard of that node."""
        shard = self.group.shard_of(key.cluster_id)
        assert shard is not None
        return next(i for i in self.instances.values() if i.cluster.id == shard.primary_id and not i.standby)

    def others(self, key: NodeKey) -> list[Instance]:
        shard = self.group.shard_of(key.cluster_id)
        assert shard is not None
        return [i for i in self.instances.values() if i.cluster.id in shard.member_ids and i.key != key]

    def start(self, step: Start, primaries: set[NodeKey]) -> None:
        key = step.spec.key
        assert self.instances[key].seen.process is None
        assert not self.instances[key].leaving, f"{key} was to go"
        if key in primaries and not step.keep_data and step.spec.follow is None:
            assert not any(i.has_data for i in self.others(key)), "an empty primary while a replica has data"
            assert not self.instances[key].seen.saved, "an empty primary in place of what was saved"
            if self.group.status is not Status.CREATING:
                kept = [i.key for i in (self.instances[key], *self.others(key)) if i.seen.kept and not i.leaving]
                assert not [k for k in kept if not self.instances[k].seen.process], "empty in place of what was kept"

    def promotion(self, promoted: NodeKey) -> None:
        """Only over a dead primary, and the best there is: by tier, then by offset."""
        primary = self.primary(promoted)
        if promoted == primary.key:
            return
        follows = primary.seen.facts.primary if primary.seen.serving and primary.seen.facts else None
        gone = [i for i in self.others(primary.key) if self.look.specs[i.key].address == follows]
        demoted = follows is not None and all(i.seen.process is None for i in gone)
        assert primary.seen.process is None or demoted, "a promotion while the primary lives"
        heir = self.instances[promoted]
        rivals = [i for i in self.others(promoted) if i.key != primary.key and i.has_data]
        assert heir.has_data or not any(i.seen.kept or i.seen.saved for i in (primary, *rivals)), "it has nothing"
        assert all((heir.tier, -heir.offset) <= (i.tier, -i.offset) or _owns(heir) for i in rivals), (
            "a better one lives"
        )
        waits = [
            i
            for i in self.others(promoted)
            if i.tier == 0 and i.seen.process is not None and not i.seen.serving and i.key != primary.key
        ]
        patient = [i for i in waits if i.seen.silent_s < self.look.limits.hang_s]
        assert not any(i.seen.known_offset > heir.offset for i in patient), "a silent one had more"

    def hand_over(self, successor: NodeKey) -> None:
        """Between two that live, to one in sync."""
        primary = self.primary(successor)
        assert primary.seen.serving
        assert primary.key != successor
        seen = self.instances[successor].seen
        assert seen.facts is not None
        assert seen.facts.link_up
        assert seen.facts.role is Role.REPLICA

    def end(self, step: Stop | Remove) -> None:
        instance = self.instances[step.key]
        seen, cluster = instance.seen, instance.cluster
        if isinstance(step, Stop) and step.fence:
            assert seen.process is not None
            assert not seen.serving
            assert seen.silent_s >= self.look.limits.hang_s
            if step.key == self.primary(step.key).key:
                assert self.group.automatic_failover
                assert any(i.has_data for i in self.others(step.key)), "a hung primary without an heir is left alone"
            return
        spec = self.look.specs[step.key]
        asked = not instance.standby and wants_reboot(cluster.nodes[0], seen)
        failed = cluster.status is Status.CREATE_FAILED or self.group.status is Status.CREATING
        shard = self.group.shard_of(step.key.cluster_id)
        facts = seen.facts
        if facts is not None and facts.cluster is not None and not facts.cluster.slots:
            # It cannot be made a replica, or joined another shard: what it holds is nobody's.
            asked = asked or facts.role is Role.PRIMARY or step.key == self.primary(step.key).key
        going = instance.leaving or (shard is not None and shard.leaving)
        assert going or asked or failed or is_outdated(spec, seen), f"{step.key} was not to be ended"
        if isinstance(step, Remove):
            assert going

    def follow(self, step: Follow, group: ReplicationGroup, clusters: Mapping[str, CacheCluster]) -> None:
        shard = group.shard_of(step.key.cluster_id)
        assert shard is not None
        primary = clusters[shard.primary_id]
        assert step.primary == primary.nodes[0].address
        assert step.key != primary.key(primary.nodes[0]), "a primary that follows itself"

    def bind(
        self, step: Bind, held: Mapping[NodeKey, set[str]], promoted: set[NodeKey], primaries: set[NodeKey]
    ) -> None:
        seen = self.look.nodes[step.key]
        assert seen.facts is not None
        taken = set(step.hosts) - held.get(step.key, set())
        for other, hosts in held.items():
            assert other == step.key or not taken & hosts, "taken before it was given up"
        mine = [a.host for a in (self.group.primary_endpoint, self.group.configuration_endpoint) if a is not None]
        if taken & {*mine}:
            assert step.key in promoted or (step.key in primaries and seen.facts.role is Role.PRIMARY)
            old = self.primary(step.key)
            assert old.key == step.key or old.seen.process is None or old.seen.serving, "its holder may wake up"
        reader = self.group.reader_endpoint
        if reader is not None and reader.host in taken and step.key not in primaries | promoted:
            assert seen.facts.role is Role.REPLICA
            assert seen.facts.link_up


def _owns(instance: Instance) -> bool:
    facts = instance.seen.facts
    return facts is not None and facts.cluster is not None and bool(facts.cluster.slots)


def audit(group: ReplicationGroup, clusters: Mapping[str, CacheCluster], decision: Decision, look: Look) -> None:
    """Every step of the decision, in order."""
    checks = Audit(group, clusters, look)
    after = {p.id: p for p in decision.puts if isinstance(p, CacheCluster)}
    now = {name: after.get(name, cluster) for name, cluster in clusters.items()}
    new_group = next((p for p in decision.puts if isinstance(p, ReplicationGroup)), group)
    primaries = {now[s.primary_id].key(now[s.primary_id].nodes[0]) for s in new_group.node_groups}
    held = {key: set(seen.facts.binds) for key, seen in look.nodes.items() if seen.serving and seen.facts}
    promoted: set[NodeKey] = set()
    for stage in decision.stages:
        for step in stage:
            _check(checks, step, new_group, now, primaries)
            if isinstance(step, Bind):
                checks.bind(step, held, promoted, primaries)
        for step in stage:
            match step:
                case Bind(key, _, hosts):
                    held[key] = set(hosts)
                case Promote(key) | TakeOver(key):
                    promoted.add(key)
                case SwitchOver():
                    held[step.key], held[step.successor] = set(step.binds), set(step.successor_binds)
                case Stop(key):
                    held.pop(key, None)
        every = [host for hosts in held.values() for host in hosts]
        assert len(every) == len(set(every)), f"two members would hold one address: {held}"


def _check(
    checks: Audit, step: Step, group: ReplicationGroup, clusters: Mapping[str, CacheCluster], primaries: set[NodeKey]
) -> None:
    match step:
        case Start():
            checks.start(step, primaries)
        case Promote(key) | TakeOver(key):
            checks.promotion(key)
        case SwitchOver():
            checks.hand_over(step.successor)
        case ClusterSwitchOver(key):
            checks.hand_over(key)
        case Stop() | Remove():
            checks.end(step)
        case Follow():
            checks.follow(step, group, clusters)
        case Configure(key):
            assert checks.look.nodes[key].serving
        case _:
            return
