"""Columns of numbers as few bytes: constants, whole or decimal numbers, doubles. Pure, exact.

Called by store.series_block. A column of n numbers is one kind byte and what follows it:
  C  all are one number: a double.
  I  whole numbers once multiplied by ten to the power of `digits`: digits, whether differences, width, first number,
     then n (or n-1) offsets of 1, 2, 4 or 8 bytes, byte-shuffled.
  D  n doubles, byte-shuffled.
Byte-shuffled: all first bytes, then all second bytes ...: equal high bytes come together, which zstd then shrinks.
All little-endian. Infinities and not-a-number are kept; the sign of a zero is not.
"""

from __future__ import annotations

import struct
import sys
from array import array
from collections.abc import Sequence
from itertools import accumulate
from math import isfinite
from operator import sub

DIGITS = (0, 2, 4)
# Beyond it a double cannot tell two neighbouring whole numbers apart.
MOST_WHOLE = 2**53
_CODES = {1: "b", 2: "h", 4: "i", 8: "q"}
_WHOLE = struct.Struct("<cBBBq")
_CONSTANT = struct.Struct("<cd")


class ColumnDamaged(ValueError):
    """The bytes are not a column of that many numbers."""


def encode(numbers: Sequence[float]) -> bytes:
    """numbers: at least one."""
    first = numbers[0]
    if numbers.count(first) == len(numbers):
        return _CONSTANT.pack(b"C", first)
    for digits in DIGITS:
        whole = _whole(numbers, digits)
        if whole is not None:
            return _encode_whole(whole, digits)
    return b"D" + _shuffled(array("d", numbers))


def decode(data: bytes, length: int) -> list[float]:
    """Raises ColumnDamaged."""
    try:
        match data[:1]:
            case b"C":
                return [_CONSTANT.unpack(data)[1]] * length
            case b"I":
                found = _decode_whole(data)
            case b"D":
                found = _unshuffled(data[1:], "d").tolist()
            case _:
                raise ColumnDamaged("a column of an unknown kind")
    except (struct.error, ValueError, KeyError, OverflowError) as error:
        raise ColumnDamaged(f"a column cannot be read: {error}") from error
    if len(found) != length:
        raise ColumnDamaged(f"a column of {len(found)} numbers where {length} were written")
    return found


def _whole(numbers: Sequence[float], digits: int) -> list[int] | None:
    """The numbers times 10^digits, where that loses nothing."""
    if digits == 0:
        if not all(map(float.is_integer, numbers)) or max(map(abs, numbers)) > MOST_WHOLE:
            return None
        return list(map(int, numbers))
    scale = 10.0**digits
    # Most columns that do not fit are known by a few numbers.
    for some in (numbers[:4], numbers):
        if not all(isfinite(n) and abs(n) * scale < MOST_WHOLE and round(n * scale) / scale == n for n in some):
            return None
    return [round(n * scale) for n in numbers]


def _encode_whole(whole: list[int], digits: int) -> bytes:
    least = min(whole)
    most = max(whole)
    steps = list(map(sub, whole[1:], whole))
    width = _width(least - (middle := (least + most) // 2), most - middle)
    step_width = _width(min(steps), max(steps))
    if step_width < width:
        return _WHOLE.pack(b"I", digits, 1, step_width, whole[0]) + _shuffled(array(_CODES[step_width], steps))
    offsets = array(_CODES[width], [n - middle for n in whole])
    return _WHOLE.pack(b"I", digits, 0, width, middle) + _shuffled(offsets)


def _width(least: int, most: int) -> int:
    return next(w for w in (1, 2, 4, 8) if -(1 << (8 * w - 1)) <= least and most < 1 << (8 * w - 1))


def _decode_whole(data: bytes) -> list[float]:
    _, digits, differences, width, first = _WHOLE.unpack_from(data)
    offsets = _unshuffled(data[_WHOLE.size :], _CODES[width])
    whole = accumulate(offsets, initial=first) if differences else map(first.__add__, offsets)
    if digits == 0:
        return list(map(float, whole))
    scale = 10.0**digits
    return [n / scale for n in whole]


def _shuffled(numbers: array[float] | array[int]) -> bytes:
    if sys.byteorder == "big":
        numbers.byteswap()
    raw, width = numbers.tobytes(), numbers.itemsize
    return b"".join(raw[i::width] for i in range(width))


def _unshuffled(data: bytes, code: str) -> array[float]:
    numbers: array[float] = array(code)
    width = numbers.itemsize
    if width == 1:
        numbers.frombytes(data)
        return numbers
    length, left = divmod(len(data), width)
    if left:
        raise ColumnDamaged("a column ends within a number")
    raw = bytearray(len(data))
    for i in range(width):
        raw[i::width] = data[i * length : (i + 1) * length]
    numbers.frombytes(raw)
    if sys.byteorder == "big":
        numbers.byteswap()
    return numbers
