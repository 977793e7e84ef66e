"""Prove a backup: its digests; what a living endpoint has, key by key; that an engine loads it. Called by the commands.

Never by counts: how they differ from INFO KEYSPACE is shown and explained, and proves nothing.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from cachekeep.backup.catalog import Repository, Status
from cachekeep.backup.catalog_chain import Finding, Place, verify_chain
from cachekeep.backup.contents import GenerationContents, open_generation
from cachekeep.backup.coverage import contradictions, unexplained
from cachekeep.backup.diff import DiffReport, diff
from cachekeep.backup.keyspace import KeyspaceRow, keyspace_rows
from cachekeep.backup.moments import Coverage, coverage_of
from cachekeep.backup.progress import OnProgress, Progress, unheard
from cachekeep.backup.restore import RestoreReport, restore
from cachekeep.backup.shifted import Shifted
from cachekeep.backup.survey import survey as look
from cachekeep.backup.survey_types import Survey
from cachekeep.codec.dump import Target, Unrepresentable, rdb_version_of
from cachekeep.domain.engine import Engine, EngineVersion
from cachekeep.domain.remote import Remote, ScratchEngines, ScratchError

_LEAST_DATABASES = 16


@dataclass(frozen=True)
class DeepReport:
    """What came of loading the backup into an engine.

    loaded: how writing every key into it went. differences: the backup against what is in it then. keys: per database.
    """

    engine: str
    loaded: RestoreReport
    differences: DiffReport
    keys: dict[int, int]

    @property
    def proved(self) -> bool:
        return self.loaded.complete and not self.differences.differs


@dataclass(frozen=True)
class VerifyReport:
    """findings: what is wrong with the files. notes: sentences. against: the living endpoint compared with the backup.

    A difference from a living endpoint may be a change since the copy: nothing on the endpoint tells which.
    at_ms: the moment that was judged, by the source's clock: the one asked for, or the last one that is covered; None
    where no moment is.
    """

    generation: str
    status: Status
    findings: tuple[Finding, ...]
    keyspace: tuple[KeyspaceRow, ...]
    deep: DeepReport | None
    against: DiffReport | None
    notes: tuple[str, ...]
    seconds: float
    at_ms: int | None = None

    @property
    def intact(self) -> bool:
        """Every byte is the one that was written."""
        return not self.findings

    @property
    def proved(self) -> bool:
        """Everything that was asked for, and the backup knows of no gap; of one that was followed, of its moment."""
        deep = self.deep is None or self.deep.proved
        against = self.against is None or not self.against.differs
        whole = self.status is Status.COMPLETE or (self.status is not Status.DAMAGED and self.at_ms is not None)
        return self.intact and whole and deep and against


def verify(
    repository: Repository,
    name: str,
    *,
    at_ms: int | None = None,
    against: tuple[Remote, Survey] | None = None,
    deep: bool = False,
    scratch: ScratchEngines,
    progress: OnProgress = unheard,
    stop: threading.Event | None = None,
) -> VerifyReport:
    """at_ms: the moment that `deep` and `against` look at, by the source's clock; None: the last one that is covered.

    Raises CatalogError(ABSENT; STATE for a moment that is not covered), BlobError, RemoteError; ScratchError when no
    engine will do for `deep`; Halted.
    """
    began, read = time.monotonic(), 0

    def tell(place: Place) -> None:
        nonlocal read
        read += place.entry.bytes if place.entry else 0
        progress(Progress("digests", 0, read))

    findings = tuple(verify_chain(repository, name, progress=tell))
    generation = repository.generation(name)
    if findings and not generation.objects.end:  # while it is written, a listing may be of no single moment
        findings = tuple(verify_chain(repository, name, progress=tell))
    covered = coverage_of(repository, generation)
    findings += tuple(_false_claims(covered))
    notes = _notes_on(covered)
    loaded: DeepReport | None = None
    compared: DiffReport | None = None
    if findings and (deep or against):
        notes.append("it is damaged, so what is still whole of it was neither loaded nor compared")
    elif deep or against:
        with open_generation(repository, name, scratch, unfinished=True, at_ms=at_ms) as contents:
            at_ms = contents.at_ms
            if deep:
                loaded = _deep(contents, scratch, progress, stop)
            if against:
                databases, match = contents.scope, contents.glob
                compared = diff(contents, *against, databases=databases, match=match, progress=progress, stop=stop)
    keys = _keys(loaded, compared)
    rows = keyspace_rows(generation, keys)
    seconds = time.monotonic() - began
    judged_ms = covered.latest_ms if at_ms is None else at_ms
    return VerifyReport(name, generation.status, findings, rows, loaded, compared, tuple(notes), seconds, judged_ms)


def _false_claims(covered: Coverage) -> Iterator[Finding]:
    """What the entries say that they cover, held against each other and against the log."""
    name, entries = covered.generation.name, covered.entries
    for number, what in contradictions(entries, covered.noted):
        yield Finding(name, what, number, None if number is None else entries[number - 1].segment)


def _notes_on(covered: Coverage) -> list[str]:
    notes = [] if covered.method == "poll" else unexplained(covered.gaps)
    if covered.generation.status is Status.OPEN and not covered.stretches:
        notes.append("it is open and covers no moment yet: its copy is not whole")
    return notes


def _deep(
    contents: GenerationContents, scratch: ScratchEngines, progress: OnProgress, stop: threading.Event | None
) -> DeepReport:
    """Load it. Expiries are set off by a hundred years on both sides, so that nothing expires while it is proved."""
    with _engine_for(contents, scratch) as (engine, remote):
        away, seen = Shifted(contents), look(remote)
        loaded = restore(away, remote, seen, progress=progress, stop=stop)
        differences = diff(away, remote, look(remote), progress=progress, stop=stop)
    keys = {db: counts.left for db, counts in differences.databases.items()}
    return DeepReport(engine, loaded, differences, keys)


@contextmanager
def _engine_for(contents: GenerationContents, scratch: ScratchEngines) -> Iterator[tuple[str, Remote]]:
    """An empty engine that can hold what the source held."""
    head = contents.head
    if head is None:
        raise ScratchError(f"{contents.name} has no whole head.json, and nothing else says which engine it is of")
    engine = Engine(head.engine)
    try:
        version = rdb_version_of(Target(engine, EngineVersion.parse(head.engine_version)))
    except (Unrepresentable, ValueError) as error:
        raise ScratchError(f"{contents.name} is of {head.engine} {head.engine_version}: {error}") from error
    install = scratch.for_rdb(engine, version)
    if install is None:
        raise ScratchError(
            f"no engine on this machine holds what {engine.label} {head.engine_version} held; install one as new"
        )
    databases = max([_LEAST_DATABASES, *(number + 1 for number in contents.databases())])
    with scratch.empty(install, databases) as remote:
        yield str(install), remote


def _keys(deep: DeepReport | None, against: DiffReport | None) -> dict[int, int]:
    """Per database, each key once, where the keys themselves were read."""
    if deep:
        return deep.keys
    return {db: counts.left for db, counts in against.databases.items()} if against else {}
