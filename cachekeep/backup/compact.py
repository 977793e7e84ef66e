"""Make a followed backup smaller: the state at the first kept moment as its new copy, later changes in few segments.

A new generation is written beside the old one, read back and proved equal to it, and only then the old one is removed.
Interrupted anywhere, the old one is as it was; what was written of the new one is removed by the next compaction of it.
Called by the command `compact`.
"""

from __future__ import annotations

import secrets
import sqlite3
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from cachekeep.backup.catalog import CatalogError, CatalogFault, Generation, Objects, Repository, Status, generations_in
from cachekeep.backup.catalog_objects import DamagedObjectError, Gap, Head
from cachekeep.backup.compact_plan import Plan, plan_of
from cachekeep.backup.compact_prove import is_kept, prove
from cachekeep.backup.compact_state import States
from cachekeep.backup.compact_write import Source, write_base, write_changes, write_stream
from cachekeep.backup.coverage import gap_of, moment_text
from cachekeep.backup.interruptions import Journal
from cachekeep.backup.lease import is_alive, last_sign_ms, moment_ms
from cachekeep.backup.moments import skew_ms
from cachekeep.backup.pacing import Halted
from cachekeep.backup.progress import OnProgress, Progress, unheard
from cachekeep.backup.reader import GenerationReader, read_log
from cachekeep.backup.scratch_lanes import head_of
from cachekeep.backup.writer import GenerationWriter
from cachekeep.domain.blobs import BlobError

_LOG_LINES = 5000
_STREAMED_NOTE = "it stays whole: a copy of a later moment of it cannot be made without its engine"


@dataclass(frozen=True)
class Compaction:
    """made: the new generation; None: nothing was written, because of dry_run or of note.

    since_ms..until_ms: what stays restorable (by the source's clock), gaps excepted. segments, bytes: before and after;
    after is None where nothing was written. moments: so many states were compared.
    """

    name: str
    made: str | None
    since_ms: int
    until_ms: int
    segments: tuple[int, int | None]
    bytes: tuple[int, int | None]
    moments: int = 0
    note: str | None = None


def followed(repository: Repository) -> list[Generation]:
    """Those that a compaction of all looks at, oldest first: not what an interrupted one left."""
    return [
        one
        for one in repository.generations()
        if one.head and one.head.options.get("follow") and not (one.end is None and origin_of(repository, one.name))
    ]


def compact(
    repository: Repository,
    name: str,
    *,
    before_ms: int | None = None,
    dry_run: bool = False,
    progress: OnProgress = unheard,
    stop: threading.Event | None = None,
    now_ms: Callable[[], int] = lambda: time.time_ns() // 1_000_000,
) -> Compaction:
    """before_ms: moments before it are given up, by this machine's clock; None: none are.

    Raises CatalogError: STATE, it is being written or was not followed; DAMAGED. Halted: stop was set. BlobError,
    SegmentError, OSError.
    """
    generation = repository.generation(name)
    if (half := _half_removed(repository, generation)) and not dry_run:
        return half
    _refuse(repository, generation, now_ms())
    reader = GenerationReader.open(repository, name, unfinished=True)
    plan = plan_of(name, reader.chain.entries, None if before_ms is None else before_ms + skew_ms(generation.head))
    note = _STREAMED_NOTE if plan.streamed and before_ms is not None else None
    if dry_run or not plan.worth:
        why = note if plan.worth else "it has few segments already: there is nothing to gain"
        return _told(repository, generation, None, plan, why)
    work = _Work(repository, generation, reader, plan, progress, stop, now_ms)
    with work.indexed():
        made = work.finished_twin() or work.write()
    repository.remove(name)
    return _told(repository, generation, made, plan, note)


class _Work:
    """One compaction."""

    def __init__(
        self,
        repository: Repository,
        old: Generation,
        reader: GenerationReader,
        plan: Plan,
        progress: OnProgress,
        stop: threading.Event | None,
        now_ms: Callable[[], int],
    ) -> None:
        self._repository, self._old, self._reader, self._plan = repository, old, reader, plan
        self._progress, self._stop, self._now_ms = progress, stop, now_ms
        self._secret = secrets.token_bytes(16)
        self._source = Source(repository, reader.chain, plan, self._check)
        self._states: States | None = None
        self._folder = Path()

    @contextmanager
    def indexed(self) -> Iterator[None]:
        """What the old one's keys are at some moments is known meanwhile."""
        try:
            with ExitStack() as stack:
                made = tempfile.TemporaryDirectory(prefix="cachekeep-compact-")
                self._folder = Path(stack.enter_context(made))
                if not self._plan.streamed:
                    states = States(self._folder / "states", self._plan.moments, self._secret)
                    self._states = stack.enter_context(states)
                    self._source.feed(self._states, self._tell)
                yield
        except sqlite3.Error as error:
            what = f"the index in {tempfile.gettempdir()} failed: {error}"
            advice = f"free space there or set TMPDIR; {self._old.name} is as it was"
            raise CatalogError(CatalogFault.STATE, what, advice) from error

    def finished_twin(self) -> str | None:
        """What an earlier compaction wrote to its end, proved again. What others left half done is removed."""
        for twin in _twins(self._repository, self._old.name):
            if twin.end is None:
                self._repository.remove(twin.name)
                continue
            first_ms = _origin_line(self._repository, twin.name).get("first_ms")
            if twin.status is not Status.DAMAGED and first_ms == self._plan.since_ms:
                self._prove(twin.name)
                self._refuse_changed()
                return twin.name
        return None

    def write(self) -> str:
        """The new generation, proved. Whatever fails, it is removed again."""
        # A little older by name, so that whoever looks for the newest finds the old one while both are there.
        began_ms = moment_ms(self._old.name) - 1
        writer = GenerationWriter.begin(self._repository, self._head(), now_ms=lambda: began_ms)
        try:
            self._write_log(writer)
            if self._states is None:
                write_stream(writer, self._source)
            else:
                write_base(writer, self._source, self._states)
                write_changes(writer, self._source, self._states)
            self._finish(writer)
            self._prove(writer.name)
            self._refuse_changed()
        except BaseException as error:
            self._take_back(writer.name, error)
            raise
        return writer.name

    def _head(self) -> Head:
        head = head_of(self._reader)
        if self._states is None:
            return head
        keys = {str(db): count for db, count in sorted(self._states.keys.items())}
        return msgspec.structs.replace(head, databases=keys)

    def _write_log(self, writer: GenerationWriter) -> None:
        """Where it comes from, first; then what the old one's log says, but for gaps before the first kept moment."""
        origin = {
            "event": "compacted",
            "at_ms": self._now_ms(),
            "from": self._old.name,
            "entries": len(self._reader.chain.places),
            "first_ms": self._plan.since_ms,
        }
        lines: list[dict[str, Any]] = [origin]
        for line in self._reader.log_lines():
            gap = gap_of(line)
            if gap is None or is_kept(gap, self._plan.since_ms):
                lines.append(line)
            if len(lines) >= _LOG_LINES:
                writer.log(lines)
                lines = []
        if lines:
            writer.log(lines)

    def _finish(self, writer: GenerationWriter) -> None:
        """With the verdict of the old one; for one that was left open, of what it covers."""
        if end := self._old.end:
            writer.finish(
                end.gaps, skipped=end.skipped, vanished=end.vanished, keyspace=end.keyspace, ended_ms=end.ended_ms
            )
            return
        journal = Journal()
        journal.remember(self._reader.log_lines())
        until_ms = self._plan.until_ms
        tail = [entry for entry in self._reader.chain.entries if (entry.last_ms or 0) > until_ms]
        gaps = [Gap(start_ms=until_ms, end_ms=None, reason=_reason(self._reader, until_ms))] if tail else []
        writer.finish(gaps, skipped=journal.skipped, ended_ms=until_ms - skew_ms(self._old.head))

    def _prove(self, name: str) -> None:
        self._progress(Progress("prove", 0, 0))
        prove(self._repository, self._reader, name, self._plan, self._states, self._folder, self._secret, self._check)

    def _refuse_changed(self) -> None:
        """A run that went on with the old one meanwhile has written to it."""
        now = self._repository.generation(self._old.name)
        if now.objects != self._old.objects:
            what = f"{self._old.name} was written to while it was compacted"
            raise CatalogError(CatalogFault.STATE, what, "it stays as it is; do it again once its capture has ended")

    def _take_back(self, name: str, error: BaseException) -> None:
        try:
            self._repository.remove(name)
        except BlobError as left:
            error.add_note(f"what was written of {name} could not be removed ({left.what}); the next compaction does")

    def _tell(self, records: int, size: int) -> None:
        self._progress(Progress("read", records, size))

    def _check(self) -> None:
        if self._stop is not None and self._stop.is_set():
            raise Halted(f"the compaction of {self._old.name} was stopped; it is as it was")


def _refuse(repository: Repository, one: Generation, now_ms: int) -> None:
    """Raises CatalogError for what cannot be compacted."""
    if one.status is Status.DAMAGED:
        raise CatalogError(CatalogFault.DAMAGED, "; ".join(one.problems[:3]), "`backup verify` names what is whole")
    if one.head is None or not one.head.options.get("follow"):
        what = f"{one.name} is a copy that was not followed"
        raise CatalogError(CatalogFault.STATE, what, "there are no changes in it that could be compacted")
    if one.end is not None:
        return
    if origin := origin_of(repository, one.name):
        what = f"{one.name} is what an interrupted compaction of {origin} left"
        raise CatalogError(CatalogFault.STATE, what, f"compact {origin} again: that removes it")
    sign_ms = last_sign_ms(repository, one)
    if sign_ms is not None and is_alive(one, sign_ms, now_ms):
        what = f"{one.name} is being written (last sign of it: {moment_text(sign_ms)})"
        advice = "a rollover of its capture ends it, or stop the capture; after a crash it counts as ended a day later"
        raise CatalogError(CatalogFault.STATE, what, advice)


def _half_removed(repository: Repository, one: Generation) -> Compaction | None:
    """The removal of a compacted one was interrupted: go on with it."""
    if one.end is not None or one.status is not Status.OPEN:
        return None
    for twin in _twins(repository, one.name):
        line = _origin_line(repository, twin.name)
        # Entries go only once the new one is proved.
        if twin.status in (Status.COMPLETE, Status.GAPS) and len(one.objects.entries) < line["entries"]:
            reader = GenerationReader.open(repository, twin.name)
            plan = plan_of(twin.name, reader.chain.entries, None)
            repository.remove(one.name)
            return _told(repository, one, twin.name, plan, "the removal of the old one was gone on with")
    return None


def _twins(repository: Repository, name: str) -> list[Generation]:
    """What compactions of it wrote; with a head alone, one that died before it could say so."""
    began_ms = moment_ms(name) - 1
    near = [one for one, has in generations_in(repository.blobs).items() if moment_ms(one) == began_ms]
    found = [repository.generation(one) for one in sorted(near)]
    return [one for one in found if one.objects == Objects(head=True) or origin_of(repository, one.name) == name]


def origin_of(repository: Repository, name: str) -> str | None:
    """The generation that it was compacted from."""
    origin = _origin_line(repository, name).get("from")
    return origin if isinstance(origin, str) else None


def _origin_line(repository: Repository, name: str) -> dict[str, Any]:
    try:
        lines = read_log(repository, name, 1)
    except (DamagedObjectError, BlobError):  # it has none, or a damaged one: `verify` names that
        return {}
    return lines[0] if lines and lines[0].get("event") == "compacted" else {}


def _reason(reader: GenerationReader, until_ms: int) -> str:
    """Why not everything behind the last covered moment is known."""
    noted = [line for line in reader.log_lines() if line.get("event") in ("gap", "gap-open")]
    reasons = [str(line.get("reason")) for line in noted if (line.get("end_ms") or until_ms + 1) > until_ms]
    return reasons[-1] if reasons else "the capture ended before everything was known again"


def _told(repository: Repository, old: Generation, made: str | None, plan: Plan, note: str | None) -> Compaction:
    def size_of(one: Generation) -> int:
        return sum(one.objects.segments.values())

    new = repository.generation(made) if made else None
    return Compaction(
        name=old.name,
        made=made,
        since_ms=plan.since_ms,
        until_ms=plan.until_ms,
        segments=(len(old.objects.entries), len(new.objects.entries) if new else None),
        bytes=(size_of(old), size_of(new) if new else None),
        moments=0 if plan.streamed or not made else len(plan.moments),
        note=note,
    )
