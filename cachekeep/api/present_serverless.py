"""A stored serverless cache as AWS's ServerlessCache shape. Reads only what it is given."""

from __future__ import annotations

from cachekeep.api.context import Call
from cachekeep.api.present import Shape, endpoint, moment
from cachekeep.domain.cache_cluster import CacheCluster
from cachekeep.domain.ports import Store, Transaction
from cachekeep.domain.replication_group import ReplicationGroup
from cachekeep.domain.serverless import ServerlessCache, ServerlessStatus, UsageLimits
from cachekeep.plan import windows

_WITHOUT_ENDPOINTS = (ServerlessStatus.CREATING, ServerlessStatus.CREATE_FAILED)


def serverless_cache(call: Call, stored: Store | Transaction, cache: ServerlessCache) -> Shape:
    """StorageEncryptionType is `none`: nothing is sealed for a key id's sake."""
    shape: Shape = {
        "ServerlessCacheName": cache.name,
        "Description": cache.description,
        "CreateTime": moment(cache.created_at),
        "Status": cache.status.value,
        "Engine": cache.engine.value,
        "MajorEngineVersion": _major(cache),
        "FullEngineVersion": str(cache.version),
        "CacheUsageLimits": _limits(cache.limits),
        "KmsKeyId": cache.kms_key_id,
        "StorageEncryptionType": "none",
        "SecurityGroupIds": list(cache.security_group_ids),
        "ARN": call.arn("serverlesscache", cache.name),
        "UserGroupId": cache.user_group_id,
        "SubnetIds": list(cache.subnet_ids),
        "NetworkType": "ipv4",
        "ConnectionType": "vpc",
    }
    if cache.engine.speaks_resp:
        shape |= {
            "SnapshotRetentionLimit": cache.snapshot_retention_days,
            "DailySnapshotTime": _daily_time(cache),
        }
    if cache.status not in _WITHOUT_ENDPOINTS:
        shape |= _endpoints(stored, cache)
    group = stored.get(ReplicationGroup, cache.region, cache.backing_id)
    if group is not None and group.migration is not None:
        shape["Migration"] = {"Status": group.migration.told, "CutoverMode": "manual"}
        if "Endpoint" in shape:
            shape["Migration"]["MigrationEndpoint"] = shape["Endpoint"]
    return shape


def _daily_time(cache: ServerlessCache) -> str | None:
    """As given, or when daily snapshots begin for which no time was given."""
    if cache.daily_snapshot_time is None and cache.snapshot_retention_days:
        return windows.daily_window(cache.region, cache.name, None).partition("-")[0]
    return cache.daily_snapshot_time


def _major(cache: ServerlessCache) -> str:
    """`8`; of Memcached, which counts so, `1.6`."""
    return str(cache.version.major) if cache.engine.speaks_resp else cache.version.short


def _limits(limits: UsageLimits) -> Shape:
    """What was given, and nothing that was not."""
    storage = {"Maximum": limits.storage_most_gb, "Minimum": limits.storage_least_gb}
    ecpu = {"Maximum": limits.ecpu_most, "Minimum": limits.ecpu_least}
    shape: Shape = {}
    if any(value is not None for value in storage.values()):
        shape["DataStorage"] = {**storage, "Unit": "GB"}
    if any(value is not None for value in ecpu.values()):
        shape["ECPUPerSecond"] = ecpu
    return shape


def _endpoints(stored: Store | Transaction, cache: ServerlessCache) -> Shape:
    """The group's own, or where addresses cannot move the address of the first primary."""
    if not cache.engine.speaks_resp:
        cluster = stored.get(CacheCluster, cache.region, cache.backing_id)
        at = endpoint(cluster.nodes[0].address) if cluster is not None else None
        return {"Endpoint": at, "ReaderEndpoint": at} if at else {}
    group = stored.get(ReplicationGroup, cache.region, cache.backing_id)
    primary = stored.get(CacheCluster, cache.region, group.primary_id) if group is not None else None
    if group is None or primary is None:
        return {}
    first = group.configuration_endpoint or primary.nodes[0].published or primary.nodes[0].address
    return {"Endpoint": endpoint(first), "ReaderEndpoint": endpoint(group.reader_endpoint or first)}
