"""Columns of numbers: what went in comes out bit for bit, in few bytes."""

from __future__ import annotations

import math
from array import array

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cachekeep.codec.columns import HEAD_BYTES, ColumnDamaged, decode, encode

WHOLE = st.integers(-(2**60), 2**60).map(float)
DECIMAL = st.integers(-(10**9), 10**9).map(lambda n: n / 100)
LISTS = st.one_of([st.lists(kind, min_size=1, max_size=80) for kind in (WHOLE, DECIMAL, st.floats())])


@given(LISTS)
def test_numbers_come_back_bit_for_bit(numbers: list[float]) -> None:
    column = array("d", numbers)
    assert decode(*encode(column), len(numbers))[0].tobytes() == column.tobytes()


@given(st.lists(st.tuples(st.floats(), WHOLE, DECIMAL), min_size=1, max_size=50))
def test_columns_that_follow_each_other_come_back(rows: list[tuple[float, float, float]]) -> None:
    columns = [array("d", numbers) for numbers in zip(*rows, strict=True)]
    heads, dense, noise = map(b"".join, zip(*map(encode, columns), strict=True))
    assert [c.tobytes() for c in decode(heads, dense, noise, len(rows))] == [c.tobytes() for c in columns]


@pytest.mark.parametrize(
    ("numbers", "most_planes"),
    [
        ([7.25] * 1440, 0),
        ([60.0] * 700 + [59.0] * 740, 2),
        ([float(1024 + n % 100) for n in range(1440)], 2),
        ([math.nan] * 5, 0),
    ],
    ids=["constant", "two numbers", "small whole numbers", "not a number"],
)
def test_planes_that_stay_the_same_take_no_bytes(numbers: list[float], most_planes: int) -> None:
    _, dense, noise = encode(array("d", numbers))
    assert len(dense) + len(noise) <= most_planes * len(numbers)


def test_noise_is_kept_apart_from_what_can_be_compressed() -> None:
    numbers = array("d", [50 + math.sin(n * n) for n in range(360)])
    _, dense, noise = encode(numbers)
    assert len(noise) >= 5 * 360
    assert len(dense) <= 2 * 360


@given(st.binary(max_size=HEAD_BYTES * 2), st.binary(max_size=60), st.binary(max_size=60), st.integers(0, 10))
def test_damaged_bytes_are_refused_or_give_that_many_numbers(heads: bytes, a: bytes, b: bytes, length: int) -> None:
    try:
        assert all(len(column) == length for column in decode(heads, a, b, length))
    except ColumnDamaged:
        return


def test_a_column_that_lost_a_byte_is_refused() -> None:
    head, dense, noise = encode(array("d", [1.5, 2.123456789, 7.0]))
    with pytest.raises(ColumnDamaged):
        decode(head, dense[:-1], noise, 3)
