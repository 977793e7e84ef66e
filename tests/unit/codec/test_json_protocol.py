"""Typed requests are checked as forms are, and answers that do not fit the model are bugs."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cachekeep.codec import cbor
from cachekeep.codec.aws_model import load_service
from cachekeep.codec.json_protocol import decode_json, encode_json, fault_type, query_error
from cachekeep.codec.rpc_cbor import decode_cbor, encode_cbor, operation_of
from cachekeep.codec.xml import UnknownMember
from cachekeep.domain.faults import Fault

SERVICE = load_service("monitoring")
STATISTICS = SERVICE.operations["GetMetricStatistics"]
DATA = SERVICE.operations["GetMetricData"]
GOOD = b'{"Namespace":"n","MetricName":"m","StartTime":0,"EndTime":"2026-01-01T00:00:00Z","Period":60,"Extra":1}'


def test_a_request_is_read_by_the_model() -> None:
    value = decode_json(STATISTICS.input, GOOD)
    assert value == {
        "Namespace": "n",
        "MetricName": "m",
        "StartTime": datetime(1970, 1, 1, tzinfo=UTC),
        "EndTime": datetime(2026, 1, 1, tzinfo=UTC),
        "Period": 60,
    }


@pytest.mark.parametrize(
    ("old", "new", "code"),
    [
        (b'"Period":60', b'"Period":0', "InvalidParameterValue"),
        (b'"Period":60', b'"Period":true', "InvalidParameterValue"),
        (b'"Period":60', b'"Period":1.5', "InvalidParameterValue"),
        (b'"Period":60,', b"", "MissingParameter"),
        (b'"Namespace":"n"', b'"Namespace":["n"]', "InvalidParameterValue"),
        (b'"Namespace":"n"', b'"Namespace":":n"', "InvalidParameterValue"),
        (b'"StartTime":0', b'"StartTime":1e300', "InvalidParameterValue"),
        (b'"StartTime":0', b'"StartTime":"soon"', "InvalidParameterValue"),
        (b'"Extra":1', b'"Unit":"Furlongs"', "InvalidParameterValue"),
        (b'"Extra":1', b'"Dimensions":[{"Name":"a"}]', "MissingParameter"),
        (b'"Extra":1}', b'"Extra":1', "SerializationException"),
        (GOOD, b"[" * 100_000, "SerializationException"),
        (GOOD, b"[]", "InvalidParameterValue"),
    ],
)
def test_what_the_model_does_not_allow_is_refused(old: bytes, new: bytes, code: str) -> None:
    with pytest.raises(Fault) as caught:
        decode_json(STATISTICS.input, GOOD.replace(old, new))
    assert caught.value.code == code


def test_a_number_of_hundreds_of_digits_is_refused() -> None:
    body = b'{"AlarmName":"a","Threshold":' + b"9" * 400 + b"}"
    with pytest.raises(Fault):
        decode_json(SERVICE.operations["PutMetricAlarm"].input, body)


@given(st.binary(max_size=40))
def test_any_bytes_are_read_or_refused(body: bytes) -> None:
    for decode in (decode_json, decode_cbor):
        try:
            decode(STATISTICS.input, body)
        except Fault:
            continue


def test_an_answer_that_does_not_fit_the_model_is_a_bug() -> None:
    for encode in (encode_json, encode_cbor):
        with pytest.raises(UnknownMember):
            encode(DATA.output, {"Nothing": 1})
        with pytest.raises(TypeError):
            encode(DATA.output, {"MetricDataResults": [1]})


def test_a_column_is_packed() -> None:
    result = {"MetricDataResults": [{"Id": "a", "Timestamps": [60, 120], "Values": [1.0, 2.5], "Label": None}]}
    read = cbor.decode(encode_cbor(DATA.output, result))
    times = [datetime(1970, 1, 1, 0, minute, tzinfo=UTC) for minute in (1, 2)]
    assert read == {"MetricDataResults": [{"Id": "a", "Timestamps": times, "Values": [1.0, 2.5]}]}


def test_faults_have_the_names_of_their_shapes_and_their_codes_beside() -> None:
    fault = Fault("InvalidParameterValue", "no")
    assert fault_type(SERVICE, fault).endswith("#InvalidParameterValueException")
    assert query_error(fault) == "InvalidParameterValue;Sender"
    assert query_error(Fault("InternalFailure", "no")) == "InternalFailure;Receiver"


def test_the_path_names_the_operation() -> None:
    assert operation_of(SERVICE, "/service/GraniteServiceVersion20100801/operation/ListMetrics") == "ListMetrics"
    assert operation_of(SERVICE, "/service/Other/operation/ListMetrics") is None
