"""What lanes and their passes hand over to: a generation of a backup (follow.volume) or a living copy. Protocol."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Protocol

from cachekeep.codec.record import Record
from cachekeep.follow.index import Index


class Keeping(Protocol):
    """Has each key as it was handed over last. index: what it knows of each. All are safe to call from lanes."""

    index: Index

    def changed(self, records: Sequence[Record], lane: str) -> int:
        """Keys that were announced and read, tombstones for those that are gone; how many of them were written."""
        ...

    def functions(self, payload: bytes, captured_ms: int, lane: str) -> None:
        """What FUNCTION DUMP gave."""
        ...

    def flushed(self, db: int, captured_ms: int, lane: str) -> None:
        """A database was emptied, as far as its size tells."""
        ...

    def new_pass(self) -> int:
        """The number of a pass over all keys that begins."""
        ...

    def end_pass(self, *, whole: bool) -> None: ...

    def found(self, db: int, records: Sequence[Record], lane: str, pass_: int, *, suspect: bool = False) -> list[bytes]:
        """Keys that a pass read. With `suspect` nothing is written, and those that differ are returned."""
        ...

    def gone(self, db: int, keys: Iterable[bytes], captured_ms: int, lane: str, pass_: int) -> int:
        """Keys that a pass did not meet and that are not there; how many were known."""
        ...

    def explains(self, record: Record, pass_: int) -> bool:
        """Whether the key is known as in this record, or was announced since the pass began."""
        ...

    def missed(self, records: Iterable[Record], lane: str, pass_: int) -> None:
        """Write what a pass found and nothing explains."""
        ...

    def close_bases(self, lane: str | None = None) -> None:
        """The first pass of a lane has read every key."""
        ...
