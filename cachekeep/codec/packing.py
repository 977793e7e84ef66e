"""The body of a segment's frame: one zstd frame, compressed where that saves something. Pure. Called by codec.segment.

RDB files and DUMP payloads are compressed already by their engine, and many caches hold what cannot be compressed. To
try costs more time than all else that a frame needs, so a sample is asked first. What does not shrink is kept as it is,
in zstd's own raw blocks: readers see a zstd frame like any other.
Source: RFC 8878, 3.1.1 "Zstandard Frames": frame header (single segment, content size of 4 bytes), raw blocks.
"""

from __future__ import annotations

import struct

import zstandard

_SAMPLE_BYTES, _SAMPLES = 8 << 10, 4
# Smaller ones are compressed in any case: the sample would be most of them.
_LEAST_BYTES = 128 << 10
# Kept as it is when compression would save less than a tenth.
_WORTH = 0.9
_BLOCK_BYTES = 128 << 10
_MAGIC, _SINGLE_SEGMENT_SIZE_4 = 0xFD2FB528, 0xA0
_HEADER = struct.Struct("<IBI")


def packed(plain: bytes, compressor: zstandard.ZstdCompressor) -> bytes:
    """A zstd frame that declares its content size. plain: less than 4 GiB."""
    if len(plain) >= _LEAST_BYTES and not _shrinks(plain, compressor):
        return _as_it_is(plain)
    return compressor.compress(plain)


def _shrinks(plain: bytes, compressor: zstandard.ZstdCompressor) -> bool:
    step = len(plain) // _SAMPLES
    sample = b"".join(plain[at : at + _SAMPLE_BYTES] for at in range(0, step * _SAMPLES, step))
    return len(compressor.compress(sample)) < _WORTH * len(sample)


def _as_it_is(plain: bytes) -> bytes:
    parts: list[bytes | memoryview] = [_HEADER.pack(_MAGIC, _SINGLE_SEGMENT_SIZE_4, len(plain))]
    view = memoryview(plain)
    for at in range(0, len(plain), _BLOCK_BYTES):
        block = view[at : at + _BLOCK_BYTES]
        last = at + _BLOCK_BYTES >= len(plain)
        # Block header, 3 bytes: is it the last, its kind (0: raw), its size.
        parts += [(len(block) << 3 | last).to_bytes(3, "little"), block]
    return b"".join(parts)
