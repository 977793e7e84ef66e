"""A block of the series file: hours or days of one subject as columns, a few of which are read without the rest. Pure.

It begins with the length of its head (four bytes, little-endian); the head is a zstd frame of msgpack, with checksum:
the presences (which slots of the block's resolution have a point; many metrics share one) and an entry per metric. An
entry has the heads of its columns (codec.columns) and where their planes are behind the head: the dense ones as a zstd
frame without magic number, then the noisy ones, both under one CRC-32. Overwritten bytes are seen, not believed.
"""

from __future__ import annotations

import struct
import threading
import zlib
from array import array
from collections.abc import Collection, Mapping, Sequence
from itertools import accumulate

import msgspec
import zstandard

from cachekeep.codec.columns import ColumnDamaged, decode, encode, planes
from cachekeep.domain.metrics import Buckets
from cachekeep.store.series_minute import DAMAGE, grow, shrink
from cachekeep.store.series_run import Place, Run

_LEVEL = 3
_LENGTH = struct.Struct("<I")
# Which columns a metric has of its own; the others are those of the least.
_TOTAL, _MOST = 1, 2
_codecs = threading.local()


class _Entry(msgspec.Struct, array_like=True, gc=False):
    """heads: of count and least, and total and most if `own` says so. squeezed, noise, buckets: bytes, one after the
    other from offset; crc: of the first two."""

    presence: int
    own: int
    heads: bytes
    offset: int = 0
    squeezed: int = 0
    noise: int = 0
    crc: int = 0
    buckets: int = 0


class _Head(msgspec.Struct, array_like=True):
    """presences: first slot, end, and the slots (16 bits each) where some between are absent."""

    presences: list[tuple[int, int, bytes]]
    entries: dict[int, _Entry]


class _Buckets(msgspec.Struct, array_like=True):
    """Of the points at these places of the run: how many buckets each has, then all buckets' bounds (as numbers in
    `bounds`) and counts. Arrays of 16 bits; counts as a column."""

    places: bytes
    lengths: bytes
    bounds: list[float]
    numbers: bytes
    counts: tuple[bytes, bytes, bytes]


_heads = msgspec.msgpack.Decoder(_Head)
_buckets = msgspec.msgpack.Decoder(_Buckets)


def pack_block(runs: Mapping[int, Run], start: int, resolution: int) -> bytes:
    """runs: by id of the metric; starts are start + n x resolution, ascending, n < 65536."""
    presences: dict[tuple[int, int, bytes], int] = {}
    shared: dict[int, int] = {}
    entries: dict[int, _Entry] = {}
    pieces: list[bytes] = []
    offset = 0
    for number, run in runs.items():
        presence = shared.get(id(run.starts))
        if presence is None:
            found = _presence(run.starts, start, resolution)
            presence = shared[id(run.starts)] = presences.setdefault(found, len(presences))
        entry, found_pieces = _packed(run, presence)
        entry.offset = offset
        entries[number] = entry
        pieces += found_pieces
        offset += sum(map(len, found_pieces))
    head = shrink(msgspec.msgpack.encode(_Head(list(presences), entries)), _LEVEL)
    return b"".join((_LENGTH.pack(len(head)), head, *pieces))


def _packed(run: Run, presence: int) -> tuple[_Entry, list[bytes]]:
    own = 0
    columns = [run.count, run.least]
    least = run.least.tobytes()
    if run.total is not run.least and run.total.tobytes() != least:
        own |= _TOTAL
        columns.append(run.total)
    if run.most is not run.least and run.most.tobytes() != least:
        own |= _MOST
        columns.append(run.most)
    heads, dense, noise = map(b"".join, zip(*map(encode, columns), strict=True))
    entry = _Entry(presence, own, heads)
    pieces = [_squeezed(dense) if dense else b"", noise]
    if dense or noise:
        entry.squeezed, entry.noise = len(pieces[0]), len(noise)
        entry.crc = zlib.crc32(noise, zlib.crc32(pieces[0]))
    if run.buckets:
        pieces.append(_packed_buckets(run))
        entry.buckets = len(pieces[-1])
    return entry, pieces


def _squeezed(dense: bytes) -> bytes:
    found = getattr(_codecs, "compressor", None)
    if found is None:
        # Tables for a few kilobytes: the usual ones take longer to clear than to use.
        small = zstandard.ZstdCompressionParameters.from_level(
            _LEVEL, source_size=4096, format=zstandard.FORMAT_ZSTD1_MAGICLESS, write_content_size=False
        )
        found = _codecs.compressor = zstandard.ZstdCompressor(compression_params=small)
    return bytes(found.compress(dense))


def _grown(frame: bytes, length: int) -> bytes:
    found = getattr(_codecs, "decompressor", None)
    if found is None:
        found = _codecs.decompressor = zstandard.ZstdDecompressor(format=zstandard.FORMAT_ZSTD1_MAGICLESS)
    return bytes(found.decompress(frame, max_output_size=length))


def _presence(starts: Sequence[int], start: int, resolution: int) -> tuple[int, int, bytes]:
    first, end = (starts[0] - start) // resolution, (starts[-1] - start) // resolution + 1
    if end - first == len(starts):
        return first, end, b""
    return first, end, array("H", [(at - start) // resolution for at in starts]).tobytes()


def _packed_buckets(run: Run) -> bytes:
    place = {start: i for i, start in enumerate(run.starts)}
    from_run = {place[start]: _added(places) for start, places in run.buckets.items()}
    bounds = sorted({bound for found in from_run.values() for bound, _ in found})
    number = {bound: i for i, bound in enumerate(bounds)}
    packed = _Buckets(
        array("H", from_run).tobytes(),
        array("H", map(len, from_run.values())).tobytes(),
        bounds,
        array("H", [number[bound] for found in from_run.values() for bound, _ in found]).tobytes(),
        encode(array("d", [count for found in from_run.values() for _, count in found])),
    )
    return shrink(msgspec.msgpack.encode(packed), _LEVEL)


def _added(places: tuple[Place, ...]) -> Buckets:
    if len(places) == 1:
        source, i = places[0]
        return source[i]
    sums: dict[float, float] = {}
    for source, i in places:
        for bound, count in source[i]:
            sums[bound] = sums.get(bound, 0.0) + count
    return tuple(sorted(sums.items()))


# Of a decoded column, whatever is in it; of a point's buckets; of an entry in a head, and of a start.
_RUN_BYTES, _POINT_BUCKETS_BYTES, _ENTRY_BYTES, _START_BYTES = 500, 250, 200, 40


class Block:
    """A block that is being read. Raises ColumnDamaged when its head cannot be. Columns are decoded once each, and are
    not to be changed; kept_bytes: about what they take."""

    def __init__(self, data: bytes, start: int, resolution: int) -> None:
        self._data, self._start, self._resolution = data, start, resolution
        self._runs: dict[int, Run] = {}
        try:
            self._body = _LENGTH.size + _LENGTH.unpack_from(data)[0]
            self._head = _heads.decode(grow(data[_LENGTH.size : self._body]))
            self._starts = [self._listed(*presence) for presence in self._head.presences]
        except (*DAMAGE, struct.error) as error:
            raise ColumnDamaged(f"a block cannot be read: {error}") from error
        heads = _ENTRY_BYTES * len(self._head.entries) + _START_BYTES * sum(map(len, self._starts))
        self.kept_bytes = len(data) + heads

    def is_of(self, data: bytes) -> bool:
        return self._data == data

    @property
    def ids(self) -> Collection[int]:
        return self._head.entries.keys()

    def run(self, number: int) -> Run | None:
        """None where the metric has no point. Raises ColumnDamaged."""
        known = self._runs.get(number)
        if known is not None:
            return known
        entry = self._head.entries.get(number)
        if entry is None:
            return None
        try:
            found = self._runs[number] = self._decoded(entry)
            columns = 1 + len({id(found.total), id(found.least), id(found.most)})
            points = 8 * columns * len(found.starts) + _POINT_BUCKETS_BYTES * len(found.buckets)
            self.kept_bytes += _RUN_BYTES + points
            return found
        except (*DAMAGE, zlib.error) as error:
            raise ColumnDamaged(f"a column cannot be read: {error}") from error

    def _decoded(self, entry: _Entry) -> Run:
        starts = self._starts[entry.presence]
        at = self._body + entry.offset
        end = at + entry.squeezed + entry.noise
        dense = noise = b""
        if end > at:
            if zlib.crc32(self._data[at:end]) != entry.crc:
                raise ColumnDamaged("a column's checksum is wrong")
            noise = self._data[at + entry.squeezed : end]
            if entry.squeezed:
                dense = _grown(self._data[at : at + entry.squeezed], planes(entry.heads)[0] * len(starts))
        count, least, *rest = decode(entry.heads, dense, noise, len(starts))
        total = rest.pop(0) if entry.own & _TOTAL else least
        most = rest.pop(0) if entry.own & _MOST else least
        found = Run(starts, count, total, least, most)
        if entry.buckets:
            source = _Source(self._data[end : end + entry.buckets])
            found.buckets = {starts[place]: ((source, i),) for i, place in enumerate(source.places)}
        return found

    def _listed(self, first: int, end: int, slots: bytes) -> list[int]:
        begin, step = self._start, self._resolution
        if not slots:
            return list(range(begin + first * step, begin + end * step, step))
        return [begin + slot * step for slot in array("H", slots)]


class _Source(Sequence[Buckets]):
    """The buckets of a metric in a block, made one by one."""

    def __init__(self, frame: bytes) -> None:
        packed = _buckets.decode(grow(frame))
        self.places, lengths = array("H", packed.places), array("H", packed.lengths)
        self._bounds, self._numbers = packed.bounds, array("H", packed.numbers)
        self._counts = decode(*packed.counts, len(self._numbers))[0]
        self._edges = list(accumulate(lengths, initial=0))

    def __len__(self) -> int:
        return len(self.places)

    def __getitem__(self, i: int) -> Buckets:  # type: ignore[override]
        part = slice(self._edges[i], self._edges[i + 1])
        return tuple(zip(map(self._bounds.__getitem__, self._numbers[part]), self._counts[part], strict=True))
