"""A copy: everything between an endpoint and a finished generation. For `backup run` and snapshots; reads only.

The order: choose the method; begin a generation, or go on with one that was interrupted; a lane per node; what moved
meanwhile; functions; the verdict, last. What keeps the copy from being whole is a named gap; what keeps it from going
on is an error, and leaves an unfinished generation that the next run resumes.
"""

from __future__ import annotations

import threading
import time
from functools import partial

from cachekeep.backup.catalog import Repository
from cachekeep.backup.catalog_objects import Gap
from cachekeep.backup.copy_begin import Source, begin, source_of
from cachekeep.backup.copy_functions import copy_functions
from cachekeep.backup.copy_method import choose
from cachekeep.backup.copy_psync import Torn, copy_by_psync
from cachekeep.backup.copy_run import Run, Tally, in_threads, keyspace
from cachekeep.backup.copy_types import CopyOptions, CopyReport, Method, Stopped
from cachekeep.backup.interruptions import Journal, now_ms
from cachekeep.backup.lanes import copy_lane
from cachekeep.backup.moved_slots import asks_whether_left, read_moved_slots
from cachekeep.backup.pacing import Halt, Halted, Pace
from cachekeep.backup.progress import OnProgress, unheard
from cachekeep.backup.survey_types import Ability, Node, Survey
from cachekeep.backup.topology import slots_to_read_again, topology
from cachekeep.domain.remote import Refusal, Remote, RemoteError, RemoteFault, ScratchEngines

__all__ = ["CopyOptions", "CopyReport", "Stopped", "choose", "copy"]


def copy(
    remote: Remote,
    survey: Survey,
    repository: Repository,
    options: CopyOptions,
    *,
    scratch: ScratchEngines | None,
    progress: OnProgress = unheard,
    stop: threading.Event | None = None,
) -> CopyReport:
    """Copy what `survey` found behind `remote`. stop: set it to end early; what is done then can be resumed.

    Raises RemoteError: the source is gone, or refuses what a copy needs; Stopped; BlobError, CatalogError: the
    repository. Then the generation is unfinished; one that came to its end has a verdict, with gaps if need be.
    """
    _refuse_in_advance(survey, options)
    method, why = choose(survey, options, scratch)
    work = _Copy(remote, survey, repository, options, progress, stop)
    if method == "psync":
        try:
            return work.by_psync(why)
        except Refusal as refusal:
            if options.source == "psync":
                what = f"{survey.name} refuses PSYNC: {refusal}"
                raise RemoteError(RemoteFault.DENIED, what, "leave `--source psync` away to copy by SCAN") from refusal
            why = f"SCAN, since PSYNC was refused: {refusal}"
        except Torn as torn:
            if options.source == "psync":
                raise
            why = f"SCAN, which follows slots that move: {torn.what}"
    return work.by_scan(why)


def _refuse_in_advance(survey: Survey, options: CopyOptions) -> None:
    """What cannot be proved by any copy. Raises RemoteError."""
    limit = survey.database_limit
    absent = sorted(db for db in options.databases or () if limit is not None and db >= limit)
    if absent:
        what = f"{survey.name} has {limit} databases, and none with the number {', '.join(map(str, absent))}"
        raise RemoteError(RemoteFault.DENIED, what, f"ask for 0 to {limit - 1 if limit else 0}")
    if not survey.can(Ability.DUMP) and not (options.source != "scan" and survey.can(Ability.PSYNC)):
        what = f"{survey.name} does not allow DUMP: {survey.denied[Ability.DUMP]}"
        raise RemoteError(RemoteFault.DENIED, what, "allow SCAN and DUMP to this user")


class _Copy:
    """One call of `copy`."""

    def __init__(
        self,
        remote: Remote,
        survey: Survey,
        repository: Repository,
        options: CopyOptions,
        progress: OnProgress,
        stop: threading.Event | None,
    ) -> None:
        self._remote, self._survey, self._repository = remote, survey, repository
        self._options, self._progress, self._stop = options, progress, stop
        self._journal = Journal()
        self._began, self._began_ms = time.monotonic(), now_ms()
        self._source = Source(survey, (), None)

    def by_scan(self, why: str) -> CopyReport:
        run, resumed = self._begin("scan")
        source = self._source
        try:
            if source.topology:
                run.left = asks_whether_left(run, source.topology)
            run.tally.phase("keys")
            in_threads(run, [partial(copy_lane, run, node) for node in source.nodes])
            gaps: list[Gap] = []
            if source.topology:
                now, gaps = read_moved_slots(run, source.topology)
                self._source = source_of(self._survey, now)
            gaps += copy_functions(run, list(self._source.nodes))
        except Halted:
            self._journal.flush()
            raise Stopped(run.generation.name, resumable=True) from None
        except RemoteError:
            self._journal.flush()
            raise
        return self._finished(run, "scan", why, gaps, resumed)

    def by_psync(self, why: str) -> CopyReport:
        """Raises Refusal, in the server's words, where PSYNC is refused after all."""
        run = copy_by_psync(self._begin_psync, self._torn, self._repository)
        run.tally.keys = {db: size.keys for db, size in self._survey.databases.items()}
        self._journal.note(
            "the number of keys is what the source's INFO counted before, expired ones that were not yet removed"
            " included: an RDB stream is not parsed"
        )
        return self._finished(run, "psync", why, [], resumed=False)

    def _begin(self, method: Method) -> tuple[Run, bool]:
        addresses = [(node.host, node.port) for node in self._survey.nodes]
        seen = topology(self._remote, addresses) if self._survey.mode == "cluster" else None
        self._source = source_of(self._survey, seen)
        generation, resumed = begin(self._repository, self._source, self._options, method, self._journal)
        halt = Halt(self._stop)
        options, total = self._options, self._wanted_keys()
        pace = Pace(options.max_keys_per_s, halt.wait)
        tally = Tally(self._progress, total)
        run = Run(self._remote, self._survey, options, generation, self._journal, halt, pace, tally)
        if resumed:
            run.resume_points = generation.resume_points()
            for entry in generation.entries:
                if entry.kind in ("base", "changes"):
                    tally.add(entry.db, entry.records, entry.bytes)
        return run, resumed

    def _begin_psync(self) -> tuple[Run, tuple[Node, ...]]:
        run, _ = self._begin("psync")
        return run, self._source.nodes

    def _wanted_keys(self) -> int | None:
        """None where only the source could tell how many match."""
        if self._options.match is not None:
            return None
        wanted = self._options.databases
        return sum(size.keys for db, size in self._survey.databases.items() if wanted is None or db in wanted)

    def _torn(self) -> str | None:
        """In cluster mode, why the streams of the nodes do not make one copy."""
        before = self._source.topology
        if before is None:
            return None
        after = topology(self._remote, [(owner.host, owner.port) for owner in before.owners])
        moved = slots_to_read_again(before, after)
        return f"{len(moved)} slots of {self._survey.name} moved while its nodes sent their data" if moved else None

    def _finished(self, run: Run, method: Method, why: str, gaps: list[Gap], resumed: bool) -> CopyReport:
        journal = self._journal
        ended_ms = now_ms()
        for reason, keys in sorted(journal.skipped.items()):
            sentence = f"{keys} {'key' if keys == 1 else 'keys'} skipped: {reason}"
            gaps.append(Gap(start_ms=self._began_ms, end_ms=ended_ms, reason=sentence))
        present = _keyspace(run, self._source.nodes)
        journal.flush()
        end = run.generation.finish(gaps, skipped=journal.skipped, vanished=journal.vanished, keyspace=present)
        return CopyReport(
            generation=run.generation.name,
            method=method,
            why=why,
            verdict=end.verdict,
            gaps=end.gaps,
            keys=dict(sorted(run.tally.keys.items())),
            bytes=sum(entry.bytes for entry in run.generation.entries),
            skipped=dict(journal.skipped),
            vanished=journal.vanished,
            interruptions=journal.interruptions,
            resumed=resumed,
            seconds=time.monotonic() - self._began,
            notes=tuple(journal.notes),
        )


def _keyspace(run: Run, nodes: tuple[Node, ...]) -> dict[str, dict[str, int]]:
    """INFO KEYSPACE summed over the nodes, for explaining differences later; empty when one of them does not tell."""
    total: dict[str, dict[str, int]] = {}
    for node in nodes:
        try:
            with run.connect(node) as connection:
                found = keyspace(connection)
        except (Refusal, RemoteError) as error:
            run.journal.note(f"INFO KEYSPACE of {node.lane} at the end is not known: {error}")
            return {}
        for db, sizes in found.items():
            held = total.setdefault(str(db), {})
            for which, number in sizes.items():
                held[which] = held.get(which, 0) + number
    return total
