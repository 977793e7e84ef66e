"""A value -> a payload of DUMP that RESTORE takes. Pure; called by imports, by export to RDB, by reads of big keys.

Collections are written in the plain encodings (one element after the other), which every server since 4.0 loads and
turns into the encoding that its own limits ask for. Only two things have types of their own: streams, which grew
members over the years, and hashes with fields that expire. Source: src/rdb.c rdbSaveObject.
"""

from __future__ import annotations

import math
import struct
from array import array
from collections.abc import Iterable, Iterator
from hashlib import blake2b
from typing import Any, Literal, assert_never

from cachekeep.codec.dump.checksum import Checksum
from cachekeep.codec.dump.errors import Unrepresentable
from cachekeep.codec.dump.modules import DOUBLE, END, FLOAT, RAW
from cachekeep.codec.dump.stream_encode import stream_body, stream_version
from cachekeep.codec.dump.values import (
    HashValue,
    IllegalValue,
    ListValue,
    ModuleValue,
    SetValue,
    SortedSetValue,
    StreamValue,
    StringValue,
    Value,
)
from cachekeep.codec.dump.writing import length, string

PLAIN_VERSION = 9  # what every server that is supported loads: Redis 5.0 and all after it
FIELD_EXPIRY_VERSION = 80

Kind = Literal["string", "list", "set", "zset", "hash"]
_TYPES: dict[Kind, int] = {"string": 0, "list": 1, "set": 2, "zset": 5, "hash": 4}
_VOLATILE_HASH, _MODULE_BEFORE_OPCODES, _MODULE = 22, 6, 7
_HEAD_BYTES = 10  # type byte and the longest length
_NO_EXPIRY = -1
_SCORE, _MOMENT = struct.Struct("<d"), struct.Struct("<q")
_LONGEST_NAME = 32  # longer ones are remembered by a digest
_64_BITS = (1 << 64) - 1


def encode(value: Value, rdb_version: int) -> bytes:
    """Return the payload: decoding it gives a value that means the same, for a stream what the version can hold of it.

    Raises Unrepresentable for fields that expire before RDB 80, and below RDB 9. `least_version` loses nothing.
    """
    if rdb_version < PLAIN_VERSION:
        raise Unrepresentable(f"RDB version {rdb_version} is too old to be written: {PLAIN_VERSION} is the oldest")
    body = bytearray()
    match value:
        case StringValue():
            return _sealed(0, string(value.data), rdb_version)
        case ListValue():
            _write_strings(body, value.items)
            return _sealed(_TYPES["list"], length(len(value.items)) + body, rdb_version)
        case SetValue():
            _write_strings(body, value.members)
            return _sealed(_TYPES["set"], length(len(value.members)) + body, rdb_version)
        case SortedSetValue():
            _write_scores(body, value.items)
            return _sealed(_TYPES["zset"], length(len(value.items)) + body, rdb_version)
        case HashValue():
            builder = PayloadBuilder("hash")
            builder.add(value.fields)
            return builder.payload(rdb_version)
        case StreamValue():
            rdb_type, content = stream_body(value, rdb_version)
            return _sealed(rdb_type, content, rdb_version)
        case ModuleValue():
            return _module(value, rdb_version)
        case _:
            assert_never(value)


def least_version(value: Value) -> int:
    """Return the lowest RDB version in which `encode` loses nothing of the value."""
    match value:
        case HashValue() if any(expire_ms is not None for _, _, expire_ms in value.fields):
            return FIELD_EXPIRY_VERSION
        case StreamValue():
            return stream_version(value)
        case _:
            return PLAIN_VERSION


class PayloadBuilder:
    """One payload from elements that come in pages, for values too big to be held as Python objects.

    Members of sets and sorted sets and fields of hashes that come twice, as SCAN may give them, count once: the first.
    """

    def __init__(self, kind: Kind) -> None:
        self._kind = kind
        self.count = 0  # elements so far; of a string, its bytes
        self._buffer = bytearray(_HEAD_BYTES)
        self._seen: set[bytes] = set()
        self._expiries: array[int] | None = None

    def add(self, items: Iterable[Any]) -> None:
        """Append: of a string its next parts (bytes), of a list or a set elements (bytes), of a zset (member, score),
        of a hash (field, value) or (field, value, expire_ms or None).
        """
        match self._kind:
            case "string":
                for part in items:
                    self._buffer += part
                self.count = len(self._buffer) - _HEAD_BYTES
            case "list":
                self.count += _write_strings(self._buffer, items)
            case "set":
                self.count += _write_strings(self._buffer, self._fresh((item, item) for item in items))
            case "zset":
                self.count += _write_scores(self._buffer, self._fresh((item[0], item) for item in items))
            case "hash":
                self._add_fields(items)
            case _:
                assert_never(self._kind)

    def payload(self, rdb_version: int) -> bytes:
        """Return the payload of all that was added; ends the builder.

        Raises IllegalValue when nothing was and the value is not a string; Unrepresentable as `encode` does.
        """
        if rdb_version < PLAIN_VERSION:
            raise Unrepresentable(f"RDB version {rdb_version} is too old: {PLAIN_VERSION} is the oldest written")
        if not self.count and self._kind != "string":
            raise IllegalValue(f"a {self._kind} without elements does not exist")
        self._seen.clear()
        rdb_type = _TYPES[self._kind]
        if self._expiries is not None:
            if rdb_version < FIELD_EXPIRY_VERSION:
                raise Unrepresentable(
                    f"RDB version {rdb_version} has no fields that expire: {FIELD_EXPIRY_VERSION} is the first"
                )
            rdb_type = _VOLATILE_HASH
            self._weave(self._expiries)
        # Written into the room before the body, so that the body is copied once only, into the bytes returned.
        head = bytes([rdb_type]) + length(self.count)
        buffer, self._buffer = self._buffer, bytearray()
        start = _HEAD_BYTES - len(head)
        buffer[start:_HEAD_BYTES] = head
        del buffer[:start]
        return _closed(buffer, rdb_version)

    def _add_fields(self, items: Iterable[Any]) -> None:
        buffer = self._buffer
        for item in self._fresh((item[0], item) for item in items):
            expire_ms = item[2] if len(item) > 2 else None
            if expire_ms is not None and self._expiries is None:
                self._expiries = array("q", [_NO_EXPIRY]) * self.count
            if self._expiries is not None:
                self._expiries.append(_NO_EXPIRY if expire_ms is None else expire_ms)
            buffer += string(item[0])
            buffer += string(item[1])
            self.count += 1

    def _fresh(self, named: Iterable[tuple[bytes, Any]]) -> Iterator[Any]:
        """The items whose names were not there before."""
        seen = self._seen
        for name, item in named:
            known = name if len(name) <= _LONGEST_NAME else b"\0" + blake2b(name, digest_size=_LONGEST_NAME).digest()
            if known not in seen:
                seen.add(known)
                yield item

    def _weave(self, expiries: array[int]) -> None:
        """Put each field's expiry behind its value."""
        woven = bytearray(_HEAD_BYTES)
        at, pack = _HEAD_BYTES, _MOMENT.pack
        with memoryview(self._buffer) as view:
            for expire_ms in expiries:
                after = _after_string(view, _after_string(view, at))
                woven += view[at:after]
                woven += pack(expire_ms)
                at = after
        self._buffer, self._expiries = woven, None


def _write_strings(buffer: bytearray, items: Iterable[bytes]) -> int:
    count = 0
    for item in items:
        buffer += string(item)
        count += 1
    return count


def _write_scores(buffer: bytearray, items: Iterable[tuple[bytes, float]]) -> int:
    count, pack = 0, _SCORE.pack
    for member, score in items:
        if math.isnan(score):
            raise IllegalValue("a score of a sorted set is not a number")
        buffer += string(member)
        buffer += pack(score)
        count += 1
    return count


def _after_string(view: memoryview, at: int) -> int:
    """Where the plain string at `at` ends."""
    first = view[at]
    if first < 0x40:
        return at + 1 + first
    if first < 0x80:
        return at + 2 + (int.from_bytes(view[at : at + 2], "big") & 0x3FFF)
    size = 4 if first == 0x80 else 8
    return at + 1 + size + int.from_bytes(view[at + 1 : at + 1 + size], "big")


def _module(value: ModuleValue, rdb_version: int) -> bytes:
    body = bytearray(length(value.id))
    for opcode, part in value.parts:
        if opcode == RAW and isinstance(part, bytes):
            return _sealed(_MODULE_BEFORE_OPCODES, body + part, rdb_version)
        body += length(opcode)
        if isinstance(part, int):
            body += length(part & _64_BITS)
        else:
            body += part if opcode in (FLOAT, DOUBLE) else string(part)
    return _sealed(_MODULE, body + length(END), rdb_version)


def _sealed(rdb_type: int, body: bytes | bytearray, rdb_version: int) -> bytes:
    return _closed(bytearray((rdb_type,)) + body, rdb_version)


def _closed(content: bytearray, rdb_version: int) -> bytes:
    """With its footer."""
    content += rdb_version.to_bytes(2, "little")
    checksum = Checksum()
    checksum.update(content)
    content += checksum.value().to_bytes(8, "little")
    return bytes(content)
