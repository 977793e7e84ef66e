"""Columns of numbers: what went in comes out, in few bytes."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cachekeep.codec.columns import ColumnDamaged, decode, encode

WHOLE = st.integers(-(2**60), 2**60).map(float)
DECIMAL = st.integers(-(10**9), 10**9).map(lambda n: n / 100)
ANY = st.floats(allow_nan=False)


@given(st.one_of(st.lists(kind, min_size=1, max_size=80) for kind in (WHOLE, DECIMAL, ANY)))
def test_numbers_come_back_as_they_were(numbers: list[float]) -> None:
    assert decode(encode(numbers), len(numbers)) == numbers


def test_not_a_number_comes_back() -> None:
    back = decode(encode([1.0, math.nan, math.inf]), 3)
    assert math.isnan(back[1])
    assert back[0::2] == [1.0, math.inf]


@pytest.mark.parametrize(
    ("numbers", "most_bytes"),
    [
        ([7.25] * 1440, 9),
        ([float(1_000_000_000 + n % 100) for n in range(1440)], 1440 + 12),
        ([float(n * 1000) for n in range(1440)], 2 * 1440 + 12),
        ([(100 + n % 50) / 100 for n in range(1440)], 1440 + 12),
    ],
    ids=["constant", "far from zero", "growing", "two decimals"],
)
def test_a_column_takes_no_more_bytes_than_its_noise(numbers: list[float], most_bytes: int) -> None:
    assert len(encode(numbers)) <= most_bytes


@given(st.binary(max_size=60), st.integers(1, 10))
def test_damaged_bytes_are_refused_or_give_that_many_numbers(data: bytes, length: int) -> None:
    try:
        assert len(decode(data, length)) == length
    except ColumnDamaged:
        return


def test_a_column_that_lost_a_byte_is_refused() -> None:
    with pytest.raises(ColumnDamaged):
        decode(encode([1.5, 2.123456789, 7.0])[:-1], 3)
