"""The body of a frame: any bytes come back, what does not shrink is kept as it is, what shrinks is compressed."""

from __future__ import annotations

import random

import pytest
import zstandard

from cachekeep.codec.packing import packed
from cachekeep.codec.segment import LEVEL

KIB = 1 << 10


def _packed(plain: bytes) -> bytes:
    body = packed(plain, zstandard.ZstdCompressor(level=LEVEL))
    assert zstandard.frame_content_size(body) == len(plain)
    assert zstandard.ZstdDecompressor().decompress(body, allow_extra_data=False) == plain
    return body


@pytest.mark.parametrize("size", [128 * KIB, 128 * KIB + 1, 256 * KIB - 1, 256 * KIB, 1024 * KIB + 7])
def test_what_does_not_shrink_is_kept_as_it_is(size: int) -> None:
    noise = random.Random(size).randbytes(size)
    body = _packed(noise)
    assert noise[: 100 * KIB] in body
    assert len(body) < size + 64


@pytest.mark.parametrize("size", [0, 1, 500, 128 * KIB - 1, 128 * KIB, 700 * KIB])
def test_what_shrinks_is_compressed(size: int) -> None:
    text = (b"the quick brown fox jumps over the lazy dog; " * (size // 40 + 1))[:size]
    assert len(_packed(text)) <= size // 20 + 64


def test_a_part_that_shrinks_is_reason_enough() -> None:
    noise = random.Random(1).randbytes(512 * KIB)
    assert len(_packed(noise + bytes(512 * KIB))) < 600 * KIB
