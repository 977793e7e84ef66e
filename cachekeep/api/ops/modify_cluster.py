"""ModifyCacheCluster: settings, number of nodes, node type, engine and version of a cluster of its own."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from cachekeep.api import capacity, choose, present
from cachekeep.api.context import Call, pick_addresses
from cachekeep.api.ops.cache_clusters import cluster_event, find_cluster, node_count, require_available_cluster
from cachekeep.api.ops.engine_versions import Change, asked_change, asked_engine, asks_to_stay
from cachekeep.api.ops.upkeep import modified_upkeep
from cachekeep.domain.cache_cluster import CacheCluster, CacheNode, Pending, Status
from cachekeep.domain.faults import invalid_combination, invalid_value
from cachekeep.domain.ports import Transaction
from cachekeep.plan.memcached import apply_pending
from cachekeep.plan.nodes import with_node_type
from cachekeep.plan.placement import spread
from cachekeep.plan.upgrades import begin_single, without_engine


def modify_cache_cluster(call: Call) -> present.Shape:
    """What needs no engine changes at once; the rest waits for the window unless ApplyImmediately."""
    cluster = find_cluster(call, call.params["CacheClusterId"])
    require_available_cluster(call, cluster)
    choose.refuse_not_yet(call)
    change = _asked_change(call, cluster)
    new = replace(cluster, **_plain_changes(call, cluster, change))
    with call.services.store.transaction() as work:
        claimed = cluster.pending.nodes_to_add
        pending = _pending(call, work, cluster, change)
        added = [n.address for n in pending.nodes_to_add if n not in claimed]
        work.release([n.address for n in claimed if n not in pending.nodes_to_add])
        work.claim(cluster.id, added)
        new = replace(new, pending=pending)
        # What waits for a member waits for its whole group, which ModifyReplicationGroup applies.
        if pending.anything and call.flag("ApplyImmediately") and cluster.replication_group_id is None:
            new = _begun(call, work, new)
        work.replace(cluster, new)
    return {"CacheCluster": present.cache_cluster(call, new, nodes=True)}


def _begun(call: Call, work: Transaction, cluster: CacheCluster) -> CacheCluster:
    """Everything that waits is what is wanted now."""
    pending = cluster.pending
    if pending.version is not None:
        keeps = "its node is saved and restarted" if cluster.engine.speaks_resp else "its nodes come back empty"
        now, label = cluster.version, (pending.engine or cluster.engine).label
        text = f"Changing {cluster.id} from {cluster.engine.label} {now} to {label} {pending.version}: {keeps}"
        work.add_event(cluster_event(call, cluster.id, text))
        cluster = begin_single(cluster)
    if cluster.engine.speaks_resp:
        return with_node_type(cluster, pending.node_type or cluster.node_type)
    return apply_pending(cluster)


def _asked_change(call: Call, cluster: CacheCluster) -> Change | None:
    if cluster.replication_group_id is None:
        return asked_change(call, cluster, [cluster])
    if asked_engine(call, cluster) is not None:
        _refuse_for_member(cluster, "EngineVersion")
    return None


def _plain_changes(call: Call, cluster: CacheCluster, change: Change | None) -> dict[str, Any]:
    """New values that need no engine, or are applied to it while it runs (the parameter group)."""
    changes: dict[str, Any] = {"upkeep": modified_upkeep(call, cluster)}
    if call.text("CacheParameterGroupName") is None or change is not None:
        return changes
    _refuse_for_member(cluster, "CacheParameterGroupName")
    group = choose.choose_parameter_group(call, choose.EngineChoice(cluster.engine, cluster.version))
    choose.check_switch(call, cluster.parameter_group, group)
    if group.name != cluster.parameter_group:
        changes |= {"parameter_group": group.name, "status": Status.MODIFYING}
    return changes


def _refuse_for_member(cluster: CacheCluster, parameter: str) -> None:
    if cluster.replication_group_id is not None:
        raise invalid_combination(
            f"{parameter} of cache cluster {cluster.id} is set by its replication group "
            f"{cluster.replication_group_id}: use ModifyReplicationGroup."
        )


def _pending(call: Call, work: Transaction, cluster: CacheCluster, change: Change | None) -> Pending:
    """What waits after this request. New nodes get their addresses here, unclaimed."""
    count = call.number("NumCacheNodes")
    if count is None and call.texts("CacheNodeIdsToRemove"):
        raise invalid_combination("CacheNodeIdsToRemove needs NumCacheNodes.")
    if count is not None:
        node_count(call, cluster.engine)
    pending = _pending_node_type(call, cluster)
    if change is not None:
        pending = change.waiting(pending)
    elif cluster.replication_group_id is None and asks_to_stay(call, cluster):
        pending = without_engine(pending)
    if cluster.replication_group_id is None and pending.version is not None and pending.node_type is not None:
        raise invalid_combination(
            "A change of the engine version and a change of the node type exclude each other: apply or take back the "
            "one that waits first (by naming the present node type, or the present version)."
        )
    if count is None or cluster.engine.speaks_resp:
        return pending
    return replace(pending, **_membership(call, work, cluster, count))


def _pending_node_type(call: Call, cluster: CacheCluster) -> Pending:
    pending, name = cluster.pending, call.text("CacheNodeType")
    if name is None:
        return pending
    node_type = choose.choose_node_type(call, name)
    if name == cluster.node_type and pending.node_type is None:
        return pending
    _refuse_for_member(cluster, "CacheNodeType")
    if name == cluster.node_type:
        return replace(pending, node_type=None)
    if not cluster.engine.speaks_resp:
        raise invalid_combination("The node type of a Memcached cluster cannot be modified.")
    capacity.check_growth(call, cluster, node_type.name, 1)
    parameters = call.parameter_group(call.text("CacheParameterGroupName") or cluster.parameter_group)
    capacity.check_data_fits(call, [cluster], node_type, parameters)
    return replace(pending, node_type=name)


def _membership(call: Call, work: Transaction, cluster: CacheCluster, count: int) -> dict[str, Any]:
    """Nodes to add or to remove, so that `count` remain."""
    have = [n.node_id for n in cluster.nodes]
    asked = call.texts("CacheNodeIdsToRemove")
    unknown = [node_id for node_id in asked if node_id not in have]
    if unknown:
        raise invalid_value(f"Cache cluster {cluster.id} has no cache nodes {', '.join(unknown)[:80]}.")
    if len(set(asked)) != max(len(have) - count, 0):
        raise invalid_combination(
            f"To go from {len(have)} to {count} nodes, CacheNodeIdsToRemove must name "
            f"{max(len(have) - count, 0)} nodes, and it names {len(set(asked))}."
        )
    zones_asked = choose.check_zones(call, *call.texts("NewAvailabilityZones"))
    if zones_asked and len(zones_asked) != max(count - len(have), 0):
        raise invalid_combination(
            f"NewAvailabilityZones names {len(zones_asked)} zones for {max(count - len(have), 0)} new nodes."
        )
    if count <= len(have):
        return {"nodes_to_add": (), "node_ids_to_remove": tuple(sorted(set(asked)))}
    more = count - len(have)
    node_type = call.services.catalog.node_types[cluster.node_type]
    zones = spread(call.region, more, zones_asked, several=call.text("AZMode") == "cross-az")
    capacity.check_fits(call, cluster.engine, node_type, more)
    first = max(int(node_id) for node_id in have) + 1
    now = call.services.clock.now()
    addresses = pick_addresses(call, work, cluster.port, more)
    nodes = tuple(
        CacheNode(f"{first + n:04d}", address, zone, now)
        for n, (address, zone) in enumerate(zip(addresses, zones, strict=True))
    )
    return {"nodes_to_add": nodes, "node_ids_to_remove": ()}
