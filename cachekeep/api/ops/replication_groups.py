"""Create, Describe, Modify and Delete ReplicationGroup (cluster mode disabled)."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from cachekeep.api import choose, present
from cachekeep.api.context import Call, engine_named, pick_addresses
from cachekeep.api.paging import page
from cachekeep.domain.cache_cluster import CacheCluster, CacheNode, Pending, Status, Upkeep
from cachekeep.domain.engine import Engine
from cachekeep.domain.events import Event, SourceType
from cachekeep.domain.faults import Fault, invalid_combination, invalid_value, not_available_yet
from cachekeep.domain.ids import member_id, resource_id
from cachekeep.domain.nodes import Address
from cachekeep.domain.ports import Transaction
from cachekeep.domain.replication_group import ReplicationGroup
from cachekeep.plan import windows
from cachekeep.plan.nodes import with_node_type
from cachekeep.plan.placement import spread

MOST_CLUSTERS = 6
LONGEST_ID = 40


def create_replication_group(call: Call) -> present.Shape:
    """Store the group and its members as `creating`; control brings them to life."""
    group_id = resource_id("ReplicationGroupId", call.params["ReplicationGroupId"], LONGEST_ID)
    services = call.services
    if services.store.get(ReplicationGroup, call.region, group_id) is not None:
        raise Fault("ReplicationGroupAlreadyExists", f"Replication group with id {group_id} already exists.")
    choose.refuse_not_yet(call, "PrimaryClusterId")
    engine = engine_named(call.text("Engine") or Engine.VALKEY.value)
    if not engine.speaks_resp:
        raise invalid_combination("Replication groups need the engine valkey or redis.")
    count = _member_count(call)
    automatic, multi_az = _failover(call, count)
    choice = choose.choose_engine(call, engine, call.text("EngineVersion"))
    parameters = choose.choose_parameter_group(call, choice)
    node_type = choose.choose_node_type(call, call.text("CacheNodeType"))
    asked_zones = choose.check_zones(call, *call.texts("PreferredCacheClusterAZs"))
    if asked_zones and len(asked_zones) != count:
        raise invalid_combination(
            f"PreferredCacheClusterAZs names {len(asked_zones)} zones for {count} cache clusters."
        )
    group = ReplicationGroup(
        region=call.region,
        id=group_id,
        description=call.params["ReplicationGroupDescription"],
        engine=choice.engine,
        version=choice.version,
        node_type=node_type.name,
        port=choose.choose_port(call, engine),
        parameter_group=parameters.name,
        subnet_group=choose.choose_subnet_group(call),
        upkeep=choose.choose_upkeep(call, group_id),
        created_at=services.clock.now(),
        member_ids=tuple(member_id(group_id, n + 1) for n in range(count)),
        primary_id=member_id(group_id, 1),
        automatic_failover=automatic,
        multi_az=multi_az,
        tags=choose.choose_tags(call),
        substitute=choice.substitute,
        substitute_version=choice.substitute_version,
    )
    choose.check_fits(call, engine, node_type, count)
    zones = spread(call.region, count, asked_zones, several=multi_az)
    return {"ReplicationGroup": _store(call, group, zones)}


def _store(call: Call, group: ReplicationGroup, zones: list[str]) -> present.Shape:
    with call.services.store.transaction() as work:
        for name in group.member_ids:
            if work.get(CacheCluster, call.region, name) is not None:
                raise Fault("InvalidParameterValue", f"Cache cluster {name} already exists; choose another group id.")
        count = len(group.member_ids)
        if call.services.pool.movable:
            addresses = pick_addresses(call, work, group.port, count + 2)
            group = replace(group, primary_endpoint=addresses[0], reader_endpoint=addresses[1])
            addresses, nodes = addresses, addresses[2:]
        else:
            addresses = nodes = pick_addresses(call, work, group.port, count)
        members = [
            new_member(group, name, address, zone)
            for name, address, zone in zip(group.member_ids, nodes, zones, strict=True)
        ]
        work.claim(str(group.id), addresses)
        work.insert(group)
        for member in members:
            work.insert(member)
        if group.substitute is not None:
            work.add_event(
                Event(
                    group.created_at,
                    group.region,
                    SourceType.REPLICATION_GROUP,
                    group.id,
                    f"{group.substitute.label} {group.substitute_version} runs in place of {group.engine.label} "
                    f"{group.version}, as the setting redis_stand_in allows",
                )
            )
    return present.replication_group(call, group, {m.id: m for m in members})


def new_member(group: ReplicationGroup, name: str, address: Address, zone: str) -> CacheCluster:
    """A member cluster, shaped by its group."""
    return CacheCluster(
        region=group.region,
        id=name,
        engine=group.engine,
        version=group.version,
        node_type=group.node_type,
        port=group.port,
        parameter_group=group.parameter_group,
        subnet_group=group.subnet_group,
        upkeep=group.upkeep,
        created_at=group.created_at,
        nodes=(CacheNode("0001", address, zone, group.created_at),),
        replication_group_id=group.id,
        tags=group.tags,
        substitute=group.substitute,
        substitute_version=group.substitute_version,
    )


def _member_count(call: Call) -> int:
    """NumCacheClusters, or one shard of ReplicasPerNodeGroup + 1."""
    groups = call.number("NumNodeGroups")
    if groups is not None and groups < 1:
        raise invalid_value("NumNodeGroups must be at least 1.")
    if groups is not None and groups > 1:
        raise not_available_yet(f"Cluster mode (NumNodeGroups {groups})")
    count = call.number("NumCacheClusters")
    replicas = call.number("ReplicasPerNodeGroup")
    if count is not None and replicas is not None:
        raise invalid_combination("Use either NumCacheClusters or ReplicasPerNodeGroup, not both.")
    if replicas is not None:
        if not 0 <= replicas < MOST_CLUSTERS:
            raise invalid_value(f"ReplicasPerNodeGroup must be between 0 and {MOST_CLUSTERS - 1}.")
        return replicas + 1
    if count is None:
        return 1
    if not 1 <= count <= MOST_CLUSTERS:
        raise invalid_value(f"NumCacheClusters must be between 1 and {MOST_CLUSTERS}.")
    return count


def _failover(call: Call, count: int) -> tuple[bool, bool]:
    automatic = bool(call.flag("AutomaticFailoverEnabled"))
    multi_az = bool(call.flag("MultiAZEnabled"))
    if automatic and count < 2:
        raise invalid_combination(
            "When using automatic failover, there must be at least 2 cache clusters in the replication group."
        )
    if multi_az and not automatic:
        raise invalid_combination("Multi-AZ needs AutomaticFailoverEnabled to be true.")
    return automatic, multi_az


def describe_replication_groups(call: Call) -> present.Shape:
    store = call.services.store
    wanted = call.text("ReplicationGroupId")
    if wanted is not None:
        groups, marker = [find_group(call, wanted)], None
        members = {
            name: m for name in groups[0].member_ids if (m := store.get(CacheCluster, call.region, name)) is not None
        }
    else:
        groups, marker = page(call, store.all(ReplicationGroup, call.region), lambda g: g.id)
        members = {c.id: c for c in store.all(CacheCluster, call.region)}
    return {"Marker": marker, "ReplicationGroups": [present.replication_group(call, g, members) for g in groups]}


def find_group(call: Call, name: str) -> ReplicationGroup:
    """Raises ReplicationGroupNotFoundFault."""
    group = call.services.store.get(ReplicationGroup, call.region, name.lower())
    if group is None:
        raise Fault("ReplicationGroupNotFoundFault", f"ReplicationGroup {name[:60]} not found.")
    return group


def members_of(work: Transaction, group: ReplicationGroup) -> list[CacheCluster]:
    found = (work.get(CacheCluster, group.region, name) for name in group.member_ids)
    return [m for m in found if m is not None]


def require_available(group: ReplicationGroup) -> None:
    if group.status is not Status.AVAILABLE:
        raise Fault(
            "InvalidReplicationGroupState",
            f"Replication group must be in available state to modify: {group.id} is {group.status.value}.",
        )


def modify_replication_group(call: Call) -> present.Shape:
    """What needs no engine changes at once; a node type waits for the window unless ApplyImmediately."""
    group = find_group(call, call.params["ReplicationGroupId"])
    require_available(group)
    choose.refuse_not_yet(call, "PrimaryClusterId", "NodeGroupId")
    _refuse_version_change(call, group)
    new = replace(group, **_plain_changes(call, group))
    now = bool(call.flag("ApplyImmediately"))
    pending = _pending(call, group)
    with call.services.store.transaction() as work:
        members = members_of(work, group)
        if now and pending.anything:
            # ApplyImmediately applies this request and everything that waited.
            automatic = new.automatic_failover if pending.automatic_failover is None else pending.automatic_failover
            node_type = pending.node_type or new.node_type
            new = replace(
                new,
                node_type=node_type,
                automatic_failover=automatic,
                pending=Pending(),
                status=Status.MODIFYING,
            )
            changed = [_like(with_node_type(m, node_type), new) for m in members]
        else:
            new = replace(new, pending=pending)
            if new.parameter_group != group.parameter_group:
                new = replace(new, status=Status.MODIFYING)
            waiting = Pending(node_type=pending.node_type)
            changed = [replace(_like(m, new), pending=waiting) for m in members]
        if new.status is Status.MODIFYING:
            changed = [replace(m, status=Status.MODIFYING) for m in changed]
        work.replace(group, new)
        for old, member in zip(members, changed, strict=True):
            work.replace(old, member)
    return {"ReplicationGroup": present.replication_group(call, new, {m.id: m for m in changed})}


def _like(member: CacheCluster, group: ReplicationGroup) -> CacheCluster:
    """The member with what it takes over from its group."""
    return replace(member, parameter_group=group.parameter_group, upkeep=group.upkeep)


def _refuse_version_change(call: Call, group: ReplicationGroup) -> None:
    engine = call.text("Engine")
    if engine is not None and engine_named(engine) is not group.engine:
        raise not_available_yet("Changing the engine of a replication group")
    if choose.asks_for_another_version(call, group.engine, group.version):
        raise not_available_yet("Changing the engine version of a replication group")


def _plain_changes(call: Call, group: ReplicationGroup) -> dict[str, Any]:
    """New values that need no engine, or are applied to it while it runs (the parameter group)."""
    changes: dict[str, Any] = {"upkeep": modified_upkeep(call, group)}
    description = call.text("ReplicationGroupDescription")
    if description is not None:
        changes["description"] = description
    name = call.text("CacheParameterGroupName")
    if name is not None:
        parameters = choose.choose_parameter_group(call, choose.EngineChoice(group.engine, group.version))
        choose.check_switch(call, group.parameter_group, parameters)
        changes["parameter_group"] = parameters.name
    automatic = call.flag("AutomaticFailoverEnabled")
    after = group.automatic_failover if automatic is None else automatic
    if after and len(group.member_ids) < 2:
        raise invalid_combination(
            "When using automatic failover, there must be at least 2 cache clusters in the replication group."
        )
    multi_az = call.flag("MultiAZEnabled")
    if multi_az and not after:
        raise invalid_combination("Multi-AZ needs AutomaticFailoverEnabled to be true.")
    if multi_az is not None:
        changes["multi_az"] = multi_az
    if not after:
        changes["multi_az"] = False
    return changes


def modified_upkeep(call: Call, resource: ReplicationGroup | CacheCluster) -> Upkeep:
    """The upkeep with what the request changes of it."""
    choose.refuse_cache_security_groups(call)
    changes: dict[str, Any] = {}
    maintenance = call.text("PreferredMaintenanceWindow")
    if maintenance is not None:
        changes["maintenance_window"] = windows.maintenance_window(maintenance)
    snapshot = call.text("SnapshotWindow")
    if snapshot is not None:
        changes["snapshot_window"] = windows.snapshot_window(snapshot)
    automatic = call.flag("AutoMinorVersionUpgrade")
    if automatic is not None:
        changes["auto_minor_version_upgrade"] = automatic
    topic = call.text("NotificationTopicArn")
    if topic is not None:
        changes |= {"notification_topic": topic or None, "notification_active": True}
    topic_status = call.text("NotificationTopicStatus")
    if topic_status is not None:
        if topic_status not in ("active", "inactive"):
            raise invalid_value("NotificationTopicStatus must be active or inactive.")
        changes["notification_active"] = topic_status == "active"
    if call.params.get("SecurityGroupIds") is not None:
        changes["security_group_ids"] = call.texts("SecurityGroupIds")
    return replace(resource.upkeep, **changes)


def _pending(call: Call, group: ReplicationGroup) -> Pending:
    """What waits after this request: what waited before, with what it adds or takes back."""
    pending = group.pending
    name = call.text("CacheNodeType")
    if name is not None:
        node_type = choose.choose_node_type(call, name)
        choose.check_growth(call, group, node_type.name, len(group.member_ids))
        pending = replace(pending, node_type=None if name == group.node_type else name)
    automatic = call.flag("AutomaticFailoverEnabled")
    if automatic is not None:
        pending = replace(pending, automatic_failover=None if automatic == group.automatic_failover else automatic)
    return pending


def delete_replication_group(call: Call) -> present.Shape:
    group = find_group(call, call.params["ReplicationGroupId"])
    choose.refuse_not_yet(call)
    if group.status is Status.DELETING:
        raise Fault(
            "InvalidReplicationGroupState",
            f"Replication group {group.id} has status deleting which is not valid for deletion.",
        )
    retain = bool(call.flag("RetainPrimaryCluster"))
    if retain and group.status is not Status.AVAILABLE:
        raise Fault(
            "InvalidReplicationGroupState",
            f"Replication group {group.id} is {group.status.value}; its primary can be retained only when available.",
        )
    new = replace(group, status=Status.DELETING, retain_primary=retain)
    with call.services.store.transaction() as work:
        work.replace(group, new)
        members = members_of(work, group)
        changed = [m if retain and m.id == group.primary_id else replace(m, status=Status.DELETING) for m in members]
        for old, member in zip(members, changed, strict=True):
            work.replace(old, member)
    return {"ReplicationGroup": present.replication_group(call, new, {m.id: m for m in changed})}
