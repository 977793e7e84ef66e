"""`StreamValue` -> the body of a stream in the layout of an RDB version. Pure; called by `encode`; see `streams`."""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from itertools import islice

from cachekeep.codec.dump.errors import Unrepresentable
from cachekeep.codec.dump.streams import entries_read_at
from cachekeep.codec.dump.values import ZERO_ID, StreamEntry, StreamGroup, StreamId, StreamValue
from cachekeep.codec.dump.writing import length, listpack, string

STREAM_SINCE = ((9, 15), (10, 19), (11, 21))  # RDB version, type
_SAME_FIELDS = 2
_NODE_ENTRIES = 100  # stream-node-max-entries and -bytes, as servers come
_NODE_BYTES = 4096
_MOMENT = struct.Struct("<q")
_NEVER, _UNKNOWN = -1, (1 << 64) - 1


def stream_body(value: StreamValue, rdb_version: int) -> tuple[int, bytes]:
    """Return type and body. What the layout has no place for is left out, as servers of that version do."""
    types = [rdb_type for since, rdb_type in STREAM_SINCE if since <= rdb_version]
    if not types:
        raise Unrepresentable(f"RDB version {rdb_version} has no streams: {STREAM_SINCE[0][0]} is the first")
    rdb_type = types[-1]
    nodes = list(_nodes(value.entries))
    parts = [length(len(nodes))]
    for master, node in nodes:
        parts += (string(_raw(master)), string(node))
    parts += (length(len(value.entries)), _id(value.last_id))
    if rdb_type >= 19:
        parts += (_id(value.first_id), _id(value.max_deleted_id), length(value.entries_added))
    parts.append(length(len(value.groups)))
    for group in value.groups:
        parts += _group(group, rdb_type)
    return rdb_type, b"".join(parts)


def stream_version(value: StreamValue) -> int:
    """Return the lowest RDB version that holds the whole value."""
    if any(consumer.active_ms is not None for group in value.groups for consumer in group.consumers):
        return 11
    counted = value.max_deleted_id != ZERO_ID or value.entries_added != len(value.entries)
    derived = [entries_read_at(group.last_id, value.entries, value.last_id) for group in value.groups]
    return 10 if counted or derived != [group.entries_read for group in value.groups] else 9


def _nodes(entries: Sequence[StreamEntry]) -> Iterator[tuple[StreamId, bytes]]:
    """Each node's master id and listpack."""
    at = 0
    while at < len(entries):
        size, count = 0, 0
        for entry in islice(entries, at, at + _NODE_ENTRIES):
            size += sum(len(name) + len(content) for name, content in entry.fields)
            if count and size > _NODE_BYTES:
                break
            count += 1
        yield entries[at].id, listpack(_elements(entries[at : at + count]))
        at += count


def _elements(entries: Sequence[StreamEntry]) -> Iterator[bytes | int]:
    master = entries[0]
    names = [name for name, _ in master.fields]
    yield from (len(entries), 0, len(names))
    yield from names
    yield 0
    for entry in entries:
        same = [name for name, _ in entry.fields] == names
        yield _SAME_FIELDS if same else 0
        yield _signed(entry.id.ms - master.id.ms)
        yield _signed(entry.id.seq - master.id.seq)
        if same:
            yield from (content for _, content in entry.fields)
            yield 3 + len(names)
        else:
            yield len(entry.fields)
            yield from (word for pair in entry.fields for word in pair)
            yield 4 + 2 * len(entry.fields)


def _group(group: StreamGroup, rdb_type: int) -> Iterator[bytes]:
    yield string(group.name)
    yield _id(group.last_id)
    if rdb_type >= 19:
        yield length(_UNKNOWN if group.entries_read is None else group.entries_read)
    yield length(len(group.pending))
    for one in group.pending:
        yield _raw(one.id) + _MOMENT.pack(one.delivered_ms) + length(one.delivery_count)
    yield length(len(group.consumers))
    for consumer in group.consumers:
        yield string(consumer.name) + _MOMENT.pack(consumer.seen_ms)
        if rdb_type >= 21:
            yield _MOMENT.pack(_NEVER if consumer.active_ms is None else consumer.active_ms)
        pending = [one.id for one in group.pending if one.consumer == consumer.name]
        yield length(len(pending))
        yield from map(_raw, pending)


def _signed(difference: int) -> int:
    """The same 64 bits, read with a sign: ids are subtracted and added modulo 2**64."""
    return (difference + (1 << 63)) % (1 << 64) - (1 << 63)


def _id(one: StreamId) -> bytes:
    return length(one.ms) + length(one.seq)


def _raw(one: StreamId) -> bytes:
    return one.ms.to_bytes(8, "big") + one.seq.to_bytes(8, "big")
