"""Create, Describe, Delete and Reboot CacheCluster."""

from __future__ import annotations

from dataclasses import replace

from cachekeep.api import begin_with, capacity, choose, present, quota, transit
from cachekeep.api.context import Call, engine_named, pick_addresses
from cachekeep.api.guards import guard_new
from cachekeep.api.log_delivery import with_log_deliveries
from cachekeep.api.ops.members import (
    find_group,
    insert_members,
    leaving,
    pending_addresses,
    require_available,
)
from cachekeep.api.ops.snapshots import final_snapshot, require_snapshots
from cachekeep.api.paging import page
from cachekeep.api.shards import MOST_MEMBERS, ShardPlace
from cachekeep.api.surroundings import refuse_surroundings
from cachekeep.domain.cache_cluster import CacheCluster, CacheNode, NodeStatus, Status
from cachekeep.domain.engine import Engine
from cachekeep.domain.events import Event, SourceType
from cachekeep.domain.faults import Fault, invalid_combination, invalid_value
from cachekeep.domain.ids import resource_id
from cachekeep.domain.replication_group import ClusterMode, ReplicationGroup
from cachekeep.plan.placement import spread

LONGEST_ID = 50


def create_cache_cluster(call: Call) -> present.Shape:
    """A cluster of its own, or (ReplicationGroupId) a replica for a group."""
    name = resource_id("CacheClusterId", call.params["CacheClusterId"], LONGEST_ID)
    if call.services.store.get(CacheCluster, call.region, name) is not None:
        raise Fault("CacheClusterAlreadyExists", f"Cache cluster {name} already exists.")
    refuse_surroundings(call)
    if call.text("ReplicationGroupId") is not None:
        return _create_replica(call, name)
    begins = begin_with.asked(call, alone=True)
    call = begins.call
    engine_text = call.text("Engine")
    if engine_text is None:
        raise invalid_value("The parameter Engine must be provided: valkey, redis or memcached.")
    engine = engine_named(engine_text)
    count = node_count(call, engine)
    encrypted = transit.transit_at_creation(call, engine)
    choice = choose.choose_engine(call, engine, call.text("EngineVersion"), tls=encrypted.encrypted)
    parameters = choose.choose_parameter_group(call, choice)
    node_type = choose.choose_node_type(call, call.text("CacheNodeType"))
    _check_zone_mode(call, engine)
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
        upkeep=with_log_deliveries(call, choose.choose_upkeep(call, name), choice.engine, choice.version),
        created_at=call.services.clock.now(),
        nodes=(),
        tags=choose.choose_tags(call),
        substitute=choice.substitute,
        substitute_version=choice.substitute_version,
        transit=encrypted,
    )
    choose.refuse_snapshots_of(engine, node_type.name, cluster.upkeep.snapshot_retention)
    quota.check_more_nodes(call, count, 1)
    if call.text("AuthToken") is not None and not engine.speaks_resp:
        raise invalid_combination("AuthToken is for the engines valkey and redis.")
    cluster = guard_new(call, cluster)
    capacity.check_fits(call, engine, node_type, count)
    restore = begins.restore(choice, parameters, node_type, [ShardPlace("0001", (), tuple(zones))])
    return {"CacheCluster": _store(call, replace(cluster, restore=restore), zones, begins)}


def _store(call: Call, cluster: CacheCluster, zones: list[str], begins: begin_with.Beginning) -> present.Shape:
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
        begins.mark(work)
        if cluster.substitute is not None:
            work.add_event(
                cluster_event(
                    call,
                    cluster.id,
                    f"{cluster.substitute.label} {cluster.substitute_version} runs in place of "
                    f"{cluster.engine.label} {cluster.version}, as the setting redis_stand_in allows",
                )
            )
    return present.cache_cluster(call, cluster, nodes=True)


def cluster_event(call: Call, name: str, message: str) -> Event:
    return Event(call.services.clock.now(), call.region, SourceType.CACHE_CLUSTER, name, message)


def node_count(call: Call, engine: Engine) -> int:
    count = call.number("NumCacheNodes")
    count = 1 if count is None else count
    if engine.speaks_resp and count != 1:
        raise invalid_value(f"NumCacheNodes must be 1 for the engine {engine.value}, and {count} was asked for.")
    if count < 1:
        raise invalid_value("NumCacheNodes must be at least 1.")
    most = call.services.quotas.memcached_nodes_per_cluster
    if count > most:
        raise Fault(
            "NodeQuotaForClusterExceeded", f"A cluster can have at most {most} nodes, and {count} were asked for."
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


def _check_zone_mode(call: Call, engine: Engine) -> None:
    """Raises InvalidParameterCombination."""
    asked = [name for name in ("AZMode", "PreferredAvailabilityZones") if call.params.get(name)]
    if asked and engine.speaks_resp:
        raise invalid_combination(f"{asked[0]} is only supported for Memcached clusters.")
    zones = set(call.texts("PreferredAvailabilityZones"))
    if call.text("AZMode") == "single-az" and len(zones) > 1:
        raise invalid_combination("AZMode single-az and several PreferredAvailabilityZones exclude each other.")
    if call.text("PreferredAvailabilityZone") and zones:
        raise invalid_combination("Use either PreferredAvailabilityZone or PreferredAvailabilityZones, not both.")


def _create_replica(call: Call, name: str) -> present.Shape:
    group = find_group(call, call.params["ReplicationGroupId"])
    require_available(group)
    _refuse_own_shape(call, group)
    if group.cluster_mode is ClusterMode.ENABLED:
        raise invalid_combination(
            f"Replication group {group.id} has cluster mode enabled: use IncreaseReplicaCount to add replicas."
        )
    if len(group.member_ids) >= MOST_MEMBERS:
        raise Fault(
            "NodeQuotaForClusterExceeded", f"A replication group can have at most {MOST_MEMBERS} cache clusters."
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
    quota.check_more_nodes(call, 1, 1)
    capacity.check_members_fit(call, group, 1)
    with call.services.store.transaction() as work:
        (plain,) = insert_members(call, work, group, [(name, zone)])
        member = replace(plain, tags=tags)
        if member != plain:
            work.replace(plain, member)
        shard = group.node_groups[0]
        grown = group.with_shard(replace(shard, member_ids=(*shard.member_ids, name)))
        work.replace(group, replace(grown, status=Status.MODIFYING))
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
        "SnapshotRetentionLimit": upkeep.snapshot_retention,
        "SnapshotName": "",
        "SnapshotArns": [],
        "NotificationTopicArn": upkeep.notification_topic,
        "AutoMinorVersionUpgrade": upkeep.auto_minor_version_upgrade,
        "SecurityGroupIds": list(upkeep.security_group_ids),
        "CacheSecurityGroupNames": [],
        "LogDeliveryConfigurations": [],
        "AuthToken": None,
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
        clusters = [find_cluster(call, wanted)]
    else:
        clusters = [c for c in call.services.store.all(CacheCluster, call.region) if c.serverless is None]
        if call.flag("ShowCacheClustersNotInReplicationGroups"):
            clusters = [c for c in clusters if c.replication_group_id is None]
    shown, marker = page(call, clusters, lambda c: c.id)
    return {"Marker": marker, "CacheClusters": [present.cache_cluster(call, c, nodes=nodes) for c in shown]}


def find_cluster(call: Call, name: str) -> CacheCluster:
    """Raises CacheClusterNotFound."""
    cluster = call.services.store.get(CacheCluster, call.region, name.lower())
    if cluster is None or cluster.serverless is not None:
        raise Fault("CacheClusterNotFound", f"CacheCluster not found: {name[:60]}")
    return cluster


def require_available_cluster(call: Call, cluster: CacheCluster) -> None:
    """Raises InvalidCacheClusterState while anything is being done with the cluster, or with the group it is in."""
    if cluster.replication_group_id is not None:
        group = call.services.store.get(ReplicationGroup, call.region, cluster.replication_group_id)
        if group is not None and group.status is not Status.AVAILABLE:
            raise Fault(
                "InvalidCacheClusterState",
                f"Cache cluster {cluster.id} is not in available state: its replication group {group.id} is "
                f"{group.status.value}.",
            )
    if cluster.status is not Status.AVAILABLE:
        raise Fault(
            "InvalidCacheClusterState",
            f"Cache cluster {cluster.id} is not in available state: it is {cluster.status.value}.",
        )


def delete_cache_cluster(call: Call) -> present.Shape:
    cluster = find_cluster(call, call.params["CacheClusterId"])
    refuse_surroundings(call)
    if cluster.status is Status.DELETING:
        raise Fault(
            "InvalidCacheClusterState",
            f"Cache cluster {cluster.id} is not in a valid state to be deleted: it is deleting.",
        )
    if cluster.status is Status.SNAPSHOTTING:
        raise Fault(
            "InvalidCacheClusterState",
            f"Cache cluster {cluster.id} is not in a valid state to be deleted: it is {cluster.told_status.value}.",
        )
    if call.text("FinalSnapshotIdentifier") is not None:
        return _delete_after_snapshot(call, cluster)
    new = leaving(cluster)
    with call.services.store.transaction() as work:
        if cluster.replication_group_id is not None:
            group = work.get(ReplicationGroup, call.region, cluster.replication_group_id)
            if group is not None:
                _check_leaving(group, cluster)
                work.replace(group, replace(group, status=Status.MODIFYING))
        work.release(pending_addresses(cluster.pending))
        work.replace(cluster, new)
    return {"CacheCluster": present.cache_cluster(call, new, nodes=True)}


def _delete_after_snapshot(call: Call, cluster: CacheCluster) -> present.Shape:
    """The cluster serves until its final snapshot is available; to users it is being deleted already."""
    if cluster.replication_group_id is not None:
        raise invalid_combination(
            f"Cache cluster {cluster.id} is a member of replication group {cluster.replication_group_id}: a final "
            "snapshot is taken with DeleteReplicationGroup."
        )
    require_snapshots(cluster.engine.speaks_resp, cluster.node_type)
    require_available_cluster(call, cluster)
    final_snapshot(call, cluster)
    return {"CacheCluster": present.cache_cluster(call, find_cluster(call, cluster.id), nodes=True)}


def _check_leaving(group: ReplicationGroup, cluster: CacheCluster) -> None:
    if group.status is not Status.AVAILABLE:
        raise Fault(
            "InvalidCacheClusterState",
            f"Cache cluster {cluster.id} is not in a valid state to be deleted: its replication group {group.id} is "
            f"{group.status.value}.",
        )
    if group.cluster_mode is ClusterMode.ENABLED:
        raise Fault(
            "InvalidCacheClusterState",
            f"Replication group {group.id} has cluster mode enabled: use DecreaseReplicaCount to remove replicas, and "
            "ModifyReplicationGroupShardConfiguration to remove node groups.",
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
    require_available_cluster(call, cluster)
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
