"""Whatever is asked for wrongly is refused with AWS's code, changes nothing, and never breaks the service."""

from __future__ import annotations

import re
from typing import Any
from urllib.parse import urlencode

import pytest

from cachekeep.api.operations import OPERATIONS
from cachekeep.domain.engine import Engine
from cachekeep.host.installs import MachineCatalogue

from .calm import CLUSTER_STATE, COMBINATION, VALUE, refused
from .conftest import Service
from .test_authentication import Reply, send, signed_request
from .test_refusals import example

Created = list[tuple[str, str]]


def form(service: Service, operation: str, fields: dict[str, str]) -> Reply:
    """Send exactly these fields, whatever a client library would think of them."""
    request = signed_request(service, _encode({"Action": operation, "Version": "2015-02-02", **fields}))
    return send(service, request)


def _encode(fields: dict[str, str]) -> bytes:
    return urlencode(fields).encode()


def _flat(shape: Any, value: Any, path: str) -> dict[str, str]:
    """The fields of a value, as the Query protocol names them."""
    match shape.type_name:
        case "structure":
            fields: dict[str, str] = {}
            for name, item in value.items():
                fields |= _flat(shape.members[name], item, f"{path}.{name}" if path else name)
            return fields
        case "list":
            item_name = shape.member.serialization.get("name", "member")
            fields = {}
            for number, item in enumerate(value, 1):
                fields |= _flat(shape.member, item, f"{path}.{item_name}.{number}")
            return fields
        case _:
            return {path: str(value)}


def _without_member(fields: dict[str, str], member: str) -> dict[str, str]:
    return {name: value for name, value in fields.items() if name != member and not name.startswith(f"{member}.")}


WRONG_TYPES = {
    "integer": ["many", "", "1.5", "1e3", "99999999999999999999", "0x10", "٣"],
    "boolean": ["maybe", "1", ""],
    "timestamp": ["yesterday", "2026-02-30T00:00:00Z", "-1"],
    "list": ["x"],
    "structure": ["x"],
}


@pytest.mark.parametrize("operation", sorted(OPERATIONS))
def test_requests_that_the_model_does_not_allow(unchanged: Service, unchecked: Any, operation: str) -> None:
    """Each required field left out, each enum and each type wrong."""
    shape = unchecked.meta.service_model.operation_model(operation).input_shape
    good = _flat(shape, example(shape) if shape.required_members else {}, "")
    asked: list[tuple[dict[str, str], set[str]]] = [
        (_without_member(good, member), {"MissingParameter"}) for member in shape.required_members
    ]
    for name, member in shape.members.items():
        rest = _without_member(good, name)
        wrong = WRONG_TYPES.get(member.type_name, [])
        if member.type_name == "string":
            asked.append(({**rest, f"{name}.Part": "x"}, {VALUE}))
            wrong = ["no such word"] if member.metadata.get("enum") else []
        asked += [({**rest, name: text}, {VALUE}) for text in wrong]
        if member.type_name == "list":
            item = member.member.serialization.get("name", "member")
            asked += [({**rest, f"{name}.{item}.{n}": "x"}, {VALUE}) for n in ("0", "-1", "many", "1001")]
    for fields, codes in asked:
        reply = form(unchanged, operation, fields)
        assert reply.status == 400, (fields, reply.text)
        assert reply.code in codes, (fields, reply.text)


NOBODY = [
    ("DescribeReplicationGroups", {"ReplicationGroupId": "nobody"}, "ReplicationGroupNotFoundFault"),
    ("ModifyReplicationGroup", {"ReplicationGroupId": "nobody"}, "ReplicationGroupNotFoundFault"),
    ("DeleteReplicationGroup", {"ReplicationGroupId": "nobody"}, "ReplicationGroupNotFoundFault"),
    ("CreateCacheCluster", {"CacheClusterId": "new", "ReplicationGroupId": "nobody"}, "ReplicationGroupNotFoundFault"),
    ("ListAllowedNodeTypeModifications", {"ReplicationGroupId": "nobody"}, "ReplicationGroupNotFoundFault"),
    ("TestFailover", {"ReplicationGroupId": "nobody", "NodeGroupId": "0001"}, "ReplicationGroupNotFoundFault"),
    ("TestFailover", {"ReplicationGroupId": "grp", "NodeGroupId": "0002"}, "NodeGroupNotFoundFault"),
    (
        "IncreaseReplicaCount",
        {"ReplicationGroupId": "nobody", "ApplyImmediately": True},
        "ReplicationGroupNotFoundFault",
    ),
    (
        "DecreaseReplicaCount",
        {"ReplicationGroupId": "nobody", "ApplyImmediately": True},
        "ReplicationGroupNotFoundFault",
    ),
    (
        "ModifyReplicationGroupShardConfiguration",
        {"ReplicationGroupId": "nobody", "NodeGroupCount": 2, "ApplyImmediately": True},
        "ReplicationGroupNotFoundFault",
    ),
    (
        "CreateReplicationGroup",
        {"ReplicationGroupId": "new", "ReplicationGroupDescription": "x", "PrimaryClusterId": "nobody"},
        "CacheClusterNotFound",
    ),
    ("ModifyReplicationGroup", {"ReplicationGroupId": "grp", "PrimaryClusterId": "nobody"}, "CacheClusterNotFound"),
    ("ListAllowedNodeTypeModifications", {"CacheClusterId": "nobody"}, "CacheClusterNotFound"),
    ("DescribeCacheClusters", {"CacheClusterId": "nobody"}, "CacheClusterNotFound"),
    ("DescribeCacheClusters", {"CacheClusterId": "../one"}, "CacheClusterNotFound"),
    ("ModifyCacheCluster", {"CacheClusterId": "nobody"}, "CacheClusterNotFound"),
    ("DeleteCacheCluster", {"CacheClusterId": "nobody"}, "CacheClusterNotFound"),
    ("DeleteCacheCluster", {"CacheClusterId": "one' OR '1'='1"}, "CacheClusterNotFound"),
    ("RebootCacheCluster", {"CacheClusterId": "nobody", "CacheNodeIdsToReboot": ["0001"]}, "CacheClusterNotFound"),
    ("DescribeCacheParameterGroups", {"CacheParameterGroupName": "nobody"}, "CacheParameterGroupNotFound"),
    ("DescribeCacheParameters", {"CacheParameterGroupName": "nobody"}, "CacheParameterGroupNotFound"),
    ("DeleteCacheParameterGroup", {"CacheParameterGroupName": "nobody"}, "CacheParameterGroupNotFound"),
    (
        "ResetCacheParameterGroup",
        {"CacheParameterGroupName": "nobody", "ResetAllParameters": True},
        "CacheParameterGroupNotFound",
    ),
    (
        "ModifyCacheParameterGroup",
        {"CacheParameterGroupName": "nobody", "ParameterNameValues": [{"ParameterName": "timeout"}]},
        "CacheParameterGroupNotFound",
    ),
    ("DescribeCacheSubnetGroups", {"CacheSubnetGroupName": "nobody"}, "CacheSubnetGroupNotFoundFault"),
    ("ModifyCacheSubnetGroup", {"CacheSubnetGroupName": "nobody"}, "CacheSubnetGroupNotFoundFault"),
    ("DeleteCacheSubnetGroup", {"CacheSubnetGroupName": "nobody"}, "CacheSubnetGroupNotFoundFault"),
    ("DescribeEngineDefaultParameters", {"CacheParameterGroupFamily": "nobody"}, VALUE),
    ("DescribeCacheEngineVersions", {"Engine": "nobody"}, VALUE),
    ("DescribeCacheEngineVersions", {"EngineVersion": "new"}, VALUE),
]


@pytest.mark.parametrize(("operation", "params", "code"), NOBODY)
def test_what_is_not_there(
    unchanged: Service, unchecked: Any, operation: str, params: dict[str, Any], code: str
) -> None:
    assert refused(unchecked, operation, **params)[0] == code


BAD_IDS = [
    "",
    "1abc",
    "-abc",
    "a--b",
    "abc-",
    "äbc",
    "abć",
    "a.b",
    "a_b",
    "a b",
    "a\0b",
    "abc\n",
    "a\tb",
    "../x",
    "a/b",
    "/etc/passwd",
    "a" * 300,
    "a'; DROP TABLE resource; --",
    "٣abc",
    "<a>",
]


@pytest.mark.parametrize("text", BAD_IDS)
def test_identifiers(unchanged: Service, unchecked: Any, text: str) -> None:
    codes = {"MalformedQueryString"} if "\0" in text else {VALUE}
    asked: list[tuple[str, dict[str, Any]]] = [
        ("CreateReplicationGroup", {"ReplicationGroupId": text, "ReplicationGroupDescription": "x"}),
        ("CreateCacheCluster", {"CacheClusterId": text, "Engine": "valkey"}),
        ("CreateCacheCluster", {"CacheClusterId": text, "ReplicationGroupId": "grp"}),
        (
            "CreateCacheParameterGroup",
            {"CacheParameterGroupName": text, "CacheParameterGroupFamily": "valkey9", "Description": "x"},
        ),
        (
            "CreateCacheSubnetGroup",
            {"CacheSubnetGroupName": text, "CacheSubnetGroupDescription": "x", "SubnetIds": ["subnet-1"]},
        ),
    ]
    for operation, params in asked:
        assert refused(unchecked, operation, **params)[0] in codes


def test_the_longest_identifiers(unchanged: Service, unchecked: Any) -> None:
    ec = unchecked
    group = {"ReplicationGroupDescription": "x", "CacheNodeType": "none"}
    _, message = refused(ec, "CreateReplicationGroup", ReplicationGroupId="a" * 41, **group)
    assert "40" in message
    assert "none" in refused(ec, "CreateReplicationGroup", ReplicationGroupId="a" * 40, **group)[1]
    cluster = {"Engine": "valkey", "CacheNodeType": "none"}
    _, message = refused(ec, "CreateCacheCluster", CacheClusterId="a" * 51, **cluster)
    assert "50" in message
    assert "none" in refused(ec, "CreateCacheCluster", CacheClusterId="a" * 50, **cluster)[1]


def group(**params: Any) -> tuple[str, dict[str, Any]]:
    return "CreateReplicationGroup", {"ReplicationGroupId": "new", "ReplicationGroupDescription": "x", **params}


def cluster(**params: Any) -> tuple[str, dict[str, Any]]:
    return "CreateCacheCluster", {"CacheClusterId": "new", "Engine": "valkey", **params}


def change_group(**params: Any) -> tuple[str, dict[str, Any]]:
    return "ModifyReplicationGroup", {"ReplicationGroupId": "grp", "ApplyImmediately": True, **params}


def change(name: str, **params: Any) -> tuple[str, dict[str, Any]]:
    return "ModifyCacheCluster", {"CacheClusterId": name, "ApplyImmediately": True, **params}


def values(count: int = 1, **values: str) -> tuple[str, dict[str, Any]]:
    given = values or {f"timeout{n}": "20" for n in range(count)}
    changes = [{"ParameterName": n.replace("_", "-"), "ParameterValue": v} for n, v in given.items()]
    return "ModifyCacheParameterGroup", {"CacheParameterGroupName": "own", "ParameterNameValues": changes}


def arn(kind: str, name: str, region: str = "us-east-1", account: str = "000000000000") -> str:
    return f"arn:aws:elasticache:{region}:{account}:{kind}:{name}"


def tagged(resource: str, *tags: tuple[str, str]) -> tuple[str, dict[str, Any]]:
    return "AddTagsToResource", {"ResourceName": resource, "Tags": [{"Key": k, "Value": v} for k, v in tags]}


CAPACITY = "InsufficientCacheClusterCapacity"
# An operation and its parameters, the code, and words of the message (a regular expression).
Row = tuple[tuple[str, dict[str, Any]], str, str]
TABLE: list[Row] = [
    # What is there already.
    (group(ReplicationGroupId="grp"), "ReplicationGroupAlreadyExists", "grp"),
    (group(ReplicationGroupId="GRP"), "ReplicationGroupAlreadyExists", "grp"),
    (cluster(CacheClusterId="one"), "CacheClusterAlreadyExists", "one"),
    (cluster(CacheClusterId="ONE"), "CacheClusterAlreadyExists", "one"),
    (cluster(CacheClusterId="grp-001"), "CacheClusterAlreadyExists", "grp-001"),
    (group(ReplicationGroupId="two"), VALUE, "two-001 already exists"),
    # The name is looked at before what is asked for under it.
    (group(ReplicationGroupId="grp", CacheNodeType="none"), "ReplicationGroupAlreadyExists", "grp"),
    # Node types and sizes.
    (group(CacheNodeType="cache.none.large"), VALUE, "Invalid Cache Node Type: cache.none.large"),
    (cluster(CacheNodeType="m5.large"), VALUE, "Invalid Cache Node Type"),
    (group(NumCacheClusters=0), VALUE, "between 1 and 6"),
    (group(NumCacheClusters=7), VALUE, "between 1 and 6"),
    (group(ReplicasPerNodeGroup=6), VALUE, "between 0 and 5"),
    (group(ReplicasPerNodeGroup=-1), VALUE, "between 0 and 5"),
    (group(NumCacheClusters=2, ReplicasPerNodeGroup=1), COMBINATION, "not both"),
    (group(NumNodeGroups=0), VALUE, "at least 1"),
    (group(CacheNodeType="cache.r7g.16xlarge", NumCacheClusters=6), CAPACITY, "Choose a smaller node type"),
    (cluster(NumCacheNodes=2), VALUE, "must be 1"),
    (cluster(NumCacheNodes=0), VALUE, "must be 1"),
    (cluster(Engine="memcached", NumCacheNodes=41), "NodeQuotaForClusterExceeded", "at most 40"),
    (cluster(Engine="memcached", NumCacheNodes=0), VALUE, "at least 1"),
    # Engines and versions.
    (cluster(Engine="postgres"), VALUE, "Unrecognized engine name"),
    (group(Engine="memcached"), COMBINATION, "valkey or redis"),
    (cluster(EngineVersion="99.9"), COMBINATION, "Cannot find version 99.9 for valkey; available on this machine: 9"),
    (cluster(Engine="redis", EngineVersion="9.1"), COMBINATION, "Cannot find version 9.1 for redis"),
    (group(EngineVersion="6.2"), COMBINATION, "Cannot find version 6.2 for valkey"),
    (cluster(EngineVersion="latest"), VALUE, "Invalid engine version"),
    (cluster(EngineVersion="9..1"), VALUE, "Invalid engine version"),
    (("CreateCacheCluster", {"CacheClusterId": "new"}), VALUE, "Engine"),
    # Failover.
    (group(NumCacheClusters=1, AutomaticFailoverEnabled=True), COMBINATION, "at least 2 cache clusters"),
    (group(AutomaticFailoverEnabled=True), COMBINATION, "at least 2 cache clusters"),
    (group(NumCacheClusters=2, MultiAZEnabled=True), COMBINATION, "Multi-AZ"),
    (change_group(AutomaticFailoverEnabled=False, MultiAZEnabled=True), COMBINATION, "Multi-AZ"),
    # Ports.
    (cluster(Port=0), VALUE, "between 1 and 65535"),
    (cluster(Port=65536), VALUE, "between 1 and 65535"),
    (group(Port=-1), VALUE, "between 1 and 65535"),
    # Windows.
    (cluster(PreferredMaintenanceWindow="sunday"), VALUE, "ddd:hh24:mi-ddd:hh24:mi"),
    (cluster(PreferredMaintenanceWindow="sun:25:00-sun:26:00"), VALUE, "hours are 00-23"),
    (cluster(PreferredMaintenanceWindow="sun:05:00-sun:05:59"), VALUE, "at least 60 minutes"),
    (cluster(PreferredMaintenanceWindow="sun:05:00-sun:05:00"), VALUE, "at least 60 minutes"),
    (cluster(PreferredMaintenanceWindow="sun:05:00-tue:05:00"), VALUE, "at most 24 hours"),
    (cluster(PreferredMaintenanceWindow="sun:٠٥:00-sun:06:00"), VALUE, "ddd:hh24:mi-ddd:hh24:mi"),
    (cluster(PreferredMaintenanceWindow="sun:05:00-sun:06:00\n"), VALUE, "ddd:hh24:mi-ddd:hh24:mi"),
    (group(SnapshotWindow="05:00-05:30"), VALUE, "at least 60 minutes"),
    (group(SnapshotWindow="5-6"), VALUE, "hh24:mi-hh24:mi"),
    (group(SnapshotWindow="05:00-06:60"), VALUE, "minutes 00-59"),
    (change_group(PreferredMaintenanceWindow="never"), VALUE, "ddd:hh24:mi-ddd:hh24:mi"),
    (change("one", SnapshotWindow="05:00-05:30"), VALUE, "at least 60 minutes"),
    # Zones.
    (cluster(PreferredAvailabilityZone="eu-west-1a"), VALUE, "eu-west-1a is not a valid availability zone"),
    (cluster(PreferredAvailabilityZone="us-east-1"), VALUE, "not a valid availability zone"),
    (group(NumCacheClusters=2, PreferredCacheClusterAZs=["us-east-1a"]), COMBINATION, "1 zones for 2"),
    (group(NumCacheClusters=1, PreferredCacheClusterAZs=["../x"]), VALUE, "not a valid availability zone"),
    (cluster(AZMode="cross-az"), COMBINATION, "AZMode is only supported for Memcached"),
    # Parameter, subnet and security groups.
    (cluster(CacheParameterGroupName="nobody"), "CacheParameterGroupNotFound", "nobody"),
    (cluster(CacheParameterGroupName="other"), COMBINATION, "Expected a parameter group of family valkey9"),
    (group(CacheParameterGroupName="default.redis7"), COMBINATION, "but found one of family redis7"),
    (group(CacheSubnetGroupName="nobody"), "CacheSubnetGroupNotFoundFault", "nobody"),
    (cluster(CacheSubnetGroupName="nobody"), "CacheSubnetGroupNotFoundFault", "nobody"),
    (cluster(CacheSecurityGroupNames=["default"]), VALUE, "Use of cache security groups is not permitted"),
    (change_group(CacheSecurityGroupNames=["default"]), VALUE, "Use of cache security groups is not permitted"),
    (change_group(CacheParameterGroupName="nobody"), "CacheParameterGroupNotFound", "nobody"),
    (change_group(CacheParameterGroupName="other"), COMBINATION, "Expected a parameter group of family valkey9"),
    (change("one", CacheParameterGroupName="default.valkey9.cluster.on"), COMBINATION, "cluster-enabled yes"),
    (change_group(CacheParameterGroupName="default.valkey9.cluster.on"), COMBINATION, "cluster-enabled yes"),
    (cluster(CacheParameterGroupName="default.valkey9.cluster.on"), COMBINATION, "cluster-enabled yes"),
    (change_group(CacheParameterGroupName="default.valkey9"), COMBINATION, "gives 16 databases and the cache has 20"),
    # What this version does not have is never accepted and then left out.
    (group(TransitEncryptionEnabled=True), COMBINATION, "In-transit encryption needs a Valkey that was built with TLS"),
    (group(AtRestEncryptionEnabled=True), COMBINATION, "needs a state directory on an encrypted volume"),
    (group(AuthToken="a-password-of-16-characters"), COMBINATION, "need TransitEncryptionEnabled to be true"),
    (group(AuthToken=""), COMBINATION, "need TransitEncryptionEnabled to be true"),
    (group(UserGroupIds=["users"]), COMBINATION, "need TransitEncryptionEnabled to be true"),
    (group(KmsKeyId="k"), COMBINATION, "only where AtRestEncryptionEnabled is true"),
    (group(NodeGroupConfiguration=[{"PrimaryOutpostArn": "x"}]), COMBINATION, "outpost in NodeGroupConfiguration"),
    (group(DataTieringEnabled=True), COMBINATION, "only supported for replication groups using the r6gd"),
    (group(NetworkType="ipv6"), COMBINATION, "subnet group default have no IPv6"),
    (group(NetworkType="dual_stack"), COMBINATION, "NetworkType dual_stack: the subnets"),
    (change_group(IpDiscovery="ipv6"), COMBINATION, "IpDiscovery ipv6: the subnets"),
    (cluster(OutpostMode="single-outpost"), COMBINATION, "there are no Outposts in this account"),
    (cluster(PreferredOutpostArns=["arn:aws:outposts:x"]), COMBINATION, "there are no Outposts in this account"),
    (group(Durability="sync"), COMBINATION, "acknowledged from memory"),
    (group(KmsKeyId="alias/mine"), COMBINATION, "only where AtRestEncryptionEnabled is true"),
    (cluster(AuthToken="a-password-of-16-characters"), COMBINATION, "need TransitEncryptionEnabled to be true"),
    (cluster(SnapshotArns=["arn:aws:s3:::b/x.rdb"]), VALUE, "bucket b does not exist"),
    (change_group(TransitEncryptionEnabled=True), COMBINATION, "needs TransitEncryptionMode preferred first"),
    # Engines and versions to change to.
    (change_group(Engine="redis", EngineVersion="9.1"), COMBINATION, "Cannot find version 9.1 for redis"),
    (change_group(Engine="memcached"), COMBINATION, "from valkey to memcached"),
    (change("one", Engine="memcached"), COMBINATION, "from valkey to memcached"),
    (change_group(EngineVersion="99.9"), COMBINATION, "Cannot find version"),
    (change("one", EngineVersion="6.2"), COMBINATION, "Cannot find version"),
    (change("one", EngineVersion="new"), VALUE, "Invalid engine version"),
    (cluster(ReplicationGroupId="grp", EngineVersion="99.9"), COMBINATION, "Cannot find version"),
    # Snapshots.
    (group(SnapshotName="nobody"), VALUE, "Snapshot nobody not found"),
    (group(SnapshotName="s", SnapshotArns=["arn:aws:s3:::b/x.rdb"]), COMBINATION, "either SnapshotName or"),
    (group(SnapshotArns=["arn:aws:s3:::b/x.rdb"]), VALUE, "bucket b does not exist"),
    (group(SnapshotArns=["arn:aws:s3:::b"]), VALUE, "Invalid SnapshotArn"),
    (group(SnapshotArns=["arn:aws:s3:::b/x,y.rdb"]), VALUE, "without a comma"),
    (cluster(SnapshotArns=["arn:aws:s3:::b/x", "arn:aws:s3:::b/y"]), COMBINATION, "one RDB file"),
    (group(SnapshotRetentionLimit=36), VALUE, "between 0 and 35"),
    (group(SnapshotRetentionLimit=-1), VALUE, "between 0 and 35"),
    (cluster(Engine="memcached", SnapshotRetentionLimit=1), COMBINATION, "not supported for the engine memcached"),
    (change_group(SnapshotRetentionLimit=99), VALUE, "between 0 and 35"),
    (change_group(SnapshottingClusterId="nobody"), "CacheClusterNotFound", "nobody"),
    (change_group(SnapshottingClusterId="one"), VALUE, "not a member of replication group grp"),
    (("CreateSnapshot", {"SnapshotName": "s"}), COMBINATION, "Exactly one"),
    (("CreateSnapshot", {"SnapshotName": "-", "CacheClusterId": "one"}), VALUE, "not a valid identifier"),
    (("CreateSnapshot", {"SnapshotName": "s", "CacheClusterId": "nobody"}), "CacheClusterNotFound", "nobody"),
    (("CreateSnapshot", {"SnapshotName": "s", "CacheClusterId": "one", "KmsKeyId": "k"}), COMBINATION, "KmsKeyId"),
    (("CopySnapshot", {"SourceSnapshotName": "nobody", "TargetSnapshotName": "t"}), "SnapshotNotFoundFault", "nobody"),
    (("DeleteSnapshot", {"SnapshotName": "nobody"}), "SnapshotNotFoundFault", "nobody"),
    (("DescribeSnapshots", {"MaxRecords": 19}), VALUE, "between 20 and 50"),
    (
        ("DeleteReplicationGroup", {"ReplicationGroupId": "grp", "FinalSnapshotIdentifier": "--"}),
        VALUE,
        "FinalSnapshotIdentifier is not a valid identifier",
    ),
    (
        ("DeleteCacheCluster", {"CacheClusterId": "grp-001", "FinalSnapshotIdentifier": "s"}),
        COMBINATION,
        "DeleteReplicationGroup",
    ),
    # Changes.
    (change_group(CacheNodeType="cache.none.large"), VALUE, "Invalid Cache Node Type"),
    (change_group(CacheNodeType="cache.r7g.16xlarge"), CAPACITY, "Choose a smaller node type"),
    (change_group(NotificationTopicStatus="maybe"), VALUE, "active or inactive"),
    (change("one", NumCacheNodes=2), VALUE, "must be 1"),
    (change("one", CacheNodeIdsToRemove=["0001"]), COMBINATION, "needs NumCacheNodes"),
    (change("one", CacheNodeType="cache.r7g.16xlarge", Engine="valkey", NumCacheNodes=3), VALUE, "must be 1"),
    (change("grp-001", CacheNodeType="cache.t4g.small"), COMBINATION, "ModifyReplicationGroup"),
    (change("grp-001", CacheParameterGroupName="default.valkey9"), COMBINATION, "ModifyReplicationGroup"),
    # Members.
    (("DeleteCacheCluster", {"CacheClusterId": "grp-001"}), CLUSTER_STATE, "serving as primary"),
    (("DeleteCacheCluster", {"CacheClusterId": "grp-002"}), CLUSTER_STATE, "only read replica for replication group"),
    (cluster(ReplicationGroupId="grp", Engine="redis"), COMBINATION, "engine of replication group grp is valkey"),
    (cluster(ReplicationGroupId="grp", CacheNodeType="cache.t4g.small"), COMBINATION, "node type of replication"),
    (cluster(ReplicationGroupId="grp", Port=7000), COMBINATION, "Cannot specify additional .* Port must be left out"),
    (cluster(ReplicationGroupId="grp", NumCacheNodes=2), COMBINATION, "NumCacheNodes must be left out"),
    (cluster(ReplicationGroupId="grp", CacheParameterGroupName="default.valkey9"), COMBINATION, "Cannot specify"),
    (
        cluster(ReplicationGroupId="grp", Tags=[{"Key": f"k{n}", "Value": ""} for n in range(50)]),
        "TagQuotaPerResourceExceeded",
        "at most 50",
    ),
    # Reboots.
    (
        ("RebootCacheCluster", {"CacheClusterId": "one", "CacheNodeIdsToReboot": ["0001", "0009"]}),
        VALUE,
        "no cache nodes 0009",
    ),
    (("RebootCacheCluster", {"CacheClusterId": "one", "CacheNodeIdsToReboot": []}), VALUE, "none given"),
    # Parameter values.
    (values(count=21), COMBINATION, "Cannot modify more than 20 parameters in a single request"),
    (values(no_such_parameter="1"), VALUE, "does not exist in family valkey9"),
    (values(timeout="5"), VALUE, "cannot be modified to the value 5"),
    (values(save="900"), VALUE, "cannot be modified to the value 900"),
    (values(reserved_memory="1000", reserved_memory_percent="20"), COMBINATION, "cannot be used together"),
    (values(databases="16"), "InvalidCacheParameterGroupState", "keys of the databases that go would be lost"),
    (values(cluster_enabled="yes"), "InvalidCacheParameterGroupState", "while the parameter group own is in use"),
    (
        ("ModifyCacheParameterGroup", {"CacheParameterGroupName": "own", "ParameterNameValues": []}),
        VALUE,
        "at least one",
    ),
    (
        ("ModifyCacheParameterGroup", {"CacheParameterGroupName": "own",
                                       "ParameterNameValues": [{"ParameterName": "timeout"}]}),
        VALUE,
        "timeout needs a value",
    ),
    (
        ("ModifyCacheParameterGroup", {"CacheParameterGroupName": "own",
                                       "ParameterNameValues": [{"ParameterValue": "20"}]}),
        VALUE,
        "does not exist",
    ),
    (
        ("ResetCacheParameterGroup", {"CacheParameterGroupName": "own", "ResetAllParameters": True}),
        "InvalidCacheParameterGroupState",
        "in use by grp-001, grp-002",
    ),
    (
        (
            "ResetCacheParameterGroup",
            {"CacheParameterGroupName": "own", "ParameterNameValues": [{"ParameterName": "databases"}]},
        ),
        "InvalidCacheParameterGroupState",
        "databases",
    ),
    (("ResetCacheParameterGroup", {"CacheParameterGroupName": "own"}), COMBINATION, "either"),
    (
        ("ResetCacheParameterGroup", {"CacheParameterGroupName": "default.valkey9", "ResetAllParameters": True}),
        VALUE,
        "cannot be reset",
    ),
    (("DeleteCacheParameterGroup", {"CacheParameterGroupName": "default.valkey9"}), VALUE, "cannot be deleted"),
    (
        ("DeleteCacheParameterGroup", {"CacheParameterGroupName": "own"}),
        "InvalidCacheParameterGroupState",
        "still members of this parameter group own",
    ),
    (("DescribeCacheParameters", {"CacheParameterGroupName": "own", "Source": "me"}), VALUE, "Invalid source"),
    (
        (
            "CreateCacheParameterGroup",
            {"CacheParameterGroupName": "own", "CacheParameterGroupFamily": "none", "Description": "x"},
        ),
        "CacheParameterGroupAlreadyExists",
        "own",
    ),
    (
        (
            "CreateCacheParameterGroup",
            {"CacheParameterGroupName": "new", "CacheParameterGroupFamily": "none", "Description": "x"},
        ),
        VALUE,
        "not a valid parameter group family",
    ),
    # Subnet groups.
    (
        ("CreateCacheSubnetGroup", {"CacheSubnetGroupName": "default", "CacheSubnetGroupDescription": "x",
                                    "SubnetIds": ["subnet-1"]}),
        "CacheSubnetGroupAlreadyExists",
        "default",
    ),
    (
        ("CreateCacheSubnetGroup", {"CacheSubnetGroupName": "new", "CacheSubnetGroupDescription": "x",
                                    "SubnetIds": ["net-1"]}),
        "InvalidSubnet",
        "net-1",
    ),
    (
        ("ModifyCacheSubnetGroup", {"CacheSubnetGroupName": "nets",
                                    "SubnetIds": [f"subnet-{n}" for n in range(21)]}),
        "CacheSubnetQuotaExceededFault",
        "at most 20",
    ),
    (("ModifyCacheSubnetGroup", {"CacheSubnetGroupName": "default"}), "SubnetNotAllowedFault", "default"),
    (("DeleteCacheSubnetGroup", {"CacheSubnetGroupName": "default"}), "CacheSubnetGroupInUse", "default"),
    (("DeleteCacheSubnetGroup", {"CacheSubnetGroupName": "nets"}), "CacheSubnetGroupInUse", "grp-001"),
    # Tags.
    (tagged(arn("cluster", "one"), *[(f"k{n}", "") for n in range(51)]), "TagQuotaPerResourceExceeded", "at most 50"),
    (tagged(arn("replicationgroup", "grp"), *[(f"k{n}", "") for n in range(50)]), "TagQuotaPerResourceExceeded", "50"),
    (tagged(arn("cluster", "one"), ("aws:x", "1")), VALUE, "reserved"),
    (tagged(arn("cluster", "one"), ("a", "1"), ("a", "2")), VALUE, "Duplicate tag key"),
    (tagged(arn("cluster", "one"), ("", "1")), VALUE, "1 to 128"),
    (tagged(arn("cluster", "one"), ("k" * 129, "1")), VALUE, "1 to 128"),
    (tagged(arn("cluster", "one"), ("k", "v" * 257)), VALUE, "at most 256"),
    (tagged(arn("cluster", "nobody"), ("k", "v")), "CacheClusterNotFound", "nobody"),
    (tagged(arn("replicationgroup", "nobody"), ("k", "v")), "ReplicationGroupNotFoundFault", "nobody"),
    (tagged(arn("parametergroup", "nobody"), ("k", "v")), "CacheParameterGroupNotFound", "nobody"),
    (tagged(arn("subnetgroup", "nobody"), ("k", "v")), "CacheSubnetGroupNotFoundFault", "nobody"),
    (tagged(arn("snapshot", "nobody"), ("k", "v")), "SnapshotNotFoundFault", "nobody"),
    (tagged(arn("user", "nobody"), ("k", "v")), "UserNotFound", "nobody"),
    (tagged(arn("cluster", "one", account="111111111111"), ("k", "v")), "InvalidARN", "account and region"),
    (tagged(arn("cluster", "one", region="eu-west-1"), ("k", "v")), "InvalidARN", "account and region"),
    (tagged(arn("teapot", "one"), ("k", "v")), "InvalidARN", "no kind of resource"),
    (tagged("arn:aws:s3:::bucket", ("k", "v")), "InvalidARN", "not a valid ARN"),
    (tagged("", ("k", "v")), "InvalidARN", "not a valid ARN"),
    (
        ("RemoveTagsFromResource", {"ResourceName": arn("replicationgroup", "grp"), "TagKeys": ["team", "x"]}),
        "TagNotFound",
        "x",
    ),
    (group(Tags=[{"Key": f"k{n}", "Value": ""} for n in range(51)]), "TagQuotaPerResourceExceeded", "at most 50"),
    (cluster(Tags=[{"Value": "no key"}]), VALUE, "1 to 128"),
    # Describing.
    (("DescribeEvents", {"SourceType": "teapot"}), VALUE, "Must be one of"),
    (("DescribeEvents", {"SourceIdentifier": "grp"}), COMBINATION, "SourceType"),
    (("DescribeEvents", {"Duration": 0}), VALUE, "between 1 and 20160"),
    (("DescribeEvents", {"Duration": -5}), VALUE, "between 1 and 20160"),
    (("DescribeEvents", {"Duration": 20161}), VALUE, "between 1 and 20160"),
    (
        ("DescribeEvents", {"StartTime": "2026-02-01T00:00:00Z", "EndTime": "2026-01-01T00:00:00Z"}),
        COMBINATION,
        "before EndTime",
    ),
    (("ListAllowedNodeTypeModifications", {}), COMBINATION, "either"),
    (
        ("ListAllowedNodeTypeModifications", {"CacheClusterId": "one", "ReplicationGroupId": "grp"}),
        COMBINATION,
        "either",
    ),
    *[
        ((f"Describe{what}", bad), VALUE, "MaxRecords|Invalid marker")
        for what in ("Events", "ReplicationGroups", "CacheClusters", "CacheParameterGroups", "CacheSubnetGroups",
                     "CacheEngineVersions")
        for bad in ({"MaxRecords": 19}, {"MaxRecords": 101}, {"MaxRecords": -1}, {"Marker": "%%"}, {"Marker": "ä"},
                    {"Marker": "/w=="})
    ],
]  # fmt: skip

MEMCACHED_TABLE: list[Row] = [
    (change("mem", ScaleConfig={"ScalePercentage": 50}), COMBINATION, "ScaleConfig needs CacheNodeType"),
    (change("mem", NumCacheNodes=41), "NodeQuotaForClusterExceeded", "at most 40"),
    (change("mem", NumCacheNodes=0), VALUE, "at least 1"),
    (change("mem", NumCacheNodes=1), COMBINATION, "must name 1 nodes, and it names 0"),
    (change("mem", NumCacheNodes=1, CacheNodeIdsToRemove=["0009"]), VALUE, "no cache nodes 0009"),
    (change("mem", NumCacheNodes=1, CacheNodeIdsToRemove=["0001", "0002"]), COMBINATION, "names 2"),
    (change("mem", NumCacheNodes=3, CacheNodeIdsToRemove=["0001"]), COMBINATION, "must name 0 nodes"),
    (change("mem", NumCacheNodes=3, NewAvailabilityZones=["us-east-1a"] * 2), COMBINATION, "2 zones for 1 new"),
    (change("mem", NumCacheNodes=3, NewAvailabilityZones=["moon"]), VALUE, "not a valid availability zone"),
    (change("mem", CacheParameterGroupName="own"), COMBINATION, "Expected a parameter group of family memcached"),
    (cluster(CacheClusterId="MEM", Engine="memcached"), "CacheClusterAlreadyExists", "mem"),
    (cluster(Engine="memcached", EngineVersion="0.1"), COMBINATION, "Cannot find version 0.1 for memcached"),
    (
        cluster(Engine="memcached", CacheNodeType="cache.r7g.16xlarge", NumCacheNodes=40),
        CAPACITY,
        "Choose a smaller node type",
    ),
    (
        cluster(Engine="memcached", NumCacheNodes=2, PreferredAvailabilityZones=["us-east-1a"]),
        COMBINATION,
        "1 zones for 2 nodes",
    ),
]


def _title(row: Row) -> str:
    (operation, params), code, _ = row
    return f"{operation}-{'-'.join(params)[-50:]}-{code}"


@pytest.mark.parametrize("row", TABLE, ids=_title)
def test_what_aws_would_refuse(unchanged: Service, unchecked: Any, row: Row) -> None:
    _check(unchecked, row)


@pytest.mark.parametrize("row", MEMCACHED_TABLE, ids=_title)
def test_what_aws_would_refuse_of_memcached(
    unchanged: Service, unchecked: Any, catalogue: MachineCatalogue, row: Row
) -> None:
    if catalogue.best(Engine.MEMCACHED, None) is None:
        pytest.skip("needs memcached on the machine")
    _check(unchecked, row)


def _check(unchecked: Any, row: Row) -> None:
    (operation, params), code, words = row
    answer = refused(unchecked, operation, **params)
    assert answer[0] == code, answer
    assert re.search(words, answer[1]), answer
