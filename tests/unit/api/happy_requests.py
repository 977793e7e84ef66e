"""For each operation a request that succeeds on the stage, or the refusal that it has for every request.

Not a test. Groups: `g` (a replica, failover), `gc` (cluster mode, two shards), `old` (an update waits for it), `mig`
(follows a source), `gp` (primary of a global datastore, its secondary `gs` in another region). Clusters: `c` (Valkey)
and `m` (Memcached). The rest by the initials of their kinds.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

HOME, AWAY = "eu-west-1", "us-east-1"
GLOBAL = "gxeiz-shop"
WIDE = "gxeiz-wide"
OFFERING, UPDATE = "{offering}", "{update}"
BUCKET = "bucket"
# An address of the documentation's range: nobody asks it, the stage carries nothing out.
SOURCE = [{"Address": "192.0.2.1", "Port": 6379}]
G_ARN = f"arn:aws:elasticache:{HOME}:000000000000:replicationgroup:g"
_PARAMETER = [{"ParameterName": "timeout", "ParameterValue": "30"}]

HAPPY: Mapping[str, Mapping[str, Any]] = {
    "AddTagsToResource": {"ResourceName": G_ARN, "Tags": [{"Key": "new", "Value": "x"}]},
    "AuthorizeCacheSecurityGroupIngress": {
        "CacheSecurityGroupName": "csg", "EC2SecurityGroupName": "more", "EC2SecurityGroupOwnerId": "123456789012",
    },
    "BatchApplyUpdateAction": {"ServiceUpdateName": UPDATE, "ReplicationGroupIds": ["old"]},
    "BatchStopUpdateAction": {"ServiceUpdateName": UPDATE, "ReplicationGroupIds": ["old"]},
    "CompleteMigration": {"ReplicationGroupId": "mig", "Force": True},
    "CopyServerlessCacheSnapshot": {
        "SourceServerlessCacheSnapshotName": "ss", "TargetServerlessCacheSnapshotName": "new",
    },
    "CopySnapshot": {"SourceSnapshotName": "sn", "TargetSnapshotName": "new"},
    "CreateCacheCluster": {"CacheClusterId": "new", "Engine": "valkey"},
    "CreateCacheParameterGroup": {
        "CacheParameterGroupName": "new", "CacheParameterGroupFamily": "valkey9", "Description": "x",
    },
    "CreateCacheSecurityGroup": {"CacheSecurityGroupName": "new", "Description": "x"},
    "CreateCacheSubnetGroup": {
        "CacheSubnetGroupName": "new", "CacheSubnetGroupDescription": "x", "SubnetIds": ["subnet-1"],
    },
    "CreateGlobalReplicationGroup": {"GlobalReplicationGroupIdSuffix": "new", "PrimaryReplicationGroupId": "g"},
    "CreateReplicationGroup": {"ReplicationGroupId": "new", "ReplicationGroupDescription": "x"},
    "CreateServerlessCache": {"ServerlessCacheName": "new", "Engine": "valkey"},
    "CreateServerlessCacheSnapshot": {"ServerlessCacheSnapshotName": "new", "ServerlessCacheName": "sc"},
    "CreateSnapshot": {"SnapshotName": "new", "ReplicationGroupId": "g"},
    "CreateUser": {
        "UserId": "new", "UserName": "new", "Engine": "valkey", "AccessString": "on ~* +@all",
        "Passwords": ["a-password-of-20-char"],
    },
    "CreateUserGroup": {"UserGroupId": "new", "Engine": "valkey", "UserIds": ["u"]},
    "DecreaseReplicaCount": {"ReplicationGroupId": "gc", "NewReplicaCount": 0, "ApplyImmediately": True},
    "DeleteCacheCluster": {"CacheClusterId": "c"},
    "DeleteCacheParameterGroup": {"CacheParameterGroupName": "p"},
    "DeleteCacheSecurityGroup": {"CacheSecurityGroupName": "csg"},
    "DeleteCacheSubnetGroup": {"CacheSubnetGroupName": "sub"},
    "DeleteGlobalReplicationGroup": {"GlobalReplicationGroupId": "gxeiz-lone", "RetainPrimaryReplicationGroup": True},
    "DeleteReplicationGroup": {"ReplicationGroupId": "g"},
    "DeleteServerlessCache": {"ServerlessCacheName": "sc"},
    "DeleteServerlessCacheSnapshot": {"ServerlessCacheSnapshotName": "ss"},
    "DeleteSnapshot": {"SnapshotName": "sn"},
    "DeleteUser": {"UserId": "u"},
    "DeleteUserGroup": {"UserGroupId": "ug"},
    "DescribeCacheClusters": {"CacheClusterId": "c", "ShowCacheNodeInfo": True},
    "DescribeCacheEngineVersions": {"Engine": "valkey"},
    "DescribeCacheParameterGroups": {"CacheParameterGroupName": "p"},
    "DescribeCacheParameters": {"CacheParameterGroupName": "p"},
    "DescribeCacheSecurityGroups": {"CacheSecurityGroupName": "csg"},
    "DescribeCacheSubnetGroups": {"CacheSubnetGroupName": "sub"},
    "DescribeEngineDefaultParameters": {"CacheParameterGroupFamily": "valkey9"},
    "DescribeEvents": {"SourceIdentifier": "g", "SourceType": "replication-group"},
    "DescribeGlobalReplicationGroups": {"GlobalReplicationGroupId": GLOBAL, "ShowMemberInfo": True},
    "DescribeReplicationGroups": {"ReplicationGroupId": "g"},
    "DescribeReservedCacheNodes": {"ReservedCacheNodeId": "r"},
    "DescribeReservedCacheNodesOfferings": {"ReservedCacheNodesOfferingId": OFFERING},
    "DescribeServerlessCacheSnapshots": {"ServerlessCacheSnapshotName": "ss"},
    "DescribeServerlessCaches": {"ServerlessCacheName": "sc"},
    "DescribeServiceUpdates": {"ServiceUpdateName": UPDATE},
    "DescribeSnapshots": {"SnapshotName": "sn", "ShowNodeGroupConfig": True},
    "DescribeUpdateActions": {"ServiceUpdateName": UPDATE, "ShowNodeLevelUpdateStatus": True},
    "DescribeUserGroups": {"UserGroupId": "ug"},
    "DescribeUsers": {"UserId": "u"},
    "DisassociateGlobalReplicationGroup": {
        "GlobalReplicationGroupId": GLOBAL, "ReplicationGroupId": "gs", "ReplicationGroupRegion": AWAY,
    },
    "ExportServerlessCacheSnapshot": {"ServerlessCacheSnapshotName": "ss", "S3BucketName": BUCKET},
    "FailoverGlobalReplicationGroup": {
        "GlobalReplicationGroupId": GLOBAL, "PrimaryRegion": AWAY, "PrimaryReplicationGroupId": "gs",
    },
    "IncreaseReplicaCount": {"ReplicationGroupId": "g", "NewReplicaCount": 2, "ApplyImmediately": True},
    "ListAllowedNodeTypeModifications": {"ReplicationGroupId": "g"},
    "ListTagsForResource": {"ResourceName": G_ARN},
    "ModifyCacheCluster": {"CacheClusterId": "m", "NumCacheNodes": 3, "ApplyImmediately": True},
    "ModifyCacheParameterGroup": {"CacheParameterGroupName": "p", "ParameterNameValues": _PARAMETER},
    "ModifyCacheSubnetGroup": {"CacheSubnetGroupName": "sub", "CacheSubnetGroupDescription": "y"},
    "ModifyGlobalReplicationGroup": {
        "GlobalReplicationGroupId": GLOBAL, "ApplyImmediately": True, "GlobalReplicationGroupDescription": "y",
    },
    "ModifyReplicationGroup": {
        "ReplicationGroupId": "g", "CacheNodeType": "cache.m5.xlarge", "ApplyImmediately": True,
    },
    "ModifyReplicationGroupShardConfiguration": {
        "ReplicationGroupId": "gc", "NodeGroupCount": 3, "ApplyImmediately": True,
    },
    "ModifyServerlessCache": {"ServerlessCacheName": "sc", "Description": "y"},
    "ModifyUser": {"UserId": "u", "AccessString": "on ~x* +@read"},
    "ModifyUserGroup": {"UserGroupId": "ug", "UserIdsToAdd": ["w"]},
    "PurchaseReservedCacheNodesOffering": {"ReservedCacheNodesOfferingId": OFFERING},
    "DecreaseNodeGroupsInGlobalReplicationGroup": {
        "GlobalReplicationGroupId": WIDE, "NodeGroupCount": 1, "ApplyImmediately": True,
        "GlobalNodeGroupsToRemove": [f"{WIDE}-0002"],
    },
    "IncreaseNodeGroupsInGlobalReplicationGroup": {
        "GlobalReplicationGroupId": WIDE, "NodeGroupCount": 3, "ApplyImmediately": True,
    },
    "RebalanceSlotsInGlobalReplicationGroup": {"GlobalReplicationGroupId": WIDE, "ApplyImmediately": True},
    "RebootCacheCluster": {"CacheClusterId": "c", "CacheNodeIdsToReboot": ["0001"]},
    "RemoveTagsFromResource": {"ResourceName": G_ARN, "TagKeys": ["k"]},
    "ResetCacheParameterGroup": {"CacheParameterGroupName": "p", "ResetAllParameters": True},
    "RevokeCacheSecurityGroupIngress": {
        "CacheSecurityGroupName": "csg", "EC2SecurityGroupName": "default", "EC2SecurityGroupOwnerId": "123456789012",
    },
    "PrepareMigration": {"ServerlessCacheName": "sc", "CustomerNodeEndpointList": SOURCE},
    "StopMigration": {"ServerlessCacheName": "scm"},
    "StartMigration": {"ReplicationGroupId": "g", "CustomerNodeEndpointList": SOURCE},
    "TestFailover": {"ReplicationGroupId": "g", "NodeGroupId": "0001"},
    "TestMigration": {"ReplicationGroupId": "g", "CustomerNodeEndpointList": SOURCE},
}  # fmt: skip

RIGHT: Mapping[str, Mapping[str, Any]] = HAPPY
