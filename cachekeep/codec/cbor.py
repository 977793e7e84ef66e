"""CBOR as Smithy's RPC v2 protocol uses it: bytes <-> dict, list, str, bytes, int, float, bool, datetime, None. Pure.

Our own, of the few types that AWS sends, and not a library: whole columns of datapoints are packed at once (a million
numbers in some ten milliseconds), and what a request may make us build is bounded. Called by codec.rpc_cbor.
Source: RFC 8949; Smithy "RPC v2 CBOR protocol" (timestamps are tag 1, seconds since 1970).
"""

from __future__ import annotations

import struct
import sys
from array import array
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from functools import lru_cache
from typing import Final

MAX_DEPTH: Final = 32
MAX_ITEMS: Final = 200_000
_BREAK: Final = object()
_SIMPLE: Final = {20: False, 21: True, 22: None, 23: None}
_FLOATS: Final = {25: ">e", 26: ">f", 27: ">d"}
_TIME_TAG: Final = 1
_INDEFINITE: Final = 31


class Malformed(ValueError):
    """The bytes are not the CBOR that this protocol allows."""


def decode(body: bytes) -> object:
    """Raises Malformed: for what is cut short, left over, nested or numerous without end, and for unknown tags."""
    reader = _Reader(body)
    value = reader.item(0)
    if value is _BREAK or reader.at != len(body):
        raise Malformed("something is left over")
    return value


class _Reader:
    def __init__(self, body: bytes) -> None:
        self.body = body
        self.at = 0
        self._left = MAX_ITEMS

    def item(self, depth: int) -> object:
        if depth > MAX_DEPTH:
            raise Malformed("it is nested too deeply")
        self._left -= 1
        if self._left < 0:
            raise Malformed("it has too many items")
        if self.at >= len(self.body):
            raise Malformed("it is cut short")
        first = self.body[self.at]
        self.at += 1
        major, info = first >> 5, first & 31
        if major == 3:  # most of what there is
            return self._text(info)
        if major == 7:
            return self._simple(info)
        if major in (0, 1):
            number = self._number(info)
            return number if major == 0 else -1 - number
        if major == 6:
            return self._tagged(self._number(info), depth)
        if major == 4:
            return self._list(info, depth)
        if major == 5:
            return self._map(info, depth)
        return self._bytes(info, major)

    def _take(self, count: int) -> bytes:
        end = self.at + count
        if end > len(self.body):
            raise Malformed("it is cut short")
        taken, self.at = self.body[self.at : end], end
        return taken

    def _number(self, info: int) -> int:
        if info < 24:
            return info
        if info > 27:
            raise Malformed("a number has no length")
        return int.from_bytes(self._take(1 << (info - 24)), "big")

    def _simple(self, info: int) -> object:
        if info in _SIMPLE:
            return _SIMPLE[info]
        if info == _INDEFINITE:
            return _BREAK
        form = _FLOATS.get(info)
        if form is None:
            raise Malformed("a simple value is unknown")
        return struct.unpack(form, self._take(struct.calcsize(form)))[0]

    def _bytes(self, info: int, major: int) -> bytes:
        if info != _INDEFINITE:
            return self._take(self._number(info))
        parts: list[bytes] = []
        while True:
            first = self._take(1)[0]
            if first == 0xFF:
                return b"".join(parts)
            if first >> 5 != major or first & 31 == _INDEFINITE:
                raise Malformed("a text is put together of something else")
            parts.append(self._take(self._number(first & 31)))

    def _text(self, info: int) -> str:
        try:
            return (self._take(info) if info < 24 else self._bytes(info, 3)).decode()
        except UnicodeDecodeError:
            raise Malformed("a text is not UTF-8") from None

    def _tagged(self, tag: int, depth: int) -> datetime:
        value = self.item(depth + 1)
        if tag != _TIME_TAG or isinstance(value, bool) or not isinstance(value, int | float):
            raise Malformed("a tag is unknown")
        try:
            return datetime.fromtimestamp(value, UTC)
        except (ValueError, OverflowError, OSError):
            raise Malformed("a time is out of range") from None

    def _list(self, info: int, depth: int) -> list[object]:
        if info != _INDEFINITE:
            return [self._value(depth) for _ in range(self._count(info))]
        items = []
        while (value := self.item(depth + 1)) is not _BREAK:
            items.append(value)
        return items

    def _map(self, info: int, depth: int) -> dict[str, object]:
        found: dict[str, object] = {}
        left = -1 if info == _INDEFINITE else self._count(info)
        while left:
            key = self.item(depth + 1)
            if key is _BREAK and left < 0:
                break
            if not isinstance(key, str) or key in found:
                raise Malformed("the key of a map is not a text, or comes twice")
            found[key] = self._value(depth)
            left -= 1
        return found

    def _count(self, info: int) -> int:
        count = self._number(info)
        if count > len(self.body) - self.at:  # each item takes a byte at least
            raise Malformed("it is cut short")
        return count

    def _value(self, depth: int) -> object:
        value = self.item(depth + 1)
        if value is _BREAK:
            raise Malformed("it ends where a value should be")
        return value


def head(major: int, number: int) -> bytes:
    """The first bytes of an item: its type and its number, count or length."""
    if number < 24:
        return bytes([major << 5 | number])
    if number < 1 << 8:
        return struct.pack(">BB", major << 5 | 24, number)
    if number < 1 << 16:
        return struct.pack(">BH", major << 5 | 25, number)
    if number < 1 << 32:
        return struct.pack(">BI", major << 5 | 26, number)
    return struct.pack(">BQ", major << 5 | 27, number)


def encode(value: object) -> bytes:
    """Raises TypeError for what has no place in CBOR, and for a datetime without a zone."""
    if value is None or isinstance(value, bool):
        return b"\xf6" if value is None else b"\xf5" if value else b"\xf4"
    if isinstance(value, int):
        return head(0, value) if value >= 0 else head(1, -1 - value)
    if isinstance(value, float):
        return struct.pack(">Bd", 0xFB, value)
    if isinstance(value, str):
        text = value.encode("utf-8", "replace")
        return head(3, len(text)) + text
    if isinstance(value, bytes):
        return head(2, len(value)) + value
    if isinstance(value, datetime):
        return time(value)
    if isinstance(value, Mapping):
        return head(5, len(value)) + b"".join(encode(k) + encode(v) for k, v in value.items())
    if isinstance(value, Sequence):
        return head(4, len(value)) + b"".join([encode(item) for item in value])
    raise TypeError(f"no CBOR for {type(value).__name__}")


def time(value: datetime) -> bytes:
    if value.tzinfo is None:
        raise TypeError(f"not an aware datetime: {value!r}")
    return struct.pack(">BBd", 0xC1, 0xFB, value.timestamp())


def doubles(values: Sequence[float]) -> bytes:
    """A list of numbers as doubles, packed at once."""
    return head(4, len(values)) + _packed(b"\xfb", array("d", values))


def times(seconds: Sequence[int]) -> bytes:
    """A list of timestamps, whole seconds since 1970, packed at once where they are before 2106."""
    try:
        return head(4, len(seconds)) + _packed_times(array("I", seconds).tobytes())
    except OverflowError:
        return head(4, len(seconds)) + b"".join(struct.pack(">BBd", 0xC1, 0xFB, float(at)) for at in seconds)


@lru_cache(maxsize=16)
def _packed_times(raw: bytes) -> bytes:
    """Remembered: the metrics of one answer have the same times. A page of them takes up to 1 MB, hence few."""
    return _packed(b"\xc1\x1a", array("I", raw))


def _packed(before: bytes, numbers: array[float] | array[int]) -> bytes:
    """The numbers, big-endian, each behind the bytes `before`. One pass per byte of a number, not one per number."""
    if sys.byteorder == "little":
        numbers.byteswap()
    raw, width = numbers.tobytes(), numbers.itemsize
    step = len(before) + width
    packed = bytearray(step * len(numbers))
    for at, byte in enumerate(before):
        packed[at::step] = bytes([byte]) * len(numbers)
    for at in range(width):
        packed[len(before) + at :: step] = raw[at::width]
    return bytes(packed)
