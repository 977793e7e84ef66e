"""CreateReplicationGroup: with cluster mode disabled, compatible or enabled, or around a cluster that is there."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from cachekeep.api import begin_with, capacity, choose, quota, transit
from cachekeep.api.context import Call, engine_named, pick_addresses
from cachekeep.api.guards import guard_new
from cachekeep.api.log_delivery import with_log_deliveries
from cachekeep.api.ops.members import (
    free_names,
    group_event,
    insert_members,
    member_name,
    members_of,
    shown,
)
from cachekeep.api.present import Shape
from cachekeep.api.secondaries import join, like_its_primary
from cachekeep.api.shards import MOST_MEMBERS, ShardPlace, choose_mode, choose_shards
from cachekeep.api.surroundings import refuse_surroundings
from cachekeep.domain.cache_cluster import CacheCluster, Status, Upkeep
from cachekeep.domain.engine import Engine
from cachekeep.domain.faults import Fault, invalid_combination, invalid_value
from cachekeep.domain.ids import resource_id
from cachekeep.domain.ports import Transaction
from cachekeep.domain.replication_group import ClusterMode, NodeGroup, ReplicationGroup
from cachekeep.domain.transit import Transit
from cachekeep.plan.placement import spread

LONGEST_ID = 40


def create_replication_group(call: Call) -> Shape:
    """Store the group and its members as `creating`; control brings them to life."""
    group_id = resource_id("ReplicationGroupId", call.params["ReplicationGroupId"], LONGEST_ID)
    if call.services.store.get(ReplicationGroup, call.region, group_id) is not None:
        raise Fault("ReplicationGroupAlreadyExists", f"Replication group with id {group_id} already exists.")
    refuse_surroundings(call)
    begins = begin_with.asked(call, alone=False)
    call = begins.call
    call = like_its_primary(call)
    if call.text("PrimaryClusterId") is not None:
        if begins.snapshot is not None or begins.urls:
            raise invalid_combination("With PrimaryClusterId the data is that of the cluster, and of no snapshot.")
        return _around_a_cluster(call, group_id)
    engine = engine_named(call.text("Engine") or Engine.VALKEY.value)
    if not engine.speaks_resp:
        raise invalid_combination("Replication groups need the engine valkey or redis.")
    mode = choose_mode(call)
    shards = choose_shards(call, mode, multi_az=bool(call.flag("MultiAZEnabled")))
    automatic, multi_az = _failover(call, mode, min(len(shard.zones) for shard in shards))
    encrypted = transit.transit_at_creation(call, engine, switchable=True)
    if encrypted is Transit.PREFERRED:
        transit.check_switchable(call, mode)
    choice = choose.choose_engine(call, engine, call.text("EngineVersion"), tls=encrypted.encrypted)
    if encrypted is Transit.PREFERRED:
        transit.check_switchable(call, mode, choice.version)
    parameters = choose.choose_parameter_group(call, choice, mode)
    node_type = choose.choose_node_type(call, call.text("CacheNodeType"))
    port = choose.choose_port(call, engine)
    choose.check_cluster_mode(call, choice, mode, port)
    group = ReplicationGroup(
        region=call.region,
        id=group_id,
        description=call.params["ReplicationGroupDescription"],
        engine=choice.engine,
        version=choice.version,
        node_type=node_type.name,
        port=port,
        parameter_group=parameters.name,
        subnet_group=choose.choose_subnet_group(call),
        upkeep=with_log_deliveries(call, choose.choose_upkeep(call, group_id), choice.engine, choice.version),
        created_at=call.services.clock.now(),
        node_groups=(),
        automatic_failover=automatic,
        multi_az=multi_az,
        tags=choose.choose_tags(call),
        substitute=choice.substitute,
        substitute_version=choice.substitute_version,
        cluster_mode=mode,
        at_rest=choose.choose_at_rest(call, engine),
        transit=encrypted,
        transit_moves=encrypted is Transit.PREFERRED,
    )
    group = guard_new(call, group)
    choose.refuse_snapshots_of(engine, node_type.name, group.upkeep.snapshot_retention)
    nodes = sum(len(shard.zones) for shard in shards)
    quota.check_more_nodes(call, nodes, nodes)
    capacity.check_fits(call, engine, node_type, nodes)
    group = replace(group, restore=begins.restore(choice, parameters, node_type, shards))
    return _store(call, group, shards, begins)


def _failover(call: Call, mode: ClusterMode, fewest: int) -> tuple[bool, bool]:
    """Automatic failover and Multi-AZ. fewest: members of the smallest shard."""
    asked = call.flag("AutomaticFailoverEnabled")
    multi_az = bool(call.flag("MultiAZEnabled"))
    if mode is not ClusterMode.DISABLED and asked is False:
        raise invalid_combination(f"Automatic failover cannot be off with cluster mode {mode.value}.")
    automatic = bool(asked) or mode is not ClusterMode.DISABLED
    if automatic and fewest < 2 and mode is not ClusterMode.ENABLED:
        raise invalid_combination(
            "When using automatic failover, there must be at least 2 cache clusters in the replication group."
        )
    if multi_az and not automatic:
        raise invalid_combination("Multi-AZ needs AutomaticFailoverEnabled to be true.")
    if multi_az and fewest < 2:
        raise invalid_combination("Multi-AZ needs at least one replica in each node group.")
    return automatic, multi_az


def _store(call: Call, group: ReplicationGroup, shards: Sequence[ShardPlace], begins: begin_with.Beginning) -> Shape:
    members = [[member_name(group, s.id, n + 1) for n in range(len(s.zones))] for s in shards]
    with call.services.store.transaction() as work:
        for name in (name for names in members for name in names):
            if work.get(CacheCluster, call.region, name) is not None:
                raise Fault("InvalidParameterValue", f"Cache cluster {name} already exists; choose another group id.")
        group = with_endpoints(call, work, join(call, work, group))
        group = replace(
            group,
            node_groups=tuple(
                NodeGroup(shard.id, tuple(names), names[0], shard.slots)
                for shard, names in zip(shards, members, strict=True)
            ),
        )
        zones = [zone for shard in shards for zone in shard.zones]
        insert_members(call, work, group, list(zip(group.member_ids, zones, strict=True)))
        work.insert(group)
        begins.mark(work)
        if group.substitute is not None:
            text = (
                f"{group.substitute.label} {group.substitute_version} runs in place of {group.engine.label} "
                f"{group.version}, as the setting redis_stand_in allows"
            )
            work.add_event(group_event(call, group, text))
        return shown(call, group, members_of(work, group))


def with_endpoints(call: Call, work: Transaction, group: ReplicationGroup) -> ReplicationGroup:
    """The group with the addresses of its own that its cluster mode asks for, if addresses can move here."""
    if not call.services.pool.movable:
        return group
    names = {
        ClusterMode.DISABLED: ("primary_endpoint", "reader_endpoint"),
        ClusterMode.COMPATIBLE: ("primary_endpoint", "reader_endpoint", "configuration_endpoint"),
        ClusterMode.ENABLED: ("configuration_endpoint",),
    }[group.cluster_mode]
    missing = [name for name in names if getattr(group, name) is None]
    addresses = pick_addresses(call, work, group.port, len(missing))
    work.claim(group.id, addresses)
    found = dict(zip(missing, addresses, strict=True))
    return replace(
        group,
        primary_endpoint=found.get("primary_endpoint", group.primary_endpoint),
        reader_endpoint=found.get("reader_endpoint", group.reader_endpoint),
        configuration_endpoint=found.get("configuration_endpoint", group.configuration_endpoint),
    )


def _around_a_cluster(call: Call, group_id: str) -> Shape:
    """PrimaryClusterId: that cluster, with its data, becomes the primary of the new group."""
    cluster = _future_primary(call, call.params["PrimaryClusterId"])
    _check_like(call, cluster)
    count = call.number("NumCacheClusters")
    count = (call.number("ReplicasPerNodeGroup") or 0) + 1 if count is None else count
    if not 1 <= count <= MOST_MEMBERS:
        raise invalid_value(f"NumCacheClusters must be between 1 and {MOST_MEMBERS}.")
    automatic, multi_az = _failover(call, ClusterMode.DISABLED, count)
    zones = choose.check_zones(call, *call.texts("PreferredCacheClusterAZs"))
    if zones and len(zones) != count:
        raise invalid_combination(f"PreferredCacheClusterAZs names {len(zones)} zones for {count} cache clusters.")
    group = ReplicationGroup(
        region=call.region,
        id=group_id,
        description=call.params["ReplicationGroupDescription"],
        engine=cluster.engine,
        version=cluster.version,
        node_type=cluster.node_type,
        port=cluster.port,
        parameter_group=cluster.parameter_group,
        subnet_group=cluster.subnet_group,
        upkeep=_upkeep(call, cluster, group_id),
        created_at=call.services.clock.now(),
        node_groups=(NodeGroup("0001", (cluster.id,), cluster.id),),
        # Not `creating`: a creation that comes to nothing ends every engine of its group, and this one has data.
        status=Status.MODIFYING,
        automatic_failover=automatic,
        multi_az=multi_az,
        tags={**cluster.tags, **choose.choose_tags(call)},
        substitute=cluster.substitute,
        substitute_version=cluster.substitute_version,
        transit=cluster.transit,
        auth_tokens=cluster.auth_tokens,
        auth_token_at=cluster.auth_token_at,
        user_group_ids=cluster.user_group_ids,
    )
    if call.text("AuthToken") is not None or call.texts("UserGroupIds"):
        raise invalid_combination("With PrimaryClusterId the group is guarded as its primary is: modify it afterwards.")
    choose.check_tag_count(dict(group.tags))
    quota.check_more_nodes(call, count - 1, count - 1)
    capacity.check_members_fit(call, group, count - 1)
    primary = replace(cluster, replication_group_id=group_id, upkeep=group.upkeep, user_group_ids=())
    asked = zones or (cluster.nodes[0].zone,)
    return _adopt(call, group, cluster, primary, spread(call.region, count, asked, several=multi_az)[1:])


def _adopt(
    call: Call, group: ReplicationGroup, old: CacheCluster, primary: CacheCluster, zones: Sequence[str]
) -> Shape:
    with call.services.store.transaction() as work:
        group = with_endpoints(call, work, group)
        shard = group.node_groups[0]
        names = free_names(work, group, shard, len(zones))
        group = group.with_shard(replace(shard, member_ids=(*shard.member_ids, *names)))
        work.replace(old, primary)
        insert_members(call, work, group, list(zip(names, zones, strict=True)))
        work.insert(group)
        text = f"Replication group {group.id} created around the cache cluster {primary.id}"
        work.add_event(group_event(call, group, text))
        return shown(call, group, members_of(work, group))


def _future_primary(call: Call, name: str) -> CacheCluster:
    """Raises CacheClusterNotFound, InvalidCacheClusterState or InvalidParameterCombination."""
    cluster = call.services.store.get(CacheCluster, call.region, name.lower())
    if cluster is None:
        raise Fault("CacheClusterNotFound", f"CacheCluster not found: {name[:60]}")
    if not cluster.engine.speaks_resp:
        raise invalid_combination(f"{cluster.id} is a Memcached cluster, and replication needs valkey or redis.")
    if cluster.replication_group_id is not None:
        raise Fault(
            "InvalidCacheClusterState",
            f"Cache cluster {cluster.id} is a member of replication group {cluster.replication_group_id} already.",
        )
    if cluster.status is not Status.AVAILABLE or cluster.pending.anything:
        why = "has modifications that wait" if cluster.pending.anything else f"is {cluster.status.value}"
        raise Fault("InvalidCacheClusterState", f"Cache cluster {cluster.id} must be available, and it {why}.")
    return cluster


def _check_like(call: Call, cluster: CacheCluster) -> None:
    """The group is shaped by its primary: what is asked for beside that must be what the cluster has."""
    shared: dict[str, object] = {
        "Engine": cluster.engine.value,
        "CacheNodeType": cluster.node_type,
        "CacheParameterGroupName": cluster.parameter_group,
        "CacheSubnetGroupName": cluster.subnet_group,
        "Port": cluster.port,
        "NumNodeGroups": 1,
        "NodeGroupConfiguration": [],
        "ClusterMode": "disabled",
    }
    different = [name for name, value in shared.items() if call.params.get(name, value) != value]
    if transit.asked_transit(call, cluster.transit) is not cluster.transit:
        different.append("TransitEncryptionEnabled")
    if choose.asks_for_another_version(call, cluster.engine, cluster.version):
        different.append("EngineVersion")
    if different:
        raise invalid_combination(
            f"With PrimaryClusterId the group is like {cluster.id}: {', '.join(different)} must be left out, or be "
            "those of that cluster."
        )


def _upkeep(call: Call, cluster: CacheCluster, group_id: str) -> Upkeep:
    """The cluster's, with what the request gives."""
    given = choose.choose_upkeep(call, group_id)
    upkeep = Upkeep(
        maintenance_window=given.maintenance_window
        if call.text("PreferredMaintenanceWindow")
        else cluster.upkeep.maintenance_window,
        snapshot_window=given.snapshot_window if call.text("SnapshotWindow") else cluster.upkeep.snapshot_window,
        auto_minor_version_upgrade=given.auto_minor_version_upgrade
        if call.flag("AutoMinorVersionUpgrade") is not None
        else cluster.upkeep.auto_minor_version_upgrade,
        notification_topic=given.notification_topic or cluster.upkeep.notification_topic,
        security_group_ids=given.security_group_ids or cluster.upkeep.security_group_ids,
        snapshot_retention=given.snapshot_retention
        if call.number("SnapshotRetentionLimit") is not None
        else cluster.upkeep.snapshot_retention,
        log_deliveries=cluster.upkeep.log_deliveries,
    )
    return with_log_deliveries(call, upkeep, cluster.engine, cluster.version)
