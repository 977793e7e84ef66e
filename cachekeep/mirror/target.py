"""The group that a living copy goes to: keys written there, or deleted, in the order in which lanes hand them over.

Implements follow.keeping.Keeping. What it is known to have stands in an index, as for a backup; what it has at the
beginning is in it as well, with unknown values, so that the first pass over the source deletes what is not there.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator, Sequence

from cachekeep.backup.functions import restore_functions
from cachekeep.backup.outcomes import FIRST_REASON, Outcome, Reasons
from cachekeep.backup.routing import Place, Routes, Talk, exchange, is_redirection
from cachekeep.backup.survey import survey
from cachekeep.backup.write_one import OneWriter, WriteEnded
from cachekeep.codec.dump import Unrepresentable
from cachekeep.codec.record import NO_EXPIRY, Kind, Record
from cachekeep.codec.resp import pack
from cachekeep.codec.slots import slot_of
from cachekeep.domain.remote import Refusal, Remote, RemoteError, Reply
from cachekeep.follow.index import ABSENT, CHANGED, SIGNALLED, Index, Put, digest_of, flags_of

_SCAN_COUNT = 1000
_EXCHANGE_COMMANDS, _EXCHANGE_BYTES = 500, 4 << 20
_TOMBSTONE = int(Kind.TOMBSTONE)
FUNCTIONS = (-1, b"")


class TargetLost(Exception):
    """The group cannot be written to, or is not the one any more that was written to: all has to be copied anew."""


class Target:
    """still_same: called with a lane's name before anything that it read is written; raises RemoteError when the source
    may be another than the one that was asked. on_flush: a database of the source was emptied.

    refused: (database, key) that could not be copied, and why; FUNCTIONS for libraries.
    """

    def __init__(self, remote: Remote, still_same: Callable[[str], None], on_flush: Callable[[], None]) -> None:
        self.index = Index()
        self.refused: dict[tuple[int, bytes], str] = {}
        self._remote, self._still_same, self._on_flush = remote, still_same, on_flush
        self._lock = threading.RLock()
        self._pass, self._passing = 1, 0
        self._functions: bytes | None = None
        self._reasons = Reasons()
        self._writers: dict[int, OneWriter] = {}
        self._routes: Routes | None = None
        self._run_ids: frozenset[str] = frozenset()
        self._closed = False

    def open(self) -> None:
        """Learn which keys it has. Raises TargetLost."""
        try:
            seen = survey(self._remote)
            self._routes = Routes(self._remote, seen, patience_s=10.0)
            self._run_ids = frozenset(node.run_id for node in seen.nodes)
            for place in self._routes.places():
                for db in seen.databases:
                    self._learn(self._routes, place, db)
        except (RemoteError, Refusal) as error:
            raise TargetLost(str(error)) from error

    def check(self) -> None:
        """Raises TargetLost unless its keys are with the same processes as at the beginning."""
        try:
            now = frozenset(node.run_id for node in survey(self._remote).nodes)
        except RemoteError as error:
            raise TargetLost(str(error)) from error
        if now != self._run_ids:
            raise TargetLost("another process has its keys now")

    def close(self) -> None:
        """Nothing is written from here on, even if a lane should not have ended yet."""
        with self._lock:
            self._closed = True
            if self._routes is not None:
                self._routes.close()
            self.index.close()

    def count(self) -> int:
        """Keys that it has."""
        return sum(self.index.count(db) for db in self.index.databases())

    # What lanes hand over

    def changed(self, records: Sequence[Record], lane: str) -> int:
        with self._lock:
            written: list[Record] = []
            puts: list[Put] = []
            for record, before in self.index.with_known(records):
                put = _put(record, CHANGED | SIGNALLED)
                puts.append(put)
                if before is None or before.digest is None or before.digest != put.digest:
                    written.append(record)
            self._write(written, lane)
            self.index.put(puts, self._pass, 0)
            return len(written)

    def functions(self, payload: bytes, captured_ms: int, lane: str) -> None:
        with self._lock:
            if payload == self._functions:
                return
            self._may_write(lane)
            try:
                told = restore_functions(payload, self._open_routes, delete_extra=True, dry_run=False)
            except RemoteError as error:
                raise TargetLost(str(error)) from error
            self.refused.pop(FUNCTIONS, None)
            if told.startswith("refused"):
                self.refused[FUNCTIONS] = told
            self._functions = payload

    def flushed(self, db: int, captured_ms: int, lane: str) -> None:
        """Nothing is emptied on a mere suspicion: a pass finds what is gone."""
        self._on_flush()

    def new_pass(self) -> int:
        with self._lock:
            self._pass += 1
            self._passing += 1
            return self._pass

    def end_pass(self, *, whole: bool) -> None:
        with self._lock:
            self._passing -= 1
            if not self._passing:
                self.index.forget_absent(1)

    def found(self, db: int, records: Sequence[Record], lane: str, pass_: int, *, suspect: bool = False) -> list[bytes]:
        with self._lock:
            known = self.index.known(db, [record.key for record in records])
            same, other, puts = list[bytes](), list[Record](), list[Put]()
            for record in records:
                before, put = known.get(record.key), _put(record, CHANGED)
                if before is not None and (before.announced_since(pass_) or before.digest == put.digest):
                    same.append(record.key)
                else:
                    other.append(record)
                    puts.append(put)
            if suspect:
                return [record.key for record in other]
            self._write(other, lane)
            self.index.seen(db, same, self._pass)
            self.index.put(puts, self._pass, 0)
            return []

    def gone(self, db: int, keys: Iterable[bytes], captured_ms: int, lane: str, pass_: int) -> int:
        with self._lock:
            known = self.index.known(db, list(keys))
            records = [
                Record(_TOMBSTONE, db, NO_EXPIRY, captured_ms, key, b"")
                for key, before in known.items()
                if not before.flags & ABSENT and not before.announced_since(pass_)
            ]
            self._write(records, lane)
            self.index.put([_put(record, CHANGED) for record in records], self._pass, 0)
            return len(records)

    def explains(self, record: Record, pass_: int) -> bool:
        """No pass here is a proof."""
        return True

    def missed(self, records: Iterable[Record], lane: str, pass_: int) -> None:
        """No pass here is a proof."""

    def close_bases(self, lane: str | None = None) -> None:
        """Nothing is kept back."""

    # Writing

    @property
    def _open_routes(self) -> Routes:
        assert self._routes is not None  # noqa: S101 - open
        return self._routes

    def _learn(self, routes: Routes, place: Place, db: int) -> None:
        with routes.connect(place, db) as connection:
            cursor = b"0"
            while True:
                cursor, keys = connection.ask("SCAN", cursor, "COUNT", _SCAN_COUNT)
                self.index.put([Put(db, key, slot_of(key), None, 0) for key in keys], 0, 0)
                if cursor == b"0":
                    return

    def _write(self, records: list[Record], lane: str) -> None:
        """Raises RemoteError: of the source; TargetLost."""
        if not records:
            return
        self._may_write(lane)
        try:
            for db in dict.fromkeys(record.db for record in records):
                self._write_in(db, [record for record in records if record.db == db])
        except RemoteError as error:
            raise TargetLost(str(error)) from error
        except (WriteEnded, Unrepresentable) as error:
            raise TargetLost(f"it takes no more keys: {error}") from error

    def _may_write(self, lane: str) -> None:
        """Raises RemoteError: of the source; TargetLost."""
        if self._closed:
            raise TargetLost("the copy has ended")
        self._still_same(lane)

    def _write_in(self, db: int, records: list[Record]) -> None:
        routes, now_ms = self._open_routes, self._open_routes.now_ms()
        if db not in self._writers:
            self._writers[db] = OneWriter(routes, db, self._reasons)
        writer = self._writers[db]
        quick: dict[Place, list[tuple[Record, bytes]]] = {}
        slow: list[Record] = []
        for record in records:
            command = _command(record, writer, now_ms)
            if command is None:
                slow.append(record)
            else:
                quick.setdefault(routes.place_of(record.key), []).append((record, command))
        for place, some in quick.items():
            for part in _parts(some):
                replies = exchange(Talk(routes.side(place, db), False), [command for _, command in part])
                for (record, command), reply in zip(part, replies, strict=True):
                    self._settle(record, self._outcome(record, command, reply, writer, now_ms))
        for record in slow:
            outcome = writer.slow(record)
            if outcome == Outcome.EXPIRED:  # every field of it: what the group had under this name is gone as well
                routes.converse(record.key, db, lambda talk, key=record.key: _once(talk, pack("UNLINK", key)))  # type: ignore[misc]
            self._settle(record, outcome)

    def _outcome(self, record: Record, command: bytes, reply: Reply, writer: OneWriter, now_ms: int) -> int:
        if not isinstance(reply, Refusal):
            return Outcome.WRITTEN
        if writer.is_fatal(reply):
            raise WriteEnded(record.db, record, reply)
        if not _is_gone(record, now_ms):
            return writer.after(record, reply)
        if not is_redirection(reply):
            return self._reasons.number(str(reply))
        self._open_routes.converse(record.key, record.db, lambda talk: _once(talk, command))
        return Outcome.WRITTEN

    def _settle(self, record: Record, outcome: int) -> None:
        if outcome >= FIRST_REASON:
            self.refused[record.db, record.key] = self._reasons.text(outcome)
        else:
            self.refused.pop((record.db, record.key), None)


def _command(record: Record, writer: OneWriter, now_ms: int) -> bytes | None:
    return pack("UNLINK", record.key) if _is_gone(record, now_ms) else writer.restore(record)


def _is_gone(record: Record, now_ms: int) -> bool:
    return record.kind == _TOMBSTONE or NO_EXPIRY != record.expires_ms <= now_ms


def _once(talk: Talk, command: bytes) -> None:
    reply = exchange(talk, [command])[0]
    if isinstance(reply, Refusal):
        raise reply


def _parts(some: list[tuple[Record, bytes]]) -> Iterator[list[tuple[Record, bytes]]]:
    part: list[tuple[Record, bytes]] = []
    size = 0
    for one in some:
        if part and (len(part) >= _EXCHANGE_COMMANDS or size + len(one[1]) > _EXCHANGE_BYTES):
            yield part
            part, size = [], 0
        part.append(one)
        size += len(one[1])
    if part:
        yield part


def _put(record: Record, flags: int) -> Put:
    slot = slot_of(record.key)
    if record.kind == _TOMBSTONE:
        return Put(record.db, record.key, slot, None, flags | ABSENT)
    return Put(record.db, record.key, slot, digest_of(record), flags | flags_of(record))
