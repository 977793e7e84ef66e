"""Answers: what we write botocore reads back, and a result that does not fit the model is a loud bug."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta, timezone
from enum import StrEnum
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import botocore
import pytest
from botocore.model import ServiceModel
from botocore.parsers import create_parser
from hypothesis import given
from hypothesis import strategies as st
from model_strategies import ELASTICACHE, OPERATION_IDS, OPERATIONS, quick, thorough, to_milliseconds, values_of

from cachekeep.codec.aws_model import load_service
from cachekeep.codec.xml import UnknownMember, encode_fault, encode_response
from cachekeep.domain.faults import Fault

EC = load_service("elasticache")
_EXAMPLES = json.loads(
    (Path(botocore.__file__).parent / "data/elasticache/2015-02-02/examples-1.json").read_text("utf-8")
)["examples"]


def received(service: ServiceModel, operation: str, body: bytes, status: int = 200) -> dict[str, Any]:
    """What boto3 would return."""
    shape = service.operation_model(operation).output_shape
    return create_parser("query").parse({"status_code": status, "headers": {}, "body": body}, shape)


def answer(operation: str, result: dict[str, Any]) -> bytes:
    return encode_response(EC, EC.operations[operation], result, "r-1")


def user(**members: object) -> dict[str, Any]:
    return {"Users": [members]}


@pytest.mark.parametrize(("service", "operation"), OPERATIONS, ids=OPERATION_IDS)
def test_botocore_reads_back_what_we_send(service: ServiceModel, operation: str) -> None:
    ours = load_service(service.service_name)
    shape = service.operation_model(operation).output_shape

    @quick
    @given(values_of(shape, for_request=False) if shape else st.just({}))
    def check(result: dict[str, Any]) -> None:
        body = encode_response(ours, ours.operations[operation], result, "0f1e-2d")
        parsed = received(service, operation, body)
        assert parsed.pop("ResponseMetadata") == {"RequestId": "0f1e-2d", "HTTPStatusCode": 200, "HTTPHeaders": {}}
        assert parsed == to_milliseconds(result)

    check()


@pytest.mark.parametrize("operation", sorted(_EXAMPLES))
def test_the_examples_of_the_model_are_read_back(operation: str) -> None:
    for example in _EXAMPLES[operation]:
        result = example.get("output", {})
        if "Timestamp" in json.dumps(result) or "Time" in json.dumps(result) or "Date" in json.dumps(result):
            continue  # the examples hold times as text
        parsed = received(ELASTICACHE, operation, answer(operation, result))
        del parsed["ResponseMetadata"]
        assert parsed == result


def test_the_envelope_is_awss() -> None:
    assert answer("DescribeUsers", user(UserId="a", UserName=None)) == (
        b'<DescribeUsersResponse xmlns="http://elasticache.amazonaws.com/doc/2015-02-02/"><DescribeUsersResult><Users>'
        b"<member><UserId>a</UserId></member></Users></DescribeUsersResult><ResponseMetadata><RequestId>r-1</RequestId>"
        b"</ResponseMetadata></DescribeUsersResponse>"
    )


def test_an_operation_without_a_result_has_only_metadata() -> None:
    assert answer("DeleteCacheSubnetGroup", {}) == (
        b'<DeleteCacheSubnetGroupResponse xmlns="http://elasticache.amazonaws.com/doc/2015-02-02/">'
        b"<ResponseMetadata><RequestId>r-1</RequestId></ResponseMetadata></DeleteCacheSubnetGroupResponse>"
    )


@pytest.mark.parametrize(
    ("operation", "result"),
    [
        ("DescribeUsers", {"User": []}),
        ("DescribeUsers", {"Users": [{"Id": "a"}]}),
        ("DescribeUsers", {"Users": [{"Id": None}]}),
        ("DeleteCacheSubnetGroup", {"CacheSubnetGroup": {}}),
    ],
)
def test_an_unknown_member_is_a_bug(operation: str, result: dict[str, Any]) -> None:
    with pytest.raises(UnknownMember):
        answer(operation, result)


@pytest.mark.parametrize(
    ("operation", "result"),
    [
        ("DescribeUsers", {"Users": "a"}),
        ("DescribeUsers", {"Users": [None]}),
        ("DescribeUsers", {"Users": ["a"]}),
        ("DescribeUsers", {"Users": [{"UserId": 1}]}),
        ("CreateReplicationGroup", {"ReplicationGroup": {"SnapshotRetentionLimit": True}}),
        ("CreateReplicationGroup", {"ReplicationGroup": {"SnapshotRetentionLimit": "1"}}),
        ("CreateReplicationGroup", {"ReplicationGroup": {"ClusterEnabled": "true"}}),
        ("CreateReplicationGroup", {"ReplicationGroup": {"ClusterEnabled": 1}}),
        ("CreateReplicationGroup", {"ReplicationGroup": {"ReplicationGroupCreateTime": "2026-01-01"}}),
        ("CreateReplicationGroup", {"ReplicationGroup": {"ReplicationGroupCreateTime": datetime(2026, 1, 1)}}),
        ("PurchaseReservedCacheNodesOffering", {"ReservedCacheNode": {"FixedPrice": "1"}}),
    ],
)
def test_a_value_of_the_wrong_type_is_a_bug(operation: str, result: dict[str, Any]) -> None:
    with pytest.raises(TypeError):
        answer(operation, result)


def test_text_of_an_enum_is_its_value() -> None:
    class Status(StrEnum):
        ACTIVE = "active"

    assert b"<Status>active</Status>" in answer("DescribeUsers", user(Status=Status.ACTIVE))


def test_times_are_utc_in_milliseconds() -> None:
    group = {"ReplicationGroupCreateTime": datetime(2026, 11, 22, 22, 0, 0, 123999, timezone(timedelta(hours=1)))}
    assert b">2026-11-22T21:00:00.123Z<" in answer("CreateReplicationGroup", {"ReplicationGroup": group})
    group = {"ReplicationGroupCreateTime": datetime(2026, 11, 22, 21, tzinfo=UTC)}
    assert b">2026-11-22T21:00:00.000Z<" in answer("CreateReplicationGroup", {"ReplicationGroup": group})


def test_booleans_are_lower_case() -> None:
    group = {"ClusterEnabled": False, "AtRestEncryptionEnabled": True}
    body = answer("CreateReplicationGroup", {"ReplicationGroup": group})
    assert b"<ClusterEnabled>false</ClusterEnabled><AtRestEncryptionEnabled>true</AtRestEncryptionEnabled>" in body


def test_markup_is_escaped() -> None:
    body = answer("DescribeUsers", user(UserId="</UserId>&amp;<!--]]>\"'"))
    assert received(ELASTICACHE, "DescribeUsers", body)["Users"][0]["UserId"] == "</UserId>&amp;<!--]]>\"'"


@thorough
@given(st.text(st.characters()))
def test_any_text_is_well_formed(text: str) -> None:
    illegal = {*map(chr, range(32)), "\ufffe", "\uffff"} - {"\t", "\n", "\r"}
    expected = "".join("\ufffd" if c in illegal or "\ud800" <= c <= "\udfff" else c for c in text)
    body = answer("DescribeUsers", user(UserId=text))
    assert received(ELASTICACHE, "DescribeUsers", body)["Users"][0]["UserId"] == expected
    fault = received(ELASTICACHE, "DescribeUsers", encode_fault(EC.namespace, Fault(text, text), text), 400)
    assert (fault["Error"]["Message"] or "") == expected


@pytest.mark.parametrize(
    ("fault", "blame"),
    [(Fault("ReplicationGroupNotFoundFault", "no <a>"), "Sender"), (Fault("InternalFailure", "no <a>"), "Receiver")],
)
def test_botocore_reads_a_fault(fault: Fault, blame: str) -> None:
    parsed = received(ELASTICACHE, "DescribeUsers", encode_fault(EC.namespace, fault, "r-2"), fault.status)
    assert parsed["Error"] == {"Type": blame, "Code": fault.code, "Message": "no <a>"}
    assert parsed["ResponseMetadata"]["RequestId"] == "r-2"


def test_a_faults_elements_are_in_the_services_namespace() -> None:
    root = ElementTree.fromstring(encode_fault(EC.namespace, Fault("TagNotFound", "no"), "r"))  # noqa: S314 - our own answer
    assert root.tag == f"{{{EC.namespace}}}ErrorResponse"
