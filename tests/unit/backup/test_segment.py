"""The segment file: any records come back, any damage is SegmentError and nothing else, memory stays bounded."""

from __future__ import annotations

import random
import struct
import tracemalloc
from collections.abc import Iterable, Iterator
from contextlib import suppress
from itertools import islice

import pytest
import zstandard
from hypothesis import example, given, settings
from hypothesis import strategies as st

from cachekeep.backup.reader import Joiner
from cachekeep.codec.record import PIECE_BYTES, Kind, Record, decode_records, encode_records, pieces
from cachekeep.codec.seal import GcmSealer
from cachekeep.codec.segment import (
    Frame,
    FrameWriter,
    RawFrame,
    SegmentEncoder,
    SegmentError,
    SegmentHeader,
    SegmentReader,
    encode_frame,
)

OPEN = SegmentHeader("20261122T210000.123Z-9f3c2e71", "00000007-0a1b2c")
SEALED = SegmentHeader("20261122T210000.123Z-9f3c2e71", "00000007-0a1b2c", sealed=True)
SEALER = GcmSealer(bytes(32))
I64 = (1 << 63) - 1
records_of_any_kind = st.builds(
    Record,
    st.sampled_from([int(kind) for kind in Kind]),
    st.integers(0, (1 << 32) - 1),
    st.integers(-1, I64),
    st.integers(-I64, I64),
    st.binary(max_size=40),
    st.binary(max_size=300),
)


def encoded(records: Iterable[Record], header: SegmentHeader = OPEN, frame_bytes: int = 200) -> bytes:
    writer = FrameWriter(frame_bytes)
    raw = writer.add(records)
    if (rest := writer.flush()) is not None:
        raw.append(rest)
    return b"".join(SegmentEncoder(header, SEALER if header.sealed else None).encode(raw))


def chunked(data: bytes, size: int) -> Iterator[bytes]:
    return (data[at : at + size] for at in range(0, len(data), size))


def read(data: bytes, header: SegmentHeader = OPEN, chunk: int = 1 << 20) -> list[Record]:
    frames = SegmentReader(chunked(data, chunk), header).frames()
    return [record for frame in frames for record in frame.decode(SEALER if header.sealed else None)]


@given(
    st.lists(records_of_any_kind, max_size=30), st.sampled_from([OPEN, SEALED]), st.integers(1, 400), st.integers(1, 99)
)
@settings(deadline=None)
def test_any_records_come_back(records: list[Record], header: SegmentHeader, frame_bytes: int, chunk: int) -> None:
    assert read(encoded(records, header, frame_bytes), header, chunk) == records


@given(st.lists(records_of_any_kind, max_size=20))
def test_the_body_of_a_frame_comes_back(records: list[Record]) -> None:
    assert decode_records(encode_records(records), len(records)) == records


def test_records_batched_differently_are_the_same_records() -> None:
    records = [Record(Kind.UPSERT, 0, -1, n, b"k%d" % n, b"v" * (n % 50)) for n in range(500)]
    writer = FrameWriter(1000)
    raw = [frame for at in range(0, 500, 7) for frame in writer.add(records[at : at + 7])]
    rest = writer.flush()
    assert rest is not None
    assert writer.flush() is None
    assert [record for frame in [*raw, rest] for record in frame.records] == records
    assert [frame.number for frame in [*raw, rest]] == list(range(len(raw) + 1))


def test_the_encoder_counts_what_an_entry_says() -> None:
    encoder = SegmentEncoder(OPEN)
    moments = [50, 20, 90, 30]
    raw = [RawFrame(n, [Record(Kind.UPSERT, 0, -1, m, b"k", b"v")]) for n, m in enumerate(moments)]
    data = b"".join(encoder.encode(raw))
    assert (encoder.frames, encoder.records, encoder.bytes) == (4, 4, len(data))
    assert (encoder.first_ms, encoder.last_ms) == (20, 90)
    reader = SegmentReader([data], OPEN)
    assert len(list(reader.frames())) == reader.frames_read == 4
    assert (reader.bytes, reader.digest) == (encoder.bytes, encoder.digest)


def test_the_bytes_are_those_of_the_format_page() -> None:
    record = Record(Kind.TOMBSTONE, 5, -1, 1000, b"key", b"")
    data = encoded([record])
    assert data[:24] == b"CKSEG\0" + struct.pack("<HH6sQ", 1, 0, bytes(6), 7)
    magic, stored, raw, count, number = struct.unpack_from("<4sIIII", data, 32)
    assert (magic, raw, count, number, len(data)) == (b"CKFR", 29 + 3, 1, 0, 32 + 36 + stored)
    body = zstandard.ZstdDecompressor().decompress(data[68:])
    assert body == struct.pack("<BIqqII", 2, 5, -1, 1000, 3, 0) + b"key"


def test_frames_may_come_in_no_other_order() -> None:
    raw = [RawFrame(n, [Record(Kind.UPSERT, 0, -1, 0, b"%d" % n, b"")]) for n in range(3)]
    frames = [encode_frame(OPEN, frame) for frame in raw]
    for order in ((1, 0, 2), (0, 2, 1), (0, 0, 1), (0, 2), (1, 2)):
        with pytest.raises(SegmentError, match="stands here"):
            read(OPEN.bytes + b"".join(frames[n] for n in order))
    with pytest.raises(ValueError, match="frame 2 comes where frame 0 belongs"):
        list(SegmentEncoder(OPEN).encode(raw[2:]))


@pytest.mark.parametrize("size", [PIECE_BYTES - 1, PIECE_BYTES, PIECE_BYTES + 1, 3 * PIECE_BYTES])
def test_a_value_larger_than_a_frame_comes_back_whole(size: int) -> None:
    big = Record(
        Kind.UPSERT, 3, 77, 5, b"big", random.Random(1).randbytes(1 << 20) * (size >> 20) + b"x" * (size % (1 << 20))
    )
    small = Record(Kind.UPSERT, 3, -1, 5, b"small", b"v")
    data = encoded([small, big, small], frame_bytes=1 << 20)
    assert Joiner().feed(read(data)) == [small, big, small]


@given(st.integers(1, 6), st.sets(st.integers(0, 6)))
def test_a_value_that_lost_a_piece_is_left_out(size: int, lost: set[int]) -> None:
    big, small = (Record(Kind.UPSERT, 0, -1, 0, key, bytes(range(size * 10))) for key in (b"big", b"small"))
    parts = list(pieces(big, 14))
    left = [part for number, part in enumerate(parts) if number not in lost]
    whole = [big] if len(left) == len(parts) else []
    assert Joiner().feed([small, *left, small]) == [small, *whole, small]
    assert Joiner().feed([*left, *pieces(big, 14)]) == [*whole, big]


def test_damage_costs_the_frames_that_it_touches() -> None:
    records = [Record(Kind.UPSERT, 0, -1, 0, b"%02d" % n, b"CKFR" * n) for n in range(12)]
    data = encoded(records, frame_bytes=1)
    told: list[SegmentError] = []
    broken = bytearray(data)
    at = data.index(b"CKFR", data.index(b"CKFR", 40) + 40)
    broken[at + 50] ^= 1
    frames = SegmentReader([bytes(broken)], OPEN).frames(told.append)
    left = [record for frame in frames for record in frame.decode()]
    assert len(told) == 1
    assert left == [record for record in records if record.key != b"%02d" % (told[0].frame or 0)]
    assert f"frame {told[0].frame} at byte {told[0].offset}" in str(told[0])


def test_a_newer_segment_asks_for_a_newer_program() -> None:
    data = bytearray(encoded([]))
    data[6] = 2
    with pytest.raises(SegmentError, match=r"version 2 is not known here.*update"):
        read(bytes(data))


@pytest.mark.parametrize(
    ("kind", "body"),
    [
        ("size", zstandard.ZstdCompressor().compress(bytes(100))),
        ("bomb", zstandard.ZstdCompressor().compress(bytes(1 << 24))),
        ("no size", zstandard.ZstdCompressor(write_content_size=False).compress(bytes(40))),
        ("noise", b"no zstd at all"),
        ("empty", b""),
        ("trailing", zstandard.ZstdCompressor().compress(bytes(40)) + b"more"),
        ("records", zstandard.ZstdCompressor().compress(bytes(40))),
        ("huge size", bytes.fromhex("28b52ffdc0ffffffffffffff7f0000")),
    ],
)
def test_contents_that_lie_under_a_right_digest_are_refused(kind: str, body: bytes) -> None:
    frame = Frame(OPEN, 0, 1, 40, 32, b"", body)
    with pytest.raises(SegmentError, match="frame 0 at byte 32"):
        frame.decode()


@pytest.mark.parametrize(
    "record",
    [
        Record(256, 0, -1, 0, b"", b""),
        Record(1, -1, -1, 0, b"", b""),
        Record(1, 1 << 32, -1, 0, b"", b""),
        Record(1, 0, 1 << 63, 0, b"", b""),
    ],
)
def test_a_record_that_does_not_fit_is_refused_when_written(record: Record) -> None:
    with pytest.raises(ValueError, match="cannot be written"):
        encode_records([record])


def test_a_sealed_frame_is_read_in_its_own_place_and_with_its_own_key_only() -> None:
    record = Record(Kind.UPSERT, 0, -1, 0, b"key", b"value")
    frame = next(SegmentReader([encoded([record], SEALED)], SEALED).frames())
    assert frame.decode(SEALER) == [record]
    with pytest.raises(SegmentError, match="no passphrase"):
        frame.decode()
    with pytest.raises(SegmentError, match="not sealed with this key"):
        frame.decode(GcmSealer(bytes([1]) * 32))
    elsewhere = Frame(
        SegmentHeader("x", "00000007-0a1b2c", sealed=True), 0, 1, frame.raw_bytes, 32, frame.fields, frame.body
    )
    with pytest.raises(SegmentError, match="in this place"):
        elsewhere.decode(SEALER)
    with pytest.raises(ValueError, match="needs a key"):
        SegmentEncoder(SEALED)


def survive(data: bytes, header: SegmentHeader = OPEN, chunk: int = 1 << 16) -> None:
    """Read strictly and leniently: SegmentError or records, nothing else."""
    with suppress(SegmentError):
        read(data, header, chunk)
    told: list[SegmentError] = []
    reader = SegmentReader(chunked(data, chunk), header)
    for frame in reader.frames(told.append):
        frame.decode(SEALER if header.sealed else None)
    assert reader.bytes == len(data)


@given(st.binary(max_size=400), st.sampled_from([OPEN, SEALED]), st.integers(1, 50))
@example(b"CKFR" * 90, OPEN, 3)
@example(b"CKSEG\0", OPEN, 1)
def test_random_bytes_are_never_more_than_an_error(noise: bytes, header: SegmentHeader, chunk: int) -> None:
    survive(noise, header, chunk)
    survive(header.bytes + noise, header, chunk)
    survive(header.bytes + b"CKFR" + noise, header, chunk)


@given(st.randoms(use_true_random=False), st.sampled_from([OPEN, SEALED]))
@settings(deadline=None)
def test_a_segment_with_bytes_changed_taken_and_added_is_never_more_than_an_error(
    chance: random.Random, header: SegmentHeader
) -> None:
    data = bytearray(encoded([Record(1, 0, -1, 0, b"%d" % n, b"v" * n) for n in range(40)], header))
    for _ in range(chance.randint(1, 6)):
        at, size = chance.randrange(len(data)), chance.choice([0, 1, 4, 30])
        data[at : at + size] = chance.randbytes(chance.choice([0, 1, 4, 30]))
    survive(bytes(data), header)


def test_reading_what_is_no_segment_takes_bounded_memory() -> None:
    """96 MiB of frame beginnings that each announce the most a frame may hold: told once, in memory of one frame."""
    start = b"CKFR" + struct.pack("<IIII", 60 << 20, 60 << 20, 10, 0) + bytes(44)
    chunk = start * ((1 << 20) // len(start))
    told: list[SegmentError] = []
    tracemalloc.start()
    try:
        reader = SegmentReader((chunk for _ in range(96)), OPEN)
        assert list(islice(reader.frames(told.append), 5)) == []
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert len(told) == 2
    assert reader.bytes == 96 * len(chunk)
    assert peak < 200 << 20
