"""Streams in the three layouts of RDB -> `StreamValue`. Pure; called by `decode`.

Types 15 (5.0), 19 (7.0: adds first id, max deleted id, entries added, entries read of groups) and 21 (7.2: adds the
active time of consumers). Entries stand in listpacks, each under a master id and with master field names:

    count, deleted, number of master fields, master fields..., 0
    flags, ms and seq relative to the master id, then as flags say:
        same fields as the master: values...
        otherwise: number of fields, field, value, field, value...
    number of elements of the entry, for walks from the end

Source: src/t_stream.c, src/rdb.c rdbLoadObject.
"""

from __future__ import annotations

from typing import NamedTuple

from cachekeep.codec.dump.errors import DumpError
from cachekeep.codec.dump.packed import listpack
from cachekeep.codec.dump.reader import Reader
from cachekeep.codec.dump.values import (
    ZERO_ID,
    Consumer,
    Pending,
    StreamEntry,
    StreamGroup,
    StreamId,
    StreamValue,
)

_DELETED, _SAME_FIELDS = 1, 2
_64_BITS = (1 << 64) - 1
_NEVER_ACTIVE = -1
_LONGEST_INTEGER = 20


class _Layout(NamedTuple):
    """What the stream's type adds to the first one."""

    counts_entries: bool
    has_active_time: bool


def stream_1(reader: Reader) -> StreamValue:
    return _stream(reader, _Layout(counts_entries=False, has_active_time=False))


def stream_2(reader: Reader) -> StreamValue:
    return _stream(reader, _Layout(counts_entries=True, has_active_time=False))


def stream_3(reader: Reader) -> StreamValue:
    return _stream(reader, _Layout(counts_entries=True, has_active_time=True))


def entries_read_at(group_last_id: StreamId, entries: tuple[StreamEntry, ...], last_id: StreamId) -> int | None:
    """Return how many entries a group has read, as a 7.0 or newer server derives it for a group that comes without.

    Holds for a stream that comes from before 7.0: all entries ever added are taken to be those it has.
    Source: src/t_stream.c streamEstimateDistanceFromFirstEverEntry.
    """
    if not entries:
        return 0
    if group_last_id >= last_id:
        return len(entries) if group_last_id == last_id else None
    if group_last_id <= entries[0].id:
        return 1 if group_last_id == entries[0].id else 0
    return None


def _stream(reader: Reader, layout: _Layout) -> StreamValue:
    entries: list[StreamEntry] = []
    for _ in range(reader.count(2)):
        master = reader.string()
        if len(master) != 16:
            raise DumpError("the key of a stream's node is not an id")
        _read_node(listpack(reader.string()), _raw_id(master), entries)
    length = reader.length()
    if length != len(entries):
        raise DumpError(f"a stream names {length} entries and holds {len(entries)}")
    last_id = _id(reader)
    max_deleted_id, entries_added = ZERO_ID, length
    if layout.counts_entries:
        _id(reader)  # the first id follows from the entries
        max_deleted_id, entries_added = _id(reader), reader.length()
    kept = tuple(entries)
    groups = [_group(reader, layout, kept, last_id) for _ in range(reader.count(4))]
    return StreamValue(kept, last_id, max_deleted_id, entries_added, tuple(groups))


def _read_node(elements: list[bytes], master: StreamId, entries: list[StreamEntry]) -> None:
    """Append the entries of one listpack that are not deleted."""
    try:
        field_count = _small(elements[2])
        at = 3 + field_count
        master_fields = elements[3:at]
        if elements[at] != b"0":
            raise DumpError("the master entry of a stream's node has no end")
        at += 1
        while at < len(elements):
            flags = _integer(elements[at])
            entry_id = StreamId(
                (master.ms + _integer(elements[at + 1])) & _64_BITS,
                (master.seq + _integer(elements[at + 2])) & _64_BITS,
            )
            at += 3
            if flags & _SAME_FIELDS:
                after = at + field_count
                names, values = master_fields, elements[at:after]
            else:
                after = at + 1 + 2 * _small(elements[at])
                names, values = elements[at + 1 : after : 2], elements[at + 2 : after : 2]
            elements[after]  # the number of elements: its absence means that the entry is cut off
            at = after + 1
            if not flags & _DELETED:
                entries.append(StreamEntry(entry_id, tuple(zip(names, values, strict=True))))
    except IndexError:
        raise DumpError("an entry of a stream is cut off") from None


def _group(reader: Reader, layout: _Layout, entries: tuple[StreamEntry, ...], last_id: StreamId) -> StreamGroup:
    name = reader.string()
    group_last_id = _id(reader)
    entries_read: int | None
    if layout.counts_entries:
        stored = reader.length()
        entries_read = None if stored > _64_BITS >> 1 else stored  # -1: the server does not know
    else:
        entries_read = entries_read_at(group_last_id, entries, last_id)
    deliveries: dict[StreamId, tuple[int, int]] = {}
    delivered = reader.count(25)
    for _ in range(delivered):
        entry_id = _raw_id(reader.take(16))
        deliveries[entry_id] = (reader.milliseconds(), reader.length())
    pending: dict[StreamId, Pending] = {}
    consumers = []
    for _ in range(reader.count(10)):
        consumer = reader.string()
        seen_ms = reader.milliseconds()
        active_ms = reader.milliseconds() if layout.has_active_time else _NEVER_ACTIVE
        consumers.append(Consumer(consumer, seen_ms, None if active_ms == _NEVER_ACTIVE else active_ms))
        for _ in range(reader.count(16)):
            entry_id = _raw_id(reader.take(16))
            if entry_id in pending or entry_id not in deliveries:
                raise DumpError(f"the pending entry {entry_id} of a stream is not listed once by its group")
            pending[entry_id] = Pending(entry_id, consumer, *deliveries[entry_id])
    if len(pending) != delivered:
        raise DumpError("a pending entry of a stream stands twice or has no consumer")
    return StreamGroup(name, group_last_id, entries_read, tuple(sorted(pending.values())), tuple(consumers))


def _id(reader: Reader) -> StreamId:
    return StreamId(reader.length(), reader.length())


def _raw_id(raw: bytes) -> StreamId:
    return StreamId(int.from_bytes(raw[:8], "big"), int.from_bytes(raw[8:], "big"))


def _integer(element: bytes) -> int:
    """An element that the stream wrote as an integer."""
    try:
        if len(element) <= _LONGEST_INTEGER and b"_" not in element:
            return int(element)
    except ValueError:
        pass
    raise DumpError(f"an entry of a stream has {element[:20]!r} for a number")


def _small(element: bytes) -> int:
    """A number of fields."""
    number = _integer(element)
    if number < 0:
        raise DumpError(f"an entry of a stream has {number} fields")
    return number
