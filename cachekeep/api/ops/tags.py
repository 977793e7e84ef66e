"""AddTagsToResource, RemoveTagsFromResource, ListTagsForResource: by ARN, for every kind of resource there is."""

from __future__ import annotations

from dataclasses import replace

from cachekeep.api import choose, present
from cachekeep.api.context import Call
from cachekeep.domain.cache_cluster import CacheCluster
from cachekeep.domain.faults import Fault
from cachekeep.domain.ids import Arn
from cachekeep.domain.parameters import ParameterGroup
from cachekeep.domain.replication_group import ReplicationGroup
from cachekeep.domain.subnet_group import SubnetGroup

Tagged = ReplicationGroup | CacheCluster | ParameterGroup | SubnetGroup

# ARN word -> the kind that is stored, and the code for one that is not there (the model's codes for these operations).
_KINDS: dict[str, tuple[type[Tagged], str]] = {
    "cluster": (CacheCluster, "CacheClusterNotFound"),
    "replicationgroup": (ReplicationGroup, "ReplicationGroupNotFoundFault"),
    "parametergroup": (ParameterGroup, "CacheParameterGroupNotFound"),
    "subnetgroup": (SubnetGroup, "CacheSubnetGroupNotFoundFault"),
}
_OTHER_KINDS = {
    "securitygroup": "CacheSecurityGroupNotFound",
    "snapshot": "SnapshotNotFoundFault",
    "user": "UserNotFound",
    "usergroup": "UserGroupNotFound",
    "reservedinstance": "ReservedCacheNodeNotFound",
    "serverlesscache": "ServerlessCacheNotFoundFault",
    "serverlesscachesnapshot": "ServerlessCacheSnapshotNotFoundFault",
    "globalreplicationgroup": "GlobalReplicationGroupNotFoundFault",
}


def _resource(call: Call) -> Tagged:
    """Raises InvalidARN for one of another account, region or service, and the kind's own fault when it is missing."""
    text = call.params["ResourceName"]
    arn = Arn.parse(text)
    if arn.account != call.services.account_id or arn.region != call.region:
        raise Fault("InvalidARN", f"{text[:200]} does not belong to this account and region.")
    if arn.kind in _OTHER_KINDS:
        raise Fault(_OTHER_KINDS[arn.kind], f"{text[:200]} was not found.")
    if arn.kind not in _KINDS:
        raise Fault("InvalidARN", f"{text[:200]} names no kind of resource of this service.")
    kind, missing = _KINDS[arn.kind]
    found: Tagged | None = call.services.store.get(kind, call.region, arn.name)
    if found is None:
        raise Fault(missing, f"{text[:200]} was not found.")
    return found


def add_tags_to_resource(call: Call) -> present.Shape:
    resource = _resource(call)
    tags = {**resource.tags, **choose.tags_of(call.params["Tags"])}
    choose.check_tag_count(tags)
    return _store(call, resource, tags)


def remove_tags_from_resource(call: Call) -> present.Shape:
    resource = _resource(call)
    keys = call.texts("TagKeys")
    missing = [k for k in keys if k not in resource.tags]
    if missing:
        raise Fault("TagNotFound", f"The tag {missing[0][:60]!r} is not on this resource.")
    return _store(call, resource, {k: v for k, v in resource.tags.items() if k not in keys})


def list_tags_for_resource(call: Call) -> present.Shape:
    return {"TagList": present.tag_list(_resource(call).tags)}


def _store(call: Call, resource: Tagged, tags: dict[str, str]) -> present.Shape:
    with call.services.store.transaction() as work:
        work.replace(resource, replace(resource, tags=tags))
    return {"TagList": present.tag_list(tags)}
