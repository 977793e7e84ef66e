"""From what is stored to what a node's process should be: NodeSpecs. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from cachekeep.domain.cache_cluster import CacheCluster, CacheNode
from cachekeep.domain.engine import Engine, EngineVersion
from cachekeep.domain.nodes import NodeKey, NodeSpec, ProgramKind
from cachekeep.domain.parameters import Family, NodeType, ParameterGroup
from cachekeep.plan.parameters import engine_config


@dataclass(frozen=True)
class Catalog:
    """The package's data: parameter families, node types, and default parameter groups by name."""

    families: Mapping[str, Family]
    node_types: Mapping[str, NodeType]
    default_groups: Mapping[str, ParameterGroup]


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
) -> dict[NodeKey, NodeSpec]:
    """The spec of every node of these clusters, second instances and discovery responders included.

    groups: the parameter groups that the clusters name, by name. clustered: the engines run in cluster mode. Raises
    KeyError for a group that is missing.
    """
    specs: dict[NodeKey, NodeSpec] = {}

    def add(cluster: CacheCluster, node: CacheNode, engine: Engine, version: EngineVersion, group_name: str) -> None:
        group = groups[group_name]
        config = engine_config(
            catalog.families[group.family],
            group.values,
            catalog.node_types[cluster.node_type],
            engine,
            version,
            can_defrag=(engine, version) in abilities.defrag,
            open_files=abilities.open_files,
            clustered=clustered,
        )
        key = cluster.key(node)
        specs[key] = NodeSpec(key, engine, version, node.address, config)

    for cluster in clusters:
        engine, version = cluster.runs
        for node in cluster.nodes:
            add(cluster, node, engine, version, cluster.parameter_group)
        if cluster.spare is not None:
            spare = cluster.spare
            add(cluster, spare.node, spare.engine, spare.version, spare.parameter_group)
        if cluster.configuration_endpoint is not None:
            key = cluster.discovery_key
            specs[key] = NodeSpec(
                key, Engine.MEMCACHED, version, cluster.configuration_endpoint, program=ProgramKind.DISCOVERY
            )
    return specs


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
