"""The two binary formats of the series file: a minute of one subject, and a block of hours or a day of it. Pure.

A minute is a zstd frame of msgpack: ids of metrics with a single sample and their values; ids of the others and their
counts, totals, leasts, mosts; buckets by id.

A block holds columns, so that a few metrics are read without the others. It begins with the length of its head (four
bytes, little-endian); the head is a zstd frame of msgpack: the presences (which slots of the block's resolution have a
point; many metrics share one) and an entry per metric: its id, its presence, and its columns, either right there or as
offset and length of a frame behind the head. Frames carry a checksum: overwritten bytes are seen, not believed.
"""

from __future__ import annotations

import struct
import threading
from array import array
from collections.abc import Collection, Mapping, Sequence
from operator import mul

import msgspec
import zstandard

from cachekeep.codec.columns import ColumnDamaged, decode, encode
from cachekeep.domain.metrics import Buckets, Column, Point

# Shorter columns are not worth a frame of their own.
_INLINE_BYTES = 48
_MOST_FRAME_BYTES = 1 << 26
_LENGTH = struct.Struct("<I")
_DAMAGE = (zstandard.ZstdError, msgspec.MsgspecError, struct.error, IndexError, ValueError)
_codecs = threading.local()


class _Minute(msgspec.Struct, array_like=True):
    single_ids: list[int]
    singles: bytes
    set_ids: list[int]
    sets: bytes
    buckets: dict[int, Buckets]


class _Columns(msgspec.Struct, array_like=True):
    """total: empty where it is count x least; most: empty where it is least."""

    count: bytes
    least: bytes
    total: bytes
    most: bytes
    bounds: list[float]
    buckets: list[tuple[int, list[int], list[float]]]


class _Entry(msgspec.Struct, array_like=True):
    """columns: here when length is 0."""

    presence: int
    columns: bytes
    offset: int
    length: int


class _Head(msgspec.Struct, array_like=True):
    """presences: first slot, end, and the slots where some between are absent."""

    presences: list[tuple[int, int, bytes]]
    entries: dict[int, _Entry]


_minutes = msgspec.msgpack.Decoder(_Minute)
_columns = msgspec.msgpack.Decoder(_Columns)
_heads = msgspec.msgpack.Decoder(_Head)


def _shrink(plain: bytes, level: int = 3) -> bytes:
    found = getattr(_codecs, f"level{level}", None)
    if found is None:
        found = zstandard.ZstdCompressor(level=level, write_checksum=True)
        setattr(_codecs, f"level{level}", found)
    return bytes(found.compress(plain))


def _grow(frame: bytes) -> bytes:
    if zstandard.frame_content_size(frame) > _MOST_FRAME_BYTES:
        raise ColumnDamaged("a frame of an absurd size")
    found = getattr(_codecs, "decompressor", None)
    if found is None:
        found = _codecs.decompressor = zstandard.ZstdDecompressor()
    return bytes(found.decompress(frame))


def pack_minute(points: Mapping[int, Point]) -> bytes:
    singles = [(i, p.total) for i, p in points.items() if p.count == 1.0 and p.total == p.least == p.most]
    alone = {i for i, _ in singles}
    sets = [(i, p) for i, p in points.items() if i not in alone]
    numbers = array("d")
    for field in ("count", "total", "least", "most"):
        numbers.extend(getattr(p, field) for _, p in sets)
    minute = _Minute(
        [i for i, _ in singles],
        array("d", [value for _, value in singles]).tobytes(),
        [i for i, _ in sets],
        numbers.tobytes(),
        {i: p.buckets for i, p in points.items() if p.buckets},
    )
    return _shrink(msgspec.msgpack.encode(minute), level=1)


def unpack_minute(data: bytes, wanted: Collection[int] | None = None) -> dict[int, Point]:
    """The points of the wanted metrics, or of all. Raises ColumnDamaged."""
    try:
        minute = _minutes.decode(_grow(data))
        singles, sets = array("d"), array("d")
        singles.frombytes(minute.singles)
        sets.frombytes(minute.sets)
        n = len(minute.set_ids)
        found = {
            i: Point(1.0, value, value, value, minute.buckets.get(i, ()))
            for i, value in zip(minute.single_ids, singles, strict=True)
            if wanted is None or i in wanted
        }
        for at, i in enumerate(minute.set_ids):
            if wanted is None or i in wanted:
                values = (sets[at], sets[at + n], sets[at + 2 * n], sets[at + 3 * n])
                found[i] = Point(*values, minute.buckets.get(i, ()))
    except _DAMAGE as error:
        raise ColumnDamaged(f"a minute cannot be read: {error}") from error
    return found


def minute_ids(data: bytes) -> list[int]:
    """Which metrics a minute has. Raises ColumnDamaged."""
    try:
        minute = _minutes.decode(_grow(data))
    except _DAMAGE as error:
        raise ColumnDamaged(f"a minute cannot be read: {error}") from error
    return minute.single_ids + minute.set_ids


def pack_block(columns: Mapping[int, Column], start: int, resolution: int) -> bytes:
    """columns: by id of the metric; starts are start + n x resolution, ascending."""
    presences: dict[tuple[int, int, bytes], int] = {}
    entries: dict[int, _Entry] = {}
    frames: list[bytes] = []
    offset = 0
    for number, column in columns.items():
        if not len(column):
            continue
        presence = presences.setdefault(_presence(column.starts, start, resolution), len(presences))
        plain = _pack_columns(column)
        if len(plain) <= _INLINE_BYTES:
            entries[number] = _Entry(presence, plain, 0, 0)
            continue
        frames.append(_shrink(plain))
        entries[number] = _Entry(presence, b"", offset, len(frames[-1]))
        offset += len(frames[-1])
    head = _shrink(msgspec.msgpack.encode(_Head(list(presences), entries)))
    return b"".join((_LENGTH.pack(len(head)), head, *frames))


def _presence(starts: Sequence[int], start: int, resolution: int) -> tuple[int, int, bytes]:
    first, end = (starts[0] - start) // resolution, (starts[-1] - start) // resolution + 1
    if end - first == len(starts):
        return first, end, b""
    return first, end, array("H", [(at - start) // resolution for at in starts]).tobytes()


def _pack_columns(column: Column) -> bytes:
    count, total, least, most = (list(c) for c in (column.count, column.total, column.least, column.most))
    place = {at: i for i, at in enumerate(column.starts)} if column.buckets else {}
    bounds = sorted({bound for found in column.buckets.values() for bound, _ in found})
    number = {bound: i for i, bound in enumerate(bounds)}
    buckets = [
        (place[at], [number[bound] for bound, _ in found], [n for _, n in found])
        for at, found in column.buckets.items()
    ]
    return msgspec.msgpack.encode(
        _Columns(
            encode(count),
            encode(least),
            b"" if total == list(map(mul, count, least)) else encode(total),
            b"" if most == least else encode(most),
            bounds,
            buckets,
        )
    )


class Block:
    """A block that is being read. Raises ColumnDamaged when its head cannot be."""

    def __init__(self, data: bytes, start: int, resolution: int) -> None:
        self._data, self._start, self._resolution = data, start, resolution
        try:
            self._body = _LENGTH.size + _LENGTH.unpack_from(data)[0]
            self._head = _heads.decode(_grow(data[_LENGTH.size : self._body]))
        except _DAMAGE as error:
            raise ColumnDamaged(f"a block cannot be read: {error}") from error

    @property
    def ids(self) -> Collection[int]:
        return self._head.entries.keys()

    def column(self, number: int) -> Column | None:
        """None where the metric has no point. Raises ColumnDamaged."""
        entry = self._head.entries.get(number)
        if entry is None:
            return None
        try:
            return self._decoded(entry)
        except _DAMAGE as error:
            raise ColumnDamaged(f"a column cannot be read: {error}") from error

    def _decoded(self, entry: _Entry) -> Column:
        plain = entry.columns
        if entry.length:
            plain = _grow(self._data[self._body + entry.offset : self._body + entry.offset + entry.length])
        found = _columns.decode(plain)
        starts = self._starts(*self._head.presences[entry.presence])
        n = len(starts)
        count, least = decode(found.count, n), decode(found.least, n)
        total = decode(found.total, n) if found.total else list(map(mul, count, least))
        most = decode(found.most, n) if found.most else least
        buckets = {
            starts[i]: tuple((found.bounds[b], c) for b, c in zip(numbers, counts, strict=True))
            for i, numbers, counts in found.buckets
        }
        return Column(starts, count, total, least, most, buckets)

    def _starts(self, first: int, end: int, slots: bytes) -> list[int]:
        if not slots:
            begin, step = self._start, self._resolution
            return list(range(begin + first * step, begin + end * step, step))
        numbers = array("H")
        numbers.frombytes(slots)
        return [self._start + n * self._resolution for n in numbers]
