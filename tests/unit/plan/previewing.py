"""Stored resources and what was seen of them, for the tests of previews."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from cachekeep.app import catalog
from cachekeep.domain.cache_cluster import CacheCluster, Status
from cachekeep.domain.engine import EngineVersion
from cachekeep.domain.nodes import Address, ClusterFacts, NodeFacts, NodeKey, ObservedNode, Process, Role
from cachekeep.domain.parameters import ParameterGroup
from cachekeep.domain.replication_group import ClusterMode, NodeGroup, ReplicationGroup
from cachekeep.domain.slots import divided
from cachekeep.plan.decision import Limits
from cachekeep.plan.preview import Preview, preview
from cachekeep.plan.previews.scene import Resources
from cachekeep.plan.specs import Abilities
from tests.properties.stored import NOW, cluster_of, group_of

CATALOG = catalog()
MIB = 1 << 20
V81, V91 = EngineVersion.parse("8.1.8"), EngineVersion.parse("9.1.2")
DEFAULTS = dict(CATALOG.default_groups)


class World:
    """Stored resources and what was seen of them."""

    def __init__(
        self, *resources: ReplicationGroup | CacheCluster, parameters: tuple[ParameterGroup, ...] = ()
    ) -> None:
        self.groups = {r.id: r for r in resources if isinstance(r, ReplicationGroup)}
        self.clusters = {r.id: r for r in resources if isinstance(r, CacheCluster)}
        self.parameters = {**DEFAULTS, **{p.name: p for p in parameters}}
        self.seen: dict[NodeKey, ObservedNode] = {}

    def saw(self, name: str, used: int = 10 * MIB, *, role: Role = Role.REPLICA, **more: Any) -> None:
        cluster = self.clusters[name]
        facts = NodeFacts("9.1.2", role=role, used_memory_bytes=used, link_up=role is Role.REPLICA, **more)
        self.seen[cluster.key(cluster.nodes[0])] = ObservedNode(Process(1, "1"), facts)

    @property
    def resources(self) -> Resources:
        return Resources(dict(self.groups), dict(self.clusters), dict(self.parameters))

    def after(self, *changed: ReplicationGroup | CacheCluster | ParameterGroup, gone: str = "") -> Preview:
        before = self.resources
        after = self.resources
        groups, clusters, parameters = dict(after.groups), dict(after.clusters), dict(after.parameters)
        for resource in changed:
            match resource:
                case ReplicationGroup():
                    groups[resource.id] = resource
                case CacheCluster():
                    clusters[resource.id] = resource
                case ParameterGroup():
                    parameters[resource.name] = resource
        parameters.pop(gone, None)
        made = Resources(groups, clusters, parameters)
        limits = Limits(hang_s=5, sync_s=600, rollback_s=3600)
        return preview(before, made, self.seen, CATALOG, Abilities(), now=NOW, limits=limits)


GROUP = group_of("g", ("g-001", "g-002"))
MEMBERS = (cluster_of("g-001", 1, group="g"), cluster_of("g-002", 2, group="g"))


def text(made: Preview) -> str:
    return "\n".join(made.steps)


def node_bytes(name: str = "cache.t4g.micro") -> int:
    return CATALOG.node_types[name].maxmemory_bytes


def clustered_world(shards: int, used: int = 100 * MIB) -> World:
    """`shards` shards of two nodes each."""
    members: list[CacheCluster] = []
    groups = []
    for number, slots in enumerate(divided(shards), 1):
        names = (f"g-{number:04d}-001", f"g-{number:04d}-002")
        groups.append(NodeGroup(f"{number:04d}", names, names[0], slots))
        members += [cluster_of(name, 10 * number + n, group="g") for n, name in enumerate(names)]
    group = replace(
        GROUP,
        node_groups=tuple(groups),
        version=V91,
        cluster_mode=ClusterMode.ENABLED,
        primary_endpoint=None,
        reader_endpoint=None,
        configuration_endpoint=Address("10.0.9.3", 6379),
    )
    world = World(group, *members)
    for shard in groups:
        world.saw(shard.member_ids[0], used, role=Role.PRIMARY, cluster=ClusterFacts("id", slots=shard.slots))
        world.saw(shard.member_ids[1], used, offset=5)
    return world


def grown(world: World, shards: int) -> tuple[ReplicationGroup, list[CacheCluster]]:
    """The group with so many shards, the slots divided anew."""
    group = world.groups["g"]
    made, members = [], []
    for number, slots in enumerate(divided(shards), 1):
        name = f"{number:04d}"
        shard = group.shard(name)
        if shard is None:
            names = (f"g-{name}-001", f"g-{name}-002")
            shard = NodeGroup(name, names, names[0])
            members += [
                replace(cluster_of(n, 10 * number + i, group="g"), status=Status.CREATING) for i, n in enumerate(names)
            ]
        made.append(replace(shard, slots=slots))
    return replace(group, node_groups=tuple(made), resharding=0.0, status=Status.MODIFYING), members
