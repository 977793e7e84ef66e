"""What `cachekeep status` shows: every node with its role and memory, as last seen. Pure."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any

from cachekeep import __version__
from cachekeep.domain.cache_cluster import CacheCluster, CacheNode
from cachekeep.domain.nodes import NOTHING_SEEN, Address, NodeKey, ObservedNode, Role
from cachekeep.domain.ports import Store
from cachekeep.domain.replication_group import ClusterMode, NodeGroup, ReplicationGroup
from cachekeep.domain.slots import count_of, slots_text
from cachekeep.domain.transit import Transit

Page = dict[str, Any]


def status_of(store: Store, seen: Mapping[NodeKey, ObservedNode], url: str) -> Page:
    """JSON values: `service`, `groups`, `clusters` (those of no group); memory in bytes, times in seconds since
    1970, absent facts None. Those that run a serverless cache have its name in `serverless`."""
    clusters = store.all(CacheCluster)
    by_group: dict[tuple[str, str | None], dict[str, CacheCluster]] = {}
    for cluster in clusters:
        by_group.setdefault((cluster.region, cluster.replication_group_id), {})[cluster.id] = cluster
    return {
        "service": {"version": __version__, "pid": os.getpid(), "url": url},
        "groups": [_group(g, by_group.get((g.region, g.id), {}), seen) for g in store.all(ReplicationGroup)],
        "clusters": [_cluster(c, seen) for c in clusters if c.replication_group_id is None],
    }


def _group(group: ReplicationGroup, members: Mapping[str, CacheCluster], seen: Mapping[NodeKey, ObservedNode]) -> Page:
    present = [members[name] for name in group.member_ids if name in members]
    return {
        **_common(group),
        "cluster_mode": group.cluster_mode.value,
        "cluster_mode_before": group.mode_before.value if group.mode_before else None,
        "automatic_failover": group.automatic_failover,
        **_endpoints(group, present),
        "shards": [_shard(group, s, members, seen) for s in group.node_groups] if group.clustered else [],
        "resharding": group.resharding,
        "engine_change": _engine_change(group),
        "global_datastore": group.global_id or None,
        "migrates_from": str(group.migration.source) if group.migration and group.migration.goes_on else None,
        "nodes": [
            node
            for shard in group.node_groups
            for name in shard.member_ids
            if name in members
            for node in _nodes(members[name], seen, shard.id)
        ],
    }


def _cluster(cluster: CacheCluster, seen: Mapping[NodeKey, ObservedNode]) -> Page:
    endpoint = cluster.configuration_endpoint
    return {
        **_common(cluster),
        "configuration_endpoint": None if endpoint is None else str(endpoint),
        "nodes": _nodes(cluster, seen, None),
    }


def _common(resource: ReplicationGroup | CacheCluster) -> Page:
    return {
        "id": resource.id,
        "region": resource.region,
        "status": resource.status.value,
        "created_at": resource.created_at,
        "engine": resource.engine.value,
        "version": str(resource.version),
        "runs": _runs(resource),
        "node_type": resource.node_type,
        "parameter_group": resource.parameter_group,
        "waits_for_window": resource.upkeep.maintenance_window if resource.pending.anything else None,
        "serverless": resource.serverless,
        "tls": None if resource.transit is Transit.OFF else resource.transit.value,
        "guard": _guard(resource),
    }


def _guard(resource: ReplicationGroup | CacheCluster) -> str | None:
    """Who is asked for what before a command is taken; never the secret itself."""
    if resource.user_group_ids:
        return f"users of {', '.join(resource.user_group_ids)}"
    return "AUTH token" if resource.auth_tokens else None


def _endpoints(group: ReplicationGroup, members: Sequence[CacheCluster]) -> dict[str, str | None]:
    """The group's own, or where addresses cannot move, those of the members in that role."""
    primary = next((m for m in members if m.id == group.primary_id), None)
    reader = next((m for m in members if m.id != group.primary_id), primary)
    by_role = group.cluster_mode is not ClusterMode.ENABLED
    return {
        "primary_endpoint": _text(group.primary_endpoint, primary) if by_role else None,
        "reader_endpoint": _text(group.reader_endpoint, reader) if by_role else None,
        "configuration_endpoint": _text(group.configuration_endpoint, primary) if group.clustered else None,
    }


def _text(endpoint: Address | None, member: CacheCluster | None) -> str | None:
    if endpoint is None and member is not None:
        endpoint = _told(member.nodes[0])
    return None if endpoint is None else str(endpoint)


def _told(node: CacheNode) -> Address:
    """The address by which users know the node."""
    return node.published or node.address


def _runs(resource: ReplicationGroup | CacheCluster) -> str | None:
    """What stands in for the engine that was asked for, if anything does."""
    if resource.substitute is None:
        return None
    return f"{resource.substitute.value} {resource.substitute_version}"


def _shard(
    group: ReplicationGroup,
    shard: NodeGroup,
    members: Mapping[str, CacheCluster],
    seen: Mapping[NodeKey, ObservedNode],
) -> Page:
    """slots: those that it shall own. owned: how many its primary says it owns, None when it was not heard."""
    primary = members.get(shard.primary_id)
    facts = seen.get(primary.key(primary.nodes[0]), NOTHING_SEEN).facts if primary else None
    return {
        "id": shard.id,
        "slots": slots_text(shard.slots),
        "slot_count": count_of(shard.slots),
        "owned": count_of(facts.cluster.slots) if facts and facts.cluster else None,
        "primary": shard.primary_id,
        "members": list(shard.member_ids),
        "leaving": shard.leaving,
        "handing_over": shard.hand_over is not None,
    }


def _engine_change(group: ReplicationGroup) -> Page | None:
    """done: every member runs the new version, and the former instances still wait for a rollback."""
    change = group.engine_change
    if change is None:
        return None
    return {
        "from": f"{change.before_engine.value} {change.before_version}",
        "to": f"{change.engine.value} {change.version}",
        "started_at": change.started_at,
        "done": change.done_at is not None,
        "done_at": change.done_at,
    }


def _nodes(cluster: CacheCluster, seen: Mapping[NodeKey, ObservedNode], shard_id: str | None) -> list[Page]:
    """The nodes, and behind them the spare: the instance that comes, or the former one."""
    shown = [_node(cluster, node, seen, shard_id, None) for node in cluster.nodes]
    if cluster.spare is not None:
        kind = "former" if cluster.spare.former else "coming"
        shown.append(_node(cluster, cluster.spare.node, seen, shard_id, kind))
    return shown


def _node(
    cluster: CacheCluster,
    node: CacheNode,
    seen: Mapping[NodeKey, ObservedNode],
    shard_id: str | None,
    spare: str | None,
) -> Page:
    look = seen.get(cluster.key(node), NOTHING_SEEN)
    facts = look.facts
    return {
        "id": cluster.id,
        "node_id": node.node_id,
        "instance": node.instance or node.node_id,
        "shard": shard_id,
        "spare": spare,
        "status": node.status.value,
        "address": str(node.address if spare else _told(node)),
        "pid": look.process.pid if look.process else None,
        "version": facts.version if facts else None,
        "role": facts.role.value if facts and cluster.engine.speaks_resp else None,
        "in_sync": facts.link_up if facts and facts.role is Role.REPLICA else None,
        "offset": facts.offset if facts and cluster.engine.speaks_resp else None,
        "used_memory": facts.used_memory_bytes if facts else None,
        "maxmemory": facts.maxmemory_bytes if facts else None,
        "keys": facts.keys if facts else None,
        "clients": facts.clients if facts else None,
    }
