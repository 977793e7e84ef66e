"""The elementary parts of RDB: lengths, strings, numbers. Pure; called by the decoders of types.

A length is 6, 14, 32 or 64 bits, told by the two highest bits of its first byte; 11 means a string in a special
encoding instead: an integer of 8, 16 or 32 bits, or LZF. Source: src/rdb.h, src/rdb.c rdbLoadLenByRef.
"""

from __future__ import annotations

import struct

from cachekeep.codec.dump.errors import DumpError
from cachekeep.codec.dump.lzf import decompress

_INTEGER_BYTES = (1, 2, 4)
_LZF = 3
_DOUBLE = struct.Struct("<d")
_LONGEST_SCORE = 128  # servers write 17 digits, a sign, a point and an exponent
_NOT_A_NUMBER, _PLUS_INFINITY, _MINUS_INFINITY = 253, 254, 255


class Reader:
    """Reads data[at:end] from front to back. Every method raises DumpError where too little is left."""

    __slots__ = ("at", "data", "end")

    def __init__(self, data: bytes, at: int, end: int) -> None:
        self.data = data
        self.at = at
        self.end = end

    def take(self, count: int) -> bytes:
        """The next count bytes."""
        at = self.at
        after = at + count
        if after > self.end:
            raise DumpError(f"{count} bytes are announced and {self.end - at} are left")
        self.at = after
        return self.data[at:after]

    def length(self) -> int:
        """A length, or any number without sign."""
        at = self.at
        if at >= self.end:
            raise DumpError("cut off where a length is expected")
        first = self.data[at]
        if first < 0x40:
            self.at = at + 1
            return first
        if first >= 0xC0:
            raise DumpError(f"a length is expected, not the encoding {first & 63}")
        size = 2 if first < 0x80 else {0x80: 5, 0x81: 9}.get(first, 0)
        if not size:
            raise DumpError(f"no length begins with the byte {first}")
        raw = self.take(size)
        return int.from_bytes(raw, "big") & 0x3FFF if size == 2 else int.from_bytes(raw[1:], "big")

    def count(self, least_bytes: int) -> int:
        """A number of elements that have at least least_bytes each, so that a lie is found before the loop."""
        count = self.length()
        if count * least_bytes > self.end - self.at:
            raise DumpError(f"{count} elements are announced and {self.end - self.at} bytes are left")
        return count

    def string(self) -> bytes:
        """A string in any encoding, as the bytes that a client would read."""
        at = self.at
        if at < self.end:
            first = self.data[at]
            if first < 0x40:  # most strings, so the shortest way
                after = at + 1 + first
                if after <= self.end:
                    self.at = after
                    return self.data[at + 1 : after]
            elif first >= 0xC0:
                self.at = at + 1
                return self._encoded(first & 63)
        return self.take(self.length())

    def _encoded(self, encoding: int) -> bytes:
        if encoding < _LZF:
            return b"%d" % int.from_bytes(self.take(_INTEGER_BYTES[encoding]), "little", signed=True)
        if encoding == _LZF:
            packed_length, length = self.length(), self.length()
            return decompress(self.take(packed_length), length)
        raise DumpError(f"no string has the encoding {encoding}")

    def milliseconds(self) -> int:
        """A moment in ms since 1970; -1 is a common "none"."""
        return int.from_bytes(self.take(8), "little", signed=True)

    def double(self) -> float:
        """A score since RDB 8."""
        score: float = _DOUBLE.unpack(self.take(8))[0]
        return score

    def double_text(self) -> float:
        """A score before RDB 8: the length of its decimal text, which three values replace."""
        size = self.take(1)[0]
        if size == _PLUS_INFINITY:
            return float("inf")
        if size == _MINUS_INFINITY:
            return float("-inf")
        if size == _NOT_A_NUMBER:
            return float("nan")
        return score_of(self.take(size))


def score_of(text: bytes) -> float:
    """The score that a decimal text stands for, as strtod reads it."""
    try:
        if len(text) <= _LONGEST_SCORE and b"_" not in text:  # only Python reads 1_000
            return float(text)
    except ValueError:
        pass
    raise DumpError(f"not a score: {text[:40]!r}")
