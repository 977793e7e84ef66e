"""ModifyCacheCluster: settings, number of nodes, node type, engine and version of a cluster of its own."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from cachekeep.api import capacity, choose, present, quota
from cachekeep.api.context import Call, pick_addresses
from cachekeep.api.guards import guard_changed
from cachekeep.api.ops.cache_clusters import cluster_event, find_cluster, node_count, require_available_cluster
from cachekeep.api.ops.engine_versions import Change, asked_change, asked_engine, asks_to_stay
from cachekeep.api.ops.upkeep import modified_upkeep
from cachekeep.api.surroundings import refuse_surroundings
from cachekeep.domain.cache_cluster import CacheCluster, CacheNode, Pending, ScaleConfig, Status
from cachekeep.domain.engine import EngineVersion
from cachekeep.domain.faults import invalid_combination, invalid_value
from cachekeep.domain.parameters import NodeType
from cachekeep.domain.ports import Transaction
from cachekeep.plan.memcached import apply_pending
from cachekeep.plan.nodes import with_node_type
from cachekeep.plan.placement import node_bytes, spread
from cachekeep.plan.upgrades import begin_single, without_engine

# ElastiCache guide, "On-demand scaling for Memcached clusters".
_SCALES_SINCE = EngineVersion((1, 5))


def modify_cache_cluster(call: Call) -> present.Shape:
    """What needs no engine changes at once; the rest waits for the window unless ApplyImmediately."""
    cluster = find_cluster(call, call.params["CacheClusterId"])
    require_available_cluster(call, cluster)
    refuse_surroundings(call)
    _check_zone_mode(call, cluster)
    change = _asked_change(call, cluster)
    new = _guarded(call, replace(cluster, **_plain_changes(call, cluster, change)))
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


def _guarded(call: Call, cluster: CacheCluster) -> CacheCluster:
    if call.text("AuthToken") is None and call.text("AuthTokenUpdateStrategy") is None:
        return cluster
    _refuse_for_member(cluster, "AuthToken")
    if not cluster.engine.speaks_resp:
        raise invalid_combination("AuthToken is for the engines valkey and redis.")
    new = guard_changed(call, cluster)
    return new if new.auth_tokens == cluster.auth_tokens else replace(new, status=Status.MODIFYING)


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
    if call.params.get("LogDeliveryConfigurations"):
        _refuse_for_member(cluster, "LogDeliveryConfigurations")
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
    pending, name, config = cluster.pending, call.text("CacheNodeType"), _scale_config(call, cluster)
    if name is None:
        if config is not None and pending.node_type is None:
            raise invalid_combination("ScaleConfig needs CacheNodeType: it says how the nodes come to another type.")
        return pending if config is None else replace(pending, scale_config=config)
    node_type = choose.choose_node_type(call, name)
    if name == cluster.node_type and pending.node_type is None:
        return pending
    _refuse_for_member(cluster, "CacheNodeType")
    if name == cluster.node_type:
        return replace(pending, node_type=None, scale_config=None)
    if not cluster.engine.speaks_resp:
        _check_scaling(call, cluster, node_type)
        return replace(pending, node_type=name, scale_config=config or pending.scale_config or ScaleConfig())
    capacity.check_growth(call, cluster, node_type.name, 1)
    parameters = call.parameter_group(call.text("CacheParameterGroupName") or cluster.parameter_group)
    capacity.check_data_fits(call, [cluster], node_type, parameters)
    return replace(pending, node_type=name)


def _check_scaling(call: Call, cluster: CacheCluster, node_type: NodeType) -> None:
    """Raises InvalidParameterCombination, InvalidParameterValue or InsufficientCacheClusterCapacity."""
    if cluster.version < _SCALES_SINCE:
        raise invalid_combination(
            f"The node type of a Memcached cluster can be modified from engine version {_SCALES_SINCE} on, and "
            f"{cluster.id} has {cluster.version}."
        )
    if node_bytes(cluster.engine, node_type) == 0:
        raise invalid_value(f"The node type {node_type.name} is not supported for engine {cluster.engine.value}.")
    nodes = len(cluster.nodes) + len(cluster.pending.nodes_to_add)
    capacity.check_growth(call, cluster, node_type.name, nodes)


def _scale_config(call: Call, cluster: CacheCluster) -> ScaleConfig | None:
    given = call.params.get("ScaleConfig")
    if given is None:
        return None
    if cluster.engine.speaks_resp:
        raise invalid_combination("ScaleConfig is only supported for Memcached clusters.")
    usual = ScaleConfig()
    try:
        return ScaleConfig(
            given.get("ScalePercentage", usual.percentage), given.get("ScaleIntervalMinutes", usual.interval_minutes)
        )
    except ValueError as error:
        raise invalid_value(str(error)) from None


def _membership(call: Call, work: Transaction, cluster: CacheCluster, count: int) -> dict[str, Any]:
    """Nodes to add or to remove, so that `count` remain.

    What waits to be removed is replaced; what waits to be added stays, as far as it is still asked for.
    Source: botocore elasticache 2015-02-02, ModifyCacheCluster NewAvailabilityZones ("Impact of new add/remove
    requests upon pending requests").
    """
    have = [n.node_id for n in cluster.nodes]
    removed = _asked_removals(call, cluster, have, count)
    kept = cluster.pending.nodes_to_add[: max(count - len(have), 0)]
    more = max(count - len(have) - len(kept), 0)
    zones_asked = choose.check_zones(call, *call.texts("NewAvailabilityZones"))
    if zones_asked and len(zones_asked) != more:
        raise invalid_combination(f"NewAvailabilityZones names {len(zones_asked)} zones for {more} new nodes.")
    if not more:
        return {"nodes_to_add": kept, "node_ids_to_remove": removed}
    node_type = call.services.catalog.node_types[cluster.pending.node_type or cluster.node_type]
    quota.check_more_nodes(call, more)
    capacity.check_fits(call, cluster.engine, node_type, more)
    first = max(int(node_id) for node_id in (*have, *(n.node_id for n in kept))) + 1
    now = call.services.clock.now()
    addresses = pick_addresses(call, work, cluster.port, more)
    zones = zones_asked or _zones_of_more(call, cluster, len(have) + len(kept), more)
    nodes = tuple(
        CacheNode(f"{first + n:04d}", address, zone, now)
        for n, (address, zone) in enumerate(zip(addresses, zones, strict=True))
    )
    return {"nodes_to_add": (*kept, *nodes), "node_ids_to_remove": ()}


def _asked_removals(call: Call, cluster: CacheCluster, have: list[str], count: int) -> tuple[str, ...]:
    asked = call.texts("CacheNodeIdsToRemove")
    unknown = [node_id for node_id in asked if node_id not in have]
    if unknown:
        raise invalid_value(f"Cache cluster {cluster.id} has no cache nodes {', '.join(unknown)[:80]}.")
    less = max(len(have) - count, 0)
    if len(set(asked)) != less:
        raise invalid_combination(
            f"To go from {len(have)} to {count} nodes, CacheNodeIdsToRemove must name {less} nodes, and it names "
            f"{len(set(asked))}."
        )
    return tuple(sorted(set(asked)))


def _zones_of_more(call: Call, cluster: CacheCluster, have: int, more: int) -> list[str]:
    """In turn over all zones with AZMode cross-az, else where the others are."""
    if call.text("AZMode") == "cross-az":
        return spread(call.region, have + more, (), several=True)[have:]
    return [cluster.nodes[0].zone] * more


def _check_zone_mode(call: Call, cluster: CacheCluster) -> None:
    """Raises InvalidParameterCombination."""
    asked = [name for name in ("AZMode", "NewAvailabilityZones") if call.params.get(name)]
    if asked and cluster.engine.speaks_resp:
        raise invalid_combination(f"{asked[0]} is only supported for Memcached clusters.")
    zones = {n.zone for n in (*cluster.nodes, *cluster.pending.nodes_to_add)}
    if call.text("AZMode") == "single-az" and len(zones) > 1:
        raise invalid_combination(
            f"AZMode single-az cannot be: the nodes of {cluster.id} are in {', '.join(sorted(zones))} already."
        )
