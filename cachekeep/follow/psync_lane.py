"""One node's stream into the segments of one generation: its RDB file, then its commands, as bytes. Called by
psync_capture.

Three threads: one reads, one asks the node how far its stream has come, one closes segments. Reading goes on while a
segment becomes durable. What waits in memory is bounded by the segment's writer (some MiB); then the socket is left
unread, and the source keeps what it has for us within its client-output-buffer-limit replica.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from cachekeep.backup.catalog_objects import KindName
from cachekeep.backup.interruptions import Patience, now_ms
from cachekeep.backup.pacing import Halt, Halted
from cachekeep.backup.psync import Position
from cachekeep.backup.survey_types import Node, Survey
from cachekeep.backup.writer import SegmentWriter
from cachekeep.codec.record import NO_EXPIRY, Kind, Record
from cachekeep.domain.remote import Remote, RemoteError
from cachekeep.follow.chapter import Chapter
from cachekeep.follow.psync_cover import Cover
from cachekeep.follow.psync_stream import Side, Stream
from cachekeep.follow.psync_teller import Teller
from cachekeep.follow.psync_time_left import lateness, why_anew
from cachekeep.follow.types import FollowGap, FollowOptions

_SEGMENT_BYTES = 64 << 20
_MARK_EVERY_S, _LOOK_EVERY_S = 0.25, 0.05
_STALLED_S = 60.0
_IDLE_S = 30.0
_PIECE = int(Kind.PIECE)
_PING = b"*1\r\n$4\r\nPING\r\n"
_FEW_BYTES = 4096
_HELD_BYTES = 4 << 20


class Lost(Exception):
    """The source cannot go on where we were: `stream` begins anew, with an RDB file."""

    def __init__(self, lane: str, stream: Stream, reason: str) -> None:
        super().__init__(reason)
        self.lane, self.stream, self.reason = lane, stream, reason


@dataclass
class Shared:
    """What the lanes of one generation share. The first failure ends all.

    survey: with the engine and the clock as they were when the generation began.
    """

    remote: Remote
    survey: Survey
    options: FollowOptions
    chapter: Chapter
    cover: Cover
    teller: Teller
    halt: Halt
    failure: BaseException | None = None
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def fail(self, error: BaseException) -> None:
        with self._lock:
            if self.failure is None:
                self.failure = error
            elif isinstance(error, Lost):
                error.stream.close()
        self.halt.set()

    def remote_of(self, node: Node) -> Remote:
        return self.remote.at(node.host, node.port) if node.host else self.remote


def latest_ms(chapter: Chapter) -> int:
    """The last moment that its entries name, 0 for none. No later entry may name an earlier one."""
    entries = chapter.writer.entries
    return max((ms for one in entries for ms in (one.last_ms, one.covers and one.covers[1]) if ms), default=0)


class Lane:
    """start: where to go on; a stream that begins anew; None: to begin. `whole`: its RDB file is durable."""

    def __init__(self, shared: Shared, node: Node, start: Position | Stream | None) -> None:
        self.name = node.lane
        self._shared, self._node, self._start = shared, node, start
        self._stream: Stream | None = start if isinstance(start, Stream) else None
        self._side = Side(shared.remote_of(node))
        self._patience = Patience(self.name, shared.options.patience_s, shared.halt, shared.chapter.journal)
        self.whole = isinstance(start, Position)
        self._lock = threading.Lock()  # of all below
        self._writer: SegmentWriter | None = None
        self._opened_at = self._sealed_at = time.monotonic()
        self._received = start if isinstance(start, Position) else None
        self._asked: tuple[int, Position] | None = None
        self._changed = self._dirty = False  # since the last mark; since the last segment
        self._idle_s = shared.options.max_lag_s
        self._sealed_mark: int | None = None
        self._stamp_ms = latest_ms(shared.chapter)
        # While the node is asked how far it has come, what comes waits for the answer: (bytes, offset behind, moment).
        self._held: list[tuple[bytes, int, int]] | None = None
        self._held_bytes, self._replid = 0, ""
        work = (("read", self._read), ("mark", self._mark), ("seal", self._seal_in_time))
        self._threads = [
            threading.Thread(target=self._guarded, args=(one,), name=f"psync-{what}-{self.name}", daemon=True)
            for what, one in work
        ]

    def begin(self) -> None:
        for thread in self._threads:
            thread.start()

    def end(self) -> None:
        """Once the shared halt is set: returns when all threads have ended. What is not sealed stays to be."""
        self._let_go()
        for thread in self._threads:
            while thread.is_alive():
                thread.join(_LOOK_EVERY_S)
                self._let_go()  # what it has opened meanwhile

    def abandon(self) -> None:
        """Drop what is not sealed."""
        if self._writer:
            self._writer.abandon()

    def _guarded(self, work: Callable[[], None]) -> None:
        try:
            work()
        except Halted:
            return
        except BaseException as error:  # noqa: BLE001 - raised again by whoever looks after the capture
            if not (isinstance(error, RemoteError) and self._shared.failure):
                self._shared.fail(error)

    def _let_go(self) -> None:
        if self._stream:
            self._stream.close()
        self._side.close()

    def _now_ms(self) -> int:
        """By the source's clock, never falling."""
        self._stamp_ms = max(self._stamp_ms, now_ms() + self._shared.survey.clock_ahead_ms)
        return self._stamp_ms

    # Reading.

    def _read(self) -> None:
        try:
            self._read_all()
        except BaseException:
            if self._stream:
                self._stream.close()
            raise

    def _read_all(self) -> None:
        stream = self._start if isinstance(self._start, Stream) else self._first_stream()
        if not stream.continued:
            self._copy(stream)
        with self._lock:
            self._received, self._replid = stream.position, stream.position.replid
        self.whole = True
        while True:
            self._shared.halt.check()
            try:
                data = stream.read()
            except RemoteError as error:
                stream.close()
                with self._lock:
                    self._release(None)
                self._shared.halt.check()
                stream = self._stream_after(error, stream.position)
                continue
            self._take(data, stream.position)

    def _first_stream(self) -> Stream:
        since = self._received
        if since is None:
            return self._attach(None)
        try:
            stream = self._attach(since)
        except RemoteError as error:
            return self._stream_after(error, since)
        return self._continued(stream, "it was not followed for a while")

    def _stream_after(self, error: RemoteError, since: Position) -> Stream:
        """One that goes on there. Raises RemoteError when the source is gone for too long; Lost."""
        self._shared.teller.away(self.name, error.what)
        stream = self._patience.outlast(error, lambda: self._attach(since))
        self._shared.teller.away(self.name, None)
        return self._continued(stream, error.what)

    def _continued(self, stream: Stream, reason: str) -> Stream:
        if not stream.continued:
            self._stream = None  # whoever catches it goes on with it
            why = stream.why_anew or "the source did not go on where that began: another process, or less backlog"
            raise Lost(self.name, stream, f"{reason}, and {why}")
        with self._lock:
            self._asked, self._received, self._replid = None, stream.position, stream.position.replid
        return stream

    def _attach(self, since: Position | None) -> Stream:
        stream = self._stream = Stream(self._shared.remote_of(self._node))
        try:
            self._shared.halt.check()
            target, reached = self._shared.survey.target, self._shared.cover.reached(self.name)
            unknown_ms = None if reached is None else self._now_ms() - reached
            stream.begin(since, target, why_anew(target, unknown_ms) if since else "")
        except BaseException:
            stream.close()
            raise
        return stream

    def _copy(self, stream: Stream) -> None:
        shared, captured_ms = self._shared, 0
        writer: SegmentWriter | None = None

        def begun() -> None:
            nonlocal captured_ms
            captured_ms = self._now_ms()

        try:
            for piece in stream.rdb(begun):
                shared.halt.check()
                writer = writer or self._new_writer("rdb")
                writer.add([Record(_PIECE, 0, NO_EXPIRY, captured_ms, b"", piece)])
                if writer.bytes >= _SEGMENT_BYTES:
                    shared.teller.wrote(writer.close().bytes)
                    writer = None
            writer = writer or self._new_writer("rdb")
            shared.teller.wrote(writer.close(position=str(stream.position)).bytes)
        finally:
            if writer:
                writer.abandon()
        for sentence in lateness(shared.survey.target, self.name, stream):
            shared.chapter.journal.event("note", reason=sentence)
            shared.teller.monitor.note(sentence)

    def _take(self, data: bytes, position: Position) -> None:
        with self._lock:
            if self._held is not None and self._held_bytes < _HELD_BYTES:
                self._held.append((data, position.offset, self._now_ms()))
                self._held_bytes += len(data)
            else:
                self._release(None)
                self._write(data, position.offset, self._now_ms())
        self._patience.progressed()
        self._shared.teller.changed(data)
        self._see_mark()

    def _release(self, asked: tuple[int, Position] | None) -> None:
        """What waited is written. asked: the mark that it waited for; None: there is none."""
        held, self._held, self._held_bytes = self._held, None, 0
        if asked:
            self._asked = asked
        for data, end, came_ms in held or ():
            self._write(data, end, came_ms)

    def _write(self, data: bytes, end: int, came_ms: int) -> None:
        """end: the offset behind it. What the node had done by the moment of a mark counts as come by then: at that
        moment the backup has what the node had, to the byte."""
        if self._writer is None:
            self._writer, self._opened_at = self._new_writer("commands"), time.monotonic()
        early = b""
        if self._asked and (known := self._asked[1].offset - (end - len(data))) > 0:
            early, data = data[:known], data[known:]
            self._writer.add([Record(_PIECE, 0, NO_EXPIRY, self._asked[0], b"", early)])
        if data:
            self._writer.add([Record(_PIECE, 0, NO_EXPIRY, came_ms, b"", data)])
        self._received = Position(self._replid, end)
        # Nothing but signs of life: then nothing changed.
        if len(data) + len(early) > _FEW_BYTES or (early + data).replace(_PING, b""):
            self._changed = self._dirty = True

    def _new_writer(self, kind: KindName) -> SegmentWriter:
        return SegmentWriter(self._shared.chapter.writer, kind, self.name)

    # Marks: how far the stream had come at a moment.

    def _mark(self) -> None:
        halt, asked_at = self._shared.halt, 0.0
        while True:
            halt.wait(_MARK_EVERY_S)
            with self._lock:
                asked = self._asked
            if asked is None:
                asked_at = time.monotonic()
                self._ask()
            elif time.monotonic() - asked_at > _STALLED_S and self._stream:
                self._shared.teller.monitor.news(f"{self.name}: nothing came for {_STALLED_S:g} s; connecting anew")
                asked_at = time.monotonic()
                self._stream.close()

    def _ask(self) -> None:
        stream = self._stream
        if not self.whole or stream is None:
            return
        with self._lock:
            moment_ms, self._held = self._now_ms(), []
        word = None
        try:
            word = self._side.ask()
        except RemoteError:  # the reading thread says so, or nothing is wrong but this connection
            return
        finally:
            with self._lock:
                # Behind one address there may be another process by now, or another node. Without anything held any
                # more, too much came meanwhile, or the stream was lost.
                known = word and (word.position.replid, word.run_id) == (self._replid, stream.run_id)
                fits = word if known and word and word.linked and self._held is not None else None
                self._release((moment_ms, fits.position) if fits else None)
                received = self._received
        self._see_mark()
        if fits and fits.ending and received and received.offset >= fits.position.offset:
            stream.close()  # it waits for replicas that have not said that they have all

    def _see_mark(self) -> None:
        """Whether what came reaches what was asked for."""
        shared = self._shared
        with self._lock:
            asked, received = self._asked, self._received
            if asked is None or received is None or received.offset < asked[1].offset:
                return
            moment_ms, self._asked = asked[0], None
            changed, self._changed = self._changed, False
            gap = shared.cover.reach(self.name, moment_ms, changed=changed)
        if gap:
            reason = "changes of this stretch came late and together: none is missing, but when each was is not known"
            found = FollowGap(*gap, reason, self.name)
            shared.chapter.gap(found)
            shared.teller.monitor.gap(found)
        shared.teller.reached(max(0, self._now_ms() - moment_ms), shared.cover.known)

    # Segments become durable.

    def _seal_in_time(self) -> None:
        while True:
            self._shared.halt.wait(_LOOK_EVERY_S)
            if self._is_due():
                self.seal()

    def _is_due(self) -> bool:
        now = time.monotonic()
        if (writer := self._writer) and self._dirty:
            # Some of the time goes by while it is closed.
            late = now - self._opened_at > self._shared.options.max_lag_s * 0.75
            if late or writer.bytes >= _SEGMENT_BYTES:
                return True
        mark = self._shared.cover.reached(self.name)
        if not self.whole or mark is None or mark == self._sealed_mark:
            return False
        # That there were no changes is worth knowing too, ever more rarely.
        return self._sealed_mark is None or now - self._sealed_at > self._idle_s

    def seal(self, *, anyway: bool = False) -> None:
        """Make what came so far durable, and say what is covered by it. Raises BlobError, CatalogError.

        anyway: also where nothing came.
        """
        shared = self._shared
        with self._lock:
            writer, self._writer = self._writer, None
            received, mark = self._received, shared.cover.reached(self.name)
            dirty, self._dirty = self._dirty, False
        if received is None or (writer is None and mark == self._sealed_mark and not anyway):
            return
        writer = writer or self._new_writer("commands")
        try:
            shared.chapter.journal.flush()
            # By then lanes that seal at the same time have promised what they have.
            entry = writer.close(covers=lambda: shared.cover.with_segment(self.name, mark), position=str(received))
        finally:
            writer.abandon()
        self._sealed_mark, self._sealed_at = mark, time.monotonic()
        shortest = shared.options.max_lag_s
        self._idle_s = shortest if dirty else max(shortest, min(self._idle_s * 2, _IDLE_S))
        shared.teller.wrote(entry.bytes)
        shared.teller.durable(shared.cover.kept(self.name, mark))
