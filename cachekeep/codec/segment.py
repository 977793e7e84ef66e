"""The segment file: records <-> frames <-> bytes, as docs/formats/segment.md writes it down. Pure.

Writing takes two steps, so that the costly one can run in a thread: `FrameWriter` gathers records into a `RawFrame`
where they arise, `SegmentEncoder` (or the free function `encode_frame`) compresses, seals and digests it elsewhere.
Reading does too: `SegmentReader` finds and verifies frames, `Frame.decode` makes records of one.
Called by backup.writer, backup.reader and backup.catalog_chain. Source of every number: docs/formats/segment.md.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, NamedTuple

import zstandard

from cachekeep.codec.packing import packed
from cachekeep.codec.record import (
    PIECE_BYTES,
    RECORD_HEAD_BYTES,
    Kind,
    Record,
    decode_records,
    encode_records,
    pieces,
)

if TYPE_CHECKING:
    from cachekeep.codec.seal import GcmSealer

VERSION = 1
HEADER_BYTES = 32
LEVEL = 1  # of zstd: level 3 saves 6 % more and takes twice the time
RAW_LIMIT_BYTES = 64 << 20
STORED_LIMIT_BYTES = RAW_LIMIT_BYTES + 64
# A frame is handed on when it holds this much.
FRAME_BYTES = 1 << 20

_MAGIC, _FRAME_MAGIC = b"CKSEG\0", b"CKFR"
_HEADER = struct.Struct("<6sHH6sQ8s")
_FIELDS = struct.Struct("<4sIIII")
_DIGEST_BYTES = 16
_FRAME_HEADER_BYTES = _FIELDS.size + _DIGEST_BYTES
_SEALED = 1
# What may be digested in vain at places that look like a frame behind a damaged one, before the rest counts as lost.
_SEARCH_LIMIT_BYTES = 4 * RAW_LIMIT_BYTES


class SegmentError(Exception):
    """Bytes that are no whole segment. Says what is wrong and where; frame is None for the segment's own header."""

    def __init__(self, what: str, segment: str, offset: int, frame: int | None = None) -> None:
        place = f"segment {segment}, " + ("header" if frame is None else f"frame {frame}")
        super().__init__(f"{place} at byte {offset}: {what}")
        self.what, self.segment, self.offset, self.frame = what, segment, offset, frame


@dataclass(frozen=True)
class SegmentHeader:
    """Which segment it is: part of every frame's digest, so no frame passes for one of another segment."""

    generation: str
    name: str  # of its file, without .seg: its number, and what tells its writer from others
    sealed: bool = False

    @cached_property
    def bytes(self) -> bytes:
        digest = hashlib.blake2b(f"{self.generation}/{self.name}".encode(), digest_size=8).digest()
        number = int(self.name.partition("-")[0])
        return _HEADER.pack(_MAGIC, VERSION, _SEALED if self.sealed else 0, bytes(6), number, digest)


class RawFrame(NamedTuple):
    """Records on their way into a frame."""

    number: int
    records: Sequence[Record]


class FrameWriter:
    """Gathers the records of one segment into frames. Belongs to one thread."""

    def __init__(self, frame_bytes: int = FRAME_BYTES) -> None:
        self._frame_bytes, self._number, self._size = frame_bytes, 0, 0
        self._records: list[Record] = []

    def add(self, records: Iterable[Record]) -> list[RawFrame]:
        """Take them; return the frames that became full, in order. Payloads above PIECE_BYTES are cut up."""
        full: list[RawFrame] = []
        limit, size, append = self._frame_bytes, self._size, self._records.append
        for record in records:
            payload_bytes = len(record.payload)
            if payload_bytes > PIECE_BYTES and record.kind == Kind.UPSERT:
                self._size = size
                full += self.add(pieces(record))
                size, append = self._size, self._records.append
                continue
            append(record)
            size += len(record.key) + payload_bytes + RECORD_HEAD_BYTES
            if size >= limit:
                full.append(self._close())
                size, append = 0, self._records.append
        self._size = size
        return full

    def flush(self) -> RawFrame | None:
        """What is gathered, as a frame; None when that is nothing."""
        return self._close() if self._records else None

    def _close(self) -> RawFrame:
        frame = RawFrame(self._number, self._records)
        self._number, self._size, self._records = self._number + 1, 0, []
        return frame


def encode_frame(
    segment: SegmentHeader,
    raw: RawFrame,
    sealer: GcmSealer | None = None,
    compressor: zstandard.ZstdCompressor | None = None,
) -> bytes:
    """The frame as it is stored; most of it runs without the GIL. compressor: of this thread, to be used again."""
    plain = encode_records(raw.records)
    if len(plain) > RAW_LIMIT_BYTES:
        raise ValueError(f"{len(plain)} bytes do not fit into a frame: is a key of this size meant?")
    body = packed(plain, compressor or zstandard.ZstdCompressor(level=LEVEL))
    stored_bytes = len(body) + (sealer.overhead_bytes if sealer else 0)
    fields = _FIELDS.pack(_FRAME_MAGIC, stored_bytes, len(plain), len(raw.records), raw.number)
    if sealer:
        body = sealer.seal(body, segment.bytes + fields)
    return b"".join((fields, _frame_digest(segment, fields, body), body))


def _frame_digest(segment: SegmentHeader, fields: bytes, body: bytes) -> bytes:
    digest = hashlib.blake2b(segment.bytes + fields, digest_size=_DIGEST_BYTES)
    digest.update(body)
    return digest.digest()


class SegmentEncoder:
    """Makes the bytes of one segment, and counts what its entry has to say. Belongs to one thread."""

    def __init__(self, segment: SegmentHeader, sealer: GcmSealer | None = None) -> None:
        if segment.sealed != (sealer is not None):
            raise ValueError("a sealed segment needs a key, and only a sealed one takes it")
        self._segment, self._sealer = segment, sealer
        # Made once: that is a third of the time that a frame takes.
        self._compressor = zstandard.ZstdCompressor(level=LEVEL)
        self._digest = hashlib.blake2b(digest_size=32)
        self.bytes = self.frames = self.records = 0
        self.first_ms: int | None = None
        self.last_ms: int | None = None

    def encode(self, frames: Iterable[RawFrame]) -> Iterator[bytes]:
        """The whole file in parts: the header, then a frame at a time. To be called once."""
        yield self._count(self._segment.bytes, HEADER_BYTES)
        for raw in frames:
            if raw.number != self.frames:
                raise ValueError(f"frame {raw.number} comes where frame {self.frames} belongs")
            stored = encode_frame(self._segment, raw, self._sealer, self._compressor)
            self.frames, self.records = self.frames + 1, self.records + len(raw.records)
            moments = [record.captured_ms for record in raw.records]
            self.first_ms = min(moments if self.first_ms is None else [self.first_ms, *moments])
            self.last_ms = max(moments if self.last_ms is None else [self.last_ms, *moments])
            yield self._count(stored, _FRAME_HEADER_BYTES)

    def _count(self, stored: bytes, header_bytes: int) -> bytes:
        self._digest.update(stored[:header_bytes])
        self.bytes += len(stored)
        return stored

    @property
    def digest(self) -> str:
        """blake2b-256 of all headers so far, in hex. A frame's header has the digest of its body: hashed once."""
        return self._digest.hexdigest()


@dataclass(frozen=True, slots=True)
class Frame:
    """A frame whose digest was verified. offset: where it begins in its segment."""

    segment: SegmentHeader
    number: int
    records: int
    raw_bytes: int
    offset: int
    fields: bytes
    body: bytes

    def decode(self, sealer: GcmSealer | None = None) -> list[Record]:
        """Its records. May run in any thread. Raises SegmentError: not unsealed, or contents that do not fit."""
        try:
            body = self.body
            if self.segment.sealed:
                if sealer is None:
                    raise ValueError("it is sealed, and no passphrase or key file was given")
                body = sealer.unseal(body, self.segment.bytes + self.fields)
            # Asked first: the size in the zstd frame decides what is allocated.
            if zstandard.frame_content_size(body) != self.raw_bytes:
                raise ValueError("its contents have another size than its header says")
            plain = zstandard.ZstdDecompressor().decompress(body, allow_extra_data=False)
            return decode_records(plain, self.records)
        except (ValueError, zstandard.ZstdError) as error:
            raise SegmentError(str(error), self.segment.name, self.offset, self.number) from error


class SegmentReader:
    """Finds the frames of one segment in a stream of bytes. Holds a frame and a chunk of the stream at most.

    `bytes`, `digest`, `frames_read`: of what was read so far, which is the whole file once frames() has ended.
    """

    def __init__(self, chunks: Iterable[bytes], segment: SegmentHeader) -> None:
        self._chunks, self._segment = iter(chunks), segment
        self._buffer, self._offset = bytearray(), 0
        self._digest = hashlib.blake2b(digest_size=32)
        self.bytes = self.frames_read = 0

    @property
    def digest(self) -> str:
        return self._digest.hexdigest()

    def frames(self, on_damage: Callable[[SegmentError], None] | None = None) -> Iterator[Frame]:
        """The frames in order. Damage raises SegmentError, or is told to on_damage and the next whole frame sought."""
        expected, tell = 0, on_damage or _raise
        try:
            self._header()
        except SegmentError as error:
            # The frames behind a damaged header can still be proved: it is known what the header must have been.
            tell(error)
        while self._fill(1):
            try:
                frame = self._frame(expected)
            except SegmentError as error:
                tell(error)
                found = self._next_whole(expected)
                if found is None:
                    return
                if found.number > expected + 1:
                    lost = f"frames {expected + 1} to {found.number - 1} are not found any more"
                    tell(SegmentError(lost, self._segment.name, error.offset, expected + 1))
                frame = found
            self._digest.update(self._buffer[:_FRAME_HEADER_BYTES])
            self._drop(_FRAME_HEADER_BYTES + len(frame.body))
            expected = frame.number + 1
            self.frames_read += 1
            yield frame

    def _header(self) -> None:
        want, have = self._segment.bytes, bytes(self._buffer[:HEADER_BYTES]) if self._fill(HEADER_BYTES) else b""
        self._drop(HEADER_BYTES)
        if have == want:
            self._digest.update(have)
            return
        if not have:
            raise self._error(f"cut off: {self.bytes} bytes are left of it", None, 0)
        magic, version, flags, reserved, number, _ = _HEADER.unpack(have)
        what = f"it is another segment: number {number} of this or another generation"
        if magic != _MAGIC:
            what = "this is not a segment"
        elif version != VERSION:
            what = f"version {version} is not known here (only {VERSION} is): update Cachekeep"
        elif (flags, reserved) != (_SEALED if self._segment.sealed else 0, bytes(6)):
            what = "flags that do not belong here"
        raise self._error(what, None, 0)

    def _frame(self, expected: int) -> Frame:
        """The frame at the front of the buffer. Raises SegmentError unless it is whole and the expected one."""
        if not self._fill(_FRAME_HEADER_BYTES):
            raise self._error(f"cut off: {len(self._buffer)} bytes are left of it", expected)
        fields = bytes(self._buffer[: _FIELDS.size])
        magic, stored_bytes, raw_bytes, records, number = _FIELDS.unpack(fields)
        if magic != _FRAME_MAGIC:
            raise self._error("no frame begins here", expected)
        if stored_bytes > STORED_LIMIT_BYTES or raw_bytes > RAW_LIMIT_BYTES or records * RECORD_HEAD_BYTES > raw_bytes:
            raise self._error("its header announces what no frame can hold", expected)
        whole = _FRAME_HEADER_BYTES + stored_bytes
        if not self._fill(whole):
            raise self._error(f"cut off: {whole} bytes are announced and {len(self._buffer)} are left", expected)
        body = bytes(memoryview(self._buffer)[_FRAME_HEADER_BYTES:whole])
        if _frame_digest(self._segment, fields, body) != self._buffer[_FIELDS.size : _FRAME_HEADER_BYTES]:
            raise self._error("what is stored does not match its digest", expected)
        if number != expected:
            raise self._error(f"frame {number} stands here", expected)
        return Frame(self._segment, number, records, raw_bytes, self._offset, fields, body)

    def _next_whole(self, expected: int) -> Frame | None:
        """Drop bytes up to the next frame that verifies and is not older than expected; None if there is none."""
        left = _SEARCH_LIMIT_BYTES
        while left > 0 and self._seek():
            _, stored_bytes, _, _, number = _FIELDS.unpack(self._buffer[: _FIELDS.size])
            try:
                return self._frame(max(number, expected))
            except SegmentError:
                self._drop(1)
                left -= stored_bytes if stored_bytes <= STORED_LIMIT_BYTES else _FRAME_HEADER_BYTES
        while self._fill(1):  # the rest is counted all the same
            self._drop(len(self._buffer))
        return None

    def _seek(self) -> bool:
        """Drop bytes up to the next possible beginning of a frame. False at the end of the segment."""
        while self._fill(_FIELDS.size):
            at = self._buffer.find(_FRAME_MAGIC)
            self._drop(at if at >= 0 else max(1, len(self._buffer) - len(_FRAME_MAGIC) + 1))
            if at >= 0:
                return self._fill(_FIELDS.size)
        return False

    def _fill(self, count: int) -> bool:
        """Have `count` bytes in the buffer; False when the stream ends before."""
        while len(self._buffer) < count:
            chunk = next(self._chunks, None)
            if chunk is None:
                return False
            self.bytes += len(chunk)
            self._buffer += chunk
        return True

    def _drop(self, count: int) -> None:
        self._offset += min(count, len(self._buffer))
        del self._buffer[:count]

    def _error(self, what: str, frame: int | None, offset: int | None = None) -> SegmentError:
        return SegmentError(what, self._segment.name, self._offset if offset is None else offset, frame)


def _raise(error: SegmentError) -> None:
    raise error
