"""One generation that is written key by key: its base, its changes, and what it has of every key.

The rule that makes it readable: **a change of a key is later than any copy of it in the base**. So a pass over all keys
writes to the base only keys of which no change was written; whatever else it finds goes to the changes, and a key that
was announced since the pass began is left to its announcements. Safe to share between threads.
"""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Iterable, Sequence

from cachekeep.backup.catalog_objects import Entry
from cachekeep.backup.coverage import stretches
from cachekeep.backup.interruptions import now_ms
from cachekeep.backup.reader import GenerationReader
from cachekeep.backup.writer import SegmentWriter
from cachekeep.codec.record import NO_EXPIRY, Kind, Record
from cachekeep.codec.slots import slot_of
from cachekeep.follow.chapter import Chapter
from cachekeep.follow.held import Held
from cachekeep.follow.index import (
    ABSENT,
    CHANGED,
    FOUND,
    SIGNALLED,
    UNORDERED,
    Index,
    Known,
    Put,
    digest_of,
    flags_of,
)
from cachekeep.follow.monitor import Monitor
from cachekeep.follow.sink import Closing, Sink

_SEGMENT_BYTES = 64 << 20
RECONCILE = "#reconcile"
_TOMBSTONE, _FLUSHED, _FUNCTIONS = int(Kind.TOMBSTONE), int(Kind.FLUSHED), int(Kind.FUNCTIONS)


class Volume:
    """base_done: every key was read once. passing: passes that go on. `close` ends it; the generation stays open."""

    def __init__(
        self,
        chapter: Chapter,
        monitor: Monitor,
        max_lag_s: float,
        heartbeat_s: float,
        *,
        cluster: bool,
        exact: bool,
    ) -> None:
        self.chapter, self._monitor, self._max_lag_s, self._heartbeat_s = chapter, monitor, max_lag_s, heartbeat_s
        self._cluster, self._exact = cluster, exact
        self.index = Index()
        self.base_done = False
        self.passing = 0
        self._lock = threading.RLock()
        self._seq, self._pass = 1, 1
        # With the number from which on something in them may be.
        self._bases: dict[tuple[str, int], tuple[SegmentWriter, int]] = {}
        self._saved = 0
        self._lost = sys.maxsize
        self._held = Held()
        self._covered: tuple[int, int] | None = None  # what the next closed segment says
        self._written_ms = 0  # when what was written last was read
        self._functions: bytes | None = None
        self._closed = False
        self._sink = self._new_sink()
        self._closed_at = time.monotonic()

    @property
    def name(self) -> str:
        return self.chapter.name

    @property
    def last_covered_ms(self) -> int | None:
        found = stretches(self.chapter.writer.entries)
        return found[-1].until_ms if found else None

    def reload(self) -> None:
        """Know what an earlier run wrote. Raises CatalogError, BlobError, SegmentError."""
        reader = GenerationReader.open(self.chapter.repository, self.name, unfinished=True)
        flushed = {
            record.db: number
            for number, records in reader.numbered(("changes",))
            for record in records
            if record.kind == _FLUSHED
        }
        for kind, flag in (("base", 0), ("changes", CHANGED)):
            for number, records in reader.numbered((kind,)):  # type: ignore[arg-type]  # one of KindName
                puts: list[Put] = []
                for record in records:
                    if kind == "base" and number < flushed.get(record.db, 0):
                        continue
                    if record.kind == _FLUSHED:
                        self.index.put(puts, 0, 0)
                        puts = []
                        self.index.flush(record.db, copied=False)
                    else:
                        puts.append(self._put_of(record, flag))
                self.index.put(puts, 0, 0)
        for record in reader.records(("functions",)):
            self._functions = record.payload
        self.base_done = bool(stretches(self.chapter.writer.entries))

    # Changes

    def changed(self, records: Sequence[Record], lane: str) -> int:
        """Keys that were announced and read, tombstones for those that are gone; how many of them were written."""
        with self._lock:
            written: list[Record] = []
            puts: list[Put] = []
            for record, before in self.index.with_known(records):
                self._held.drop(record.db, record.key)
                put = self._put_of(record, CHANGED | SIGNALLED)
                if record.kind == _TOMBSTONE and (before is None or before.flags & ABSENT):
                    # A pass may have read it just before it went: it must not come back by that.
                    if before is not None or self.passing:
                        puts.append(put)
                    continue
                # What a pass wrote is written again: the two have to be told apart.
                if before is not None and _same(before, put) and not before.flags & FOUND:
                    puts.append(put._replace(flags=before.flags | SIGNALLED))
                    continue
                written.append(record)
                puts.append(put)
            self._write(written, lane, puts)
            return len(written)

    def functions(self, payload: bytes, captured_ms: int, lane: str) -> None:
        """What FUNCTION DUMP gave, if it is new."""
        with self._lock:
            if payload == self._functions:
                return
            with SegmentWriter(self.chapter.writer, "functions", lane) as writer:
                writer.add([Record(_FUNCTIONS, 0, NO_EXPIRY, captured_ms, b"", payload)])
                writer.close()
            self._functions = payload

    def flushed(self, db: int, captured_ms: int, lane: str) -> None:
        """A database was emptied. Durable when this returns: copies before it and after it have to be told apart."""
        with self._lock:
            self._held.drop_database(db)
            self.close_bases()
            self._sink.add([Record(_FLUSHED, db, NO_EXPIRY, captured_ms, b"", b"")], lane, self._seq)
            self.roll(None)
            self._sink.settle()
            self.index.flush(db)  # not before it is known to be durable: else nobody would know what is to be gone

    # Passes over all keys

    def new_pass(self) -> int:
        with self._lock:
            self._pass += 1
            self.passing += 1
            return self._pass

    def end_pass(self, *, whole: bool) -> None:
        """whole: it came to its end; what it found is written."""
        with self._lock:
            self.passing -= 1
            if whole:
                self._write_held()

    def found(self, db: int, records: Sequence[Record], lane: str, pass_: int, *, suspect: bool = False) -> list[bytes]:
        """Keys that this pass read. What differs is written; with `suspect` it is not, and those keys are returned."""
        with self._lock:
            known = self.index.known(db, [record.key for record in records])
            same: list[bytes] = []
            differing: list[bytes] = []
            base: list[Record] = []
            puts: list[Put] = []
            for record in records:
                before, put = known.get(record.key), self._put_of(record, 0)
                if before is not None and (before.announced_since(pass_) or _same(before, put)):
                    same.append(record.key)
                elif suspect:
                    differing.append(record.key)
                elif not self.base_done and (before is None or not before.flags & CHANGED):
                    base.append(record)
                    puts.append(put)
                else:
                    self._held.add(record, put._replace(flags=put.flags | CHANGED | FOUND), lane)
            self.index.seen(db, same, self._pass)
            if base:
                self._base(lane, db).add(base)
                self.index.put(puts, self._pass, self._seq)
            self._write_ripe()
            return differing

    def gone(self, db: int, keys: Iterable[bytes], captured_ms: int, lane: str, pass_: int) -> int:
        """Keys that a pass did not meet and that are not there; how many tombstones that is."""
        with self._lock:
            known, written = self.index.known(db, list(keys)), 0
            for key, before in known.items():
                if not before.flags & ABSENT and not before.announced_since(pass_):
                    record = Record(_TOMBSTONE, db, NO_EXPIRY, captured_ms, key, b"")
                    self._held.add(record, self._put_of(record, CHANGED), lane)
                    written += 1
            self._write_ripe()
            return written

    def explains(self, record: Record, pass_: int) -> bool:
        """Whether the key is known as in this record (or nobody can tell, by the order of its elements), or was
        announced since the pass began, so that it may have changed after it was read.
        """
        with self._lock:
            before = self.index.known(record.db, [record.key]).get(record.key)
            if before is None:
                return record.kind == _TOMBSTONE
            if before.announced_since(pass_):
                return True
            put = self._put_of(record, 0)
            if record.kind == _TOMBSTONE:
                return bool(before.flags & ABSENT)
            return _same(before, put) or bool(put.flags & before.flags & UNORDERED)

    def missed(self, records: Iterable[Record], lane: str, pass_: int) -> None:
        """Write what a pass found and nothing explains. Looked at again, in one step with the writing: another lane may
        have handed over what is newer.
        """
        with self._lock:
            self.changed([one for one in records if not self.explains(one, pass_)], f"{lane}{RECONCILE}")

    # Segments

    def close_bases(self, lane: str | None = None) -> None:
        """Make what the base has durable (of one lane). Raises what the store raised."""
        with self._lock:
            for key in [key for key in self._bases if lane in (None, key[0])]:
                self._close_base(key, "0" if lane else None)

    def cover(self, since_ms: int, until_ms: int) -> None:
        """Every change from since to until is in what was handed over. Said by the next segment that is closed."""
        with self._lock:
            start = since_ms
            if self._covered is not None and self._covered[0] <= since_ms <= self._covered[1]:
                start = self._covered[0]
            self._covered = (start, until_ms)

    def uncover(self, since_ms: int | None = None) -> None:
        """Continuity is lost: what was covered until now (until since_ms) is said before anything else is written."""
        with self._lock:
            covered = self._covered
            if covered is not None and since_ms is not None:
                covered = (covered[0], since_ms) if since_ms > covered[0] else None
            self._covered = None
            self.roll(covered)

    def forget_cover(self) -> None:
        """The next stretch does not touch what was covered."""
        with self._lock:
            self._covered = None

    def due(self) -> bool:
        """Whether a segment should be closed: it is old or large enough, or nothing was said for long."""
        with self._lock:
            open_s = time.monotonic() - self._closed_at
            if self._sink.lane is not None or self._held:
                return open_s >= self._max_lag_s or self._sink.bytes >= _SEGMENT_BYTES
            # What was written last came after the moment up to which coverage was said: it cannot be restored yet.
            said, known = self._covered or (0, 0)
            return open_s >= (self._max_lag_s if said < self._written_ms <= known else self._heartbeat_s)

    def roll(self, covers: tuple[int, int] | None = None) -> None:
        """Close the open segment, with what is covered by now. Raises what the store raised."""
        with self._lock:
            self._write_held()
            covers = covers or self._covered
            self._sink.roll(covers, self._seq)
            self._seq += 1
            self._closed_at = time.monotonic()
            if self._covered is not None:
                self._covered = (self._covered[1], self._covered[1])

    def settle(self) -> None:
        """Everything so far is durable when this returns. Raises what the store raised."""
        with self._lock:
            sink = self._sink
        sink.settle()

    def recover(self) -> None:
        """After an error of the store: what was not durable counts as unknown, and a pass has to follow.

        Raises BlobError, CatalogError while the store still does not work.
        """
        with self._lock:
            lost = min(self._lost, self._seq, *self._unsaved())
            self._lost = lost
            for writer, _ in self._bases.values():
                writer.abandon()
            self._bases = {}
            self._sink.close()
            self.chapter.revive()
            self.chapter.journal.flush()  # it takes something again
            self._held, self._covered, self._functions = Held(), None, None
            self.index.unknow(lost)
            self._seq += 1
            self._saved, self._lost = self._seq - 1, sys.maxsize
            self._sink = self._new_sink()

    def close(self) -> None:
        """Drop what is not durable. `roll` and `settle` first."""
        with self._lock:
            if self._closed:
                return
            self._closed = True
            for writer, _ in self._bases.values():
                writer.abandon()
            self._sink.close()
            self.index.close()

    # Inside

    def _unsaved(self) -> list[int]:
        """The numbers from which on something is not durable."""
        return [self._saved + 1, *(seq for _, seq in self._bases.values())]

    def _new_sink(self) -> Sink:
        return Sink(self.chapter.writer, self._before_close, self._durable)

    def _before_close(self) -> None:
        self.chapter.still_there()
        self.chapter.journal.flush()

    def _durable(self, closed: Closing, entry: Entry) -> None:
        self._monitor.wrote(entry.bytes)
        self._saved = closed.seq
        if entry.covers is not None:
            self._monitor.durable(entry.covers[1])
        if self.base_done and not self.passing:
            # A pass may have in hand what it read before: then it has to be known that the key is gone.
            self.index.forget_absent(closed.seq - 1)

    def _put_of(self, record: Record, flags: int) -> Put:
        slot = slot_of(record.key) if self._cluster else 0
        if record.kind == _TOMBSTONE:
            return Put(record.db, record.key, slot, None, flags | ABSENT)
        return Put(record.db, record.key, slot, digest_of(record, exact=self._exact), flags | flags_of(record))

    def _base(self, lane: str, db: int) -> SegmentWriter:
        key = lane, db
        if key in self._bases and self._bases[key][0].bytes >= _SEGMENT_BYTES:
            self._close_base(key, None)
        if key not in self._bases:
            self._bases[key] = SegmentWriter(self.chapter.writer, "base", lane, db), self._seq
        return self._bases[key][0]

    def _close_base(self, key: tuple[str, int], cursor: str | None) -> None:
        """Until it is durable, `recover` has to know since when something is not."""
        writer, _ = self._bases[key]
        self._monitor.wrote(writer.close(cursor).bytes)
        del self._bases[key]

    def _write(self, records: list[Record], lane: str, puts: list[Put]) -> None:
        if records:
            self._enter(lane)
            self._sink.add(records, lane, self._seq)
            self._monitor.changed(len(records))
            self._written_ms = max(self._written_ms, *(record.captured_ms for record in records))
        self.index.put(puts, self._pass, self._seq)

    def _enter(self, lane: str) -> None:
        """Records of announcements and of passes are in segments of their own, so that one can be told from another."""
        if (self._sink.lane or lane).endswith(RECONCILE) != lane.endswith(RECONCILE):
            self._sink.roll(None, self._seq)
            self._seq += 1

    def _write_ripe(self) -> None:
        if self._held.is_ripe():
            self._write_held()

    def _write_held(self) -> None:
        """What passes found."""
        if self._held:
            records, puts, lane = self._held.take()
            self._write(records, lane + RECONCILE, puts)


def _same(before: Known | None, put: Put) -> bool:
    return before is not None and before.digest is not None and before.digest == put.digest


__all__ = ["RECONCILE", "Volume", "now_ms"]
