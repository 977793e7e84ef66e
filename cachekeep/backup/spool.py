"""Records on their way through this machine's disk, of which the last of each key comes out. Called by export, ingest.

A backup, and the seed's files even more, may have a key several times, and a file that a server loads may not. Which
record is the last is known only at the end. Memory stays small whatever the number of keys: records go to one file,
and a digest and a number for each to one of 256 others by the digest's first byte. At the end these are looked
through one by one, and what stays in memory is one bit per record. (A dictionary of a million keys takes 130 MB.)
What comes out does not depend on reading the source twice in the same order, which a living engine does not promise.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from hashlib import blake2b
from pathlib import Path

import zstandard

from cachekeep.codec.record import Kind, Record, decode_records, encode_records

_PARTS = 256
_PART_BUFFER_BYTES = 12 << 10
_ITEM = struct.Struct("<16sQ")
_FRAME = struct.Struct("<QI")


class Spool:
    """`add` records in the order of truth, then `winners`. folder: an empty one, which the caller removes.

    `records`: so far, those that will not win among them. Raises OSError.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._file = (folder / "records").open("xb")
        self._compressor = zstandard.ZstdCompressor(level=1)
        self._buffers = [bytearray() for _ in range(_PARTS)]
        self._flushed: dict[int, int] = {}
        self._wins: bytearray | None = None
        self.records = 0

    def __enter__(self) -> Spool:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def add(self, records: list[Record]) -> None:
        """Upserts, tombstones and flushes; others are refused with ValueError."""
        number, buffers, pack = self.records, self._buffers, _ITEM.pack
        for record in records:
            if record.kind in (Kind.UPSERT, Kind.TOMBSTONE):
                digest = blake2b(record.db.to_bytes(4, "little") + record.key, digest_size=16).digest()
                buffer = buffers[digest[0]]
                buffer += pack(digest, number)
                if len(buffer) >= _PART_BUFFER_BYTES:
                    self._flush(digest[0])
            elif record.kind == Kind.FLUSHED:
                self._flushed[record.db] = number
            else:
                raise ValueError(f"a record of kind {record.kind} has no key")
            number += 1
        self.records = number
        frame = self._compressor.compress(encode_records(records))
        self._file.write(_FRAME.pack(len(frame), len(records)) + frame)

    def winners(self) -> Iterator[list[Record]]:
        """The last record of each key, where it is an upsert, in order and in batches of those that were added.

        May be asked again; no more can be added.
        """
        self._file.close()
        wins = self._wins = self._found_wins() if self._wins is None else self._wins
        number = 0
        decompressor = zstandard.ZstdDecompressor()
        with (self._folder / "records").open("rb") as file:
            while head := file.read(_FRAME.size):
                size, count = _FRAME.unpack(head)
                records = decode_records(decompressor.decompress(file.read(size)), count)
                yield [record for at, record in enumerate(records, number) if self._stays(record, at, wins)]
                number += count

    def _stays(self, record: Record, number: int, wins: bytearray) -> bool:
        return (
            record.kind == Kind.UPSERT
            and bool(wins[number >> 3] >> (number & 7) & 1)
            and number > self._flushed.get(record.db, -1)
        )

    def _found_wins(self) -> bytearray:
        """A bit per record: 1 where it is the last one of its key."""
        wins = bytearray((self.records >> 3) + 1)
        for part in range(_PARTS):
            path = self._folder / f"part-{part}"
            written = path.read_bytes() if path.exists() else b""
            last: dict[bytes, int] = dict(_ITEM.iter_unpack(written + self._buffers[part]))
            for number in last.values():
                wins[number >> 3] |= 1 << (number & 7)
        return wins

    def _flush(self, part: int) -> None:
        with (self._folder / f"part-{part}").open("ab") as file:
            file.write(self._buffers[part])
        self._buffers[part].clear()
