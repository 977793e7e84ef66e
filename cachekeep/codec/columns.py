"""Columns of doubles as planes of bytes: what stays the same, what zstd can shrink, and noise. Pure, exact.

Called by store.series_block. The first bytes of all numbers are one plane, the second bytes the next one, and so on.
Numbers of one kind share their high bytes, and whole numbers have only zeros in their low ones: such planes are told by
one byte. The others are dense (few different bytes: worth compressing) or noise (not worth it). Decoding moves whole
planes and touches no number, which is what makes reading a day of minutes quick.

A column is a head of ten bytes (bits of the dense planes, bits of the noisy ones, then the byte of every plane that
stays the same), its dense planes, and its noisy planes. Bytes are in the order of this
machine. Bit for bit what went in: infinities, not-a-number and the sign of zero too.
"""

from __future__ import annotations

from array import array
from math import exp

HEAD_BYTES = 10
_WIDTH = 8
# Of the different bytes that a plane of random bytes has; above it the plane is noise.
_NOISY = 0.8
_PLANES = tuple(tuple(i for i in range(_WIDTH) if bits >> i & 1) for bits in range(256))


class ColumnDamaged(ValueError):
    """The bytes are not what was written."""


def encode(numbers: array[float]) -> tuple[bytes, bytes, bytes]:
    """Head, dense planes, noisy planes. numbers: at least one, an array of doubles."""
    raw, length = numbers.tobytes(), len(numbers)
    first = raw[:_WIDTH]
    if raw == first * length:
        return bytes(2) + first, b"", b""
    most = _NOISY * 256 * (1 - exp(-length / 256))
    dense, noise = [], []
    dense_bits = noise_bits = 0
    for i in range(_WIDTH):
        plane = raw[i::_WIDTH]
        if plane.count(plane[:1]) == length:
            continue
        if len(set(plane)) > most:
            noise.append(plane)
            noise_bits |= 1 << i
        else:
            dense.append(plane)
            dense_bits |= 1 << i
    return bytes((dense_bits, noise_bits)) + first, b"".join(dense), b"".join(noise)


def planes(heads: bytes) -> tuple[int, int]:
    """How many planes are dense, and how many noise. heads: of some columns, one after the other."""
    return sum(map(int.bit_count, heads[::HEAD_BYTES])), sum(map(int.bit_count, heads[1::HEAD_BYTES]))


def decode(heads: bytes, dense: bytes, noise: bytes, length: int) -> list[array[float]]:
    """As many columns as there are heads; their planes follow each other. Raises ColumnDamaged."""
    dense_planes, noise_planes = planes(heads)
    if length < 1 or len(heads) % HEAD_BYTES:
        raise ColumnDamaged("not heads of columns")
    if (len(dense), len(noise)) != (dense_planes * length, noise_planes * length):
        raise ColumnDamaged("columns are shorter or longer than their heads say")
    found = []
    dense_at = noise_at = 0
    for at in range(0, len(heads), HEAD_BYTES):
        numbers = array("d")
        dense_bits, noise_bits = heads[at], heads[at + 1]
        if not dense_bits and not noise_bits:
            numbers.frombytes(heads[at + 2 : at + HEAD_BYTES])
            found.append(numbers * length)
            continue
        raw = bytearray(heads[at + 2 : at + HEAD_BYTES] * length)
        for i in _PLANES[dense_bits]:
            raw[i::_WIDTH] = dense[dense_at : dense_at + length]
            dense_at += length
        for i in _PLANES[noise_bits]:
            raw[i::_WIDTH] = noise[noise_at : noise_at + length]
            noise_at += length
        numbers.frombytes(raw)
        found.append(numbers)
    return found
