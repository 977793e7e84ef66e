"""The checksum of DUMP, the fast way against the definition."""

from __future__ import annotations

import random

import pytest

from cachekeep.codec.dump.crc64 import MULTIPLES, crc64

POLY = 0xAD93D23594C935A9


def bit_by_bit(data: bytes) -> int:
    crc = 0
    for byte in data:
        for bit in range(8):
            top = (crc >> 63) ^ (byte >> bit & 1)
            crc = (crc << 1 & (1 << 64) - 1) ^ (POLY if top else 0)
    return int(f"{crc:064b}"[::-1], 2)


def power_of_x(exponent: int) -> int:
    remainder = 1
    for _ in range(exponent):
        remainder = (remainder << 1 & (1 << 64) - 1) ^ (POLY if remainder >> 63 else 0)
    return remainder


def test_the_check_value_of_the_redis_source() -> None:
    assert crc64(b"123456789") == 0xE9C6D914C4B8D9CA


@pytest.mark.parametrize(("a", "terms"), MULTIPLES)
def test_the_folding_polynomials_are_multiples(a: int, terms: tuple[int, ...]) -> None:
    total = 0
    for term in terms:
        total ^= power_of_x(term)
    assert total == power_of_x(a)
    assert list(terms) == sorted(terms, reverse=True)
    assert terms[0] < a // 2


@pytest.mark.parametrize("sizes", [range(400), range(700, 1500, 37), (4095, 20_001)])
def test_every_size_agrees_with_the_definition(sizes: range) -> None:
    noise = random.Random(5).randbytes(20_001)
    for size in sizes:
        assert crc64(noise[:size]) == bit_by_bit(noise[:size]), size


def test_chunks_of_large_data_join() -> None:
    """A checksum that starts at 0 ignores zeros in front, so the same bytes may be cut elsewhere."""
    noise = random.Random(6).randbytes(300_001)
    for zeros in (1, 70_000, 131_071):
        assert crc64(bytes(zeros) + noise) == crc64(noise)


def test_data_of_zeros() -> None:
    assert crc64(b"") == 0
    assert crc64(bytes(100_000)) == 0
