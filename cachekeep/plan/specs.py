"""From what is stored to what a node's process should be: NodeSpecs. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from cachekeep.domain.cache_cluster import CacheCluster
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
    clusters: Iterable[CacheCluster], groups: Mapping[str, ParameterGroup], catalog: Catalog, abilities: Abilities
) -> dict[NodeKey, NodeSpec]:
    """The spec of every node of these clusters, discovery responders included.

    groups: the parameter groups that the clusters name, by name. Raises KeyError for one that is missing.
    """
    specs: dict[NodeKey, NodeSpec] = {}
    for cluster in clusters:
        engine, version = cluster.runs
        group = groups[cluster.parameter_group]
        family = catalog.families[group.family]
        node_type = catalog.node_types[cluster.node_type]
        config = engine_config(
            family,
            group.values,
            node_type,
            engine,
            version,
            can_defrag=(engine, version) in abilities.defrag,
            open_files=abilities.open_files,
        )
        for node in cluster.nodes:
            key = cluster.key(node)
            specs[key] = NodeSpec(key, engine, version, node.address, config)
        if cluster.configuration_endpoint is not None:
            key = cluster.discovery_key
            specs[key] = NodeSpec(
                key, Engine.MEMCACHED, version, cluster.configuration_endpoint, program=ProgramKind.DISCOVERY
            )
    return specs
