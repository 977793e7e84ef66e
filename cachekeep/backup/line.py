"""Records of a backup held against one database of one node, and written there where they differ. For backup.walk.

One connection, some exchanges ahead: while the server reads the keys of the next rounds, this one is judged and
written. With two ahead the commands on the wire are: read 1, read 2, read 3, write 1, read 4, write 2, ... So a round's
keys are read before the rounds ahead of it are written: a key of one of those is written whatever was read.

What takes a conversation (large values, redirections, commands instead of RESTORE) goes over another connection.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

from cachekeep.backup.compare import Judge, Verdict
from cachekeep.backup.key_reader import GONE, Batch, KeyReader
from cachekeep.backup.one_key import read_one
from cachekeep.backup.outcomes import OUTCOMES, WRITES
from cachekeep.backup.routing import Place, Routes, is_redirection
from cachekeep.backup.write_keys import change_expiry
from cachekeep.backup.write_one import OneWriter, WriteEnded
from cachekeep.codec.record import Record
from cachekeep.domain.remote import Refusal, Reply

LARGE_READ_BYTES = 1 << 20
_AHEAD = 3
# db, records, a verdict or outcome for each, and by position why one was refused or could not be read.
Done = Callable[[int, list[Record], bytes, dict[int, str]], None]


@dataclass
class Round:
    """Records on their way. sent: positions whose write has been sent; outcomes: those that are known already."""

    records: list[Record]
    verdicts: bytearray
    read: Batch | None = None
    judged: bool = False
    replies: list[Reply] | None = None
    sent: list[int] = field(default_factory=list)
    outcomes: dict[int, int] = field(default_factory=dict)
    words: dict[int, str] = field(default_factory=dict)


class Line:
    """direct: nothing is there, so nothing is read. writer None: compare only. Raises RemoteError: it is over then."""

    def __init__(
        self, routes: Routes, place: Place, db: int, judge: Judge, writer: OneWriter | None, done: Done
    ) -> None:
        self.db, self._routes, self._judge, self._writer, self._done = db, routes, judge, writer, done
        self._connection = routes.connect(place, db)
        self._reader = KeyReader(self._connection, routes.survey)
        self._direct = writer is not None and self._connection.ask("DBSIZE") == 0
        self._open: deque[Round] = deque()
        self._expected: deque[Round] = deque()  # whose replies come next; a round twice, read and written
        # Keys that the last rounds wrote: those that are under way were read before.
        self._written: deque[set[bytes]] = deque(maxlen=_AHEAD)

    def feed(self, records: list[Record]) -> None:
        """At most some hundred, each key once; a record above LARGE_READ_BYTES alone."""
        round_ = Round(records, bytearray(len(records)))
        self._open.append(round_)
        if self._direct and self._writer:
            self._write_new(round_, self._writer)
            while len(self._expected) > _AHEAD:
                self._take()
            return
        keys = [] if _is_large(records) else [record.key for record in records]
        self._connection.send(self._reader.request(keys))
        self._expected.append(round_)
        waiting = [one for one in self._open if not one.judged]
        if len(waiting) > _AHEAD:
            self._turn(waiting[0])

    def drain(self) -> None:
        """Until everything is settled."""
        for waiting in [one for one in self._open if not one.judged]:
            self._turn(waiting)
        while self._expected:
            self._take()

    def undone(self) -> list[Record]:
        """What is not settled, in order."""
        return [record for one in self._open for record in one.records]

    def attempted(self) -> set[bytes]:
        """Keys of it that may have been written."""
        return {one.records[at].key for one in self._open for at in (*one.sent, *one.outcomes)}

    def close(self) -> None:
        self._connection.close()

    def _take(self) -> None:
        """The next reply of those that are on their way, and what is settled by it."""
        round_ = self._expected[0]
        if round_.judged:
            round_.replies = self._connection.receive(len(round_.sent))
        else:
            round_.read = self._reader.read(0 if _is_large(round_.records) else len(round_.records))
        self._expected.popleft()
        self._settle()

    def _turn(self, round_: Round) -> None:
        """Judge what was read, write."""
        records, verdicts, judge = round_.records, round_.verdicts, self._judge
        while (batch := round_.read) is None:
            self._take()
        round_.read = None
        if _is_large(records):
            self._look(round_, [0])
        else:
            both = zip(records, batch.payloads, batch.expiries, strict=True)
            differing = [
                at
                for at, (record, theirs, expires_ms) in enumerate(both)
                if record.payload != theirs or record.expires_ms != expires_ms
            ]
            self._judge_closely(round_, batch, differing, judge)
        if any(self._written):
            written = set().union(*self._written)
            for at, record in enumerate(records):
                # What was read is older than what was written, so neither is its value known to be the right one.
                if record.key in written and verdicts[at] in (Verdict.SAME, Verdict.EXPIRY):
                    verdicts[at] = Verdict.VALUE
        self._write(round_)

    def _judge_closely(self, round_: Round, batch: Batch, differing: list[int], judge: Judge) -> None:
        """Those that are not equal byte for byte; what could not be read with the others is read alone."""
        again = [*batch.unread]
        unread = frozenset(again)
        for at in differing:
            theirs = batch.payloads[at]
            if at in unread:
                continue
            if isinstance(theirs, Refusal):
                if is_redirection(theirs):
                    again.append(at)
                    continue
                round_.words[at] = str(theirs)
            record, expires_ms = round_.records[at], batch.expiries[at]
            round_.verdicts[at] = judge.verdict(record, theirs, expires_ms, batch.captured_ms)
        self._look(round_, again)

    def _look(self, round_: Round, positions: list[int]) -> None:
        """Read these one by one."""
        for at in positions:
            record = round_.records[at]
            try:
                found = self._routes.converse(
                    record.key,
                    self.db,
                    lambda talk, record=record: read_one(  # type: ignore[misc]
                        talk, self._routes.survey, record.key, large=_is_large([record])
                    ),
                )
            except Refusal as refusal:
                round_.words[at] = str(refusal)
                round_.verdicts[at] = self._judge.verdict(record, refusal, GONE, self._routes.now_ms())
            else:
                verdict = self._judge.verdict(record, found.payload, found.expires_ms, found.now_ms)
                round_.verdicts[at] = verdict

    def _write_new(self, round_: Round, writer: OneWriter) -> None:
        """Nothing is there: write without having read."""
        now_ms, verdicts = self._routes.now_ms(), round_.verdicts
        round_.judged = True
        verdicts[:] = bytes((Verdict.MISSING,)) * len(verdicts)
        packed, closer = writer.restore_new(round_.records, now_ms)
        apart = frozenset(closer)
        round_.sent = [at for at in range(len(verdicts)) if at not in apart] if apart else list(range(len(verdicts)))
        slow = list[int]()
        for at in closer:
            record = round_.records[at]
            verdicts[at] = self._judge.verdict(record, None, GONE, now_ms)
            if verdicts[at] == Verdict.MISSING:
                self._prepare(round_, at, packed, slow, writer)
        self._dispatch(round_, packed, slow, writer)

    def _write(self, round_: Round) -> None:
        round_.judged = True
        self._written.append(set())
        writer = self._writer
        if writer is None:
            self._open.popleft()
            self._done(self.db, round_.records, bytes(round_.verdicts), round_.words)
            return
        packed, slow = list[bytes](), list[int]()
        if any(round_.verdicts):
            for at, verdict in enumerate(round_.verdicts):
                if verdict in WRITES:
                    self._prepare(round_, at, packed, slow, writer)
                elif verdict == Verdict.UNREAD:
                    round_.outcomes[at] = writer.reasons.number(round_.words[at])
            self._written[-1].update(round_.records[at].key for at in (*round_.sent, *slow))
        self._dispatch(round_, packed, slow, writer)

    def _prepare(self, round_: Round, at: int, packed: list[bytes], slow: list[int], writer: OneWriter) -> None:
        record = round_.records[at]
        command = change_expiry(record) if round_.verdicts[at] == Verdict.EXPIRY else writer.restore(record)
        if command is None:
            slow.append(at)
        else:
            packed.append(command)
            round_.sent.append(at)

    def _dispatch(self, round_: Round, packed: list[bytes], slow: list[int], writer: OneWriter) -> None:
        if writer.dry_run:
            round_.sent.clear()
        elif packed:
            self._connection.send(b"".join(packed))
            self._expected.append(round_)
        try:
            for at in slow:
                round_.outcomes[at] = writer.slow(round_.records[at])
        except WriteEnded:
            self._count_rest()
            raise
        self._settle()

    def _settle(self) -> None:
        """Report the first rounds as far as they are done."""
        while self._open and self._open[0].judged:
            round_ = self._open[0]
            if round_.sent and round_.replies is None:
                return
            self._conclude(round_, round_.replies or [])

    def _conclude(self, round_: Round, replies: list[Reply]) -> None:
        """Look at the replies to what was written."""
        fatal: tuple[Record, Refusal] | None = None
        undone = list[int]()
        answered = () if replies.count(b"OK") == len(replies) else zip(round_.sent, replies, strict=True)
        for at, reply in answered:
            if reply == b"OK" or reply == 1:
                continue
            record = round_.records[at]
            if isinstance(reply, Refusal) and self._writer and self._writer.is_fatal(reply):
                fatal = fatal or (record, reply)
                undone.append(at)
            elif self._writer and fatal is None:
                round_.outcomes[at] = self._writer.after(record, reply)
            else:
                undone.append(at)
        self._open.popleft()
        self._report(round_, undone)
        if fatal:
            self._count_rest()
            raise WriteEnded(self.db, *fatal)

    def _report(self, round_: Round, undone: list[int]) -> None:
        outcomes = bytearray(round_.verdicts.translate(OUTCOMES))
        for at, outcome in round_.outcomes.items():
            outcomes[at] = outcome
        records = round_.records
        for at in reversed(undone):
            del outcomes[at]
            records = records[:at] + records[at + 1 :]
        self._done(self.db, records, bytes(outcomes), round_.words)

    def _count_rest(self) -> None:
        """The server writes no more. What it wrote of rounds under way is told still."""
        while self._expected:
            round_ = self._expected.popleft()
            if not round_.judged:
                self._reader.read(0 if _is_large(round_.records) else len(round_.records))
                continue
            replies = self._connection.receive(len(round_.sent))
            good = {at for at, reply in zip(round_.sent, replies, strict=True) if not isinstance(reply, Refusal)}
            self._report(round_, [at for at in range(len(round_.records)) if at not in good])


def _is_large(records: list[Record]) -> bool:
    return len(records) == 1 and len(records[0].payload) > LARGE_READ_BYTES


__all__ = ["LARGE_READ_BYTES", "Done", "Line"]
