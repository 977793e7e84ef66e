"""Every operation of AWS's model: a right request is answered in full, and a describe is told page by page."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import pytest
from desk import SERVICE
from happy_requests import HAPPY
from stage import MODEL, Stage

from cachekeep.api.operations import OPERATIONS

VALUE = "InvalidParameterValue"
_PAGES = {"Marker", "NextToken"}
# What an answer need not have, by structure: what nothing on the stage has or is, and what AWS leaves out then, too.
_SOMETIMES: Mapping[str, set[str]] = {
    "CacheCluster": {
        "AuthTokenLastModifiedDate", "ClientDownloadLandingPage", "ConfigurationEndpoint", "NotificationConfiguration",
        "PreferredOutpostArn", "ReplicationGroupId", "SnapshotRetentionLimit", "SnapshotWindow",
        "TransitEncryptionMode",
    },
    "CacheNode": {"CustomerOutpostArn", "Endpoint", "SourceCacheNodeId"},
    "CacheUsageLimits": {"DataStorage", "ECPUPerSecond"},
    "CompleteMigrationResponse": {"ServerlessCache"},
    "NodeGroup": {"PrimaryEndpoint", "ReaderEndpoint", "Slots"},
    "NodeGroupConfiguration": {"PrimaryOutpostArn", "ReplicaOutpostArns", "Slots"},
    "NodeGroupMember": {"CurrentRole", "PreferredOutpostArn", "ReadEndpoint"},
    "NodeGroupMemberUpdateStatus": {
        "NodeDeletionDate", "NodeUpdateEndDate", "NodeUpdateInitiatedBy", "NodeUpdateInitiatedDate",
        "NodeUpdateStartDate",
    },
    "NodeSnapshot": {"CacheSize", "SnapshotCreateTime"},
    "Parameter": {"AllowedValues"},
    "ProcessedUpdateAction": {"CacheClusterId"},
    "ReplicationGroup": {
        "AuthTokenLastModifiedDate", "ConfigurationEndpoint", "Durability", "EffectiveDurability",
        "GlobalReplicationGroupInfo", "KmsKeyId", "MemberClustersOutpostArns", "SnapshottingClusterId",
        "StorageEncryptionType", "TransitEncryptionMode",
    },
    "ServerlessCache": {
        "DailySnapshotTime", "Endpoint", "Integrations", "KmsKeyId", "Migration", "ReaderEndpoint", "UserGroupId",
    },
    "ServerlessCacheSnapshot": {"ExpiryTime", "KmsKeyId"},
    "ServiceUpdate": {"ServiceUpdateEndDate"},
    "Snapshot": {
        "CacheClusterId", "Durability", "KmsKeyId", "PreferredAvailabilityZone", "PreferredOutpostArn", "TopicArn",
    },
    "StartMigrationResponse": {"ServerlessCache"},
    "Subnet": {"SubnetOutpost"},
    "UnprocessedUpdateAction": {"CacheClusterId"},
    "UpdateAction": {"CacheClusterId", "CacheNodeUpdateStatus"},
    "UserGroup": {"PendingChanges"},
}  # fmt: skip
# Only what is on its way stands there.
_PENDING = {"PendingModifiedValues", "ReplicationGroupPendingModifiedValues"}
# Operations that answer with one list, which a right request finds something for.
_LISTS = sorted(name for name in HAPPY if name.startswith("Describe"))
# Without pages in AWS's model, or under other names.
_BY_TOKEN = {"DescribeServerlessCaches", "DescribeServerlessCacheSnapshots"}
_MOST = {"DescribeSnapshots": 50, "DescribeServerlessCacheSnapshots": 50}


def lacking(shape: Any, answer: Any, path: str) -> Iterator[str]:
    """The places of an answer where AWS has something and we do not."""
    if shape.type_name == "structure":
        optional = _PAGES | (set(shape.members) if shape.name in _PENDING else _SOMETIMES.get(shape.name, set()))
        for name, member in shape.members.items():
            if name in answer:
                yield from lacking(member, answer[name], f"{path}.{name}")
            elif name not in optional:
                yield f"{path}.{name}"
    elif shape.type_name == "list":
        for item in answer:
            yield from lacking(shape.member, item, f"{path}[]")
    elif shape.type_name == "string" and shape.metadata.get("enum") and answer not in shape.metadata["enum"]:
        yield f"{path} is {answer!r}"


def test_every_operation_has_a_right_request() -> None:
    assert sorted(HAPPY) == sorted(MODEL.operation_names)
    assert sorted(OPERATIONS) == sorted(MODEL.operation_names)


@pytest.mark.parametrize("operation", sorted(HAPPY))
def test_a_right_request_is_answered_in_full(stage: Stage, operation: str) -> None:
    shape: Any = MODEL.operation_model(operation).output_shape
    before = stage.everything()
    with stage.scene() as scene:
        answer = scene.ask(operation, HAPPY[operation])
        assert operation.startswith(("Describe", "List")) == (scene.everything() == before) or operation in _NOTHING_NEW
    if shape is not None:
        assert list(lacking(shape, answer, operation)) == []
    for name in shape.members if operation in _LISTS and operation != "DescribeEvents" else ():
        assert answer.get(name, True), f"{name} is empty"


# An update that nobody began cannot be stopped, and values that nobody set cannot be taken back.
_NOTHING_NEW = {"BatchStopUpdateAction", "ResetCacheParameterGroup"}


@pytest.mark.parametrize("operation", _LISTS)
def test_pages(stage: Stage, operation: str) -> None:
    """Their size and their marker are checked whatever is asked for: of one resource by its name, too."""
    members = MODEL.operation_model(operation).input_shape.members
    size, marker = ("MaxResults", "NextToken") if operation in _BY_TOKEN else ("MaxRecords", "Marker")
    assert {size, marker} <= set(members)
    most = _MOST.get(operation, 100)
    one = stage.fields(operation, HAPPY[operation])
    all_of_them = {k: v for k, v in one.items() if k in ("Action", "Version", *required(operation))}
    for fields in (all_of_them, one):
        for wrong in ("0", "-1", str(most + 1), "2147483647", *(() if operation in _BY_TOKEN else ("19",))):
            code, message = stage.refusal({**fields, size: wrong})
            assert (code, size in message) == (VALUE, True), (wrong, message)
        for foreign in ("garbage", "*", "Ym9ndXM", "é", "x" * 10_000):
            code, message = stage.refusal({**fields, marker: foreign})
            assert code == VALUE, (fields, foreign, message)
        assert stage.send({**fields, marker: ""}) == stage.send(fields)
        for size_of_page in ("1" if operation in _BY_TOKEN else "20", str(most)):
            stage.send({**fields, size: size_of_page})


def required(operation: str) -> list[str]:
    return list(MODEL.operation_model(operation).input_shape.required_members)


@pytest.mark.parametrize("operation", ["DescribeCacheParameters", "DescribeEngineDefaultParameters"])
def test_pages_hold_each_row_once(stage: Stage, operation: str) -> None:
    fields = stage.fields(operation, HAPPY[operation])
    rows: list[str] = []
    marker = ""
    while True:
        answer = stage.send({**fields, "MaxRecords": "20", "Marker": marker})
        answer = answer.get("EngineDefaults", answer)
        here = [*answer["Parameters"], *answer["CacheNodeTypeSpecificParameters"]]
        rows += sorted(row["ParameterName"] for row in here)
        marker = answer.get("Marker", "")
        if not marker:
            break
        assert len(here) == 20
    assert len(rows) > 40
    assert rows == sorted(set(rows))


def test_the_model_is_the_one_that_is_served() -> None:
    assert set(SERVICE.operations) == set(MODEL.operation_names)
