"""Cache security groups: kept and shown (recorded). They name groups of EC2, and there is no EC2 here.

AWS has them for accounts from before virtual networks only, and for all others refuses to put a cache into one, as is
done here (choose.refuse_cache_security_groups). Who may connect is settled by `allowed_sources`: docs/network.md.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace

from cachekeep.api import choose
from cachekeep.api.context import Call
from cachekeep.api.entry import Entry, Truth
from cachekeep.api.paging import page
from cachekeep.api.present import Shape
from cachekeep.domain.events import Event, SourceType
from cachekeep.domain.faults import Fault, invalid_value
from cachekeep.domain.ids import resource_id
from cachekeep.domain.security_group import Ec2Group, SecurityGroup

LONGEST_NAME = 255
# AWS's quota of a region.
MOST_GROUPS = 50
_ACCOUNT = re.compile(r"[0-9]{12}\Z")
_PROOF = "tests/scenarios/test_security_groups.py::test_cache_security_groups_are_kept_and_shown"
_TEXT = "They name groups of EC2, and there is no EC2 here: who may connect is settled by allowed_sources."


def _default(call: Call) -> SecurityGroup:
    return SecurityGroup(call.region, "default", "default")


def _find(call: Call, name: str) -> SecurityGroup:
    group = call.services.store.get(SecurityGroup, call.region, name.lower())
    if group is not None:
        return group
    if name.lower() == "default":
        return _default(call)
    raise Fault("CacheSecurityGroupNotFound", f"Cache security group {name[:60]} does not exist.")


def _shown(call: Call, group: SecurityGroup) -> Shape:
    return {
        "OwnerId": call.services.account_id,
        "CacheSecurityGroupName": group.name,
        "Description": group.description,
        "EC2SecurityGroups": [
            {"Status": "authorized", "EC2SecurityGroupName": ec2.name, "EC2SecurityGroupOwnerId": ec2.owner}
            for ec2 in group.authorized
        ],
        "ARN": call.arn("securitygroup", group.name),
    }


def _event(call: Call, name: str, message: str) -> Event:
    return Event(call.services.clock.now(), call.region, SourceType.CACHE_SECURITY_GROUP, name, message)


def create_cache_security_group(call: Call) -> Shape:
    name = resource_id("CacheSecurityGroupName", call.params["CacheSecurityGroupName"], LONGEST_NAME)
    if name == "default":
        raise invalid_value('The cache security group name cannot be the word "Default".')
    if call.services.store.get(SecurityGroup, call.region, name) is not None:
        raise Fault("CacheSecurityGroupAlreadyExists", f"Cache security group {name} already exists.")
    if len(call.services.store.all(SecurityGroup, call.region)) >= MOST_GROUPS:
        raise Fault("QuotaExceeded.CacheSecurityGroup", f"A region can have at most {MOST_GROUPS} security groups.")
    group = SecurityGroup(call.region, name, call.params["Description"], (), choose.choose_tags(call))
    with call.services.store.transaction() as work:
        work.insert(group)
        work.add_event(_event(call, name, f"Created cache security group {name}"))
    return {"CacheSecurityGroup": _shown(call, group)}


def describe_cache_security_groups(call: Call) -> Shape:
    name = call.text("CacheSecurityGroupName")
    if name is not None:
        mine = [_find(call, name)]
    else:
        stored = call.services.store.all(SecurityGroup, call.region)
        mine = stored if any(g.name == "default" for g in stored) else [_default(call), *stored]
    shown, marker = page(call, sorted(mine, key=lambda g: g.name), lambda g: g.name)
    return {"Marker": marker, "CacheSecurityGroups": [_shown(call, g) for g in shown]}


def delete_cache_security_group(call: Call) -> Shape:
    group = _find(call, call.params["CacheSecurityGroupName"])
    if group.name == "default":
        raise Fault("InvalidCacheSecurityGroupState", "The default cache security group cannot be deleted.")
    with call.services.store.transaction() as work:
        work.delete(group)
        work.add_event(_event(call, group.name, f"Deleted cache security group {group.name}"))
    return {}


def authorize_cache_security_group_ingress(call: Call) -> Shape:
    group, ec2 = _find(call, call.params["CacheSecurityGroupName"]), _ec2(call)
    if ec2 in group.authorized:
        raise Fault("AuthorizationAlreadyExists", f"{ec2.name} of {ec2.owner} is authorized in {group.name} already.")
    return _stored(call, group, replace(group, authorized=tuple(sorted((*group.authorized, ec2)))))


def revoke_cache_security_group_ingress(call: Call) -> Shape:
    group, ec2 = _find(call, call.params["CacheSecurityGroupName"]), _ec2(call)
    if ec2 not in group.authorized:
        raise Fault("AuthorizationNotFound", f"{ec2.name} of {ec2.owner} is not authorized in {group.name}.")
    return _stored(call, group, replace(group, authorized=tuple(e for e in group.authorized if e != ec2)))


def _ec2(call: Call) -> Ec2Group:
    name, owner = call.params["EC2SecurityGroupName"], call.params["EC2SecurityGroupOwnerId"]
    if not name or len(name) > LONGEST_NAME:
        raise invalid_value(f"EC2SecurityGroupName must have 1 to {LONGEST_NAME} characters.")
    if not _ACCOUNT.match(owner):
        raise invalid_value(f"EC2SecurityGroupOwnerId must be an account of 12 digits, not {owner[:40]!r}.")
    return Ec2Group(name, owner)


def _stored(call: Call, old: SecurityGroup, new: SecurityGroup) -> Shape:
    with call.services.store.transaction() as work:
        if work.get(SecurityGroup, call.region, new.name) is None:  # the default one, so far as it came
            work.insert(new)
        else:
            work.replace(old, new)
    return {"CacheSecurityGroup": _shown(call, new)}


OPERATIONS: Mapping[str, Entry] = {
    "AuthorizeCacheSecurityGroupIngress": Entry(authorize_cache_security_group_ingress, Truth.RECORDED, _PROOF, _TEXT),
    "CreateCacheSecurityGroup": Entry(create_cache_security_group, Truth.RECORDED, _PROOF, _TEXT),
    "DeleteCacheSecurityGroup": Entry(delete_cache_security_group, Truth.RECORDED, _PROOF),
    "DescribeCacheSecurityGroups": Entry(describe_cache_security_groups, Truth.RECORDED, _PROOF),
    "RevokeCacheSecurityGroupIngress": Entry(revoke_cache_security_group_ingress, Truth.RECORDED, _PROOF, _TEXT),
}
