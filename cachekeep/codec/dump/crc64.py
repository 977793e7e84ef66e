"""CRC-64 as Redis and Valkey end every DUMP with it ("Jones": reflected, starts at 0, no final xor). Pure.

A table needs 80 ns for a byte here, which is 10 s for a value of 120 MB. So long input is folded first: the checksum
is the remainder of the message divided by a polynomial P over GF(2), hence any multiple S of P may be used to shorten
the message, and Python's integers shift and xor a whole message in C. S is chosen with few terms, all but the highest
of low degree: x**a = the others. Squared k times it is S(x**(2**k)), as sparse as before and still a multiple of P,
so the same S folds messages of every size to about a half.
Source: src/crc64.c (poly 0xad93d23594c935a9, check value e9c6d914c4b8d9ca); the multiples were found by search.
"""

from __future__ import annotations

import struct
from functools import cache

_POLY = 0xAD93D23594C935A9
_REFLECTED = int(f"{_POLY:064b}"[::-1], 2)
_CHUNK = 1 << 17  # folded at once: small enough to stay in a processor's cache
_SHORT_BITS = 1280  # below this the table is faster than a fold
_Tables = tuple[list[int], ...]


def _terms(low: int, *others: int) -> tuple[int, ...]:
    """The exponents of a polynomial, highest first: the bits of `low`, and others above them."""
    return (*others, *(e for e in range(63, -1, -1) if low >> e & 1))


# (a, terms): x**a is congruent to the sum of x**e over terms, modulo P. tests/unit/codec_dump proves both.
MULTIPLES = (
    (5754, _terms(0x4050050008004001, 297, 151)),
    (703, _terms(0x400200901820C435, 97, 85)),
)


def crc64(data: bytes) -> int:
    """Return the checksum of data."""
    crc = 0
    for start in range(0, len(data), _CHUNK):
        chunk = data[start : start + _CHUNK]
        crc = _fold(chunk, crc) if len(chunk) * 8 > _SHORT_BITS else _by_table(chunk, crc)
    return crc


def _fold(data: bytes, crc: int) -> int:
    """Shorten data to a remainder of some 100 bytes with the same checksum, and take that by table.

    The first bit of the message, which has the highest power, is the lowest of the integer.
    """
    message = int.from_bytes(data, "little") ^ crc
    bits = len(data) * 8
    for a, terms in MULTIPLES:
        k = max((bits * 5 // 8 // a).bit_length() - 1, 0)
        top = terms[0]
        while bits > _SHORT_BITS and k >= 0:
            kept = a << k
            cut = min(bits - kept, (a - top) << k)
            if cut <= bits >> 3:
                k -= 1
                continue
            head = message & ((1 << cut) - 1)
            folded = head
            for term in terms[1:]:
                folded ^= head << ((top - term) << k)
            message = (message >> cut) ^ (folded << (kept - (top << k) - cut))
            bits -= cut
    missing = -bits % 8  # zeros before the first bit change nothing
    return _by_table((message << missing).to_bytes((bits + missing) // 8, "little"), 0)


def _by_table(data: bytes, crc: int) -> int:
    """The checksum eight bytes at a time, one table for the distance of each."""
    t0, t1, t2, t3, t4, t5, t6, t7 = _tables()
    odd = len(data) & 7
    for byte in data[:odd]:
        crc = t0[(crc ^ byte) & 255] ^ (crc >> 8)
    for word in struct.unpack(f"<{len(data) >> 3}Q", data[odd:]):
        a, b, c, d, e, f, g, h = (crc ^ word).to_bytes(8, "little")
        crc = t7[a] ^ t6[b] ^ t5[c] ^ t4[d] ^ t3[e] ^ t2[f] ^ t1[g] ^ t0[h]
    return crc


@cache
def _tables() -> _Tables:
    first = []
    for byte in range(256):
        crc = byte
        for _ in range(8):
            crc = (crc >> 1) ^ (_REFLECTED if crc & 1 else 0)
        first.append(crc)
    tables = [first]
    for _ in range(7):
        tables.append([first[crc & 255] ^ (crc >> 8) for crc in tables[-1]])
    return tuple(tables)
