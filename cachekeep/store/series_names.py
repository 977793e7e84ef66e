"""Who and what the series are of: numbers for subjects and metrics, and when each metric was last seen.

Called by store.series under its lock; looked up by readers without one, so nothing that they walk changes in place.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Collection, Mapping
from contextlib import suppress

import msgspec

from cachekeep.domain.metrics import Subject

_Seen = dict[int, int]
_seen_decoder = msgspec.msgpack.Decoder(_Seen)
_NOTHING: frozenset[str] = frozenset()
# More than there are numbers in use.
_LEAP = 1 << 20


class _Known:
    """What is known of a subject. seen: the last hour with a point, by metric. hour: all of `now` were seen in it."""

    def __init__(self, number: int, seen: dict[str, int]) -> None:
        self.number, self.seen = number, seen
        self.hour, self.now = -1, _NOTHING
        self.settle()

    def settle(self) -> None:
        self.all, self.oldest = frozenset(self.seen), min(self.seen.values(), default=0)

    def see(self, hour: int, names: Collection[str]) -> bool:
        """Whether anything is new."""
        if hour == self.hour and self.now.issuperset(names):
            return False
        newer = {name: hour for name in names if self.seen.get(name, -1) < hour}
        self.now = frozenset(names) | (self.now if hour == self.hour else _NOTHING)
        self.hour = hour
        if newer:
            self.seen = self.seen | newer
            self.settle()
        return bool(newer)


class Names:
    """Loaded from the file; `store` writes what is new. damaged: rows may be missing, whose numbers blocks still have:
    new ones must not be those."""

    def __init__(self, db: sqlite3.Connection, *, damaged: bool = False) -> None:
        self.metrics: dict[str, int] = dict(db.execute("SELECT name, id FROM metric").fetchall())
        self._last_metric = max(self.metrics.values(), default=0) + damaged * _LEAP
        self._stored_metrics = self._last_metric
        by_number = {i: name for name, i in self.metrics.items()}
        self._subjects: dict[Subject, _Known] = {}
        self._of: dict[int, Subject] = {}
        self._unsaved: set[Subject] = set()
        self._sorted: dict[str | None, list[Subject]] = {}
        for number, region, name, node, body in db.execute("SELECT id, region, name, node, seen FROM subject"):
            seen: _Seen = {}
            with suppress(msgspec.MsgspecError):
                seen = _seen_decoder.decode(body)
            subject = Subject(region, name, node)
            self._of[number] = subject
            self._subjects[subject] = _Known(number, {by_number[i]: at for i, at in seen.items() if i in by_number})
        self._last = max(self._of, default=0) + damaged * _LEAP

    def number(self, subject: Subject) -> int | None:
        known = self._subjects.get(subject)
        return None if known is None else known.number

    def subject(self, number: int) -> Subject | None:
        return self._of.get(number)

    def see(self, subject: Subject, hour: int, names: Collection[str]) -> int:
        """The subject's number, a new one for a new subject; its points of this hour are of these metrics."""
        known = self._subjects.get(subject)
        if known is None:
            self._last += 1
            known = self._subjects[subject] = _Known(self._last, {})
            self._of[self._last] = subject
            self._unsaved.add(subject)
        had = bool(known.seen)
        if known.see(hour, names):
            self._unsaved.add(subject)
            for name in names:
                if name not in self.metrics:
                    self._last_metric += 1
                    self.metrics = self.metrics | {name: self._last_metric}
        if not had and known.seen:
            self._sorted = {}
        return known.number

    def forget(self, number: int) -> None:
        subject = self._of.pop(number, None)
        if subject is not None:
            self._subjects.pop(subject, None)
            self._unsaved.discard(subject)
            self._sorted = {}

    def store(self, db: sqlite3.Connection) -> None:
        """Within a transaction; `stored` is to follow when that has ended."""
        new = [(i, name) for name, i in self.metrics.items() if i > self._stored_metrics]
        db.executemany("INSERT OR REPLACE INTO metric VALUES (?,?)", new)
        rows = []
        for subject in self._unsaved:
            known = self._subjects[subject]
            seen = msgspec.msgpack.encode({self.metrics[name]: at for name, at in known.seen.items()})
            rows.append((known.number, subject.region, subject.id, subject.node_id, seen))
        db.executemany("INSERT OR REPLACE INTO subject VALUES (?,?,?,?,?)", rows)

    def stored(self) -> None:
        self._stored_metrics = self._last_metric
        self._unsaved.clear()

    def all_unsaved(self) -> None:
        """Of a file that was replaced, rows may be missing."""
        self._unsaved = set(self._subjects)
        self._stored_metrics = 0

    def subjects(self, region: str | None) -> list[Subject]:
        """Those that have points, sorted."""
        cache = self._sorted
        found = cache.get(region)
        if found is None:
            some: Mapping[Subject, _Known] = dict(self._subjects)
            found = [s for s, known in some.items() if known.seen and region in (None, s.region)]
            found.sort(key=lambda s: (s.region, s.id, s.node_id))
            cache[region] = found
        return list(found)

    def of(self, subject: Subject, hour: int) -> frozenset[str]:
        """The metrics that the subject has had since that hour."""
        known = self._subjects.get(subject)
        if known is None:
            return _NOTHING
        if hour <= known.oldest:
            return known.all
        return frozenset([name for name, at in known.seen.items() if at >= hour])
