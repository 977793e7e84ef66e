"""One spelling for each meaning of a value, to compare values of servers that encode them differently. Pure.

Not part of the meaning: encodings, the order of sets and hashes, -0.0 beside 0.0 as a score, and when a consumer was
last seen or active (it changes by looking, and no command can set it). Part of it: the order of a list and of stream
entries, expiry of fields, groups with their pending entries, delivery times and counts.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from hashlib import blake2b
from typing import assert_never

from cachekeep.codec.dump.streams import entries_read_at
from cachekeep.codec.dump.targets import Target
from cachekeep.codec.dump.values import (
    ZERO_ID,
    HashValue,
    ListValue,
    ModuleValue,
    SetValue,
    SortedSetValue,
    StreamGroup,
    StreamId,
    StreamValue,
    StringValue,
    Value,
)

_DIGEST_BYTES = 16
_FEED = 4096


def canonical(value: Value) -> bytes:
    """Return bytes that are equal for two values exactly when these mean the same."""
    return b"".join(_pieces(value))


def digest(value: Value) -> bytes:
    """Return 16 bytes (BLAKE2b) of `canonical`, without making a second copy of a large value."""
    state = blake2b(digest_size=_DIGEST_BYTES)
    buffer: list[bytes] = []
    for piece in _pieces(value):
        buffer.append(piece)
        if len(buffer) == _FEED:
            state.update(b"".join(buffer))
            buffer.clear()
    state.update(b"".join(buffer))
    return state.digest()


def held_by(value: Value, target: Target) -> Value:
    """Return what of the value the target can hold, to compare with what it holds.

    Before 7.0 a stream knows nothing of entries added, read and deleted. All else is held whole or `commands` refuses.
    """
    if not isinstance(value, StreamValue) or target.counts_stream_entries:
        return value
    groups = tuple(
        replace(group, entries_read=entries_read_at(group.last_id, value.entries, value.last_id))
        for group in value.groups
    )
    return replace(value, max_deleted_id=ZERO_ID, entries_added=len(value.entries), groups=groups)


def _pieces(value: Value) -> Iterator[bytes]:
    match value:
        case StringValue():
            yield b"string "
            yield value.data
        case ListValue():
            yield b"list "
            yield from map(_text, value.items)
        case SetValue():
            yield b"set "
            yield from map(_text, sorted(value.members))
        case SortedSetValue():
            yield b"zset "
            for score, member in sorted((score + 0.0, member) for member, score in value.items):  # -0.0 + 0.0 is 0.0
                yield _text(member)
                yield _text(repr(score).encode())
        case HashValue():
            yield b"hash "
            for field, content, expire_ms in sorted(value.fields, key=lambda one: one[0]):
                yield _text(field)
                yield _text(content)
                yield _number(expire_ms)
        case StreamValue():
            yield b"stream "
            yield from _stream(value)
        case ModuleValue():
            yield b"module %d " % value.id
            for opcode, part in value.parts:
                yield _number(opcode)
                yield _text(part) if isinstance(part, bytes) else _number(part)
        case _:
            assert_never(value)


def _stream(value: StreamValue) -> Iterator[bytes]:
    yield from map(_id, (value.last_id, value.proved_deleted_id))
    yield _number(value.entries_added)
    yield _number(len(value.entries))
    for entry in value.entries:
        yield _id(entry.id)
        yield _number(len(entry.fields))
        for field, content in entry.fields:
            yield _text(field)
            yield _text(content)
    for group in sorted(value.groups, key=lambda one: one.name):
        yield from _group(group)


def _group(group: StreamGroup) -> Iterable[bytes]:
    yield _text(group.name)
    yield _id(group.last_id)
    yield _number(group.entries_read)
    yield _number(len(group.consumers))
    yield from map(_text, sorted(consumer.name for consumer in group.consumers))
    yield _number(len(group.pending))
    for entry in sorted(group.pending):
        yield _id(entry.id)
        yield _text(entry.consumer)
        yield _number(entry.delivered_ms)
        yield _number(entry.delivery_count)


def _text(data: bytes) -> bytes:
    """Its length first, so that no two sequences of strings run into the same bytes."""
    return b"%d:%b" % (len(data), data)


def _number(number: int | None) -> bytes:
    return b"- " if number is None else b"%d " % number


def _id(one: StreamId) -> bytes:
    return b"%d-%d " % one
