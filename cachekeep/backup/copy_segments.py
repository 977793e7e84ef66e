"""The segments of one lane of a copy, one after the other, each closed with the cursor that it proves.

A cursor is written only when every key that SCAN returned before it is in a closed segment, so whoever goes on there
misses nothing. Called by backup.lanes, backup.moved_slots, backup.copy_psync, backup.copy_functions.
"""

from __future__ import annotations

import time
from types import TracebackType

from cachekeep.backup.catalog_objects import KindName
from cachekeep.backup.copy_run import NodeLeft, Run
from cachekeep.backup.pacing import Halted
from cachekeep.backup.writer import SegmentWriter
from cachekeep.codec.record import NO_EXPIRY, Kind, Record
from cachekeep.domain.remote import RemoteError

_SEGMENT_BYTES = 64 << 20
_SEGMENT_S, _LONGEST_SEGMENT_S = 5.0, 60.0


class Segments:
    """The segments of one lane and database, one open at a time: closed every 64 MiB or some seconds, with a cursor.

    `cursor` is where a scan goes on after what was added. Leaving the `with` block by Halted or RemoteError closes
    the open segment there: it is durable. By any other error it is dropped.
    """

    def __init__(self, run: Run, kind: KindName, lane: str, db: int | None, cursor: str = "0") -> None:
        self._run, self._kind, self._lane, self._db = run, kind, lane, db
        self.cursor = cursor
        self._writer: SegmentWriter | None = None
        self._opened_at = 0.0
        self._length_s = _SEGMENT_S

    def __enter__(self) -> Segments:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if isinstance(error, (Halted, RemoteError, NodeLeft)) and self._kind != "rdb":
            self._close(self.cursor if self._kind == "base" and self.cursor != "0" else None)
        elif self._writer:
            self._writer.abandon()

    def add(self, records: list[Record], cursor: str | None = None) -> None:
        """cursor: that of the batch which these records complete."""
        if self._writer is None:
            self._writer = SegmentWriter(self._run.generation, self._kind, self._lane, self._db)
            self._opened_at = time.monotonic()
        self._writer.add(records)
        if cursor is None or cursor == "0":
            return
        self.cursor = cursor
        if self._writer.bytes >= _SEGMENT_BYTES or time.monotonic() - self._opened_at > self._length_s:
            self._close(cursor)
            self._length_s = min(_LONGEST_SEGMENT_S, self._length_s * 1.5)

    def roll(self) -> None:
        """For streams without a cursor: begin another segment when this one is large enough."""
        if self._writer and self._writer.bytes >= _SEGMENT_BYTES:
            self._close(None)

    def anew(self) -> None:
        """The scan begins again. What stands alone is told to be empty first: a restart may have lost its keys."""
        self._close(self.cursor if self.cursor != "0" else None)
        self.cursor = "0"
        if self._run.survey.mode == "standalone" and self._db is not None:
            now = time.time_ns() // 1_000_000 + self._run.survey.clock_ahead_ms
            with SegmentWriter(self._run.generation, "changes", self._lane, self._db) as writer:
                writer.add([Record(int(Kind.FLUSHED), self._db, NO_EXPIRY, now, b"", b"")])
                writer.close()

    def close(self, cursor: str | None) -> None:
        """The end of all. Without records too: the cursor "0" says that the database was read."""
        if cursor is not None and self._writer is None:
            self.add([])
        self._close(cursor)

    def _close(self, cursor: str | None) -> None:
        if self._writer:
            writer, self._writer = self._writer, None
            if self._kind != "rdb":  # a stream may have to begin anew, and its lines belong to the last attempt
                self._run.journal.flush()
            try:
                writer.close(cursor)
            finally:
                writer.abandon()
