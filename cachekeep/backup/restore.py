"""Put back what differs, and only that. Called by the commands and by `verify`.

What a key is to become is decided by looking at the target: equal keys are left alone, so a restore that was
interrupted is simply run again. Keys that the backup does not know stay, unless `delete_extra`.
"""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from cachekeep.backup.compare import Judge, tolerance_of
from cachekeep.backup.contents import Contents
from cachekeep.backup.extras import Vitals, databases_at, delete, extras, processes_at
from cachekeep.backup.functions import restore_functions
from cachekeep.backup.ledger import Ledger
from cachekeep.backup.moments import TOLD_SKEW_MS, by_clock_of
from cachekeep.backup.outcomes import FIRST_REASON, Outcome, Reasons
from cachekeep.backup.progress import OnProgress, Progress, unheard
from cachekeep.backup.routing import PATIENCE_S, Place, Routes
from cachekeep.backup.survey_types import Ability, Survey
from cachekeep.backup.walk import Walk
from cachekeep.backup.write_one import WriteEnded, is_about_key
from cachekeep.codec.dump import Unrepresentable, rdb_version_of
from cachekeep.codec.record import Record
from cachekeep.domain.remote import Refusal, Remote, RemoteError, RemoteFault

NAMED_LIMIT = 1000
_DELETED_AT_ONCE = 500


@dataclass(frozen=True)
class RestoreOptions:
    """databases None: all of the backup. expiry_tolerance_ms None: 0 where the target tells expiries exactly.

    delete_extra: of the chosen databases (None: all that the target has) remove keys that the backup does not have.
    patience_s: how long a target that went away is waited for each time.
    """

    dry_run: bool = False
    delete_extra: bool = False
    databases: frozenset[int] | None = None
    match: bytes | None = None
    expiry_tolerance_ms: int | None = None
    batch: int = 500
    patience_s: float = PATIENCE_S

    def __post_init__(self) -> None:
        if not 1 <= self.batch <= 3000:
            raise ValueError(f"a batch has 1 to 3000 keys, not {self.batch}")


@dataclass
class Counts:
    """Keys of one database. expired: their time came before the restore. refused: per reason."""

    kept: int = 0
    written: int = 0
    expired: int = 0
    deleted: int = 0
    refused: dict[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class RestoreReport:
    """refused: (database, key, why), at most NAMED_LIMIT of them. In a dry run everything is what would be.

    lost: why the target may not be as the backup says all the same, as a sentence.

    functions: `none`, `kept`, `written` or `refused: why`; `none` too where only some databases or keys were asked for.
    clock_shift_ms: expiries were moved by so much: the target's clock is so far ahead of the source's at its capture.
    """

    databases: dict[int, Counts]
    functions: str
    refused: tuple[tuple[int, bytes, str], ...]
    dry_run: bool
    seconds: float
    lost: str | None = None
    clock_shift_ms: int = 0

    @property
    def refused_keys(self) -> int:
        return sum(sum(counts.refused.values()) for counts in self.databases.values())

    @property
    def written(self) -> int:
        return sum(counts.written for counts in self.databases.values())

    @property
    def complete(self) -> bool:
        """Everything in the backup is now (in a dry run: would be) on the target."""
        return not self.refused_keys and not self.functions.startswith("refused") and self.lost is None


def restore(
    contents: Contents,
    target: Remote,
    survey: Survey,
    options: RestoreOptions | None = None,
    *,
    progress: OnProgress = unheard,
    stop: threading.Event | None = None,
) -> RestoreReport:
    """Raises RemoteError: the target cannot be written to, ceased to take writes, or is gone for too long; Halted.

    Whatever was raised, each key is whole, and the same call goes on where this one ended.
    """
    options, began = options or RestoreOptions(), time.monotonic()
    routes = Routes(target, survey, patience_s=options.patience_s, stop=stop)
    try:
        contents, shift_ms = by_clock_of(routes, contents)
        work = _Work(contents, routes, options, shift_ms)
        work.refuse_in_advance()
        before = _processes_before(routes)
        work.write(progress)
        work.take_back()
        functions = "none"
        if options.match is None and options.databases is None:
            functions = restore_functions(
                contents.functions(), routes, delete_extra=options.delete_extra, dry_run=options.dry_run
            )
        if options.delete_extra:
            work.delete_extra(progress)
        lost = _lost(before, processes_at(routes), target.name) or work.doubt()
        return work.report(functions, time.monotonic() - began, lost)
    except WriteEnded as ended:
        what = f"{target.name} takes no more keys, from {ended.key[:100]!r} in database {ended.db} on: {ended.refusal}"
        advice = f"{work.written:,} keys were written; {ended.advice}"
        raise RemoteError(RemoteFault.DENIED, what, advice) from ended
    finally:
        routes.close()


class _Work:
    """One restore."""

    def __init__(self, contents: Contents, routes: Routes, options: RestoreOptions, shift_ms: int) -> None:
        self._contents, self._routes, self._options, self._shift_ms = contents, routes, options, shift_ms
        self._reasons, self._ledgers = Reasons(), dict[int, Ledger]()
        self._named: dict[tuple[int, bytes], str] = {}
        self._deleted: Counter[int] = Counter()
        self._misplaced: Counter[int] = Counter()
        self.written = self.doubtful = 0

    def refuse_in_advance(self) -> None:
        """What can be known before anything is written. Raises RemoteError."""
        survey, name = self._routes.survey, self._routes.remote.name
        if survey.role == "replica":
            raise _denied(f"{name} is a replica and takes no writes", "name its primary")
        for ability in (Ability.DUMP, Ability.RESTORE):
            if not survey.can(ability) and not is_about_key(survey.denied[ability]):
                raise _denied(
                    f"{name} does not allow {ability.value}: {survey.denied[ability]}", "allow it to this user"
                )
        try:
            rdb_version_of(survey.target)
        except Unrepresentable as error:
            raise _denied(f"{name}: {error}", "restore into a newer one") from error
        if self._options.delete_extra:
            self._refuse_to_delete()

    def write(self, progress: OnProgress) -> None:
        options, contents = self._options, self._contents
        Walk(
            self._routes,
            Judge(self._routes.survey.target, self._tolerance_ms()),
            self._done,
            reasons=self._reasons,
            dry_run=options.dry_run,
            round_keys=options.batch,
            progress=progress,
            phase="restore",
            total_keys=contents.total_keys,
        ).run(self._placeable(contents.batches(options.databases, options.match)))

    def take_back(self) -> None:
        """Remove keys that were written as an older record of the backup says, and that a later one says are gone.

        A scan may give a key twice, and the later record may have expired since. Such keys are rare, so the backup is
        read for them once more. Where the target had the older record already, an interrupted restore may have written
        it, or somebody else: those are not removed, and told of. Raises RemoteError.
        """
        gone = (Outcome.EXPIRED, Outcome.ABSENT)
        self.doubtful = sum(len(ledger.ended_after(Outcome.KEPT, gone)) for ledger in self._ledgers.values())
        for db, ledger in self._ledgers.items():
            if self._options.dry_run or not (hashes := ledger.ended_after(Outcome.WRITTEN, gone)):
                continue
            keys = {
                record.key
                for records in self._contents.batches(frozenset({db}), self._options.match)
                for record in records
                if hash(record.key) in hashes
            }
            for key in sorted(keys):
                try:
                    delete(self._routes, self._routes.place_of(key), db, [key])
                except Refusal as refusal:
                    what = f"{self._routes.remote.name} keeps a key that expired meanwhile: {refusal}"
                    raise _denied(what, "allow UNLINK") from refusal

    def doubt(self) -> str | None:
        """Of keys that may have come back, as a sentence."""
        if not self.doubtful:
            return None
        name = self._routes.remote.name
        return (
            f"{self.doubtful:,} keys of {name} are as an older record of the backup says, and have expired by a later"
            " one: an interrupted restore may have brought them back; `backup diff` names them"
        )

    def delete_extra(self, progress: OnProgress) -> None:
        """Raises RemoteError: deleting was refused, or the backup showed damage on the way."""
        self._refuse_to_delete()
        options, checked = self._options, 0
        for db in databases_at(self._routes):
            if options.databases is not None and db not in options.databases:
                continue
            seen = set[int]()
            for place, keys in extras(self._routes, db, self._ledgers.get(db), options.match):
                checked += len(keys)
                for start in range(0, len(keys), _DELETED_AT_ONCE):
                    part = keys[start : start + _DELETED_AT_ONCE]
                    if options.dry_run:
                        seen.update(map(hash, part))
                        continue
                    try:
                        self._deleted[db] += delete(self._routes, place, db, part)
                    except Refusal as refusal:
                        raise _denied(
                            f"{self._routes.remote.name} deletes no keys: {refusal}", "allow UNLINK"
                        ) from refusal
                progress(Progress("delete", checked, 0))
            self._deleted[db] += len(seen)

    def report(self, functions: str, seconds: float, lost: str | None) -> RestoreReport:
        databases: dict[int, Counts] = {}
        for db in sorted({*self._ledgers, *self._misplaced, *(db for db, gone in self._deleted.items() if gone)}):
            counts = databases[db] = Counts(deleted=self._deleted[db])
            settled = self._ledgers[db].settled() if db in self._ledgers else Counter[int]()
            counts.kept, counts.written = settled[Outcome.KEPT], settled[Outcome.WRITTEN]
            counts.expired = settled[Outcome.EXPIRED]
            for number, keys in settled.items():
                if number >= FIRST_REASON:
                    counts.refused[self._reasons.text(number)] = keys
            if missing := self._misplaced[db]:
                counts.refused[self._why_misplaced(db)] = missing
        named = tuple((db, key, why) for (db, key), why in self._named.items())
        return RestoreReport(databases, functions, named, self._options.dry_run, seconds, lost, self._shift_ms)

    def _done(self, db: int, records: list[Record], outcomes: bytes, words: dict[int, str]) -> None:
        ledger = self._ledgers.get(db)
        if ledger is None:
            ledger = self._ledgers[db] = Ledger(absent=(Outcome.ABSENT, Outcome.EXPIRED))
        ledger.note([record.key for record in records], outcomes)
        self.written += outcomes.count(Outcome.WRITTEN)
        if self._named:
            for record in records:
                self._named.pop((db, record.key), None)
        if max(outcomes, default=0) >= FIRST_REASON:
            for record, outcome in zip(records, outcomes, strict=True):
                if outcome >= FIRST_REASON and len(self._named) < NAMED_LIMIT:
                    self._named[db, record.key] = self._reasons.text(outcome)

    def _placeable(self, batches: Iterable[list[Record]]) -> Iterable[list[Record]]:
        """Without records of databases that the target does not have: those are counted as refused."""
        survey = self._routes.survey
        limit = survey.database_limit
        if limit is None and self._routes.cluster:
            limit = 1
        for records in batches:
            if limit is None or all(record.db < limit for record in records):
                yield records
                continue
            for record in records:
                if record.db >= limit:
                    self._misplaced[record.db] += 1
                    if len(self._named) < NAMED_LIMIT:
                        self._named[record.db, record.key] = self._why_misplaced(record.db)
            if left := [record for record in records if record.db < limit]:
                yield left

    def _why_misplaced(self, db: int) -> str:
        if self._routes.cluster:
            return f"the target is a cluster without a database {db}"
        return f"the target has {self._routes.survey.database_limit} databases, and none with the number {db}"

    def _refuse_to_delete(self) -> None:
        """A key may only be taken for unknown to a backup that knows everything."""
        if why := self._contents.why_partial(self._options.match):
            raise _denied(f"nothing is deleted: {why}", "leave --delete-extra away, or take a complete backup")
        scope, wanted = getattr(self._contents, "scope", None), self._options.databases
        if scope is not None and (wanted is None or not wanted <= scope):
            held = ", ".join(map(str, sorted(scope)))
            raise _denied(f"nothing is deleted: the backup has only database {held}", f"add --db {held}")

    def _tolerance_ms(self) -> int:
        chosen = self._options.expiry_tolerance_ms
        if chosen is None:
            # The distance of clocks is measured anew each time.
            return TOLD_SKEW_MS if self._shift_ms else tolerance_of(self._routes.survey)
        return chosen


def _processes_before(routes: Routes) -> Mapping[Place, Vitals]:
    """As they are now; of a target that is away, as the survey found them: it may come back."""
    try:
        return processes_at(routes)
    except RemoteError as error:
        if error.fault is not RemoteFault.UNREACHABLE:
            raise
        return {Place(node.host, node.port): Vitals(node.run_id, None) for node in routes.survey.nodes}


def _lost(before: Mapping[Place, Vitals], after: Mapping[Place, Vitals], name: str) -> str | None:
    """What a target did with keys meanwhile that nobody asked for."""
    if set(before) != set(after) or any(after[place].run_id != seen.run_id for place, seen in before.items()):
        return f"{name} was restarted or failed over meanwhile and may have lost what was written: run it again"
    counts = [(seen.evicted, after[place].evicted) for place, seen in before.items()]
    if evicted := sum((late or 0) - early for early, late in counts if early is not None):
        return f"{name} evicted {evicted:,} keys meanwhile, for want of memory: give it more, then run it again"
    return None


def _denied(what: str, advice: str) -> RemoteError:
    return RemoteError(RemoteFault.DENIED, what, advice)
