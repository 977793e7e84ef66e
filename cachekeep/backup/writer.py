"""Write a generation: head first, then segments each followed by its entry, the end last.

Several lanes may write segments of one generation side by side, each with a `SegmentWriter`; entries are chained in
the order in which segments become durable. Called by the capture of copies and of changes, from its threads.
"""

from __future__ import annotations

import base64
import queue
import secrets
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from types import TracebackType
from typing import Any

import msgspec

from cachekeep.backup.catalog import (
    CatalogError,
    CatalogFault,
    Repository,
    entry_object,
    generation_name,
    log_object,
    segment_object,
)
from cachekeep.backup.catalog_chain import ResumePoint, read_chain, resume_points
from cachekeep.backup.catalog_objects import (
    End,
    Entry,
    Gap,
    Head,
    KindName,
    LogEnd,
    chain_digest,
    object_bytes,
    totals_of,
)
from cachekeep.codec.record import Record
from cachekeep.codec.segment import FRAME_BYTES, FrameWriter, RawFrame, SegmentEncoder, SegmentHeader
from cachekeep.domain.blobs import BlobError, BlobFault, check_name

# What a segment covers, or what says so once its turn to become part of the generation has come.
Covers = tuple[int, int] | None | Callable[[], tuple[int, int] | None]

# Frames that wait for the thread that compresses and writes: enough to never let it idle, little memory.
_WAITING_FRAMES = 3


def _now_ms() -> int:
    return time.time_ns() // 1_000_000


class GenerationWriter:
    """One generation while it is written. Safe to share between threads.

    After an error of a commit it takes no more: what was written of it is known again once it is resumed.
    """

    def __init__(
        self, repository: Repository, name: str, entries: list[Entry], last: str, first_segment: int, first_log: int
    ) -> None:
        self.repository, self.name, self.entries = repository, name, entries
        self._last, self._next_segment, self._next_log = last, first_segment, first_log
        # A run that was believed dead may still write: its segments never get the same name as ours.
        self._token = secrets.token_hex(3)
        self._logs: dict[str, str] = {}
        self._over: str | None = None
        self._lock = threading.Lock()

    @classmethod
    def begin(
        cls,
        repository: Repository,
        head: Head,
        *,
        now_ms: Callable[[], int] = _now_ms,
        named: Callable[[str], None] = lambda name: None,
    ) -> GenerationWriter:
        """A new generation: it exists once this returns. named: told its name before. Raises BlobError."""
        while True:
            name = generation_name(now_ms())
            named(name)
            whole = msgspec.structs.replace(head, generation=name, sealing=repository.sealing)
            data = object_bytes(whole)
            try:
                repository.blobs.put(f"{name}/head.json", data, new=True)
            except BlobError as error:
                if error.fault is not BlobFault.EXISTS:
                    raise
                if repository.blobs.get(f"{name}/head.json") != data:
                    continue
            return cls(repository, name, [], chain_digest(data), 1, 1)

    @classmethod
    def resume(cls, repository: Repository, name: str) -> GenerationWriter:
        """Go on with an unfinished one. Raises CatalogError: ABSENT; STATE when it is finished; DAMAGED."""
        chain = read_chain(repository, name)
        objects = chain.generation.objects
        if objects.end:
            raise CatalogError(CatalogFault.STATE, f"{name} is finished", "begin a new generation")
        if chain.findings or chain.last is None:
            what = str(chain.findings[0]) if chain.findings else f"{name} has no whole head"
            raise CatalogError(
                CatalogFault.DAMAGED, what, "begin a new generation; what is whole of this stays readable"
            )
        # Numbers of waste are not used again: an object is never rewritten.
        writer = cls(
            repository,
            name,
            chain.entries,
            chain.last,
            1 + max((int(segment.partition("-")[0]) for segment in objects.segments), default=0),
            max(objects.logs, default=0) + 1,
        )
        for number in objects.logs:
            where = log_object(name, number)
            writer._logs[where.partition("/")[2]] = chain_digest(repository.blobs.get(where))
        return writer

    def resume_points(self) -> dict[tuple[str, int], ResumePoint]:
        """Per (lane, database), where a scan goes on."""
        return resume_points(self.entries)

    def next_segment(self) -> SegmentHeader:
        """The header of a segment to be written. A number that is never committed is no harm."""
        with self._lock:
            self._refuse_if_over()
            number = self._next_segment
            self._next_segment += 1
        return SegmentHeader(self.name, f"{number:08d}-{self._token}", self.repository.sealing is not None)

    def commit(
        self,
        header: SegmentHeader,
        written: SegmentEncoder,
        kind: KindName,
        lane: str,
        db: int | None,
        cursor: str | None,
        covers: Covers = None,
        position: str | None = None,
    ) -> Entry:
        """Make a segment that is durable part of the generation. Raises BlobError; CatalogError(STATE) when over.

        covers: where it is called, the entries before this one are durable and no other one is being written.
        """
        with self._lock:
            self._refuse_if_over()
            entry = Entry(
                number=len(self.entries) + 1,
                segment=header.name,
                kind=kind,
                lane=lane,
                db=db,
                cursor=cursor,
                bytes=written.bytes,
                digest=written.digest,
                frames=written.frames,
                records=written.records,
                first_ms=written.first_ms,
                last_ms=written.last_ms,
                previous=self._last,
                covers=covers() if callable(covers) else covers,
                position=position,
            )
            data = object_bytes(entry)
            self._put_new(entry_object(self.name, entry.number), data)
            self.entries.append(entry)
            self._last = chain_digest(data)
            return entry

    def log(self, lines: Sequence[Mapping[str, Any]]) -> None:
        """Write lines down for good: interruptions, skipped keys. Sealed when the repository is."""
        with self._lock:
            self._refuse_if_over()
            where = log_object(self.name, self._next_log)
            text = b"".join(msgspec.json.encode(line) + b"\n" for line in lines)
            end = LogEnd(generation=self.name, number=self._next_log, lines=len(lines))
            if self.repository.sealer:
                sealed = base64.b64encode(self.repository.sealer.seal(text, where.encode())).decode()
                end, text = msgspec.structs.replace(end, sealed=sealed), b""
            data = object_bytes(end, text)
            self._put_new(where, data)
            self._logs[where.partition("/")[2]] = chain_digest(data)
            self._next_log += 1

    def finish(
        self,
        gaps: Sequence[Gap] = (),
        *,
        skipped: Mapping[str, int] | None = None,
        vanished: int = 0,
        keyspace: Mapping[str, Any] | None = None,
        ended_ms: int | None = None,
    ) -> End:
        """The verdict, last: complete, or which gaps. skipped: number of keys per reason; the log has their names."""
        with self._lock:
            self._refuse_if_over()
            end = End(
                generation=self.name,
                verdict="gaps" if gaps else "complete",
                gaps=tuple(gaps),
                ended_ms=_now_ms() if ended_ms is None else ended_ms,
                segments=tuple((entry.segment, entry.bytes, entry.kind) for entry in self.entries),
                totals=totals_of(self.entries),
                logs=dict(self._logs),
                last=self._last,
                skipped=dict(skipped or {}),
                vanished=vanished,
                keyspace=dict(keyspace or {}),
            )
            self._put_new(f"{self.name}/end.json", object_bytes(end))
            self._over = "it is finished"
            return end

    def _put_new(self, where: str, data: bytes) -> None:
        try:
            self.repository.blobs.put(where, data, new=True)
        except BlobError as error:
            # A put whose answer was lost is repeated by the store, and finds its own object.
            if error.fault is BlobFault.EXISTS and self.repository.blobs.get(where) == data:
                return
            self._over = f"{where} could not be written ({error.what})"
            if error.fault is BlobFault.EXISTS:
                self._over = f"another run writes it too: {where} is there"
                raise CatalogError(
                    CatalogFault.STATE, f"another run writes {self.name} too: {where} is there", "let only one go on"
                ) from error
            raise

    def _refuse_if_over(self) -> None:
        if self._over:
            raise CatalogError(
                CatalogFault.STATE, f"{self.name} takes no more: {self._over}", "resume it, or begin anew"
            )


class SegmentWriter:
    """One segment: records in, compressed, sealed and stored by a thread of its own while the next are captured.

    `close` makes it part of the generation. Leaving the `with` block without it leaves nothing behind.
    """

    def __init__(
        self,
        generation: GenerationWriter,
        kind: KindName,
        lane: str,
        db: int | None = None,
        frame_bytes: int = FRAME_BYTES,
    ) -> None:
        self._generation, self._kind, self._lane, self._db = generation, kind, lane, db
        self._header = generation.next_segment()
        self._frames = FrameWriter(frame_bytes)
        self._encoder = SegmentEncoder(self._header, generation.repository.sealer)
        self._queue: queue.Queue[RawFrame | _Abandoned | None] = queue.Queue(_WAITING_FRAMES)
        self._failure: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name=f"segment-{self._header.name}", daemon=True)
        self._open = True
        self._thread.start()

    def __enter__(self) -> SegmentWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.abandon()

    @property
    def bytes(self) -> int:
        """Stored so far; the frames on their way are not counted."""
        return self._encoder.bytes

    def add(self, records: Iterable[Record]) -> None:
        """Take records; blocks while the store is behind. Raises what the store raised: then nothing is kept."""
        if not self._open:
            raise ValueError("this segment is closed")
        for frame in self._frames.add(records):
            self._hand_over(frame)

    def close(self, cursor: str | None = None, *, covers: Covers = None, position: str | None = None) -> Entry:
        """Store the rest and write the entry: durable when this returns. cursor: where the scan goes on.

        covers, position: see Entry, and commit.
        """
        if not self._open:
            raise ValueError("this segment is closed")
        if frame := self._frames.flush():
            self._hand_over(frame)
        self._end(None)
        if self._failure:
            raise self._failure
        return self._generation.commit(
            self._header, self._encoder, self._kind, self._lane, self._db, cursor, covers, position
        )

    def abandon(self) -> None:
        """Drop the segment, unless it is closed."""
        if self._open:
            self._end(_Abandoned())

    def _end(self, last: _Abandoned | None) -> None:
        self._open = False
        self._queue.put(last)
        self._thread.join()

    def _hand_over(self, frame: RawFrame) -> None:
        if self._failure:
            self._end(_Abandoned())
            raise self._failure
        self._queue.put(frame)

    def _run(self) -> None:
        where = segment_object(self._generation.name, self._header.name)
        ended = False

        def waiting() -> Iterator[RawFrame]:
            nonlocal ended
            while (frame := self._queue.get()) is not None:
                if isinstance(frame, _Abandoned):
                    ended = True
                    raise frame
                yield frame
            ended = True

        try:
            self._generation.repository.blobs.put(check_name(where), self._encoder.encode(waiting()))
        except _Abandoned:
            return
        except BaseException as error:  # noqa: BLE001 - raised again in the thread that adds
            self._failure = error
        while not ended and isinstance(self._queue.get(), RawFrame):  # so that nobody waits for a dead thread
            pass


class _Abandoned(Exception):
    pass
