"""The elementary parts of RDB, written: lengths, strings, listpacks. Pure; the inverse of `reader` and `packed`.

Strings are written as they are: neither LZF nor integers, which every server reads and none needs.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable

_SHORT = [bytes([size]) for size in range(64)]
_UNKNOWN_COUNT = 0xFFFF
_HEADER = struct.Struct("<IH")
_HEADER_BYTES = _HEADER.size + 1  # with the end mark
_LISTPACK_INTEGERS = ((15, 0xF1, 2), (31, 0xF3, 4), (63, 0xF4, 8))


def length(number: int) -> bytes:
    """A length, or any number of 64 bits without sign."""
    if number < 64:
        return _SHORT[number]
    if number < 1 << 14:
        return (number | 0x4000).to_bytes(2, "big")
    if number < 1 << 32:
        return b"\x80" + number.to_bytes(4, "big")
    return b"\x81" + number.to_bytes(8, "big")


def string(data: bytes) -> bytes:
    size = len(data)
    return (_SHORT[size] if size < 64 else length(size)) + data


def listpack(elements: Iterable[bytes | int]) -> bytes:
    """The elements as one listpack. Integers have up to 64 bits with sign. Source: src/listpack.c."""
    parts = [_element(element) for element in elements]
    size = _HEADER_BYTES + sum(map(len, parts))
    return b"".join((_HEADER.pack(size, min(len(parts), _UNKNOWN_COUNT)), *parts, b"\xff"))


def _element(element: bytes | int) -> bytes:
    if isinstance(element, int):
        encoded = _integer(element)
    elif len(element) < 64:
        encoded = bytes((0x80 | len(element),)) + element
    elif len(element) < 4096:
        encoded = (0xE000 | len(element)).to_bytes(2, "big") + element
    else:
        encoded = b"\xf0" + len(element).to_bytes(4, "little") + element
    return encoded + _back_length(len(encoded))


def _integer(number: int) -> bytes:
    if 0 <= number < 128:
        return bytes((number,))
    for bits, first, size in _LISTPACK_INTEGERS:
        if -(1 << bits) <= number < 1 << bits:
            return bytes((first,)) + number.to_bytes(size, "little", signed=True)
    raise ValueError(f"{number} has more than 64 bits")


def _back_length(size: int) -> bytes:
    """The size of an element for walks from the end: 7 bits a byte, all but the first byte marked."""
    septets = 1 if size <= 127 else 2 if size < 16383 else 3 if size < 2097151 else 4 if size < 268435455 else 5
    marked = [size >> 7 * (septets - 1 - at) & 127 | (128 if at else 0) for at in range(septets)]
    return bytes(marked)
