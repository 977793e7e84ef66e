"""Every operation of AWS's model, asked about what is not there, or is somebody else's: the fault that AWS declares."""

from __future__ import annotations

from collections.abc import Mapping

import pytest
from happy_requests import AWAY, HOME, RIGHT
from stage import Stage
from test_conformance_input import input_of, members, put

VALUE = "InvalidParameterValue"
OPERATIONS = sorted(RIGHT)
# What names a resource, by the last name of its place -> the fault when there is none.
_NOT_FOUND: Mapping[str, str] = {
    "CacheClusterId": "CacheClusterNotFound",
    "CacheParameterGroupName": "CacheParameterGroupNotFound",
    "CacheSecurityGroupName": "CacheSecurityGroupNotFound",
    "CacheSubnetGroupName": "CacheSubnetGroupNotFoundFault",
    "GlobalReplicationGroupId": "GlobalReplicationGroupNotFoundFault",
    "PrimaryClusterId": "CacheClusterNotFound",
    "PrimaryReplicationGroupId": "ReplicationGroupNotFoundFault",
    "ReplicationGroupId": "ReplicationGroupNotFoundFault",
    "ReservedCacheNodeId": "ReservedCacheNodeNotFound",
    "ReservedCacheNodesOfferingId": "ReservedCacheNodesOfferingNotFound",
    "ServerlessCacheName": "ServerlessCacheNotFoundFault",
    "ServerlessCacheSnapshotName": "ServerlessCacheSnapshotNotFoundFault",
    "ServiceUpdateName": "ServiceUpdateNotFoundFault",
    "SnapshotName": "SnapshotNotFoundFault",
    "SourceServerlessCacheSnapshotName": "ServerlessCacheSnapshotNotFoundFault",
    "SourceSnapshotName": "SnapshotNotFoundFault",
    "UserGroupId": "UserGroupNotFound",
    "UserGroupIds": "UserGroupNotFound",
    "UserGroupIdsToAdd": "UserGroupNotFound",
    "UserId": "UserNotFound",
    "UserIds": "UserNotFound",
    "UserIdsToAdd": "UserNotFound",
    "UserIdsToRemove": "UserNotFound",
}
# Places where the same name means something else: the fault, or "" for what needs not be there.
_OTHERWISE: Mapping[tuple[str, str], str] = {
    # The name of what is to be made.
    ("CreateCacheCluster", "CacheClusterId"): "",
    ("CreateCacheParameterGroup", "CacheParameterGroupName"): "",
    ("CreateCacheSecurityGroup", "CacheSecurityGroupName"): "",
    ("CreateCacheSubnetGroup", "CacheSubnetGroupName"): "",
    ("CreateReplicationGroup", "ReplicationGroupId"): "",
    ("CreateServerlessCache", "ServerlessCacheName"): "",
    ("CreateServerlessCacheSnapshot", "ServerlessCacheSnapshotName"): "",
    ("CreateSnapshot", "SnapshotName"): "",
    ("CreateUser", "UserId"): "",
    ("CreateUserGroup", "UserGroupId"): "",
    ("PurchaseReservedCacheNodesOffering", "ReservedCacheNodeId"): "",
    # Filters, for which AWS declares no fault.
    ("DescribeReservedCacheNodes", "ReservedCacheNodesOfferingId"): "",
    ("DescribeSnapshots", "ReplicationGroupId"): "",
    ("DescribeUpdateActions", "ServiceUpdateName"): "",
    # Faults that AWS has, and does not declare for these.
    ("CreateCacheCluster", "SnapshotName"): VALUE,
    ("CreateReplicationGroup", "SnapshotName"): VALUE,
    ("CreateReplicationGroup", "ServerlessCacheSnapshotName"): VALUE,
    ("DisassociateGlobalReplicationGroup", "ReplicationGroupId"): VALUE,
    ("FailoverGlobalReplicationGroup", "PrimaryReplicationGroupId"): VALUE,
    ("ModifyGlobalReplicationGroup", "CacheParameterGroupName"): VALUE,
    # "Use of cache security groups is not permitted in this API version for your account", whatever their names.
    ("CreateCacheCluster", "CacheSecurityGroupNames"): VALUE,
    ("CreateReplicationGroup", "CacheSecurityGroupNames"): VALUE,
    ("ModifyCacheCluster", "CacheSecurityGroupNames"): VALUE,
    ("ModifyReplicationGroup", "CacheSecurityGroupNames"): VALUE,
}
# Of these only one may be given.
_INSTEAD = {"CacheClusterId": "ReplicationGroupId", "ServerlessCacheName": "ReplicationGroupId"}
_EITHER = {"CompleteMigration", "CreateSnapshot", "ListAllowedNodeTypeModifications", "StartMigration"}
# Ids as somebody might have mistyped them: none of them may be found, and none may be another fault.
_NOBODY = ("nobody", "g-0001-999", "NOBODY")


def references(operation: str) -> list[tuple[str, str]]:
    """Places that name a resource, each with the fault when there is none."""
    found = []
    for place, shape in members(input_of(operation)):
        top, *rest = [part for part in place.split(".") if part != "1"]
        code = _OTHERWISE.get((operation, top), _NOT_FOUND.get(top))
        if shape.type_name == "string" and code is not None and len(rest) <= 1:
            found.append((place, code))
    return found


@pytest.mark.parametrize("operation", [name for name in OPERATIONS if references(name)])
def test_each_id_unknown(stage: Stage, operation: str) -> None:
    before = stage.everything()
    fields = stage.fields(operation, RIGHT[operation])
    for place, code in references(operation):
        for name in _NOBODY:
            wish = put(fields, place, name)
            if operation in _EITHER and place in _INSTEAD:
                del wish[_INSTEAD[place]]
            with stage.scene() as scene:
                got, message = scene.refusal(wish)
            assert got == code, (place, name, message)
            assert not code or code == VALUE or name.lower() in message.lower(), (place, message)
    assert stage.everything() == before


def test_nothing_that_names_a_resource_is_left_out() -> None:
    """A member of the model that looks like the name of one is in the table."""
    named = {place.split(".")[0] for name in OPERATIONS for place, _ in references(name)}
    there = {name for operation in OPERATIONS for name in input_of(operation).members}
    assert {n for n in there if n.endswith(("Id", "Ids", "Name", "Names"))} - named == _NO_RESOURCES


_NO_RESOURCES = {
    # Names to be given.
    "TargetSnapshotName", "TargetServerlessCacheSnapshotName", "FinalSnapshotName", "UserName",
    # Of other services, which are not here.
    "EC2SecurityGroupName", "EC2SecurityGroupOwnerId", "KmsKeyId", "S3BucketName", "SecurityGroupIds", "SubnetIds",
    # Parts of a resource, or filters.
    "NodeGroupId", "CacheClusterIds", "ReplicationGroupIds", "SnapshottingClusterId",
    "ResourceName",
}  # fmt: skip


@pytest.mark.parametrize("operation", OPERATIONS)
def test_another_region_has_none_of_it(stage: Stage, operation: str) -> None:
    """Resources are of one region: the very request that is right in theirs finds nothing in another."""
    fields = stage.fields(operation, RIGHT[operation])
    wanted = {code for place, code in references(operation) if place in fields and code not in ("", VALUE)}
    if operation in ("AddTagsToResource", "ListTagsForResource", "RemoveTagsFromResource"):
        wanted = {"InvalidARN"}
    if any(name in fields for name in ("GlobalReplicationGroupId", "ServiceUpdateName")):
        wanted = set()
    with stage.scene() as scene:
        code, message = scene.refusal(fields, "ap-south-1")
    assert code in (wanted or {""}), message


_KINDS = {
    "cluster": "CacheClusterNotFound",
    "replicationgroup": "ReplicationGroupNotFoundFault",
    "parametergroup": "CacheParameterGroupNotFound",
    "subnetgroup": "CacheSubnetGroupNotFoundFault",
    "securitygroup": "CacheSecurityGroupNotFound",
    "snapshot": "SnapshotNotFoundFault",
    "user": "UserNotFound",
    "usergroup": "UserGroupNotFound",
    "reserved-instance": "ReservedCacheNodeNotFound",
    "serverlesscache": "ServerlessCacheNotFoundFault",
    "serverlesscachesnapshot": "ServerlessCacheSnapshotNotFoundFault",
}
_MINE = f"arn:aws:elasticache:{HOME}:000000000000"
_NO_ARNS = (
    "", "g", "arn:", "arn:aws:elasticache", f"{_MINE}", f"{_MINE}:", f"{_MINE}:cluster", f"{_MINE}:cluster:",
    f"{_MINE}:nothing:g", f"{_MINE}:REPLICATIONGROUP:g", f" {_MINE}:replicationgroup:g",
    f"{_MINE}:replicationgroup/g", f"x{_MINE}:replicationgroup:g",
    f"arn:aws:elasticache:{AWAY}:000000000000:replicationgroup:gs",
    "arn:aws:elasticache::000000000000:replicationgroup:g",
    f"arn:aws:elasticache:{HOME}:999999999999:replicationgroup:g",
    f"arn:aws:elasticache:{HOME}::replicationgroup:g",
    f"arn:aws-cn:elasticache:{HOME}:000000000000:replicationgroup:g",
    f"arn:aws-us-gov:elasticache:{HOME}:000000000000:replicationgroup:g",
    f"arn:aws:memorydb:{HOME}:000000000000:cluster:g",
    "arn:aws:s3:::nobodys-bucket/replicationgroup:g",
    "a" * 10_000,
)  # fmt: skip


@pytest.mark.parametrize("operation", ["AddTagsToResource", "ListTagsForResource", "RemoveTagsFromResource"])
def test_each_arn_that_is_not_one_of_ours(stage: Stage, operation: str) -> None:
    fields = stage.fields(operation, RIGHT[operation])
    for arn in _NO_ARNS:
        assert stage.refusal({**fields, "ResourceName": arn})[0] == "InvalidARN", arn
    for kind, code in _KINDS.items():
        assert stage.refusal({**fields, "ResourceName": f"{_MINE}:{kind}:nobody"})[0] == code
    # What runs a serverless cache is nobody's to tag.
    behind = {**fields, "ResourceName": f"{_MINE}:replicationgroup:serverless--sc"}
    assert stage.refusal(behind)[0] == "ReplicationGroupNotFoundFault"


_ARN_PLACES = ("NotificationTopicArn", "SnapshotArns", "SnapshotArnsToRestore", "PreferredOutpostArn")


@pytest.mark.parametrize("operation", OPERATIONS)
def test_each_other_arn(stage: Stage, operation: str) -> None:
    fields = stage.fields(operation, RIGHT[operation])
    wrong = [arn for arn in _NO_ARNS if arn]
    for place in (f"aws-cn:elasticache:{HOME}:000000000000", f"aws:elasticache:{AWAY}:000000000000"):
        wrong += [f"arn:{place}:snapshot:sn", f"arn:{place}:serverlesscachesnapshot:ss"]
    for place, shape in members(input_of(operation)):
        if shape.type_name != "string" or place.split(".")[0] not in _ARN_PLACES:
            continue
        for arn in (*wrong, f"arn:aws:sns:{AWAY}:000000000000:t", f"arn:aws:sns:{HOME}:999999999999:t"):
            code, message = stage.refusal(put(fields, place, arn))
            assert code in (VALUE, "InvalidParameterCombination"), (place, arn, message)
