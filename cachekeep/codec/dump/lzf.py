"""Strings compressed with LZF, as servers keep those over 20 bytes in RDB and DUMP. Pure.

A control byte below 32 is followed by that many literal bytes plus one; any other copies 3 to 264 bytes that stand up
to 8,192 bytes back, possibly into itself. Source: src/lzf_d.c.
"""

from __future__ import annotations

from cachekeep.codec.dump.errors import DumpError

MAX_STRING_BYTES = 512 << 20  # of any one string: proto-max-bulk-len
_MOST_PER_BYTE = 88  # 264 bytes from a copy of 3


def decompress(packed: bytes, length: int) -> bytes:
    """Return the original of `length` bytes. Raises DumpError when packed holds anything else.

    Never makes more than `length` bytes and one copy, and refuses lengths that so few bytes cannot stand for.
    """
    if length > MAX_STRING_BYTES or length > len(packed) * _MOST_PER_BYTE:
        raise DumpError(f"{len(packed)} compressed bytes cannot hold {length}")
    out = bytearray()
    at, end = 0, len(packed)
    try:
        while at < end:
            control = packed[at]
            at += 1
            if control < 32:
                after = at + control + 1
                out += packed[at:after]
                at = after
                continue
            size = control >> 5
            if size == 7:
                size += packed[at]
                at += 1
            size += 2
            start = len(out) - ((control & 31) << 8 | packed[at]) - 1
            at += 1
            if start < 0 or len(out) + size > length:
                raise DumpError("a compressed string copies from before its start or past its end")
            piece = out[start : start + size]
            if len(piece) < size:  # the copy overlaps itself: a repeated pattern
                piece = (piece * (size // len(piece) + 1))[:size]
            out += piece
    except IndexError:
        raise DumpError("a compressed string is cut off") from None
    if at != end or len(out) != length:
        raise DumpError(f"a compressed string holds {len(out)} bytes instead of {length}")
    return bytes(out)
