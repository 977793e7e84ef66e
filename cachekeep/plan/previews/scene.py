"""What a preview looks at, and the parts that it is put together from. Pure data and a few ways to ask it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from cachekeep.domain.cache_cluster import CacheCluster, Status
from cachekeep.domain.global_group import GlobalGroup
from cachekeep.domain.nodes import NOTHING_SEEN, NodeFacts, NodeKey, ObservedNode
from cachekeep.domain.parameters import ParameterGroup
from cachekeep.domain.replication_group import NodeGroup, ReplicationGroup
from cachekeep.domain.snapshot import Snapshot
from cachekeep.domain.subnet_group import SubnetGroup
from cachekeep.domain.users import User, UserGroup
from cachekeep.plan.decision import Limits
from cachekeep.plan.parameters import Drift, drift
from cachekeep.plan.previews.figures import Figure
from cachekeep.plan.specs import Abilities, Catalog, node_specs


@dataclass(frozen=True)
class Resources:
    """All of one region, by name. parameters: default groups too. recorded: what no engine is concerned with."""

    groups: Mapping[str, ReplicationGroup] = field(default_factory=dict)
    clusters: Mapping[str, CacheCluster] = field(default_factory=dict)
    parameters: Mapping[str, ParameterGroup] = field(default_factory=dict)
    recorded: tuple[SubnetGroup, ...] = ()
    datastores: Mapping[str, GlobalGroup] = field(default_factory=dict)
    """Global ones, of all regions."""
    snapshots: Mapping[str, Snapshot] = field(default_factory=dict)
    users: Mapping[str, User] = field(default_factory=dict)
    user_groups: Mapping[str, UserGroup] = field(default_factory=dict)

    def members(self, group: ReplicationGroup) -> list[CacheCluster]:
        return [self.clusters[name] for name in group.member_ids if name in self.clusters]


@dataclass(frozen=True)
class Gap:
    """For how long writes wait. what: which writes. times: how often that happens. source: of the figure."""

    least_ms: float
    most_ms: float
    what: str
    source: str
    times: int = 1


def gap(figure: Figure, what: str, times: int = 1) -> Gap:
    return Gap(figure.least_ms, figure.most_ms, what, figure.source, times)


@dataclass(frozen=True)
class Part:
    """One change and what it means. steps: sentences, in order. begins_at: seconds since 1970 when the maintenance
    window opens that it waits for; None: at once. least_s, most_s: how long it takes, where that can be told."""

    steps: tuple[str, ...] = ()
    gaps: tuple[Gap, ...] = ()
    undo: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    begins_at: float | None = None
    least_s: float = 0.0
    most_s: float = 0.0


@dataclass(frozen=True)
class Scene:
    """before, after: what is stored, and what the request would store. seen: the last look at every node."""

    before: Resources
    after: Resources
    seen: Mapping[NodeKey, ObservedNode]
    catalog: Catalog
    abilities: Abilities
    limits: Limits
    now: float

    def facts(self, cluster: CacheCluster) -> NodeFacts | None:
        """Of the cluster's first node, as it was last seen."""
        return self.seen.get(cluster.key(cluster.nodes[0]), NOTHING_SEEN).facts

    def data_bytes(self, cluster: CacheCluster | None) -> int | None:
        """What the engine says it uses; None when it was not seen to answer."""
        facts = self.facts(cluster) if cluster is not None else None
        return None if facts is None else facts.used_memory_bytes

    def primary(self, shard: NodeGroup) -> CacheCluster | None:
        """The member that is the shard's primary now, as stored before."""
        return self.before.clusters.get(shard.primary_id)

    def replicas_in_sync(self, shard: NodeGroup) -> list[CacheCluster]:
        """The best first: the highest offset."""
        found: list[tuple[int, CacheCluster]] = []
        for name in shard.member_ids:
            cluster = self.before.clusters.get(name)
            facts = self.facts(cluster) if cluster is not None and name != shard.primary_id else None
            if cluster is not None and facts is not None and facts.link_up:
                found.append((facts.offset, cluster))
        return [cluster for _, cluster in sorted(found, key=lambda pair: (-pair[0], pair[1].id))]

    def maxmemory(self, cluster: CacheCluster, *, clustered: bool = False) -> int | None:
        """What the engine may hold as the cluster stands; None for Memcached."""
        config = self._config(cluster, self.after, clustered=clustered)
        return int(config["maxmemory"]) if "maxmemory" in config else None

    def config_change(self, cluster: CacheCluster, *, clustered: bool = False) -> Drift:
        """What the first node's engine lacks of the configuration that it shall have afterwards."""
        wanted = self._config(cluster, self.after, clustered=clustered)
        family = self.catalog.families[self.after.parameters[cluster.parameter_group].family]
        old = self.before.clusters.get(cluster.id, cluster)
        running = self._config(old, self.before, clustered=clustered)
        facts = self.facts(cluster)
        if cluster.engine.speaks_resp and facts is not None and facts.config:
            running = {**running, **facts.config}
        return drift(wanted, running, family)

    def _config(self, cluster: CacheCluster, resources: Resources, *, clustered: bool) -> Mapping[str, str]:
        specs = node_specs([cluster], resources.parameters, self.catalog, self.abilities, clustered=clustered)
        return specs[cluster.key(cluster.nodes[0])].config


def known_sum(sizes: Sequence[int | None]) -> int | None:
    """None when one is not known."""
    known = [number for number in sizes if number is not None]
    return sum(known) if len(known) == len(sizes) else None


def is_going(cluster: CacheCluster) -> bool:
    return cluster.status is Status.DELETING
