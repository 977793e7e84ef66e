"""Which resources an operation touches, as ARNs: what policies are asked about. A table of all operations; pure.

An operation that names nothing touches all of its kind (`...:replicationgroup:*`), or everything (`*`) where it has no
kind. A test holds the table against the model.
Source: Service Authorization Reference, "Actions, resources, and condition keys for Amazon ElastiCache".
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from cachekeep.domain.faults import Fault
from cachekeep.domain.ids import Arn

ANY = "*"
_GLOBAL = "globalreplicationgroup"

_CLUSTER = ("cluster", "CacheClusterId")
_GROUP = ("replicationgroup", "ReplicationGroupId")
_GLOBAL_GROUP = (_GLOBAL, "GlobalReplicationGroupId")
_PARAMETERS = ("parametergroup", "CacheParameterGroupName")
_SUBNETS = ("subnetgroup", "CacheSubnetGroupName")
_SECURITY = ("securitygroup", "CacheSecurityGroupName")
_SECURITIES = ("securitygroup", "CacheSecurityGroupNames")
_SNAPSHOT = ("snapshot", "SnapshotName")
_USER = ("user", "UserId")
_USER_GROUP = ("usergroup", "UserGroupId")
_SERVERLESS = ("serverlesscache", "ServerlessCacheName")
_SERVERLESS_SNAPSHOT = ("serverlesscachesnapshot", "ServerlessCacheSnapshotName")
_RESERVED = ("reservedinstance", "ReservedCacheNodeId")
_UPDATED = (("replicationgroup", "ReplicationGroupIds"), ("cluster", "CacheClusterIds"))
# Parameters that are ARNs themselves.
_ARN = ("", "ResourceName")
_SNAPSHOTS_BY_ARN = ("", "SnapshotArns")
# Words that ARNs have for one kind.
_WORDS = {"reserved-instance": "reservedinstance"}
_Field = tuple[str, str]

# Operation -> the kinds of resources and the parameters that name them; the first is what `*` is of where none does.
RESOURCES: Mapping[str, Sequence[_Field]] = {
    "AddTagsToResource": (_ARN,),
    "AuthorizeCacheSecurityGroupIngress": (_SECURITY,),
    "BatchApplyUpdateAction": _UPDATED,
    "BatchStopUpdateAction": _UPDATED,
    "CompleteMigration": (_GROUP, _SERVERLESS),
    "CopyServerlessCacheSnapshot": (
        ("serverlesscachesnapshot", "SourceServerlessCacheSnapshotName"),
        ("serverlesscachesnapshot", "TargetServerlessCacheSnapshotName"),
    ),
    "CopySnapshot": (("snapshot", "SourceSnapshotName"), ("snapshot", "TargetSnapshotName")),
    "CreateCacheCluster": (_CLUSTER, _GROUP, _PARAMETERS, _SUBNETS, _SECURITIES, _SNAPSHOT, _SNAPSHOTS_BY_ARN),
    "CreateCacheParameterGroup": (_PARAMETERS,),
    "CreateCacheSecurityGroup": (_SECURITY,),
    "CreateCacheSubnetGroup": (_SUBNETS,),
    "CreateGlobalReplicationGroup": (
        (_GLOBAL, "GlobalReplicationGroupIdSuffix"),
        ("replicationgroup", "PrimaryReplicationGroupId"),
    ),
    "CreateReplicationGroup": (
        _GROUP,
        ("cluster", "PrimaryClusterId"),
        _GLOBAL_GROUP,
        _PARAMETERS,
        _SUBNETS,
        _SECURITIES,
        _SNAPSHOT,
        _SNAPSHOTS_BY_ARN,
        ("usergroup", "UserGroupIds"),
        _SERVERLESS_SNAPSHOT,
    ),
    "CreateServerlessCache": (_SERVERLESS, ("", "SnapshotArnsToRestore"), _USER_GROUP),
    "CreateServerlessCacheSnapshot": (_SERVERLESS_SNAPSHOT, _SERVERLESS),
    "CreateSnapshot": (_SNAPSHOT, _CLUSTER, _GROUP),
    "CreateUser": (_USER,),
    "CreateUserGroup": (_USER_GROUP, ("user", "UserIds")),
    "DecreaseNodeGroupsInGlobalReplicationGroup": (_GLOBAL_GROUP,),
    "DecreaseReplicaCount": (_GROUP,),
    "DeleteCacheCluster": (_CLUSTER, ("snapshot", "FinalSnapshotIdentifier")),
    "DeleteCacheParameterGroup": (_PARAMETERS,),
    "DeleteCacheSecurityGroup": (_SECURITY,),
    "DeleteCacheSubnetGroup": (_SUBNETS,),
    "DeleteGlobalReplicationGroup": (_GLOBAL_GROUP,),
    "DeleteReplicationGroup": (_GROUP, ("snapshot", "FinalSnapshotIdentifier")),
    "DeleteServerlessCache": (_SERVERLESS, ("serverlesscachesnapshot", "FinalSnapshotName")),
    "DeleteServerlessCacheSnapshot": (_SERVERLESS_SNAPSHOT,),
    "DeleteSnapshot": (_SNAPSHOT,),
    "DeleteUser": (_USER,),
    "DeleteUserGroup": (_USER_GROUP,),
    "DescribeCacheClusters": (_CLUSTER,),
    "DescribeCacheEngineVersions": (),
    "DescribeCacheParameterGroups": (_PARAMETERS,),
    "DescribeCacheParameters": (_PARAMETERS,),
    "DescribeCacheSecurityGroups": (_SECURITY,),
    "DescribeCacheSubnetGroups": (_SUBNETS,),
    "DescribeEngineDefaultParameters": (),
    "DescribeEvents": (),
    "DescribeGlobalReplicationGroups": (_GLOBAL_GROUP,),
    "DescribeReplicationGroups": (_GROUP,),
    "DescribeReservedCacheNodes": (_RESERVED,),
    "DescribeReservedCacheNodesOfferings": (),
    "DescribeServerlessCacheSnapshots": (_SERVERLESS_SNAPSHOT, _SERVERLESS),
    "DescribeServerlessCaches": (_SERVERLESS,),
    "DescribeServiceUpdates": (),
    "DescribeSnapshots": (_SNAPSHOT, _CLUSTER, _GROUP),
    "DescribeUpdateActions": _UPDATED,
    "DescribeUserGroups": (_USER_GROUP,),
    "DescribeUsers": (_USER,),
    "DisassociateGlobalReplicationGroup": (_GLOBAL_GROUP, _GROUP),
    "ExportServerlessCacheSnapshot": (_SERVERLESS_SNAPSHOT,),
    "FailoverGlobalReplicationGroup": (_GLOBAL_GROUP, ("replicationgroup", "PrimaryReplicationGroupId")),
    "IncreaseNodeGroupsInGlobalReplicationGroup": (_GLOBAL_GROUP,),
    "IncreaseReplicaCount": (_GROUP,),
    "ListAllowedNodeTypeModifications": (_CLUSTER, _GROUP),
    "ListTagsForResource": (_ARN,),
    "ModifyCacheCluster": (_CLUSTER, _PARAMETERS, _SECURITIES),
    "ModifyCacheParameterGroup": (_PARAMETERS,),
    "ModifyCacheSubnetGroup": (_SUBNETS,),
    "ModifyGlobalReplicationGroup": (_GLOBAL_GROUP, _PARAMETERS),
    "ModifyReplicationGroup": (
        _GROUP,
        ("cluster", "PrimaryClusterId"),
        _PARAMETERS,
        _SECURITIES,
        ("usergroup", "UserGroupIdsToAdd"),
        ("usergroup", "UserGroupIdsToRemove"),
    ),
    "ModifyReplicationGroupShardConfiguration": (_GROUP,),
    "ModifyServerlessCache": (_SERVERLESS, _USER_GROUP),
    "ModifyUser": (_USER,),
    "ModifyUserGroup": (_USER_GROUP, ("user", "UserIdsToAdd"), ("user", "UserIdsToRemove")),
    "PrepareMigration": (_SERVERLESS,),
    "PurchaseReservedCacheNodesOffering": (_RESERVED,),
    "RebalanceSlotsInGlobalReplicationGroup": (_GLOBAL_GROUP,),
    "RebootCacheCluster": (_CLUSTER,),
    "RemoveTagsFromResource": (_ARN,),
    "ResetCacheParameterGroup": (_PARAMETERS,),
    "RevokeCacheSecurityGroupIngress": (_SECURITY,),
    "StartMigration": (_GROUP, _SERVERLESS),
    "StopMigration": (_SERVERLESS,),
    "TestFailover": (_GROUP,),
    "TestMigration": (_GROUP,),
}


def resources_of(operation: str, params: Mapping[str, Any], region: str, account: str) -> tuple[str, ...]:
    """The ARNs, each once, in the table's order. Names in lower case, as they are kept."""
    fields = RESOURCES.get(operation, ())
    found = tuple(dict.fromkeys(_named(fields, params, region, account)))
    if found:
        return found
    return (arn(fields[0][0], ANY, region, account),) if fields and fields[0][0] else (ANY,)


def _named(fields: Sequence[_Field], params: Mapping[str, Any], region: str, account: str) -> Iterator[str]:
    for kind, parameter in fields:
        value = params.get(parameter)
        names = value if isinstance(value, list | tuple) else [value]
        for name in names:
            # A file in a bucket is no resource of this service.
            if isinstance(name, str) and name and not name.startswith("arn:aws:s3:::"):
                yield arn(kind, name.lower(), region, account) if kind else canonical(name)


def canonical(text: str) -> str:
    """The one ARN of what an ARN names: operations take it with the name of any partition, in any case, and some kinds
    by two words, and a policy that speaks of it must not be got around by another spelling. What is no ARN stays."""
    try:
        found = Arn.parse(text)
    except Fault:
        return text
    return arn(_WORDS.get(found.kind, found.kind), found.name, found.region, found.account)


def arn(kind: str, name: str, region: str, account: str) -> str:
    """Global groups belong to no region."""
    return f"arn:aws:elasticache:{'' if kind == _GLOBAL else region}:{account}:{kind}:{name}"


def alarm_resources(operation: str, params: Mapping[str, Any], region: str, account: str) -> tuple[str, ...]:
    """Of an operation of the CloudWatch API: the alarms that it names, or `*`.
    Source: Service Authorization Reference, "Amazon CloudWatch"."""
    prefix = f"arn:aws:cloudwatch:{region}:{account}:alarm:"
    if operation in ("ListTagsForResource", "TagResource", "UntagResource"):
        return (str(params.get("ResourceARN") or ANY),)
    single, several = params.get("AlarmName"), params.get("AlarmNames")
    names = [single] if isinstance(single, str) and single else [str(name) for name in several or ()]
    if names:
        return tuple(dict.fromkeys(prefix + name for name in names))
    return (prefix + ANY,) if "Alarm" in operation else (ANY,)
