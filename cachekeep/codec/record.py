"""The record, one fact of a copy: what stands in the frames of a segment, and its bytes. Pure.

Called by codec.segment, and by whoever makes or reads records. Source of every number: docs/formats/segment.md.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator
from enum import IntEnum

import msgspec

NO_EXPIRY = -1
# A payload is cut into pieces of this size at most.
PIECE_BYTES = 8 << 20
PIECE_HEADER_BYTES = 4

_FIXED = struct.Struct("<BIqqII")
# Of a record, without its key and payload.
RECORD_HEAD_BYTES = _FIXED.size


class Kind(IntEnum):
    """What a record says. A record's kind is a plain number, which equals one of these."""

    UPSERT = 1
    TOMBSTONE = 2
    PIECE = 3
    FUNCTIONS = 4
    FLUSHED = 5
    MORE = 6
    LAST = 7


class Record(msgspec.Struct, frozen=True, gc=False):
    """One fact. expires_ms: absolute, or NO_EXPIRY; captured_ms: by the source's clock; both ms since 1970.

    Not checked when built: encoding refuses numbers that do not fit. A Struct is made in an eighth of the time of a
    NamedTuple, and the garbage collector does not walk it.
    """

    kind: int
    db: int
    expires_ms: int
    captured_ms: int
    key: bytes
    payload: bytes


def pieces(record: Record, piece_bytes: int = PIECE_BYTES) -> Iterator[Record]:
    """The upsert as pieces, MORE and one LAST. Each begins with its number, so that a lost one shows."""
    payload, step = record.payload, piece_bytes - PIECE_HEADER_BYTES
    for number, at in enumerate(range(0, len(payload), step)):
        kind = Kind.MORE if at + step < len(payload) else Kind.LAST
        part = number.to_bytes(PIECE_HEADER_BYTES, "little") + payload[at : at + step]
        yield msgspec.structs.replace(record, kind=int(kind), payload=part)


def piece_number(record: Record) -> int:
    """Which piece of its value a MORE or LAST is, from 0."""
    return int.from_bytes(record.payload[:PIECE_HEADER_BYTES], "little")


def encode_records(records: Iterable[Record]) -> bytes:
    """The body of a frame before compression. Raises ValueError for numbers that do not fit."""
    pack, parts = _FIXED.pack, list[bytes]()
    try:
        for record in records:
            key, payload = record.key, record.payload
            head = pack(record.kind, record.db, record.expires_ms, record.captured_ms, len(key), len(payload))
            parts += (head, key, payload)
    except struct.error as error:
        raise ValueError(f"a record that cannot be written: {error}") from error
    return b"".join(parts)


def decode_records(body: bytes, count: int) -> list[Record]:
    """The inverse. Raises ValueError unless the body is exactly `count` records."""
    records: list[Record] = []
    append, unpack, make = records.append, _FIXED.unpack_from, Record
    at, end, fixed = 0, len(body), _FIXED.size
    for _ in range(count):
        start = at + fixed
        if start > end:
            raise ValueError(f"a record is cut off at byte {at} of the frame's contents")
        kind, db, expires_ms, captured_ms, key_bytes, payload_bytes = unpack(body, at)
        middle = start + key_bytes
        at = middle + payload_bytes
        if at > end or not 1 <= kind <= 7 or expires_ms < -1:
            raise ValueError(f"no record begins at byte {start - fixed} of the frame's contents")
        append(make(kind, db, expires_ms, captured_ms, body[start:middle], body[middle:at]))
    if at != end:
        raise ValueError(f"{end - at} bytes follow the last record of the frame")
    return records
