"""LZF, listpack, ziplist, intset and zipmap byte by byte, written here from their descriptions."""

from __future__ import annotations

import time
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cachekeep.codec.dump import DumpError
from cachekeep.codec.dump.lzf import decompress
from cachekeep.codec.dump.packed import intset, listpack, ziplist, zipmap


def packed(*elements: bytes) -> bytes:
    """A listpack of elements that are already encoded, without their sizes."""
    body = b""
    for element in elements:
        size, back = len(element), b""
        while True:
            back = bytes([size & 127 | (128 if back else 0)]) + back
            size >>= 7
            if not size:
                break
        body += element + back
    return (7 + len(body)).to_bytes(4, "little") + len(elements).to_bytes(2, "little") + body + b"\xff"


@pytest.mark.parametrize(
    ("element", "meant"),
    [
        (b"\x00", b"0"),
        (b"\x7f", b"127"),
        (b"\x80", b""),
        (b"\x82ab", b"ab"),
        (b"\xbf" + b"x" * 63, b"x" * 63),
        (b"\xc0\x80", b"128"),
        (b"\xcf\xff", b"4095"),
        (b"\xd0\x00", b"-4096"),
        (b"\xdf\xff", b"-1"),
        (b"\xe0\x40" + b"x" * 64, b"x" * 64),
        (b"\xef\xff" + b"x" * 4095, b"x" * 4095),
        (b"\xf0\x00\x10\x00\x00" + b"x" * 4096, b"x" * 4096),
        (b"\xf0\xf0\x3f\x00\x00" + b"x" * 16368, b"x" * 16368),
        (b"\xf0\x00\x00\x10\x00" + b"x" * (1 << 20), b"x" * (1 << 20)),
        (b"\xf1\x00\x80", b"-32768"),
        (b"\xf2\xff\xff\x7f", b"8388607"),
        (b"\xf3\x00\x00\x00\x80", b"-2147483648"),
        (b"\xf4" + b"\xff" * 7 + b"\x7f", b"9223372036854775807"),
    ],
)
def test_every_encoding_of_a_listpack(element: bytes, meant: bytes) -> None:
    assert listpack(packed(element)) == [meant]
    assert listpack(packed(b"\x01", element, b"\x02")) == [b"1", meant, b"2"]


@pytest.mark.parametrize("first", [*range(0xF5, 0xFF)])
def test_a_listpack_has_no_other_encodings(first: int) -> None:
    with pytest.raises(DumpError, match=f"byte {first}"):
        listpack(packed(bytes([first]) + bytes(20)))


@pytest.mark.parametrize(
    ("entry", "meant"),
    [
        (b"\x00", b""),
        (b"\x3f" + b"x" * 63, b"x" * 63),
        (b"\x40\x40" + b"x" * 64, b"x" * 64),
        (b"\x80\x00\x00\x40\x00" + b"x" * 16384, b"x" * 16384),
        (b"\xc0\x00\x80", b"-32768"),
        (b"\xd0\xff\xff\xff\x7f", b"2147483647"),
        (b"\xe0" + b"\x00" * 7 + b"\x80", b"-9223372036854775808"),
        (b"\xf0\x00\x00\x80", b"-8388608"),
        (b"\xfe\x80", b"-128"),
        (b"\xf1", b"0"),
        (b"\xfd", b"12"),
    ],
)
@pytest.mark.parametrize("before", [b"\x00", b"\xfe\x10\x00\x00\x00"])
def test_every_encoding_of_a_ziplist(before: bytes, entry: bytes, meant: bytes) -> None:
    body = before + entry
    header = (11 + len(body)).to_bytes(4, "little") + (10).to_bytes(4, "little") + b"\x01\x00"
    assert ziplist(header + body + b"\xff") == [meant]


def test_an_unknown_number_of_elements_is_counted() -> None:
    data = bytearray(packed(b"\x01", b"\x02"))
    data[4:6] = b"\xff\xff"
    assert listpack(bytes(data)) == [b"1", b"2"]
    data[4:6] = b"\x03\x00"
    with pytest.raises(DumpError, match="names 3 elements and holds 2"):
        listpack(bytes(data))


def test_intset_widths() -> None:
    assert intset(b"\x02\0\0\0\x02\0\0\0\xff\xff\x05\x00") == [b"-1", b"5"]
    assert intset(b"\x08\0\0\0\x01\0\0\0" + b"\0" * 7 + b"\x80") == [b"-9223372036854775808"]
    with pytest.raises(DumpError, match="not in order"):
        intset(b"\x02\0\0\0\x02\0\0\0\x05\x00\x05\x00")


def test_zipmap_with_unused_bytes_and_a_long_value() -> None:
    long = b"x" * 300
    data = b"\x02\x01a\x02\x03vv...\x01b\xfe" + (300).to_bytes(4, "little") + b"\x00" + long + b"\xff"
    assert zipmap(data) == [b"a", b"vv", b"b", long]


@pytest.mark.parametrize(
    ("compressed", "original"),
    [
        (b"\x00a", b"a"),
        (b"\x00a\x20\x00", b"aaaa"),
        (b"\x01ab\xe0\x00\x01", b"ab" * 5 + b"a"),
        (b"\x02abc\x20\x02\x00d", b"abcabcd"),
        (b"\x00a\xe0\xff\x00", b"a" * 265),
    ],
)
def test_lzf(compressed: bytes, original: bytes) -> None:
    assert decompress(compressed, len(original)) == original
    for wrong in (len(original) - 1, len(original) + 1):
        with pytest.raises(DumpError):
            decompress(compressed, wrong)


def test_a_compressed_string_that_announces_too_much_is_refused_unread() -> None:
    for length in (1 << 29, (1 << 29) + 1, 1 << 62, 89 * 6):
        with pytest.raises(DumpError, match="cannot hold"):
            decompress(b"\x00a\x20\x00ab", length)


def test_decompression_takes_linear_time() -> None:
    def seconds(copies: int) -> float:
        data = b"\x00a" + b"\xe0\xff\x00" * copies
        best = 9.0
        for _ in range(3):
            start = time.process_time()
            assert len(decompress(data, 1 + 264 * copies)) == 1 + 264 * copies
            best = min(best, time.process_time() - start)
        return best

    assert seconds(40_000) < 40 * max(seconds(4_000), 0.001)


@given(st.binary(max_size=80), st.integers(0, 1 << 12))
def test_any_bytes_are_a_collection_or_an_error(data: bytes, length: int) -> None:
    for unpack in (listpack, ziplist, intset, zipmap):
        for text in (data, len(data).to_bytes(4, "little") + data[4:-1] + b"\xff"):
            with suppress(DumpError):
                assert all(isinstance(element, bytes) for element in unpack(text))
    with suppress(DumpError):
        assert len(decompress(data, length)) == length
