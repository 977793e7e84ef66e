"""From what is stored to what a node's process should be: NodeSpecs. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from cachekeep.domain.access import Rules
from cachekeep.domain.acl_commands import Commands
from cachekeep.domain.cache_cluster import CacheCluster, CacheNode, Status
from cachekeep.domain.engine import Engine, EngineVersion
from cachekeep.domain.nodes import Address, NodeKey, NodeSpec, ProgramKind
from cachekeep.domain.parameters import Family, NodeType, ParameterGroup
from cachekeep.plan.parameters import engine_config
from cachekeep.plan.users import NOBODY_ASKED, Entrants, link_of, node_users


@dataclass(frozen=True)
class Catalog:
    """The package's data: parameter families, node types, and default parameter groups by name, and the commands
    that users can be allowed."""

    families: Mapping[str, Family]
    node_types: Mapping[str, NodeType]
    default_groups: Mapping[str, ParameterGroup]
    commands: Commands = field(default_factory=Commands)


@dataclass(frozen=True)
class Abilities:
    """What decides about a node's configuration beside its parameters.

    open_files: how many files a process of this machine may open. defrag: the engine versions that can.
    """

    open_files: int | None = None
    defrag: frozenset[tuple[Engine, EngineVersion]] = frozenset()


def node_specs(
    clusters: Iterable[CacheCluster],
    groups: Mapping[str, ParameterGroup],
    catalog: Catalog,
    abilities: Abilities,
    *,
    clustered: bool = False,
    endpoints: Iterable[Address] = (),
    entrants: Entrants = NOBODY_ASKED,
) -> dict[NodeKey, NodeSpec]:
    """The spec of every node of these clusters, second instances and discovery responders included.

    groups: the parameter groups that the clusters name, by name. clustered: the engines run in cluster mode. endpoints:
    of their replication group, which any node may come to hold. entrants: who may log in. Raises KeyError for a group
    that is missing.
    """
    maker = _Maker(groups, catalog, abilities, clustered, tuple(endpoints), entrants)
    return {spec.key: spec for cluster in clusters for spec in maker.specs_of(cluster)}


@dataclass(frozen=True)
class _Maker:
    """See node_specs."""

    groups: Mapping[str, ParameterGroup]
    catalog: Catalog
    abilities: Abilities
    clustered: bool
    endpoints: tuple[Address, ...]
    entrants: Entrants
    # Once for all nodes of a version: it may be a hundred users.
    _rules: dict[tuple[Engine, EngineVersion], Rules] = field(default_factory=dict)

    def specs_of(self, cluster: CacheCluster) -> Iterator[NodeSpec]:
        engine, version = cluster.runs
        for node in cluster.nodes:
            yield self._node(cluster, node, engine, version, cluster.parameter_group)
        if (spare := cluster.spare) is not None:
            yield self._node(cluster, spare.node, spare.engine, spare.version, spare.parameter_group)
        if cluster.configuration_endpoint is not None:
            yield NodeSpec(
                cluster.discovery_key,
                Engine.MEMCACHED,
                version,
                cluster.configuration_endpoint,
                program=ProgramKind.DISCOVERY,
                transit=cluster.transit,
                hosts=certified(cluster, ()),
            )

    def _node(
        self, cluster: CacheCluster, node: CacheNode, engine: Engine, version: EngineVersion, group_name: str
    ) -> NodeSpec:
        key = cluster.key(node)
        config = self._config(cluster.node_type_of(node), engine, version, self.groups[group_name])
        link = ""
        if engine.speaks_resp:
            link = link_of(key.region, cluster.replication_group_id or cluster.id, self.entrants)
        return NodeSpec(
            key,
            engine,
            version,
            node.address,
            _as_serverless(config, cluster),
            link=link,
            users=self._users(engine, version) if engine.speaks_resp else (),
            transit=cluster.transit,
            hosts=certified(cluster, self.endpoints),
            transit_moves=cluster.transit_moves,
            seed=cluster.seed if cluster.status is Status.CREATING else None,
        )

    def _config(
        self, node_type: str, engine: Engine, version: EngineVersion, group: ParameterGroup
    ) -> Mapping[str, str]:
        return engine_config(
            self.catalog.families[group.family],
            group.values,
            self.catalog.node_types[node_type],
            engine,
            version,
            can_defrag=(engine, version) in self.abilities.defrag,
            open_files=self.abilities.open_files,
            clustered=self.clustered,
        )

    def _users(self, engine: Engine, version: EngineVersion) -> Rules:
        if (engine, version) not in self._rules:
            self._rules[engine, version] = node_users(self.entrants, self.catalog.commands, engine, version)
        return self._rules[engine, version]


def certified(cluster: CacheCluster, endpoints: Iterable[Address]) -> tuple[str, ...]:
    """Every address that a node of the cluster has or may come to hold, and `localhost`; () where nothing is encrypted.

    All of them in the certificate of each: an address moves to another node without a new certificate.
    """
    if not cluster.transit.encrypted:
        return ()
    own = (address.host for address in (*cluster.addresses, *endpoints))
    return tuple(sorted({*own, "127.0.0.1", "localhost"}))


def _as_serverless(config: Mapping[str, str], cluster: CacheCluster) -> Mapping[str, str]:
    """With the memory of its own that a node of a serverless cache has, and AWS's values for those: ElastiCache guide,
    "Redis OSS and Valkey configuration and limits"."""
    if cluster.memory_bytes is None:
        return config
    if not cluster.engine.speaks_resp:
        return {**config, "-m": str(cluster.memory_bytes // (1 << 20))}
    return {**config, "maxmemory": str(cluster.memory_bytes), "cluster-allow-reads-when-down": "yes"}


def parameter_group_names(clusters: Iterable[CacheCluster]) -> set[str]:
    """Every parameter group that a node of these clusters runs with."""
    clusters = list(clusters)
    return {c.parameter_group for c in clusters} | {c.spare.parameter_group for c in clusters if c.spare is not None}


def families_by_node(
    clusters: Iterable[CacheCluster], groups: Mapping[str, ParameterGroup], catalog: Catalog
) -> dict[NodeKey, Family]:
    """The family of each node's parameter group."""
    families = {}
    for cluster in clusters:
        for node in cluster.nodes:
            families[cluster.key(node)] = catalog.families[groups[cluster.parameter_group].family]
        if cluster.spare is not None:
            family = groups[cluster.spare.parameter_group].family
            families[cluster.key(cluster.spare.node)] = catalog.families[family]
    return families
