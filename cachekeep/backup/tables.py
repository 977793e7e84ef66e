"""Sets and hashes of many elements: equal but for their order? In a third of the time that decoding takes. Pure.

Servers dump a hash table in the order of its buckets, which is another one on each server: these are nearly all values
of a faithful copy that differ in their bytes. Here the elements are cut apart and compared as they are encoded. A yes
is certain; a no means nothing (the same number may be text there) and is for `decode`.
Source: src/rdb.c rdbSaveLen, rdbSaveRawString.
"""

from __future__ import annotations

SET, HASH = 2, 4
TABLES = frozenset((SET, HASH))
_FOOTER_BYTES = 10
_IN_6_BITS, _IN_14_BITS = 64, 128
_INTEGER_BYTES = {0xC0: 2, 0xC1: 3, 0xC2: 5}


def same_table(ours: bytes, theirs: bytes) -> bool:
    """True: both have the same elements. The payloads have one type, of TABLES."""
    start = _start(ours)
    if len(ours) != len(theirs) or ours[1:start] != theirs[1:start]:
        return False
    one, other = _elements(ours), _elements(theirs)
    if one is None or other is None or len(one) != len(other):
        return False
    if ours[0] == SET:
        distinct = set(one)
        return len(distinct) == len(one) and distinct == set(other)
    fields = dict(zip(one[::2], one[1::2], strict=True))
    return 2 * len(fields) == len(one) and fields == dict(zip(other[::2], other[1::2], strict=True))


def _start(payload: bytes) -> int:
    """Where the first element is: after the type and the number of them."""
    if payload[1] < _IN_6_BITS:
        return 2
    return 3 if payload[1] < _IN_14_BITS else 6


def _elements(payload: bytes) -> list[bytes] | None:
    """As they are encoded, each with its length; None when one is compressed or very long."""
    if payload[1] > _IN_14_BITS:
        return None
    at, end = _start(payload), len(payload) - _FOOTER_BYTES
    found: list[bytes] = []
    append = found.append
    while at < end:
        size = payload[at]
        if size < _IN_6_BITS:
            after = at + 1 + size
        elif size < _IN_14_BITS:
            after = at + 2 + ((size & 63) << 8) + payload[at + 1]
        elif size in _INTEGER_BYTES:
            after = at + _INTEGER_BYTES[size]
        else:
            return None
        append(payload[at:after])
        at = after
    return found if at == end else None
