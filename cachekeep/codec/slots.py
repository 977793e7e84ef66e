"""The slots of cluster mode: which of 16384 a key belongs to. Pure.

Source: Redis cluster specification, "Hash tags".
"""

from __future__ import annotations

from binascii import crc_hqx
from functools import cache

SLOTS = 16384


def slot_of(key: bytes) -> int:
    """CRC-16 (XMODEM) of the hash tag, or of the whole key where it has none, modulo 16384."""
    start = key.find(b"{")
    if start >= 0:
        end = key.find(b"}", start + 1)
        if end > start + 1:
            key = key[start + 1 : end]
    return crc_hqx(key, 0) % SLOTS


def tag_of(slot: int) -> bytes:
    """A short text without braces whose slot this is: `{tag}anything` goes where the slot's keys go."""
    return _tags()[slot]


@cache
def _tags() -> dict[int, bytes]:
    found: dict[int, bytes] = {}
    number = 0
    while len(found) < SLOTS:
        tag = b"%x" % number
        found.setdefault(crc_hqx(tag, 0) % SLOTS, tag)
        number += 1
    return found
