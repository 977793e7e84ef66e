"""Create, Describe, Modify, Delete and Reboot CacheCluster."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from cachekeep.api import choose, present
from cachekeep.api.context import Call, engine_named, pick_addresses
from cachekeep.api.ops.replication_groups import (
    MOST_CLUSTERS,
    find_group,
    modified_upkeep,
    new_member,
    require_available,
)
from cachekeep.api.paging import page
from cachekeep.domain.cache_cluster import CacheCluster, CacheNode, NodeStatus, Pending, Status
from cachekeep.domain.engine import Engine
from cachekeep.domain.events import Event, SourceType
from cachekeep.domain.faults import Fault, invalid_combination, invalid_value, not_available_yet
from cachekeep.domain.ids import resource_id
from cachekeep.domain.ports import Transaction
from cachekeep.domain.replication_group import ReplicationGroup
from cachekeep.plan.memcached import apply_pending
from cachekeep.plan.nodes import with_node_type
from cachekeep.plan.placement import spread

MOST_MEMCACHED_NODES = 40
LONGEST_ID = 50


def create_cache_cluster(call: Call) -> present.Shape:
    """A cluster of its own, or (ReplicationGroupId) a replica for a group."""
    name = resource_id("CacheClusterId", call.params["CacheClusterId"], LONGEST_ID)
    if call.services.store.get(CacheCluster, call.region, name) is not None:
        raise Fault("CacheClusterAlreadyExists", f"Cache cluster {name} already exists.")
    choose.refuse_not_yet(call)
    if call.text("ReplicationGroupId") is not None:
        return _create_replica(call, name)
    engine_text = call.text("Engine")
    if engine_text is None:
        raise invalid_value("The parameter Engine must be provided: valkey, redis or memcached.")
    engine = engine_named(engine_text)
    count = _node_count(call, engine)
    choice = choose.choose_engine(call, engine, call.text("EngineVersion"))
    parameters = choose.choose_parameter_group(call, choice)
    node_type = choose.choose_node_type(call, call.text("CacheNodeType"))
    zones = _zones(call, count)
    cluster = CacheCluster(
        region=call.region,
        id=name,
        engine=choice.engine,
        version=choice.version,
        node_type=node_type.name,
        port=choose.choose_port(call, engine),
        parameter_group=parameters.name,
        subnet_group=choose.choose_subnet_group(call),
        upkeep=choose.choose_upkeep(call, name),
        created_at=call.services.clock.now(),
        nodes=(),
        tags=choose.choose_tags(call),
        substitute=choice.substitute,
        substitute_version=choice.substitute_version,
    )
    choose.check_fits(call, engine, node_type, count)
    return {"CacheCluster": _store(call, cluster, zones)}


def _store(call: Call, cluster: CacheCluster, zones: list[str]) -> present.Shape:
    discovery = cluster.engine is Engine.MEMCACHED
    with call.services.store.transaction() as work:
        addresses = pick_addresses(call, work, cluster.port, len(zones) + discovery)
        nodes = addresses[1:] if discovery else addresses
        cluster = replace(
            cluster,
            configuration_endpoint=addresses[0] if discovery else None,
            nodes=tuple(
                CacheNode(f"{n + 1:04d}", address, zone, cluster.created_at)
                for n, (address, zone) in enumerate(zip(nodes, zones, strict=True))
            ),
        )
        work.claim(cluster.id, addresses)
        work.insert(cluster)
        if cluster.substitute is not None:
            work.add_event(
                _event(
                    call,
                    cluster.id,
                    f"{cluster.substitute.label} {cluster.substitute_version} runs in place of "
                    f"{cluster.engine.label} {cluster.version}, as the setting redis_stand_in allows",
                )
            )
    return present.cache_cluster(call, cluster, nodes=True)


def _event(call: Call, name: str, message: str) -> Event:
    return Event(call.services.clock.now(), call.region, SourceType.CACHE_CLUSTER, name, message)


def _node_count(call: Call, engine: Engine) -> int:
    count = call.number("NumCacheNodes")
    count = 1 if count is None else count
    if engine.speaks_resp and count != 1:
        raise invalid_value(f"NumCacheNodes must be 1 for the engine {engine.value}, and {count} was asked for.")
    if count < 1:
        raise invalid_value("NumCacheNodes must be at least 1.")
    if count > MOST_MEMCACHED_NODES:
        raise Fault(
            "NodeQuotaForClusterExceeded",
            f"A cluster can have at most {MOST_MEMCACHED_NODES} nodes, and {count} were asked for.",
        )
    return count


def _zones(call: Call, count: int) -> list[str]:
    one = call.text("PreferredAvailabilityZone")
    several = call.texts("PreferredAvailabilityZones")
    if several and len(several) != count:
        raise invalid_combination(f"PreferredAvailabilityZones names {len(several)} zones for {count} nodes.")
    cross = call.text("AZMode") == "cross-az"
    if cross and count < 2:
        raise invalid_combination("AZMode cross-az needs more than one node.")
    asked = choose.check_zones(call, *(several or ((one,) * count if one and one != "Multiple" else ())))
    return spread(call.region, count, asked, several=cross or one == "Multiple")


def _create_replica(call: Call, name: str) -> present.Shape:
    group = find_group(call, call.params["ReplicationGroupId"])
    require_available(group)
    _refuse_own_shape(call, group)
    if len(group.member_ids) >= MOST_CLUSTERS:
        raise Fault(
            "NodeQuotaForClusterExceeded", f"A replication group can have at most {MOST_CLUSTERS} cache clusters."
        )
    engine = call.text("Engine")
    if engine is not None and engine_named(engine) is not group.engine:
        raise invalid_combination(f"The engine of replication group {group.id} is {group.engine.value}.")
    node_type = choose.choose_node_type(call, call.text("CacheNodeType") or group.node_type)
    if node_type.name != group.node_type:
        raise invalid_combination(f"The node type of replication group {group.id} is {group.node_type}.")
    tags = {**group.tags, **choose.choose_tags(call)}
    choose.check_tag_count(tags)
    zone = _zones(call, 1)[0]
    choose.check_fits(call, group.engine, node_type, 1)
    with call.services.store.transaction() as work:
        address = pick_addresses(call, work, group.port, 1)[0]
        now = call.services.clock.now()
        member = new_member(group, name, address, zone)
        member = replace(
            member,
            created_at=now,
            nodes=(replace(member.nodes[0], created_at=now),),
            tags=tags,
        )
        work.claim(group.id, [address])
        work.insert(member)
        work.replace(group, replace(group, member_ids=(*group.member_ids, name), status=Status.MODIFYING))
    return {"CacheCluster": present.cache_cluster(call, member, nodes=True)}


def _refuse_own_shape(call: Call, group: ReplicationGroup) -> None:
    """A replica is shaped by its group: what a request asks for beside that must be what the group has anyway."""
    upkeep = group.upkeep
    shared = {
        "NumCacheNodes": 1,
        "Port": group.port,
        "CacheParameterGroupName": group.parameter_group,
        "CacheSubnetGroupName": group.subnet_group,
        "PreferredMaintenanceWindow": upkeep.maintenance_window,
        "SnapshotWindow": upkeep.snapshot_window,
        "NotificationTopicArn": upkeep.notification_topic,
        "AutoMinorVersionUpgrade": upkeep.auto_minor_version_upgrade,
        "SecurityGroupIds": list(upkeep.security_group_ids),
        "CacheSecurityGroupNames": [],
    }
    different = [name for name, value in shared.items() if call.params.get(name, value) != value]
    if choose.asks_for_another_version(call, group.engine, group.version):
        different.append("EngineVersion")
    if different:
        raise invalid_combination(
            "Cannot specify additional cache cluster parameters when creating a replica cluster: "
            f"{', '.join(different)} must be left out, or be those of replication group {group.id}."
        )


def describe_cache_clusters(call: Call) -> present.Shape:
    nodes = bool(call.flag("ShowCacheNodeInfo"))
    wanted = call.text("CacheClusterId")
    if wanted is not None:
        return {"CacheClusters": [present.cache_cluster(call, find_cluster(call, wanted), nodes=nodes)]}
    clusters = call.services.store.all(CacheCluster, call.region)
    if call.flag("ShowCacheClustersNotInReplicationGroups"):
        clusters = [c for c in clusters if c.replication_group_id is None]
    shown, marker = page(call, clusters, lambda c: c.id)
    return {"Marker": marker, "CacheClusters": [present.cache_cluster(call, c, nodes=nodes) for c in shown]}


def find_cluster(call: Call, name: str) -> CacheCluster:
    """Raises CacheClusterNotFound."""
    cluster = call.services.store.get(CacheCluster, call.region, name.lower())
    if cluster is None:
        raise Fault("CacheClusterNotFound", f"CacheCluster not found: {name[:60]}")
    return cluster


def _require_available(cluster: CacheCluster) -> None:
    if cluster.status is not Status.AVAILABLE:
        raise Fault(
            "InvalidCacheClusterState",
            f"Cache cluster {cluster.id} is not in available state: it is {cluster.status.value}.",
        )


def delete_cache_cluster(call: Call) -> present.Shape:
    cluster = find_cluster(call, call.params["CacheClusterId"])
    choose.refuse_not_yet(call)
    if cluster.status is Status.DELETING:
        raise Fault(
            "InvalidCacheClusterState",
            f"Cache cluster {cluster.id} is not in a valid state to be deleted: it is deleting.",
        )
    new = replace(cluster, status=Status.DELETING, pending=Pending())
    with call.services.store.transaction() as work:
        if cluster.replication_group_id is not None:
            group = work.get(ReplicationGroup, call.region, cluster.replication_group_id)
            if group is not None:
                _check_leaving(group, cluster)
                work.replace(group, replace(group, status=Status.MODIFYING))
        # Nodes that wait for the window have no process yet, but addresses.
        work.release([n.address for n in cluster.pending.nodes_to_add])
        work.replace(cluster, new)
    return {"CacheCluster": present.cache_cluster(call, new, nodes=True)}


def _check_leaving(group: ReplicationGroup, cluster: CacheCluster) -> None:
    if group.status is not Status.AVAILABLE:
        raise Fault(
            "InvalidCacheClusterState",
            f"Cache cluster {cluster.id} is not in a valid state to be deleted: its replication group {group.id} is "
            f"{group.status.value}.",
        )
    if len(group.member_ids) == 1:
        raise Fault(
            "InvalidCacheClusterState",
            "Cannot delete the cache cluster since it is the only member of a replication group. Delete the "
            f"replication group {group.id} instead.",
        )
    if cluster.id == group.primary_id:
        raise Fault(
            "InvalidCacheClusterState",
            f"Cache cluster {cluster.id} is serving as primary for replication group {group.id} and cannot be "
            "deleted. Delete the replication group instead.",
        )
    if (group.automatic_failover or group.pending.automatic_failover) and len(group.member_ids) == 2:
        raise Fault(
            "InvalidCacheClusterState",
            f"Cannot delete the cache cluster because it is the only read replica for replication group {group.id} "
            "which has autofailover enabled or pending. You can disable autofailover and then delete this cache "
            "cluster. Alternatively, to delete the entire replication group, use DeleteReplicationGroup.",
        )


def reboot_cache_cluster(call: Call) -> present.Shape:
    """Nodes are restarted by control, one process after the other; a Valkey or Redis node keeps its data."""
    cluster = find_cluster(call, call.params["CacheClusterId"])
    _require_available(cluster)
    asked = call.texts("CacheNodeIdsToReboot")
    have = {n.node_id for n in cluster.nodes}
    unknown = [node_id for node_id in asked if node_id not in have]
    if unknown or not asked:
        named = ", ".join(unknown)[:80] or "(none given)"
        raise invalid_value(f"Cache cluster {cluster.id} has no cache nodes {named}.")
    nodes = tuple(
        replace(n, status=NodeStatus.REBOOTING, reboot_from=n.process) if n.node_id in asked else n
        for n in cluster.nodes
    )
    new = replace(cluster, status=Status.REBOOTING, nodes=nodes)
    with call.services.store.transaction() as work:
        work.replace(cluster, new)
    return {"CacheCluster": present.cache_cluster(call, new, nodes=True)}


def modify_cache_cluster(call: Call) -> present.Shape:
    cluster = find_cluster(call, call.params["CacheClusterId"])
    _require_available(cluster)
    choose.refuse_not_yet(call)
    _refuse_version_change(call, cluster)
    changes: dict[str, Any] = {"upkeep": modified_upkeep(call, cluster)}
    if call.text("CacheParameterGroupName") is not None:
        _refuse_for_member(cluster, "CacheParameterGroupName")
        group = choose.choose_parameter_group(call, choose.EngineChoice(cluster.engine, cluster.version))
        choose.check_switch(call, cluster.parameter_group, group)
        if group.name != cluster.parameter_group:
            changes |= {"parameter_group": group.name, "status": Status.MODIFYING}
    new = replace(cluster, **changes)
    with call.services.store.transaction() as work:
        claimed = cluster.pending.nodes_to_add
        pending = _pending(call, work, cluster)
        added = [n.address for n in pending.nodes_to_add if n not in claimed]
        work.release([n.address for n in claimed if n not in pending.nodes_to_add])
        work.claim(cluster.id, added)
        new = replace(new, pending=pending)
        # What waits for a member waits for its whole group, which ModifyReplicationGroup applies.
        if pending.anything and call.flag("ApplyImmediately") and cluster.replication_group_id is None:
            if cluster.engine.speaks_resp:
                new = with_node_type(new, pending.node_type or new.node_type)
            else:
                new = apply_pending(new)
        work.replace(cluster, new)
    return {"CacheCluster": present.cache_cluster(call, new, nodes=True)}


def _refuse_for_member(cluster: CacheCluster, parameter: str) -> None:
    if cluster.replication_group_id is not None:
        raise invalid_combination(
            f"{parameter} of cache cluster {cluster.id} is set by its replication group "
            f"{cluster.replication_group_id}: use ModifyReplicationGroup."
        )


def _refuse_version_change(call: Call, cluster: CacheCluster) -> None:
    engine = call.text("Engine")
    if engine is not None and engine_named(engine) is not cluster.engine:
        raise not_available_yet("Changing the engine of a cache cluster")
    if choose.asks_for_another_version(call, cluster.engine, cluster.version):
        raise not_available_yet("Changing the engine version of a cache cluster")


def _pending(call: Call, work: Transaction, cluster: CacheCluster) -> Pending:
    """What waits after this request. New nodes get their addresses here, unclaimed."""
    count = call.number("NumCacheNodes")
    if count is None and call.texts("CacheNodeIdsToRemove"):
        raise invalid_combination("CacheNodeIdsToRemove needs NumCacheNodes.")
    if count is not None:
        _node_count(call, cluster.engine)
    pending = _pending_node_type(call, cluster)
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
    choose.check_growth(call, cluster, node_type.name, 1)
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
    choose.check_fits(call, cluster.engine, node_type, more)
    first = max(int(node_id) for node_id in have) + 1
    now = call.services.clock.now()
    addresses = pick_addresses(call, work, cluster.port, more)
    nodes = tuple(
        CacheNode(f"{first + n:04d}", address, zone, now)
        for n, (address, zone) in enumerate(zip(addresses, zones, strict=True))
    )
    return {"nodes_to_add": nodes, "node_ids_to_remove": ()}
