"""What `cachekeep status` shows: every node with its role and memory, as last seen. Pure."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from cachekeep import __version__
from cachekeep.domain.cache_cluster import CacheCluster
from cachekeep.domain.nodes import NOTHING_SEEN, Address, NodeKey, ObservedNode
from cachekeep.domain.ports import Store
from cachekeep.domain.replication_group import ReplicationGroup


def status_of(store: Store, seen: Mapping[NodeKey, ObservedNode], url: str) -> dict[str, Any]:
    """JSON values: `service`, `groups`, `clusters` (those of no group); memory in bytes, absent facts None."""
    clusters = store.all(CacheCluster)
    by_group: dict[tuple[str, str | None], list[CacheCluster]] = {}
    for cluster in clusters:
        by_group.setdefault((cluster.region, cluster.replication_group_id), []).append(cluster)
    return {
        "service": {"version": __version__, "pid": os.getpid(), "url": url},
        "groups": [
            {
                "id": group.id,
                "region": group.region,
                "status": group.status.value,
                "engine": group.engine.value,
                "version": str(group.version),
                "runs": _runs(group),
                **_endpoints(group, by_group.get((group.region, group.id), [])),
                "nodes": [
                    node for member in by_group.get((group.region, group.id), []) for node in _nodes(member, seen)
                ],
            }
            for group in store.all(ReplicationGroup)
        ],
        "clusters": [
            {
                "id": cluster.id,
                "region": cluster.region,
                "status": cluster.status.value,
                "engine": cluster.engine.value,
                "version": str(cluster.version),
                "runs": _runs(cluster),
                "configuration_endpoint": str(cluster.configuration_endpoint)
                if cluster.configuration_endpoint
                else None,
                "nodes": _nodes(cluster, seen),
            }
            for cluster in clusters
            if cluster.replication_group_id is None
        ],
    }


def _endpoints(group: ReplicationGroup, members: list[CacheCluster]) -> dict[str, str | None]:
    """The group's own, or where addresses cannot move, those of the members in that role."""
    primary = next((m for m in members if m.id == group.primary_id), None)
    reader = next((m for m in members if m.id != group.primary_id), primary)
    return {
        "primary_endpoint": _text(group.primary_endpoint, primary),
        "reader_endpoint": _text(group.reader_endpoint, reader),
    }


def _text(endpoint: Address | None, member: CacheCluster | None) -> str | None:
    if endpoint is None and member is not None:
        endpoint = member.nodes[0].address
    return None if endpoint is None else str(endpoint)


def _runs(resource: ReplicationGroup | CacheCluster) -> str | None:
    """What stands in for the engine that was asked for, if anything does."""
    if resource.substitute is None:
        return None
    return f"{resource.substitute.value} {resource.substitute_version}"


def _nodes(cluster: CacheCluster, seen: Mapping[NodeKey, ObservedNode]) -> list[dict[str, Any]]:
    nodes = []
    for node in cluster.nodes:
        look = seen.get(cluster.key(node), NOTHING_SEEN)
        facts = look.facts
        nodes.append(
            {
                "id": cluster.id,
                "node_id": node.node_id,
                "status": node.status.value,
                "address": str(node.address),
                "pid": look.process.pid if look.process else None,
                "role": facts.role.value if facts and cluster.engine.speaks_resp else None,
                "in_sync": facts.link_up if facts and facts.role.value == "replica" else None,
                "used_memory": facts.used_memory_bytes if facts else None,
                "maxmemory": facts.maxmemory_bytes if facts else None,
                "keys": facts.keys if facts else None,
                "clients": facts.clients if facts else None,
            }
        )
    return nodes
