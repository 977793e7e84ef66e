"""Small collections that servers keep in one string: listpack, ziplist, intset, zipmap -> their elements. Pure.

All elements come back as the bytes that a client reads, integers as decimal text. Each element names its own size,
so a walk is linear and ends with the string; what the sizes say is checked, the links backwards are not used.
"""

from __future__ import annotations

import struct
from itertools import pairwise

from cachekeep.codec.dump.errors import DumpError

_END = 0xFF
_SMALL = [b"%d" % number for number in range(128)]
_INTSET_FORMATS = {2: "h", 4: "i", 8: "q"}
_ZIP_INTEGER_BYTES = {0xC0: 2, 0xD0: 4, 0xE0: 8, 0xF0: 3, 0xFE: 1}
_LISTPACK_INTEGER_BYTES = {0xF1: 2, 0xF2: 3, 0xF3: 4, 0xF4: 8}
_UNKNOWN_COUNT = 0xFFFF


def listpack(data: bytes) -> list[bytes]:
    """Return the elements. Layout: total bytes (u32), elements (u16), elements, 255. Source: src/listpack.c.

    An element is its encoding, its data and its size again (1 to 5 bytes of 7 bits), for walks from the end.
    """
    size = len(data)
    if size < 7 or int.from_bytes(data[:4], "little") != size or data[-1] != _END:
        raise DumpError("a listpack does not have the size it names")
    last = size - 1
    at = 6
    elements: list[bytes] = []
    add = elements.append
    while at < last:
        first = data[at]
        if first < 0x80:
            add(_SMALL[first])
            at += 2
            continue
        if first < 0xC0:
            head, length = 1, first & 63
        elif first < 0xE0:
            value = (first & 31) << 8 | data[at + 1]
            add(b"%d" % (value - 8192 if value >= 4096 else value))
            at += 3
            continue
        elif first < 0xF0:
            head, length = 2, (first & 15) << 8 | data[at + 1]
        elif first == 0xF0:
            head, length = 5, int.from_bytes(data[at + 1 : at + 5], "little")
        elif width := _LISTPACK_INTEGER_BYTES.get(first, 0):
            add(b"%d" % int.from_bytes(data[at + 1 : at + 1 + width], "little", signed=True))
            at += width + 2
            continue
        else:
            raise DumpError(f"no element of a listpack begins with the byte {first}")
        add(data[at + head : at + head + length])
        total = head + length
        at += total + (
            1 if total < 128 else 2 if total < 16383 else 3 if total < 2097151 else 4 if total < 268435455 else 5
        )
    if at != last:
        raise DumpError("an element of a listpack reaches past its end")
    _require_count(len(elements), int.from_bytes(data[4:6], "little"), "listpack")
    return elements


def ziplist(data: bytes) -> list[bytes]:
    """Return the elements. Layout: total bytes (u32), offset of the last (u32), elements (u16), elements, 255.

    An element is the size of the one before it (1 or 5 bytes), its encoding and its data. Source: src/ziplist.c.
    """
    size = len(data)
    if size < 11 or int.from_bytes(data[:4], "little") != size or data[-1] != _END:
        raise DumpError("a ziplist does not have the size it names")
    last = size - 1
    at = 10
    elements: list[bytes] = []
    while at < last:
        at += 5 if data[at] == 0xFE else 1
        first = data[at] if at < last else 0
        if first < 0xC0:
            if first < 0x40:
                head, length = 1, first
            elif first < 0x80:
                head, length = 2, int.from_bytes(data[at : at + 2], "big") & 0x3FFF
            else:
                head, length = 5, int.from_bytes(data[at + 1 : at + 5], "big")
            elements.append(data[at + head : at + head + length])
            at += head + length
        elif width := _ZIP_INTEGER_BYTES.get(first, 0):
            elements.append(b"%d" % int.from_bytes(data[at + 1 : at + 1 + width], "little", signed=True))
            at += 1 + width
        elif 0xF1 <= first <= 0xFD:
            elements.append(_SMALL[first - 0xF1])
            at += 1
        else:
            raise DumpError(f"no element of a ziplist has the encoding {first}")
    if at != last:
        raise DumpError("an element of a ziplist reaches past its end")
    _require_count(len(elements), int.from_bytes(data[8:10], "little"), "ziplist")
    return elements


def intset(data: bytes) -> list[bytes]:
    """Return the members. Layout: bytes per member (u32), members (u32), members in order. Source: src/intset.c."""
    if len(data) < 8:
        raise DumpError("an intset is cut off")
    width, count = struct.unpack("<II", data[:8])
    if width not in _INTSET_FORMATS or len(data) != 8 + width * count:
        raise DumpError("an intset does not have the size it names")
    numbers = struct.unpack(f"<{count}{_INTSET_FORMATS[width]}", data[8:])
    if any(one >= other for one, other in pairwise(numbers)):
        raise DumpError("the members of an intset are not in order")
    return [b"%d" % number for number in numbers]


def zipmap(data: bytes) -> list[bytes]:
    """Return fields and values in turn. Layout: fields (u8, 254 = many), then for each the length of its name (1 or 5
    bytes), its name, the length of its value, the unused bytes (u8), its value; 255. Source: src/zipmap.c.
    """
    if len(data) < 2 or data[-1] != _END:
        raise DumpError("a zipmap has no end")
    last = len(data) - 1
    at = 1
    elements: list[bytes] = []
    while at < last:
        for is_value in (False, True):
            first = data[at] if at < last else _END
            if first == _END:
                raise DumpError("a field of a zipmap has no value")
            length, head = (first, 1) if first < 0xFE else (int.from_bytes(data[at + 1 : at + 5], "little"), 5)
            at += head
            free = data[at] if is_value and at < last else 0
            at += is_value
            elements.append(data[at : at + length])
            at += length + free
    if at != last:
        raise DumpError("a field of a zipmap reaches past its end")
    if data[0] < 0xFE and data[0] * 2 != len(elements):
        raise DumpError(f"a zipmap names {data[0]} fields and holds {len(elements) // 2}")
    return elements


def _require_count(found: int, named: int, kind: str) -> None:
    if named not in (found, _UNKNOWN_COUNT):
        raise DumpError(f"a {kind} names {named} elements and holds {found}")
