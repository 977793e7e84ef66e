"""A stored snapshot as AWS's Snapshot shape, or as ServerlessCacheSnapshot. Names: botocore elasticache 2015-02-02."""

from __future__ import annotations

from cachekeep.api.context import Call
from cachekeep.api.present import VPC_ID, Shape, moment
from cachekeep.domain.replication_group import ClusterMode, ReplicationGroup
from cachekeep.domain.slots import slots_text
from cachekeep.domain.snapshot import ShardSnapshot, Snapshot, SnapshotSource, SnapshotStatus
from cachekeep.plan.snapshots import ends_at


def snapshot_shape(call: Call, snapshot: Snapshot, *, shards: bool) -> Shape:
    """Snapshot. shards: with the configuration of each node group."""
    upkeep = snapshot.upkeep
    shape: Shape = {
        "SnapshotName": snapshot.name,
        "SnapshotStatus": snapshot.status.value,
        "SnapshotSource": snapshot.source.value,
        "CacheNodeType": snapshot.node_type,
        "Engine": snapshot.engine.value,
        "EngineVersion": str(snapshot.version),
        "NumCacheNodes": 1,
        "CacheClusterCreateTime": moment(snapshot.source_created_at),
        "PreferredMaintenanceWindow": upkeep.maintenance_window,
        "Port": snapshot.port,
        "CacheParameterGroupName": snapshot.parameter_group,
        "CacheSubnetGroupName": snapshot.subnet_group,
        "VpcId": VPC_ID,
        "AutoMinorVersionUpgrade": upkeep.auto_minor_version_upgrade,
        "SnapshotRetentionLimit": upkeep.snapshot_retention,
        "SnapshotWindow": upkeep.snapshot_window,
        "NodeSnapshots": [_node(snapshot, shard, config=shards) for shard in snapshot.shards],
        "ARN": call.arn("snapshot", snapshot.name),
        "DataTiering": "disabled",
    }
    if upkeep.notification_topic is not None:
        shape["TopicArn"] = upkeep.notification_topic
    if snapshot.cluster_id is not None:
        shape |= {"CacheClusterId": snapshot.cluster_id, "PreferredAvailabilityZone": snapshot.zone}
    else:
        shape |= {
            "ReplicationGroupId": snapshot.group_id,
            "ReplicationGroupDescription": snapshot.description,
            "NumNodeGroups": len(snapshot.shards),
            "AutomaticFailover": "enabled" if snapshot.automatic_failover else "disabled",
        }
    return shape


def serverless_shape(call: Call, snapshot: Snapshot, group: ReplicationGroup | None) -> Shape:
    """ServerlessCacheSnapshot. group: behind the cache that it is of, None when that is gone."""
    taken = max((shard.taken_at or 0.0 for shard in snapshot.shards), default=0.0)
    exporting = snapshot.status is SnapshotStatus.COPYING and snapshot.export
    shape: Shape = {
        "ServerlessCacheSnapshotName": snapshot.told_name,
        "ARN": call.arn("serverlesscachesnapshot", snapshot.told_name),
        "SnapshotType": snapshot.source.value,
        "Status": "exporting" if exporting else snapshot.status.value,
        "CreateTime": moment(taken or snapshot.requested_at),
        "BytesUsedForCache": str(sum(shard.used_bytes for shard in snapshot.shards)),
        "ServerlessCacheConfiguration": {
            "ServerlessCacheName": snapshot.told_source,
            "Engine": snapshot.engine.value,
            "MajorEngineVersion": str(snapshot.version.major),
        },
    }
    if snapshot.source is SnapshotSource.AUTOMATED:
        shape["ExpiryTime"] = moment(ends_at(snapshot, group))
    return shape


def _node(snapshot: Snapshot, shard: ShardSnapshot, *, config: bool) -> Shape:
    shape: Shape = {
        "CacheClusterId": shard.cluster_id,
        "CacheNodeId": "0001",
        "CacheNodeCreateTime": moment(shard.node_created_at),
    }
    if shard.taken_at is not None:
        shape["SnapshotCreateTime"] = moment(shard.taken_at)
        shape["CacheSize"] = f"{max(1, (shard.used_bytes or shard.bytes) >> 20)} MB"
    if snapshot.group_id is not None:
        shape["NodeGroupId"] = shard.id
    if config:
        shape["NodeGroupConfiguration"] = {
            "NodeGroupId": shard.id,
            "ReplicaCount": max(len(shard.zones) - 1, 0),
            "PrimaryAvailabilityZone": shard.zones[0] if shard.zones else snapshot.zone,
            "ReplicaAvailabilityZones": list(shard.zones[1:]),
            **({"Slots": slots_text(shard.slots)} if snapshot.cluster_mode is not ClusterMode.DISABLED else {}),
        }
    return shape
