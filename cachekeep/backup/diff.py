"""Where a backup or an endpoint differs from an endpoint, key by key. Called by the commands and by `verify`.

What differs is looked at once more before it is told: a key that was written between the two readings is no
difference. Never judged by counts.
"""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Collection
from dataclasses import dataclass, field, replace

from cachekeep.backup.compare import Judge, Verdict, tolerance_of
from cachekeep.backup.contents import Contents
from cachekeep.backup.extras import databases_at, extras, present
from cachekeep.backup.functions import functions_at, libraries
from cachekeep.backup.ledger import Ledger
from cachekeep.backup.moments import TOLD_SKEW_MS, by_clock_of
from cachekeep.backup.progress import OnProgress, Progress, unheard
from cachekeep.backup.routing import PATIENCE_S, Routes
from cachekeep.backup.survey_types import Ability, Survey
from cachekeep.backup.walk import Walk
from cachekeep.codec.dump import DumpError
from cachekeep.codec.record import Record
from cachekeep.domain.remote import Refusal, Remote, RemoteError, RemoteFault

NAMED_LIMIT = 1000
_SECOND_LOOK_KEYS, _SECOND_LOOK_BYTES = 1000, 8 << 20
_DIFFERENT = {
    Verdict.VALUE: "value",
    Verdict.EXPIRY: "expiry",
    Verdict.TYPE: "type",
    Verdict.OUTLIVED: "expired on the left, and there on the right",
}
_SUSPECT = frozenset((*_DIFFERENT, Verdict.MISSING))


@dataclass
class DiffCounts:
    """Keys of one database. different: by what. expired: gone on both sides since the left one was captured.

    unread: keys that the right side refused to show, in its words.
    """

    same: int = 0
    different: dict[str, int] = field(default_factory=dict)
    only_left: int = 0
    only_right: int = 0
    expired: int = 0
    unread: dict[str, int] = field(default_factory=dict)

    @property
    def left(self) -> int:
        """Keys of the left side, each counted once."""
        return self.same + sum(self.different.values()) + self.only_left + self.expired + sum(self.unread.values())


@dataclass(frozen=True)
class DiffReport:
    """named: (database, key, what), at most NAMED_LIMIT; counts are whole. functions: same, different or unknown.

    left_unread: keys that the left side, an endpoint, refused to show, per reason. clock_shift_ms: the right side's
    clock is so far ahead of the left one's; expiries were compared with that taken off, to a second.
    """

    databases: dict[int, DiffCounts]
    named: tuple[tuple[int, bytes, str], ...]
    functions: str
    left_unread: dict[str, int]
    seconds: float
    clock_shift_ms: int = 0

    @property
    def differences(self) -> int:
        """Keys that differ, or are on one side only."""
        each = self.databases.values()
        return sum(sum(one.different.values()) + one.only_left + one.only_right for one in each)

    @property
    def unread(self) -> int:
        """Keys of which nothing can be said."""
        return sum(self.left_unread.values()) + sum(sum(one.unread.values()) for one in self.databases.values())

    @property
    def differs(self) -> bool:
        """Also when keys could not be read: then it is not proved that nothing differs."""
        return bool(self.differences or self.unread or self.functions == "different")


def diff(
    left: Contents,
    right: Remote,
    right_survey: Survey,
    *,
    databases: Collection[int] | None = None,
    match: bytes | None = None,
    expiry_tolerance_ms: int | None = None,
    patience_s: float = PATIENCE_S,
    progress: OnProgress = unheard,
    stop: threading.Event | None = None,
) -> DiffReport:
    """Nothing is written. expiry_tolerance_ms None: 0 where the right side tells expiries exactly.

    Raises RemoteError, Halted, and what reading the left side raises.
    """
    began = time.monotonic()
    routes = Routes(right, right_survey, patience_s=patience_s, stop=stop)
    try:
        if not right_survey.can(Ability.DUMP):
            what = f"{right.name} does not allow DUMP: {right_survey.denied[Ability.DUMP]}"
            raise RemoteError(RemoteFault.DENIED, what, "allow it to this user")
        left, shift_ms = by_clock_of(routes, left)
        tolerance = expiry_tolerance_ms
        if tolerance is None:
            tolerance = TOLD_SKEW_MS if shift_ms else tolerance_of(right_survey)
        work = _Work(left, routes, tolerance)
        work.compare(databases, match, progress)
        work.find_extras(databases, match, progress)
        whole = databases is None and match is None
        functions = _functions(left, routes) if whole else "unknown"
        return replace(work.report(functions, time.monotonic() - began), clock_shift_ms=shift_ms)
    finally:
        routes.close()


class _Work:
    """One comparison."""

    def __init__(self, left: Contents, routes: Routes, tolerance_ms: int) -> None:
        self._left, self._routes = left, routes
        self._judge = Judge(routes.survey.target, tolerance_ms)
        self._ledgers: dict[int, Ledger] = {}
        self._only_right: dict[int, Ledger] = {}
        self._unread: dict[int, Counter[str]] = {}
        self._named: dict[tuple[int, bytes], str] = {}
        self._suspects: dict[tuple[int, bytes], Record] = {}
        self._suspect_bytes = 0

    def compare(self, databases: Collection[int] | None, match: bytes | None, progress: OnProgress) -> None:
        total = self._left.total_keys
        walk = Walk(self._routes, self._judge, self._first_look, progress=progress, phase="compare", total_keys=total)
        walk.run(self._left.batches(databases, match))
        self._look_again()

    def find_extras(self, databases: Collection[int] | None, match: bytes | None, progress: OnProgress) -> None:
        checked = 0
        for db in databases_at(self._routes):
            if databases is not None and db not in databases:
                continue
            found = self._only_right.setdefault(db, Ledger())
            for place, keys in extras(self._routes, db, self._ledgers.get(db), match):
                keys = present(self._routes, place, db, keys)
                born = self._left.born(db, keys)
                keys = [key for key in keys if key not in born]
                found.note(keys, bytes(len(keys)))
                for key in keys:
                    self._name(db, key, "only on the right")
                checked += len(keys)
                progress(Progress("extra keys", checked, 0))

    def report(self, functions: str, seconds: float) -> DiffReport:
        databases: dict[int, DiffCounts] = {}
        for db in sorted({*self._ledgers, *self._only_right}):
            settled = self._ledgers[db].settled() if db in self._ledgers else Counter[int]()
            only_right = self._only_right[db].settled().total() if db in self._only_right else 0
            databases[db] = DiffCounts(
                same=settled[Verdict.SAME],
                different={what: settled[verdict] for verdict, what in _DIFFERENT.items() if settled[verdict]},
                only_left=settled[Verdict.MISSING],
                only_right=only_right,
                expired=settled[Verdict.EXPIRED],
                unread=dict(self._unread.get(db, {})),
            )
        named = tuple((db, key, what) for (db, key), what in self._named.items())
        left_unread: dict[str, int] = dict(getattr(self._left, "unread", {}))
        return DiffReport(databases, named, functions, left_unread, seconds)

    def _first_look(self, db: int, records: list[Record], verdicts: bytes, words: dict[int, str]) -> None:
        suspect = [at for at, verdict in enumerate(verdicts) if verdict in _SUSPECT] if any(verdicts) else []
        if self._suspects:  # a later record of the same key is what counts
            for record in records:
                self._suspects.pop((db, record.key), None)
        if not suspect:
            self._note(db, records, verdicts, words)
            return
        chosen = frozenset(suspect)
        rest = [at for at in range(len(records)) if at not in chosen]
        places = {at: new for new, at in enumerate(rest)}
        self._note(
            db,
            [records[at] for at in rest],
            bytes(verdicts[at] for at in rest),
            {places[at]: text for at, text in words.items() if at in places},
        )
        for at in suspect:
            self._suspects[db, records[at].key] = records[at]
            self._suspect_bytes += len(records[at].payload)
        if len(self._suspects) >= _SECOND_LOOK_KEYS or self._suspect_bytes >= _SECOND_LOOK_BYTES:
            self._look_again()

    def _look_again(self) -> None:
        suspects, self._suspects, self._suspect_bytes = list(self._suspects.values()), {}, 0
        by_database: dict[int, list[Record]] = {}
        for record in suspects:
            by_database.setdefault(record.db, []).append(record)
        for db, records in by_database.items():
            now = self._left.again(records)
            there = {record.key for record in now}
            gone = [record for record in records if record.key not in there]
            if gone:  # from the left side, meanwhile: if the right side has it still, it is an extra key there
                self._note(db, gone, bytes((Verdict.ABSENT,)) * len(gone), {})
            if now:
                Walk(self._routes, self._judge, self._note).run([now])

    def _note(self, db: int, records: list[Record], verdicts: bytes, words: dict[int, str]) -> None:
        ledger = self._ledgers.get(db)
        if ledger is None:
            ledger = self._ledgers[db] = Ledger(absent=(Verdict.ABSENT,))
        ledger.note([record.key for record in records], verdicts)
        if self._named:
            for record in records:
                self._named.pop((db, record.key), None)
        if not any(verdicts):
            return
        for at, (record, verdict) in enumerate(zip(records, verdicts, strict=True)):
            if verdict == Verdict.UNREAD:
                self._unread.setdefault(db, Counter())[words[at]] += 1
                self._name(db, record.key, f"not readable on the right: {words[at]}")
            elif verdict == Verdict.MISSING:
                self._name(db, record.key, "only on the left")
            elif verdict in _DIFFERENT:
                self._name(db, record.key, _DIFFERENT[Verdict(verdict)])

    def _name(self, db: int, key: bytes, what: str) -> None:
        if len(self._named) < NAMED_LIMIT:
            self._named[db, key] = what


def _functions(left: Contents, routes: Routes) -> str:
    payload = left.functions()
    if payload is None or not routes.survey.can(Ability.FUNCTIONS) or not routes.survey.target.counts_stream_entries:
        return "unknown"
    try:
        wanted = libraries(payload)
        return "same" if all(have == wanted for have in functions_at(routes)) else "different"
    except (DumpError, Refusal):
        return "unknown"
