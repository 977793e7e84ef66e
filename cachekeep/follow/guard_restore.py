"""Put keys back that an endpoint lost, each only if it is still as it was when it was compared. For follow.guard.

WATCH, then a look, then MULTI ... EXEC: whatever changes the key in between, the server itself leaves our write out.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from enum import Enum

from cachekeep.backup.compare import Judge, Verdict, tolerance_of
from cachekeep.backup.functions import restore_functions
from cachekeep.backup.key_reader import KeyReader
from cachekeep.backup.routing import Place as Node
from cachekeep.backup.routing import Routes, Talk, exchange, is_redirection
from cachekeep.backup.survey_types import Ability, Survey
from cachekeep.backup.walk import Halted
from cachekeep.backup.write_keys import KeyWriter, Rewrite, change_expiry
from cachekeep.codec.dump import DumpError, Unrepresentable
from cachekeep.codec.record import NO_EXPIRY, Record
from cachekeep.codec.resp import pack
from cachekeep.domain.remote import Refusal, Remote, RemoteError, RemoteFault, Reply
from cachekeep.follow.guard_compare import Seen
from cachekeep.follow.guard_expected import Expected
from cachekeep.follow.guard_meaning import meaning
from cachekeep.follow.guard_types import NAMED_LIMIT, Place, Restored
from cachekeep.follow.types import OnNews

_REPLACE, _LAST = b"$7\r\nREPLACE\r\n", b"$6\r\nABSTTL\r\n"
_STEPS_AT_ONCE, _EXCHANGE_KEYS, _EXCHANGE_BYTES = 100, 500, 4 << 20
_TEMPORARY_MS = 3_600_000


class _Done(Enum):
    WRITTEN, DELETED, KEPT = 1, 2, 3


class Restorer:
    """For one endpoint. ours: what was written, as `meaning` tells it; None for what was deleted."""

    def __init__(
        self, remote: Remote, survey: Survey, *, patience_s: float, stop: threading.Event | None = None
    ) -> None:
        """Raises RemoteError where nothing may be written safely."""
        if not survey.can(Ability.WATCH):
            what = f"{remote.name} does not allow WATCH: {survey.denied[Ability.WATCH]}"
            advice = "without it a key that is being written could be overwritten: allow it, or use `backup restore`"
            raise RemoteError(RemoteFault.DENIED, what, advice)
        if survey.role == "replica":
            raise RemoteError(RemoteFault.DENIED, f"{remote.name} is a replica now", "name its primary")
        try:
            self._writer = KeyWriter(survey)
        except Unrepresentable as error:
            raise RemoteError(RemoteFault.DENIED, f"{remote.name}: {error}", "restore into a newer one") from error
        self._routes = Routes(remote, survey, patience_s=patience_s, stop=stop)
        self._judge = Judge(survey.target, tolerance_of(survey))
        self.ours: dict[Place, bytes | None] = {}
        self._counts = dict.fromkeys(_Done, 0)
        self._refused: list[tuple[int, bytes, str]] = []

    def close(self) -> None:
        self._routes.close()

    def restore(self, expected: Expected, keys: Mapping[Place, Seen], *, functions: bool, news: OnNews) -> Restored:
        """Each key to what is expected. Raises RemoteError, Halted, and what reading the backup raises."""
        for place, seen in keys.items():
            if not seen.expected:
                self._each(place, lambda talk, place=place, seen=seen: self._delete(talk, place, seen))  # type: ignore[misc]
        wanted = {place for place, seen in keys.items() if seen.expected}
        for records in expected.batches({db for db, _ in wanted}) if wanted else ():
            if self._routes.stopped:
                raise Halted("stopped before everything was put back; what was put back stays")
            mine = [record for record in records if (record.db, record.key) in wanted]
            left = self._put_new([record for record in mine if keys[record.db, record.key].value is None])
            for record in [*left, *(one for one in mine if keys[one.db, one.key].value is not None)]:
                self._put_back(record, keys[record.db, record.key])
        libraries = "none"
        if functions:
            libraries = restore_functions(expected.functions(), self._routes, delete_extra=False, dry_run=False)
        counts, refused = self._counts, self._refused
        for db, key, why in refused[:NAMED_LIMIT]:
            news(f"not put back: {key[:100]!r} of database {db}: {why}")
        return Restored(counts[_Done.WRITTEN], counts[_Done.DELETED], counts[_Done.KEPT], tuple(refused), libraries)

    def _put_new(self, records: list[Record]) -> list[Record]:
        """Keys that are gone, many at once: RESTORE without REPLACE, which writes none that is there. The rest."""
        now_ms, left = self._routes.now_ms(), list[Record]()
        groups: dict[tuple[Node, int], list[tuple[Record, bytes]]] = {}
        for record in records:
            packed = None if self._is_over(record, now_ms) else self._writer.restore(record)
            if packed is None:
                left.append(record)
            else:
                groups.setdefault((self._routes.place_of(record.key), record.db), []).append((record, packed))
        for (node, db), group in groups.items():
            for part in _parts(group):
                talk = Talk(self._routes.side(node, db), asking=False)
                replies = exchange(talk, [_without_replace(packed) for _, packed in part])
                for (record, _), reply in zip(part, replies, strict=True):
                    if reply == b"OK":
                        self._wrote(record)
                    elif isinstance(reply, Refusal) and reply.code == "BUSYKEY":
                        self._counts[_Done.KEPT] += 1
                    else:
                        left.append(record)
        return left

    def _put_back(self, record: Record, seen: Seen) -> None:
        if self._is_over(record, self._routes.now_ms()):
            self._counts[_Done.KEPT] += 1
            return
        self._each((record.db, record.key), lambda talk: self._write(talk, record, seen))

    def _each(self, place: Place, act: Callable[[Talk], _Done]) -> None:
        db, key = place
        try:
            done = self._routes.converse(key, db, act)
        except (Refusal, Unrepresentable, DumpError) as error:
            self._refused.append((db, key, str(error)))
        else:
            if done is not _Done.WRITTEN:
                self._counts[done] += 1

    def _delete(self, talk: Talk, place: Place, seen: Seen) -> _Done:
        if not self._swap(talk, place[1], seen, [pack("UNLINK", place[1])]):
            return _Done.KEPT
        self.ours[place] = None
        return _Done.DELETED

    def _write(self, talk: Talk, record: Record, seen: Seen) -> _Done:
        packed = self._writer.restore(record)
        try:
            done = packed is not None and self._swap(talk, record.key, seen, [packed])
        except Refusal as refusal:
            if is_redirection(refusal):
                raise
            packed = None
        if packed is None:
            rewrite = self._writer.rewrite(record, self._routes.now_ms())
            done = rewrite is not None and self._build(talk, record, seen, rewrite)
        if not done:
            return _Done.KEPT
        self._wrote(record)
        return _Done.WRITTEN

    def _build(self, talk: Talk, record: Record, seen: Seen, rewrite: Rewrite) -> bool:
        """What no RESTORE of this server can read: built by commands under another name, then put in its place."""
        done = False
        try:
            for start in range(0, len(rewrite.steps), _STEPS_AT_ONCE):
                packed = [pack(*step) for step in rewrite.steps[start : start + _STEPS_AT_ONCE]]
                _answered(exchange(talk, [*packed, pack("PEXPIRE", rewrite.name, _TEMPORARY_MS)]))
            moved = [pack("UNLINK", record.key), pack("RENAME", rewrite.name, record.key)]
            done = self._swap(talk, record.key, seen, [*moved, change_expiry(record)])
        finally:
            if not done:
                exchange(talk, [pack("UNLINK", rewrite.name)])
        return done

    def _swap(self, talk: Talk, key: bytes, seen: Seen, packed: Sequence[bytes]) -> bool:
        """Carry the commands out together, if the key is as it was seen. Raises Refusal: then nothing has changed."""
        if talk.asking:  # where a slot is being imported, nothing can be done together: wait until it is there
            raise Refusal("TRYAGAIN its slot is being moved")
        reader = KeyReader(talk.connection, self._routes.survey)
        replies = exchange(talk, [pack("WATCH", key), pack("DUMP", key), reader.expiry_request(key)])
        try:
            _answered(replies)
            now_ms = self._routes.now_ms()
            as_seen = self._as_seen(seen, replies[1], reader.expiry(replies[2], now_ms), now_ms)
        except Refusal:
            exchange(talk, [pack("UNWATCH")])
            raise
        if not as_seen:
            exchange(talk, [pack("UNWATCH")])
            return False
        done = _answered(exchange(talk, [pack("MULTI"), *packed, pack("EXEC")]))[-1]
        if done is not None:
            _answered(done)
        return done is not None

    def _as_seen(self, seen: Seen, payload: bytes | None, expires_ms: int, now_ms: int) -> bool:
        if payload is None or seen.value is None:
            return payload is None and seen.value is None
        return self._judge.same_expiry(seen.expires_ms, expires_ms) and meaning(payload, now_ms) == seen.value

    def _is_over(self, record: Record, now_ms: int) -> bool:
        """Its time has come."""
        return self._judge.verdict(record, None, NO_EXPIRY, now_ms) == Verdict.EXPIRED

    def _wrote(self, record: Record) -> None:
        self._counts[_Done.WRITTEN] += 1
        self.ours[record.db, record.key] = meaning(record.payload, self._routes.now_ms())


def _without_replace(packed: bytes) -> bytes:
    """`*6 RESTORE key ttl payload REPLACE ABSTTL` without the word before the last."""
    return b"*5" + packed[2:].removesuffix(_REPLACE + _LAST) + _LAST


def _parts(group: list[tuple[Record, bytes]]) -> Iterator[list[tuple[Record, bytes]]]:
    """Portions that do not fill anybody's buffers."""
    part, size = list[tuple[Record, bytes]](), 0
    for one in group:
        part.append(one)
        size += len(one[1])
        if size >= _EXCHANGE_BYTES or len(part) >= _EXCHANGE_KEYS:
            yield part
            part, size = [], 0
    if part:
        yield part


def _answered(replies: list[Reply]) -> list[Reply]:
    for reply in replies:
        if isinstance(reply, Refusal):
            raise reply
    return replies
