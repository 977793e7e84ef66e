"""Whatever is sent to CloudWatch, in each of its protocols: a fault that AWS has, and never a failure of ours."""

from __future__ import annotations

import json
import struct
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import urlencode
from xml.etree import ElementTree

import pytest
from cloudwatch_desk import NOW, REGION, CloudWatchDesk, cloudwatch_desk, node

from cachekeep.api.cloudwatch.operations import OPERATIONS
from cachekeep.api.dispatch import Answer
from cachekeep.codec import cbor
from cachekeep.codec.aws_model import load_service
from cachekeep.codec.sigv4 import HttpRequest

SERVICE = load_service("monitoring")
# Source: CloudWatch API reference, "Common Errors"; and what the protocols themselves refuse.
COMMON = {
    "InvalidAction",
    "InvalidParameterCombination",
    "InvalidParameterValue",
    "MalformedQueryString",
    "MissingAction",
    "MissingParameter",
    "SerializationException",
    "ValidationError",
}
ARN = f"arn:aws:cloudwatch:{REGION}:000000000000:alarm:high"
STAT = {"Metric": {"Namespace": "AWS/ElastiCache", "MetricName": "CurrConnections"}, "Period": 60, "Stat": "Sum"}
ALARM = {
    "AlarmName": "high",
    "MetricName": "CurrConnections",
    "Namespace": "AWS/ElastiCache",
    "Statistic": "Average",
    "Dimensions": [{"Name": "CacheClusterId", "Value": "c-001"}],
    "Period": 60,
    "EvaluationPeriods": 1,
    "DatapointsToAlarm": 1,
    "Threshold": 1.5,
    "ComparisonOperator": "GreaterThanThreshold",
    "TreatMissingData": "ignore",
    "ActionsEnabled": True,
    "OKActions": [f"arn:aws:sns:{REGION}:000000000000:ops"],
    "Tags": [{"Key": "k", "Value": "v"}],
}
SPAN = {"StartTime": NOW - 600, "EndTime": NOW}
# A valid input of every operation.
INPUTS: dict[str, dict[str, Any]] = {
    "DeleteAlarms": {"AlarmNames": ["high"]},
    "DescribeAlarmHistory": {"AlarmName": "high", "MaxRecords": 5, "ScanBy": "TimestampDescending", "StartDate": NOW},
    "DescribeAlarms": {"AlarmNames": ["high"], "MaxRecords": 5, "AlarmTypes": ["MetricAlarm"], "NextToken": "aA=="},
    "DescribeAlarmsForMetric": {"MetricName": "CurrConnections", "Namespace": "AWS/ElastiCache", "Period": 60},
    "DisableAlarmActions": {"AlarmNames": ["high"]},
    "EnableAlarmActions": {"AlarmNames": ["high"]},
    "GetMetricData": {
        "MetricDataQueries": [{"Id": "m1", "MetricStat": STAT}, {"Id": "e1", "Expression": "m1 * 2", "Label": "x"}],
        "ScanBy": "TimestampDescending",
        "MaxDatapoints": 100,
        **SPAN,
    },
    "GetMetricStatistics": {
        "Namespace": "AWS/ElastiCache",
        "MetricName": "CurrConnections",
        "Dimensions": [{"Name": "CacheClusterId", "Value": "c-001"}],
        "Period": 60,
        "Statistics": ["Sum"],
        "ExtendedStatistics": ["p99"],
        "Unit": "Count",
        **SPAN,
    },
    "ListMetrics": {"Namespace": "AWS/ElastiCache", "Dimensions": [{"Name": "CacheClusterId"}], "NextToken": "MQ=="},
    "ListTagsForResource": {"ResourceARN": ARN},
    "PutMetricAlarm": ALARM,
    "SetAlarmState": {"AlarmName": "high", "StateValue": "OK", "StateReason": "x", "StateReasonData": "{}"},
    "TagResource": {"ResourceARN": ARN, "Tags": [{"Key": "k", "Value": "v"}]},
    "UntagResource": {"ResourceARN": ARN, "TagKeys": ["k"]},
}
DEEP: Any = []
for _ in range(30):
    DEEP = [DEEP]
ODD: tuple[Any, ...] = (
    "",
    " ",
    "x" * 100_000,
    "\u0000\ud7ff\uffff<&>'\"",
    "p100.5",
    "-1",
    "99999999999999999999",
    0,
    -1,
    7,
    2**31 - 1,
    2**31,
    2**63,
    10**18 + 0.5,
    1e308,
    -1e308,
    True,
    [],
    ["x"] * 300,
    [None],
    [{}],
    {},
    {"Name": "x"},
    [{"Name": "CacheClusterId", "Value": "c-001"}] * 2,
    DEEP,
    [{"Id": "a" * 300, "Expression": "1" + "+1" * 3000}],
    [{"Id": "e", "Expression": "(" * 5000}],
    [{"Id": "e", "Expression": "FILL(TIME_SERIES(1)^1000, -1)"}],
)


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[CloudWatchDesk]:
    with cloudwatch_desk(tmp_path) as it:
        it.series.put(node(), "CurrConnections", [1, 2, 3])
        it.send(as_json("PutMetricAlarm", ALARM))
        yield it


def as_json(operation: str, params: Mapping[str, Any]) -> HttpRequest:
    target = ("x-amz-target", f"GraniteServiceVersion20100801.{operation}")
    return HttpRequest("POST", "/", "", [target], json.dumps(params).encode())


def as_cbor(operation: str, params: Mapping[str, Any]) -> HttpRequest:
    path = f"/service/GraniteServiceVersion20100801/operation/{operation}"
    timed = {k: _timed(k, v) for k, v in params.items()}
    return HttpRequest("POST", path, "", [("smithy-protocol", "rpc-v2-cbor")], cbor.encode(timed))


def _timed(name: str, value: Any) -> Any:
    if name in ("StartTime", "EndTime", "StartDate") and value == INPUTS["GetMetricData"].get(name, NOW):
        return datetime.fromtimestamp(value, UTC)
    return value


def as_form(operation: str, params: Mapping[str, Any]) -> HttpRequest:
    fields: dict[str, str] = {"Action": operation, "Version": "2010-08-01"}

    def put(path: str, value: Any) -> None:
        if isinstance(value, dict):
            for name, child in value.items():
                put(f"{path}.{name}" if path else name, child)
        elif isinstance(value, list):
            for number, child in enumerate(value, 1):
                put(f"{path}.member.{number}", child)
        elif value is not None:
            fields[path] = str(value).lower() if isinstance(value, bool) else str(value)

    put("", {k: _iso(k, v) for k, v in params.items()})
    return HttpRequest("POST", "/", "", [], urlencode(fields, errors="replace").encode())


def _iso(name: str, value: Any) -> Any:
    timed = _timed(name, value)
    return timed.isoformat() if isinstance(timed, datetime) else value


def code_of(answer: Answer) -> str:
    """AWS's code of a fault, in whichever protocol it came."""
    if answer.content_type == "text/xml":
        found = ElementTree.fromstring(answer.body).find(".//{*}Code")  # noqa: S314 - our own answer
        assert found is not None
        return str(found.text)
    return answer.headers["x-amzn-query-error"].partition(";")[0]


def declared(operation: str, answer: Answer) -> None:
    assert answer.status < 500, answer.body[:500]
    if answer.status != 200:
        assert code_of(answer) in {*SERVICE.operations[operation].faults, *COMMON}


def variants(params: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """Without each field, each field replaced by each odd value, and inside of lists and structures too."""
    for name, value in params.items():
        yield {k: v for k, v in params.items() if k != name}
        for odd in ODD:
            yield {**params, name: odd}
        if isinstance(value, list) and value and isinstance(value[0], dict):
            for inner in variants(value[0]):
                yield {**params, name: [inner, *value[1:]]}
        if isinstance(value, dict):
            for inner in variants(value):
                yield {**params, name: inner}


def test_every_operation_is_tried() -> None:
    assert set(INPUTS) == set(OPERATIONS)


@pytest.mark.parametrize("operation", INPUTS)
def test_odd_values_are_answered_or_refused_as_aws_declares(desk: CloudWatchDesk, operation: str) -> None:
    for form in (as_json, as_cbor, as_form):
        desk.send(as_json("PutMetricAlarm", ALARM))
        assert desk.send(form(operation, INPUTS[operation])).status == 200
        for params in variants(INPUTS[operation]):
            declared(operation, desk.send(form(operation, params)))


CBOR = (
    b"\x9f" * 500,
    b"\x81" * 100_000,
    b"\xa1\x61a" * 5000,
    b"\x9b" + b"\xff" * 8,
    b"\xbb" + b"\xff" * 8,
    b"\x7b" + b"\xff" * 8,
    b"\x5f" * 10_000,
    b"\xc1" * 10_000,
    b"\x98\xff" + b"\xf6" * 255,
    b"\xa1\x6aAlarmNames" + b"\x9a\x00\x01\x86\xa0" + b"\x60" * 100_000,
    b"\xa1\x6aAlarmNames\x9f" + b"\x60" * 300_000 + b"\xff",
    b"\xa1\x69StartTime\xc1\xfb" + struct.pack(">d", float("nan")),
    b"\xa1\x69StartTime\xc1\xfb" + struct.pack(">d", 1e300),
    b"\xff",
    b"\xf6",
    b"\x00",
    b"\x1c",
    b"\x61\xff",
)


def test_cbor_that_is_deep_long_cut_or_foreign_is_refused(desk: CloudWatchDesk) -> None:
    path = "/service/GraniteServiceVersion20100801/operation/DeleteAlarms"
    for body in CBOR:
        answer = desk.send(HttpRequest("POST", path, "", [("smithy-protocol", "rpc-v2-cbor")], body))
        assert answer.status == 400
        declared("DeleteAlarms", answer)


JSON = (b"[" * 100_000, b'{"AlarmNames":' * 5000, b"\xff\xfe", b'{"a":1', b"nul", b"[]", b'"x"', b"{}{}")


def test_json_that_is_deep_or_cut_is_refused(desk: CloudWatchDesk) -> None:
    target = ("x-amz-target", "GraniteServiceVersion20100801.DeleteAlarms")
    for body in JSON:
        answer = desk.send(HttpRequest("POST", "/", "", [target], body))
        assert answer.status == 400
        declared("DeleteAlarms", answer)


@pytest.mark.parametrize("form", [as_json, as_cbor, as_form])
def test_ten_thousand_queries_and_foreign_operations_are_refused(desk: CloudWatchDesk, form: Any) -> None:
    queries = [{"Id": f"m{number}", "Expression": "1"} for number in range(10_000)]
    answer = desk.send(form("GetMetricData", {"MetricDataQueries": queries, **SPAN}))
    assert answer.status == 400
    declared("GetMetricData", answer)
    for operation in ("Nonsense", "PutDashboard", "", "../DeleteAlarms", "x" * 10_000):
        answer = desk.send(form(operation, {}))
        assert (answer.status, code_of(answer) in COMMON) == (400, True)


def test_a_metric_outside_of_its_retention_has_no_points(desk: CloudWatchDesk) -> None:
    long_ago = {"StartTime": NOW - 1000 * 86400, "EndTime": NOW - 999 * 86400}
    queries = [{"Id": "m1", "MetricStat": STAT}, {"Id": "e1", "Expression": "FILL(m1, 0)"}]
    answer = json.loads(desk.send(as_json("GetMetricData", {"MetricDataQueries": queries, **long_ago})).body)
    assert [result["Values"] for result in answer["MetricDataResults"]] == [[], []]
    asked = {**INPUTS["GetMetricStatistics"], **long_ago}
    assert json.loads(desk.send(as_json("GetMetricStatistics", asked)).body)["Datapoints"] == []
