"""A minute of one subject as bytes. Pure.

A zstd frame with checksum, of msgpack: ids of metrics with a single sample and their values; ids of the others and
their counts, totals, leasts and mosts; buckets by id.
"""

from __future__ import annotations

import threading
from array import array
from collections.abc import Collection, Iterator, Mapping
from itertools import groupby

import msgspec
import zstandard

from cachekeep.codec.columns import ColumnDamaged
from cachekeep.domain.metrics import Buckets, Point
from cachekeep.store.series_run import Calendar, Place, Run, joined

_MOST_FRAME_BYTES = 1 << 26
DAMAGE = (zstandard.ZstdError, msgspec.MsgspecError, IndexError, ValueError, TypeError, OverflowError)
_codecs = threading.local()


class Minute(msgspec.Struct, array_like=True, gc=False):
    """Arrays of 32-bit ids and of doubles, as this machine has them; sets: all counts, then totals, leasts, mosts."""

    single_ids: bytes
    singles: bytes
    set_ids: bytes
    sets: bytes
    buckets: dict[int, msgspec.Raw]


_minutes = msgspec.msgpack.Decoder(Minute)
_buckets = msgspec.msgpack.Decoder(Buckets)


def shrink(plain: bytes, level: int) -> bytes:
    """A zstd frame that knows its length and its checksum."""
    found = getattr(_codecs, f"level{level}", None)
    if found is None:
        found = zstandard.ZstdCompressor(level=level, write_checksum=True)
        setattr(_codecs, f"level{level}", found)
    return bytes(found.compress(plain))


def grow(frame: bytes) -> bytes:
    """Raises one of DAMAGE."""
    if not 0 <= zstandard.frame_content_size(frame) <= _MOST_FRAME_BYTES:
        raise ColumnDamaged("a frame of an absurd size")
    found = getattr(_codecs, "decompressor", None)
    if found is None:
        found = _codecs.decompressor = zstandard.ZstdDecompressor()
    return bytes(found.decompress(frame))


def pack_minute(points: Mapping[int, Point]) -> bytes:
    """points: by id of the metric."""
    single_ids, singles = array("I"), array("d")
    set_ids, counts, totals, leasts, mosts = array("I"), array("d"), array("d"), array("d"), array("d")
    buckets = {}
    for i, point in points.items():
        total, least, most = point.total, point.least, point.most
        if point.count == 1.0 and total == least == most:
            single_ids.append(i)
            singles.append(total)
        else:
            set_ids.append(i)
            counts.append(point.count)
            totals.append(total)
            leasts.append(least)
            mosts.append(most)
        if point.buckets:
            buckets[i] = msgspec.Raw(msgspec.msgpack.encode(point.buckets))
    sets = counts + totals + leasts + mosts
    minute = Minute(single_ids.tobytes(), singles.tobytes(), set_ids.tobytes(), sets.tobytes(), buckets)
    return shrink(msgspec.msgpack.encode(minute), level=1)


def unpack_minute(body: bytes) -> Minute:
    """Raises ColumnDamaged."""
    try:
        return _minutes.decode(grow(body))
    except DAMAGE as error:
        raise ColumnDamaged(f"a minute cannot be read: {error}") from error


def runs_of(minutes: Mapping[int, Minute], calendar: Calendar, wanted: Collection[int] | None = None) -> dict[int, Run]:
    """The points of the wanted metrics, or of all, by id. minutes: by start, in order."""
    parts: dict[int, list[Run]] = {}
    for ids, group in groupby(minutes.items(), key=lambda item: (item[1].single_ids, item[1].set_ids)):
        together = list(group)
        starts = [start for start, _ in together]
        buckets: dict[int, dict[int, tuple[Place, ...]]] = {}
        for start, minute in together:
            for i, found in minute.buckets.items():
                if wanted is None or i in wanted:
                    buckets.setdefault(i, {})[start] = (([_buckets.decode(found)], 0),)
        for i, count, total, least, most in _transposed(ids, [minute for _, minute in together], wanted):
            parts.setdefault(i, []).append(Run(starts, count, total, least, most, buckets.get(i, {})))
    return {i: joined(runs, calendar) for i, runs in parts.items()}


def _transposed(
    ids: tuple[bytes, bytes], minutes: list[Minute], wanted: Collection[int] | None
) -> Iterator[tuple[int, array[float], array[float], array[float], array[float]]]:
    single_ids, set_ids = array("I", ids[0]), array("I", ids[1])
    ones = array("d", [1.0]) * len(minutes)
    columns = list(zip(*(array("d", minute.singles) for minute in minutes), strict=True))
    for i, numbers in zip(single_ids, columns, strict=True):
        if wanted is None or i in wanted:
            values = array("d", numbers)
            yield i, ones, values, values, values
    columns = list(zip(*(array("d", minute.sets) for minute in minutes), strict=True))
    n = len(set_ids)
    for at, i in enumerate(set_ids):
        if wanted is None or i in wanted:
            count, total, least, most = (array("d", numbers) for numbers in columns[at::n])
            yield i, count, total, least, most
