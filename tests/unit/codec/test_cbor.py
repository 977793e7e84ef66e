"""CBOR: what goes in comes out, columns are packed as single items would be, and bad bytes are refused."""

from __future__ import annotations

import struct
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cachekeep.codec import cbor

VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats(allow_nan=False)
    | st.text(st.characters(codec="utf-8"))
    | st.binary(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=4),
    max_leaves=20,
)


@given(VALUES)
def test_what_is_encoded_is_decoded_again(value: object) -> None:
    assert cbor.decode(cbor.encode(value)) == value


@given(st.lists(st.floats(allow_nan=False)))
def test_a_column_of_numbers_is_a_list_of_numbers(values: list[float]) -> None:
    assert cbor.doubles(values) == cbor.encode(values)


@given(st.lists(st.integers(-10, 2**34)))
def test_a_column_of_times_is_a_list_of_times(seconds: list[int]) -> None:
    assert cbor.decode(cbor.times(seconds)) == [datetime.fromtimestamp(at, UTC) for at in seconds]


@given(st.binary(max_size=60))
def test_any_bytes_are_read_or_refused(body: bytes) -> None:
    try:
        cbor.decode(body)
    except cbor.Malformed:
        return


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"\x9f",
        b"\xff",
        b"\x81\xff",
        b"\xa1\x01\x02",
        b"\xc2\x01",
        b"\x9a\xff\xff\xff\xff",
        b"\x81" * 40 + b"\x01",
        b"\xa2\x61a\x01\x61a\x02",
        b"\x01\x01",
        b"\x62\xff\xff",
        b"\xc1" + struct.pack(">Bd", 0xFB, 1e300),
    ],
)
def test_bytes_that_are_no_cbor_of_this_protocol_are_refused(body: bytes) -> None:
    with pytest.raises(cbor.Malformed):
        cbor.decode(body)


def test_lists_maps_and_texts_without_a_length_are_read() -> None:
    assert cbor.decode(b"\xbf\x61a\x9f\x01\x02\xff\x61b\x7f\x61x\x61y\xff\xff") == {"a": [1, 2], "b": "xy"}


def test_a_time_without_a_zone_is_a_bug() -> None:
    with pytest.raises(TypeError):
        cbor.encode(datetime(2026, 1, 1))
