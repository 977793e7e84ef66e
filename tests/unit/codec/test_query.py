"""Requests: what botocore writes we read, what the model forbids we refuse, and nothing else ever happens."""

from __future__ import annotations

import json
from contextlib import suppress
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import botocore
import pytest
from botocore.model import ServiceModel
from botocore.serialize import create_serializer
from hypothesis import example, given, settings
from hypothesis import strategies as st
from model_strategies import ELASTICACHE, OPERATION_IDS, OPERATIONS, TEXT, quick, thorough, values_of

from cachekeep.codec.aws_model import load_service
from cachekeep.codec.query import decode_request, parse_form
from cachekeep.domain.faults import Fault

EC = load_service("elasticache")
_EXAMPLES = json.loads(
    (Path(botocore.__file__).parent / "data/elasticache/2015-02-02/examples-1.json").read_text("utf-8")
)["examples"]


def sent(service: ServiceModel, operation: str, value: dict[str, Any], check: bool = True) -> bytes:
    """The body that boto3 would send."""
    serializer = create_serializer("query", include_validation=check)
    return urlencode(serializer.serialize_to_request(value, service.operation_model(operation))["body"]).encode()


def decode(**fields: str) -> dict[str, Any]:
    """Decode the fields; `__` stands for a dot."""
    named = {name.replace("__", "."): value for name, value in fields.items()}
    return decode_request(EC, {"Version": "2015-02-02", **named})[1]


def refusal(**fields: str) -> tuple[str, str]:
    with pytest.raises(Fault) as caught:
        decode(**fields)
    assert caught.value.status == 400
    return caught.value.code, caught.value.message


def create(**fields: str) -> dict[str, str]:
    return {"Action": "CreateReplicationGroup", "ReplicationGroupId": "g", "ReplicationGroupDescription": "d", **fields}


@pytest.mark.parametrize(("service", "operation"), OPERATIONS, ids=OPERATION_IDS)
def test_what_botocore_sends_is_read_back(service: ServiceModel, operation: str) -> None:
    ours = load_service(service.service_name)
    model = service.operation_model(operation)

    @quick
    @given(values_of(model.input_shape, for_request=True))
    def check(value: dict[str, Any]) -> None:
        found, decoded = decode_request(ours, parse_form(sent(service, operation, value)))
        assert found.name == operation
        assert decoded == value

    check()


@pytest.mark.parametrize(
    ("operation", "number"), [(op, n) for op, examples in sorted(_EXAMPLES.items()) for n in range(len(examples))]
)
def test_the_examples_of_the_model_are_read_back(operation: str, number: int) -> None:
    value = _EXAMPLES[operation][number].get("input", {})
    body = sent(ELASTICACHE, operation, value, check=False)
    times = {"StartTime", "EndTime"}
    decoded = decode_request(EC, parse_form(body))[1]
    assert {n: v for n, v in decoded.items() if n not in times} == {n: v for n, v in value.items() if n not in times}


@pytest.mark.parametrize(
    ("service", "operation"),
    [(s, op) for s, op in OPERATIONS if s.operation_model(op).input_shape.required_members],
)
def test_each_required_member_is_demanded(service: ServiceModel, operation: str) -> None:
    shape = service.operation_model(operation).input_shape

    @settings(quick, max_examples=2)
    @given(values_of(shape, for_request=True))
    def check(value: dict[str, Any]) -> None:
        for left_out in shape.required_members:
            rest = {name: member for name, member in value.items() if name != left_out}
            with pytest.raises(Fault) as caught:
                decode_request(
                    load_service(service.service_name), parse_form(sent(service, operation, rest, check=False))
                )
            assert caught.value.code == "MissingParameter"
            assert caught.value.message == f"The request must contain the parameter {left_out}."

    check()


def test_structures_without_fields_leave_no_trace() -> None:
    body = sent(
        ELASTICACHE,
        "CreateReplicationGroup",
        {
            "ReplicationGroupId": "g",
            "ReplicationGroupDescription": "d",
            "Tags": [{}, {"Key": "k"}],
            "NodeGroupConfiguration": [{}],
        },
        check=False,
    )
    decoded = decode_request(EC, parse_form(body))[1]
    assert decoded == {"ReplicationGroupId": "g", "ReplicationGroupDescription": "d", "Tags": [{"Key": "k"}]}


def test_a_missing_parameter_is_named() -> None:
    assert refusal(Action="CreateReplicationGroup", ReplicationGroupId="a") == (
        "MissingParameter",
        "The request must contain the parameter ReplicationGroupDescription.",
    )


def test_a_missing_nested_parameter_is_named_by_its_path() -> None:
    code, message = refusal(
        Action="IncreaseReplicaCount",
        ReplicationGroupId="a",
        ApplyImmediately="true",
        ReplicaConfiguration__ConfigureShard__2__NodeGroupId="0001",
    )
    assert code == "MissingParameter"
    assert message == "The request must contain the parameter ReplicaConfiguration.ConfigureShard.2.NewReplicaCount."


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("NumCacheClusters", "abc", "Value (abc) for parameter NumCacheClusters is invalid. Must be an integer."),
        ("NumCacheClusters", "", "Value () for parameter NumCacheClusters is invalid. Must be an integer."),
        ("NumCacheClusters", "1.0", "Value (1.0) for parameter NumCacheClusters is invalid. Must be an integer."),
        ("NumCacheClusters", "1_0", "Value (1_0) for parameter NumCacheClusters is invalid. Must be an integer."),
        ("NumCacheClusters", "٣", "Value (٣) for parameter NumCacheClusters is invalid. Must be an integer."),
        (
            "NumCacheClusters",
            "2147483648",
            "Value (2147483648) for parameter NumCacheClusters is invalid. Must be between -2147483648 and 2147483647.",
        ),
        ("MultiAZEnabled", "yes", "Value (yes) for parameter MultiAZEnabled is invalid. Must be true or false."),
        ("MultiAZEnabled", "", "Value () for parameter MultiAZEnabled is invalid. Must be true or false."),
        (
            "TransitEncryptionMode",
            "off",
            "Value (off) for parameter TransitEncryptionMode is invalid. Must be one of: preferred, required.",
        ),
        ("Port.x", "1", "Value for parameter Port is invalid. Must be a single value."),
        ("Tags", "x", "Value for parameter Tags is invalid. Must be a list."),
        ("Tags.Tag", "x", "Parameter Tags is invalid. Its items must be named Tag.N."),
        ("Tags.Item.1.Key", "x", "Parameter Tags is invalid. Its items must be named Tag.N."),
        ("Tags.Tag.1", "x", "Value for parameter Tags.Tag.1 is invalid. Must be a structure."),
        (
            "Tags.Tag.0.Key",
            "x",
            "Parameter Tags.Tag.0 is invalid. The number of an item must be between 1 and 1000.",
        ),
        (
            "Tags.Tag.1001.Key",
            "x",
            "Parameter Tags.Tag.1001 is invalid. The number of an item must be between 1 and 1000.",
        ),
        (
            "Tags.Tag.01.Key",
            "x",
            "Parameter Tags.Tag.01 is invalid. The number of an item must be between 1 and 1000.",
        ),
        (
            "NodeGroupConfiguration.NodeGroupConfiguration.1.NodeGroupId",
            "12345",
            "Value (12345) for parameter NodeGroupConfiguration.NodeGroupConfiguration.1.NodeGroupId is invalid. "
            "Its length must be between 1 and 4.",
        ),
        (
            "NodeGroupConfiguration.NodeGroupConfiguration.1.NodeGroupId",
            "a",
            "Value (a) for parameter NodeGroupConfiguration.NodeGroupConfiguration.1.NodeGroupId is invalid. "
            r"Must match the pattern \d+.",
        ),
    ],
)
def test_a_bad_value_is_refused_and_named(field: str, value: str, message: str) -> None:
    assert refusal(**create(**{field: value})) == ("InvalidParameterValue", message)


def test_a_list_outside_its_bounds_is_refused() -> None:
    short = refusal(Action="ModifyUser", UserId="u", Passwords="")
    assert short[0] == "InvalidParameterValue"
    assert short[1] == "Parameter Passwords is invalid. The number of its items must be between 1 and 1000."
    long = {f"ReplicationGroupIds.member.{n}": "a" for n in range(1, 22)}
    assert refusal(Action="BatchApplyUpdateAction", ServiceUpdateName="u", **long)[0] == "InvalidParameterValue"


def test_list_items_are_ordered_by_number_and_gaps_are_closed() -> None:
    fields = {f"SecurityGroupIds.SecurityGroupId.{n}": f"sg-{n}" for n in (10, 2, 1000, 1)}
    assert decode(**create(**fields))["SecurityGroupIds"] == ["sg-1", "sg-2", "sg-10", "sg-1000"]


def test_list_items_may_be_named_member() -> None:
    assert decode(**create(Tags__member__1__Key="k"))["Tags"] == [{"Key": "k"}]


def test_list_items_under_two_names_are_refused() -> None:
    assert refusal(**create(Tags__member__1__Key="k", Tags__Tag__2__Key="l"))[0] == "InvalidParameterValue"


def test_an_empty_list_is_an_empty_list() -> None:
    assert decode(**create(Tags=""))["Tags"] == []


@pytest.mark.parametrize("order", [1, -1])
def test_a_field_with_both_a_value_and_parts_is_refused(order: int) -> None:
    fields = dict([("Tags", ""), ("Tags.Tag.1.Key", "k")][::order])
    assert refusal(**create(**fields))[0] == "InvalidParameterValue"


def test_unknown_fields_are_ignored() -> None:
    fields = create(
        Whatever="1", **{"X-Amz-Date": "x", "Tags.Tag.1.Key": "k", "Tags.Tag.1.Colour": "red", "What.e.ver": ""}
    )
    assert decode(**fields) == {"ReplicationGroupId": "g", "ReplicationGroupDescription": "d", "Tags": [{"Key": "k"}]}


def test_depth_is_bounded() -> None:
    assert refusal(**create(**{"Tags" + ".a" * 10_000: "x"}))[0] == "MalformedQueryString"


@pytest.mark.parametrize("text", ["true", "True", "TRUE"])
def test_booleans_are_read_in_any_case(text: str) -> None:
    assert decode(**create(MultiAZEnabled=text))["MultiAZEnabled"] is True


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        ("2026-11-22T21:00:00Z", datetime(2026, 11, 22, 21, tzinfo=UTC)),
        ("2026-11-22T21:00:00.123456Z", datetime(2026, 11, 22, 21, 0, 0, 123456, tzinfo=UTC)),
        ("2026-11-22T22:30:00+01:30", datetime(2026, 11, 22, 21, tzinfo=UTC)),
        ("2026-11-22T21:00:00", datetime(2026, 11, 22, 21, tzinfo=UTC)),
        ("2026-11-22", datetime(2026, 11, 22, tzinfo=UTC)),
    ],
)
def test_timestamps_become_utc(text: str, moment: datetime) -> None:
    found = decode(Action="DescribeEvents", StartTime=text)["StartTime"]
    assert found == moment
    assert found.tzinfo is UTC


@pytest.mark.parametrize(
    "text",
    [
        "",
        "yesterday",
        "2026-13-01T00:00:00Z",
        "0000-01-01",
        "20261122T210000Z",
        "0001-01-01T00:00:00+14:00",
        "1e400",
        "1",
    ],
)
def test_a_bad_timestamp_is_refused(text: str) -> None:
    code, message = refusal(Action="DescribeEvents", StartTime=text)
    assert code == "InvalidParameterValue"
    assert message.endswith("Must be a timestamp in ISO 8601 format.")


def test_a_time_in_another_zone_is_sent_and_read_as_the_same_moment() -> None:
    moment = datetime(2026, 5, 1, 12, tzinfo=timezone(timedelta(hours=5)))
    body = sent(ELASTICACHE, "DescribeEvents", {"StartTime": moment.astimezone(UTC)})
    assert decode_request(EC, parse_form(body))[1]["StartTime"] == moment


@pytest.mark.parametrize(
    ("fields", "code", "message"),
    [
        ({}, "MissingAction", "The request is missing an action or a required parameter."),
        ({"Action": ""}, "MissingAction", "The request is missing an action or a required parameter."),
        (
            {"Action": "DescribeEvent", "Version": "2015-02-02"},
            "InvalidAction",
            "Could not find operation DescribeEvent for version 2015-02-02",
        ),
        (
            {"Action": "DescribeEvents", "Version": "2014-09-30"},
            "InvalidAction",
            "Could not find operation DescribeEvents for version 2014-09-30",
        ),
        (
            {"Action": "DescribeEvents"},
            "InvalidAction",
            "Could not find operation DescribeEvents for version NO_VERSION_SPECIFIED",
        ),
    ],
)
def test_an_unknown_operation_is_refused(fields: dict[str, str], code: str, message: str) -> None:
    with pytest.raises(Fault) as caught:
        decode_request(EC, fields)
    assert (caught.value.code, caught.value.message, caught.value.status) == (code, message, 400)


def test_echoed_values_are_cut() -> None:
    assert len(refusal(**create(NumCacheClusters="9" * 100_000))[1]) < 300


@pytest.mark.parametrize("text", ["a" * 500_000 + "\n", " " * 500_000, "\n" * 500_000])
def test_long_text_costs_linear_time(text: str) -> None:
    fields = {"Action": "ModifyUser", "UserId": "u", "AccessString": text}
    began = datetime.now(UTC)
    with suppress(Fault):
        decode(**fields)
    assert datetime.now(UTC) - began < timedelta(seconds=5)


# --- forms ---


def test_a_form_is_read() -> None:
    assert parse_form(b"a=1&b=x+y%20z%C3%A9&c&d=&e=p=q&&") == {"a": "1", "b": "x y zé", "c": "", "d": "", "e": "p=q"}
    assert parse_form(b"") == {}


@pytest.mark.parametrize(
    "body",
    [b"a=%", b"a=%g0", b"a=%0", b"%=1", b"a=%ff", b"a=\xff", b"a=%00", b"a=\x00", b"a=1&a=2", b"a=1&%61=2", b"=1"],
)
def test_an_ambiguous_form_is_refused(body: bytes) -> None:
    with pytest.raises(Fault) as caught:
        parse_form(body)
    assert (caught.value.code, caught.value.status) == ("MalformedQueryString", 400)


def test_the_size_of_a_form_is_bounded() -> None:
    assert len(parse_form(b"&".join(b"%d=" % n for n in range(10)), max_fields=10)) == 10
    for limits in ({"max_fields": 9}, {"max_bytes": 10}):
        with pytest.raises(Fault, match=r"more than|longer than"):
            parse_form(b"&".join(b"%d=" % n for n in range(10)), **limits)


@thorough
@given(st.dictionaries(TEXT.filter(bool), TEXT))
def test_any_form_of_the_standard_library_is_read_back(fields: dict[str, str]) -> None:
    body = urlencode(fields).encode()
    assert parse_form(body) == fields


@thorough
@given(st.binary() | st.lists(st.sampled_from([b"%", b"=", b"&", b"+", b"a", b"\0", b"\xff", b"%41"])).map(b"".join))
def test_no_bytes_raise_anything_but_a_fault(body: bytes) -> None:
    with suppress(Fault):
        fields = parse_form(body)
        decode_request(EC, {"Action": "CreateReplicationGroup", "Version": "2015-02-02"} | fields)


_NAMES = ["Tags", "Tag", "Key", "Port", "StartTime", "Filters", "NodeGroupConfiguration", "ReplicaAvailabilityZones"]
_PARTS = st.sampled_from([*_NAMES, "ReplicationGroupId", "member", "1", "2", "-1", "0", "9999", ""])
_KEYS = st.lists(_PARTS, min_size=1, max_size=8).map(".".join) | st.text()
_VALUES = st.text() | st.sampled_from(["", "true", "1", "1e5", "2026-01-01T00:00:00Z", "\ud800", "9" * 5000])


@thorough
@example({"Tags.Tag." + "9" * 5000: ""}, "CreateReplicationGroup")
@given(st.dictionaries(_KEYS, _VALUES), st.sampled_from(sorted(EC.operations)))
def test_no_fields_raise_anything_but_a_fault(fields: dict[str, str], operation: str) -> None:
    with suppress(Fault):
        decode_request(EC, fields | {"Action": operation, "Version": EC.api_version})
