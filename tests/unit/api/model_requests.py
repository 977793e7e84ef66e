"""Requests made from AWS's model of ElastiCache: of the right shape and mostly of the right types, else anything.

Not a test. Used by test_model_walk. The same seed makes the same requests.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import urlencode

# What a text may be, beside the model's own words: ids that are there or are not, edges, and what no one should send.
_WORDS = (
    "g", "c", "g-001", "g-0001-001", "u", "ug", "s", "p", "sn", "nobody", "default", "0001", "0002", "x" * 40,
    "x" * 256,
    "valkey", "redis", "memcached", "9.1", "8.1", "7.0", "1.6.18", "99.9", "9.x", "valkey9", "default.valkey9",
    "default.valkey9.cluster.on", "cache.t4g.micro", "cache.m7g.large", "cache.none", "us-east-1a", "eu-west-1a",
    "subnet-1", "sg-1", "sun:05:00-sun:06:00", "05:00-06:00", "on ~* +@all", "off -@all", "timeout", "20",
    "maxmemory-policy", "arn:aws:elasticache:eu-west-1:000000000000:replicationgroup:g",
    "arn:aws:elasticache:us-east-1:000000000000:cluster:c", "arn:aws:sns:eu-west-1:000000000000:t", "arn:", "file:///x",
    "../x", "a b", "<a>", "'; --", "é", "٣", "\n", " ", "0-8191", "16384", "password-of-sixteen", "*" * 16, "127.0.0.1",
    "10.0.0.0/8", "all", "user", "snapshot",
)  # fmt: skip
_NUMBERS = (0, 1, 2, 3, 5, 6, 20, 100, 101, -1, 6379, 65535, 65536, 2**31 - 1)
_DEEPEST = 6


class Requests:
    """Makes bodies of the Query protocol. model: botocore's ServiceModel."""

    def __init__(self, model: Any, seed: int) -> None:
        self._model = model
        self._random = random.Random(seed)

    def body(self, operation: str) -> tuple[bytes, dict[str, str]]:
        """The body of one request, and its fields."""
        shape = self._model.operation_model(operation).input_shape
        fields = {"Action": operation, "Version": self._model.api_version}
        fields |= dict(self._structure(shape, "", _DEEPEST))
        return urlencode(fields).encode(), fields

    def choice(self, operations: list[str]) -> str:
        return self._random.choice(operations)

    def _structure(self, shape: Any, path: str, deep: int) -> Iterator[tuple[str, str]]:
        # A structure within a list without a single member would not be sent at all.
        density = self._random.choice((0.0, 0.05, 0.3)) if deep == _DEEPEST else 0.7
        for name, member in shape.members.items():
            wanted = 0.97 if name in shape.required_members else density
            if self._random.random() < wanted:
                yield from self._value(name, member, f"{path}.{name}" if path else name, deep - 1)

    def _value(self, name: str, shape: Any, path: str, deep: int) -> Iterator[tuple[str, str]]:
        match shape.type_name:
            case "structure" if deep > 0:
                yield from self._structure(shape, path, deep)
            case "list" if deep > 0:
                item = shape.member.serialization.get("name", "member")
                for number in range(1, self._random.choice((1, 1, 1, 2, 3)) + 1):
                    yield from self._value(name, shape.member, f"{path}.{item}.{number}", deep - 1)
            case other:
                yield path, self._scalar(name, shape.metadata, other)

    def _scalar(self, name: str, metadata: Mapping[str, Any], kind: str) -> str:
        if self._random.random() < 0.02:
            return self._random.choice(_WORDS)
        match kind:
            case "boolean":
                return self._random.choice(self._likely(name) or ("true", "false"))
            case "integer" | "long" | "float" | "double":
                return str(self._random.choice(self._likely(name) or _NUMBERS))
            case "timestamp":
                return self._random.choice(("2026-01-01T00:00:00Z", "2036-01-01T00:00:00Z", "1970-01-01T00:00:00Z"))
            case _:
                return self._random.choice(self._likely(name) or metadata.get("enum") or _WORDS)

    def _likely(self, name: str) -> tuple[str, ...] | None:
        """Mostly what makes sense, the names of resources that the walk uses among it, so that requests get through."""
        return _LIKELY.get(name) if self._random.random() < 0.85 else None


_ARN = "arn:aws:elasticache:eu-west-1:000000000000"
# By member; a list's items go by the list's name.
_LIKELY = {
    "ReplicationGroupId": ("g", "g1", "g2"), "CacheClusterId": ("c", "c1", "m", "g-001"),
    "PrimaryClusterId": ("c", "g-002"),
    "Engine": ("valkey", "redis", "memcached"), "EngineVersion": ("9.1", "8.1", "7.0", "1.6.18"),
    "CacheParameterGroupName": ("pg", "pg1"), "CacheSubnetGroupName": ("sub", "sub1"),
    "CacheParameterGroupFamily": ("valkey9", "valkey8"), "CacheNodeType": ("cache.t4g.micro", "cache.t4g.small"),
    "UserId": ("u", "u2", "default"), "UserName": ("u", "default"), "UserGroupId": ("ug",), "UserIds": ("u", "default"),
    "UserGroupIds": ("ug",), "SnapshotName": ("sn",), "SourceSnapshotName": ("sn",), "TargetSnapshotName": ("sn2",),
    "ServerlessCacheName": ("sc",), "ServerlessCacheSnapshotName": ("ss",), "FinalSnapshotName": ("ss", "ss2"),
    "SourceServerlessCacheSnapshotName": ("ss",), "TargetServerlessCacheSnapshotName": ("ss2", "ss3"),
    "SnapshotArnsToRestore": (f"{_ARN}:serverlesscachesnapshot:ss",), "NodeGroupId": ("0001", "0002"),
    "GlobalReplicationGroupIdSuffix": ("gd",), "CacheSecurityGroupName": ("csg",), "AccessString": ("on ~* +@all",),
    "Passwords": ("a-password-of-20-char",), "AuthToken": ("a-token-of-20-chars!",), "ResourceName": (
        f"{_ARN}:replicationgroup:g", f"{_ARN}:cluster:c", f"{_ARN}:user:u", f"{_ARN}:parametergroup:pg",
    ),
    "Port": ("6379", "7000"), "NumCacheNodes": ("1", "2", "3"), "NumCacheClusters": ("1", "2", "3"),
    "NumNodeGroups": ("1", "2"), "ReplicasPerNodeGroup": ("0", "1", "2"), "NewReplicaCount": ("1", "2", "3"),
    "ReplicaCount": ("1", "2"), "NodeGroupCount": ("1", "2", "3"), "MaxRecords": ("20", "50", "100"),
    "MaxResults": ("20", "50"), "Marker": ("",), "NextToken": ("",), "PreferredMaintenanceWindow": (
        "sun:05:00-sun:06:00",
    ),
    "SnapshotWindow": ("05:00-06:00",), "PreferredAvailabilityZone": ("eu-west-1a",), "AZMode": ("cross-az",),
    "PreferredAvailabilityZones": ("eu-west-1a", "eu-west-1b"), "PreferredCacheClusterAZs": ("eu-west-1a",),
    "CacheNodeIdsToReboot": ("0001",), "CacheNodeIdsToRemove": ("0002",), "ReplicasToRemove": ("g-002", "g-003"),
    "SubnetIds": ("subnet-1", "subnet-2"), "Key": ("k", "k2"), "TagKeys": ("k",), "ApplyImmediately": ("true",),
    "ParameterName": ("timeout", "maxmemory-policy"), "ParameterValue": ("30", "noeviction"), "Duration": ("60",),
    "SourceType": ("replication-group", "cache-cluster"), "SnapshotSource": ("manual", "all"), "S3BucketName": ("b",),
    "ReservedCacheNodesOfferingId": ("x",), "CacheNodeCount": ("1",), "ServiceUpdateName": ("x",),
    "ReplicationGroupIds": ("g", "g1"), "CacheClusterIds": ("c",), "EC2SecurityGroupName": ("default",),
    "EC2SecurityGroupOwnerId": ("123456789012",), "Type": ("password",), "MajorEngineVersion": ("9",),
    "Address": ("127.0.0.1",), "Host": ("10.0.0.1",), "Unit": ("GB",), "Maximum": ("5000",),
    "SnapshotRetentionLimit": ("0", "1"), "Slots": ("0-8191",),
    "CacheSubnetGroupDescription": ("x",), "ReplicationGroupDescription": ("x",), "Description": ("x",),
}  # fmt: skip
