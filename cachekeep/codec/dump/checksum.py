"""The checksum of bytes that come in parts. Pure; called by `encode` and by `codec.rdb_file`."""

from __future__ import annotations

from cachekeep.codec.dump.crc64 import crc64

_PART_BYTES = 1 << 17  # what crc64 folds at once
_WORD_BYTES = 8


class Checksum:
    """`update` with parts of any size in order, then `value()`: what `crc64` gives for all of them joined.

    The state so far is xored into the first eight bytes of what follows: a message that begins with zeros has the
    checksum of what comes after them, so the checksum of a prefix may stand for the prefix.
    """

    def __init__(self) -> None:
        self._crc, self._pending = 0, bytearray()

    def update(self, data: bytes | bytearray | memoryview) -> None:
        if len(self._pending) + len(data) < _PART_BYTES:
            self._pending += data
            return
        with memoryview(data) as view:
            room = min(_PART_BYTES - len(self._pending), len(view))
            self._pending += view[:room]
            self._fold()
            for start in range(room, len(view), _PART_BYTES):
                self._pending += view[start : start + _PART_BYTES]
                if len(self._pending) == _PART_BYTES:
                    self._fold()

    def value(self) -> int:
        """Of all so far. More may follow."""
        pending = bytes(self._pending)
        if len(pending) >= _WORD_BYTES or not self._crc:
            return self._after(pending)
        # Too short to take the state: it goes on alone, byte by byte, as bits of a longer message.
        crc = self._crc
        for byte in pending:
            crc = crc64(bytes([(crc ^ byte) & 255])) ^ (crc >> 8)
        return crc

    def _fold(self) -> None:
        self._crc = self._after(bytes(self._pending))
        self._pending.clear()

    def _after(self, part: bytes) -> int:
        if not self._crc:
            return crc64(part)
        first = int.from_bytes(part[:_WORD_BYTES], "little") ^ self._crc
        return crc64(first.to_bytes(_WORD_BYTES, "little") + part[_WORD_BYTES:])
