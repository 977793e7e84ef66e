"""The table of what operations touch covers the model, and finds every name that a request has."""

from __future__ import annotations

import pytest

from cachekeep.api.action_resources import RESOURCES, alarm_resources, resources_of
from cachekeep.codec.aws_model import load_service

OPERATIONS = load_service("elasticache").operations
ACCOUNT = "000000000000"
# Parameters whose names look like those of resources, and which name none of this account's that is acted on.
_OTHER = {
    "CacheNodeIdsToReboot", "CacheNodeIdsToRemove", "NodeGroupId", "NodeGroupsToRemove", "NodeGroupsToRetain",
    "SourceIdentifier", "ReservedCacheNodesOfferingId", "UserName", "EC2SecurityGroupName", "EC2SecurityGroupOwnerId",
    "ServiceUpdateName", "CacheParameterGroupFamily", "KmsKeyId", "VpcId", "SubnetIds", "SecurityGroupIds",
    "SnapshottingClusterId", "GlobalNodeGroupsToRemove", "GlobalNodeGroupsToRetain", "S3BucketName",
    "TopicArn",
}  # fmt: skip
_KINDS = ("Cluster", "Group", "Snapshot", "User", "Cache")


def test_every_operation_has_its_row() -> None:
    assert set(RESOURCES) == set(OPERATIONS)


@pytest.mark.parametrize("name", sorted(OPERATIONS))
def test_every_parameter_that_names_a_resource_is_in_the_row(name: str) -> None:
    shape = OPERATIONS[name].input
    members = set(shape.members) if shape is not None else set()
    listed = {parameter for _, parameter in RESOURCES[name]}
    assert listed <= members
    named = {
        member
        for member in members - _OTHER
        if member.endswith(("Id", "Ids", "Name", "Names", "IdsToAdd", "IdsToRemove"))
        and any(kind in member for kind in _KINDS)
    }
    assert named <= listed


@pytest.mark.parametrize(
    ("operation", "params", "found"),
    [
        ("DeleteUser", {"UserId": "Alice"}, ["us-east-1:000000000000:user:alice"]),
        ("DescribeUsers", {}, ["us-east-1:000000000000:user:*"]),
        ("DescribeEvents", {}, ["*"]),
        (
            "CreateReplicationGroup",
            {"ReplicationGroupId": "g", "UserGroupIds": ["a", "b"], "SnapshotName": "s"},
            ["us-east-1:000000000000:replicationgroup:g", "us-east-1:000000000000:snapshot:s",
             "us-east-1:000000000000:usergroup:a", "us-east-1:000000000000:usergroup:b"],
        ),
        ("DescribeSnapshots", {"ReplicationGroupId": "g"}, ["us-east-1:000000000000:replicationgroup:g"]),
        ("DeleteGlobalReplicationGroup", {"GlobalReplicationGroupId": "x"}, [":000000000000:globalreplicationgroup:x"]),
    ],
)  # fmt: skip
def test_names_become_arns(operation: str, params: dict[str, object], found: list[str]) -> None:
    arns = resources_of(operation, params, "us-east-1", ACCOUNT)
    assert [arn.removeprefix("arn:aws:elasticache:") for arn in arns] == found


def test_tags_are_put_on_the_arn_that_is_given() -> None:
    arn = "arn:aws:elasticache:us-east-1:000000000000:cluster:c"
    assert resources_of("AddTagsToResource", {"ResourceName": arn, "Tags": []}, "us-east-1", ACCOUNT) == (arn,)


@pytest.mark.parametrize(
    ("given", "meant"),
    [
        ("arn:aws-cn:elasticache:us-east-1:000000000000:cluster:C", "us-east-1:000000000000:cluster:c"),
        ("arn:aws:elasticache:us-east-1:000000000000:reserved-instance:r", "us-east-1:000000000000:reservedinstance:r"),
        ("arn:aws-x:elasticache::000000000000:globalreplicationgroup:g", ":000000000000:globalreplicationgroup:g"),
    ],
)
def test_another_spelling_of_an_arn_is_the_same_resource(given: str, meant: str) -> None:
    assert resources_of("AddTagsToResource", {"ResourceName": given}, "us-east-1", ACCOUNT) == (
        f"arn:aws:elasticache:{meant}",
    )


def test_a_snapshot_that_is_named_by_its_arn_is_touched_and_a_file_in_a_bucket_is_none() -> None:
    own = "arn:aws-cn:elasticache:us-east-1:000000000000:snapshot:S"
    for arns, found in (([own], ("snapshot:s",)), (["arn:aws:s3:::bucket/a.rdb"], ())):
        asked = {"ReplicationGroupId": "g", "SnapshotArns": arns}
        touched = resources_of("CreateReplicationGroup", asked, "us-east-1", ACCOUNT)
        prefix = "arn:aws:elasticache:us-east-1:000000000000:"
        assert touched == tuple(prefix + one for one in ("replicationgroup:g", *found))


def test_alarms_are_resources_of_cloudwatch() -> None:
    alarm = "arn:aws:cloudwatch:us-east-1:000000000000:alarm:"
    assert alarm_resources("PutMetricAlarm", {"AlarmName": "a"}, "us-east-1", ACCOUNT) == (alarm + "a",)
    assert alarm_resources("DeleteAlarms", {"AlarmNames": ["a", "b"]}, "us-east-1", ACCOUNT) == (
        alarm + "a",
        alarm + "b",
    )
    assert alarm_resources("DescribeAlarms", {}, "us-east-1", ACCOUNT) == (alarm + "*",)
    assert alarm_resources("GetMetricData", {}, "us-east-1", ACCOUNT) == ("*",)
