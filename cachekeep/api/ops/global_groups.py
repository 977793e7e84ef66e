"""Global datastores: a replication group that takes writes, followed by groups of other regions.

All regions are of one installation, so its members see each other. With cluster mode disabled engines follow; in
cluster mode an engine follows only nodes of its own cluster, and the service copies (mirror.regional).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

from cachekeep.api import choose
from cachekeep.api.context import Call, engine_named
from cachekeep.api.entry import Entry, Truth
from cachekeep.api.ops.members import find_group, group_event
from cachekeep.api.ops.modify_group import modified
from cachekeep.api.paging import page
from cachekeep.api.present import Shape
from cachekeep.api.present_global import global_group
from cachekeep.api.rehearsal import RehearsalStore
from cachekeep.api.secondaries import copied_parameters, find_global, group_of, not_now, quiet, share_parameters
from cachekeep.data.global_datastores import can_be_global, prefix_of
from cachekeep.domain.cache_cluster import Status
from cachekeep.domain.engine import EngineVersion
from cachekeep.domain.faults import Fault, invalid_value
from cachekeep.domain.global_group import EVERYWHERE, GlobalGroup, GlobalMember
from cachekeep.domain.ids import resource_id
from cachekeep.domain.replication_group import ClusterMode, ReplicationGroup
from cachekeep.plan.upgrades import Runs, follows

LONGEST_SUFFIX = 34
_SCENARIOS = "tests/scenarios/test_global_datastore.py::"


def create_global_replication_group(call: Call) -> Shape:
    suffix = resource_id(
        "GlobalReplicationGroupIdSuffix", call.params["GlobalReplicationGroupIdSuffix"], LONGEST_SUFFIX
    )
    name = f"{prefix_of(call.region)}-{suffix}"
    if call.services.store.get(GlobalGroup, EVERYWHERE, name) is not None:
        raise Fault("GlobalReplicationGroupAlreadyExistsFault", f"Global replication group {name} already exists.")
    group = _future_primary(call, call.params["PrimaryReplicationGroupId"])
    found = GlobalGroup(
        id=name,
        description=call.text("GlobalReplicationGroupDescription") or "",
        primary=GlobalMember(group.region, group.id),
        created_at=call.services.clock.now(),
        tags=choose.choose_tags(call),
    )
    with call.services.store.transaction() as work:
        work.insert(found)
        work.replace(group, replace(group, global_id=name))
        work.add_event(group_event(call, group, f"Replication group {group.id} is the primary of {name} now"))
        return _shown(call, found)


def _future_primary(call: Call, name: str) -> ReplicationGroup:
    group = find_group(call, name)
    if group.status is not Status.AVAILABLE:
        raise Fault(
            "InvalidReplicationGroupState", f"Replication group {group.id} is {group.status.value}, not available."
        )
    if group.global_id:
        raise invalid_value(f"Replication group {group.id} is a member of {group.global_id} already.")
    if group.cluster_mode is ClusterMode.COMPATIBLE:
        raise invalid_value(f"Replication group {group.id} changes its cluster mode: end that first.")
    if group.pending.node_type or group.pending.version is not None or group.pending.transit is not None:
        raise Fault(
            "InvalidReplicationGroupState",
            f"Replication group {group.id} has modifications that wait for its maintenance window, and no member of a "
            "global datastore changes alone: apply them first, or take them back.",
        )
    if not can_be_global(group.node_type):
        raise invalid_value(
            f"The node type {group.node_type} cannot be used in a global datastore, only m5, r5, c7 and later ones."
        )
    return group


def describe_global_replication_groups(call: Call) -> Shape:
    """ShowMemberInfo: with the members."""
    wanted = call.text("GlobalReplicationGroupId")
    there = call.services.store.all(GlobalGroup) if wanted is None else [find_global(call, wanted)]
    groups, marker = page(call, there, lambda g: g.id)
    with_members = bool(call.flag("ShowMemberInfo"))
    return {
        "Marker": marker,
        "GlobalReplicationGroups": [global_group(call, g, with_members=with_members) for g in groups],
    }


def delete_global_replication_group(call: Call) -> Shape:
    """The primary stays, as a group that stands alone."""
    found = find_global(call, call.params["GlobalReplicationGroupId"])
    if found.secondaries:
        raise not_now(
            found, "has secondaries: " + ", ".join(map(str, found.secondaries)) + "; disassociate or delete them first"
        )
    if not call.flag("RetainPrimaryReplicationGroup"):
        # Source: API reference, DeleteGlobalReplicationGroup: "The primary cluster is never deleted".
        raise invalid_value("RetainPrimaryReplicationGroup must be true: the primary is never deleted with it.")
    with call.services.store.transaction() as work:
        group = group_of(work, found.primary)
        if group is not None:
            work.replace(group, replace(group, global_id=""))
            work.add_event(
                group_event(call, group, f"Replication group {group.id} stands alone: {found.id} is deleted")
            )
        work.delete(found)
        return _shown(call, replace(found, deleting=True))


def disassociate_global_replication_group(call: Call) -> Shape:
    """The secondary takes writes from now on, with the data that it has."""
    found = quiet(call)
    member = _member(call, "ReplicationGroupRegion", "ReplicationGroupId")
    if member == found.primary:
        raise invalid_value(f"{member} is the primary of {found.id}: only secondaries can be disassociated.")
    if member not in found.secondaries:
        raise invalid_value(f"{member} is not a member of {found.id}.")
    group = group_of(call.services.store, member)
    if group is not None and group.clustered and group.status is not Status.CREATING:
        new = replace(found, leaving=member, leaving_since=call.services.clock.now())  # mirror.regional ends it
        with call.services.store.transaction() as work:
            work.replace(found, new)
            return _shown(call, new)
    new = replace(found, secondaries=tuple(m for m in found.secondaries if m != member))
    with call.services.store.transaction() as work:
        group = group_of(work, member)
        work.replace(found, new)
        if group is not None:
            status = Status.MODIFYING if group.status is Status.AVAILABLE else group.status
            work.replace(group, replace(group, global_id="", status=status))
            work.add_event(
                group_event(call, group, f"Replication group {group.id} left the global datastore {found.id}")
            )
        return _shown(call, new)


def failover_global_replication_group(call: Call) -> Shape:
    """Wanted from now on. As soon as the secondary is in sync, control hands over and writes down that it did; with
    cluster mode enabled the copy does (mirror.regional)."""
    found = quiet(call)
    member = _member(call, "PrimaryRegion", "PrimaryReplicationGroupId")
    if member == found.primary:
        raise invalid_value(f"{member} is the primary of {found.id} already.")
    if member not in found.secondaries:
        raise invalid_value(f"{member} is not a secondary of {found.id}.")
    group = group_of(call.services.store, member)
    if group is None or group.status is not Status.AVAILABLE:
        state = "gone" if group is None else group.status.value
        raise not_now(found, f"cannot fail over to {member}, which is {state}: it must be available")
    if any(g.resharding is not None for m in found.members if (g := group_of(call.services.store, m)) is not None):
        raise not_now(found, "moves slots: wait until that is done")
    now = call.services.clock.now()
    new = replace(found, failing_over_to=member, failing_since=now)
    with call.services.store.transaction() as work:
        share_parameters(call, work, found)
        work.replace(found, new)
        work.add_event(group_event(call, group, f"Failover of global datastore {found.id} to {member} called"))
        return _shown(call, new)


def modify_global_replication_group(call: Call) -> Shape:
    """Node type, version, parameters and automatic failover for every member; at once, as AWS demands."""
    found = quiet(call)
    changes = _changes(call)
    if changes and not call.flag("ApplyImmediately"):
        raise invalid_value("ApplyImmediately must be true: a global replication group has no maintenance window.")
    groups = [g for m in (*found.secondaries, found.primary) if (g := group_of(call.services.store, m)) is not None]
    if changes:
        _check_changes(call, found, groups, changes)
    new = replace(found, description=_description(call, found))
    with _declared(), call.services.store.transaction() as work:
        work.replace(found, new)
        # All of it or nothing: what one member refuses, none of them begins.
        together = replace(call, services=replace(call.services, store=RehearsalStore(call.services.store, work)))
        # Secondaries first: a replica may run a newer engine than its primary, never an older one.
        for group in groups if changes else ():
            _modify_member(together, found, group, changes)
    return _shown(call, new)


@contextmanager
def _declared() -> Iterator[None]:
    """What a member refuses, in words that AWS's model has for the datastore."""
    try:
        yield
    except Fault as fault:
        if fault.code == "InvalidReplicationGroupState":
            raise Fault("InvalidGlobalReplicationGroupState", fault.message) from fault
        if fault.code in ("InvalidGlobalReplicationGroupState", "InvalidParameterValue"):
            raise
        raise invalid_value(fault.message) from fault


def _member(call: Call, region: str, name: str) -> GlobalMember:
    """As asked for; nobody's region or name is as long as what is left out."""
    return GlobalMember(call.params[region][:60], call.params[name].lower()[:60])


def _description(call: Call, found: GlobalGroup) -> str:
    text = call.text("GlobalReplicationGroupDescription")
    return found.description if text is None else text


def _changes(call: Call) -> dict[str, Any]:
    names = ("CacheNodeType", "Engine", "EngineVersion", "CacheParameterGroupName", "AutomaticFailoverEnabled")
    return {name: value for name in names if (value := call.params.get(name)) is not None}


def _check_changes(call: Call, found: GlobalGroup, groups: list[ReplicationGroup], changes: Mapping[str, Any]) -> None:
    """Raises before anything is begun: a change that half of the members made would tear them apart."""
    for group in groups:
        if group.status is not Status.AVAILABLE:
            raise not_now(found, f"has the member {group.id} in {group.region}, which is {group.status.value}")
    node_type = changes.get("CacheNodeType")
    if node_type is not None and not can_be_global(choose.choose_node_type(call, node_type).name):
        raise invalid_value(f"The node type {node_type} cannot be used in a global datastore.")
    for group in groups:
        if changes.get("AutomaticFailoverEnabled") and len(group.member_ids) < 2:
            raise invalid_value(f"{group.id} in {group.region} has no replica, which automatic failover needs.")
    if "EngineVersion" in changes or "Engine" in changes:
        _check_version(call, groups, changes)


def _check_version(call: Call, groups: list[ReplicationGroup], changes: Mapping[str, Any]) -> None:
    """Members change one by one, and for that time each must be able to follow the other."""
    try:
        text = str(changes.get("EngineVersion") or groups[-1].version)
        wanted = EngineVersion.parse(text.removesuffix(".x"))
    except ValueError:
        raise invalid_value(f"Invalid engine version {str(changes['EngineVersion'])[:40]!r}.") from None
    engine = groups[-1].engine if "Engine" not in changes else engine_named(str(changes["Engine"]))
    now, then = Runs(groups[-1].engine, groups[-1].version), Runs(engine, wanted)
    if len(groups) > 1 and not (follows(now, then) and follows(then, now)):
        raise invalid_value(
            f"Members of a global datastore change one after the other, and {now} and {then} cannot follow each other."
        )


def _modify_member(call: Call, found: GlobalGroup, group: ReplicationGroup, changes: Mapping[str, Any]) -> None:
    """As its own region would, with the parameters of the primary's region copied there."""
    changes = dict(changes)
    name = changes.get("CacheParameterGroupName")
    if name is not None and group.region != found.primary.region:
        primary = group_of(call.services.store, found.primary)
        if primary is not None:
            wanted = replace(primary, parameter_group=call.parameter_group(name).name)
            with call.services.store.transaction() as work:
                changes["CacheParameterGroupName"] = copied_parameters(call, work, found, wanted, group.region)
    params = {"ReplicationGroupId": group.id, "ApplyImmediately": True, **changes}
    modified(replace(call, region=group.region, params=params), group)


def _shown(call: Call, found: GlobalGroup) -> Shape:
    return {"GlobalReplicationGroup": global_group(call, found)}


_FOLLOWS = _SCENARIOS + "test_a_secondary_really_follows"
OPERATIONS: Mapping[str, Entry] = {
    "CreateGlobalReplicationGroup": Entry(
        create_global_replication_group,
        Truth.REAL,
        _FOLLOWS,
        "A secondary is made by CreateReplicationGroup in another region: in cluster mode a copy, key by key, in which "
        "clients may not write; otherwise a replica.",
    ),
    "DeleteGlobalReplicationGroup": Entry(
        delete_global_replication_group, Truth.REAL, _SCENARIOS + "test_disassociated_and_deleted"
    ),
    "DescribeGlobalReplicationGroups": Entry(describe_global_replication_groups, Truth.REAL, _FOLLOWS),
    "DisassociateGlobalReplicationGroup": Entry(
        disassociate_global_replication_group, Truth.REAL, _SCENARIOS + "test_disassociated_and_deleted"
    ),
    "FailoverGlobalReplicationGroup": Entry(
        failover_global_replication_group,
        Truth.REAL,
        _SCENARIOS + "test_a_planned_failover_loses_no_acknowledged_write",
        "Nothing is lost; without a primary that answers, after 15 seconds (in cluster mode 30) with what has arrived.",
    ),
    "ModifyGlobalReplicationGroup": Entry(
        modify_global_replication_group,
        Truth.REAL,
        _SCENARIOS + "test_changes_reach_every_member",
        "Description, node type, parameter group (copied to the other regions), automatic failover, and a version that "
        "can follow the present one and be followed by it.",
    ),
}
