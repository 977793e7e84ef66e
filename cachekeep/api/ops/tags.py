"""AddTagsToResource, RemoveTagsFromResource, ListTagsForResource: by ARN, for every kind of resource there is.

A kind is one line of `_KINDS`. Tags of a replication group reach its members too, as AWS has it.
Source: botocore elasticache 2015-02-02 (the text of AddTagsToResource); ElastiCache guide "Tagging resources".
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace

from cachekeep.api import choose, present
from cachekeep.api.context import Call, Services
from cachekeep.api.ops.subnet_groups import default_subnet_group
from cachekeep.domain.cache_cluster import CacheCluster
from cachekeep.domain.faults import Fault, invalid_value
from cachekeep.domain.global_group import GlobalGroup
from cachekeep.domain.ids import OWN_PARTITION, Arn
from cachekeep.domain.parameters import ParameterGroup
from cachekeep.domain.ports import Transaction
from cachekeep.domain.replication_group import ReplicationGroup
from cachekeep.domain.reserved_node import ReservedNode
from cachekeep.domain.security_group import SecurityGroup
from cachekeep.domain.serverless import ServerlessCache, backing_id, is_behind_serverless, serverless_name
from cachekeep.domain.snapshot import Snapshot
from cachekeep.domain.subnet_group import SubnetGroup
from cachekeep.domain.users import User, UserGroup

Tagged = (
    ReplicationGroup
    | CacheCluster
    | ParameterGroup
    | SubnetGroup
    | ReservedNode
    | Snapshot
    | ServerlessCache
    | User
    | UserGroup
    | SecurityGroup
    | GlobalGroup
)
Tags = Mapping[str, str]


@dataclass(frozen=True)
class _Kind:
    """missing: the code for one that is not there. stored: what is kept of the kind, None while there is none of it.

    built_in: whether the region has one of this name that nobody made and nobody can tag. kept_as: the name that one
    is stored under.
    """

    missing: str
    stored: type[Tagged] | None = None
    built_in: Callable[[Call, str], bool] = lambda _call, _name: False
    kept_as: Callable[[str], str] = lambda name: name


# The word of the ARN -> the kind.
_KINDS: Mapping[str, _Kind] = {
    "cluster": _Kind("CacheClusterNotFound", CacheCluster),
    "replicationgroup": _Kind("ReplicationGroupNotFoundFault", ReplicationGroup),
    "parametergroup": _Kind(
        "CacheParameterGroupNotFound", ParameterGroup, lambda call, name: name in call.services.catalog.default_groups
    ),
    "subnetgroup": _Kind(
        "CacheSubnetGroupNotFoundFault", SubnetGroup, lambda call, name: name == default_subnet_group(call).name
    ),
    "securitygroup": _Kind("CacheSecurityGroupNotFound", SecurityGroup),
    "snapshot": _Kind("SnapshotNotFoundFault", Snapshot),
    "user": _Kind("UserNotFound", User),
    "usergroup": _Kind("UserGroupNotFound", UserGroup),
    # The model's example of a ReservationARN has the first word, the guide the second.
    "reserved-instance": _Kind("ReservedCacheNodeNotFound", ReservedNode),
    "reservedinstance": _Kind("ReservedCacheNodeNotFound", ReservedNode),
    "serverlesscache": _Kind("ServerlessCacheNotFoundFault", ServerlessCache),
    "serverlesscachesnapshot": _Kind("ServerlessCacheSnapshotNotFoundFault", Snapshot, kept_as=backing_id),
    "globalreplicationgroup": _Kind("GlobalReplicationGroupNotFoundFault", GlobalGroup),
}


def add_tags_to_resource(call: Call) -> present.Shape:
    resource = _resource(call)
    more = choose.tags_of(call.params["Tags"])
    return _change(call, resource, lambda tags: {**tags, **more})


def remove_tags_from_resource(call: Call) -> present.Shape:
    resource = _resource(call)
    keys = call.texts("TagKeys")
    missing = [k for k in keys if resource is None or k not in resource.tags]
    if missing:
        raise Fault("TagNotFound", f"The tag {missing[0][:60]!r} is not on this resource.")
    return _change(call, resource, lambda tags: {k: v for k, v in tags.items() if k not in keys})


def list_tags_for_resource(call: Call) -> present.Shape:
    resource = _resource(call)
    return {"TagList": present.tag_list(resource.tags if resource is not None else {})}


def tags_at(services: Services, text: str) -> Tags:
    """The tags of a resource by its ARN; none for what is not there, or has no tags here."""
    try:
        arn = Arn.parse(text)
    except Fault:
        return {}
    kind = _KINDS.get(arn.kind)
    found: Tagged | None = None
    if kind is not None and kind.stored is not None:
        found = services.store.get(kind.stored, arn.region, kind.kept_as(arn.name))
    return found.tags if found is not None else {}


def all_tags(services: Services, region: str) -> Iterator[tuple[str, Tags]]:
    """The ARN and the tags of everything in the region that users can see and tag."""
    for word, kind in _KINDS.items():
        if kind.stored is None or word == "reserved-instance":
            continue
        of_caches = word == "serverlesscachesnapshot"
        where = "" if word == "globalreplicationgroup" else region
        for found in services.store.all(kind.stored, where):
            name = _name(found)
            if is_behind_serverless(name) == of_caches:
                yield str(Arn(where, services.account_id, word, serverless_name(name))), found.tags


def _name(found: Tagged) -> str:
    if isinstance(found, ParameterGroup | SubnetGroup | SecurityGroup | Snapshot | ServerlessCache):
        return found.name
    return found.id


def _resource(call: Call) -> Tagged | None:
    """None for one that is built in and has no tags.

    Raises InvalidARN for one of another account, region or service, and the kind's own fault when it is missing.
    """
    text = call.params["ResourceName"]
    arn = Arn.parse(text)
    # A global replication group is of no region.
    region = "" if arn.kind == "globalreplicationgroup" else call.region
    if arn.account != call.services.account_id or arn.region != region or not text.startswith(OWN_PARTITION):
        raise Fault("InvalidARN", f"{text[:200]} does not belong to this account and region.")
    kind = _KINDS.get(arn.kind)
    if kind is None:
        raise Fault("InvalidARN", f"{text[:200]} names no kind of resource of this service.")
    found: Tagged | None = None
    if kind.stored is not None and not is_behind_serverless(arn.name):
        found = call.services.store.get(kind.stored, region, kind.kept_as(arn.name))
    if found is None and not kind.built_in(call, arn.name):
        raise Fault(kind.missing, f"{text[:200]} was not found.")
    return found


def _change(call: Call, resource: Tagged | None, changed: Callable[[Tags], dict[str, str]]) -> present.Shape:
    """Of a group's members only what is the group's changes: they may have tags of their own.

    Raises TagQuotaPerResourceExceeded before any of them is changed.
    """
    if resource is None:
        raise invalid_value("The default groups of a region cannot be tagged.")
    tags = changed(resource.tags)
    choose.check_tag_count(tags)
    with call.services.store.transaction() as work:
        work.replace(resource, replace(resource, tags=tags))
        for member in _members(work, resource):
            choose.check_tag_count(its := changed(member.tags))
            work.replace(member, replace(member, tags=its))
    return {"TagList": present.tag_list(tags)}


def _members(work: Transaction, resource: Tagged) -> list[CacheCluster]:
    if not isinstance(resource, ReplicationGroup):
        return []
    found = (work.get(CacheCluster, resource.region, name) for name in resource.member_ids)
    return [member for member in found if member is not None]
