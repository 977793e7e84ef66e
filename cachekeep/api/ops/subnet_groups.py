"""Subnet groups: kept, shown, and guarded while in use. On one machine they decide nothing (recorded)."""

from __future__ import annotations

import re
from dataclasses import replace

from cachekeep.api import choose, present
from cachekeep.api.context import Call
from cachekeep.api.paging import page
from cachekeep.domain.cache_cluster import CacheCluster
from cachekeep.domain.events import Event, SourceType
from cachekeep.domain.faults import Fault, invalid_value
from cachekeep.domain.ids import resource_id
from cachekeep.domain.subnet_group import SubnetGroup

LONGEST_NAME = 255
_SUBNET = re.compile(r"subnet-[A-Za-z0-9-]{1,50}\Z")
# Every account has one from the start, in its default network.
DEFAULT_SUBNETS = ("subnet-cachekeep-a", "subnet-cachekeep-b", "subnet-cachekeep-c")


def default_subnet_group(call: Call) -> SubnetGroup:
    """Every region has it from the start."""
    return SubnetGroup(call.region, "default", "Default CacheSubnetGroup", DEFAULT_SUBNETS)


def _find(call: Call, name: str) -> SubnetGroup:
    group = call.services.store.get(SubnetGroup, call.region, name.lower())
    if group is not None:
        return group
    if name.lower() == "default":
        return default_subnet_group(call)
    raise Fault("CacheSubnetGroupNotFoundFault", f"Cache Subnet Group {name[:60]} does not exist.")


def _subnets(call: Call) -> tuple[str, ...]:
    subnets = call.texts("SubnetIds")
    most = call.services.quotas.subnets_per_subnet_group
    if len(subnets) > most:
        raise Fault("CacheSubnetQuotaExceededFault", f"A subnet group can have at most {most} subnets.")
    for subnet in subnets:
        if not _SUBNET.match(subnet):
            raise Fault("InvalidSubnet", f"Some input subnets are invalid: {subnet[:60]!r}.")
    return tuple(dict.fromkeys(subnets))


def _event(call: Call, name: str, message: str) -> Event:
    return Event(call.services.clock.now(), call.region, SourceType.CACHE_SUBNET_GROUP, name, message)


def create_cache_subnet_group(call: Call) -> present.Shape:
    name = resource_id("CacheSubnetGroupName", call.params["CacheSubnetGroupName"], LONGEST_NAME)
    if name == "default" or call.services.store.get(SubnetGroup, call.region, name) is not None:
        raise Fault("CacheSubnetGroupAlreadyExists", f"Cache subnet group {name} already exists.")
    subnets = _subnets(call)
    if not subnets:
        raise invalid_value("SubnetIds must name at least one subnet.")
    most = call.services.quotas.subnet_groups
    if len(call.services.store.all(SubnetGroup, call.region)) >= most:
        raise Fault("CacheSubnetGroupQuotaExceeded", f"A region can have at most {most} subnet groups.")
    group = SubnetGroup(
        call.region, name, call.params["CacheSubnetGroupDescription"], subnets, choose.choose_tags(call)
    )
    with call.services.store.transaction() as work:
        work.insert(group)
        work.add_event(_event(call, name, f"Created subnet group {name}"))
    return {"CacheSubnetGroup": present.subnet_group(call, group)}


def describe_cache_subnet_groups(call: Call) -> present.Shape:
    name = call.text("CacheSubnetGroupName")
    if name is not None:
        groups = [_find(call, name)]
    else:
        own = call.services.store.all(SubnetGroup, call.region)
        groups = sorted([default_subnet_group(call), *own], key=lambda g: g.name)
    shown, marker = page(call, groups, lambda g: g.name)
    return {"Marker": marker, "CacheSubnetGroups": [present.subnet_group(call, g) for g in shown]}


def modify_cache_subnet_group(call: Call) -> present.Shape:
    group = _find(call, call.params["CacheSubnetGroupName"])
    if group.name == "default":
        raise Fault("SubnetNotAllowedFault", "The default subnet group cannot be modified.")
    description = call.text("CacheSubnetGroupDescription")
    subnets = _subnets(call) or group.subnet_ids
    new = replace(group, description=group.description if description is None else description, subnet_ids=subnets)
    with call.services.store.transaction() as work:
        work.replace(group, new)
    return {"CacheSubnetGroup": present.subnet_group(call, new)}


def delete_cache_subnet_group(call: Call) -> present.Shape:
    group = _find(call, call.params["CacheSubnetGroupName"])
    users = [c.id for c in call.services.store.all(CacheCluster, call.region) if c.subnet_group == group.name]
    if users or group.name == "default":
        why = f"is in use by {', '.join(users[:5])}" if users else "is the default"
        raise Fault("CacheSubnetGroupInUse", f"Cache subnet group {group.name} {why} and cannot be deleted.")
    with call.services.store.transaction() as work:
        work.delete(group)
        work.add_event(_event(call, group.name, f"Deleted subnet group {group.name}"))
    return {}
