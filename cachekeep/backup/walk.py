"""Takes records past an endpoint: to the right node and database, in rounds, through lost connections.

Called by restore (compare and write), verify and diff (compare only). One thread; what works side by side is the
nodes, each of which has a round to read while another one's is judged.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterable, Iterator

from cachekeep.backup.compare import Judge
from cachekeep.backup.line import LARGE_READ_BYTES, Done, Line
from cachekeep.backup.outcomes import Outcome, Reasons
from cachekeep.backup.progress import OnProgress, Progress, unheard
from cachekeep.backup.routing import Place, Routes
from cachekeep.backup.write_one import OneWriter
from cachekeep.codec.record import Record
from cachekeep.domain.remote import RemoteError, RemoteFault

_ROUND_BYTES = 1 << 20
_OPEN_LINES = 32


class Halted(Exception):
    """The work was stopped from outside. What was done stays; the same call goes on there."""


class Walk:
    """reasons: where writing is wanted, the sentences of refusals; else None. on_done: told of every record once.

    Raises RemoteError when the endpoint is gone for the routes' patience; WriteEnded; Halted.
    """

    def __init__(
        self,
        routes: Routes,
        judge: Judge,
        on_done: Done,
        *,
        reasons: Reasons | None = None,
        dry_run: bool = False,
        round_keys: int = 500,
        progress: OnProgress = unheard,
        phase: str = "compare",
        total_keys: int | None = None,
    ) -> None:
        self._routes, self._judge, self._on_done = routes, judge, on_done
        self._reasons, self._dry_run, self._round_keys = reasons, dry_run, round_keys
        self._progress, self._phase, self._total_keys = progress, phase, total_keys
        self._keys = self._bytes = self._settled = 0
        self._lines: dict[tuple[Place, int], Line] = {}
        self._attempted: dict[int, set[bytes]] = {}

    def run(self, batches: Iterable[list[Record]]) -> None:
        """Records in the order of truth."""
        try:
            for records in batches:
                self._refuse_if_halted()
                size = sum([len(record.payload) for record in records])
                for db, part in _by_database(records):
                    for place, some in self._by_place(_latest(part)):
                        for round_ in _rounds(some, self._round_keys, size):
                            self._feed(place, db, round_)
                self._keys, self._bytes = self._keys + len(records), self._bytes + size
                self._progress(Progress(self._phase, self._keys, self._bytes, self._total_keys))
            for place, db in list(self._lines):
                self._drain(place, db)
        finally:
            for line in self._lines.values():
                line.close()
            self._lines.clear()

    def _feed(self, place: Place, db: int, records: list[Record]) -> None:
        try:
            line = self._line(place, db)
        except RemoteError as error:
            self._recover(place, db, records, error)
            return
        try:
            line.feed(records)
        except RemoteError as error:
            self._recover(place, db, [], error)

    def _drain(self, place: Place, db: int) -> None:
        try:
            self._lines[place, db].drain()
        except RemoteError as error:
            self._recover(place, db, [], error)

    def _line(self, place: Place, db: int) -> Line:
        held = self._lines.get((place, db))
        if held is None:
            if len(self._lines) >= _OPEN_LINES:
                oldest = next(iter(self._lines))
                self._drain(*oldest)
                if closing := self._lines.pop(oldest, None):
                    closing.close()
            writer = OneWriter(self._routes, db, self._reasons, dry_run=self._dry_run) if self._reasons else None
            held = self._lines[place, db] = Line(self._routes, place, db, self._judge, writer, self._done)
        return held

    def _recover(self, place: Place, db: int, records: list[Record], error: RemoteError) -> None:
        """Do again what was not settled, on new connections, where it belongs now; for a while."""
        waiting = deque([self._taken_back(place, db) + records])
        deadline = time.monotonic() + self._routes.patience_s
        while waiting:
            if error.fault is not RemoteFault.UNREACHABLE:
                raise error
            if time.monotonic() > deadline:
                what = f"{self._routes.remote.name} is gone for {self._routes.patience_s:g} s ({error.what})"
                raise RemoteError(RemoteFault.UNREACHABLE, what, "run it again when it is back") from error
            self._routes.pause()
            self._refuse_if_halted()
            settled = self._settled
            try:
                self._routes.refresh()
                while waiting:
                    self._do_again(waiting, db)
            except RemoteError as again:
                error = again
                if self._settled > settled:
                    deadline = time.monotonic() + self._routes.patience_s

    def _do_again(self, waiting: deque[list[Record]], db: int) -> None:
        """The first portion, to its end. What of it is not settled stands in front again when that fails."""
        portion = waiting.popleft()
        rounds = [(place, one) for place, some in self._by_place(portion) for one in _rounds(some, self._round_keys)]
        if len(rounds) > 1:
            waiting.extendleft(one for _, one in reversed(rounds))
            return
        for place, records in rounds:
            line = None
            try:
                line = self._line(place, db)
                line.feed(records)
                line.drain()
            except RemoteError:
                waiting.appendleft(records if line is None else self._taken_back(place, db))
                raise

    def _taken_back(self, place: Place, db: int) -> list[Record]:
        """Close the line; what it had not settled."""
        self._routes.drop(place, db)
        line = self._lines.pop((place, db), None)
        if line is None:
            return []
        line.close()
        self._attempted.setdefault(db, set()).update(line.attempted())
        return line.undone()

    def _done(self, db: int, records: list[Record], outcomes: bytes, words: dict[int, str]) -> None:
        """Pass it on. What was written before its connection broke, and found equal after, was written all the same."""
        self._settled += len(records)
        if attempted := self._attempted.get(db):
            changed = bytearray(outcomes)
            for at, record in enumerate(records):
                if record.key in attempted:
                    attempted.discard(record.key)
                    if changed[at] == Outcome.KEPT:
                        changed[at] = Outcome.WRITTEN
            outcomes = bytes(changed)
        self._on_done(db, records, outcomes, words)

    def _by_place(self, records: list[Record]) -> Iterable[tuple[Place, list[Record]]]:
        if not self._routes.cluster:
            return [(self._routes.place_of(b""), records)]
        groups: dict[Place, list[Record]] = {}
        for record in records:
            groups.setdefault(self._routes.place_of(record.key), []).append(record)
        return groups.items()

    def _refuse_if_halted(self) -> None:
        if self._routes.stopped:
            raise Halted("stopped before its end; what was done stays, and the same call goes on there")


def _by_database(records: list[Record]) -> Iterable[tuple[int, list[Record]]]:
    if len({record.db for record in records}) == 1:
        return [(records[0].db, records)]
    groups: dict[int, list[Record]] = {}
    for record in records:
        groups.setdefault(record.db, []).append(record)
    return groups.items()


def _latest(records: list[Record]) -> list[Record]:
    """Of one database: each key once, as its last record says."""
    if len({record.key for record in records}) == len(records):
        return records
    return list({record.key: record for record in records}.values())


def _rounds(records: list[Record], keys: int, size: int = LARGE_READ_BYTES + 1) -> Iterator[list[Record]]:
    """At most so many, and so many bytes; large ones alone. Each key is there once, so their order is free.

    size: of all their payloads, or more.
    """
    for start in range(0, len(records), keys):
        part = records[start : start + keys]
        # A frame is little more than its limit, so that most have to be added up in parts only.
        if size <= LARGE_READ_BYTES or sum([len(record.payload) for record in part]) <= LARGE_READ_BYTES:
            yield part
        else:
            yield from _by_size(part)


def _by_size(records: list[Record]) -> Iterator[list[Record]]:
    held, size = list[Record](), 0
    for record in records:
        if len(record.payload) > LARGE_READ_BYTES:
            yield [record]
            continue
        if held and size + len(record.payload) > _ROUND_BYTES:
            yield held
            held, size = [], 0
        held.append(record)
        size += len(record.payload)
    if held:
        yield held
