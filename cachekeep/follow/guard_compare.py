"""Which keys an endpoint lost, which went back to an older value, which differ in another way. Called by follow.guard.

Nothing is written. Memory grows with the number of keys that differ (some 200 bytes and the key each), not with the
data.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import groupby, islice

from cachekeep.backup.compare import Judge, Verdict, tolerance_of
from cachekeep.backup.contents import contents_of
from cachekeep.backup.extras import databases_at, extras, present
from cachekeep.backup.functions import functions_at, libraries
from cachekeep.backup.ledger import Ledger
from cachekeep.backup.progress import OnProgress, Progress, unheard
from cachekeep.backup.routing import Routes
from cachekeep.backup.survey_types import Ability, Survey
from cachekeep.backup.walk import Walk
from cachekeep.codec.dump import DumpError
from cachekeep.codec.record import NO_EXPIRY, Kind, Record
from cachekeep.domain.remote import Refusal, Remote
from cachekeep.follow.guard_expected import Expected
from cachekeep.follow.guard_meaning import meaning
from cachekeep.follow.guard_types import Class, Place

_AT_ONCE = 500
_DIFFERENT = frozenset((Verdict.VALUE, Verdict.EXPIRY, Verdict.TYPE, Verdict.MISSING, Verdict.OUTLIVED))
# Whose value is the expected one: only an older expiry shows that it is an older copy.
_SAME_VALUE = frozenset((Verdict.EXPIRY, Verdict.OUTLIVED))


@dataclass(frozen=True)
class Seen:
    """A key that differs, as the endpoint had it. value: its `meaning`, None when it had none. expected: that there
    should be such a key.
    """

    value: bytes | None
    expires_ms: int
    expected: bool
    same_value: bool


class Comparison:
    """One look at the endpoint. compared: keys of both sides. seen: what differs. unread: why, per reason."""

    def __init__(
        self,
        expected: Expected,
        remote: Remote,
        survey: Survey,
        *,
        patience_s: float,
        stop: threading.Event | None = None,
        progress: OnProgress = unheard,
    ) -> None:
        """Raises RemoteError, Halted, and what reading the backup raises."""
        self._expected, self._remote, self._survey, self._progress = expected, remote, survey, progress
        self._judge = Judge(survey.target, tolerance_of(survey))
        self._ledgers: dict[int, Ledger] = {}
        self._verdicts: dict[Place, Verdict] = {}
        self.compared = 0
        self.unread: Counter[str] = Counter()
        self.seen: dict[Place, Seen] = {}
        routes = Routes(remote, survey, patience_s=patience_s, stop=stop)
        try:
            total = expected.total_keys
            walk = Walk(routes, self._judge, self._note, progress=progress, phase="compare", total_keys=total)
            walk.run(expected.batches())
            self._see(self._verdicts.items())
            self._see_extras(routes)
            self.functions = _functions(expected, routes)
        finally:
            routes.close()

    def _note(self, db: int, records: list[Record], verdicts: bytes, words: dict[int, str]) -> None:
        ledger = self._ledgers.get(db)
        if ledger is None:
            ledger = self._ledgers[db] = Ledger(absent=(Verdict.ABSENT,))
        ledger.note([record.key for record in records], verdicts)
        self.compared += len(records)
        if self._verdicts:  # a later record of the same key is what counts
            for record in records:
                self._verdicts.pop((db, record.key), None)
        if not any(verdicts):
            return
        for at, (record, verdict) in enumerate(zip(records, verdicts, strict=True)):
            if verdict in _DIFFERENT:
                self._verdicts[db, record.key] = Verdict(verdict)
            elif verdict == Verdict.UNREAD:
                self.unread[words[at]] += 1

    def _see(self, differing: Iterable[tuple[Place, Verdict]]) -> None:
        """Read what differs once more, for what it is."""
        there = contents_of(self._remote, self._survey)
        for db, verdicts in _by_database(differing):
            asked = [Record(int(Kind.UPSERT), db, NO_EXPIRY, 0, key, b"") for key in verdicts]
            found = {record.key: record for record in there.again(asked)}
            for key, verdict in verdicts.items():
                record, expected = found.get(key), verdict not in (Verdict.ABSENT, Verdict.OUTLIVED)
                if record is not None:
                    value, same = meaning(record.payload, record.captured_ms), verdict in _SAME_VALUE
                    self.seen[db, key] = Seen(value, record.expires_ms, expected, same)
                elif expected:
                    self.seen[db, key] = Seen(None, NO_EXPIRY, expected, same_value=False)
        self.unread += there.unread

    def _see_extras(self, routes: Routes) -> None:
        """Keys that should not be there."""
        checked = 0
        for db in databases_at(routes):
            for place, keys in extras(routes, db, self._ledgers.get(db), None):
                keys = present(routes, place, db, keys)
                self._see(((db, key), Verdict.ABSENT) for key in keys if (db, key) not in self.seen)
                checked += len(keys)
                self._progress(Progress("extra keys", checked, 0))


def classes(
    seen: Mapping[Place, Seen], history: Iterable[list[Record]], left_out: frozenset[Place] = frozenset()
) -> dict[Class, frozenset[Place]]:
    """What each key that differs is. history: older records of the source, in any order. Pure but for reading it.

    lost: it should be there. went back: it is as an older record of it says. changed: as no record says.
    """
    asked = {place: one for place, one in seen.items() if place not in left_out}
    back = _known_before({place: one for place, one in asked.items() if one.value is not None}, history)
    lost = frozenset(place for place, one in asked.items() if one.value is None)
    return {"lost": lost, "went back": back, "changed": frozenset(asked) - lost - back}


def _known_before(seen: dict[Place, Seen], history: Iterable[list[Record]]) -> frozenset[Place]:
    open_, found = dict(seen), set[Place]()
    if not open_:
        return frozenset()
    for records in history:
        for record in records:
            place = record.db, record.key
            one = open_.get(place)
            if one is None or record.kind != Kind.UPSERT or (one.same_value and record.expires_ms != one.expires_ms):
                continue
            if meaning(record.payload, record.captured_ms) == one.value:
                found.add(place)
                del open_[place]
        if not open_:
            break
    return frozenset(found)


def _by_database(differing: Iterable[tuple[Place, Verdict]]) -> Iterator[tuple[int, dict[bytes, Verdict]]]:
    """In portions."""
    for db, group in groupby(sorted(differing), key=lambda one: one[0][0]):
        while portion := {key: verdict for (_, key), verdict in islice(group, _AT_ONCE)}:
            yield db, portion


def _functions(expected: Expected, routes: Routes) -> str:
    """different: one that there should be is not, on some node."""
    payload = expected.functions()
    if payload is None or not routes.survey.can(Ability.FUNCTIONS) or not routes.survey.target.counts_stream_entries:
        return "unknown"
    try:
        wanted = libraries(payload)
        return "same" if all(have >= wanted for have in functions_at(routes)) else "different"
    except (DumpError, Refusal):
        return "unknown"
