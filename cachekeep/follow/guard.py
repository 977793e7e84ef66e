"""Watch over an upgrade: capture every change before, through and after it, then prove that nothing is missing.

The facade; called by the command. Its order: follow until continuity is proved; let the upgrade happen; wait until the
endpoint is back and continuity is claimed again; compare what it has with what it has to have; put back what is
missing, where that is wished; compare again.

What it has to have (follow.guard_expected): the state at the last covered moment before the outage, and every change
that was announced since. A key that differs is one of three things:
- lost: it is not there, and no deletion was announced;
- went back: it is as an older record of it in the backup says, or there again though it was deleted;
- changed: it has a value that no record knows. That is a write which came after the endpoint was back and before the
  capture was: it is kept.
A key that is written while we compare is left out, and one that changes before it would be put back is left alone.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import replace

from cachekeep.backup.catalog import Repository, Status
from cachekeep.backup.contents import open_generation
from cachekeep.backup.coverage import moment_text
from cachekeep.backup.interruptions import now_ms
from cachekeep.backup.progress import OnProgress, unheard
from cachekeep.backup.reader import GenerationReader
from cachekeep.backup.survey import survey as look
from cachekeep.backup.survey_types import Survey
from cachekeep.codec.segment import Record
from cachekeep.domain.remote import Remote, RemoteError, RemoteFault, ScratchEngines
from cachekeep.follow.choose import choose
from cachekeep.follow.follow import follow
from cachekeep.follow.guard_compare import Comparison, Seen, classes
from cachekeep.follow.guard_expected import Expected, flushed_since, signalled_since
from cachekeep.follow.guard_herald import Heard, Heralds
from cachekeep.follow.guard_past import ANNOUNCED, Past
from cachekeep.follow.guard_restore import Restorer
from cachekeep.follow.guard_types import (
    RESTORED,
    Findings,
    GuardOptions,
    GuardReport,
    Offer,
    Place,
    Restored,
    Upgrade,
    Verdict,
    downtime_of,
)
from cachekeep.follow.guard_watch import Watch
from cachekeep.follow.types import Choice, FollowReport, FollowStatus, OnNews, OnStatus

_PAUSE_S = 0.25


class NotBack(RemoteError):
    """The source stayed away for longer than it is waited for. Nothing is proved; what was captured is kept."""


def choose_for_guard(remote: Remote, survey: Survey, options: GuardOptions, scratch: ScratchEngines | None) -> Choice:
    """Key by key where the server announces changes; PSYNC, which a restart of the source ends, only where asked for.

    Raises RemoteError(DENIED).
    """
    if options.follow.source != "auto":
        return choose(remote, survey, options.follow, scratch)
    refused: RemoteError | None = None
    for method in (*ANNOUNCED, "poll"):
        try:
            return choose(remote, survey, replace(options.follow, source=method), scratch)
        except RemoteError as error:
            if error.fault is not RemoteFault.DENIED:
                raise
            refused = error
    assert refused is not None  # noqa: S101 - the loop ran
    raise refused


def guard(
    remote: Remote,
    survey: Survey,
    repository: Repository,
    options: GuardOptions,
    *,
    scratch: ScratchEngines,
    upgrade: Upgrade,
    offer: Offer,
    on_status: OnStatus = lambda status: None,
    on_news: OnNews = lambda sentence: None,
    progress: OnProgress = unheard,
    stop: threading.Event | None = None,
) -> GuardReport:
    """upgrade: returns when it is done, with the exit code of its command, None without one. offer: whether to put back
    what is missing; asked only where something is, and where it is certain.

    Raises NotBack; RemoteError, Halted, and what reading and writing the backup raises.
    """
    stop = stop or threading.Event()
    choice = choose_for_guard(remote, survey, options, scratch)
    follow_options = replace(options.follow, source=choice.method, rollover_s=0.0, heartbeat_s=1.0)

    def capture(told: OnStatus, end: threading.Event) -> FollowReport:
        return follow(
            remote, survey, repository, follow_options, scratch=scratch, on_status=told, on_news=on_news, stop=end
        )

    with Watch(capture, on_status, stop) as watch:
        work = _Guard(remote, survey, repository, options, choice, scratch, watch, on_news, progress, stop)
        return work.run(upgrade, offer)


class _Guard:
    """One upgrade."""

    def __init__(
        self,
        remote: Remote,
        survey: Survey,
        repository: Repository,
        options: GuardOptions,
        choice: Choice,
        scratch: ScratchEngines,
        watch: Watch,
        news: OnNews,
        progress: OnProgress,
        stop: threading.Event,
    ) -> None:
        self._remote, self._before, self._repository, self._options = remote, survey, repository, options
        self._choice, self._scratch, self._watch = choice, scratch, watch
        self._news, self._progress, self._stop = news, progress, stop
        self._heard, self._began = Heard(), time.monotonic()

    def run(self, upgrade: Upgrade, offer: Offer) -> GuardReport:
        self._news(f"capturing by {self._choice.why}")
        begun = self._watch.proved()
        self._news("every change is captured and durable from here on: the upgrade may begin")
        upgrade_began_ms = _there_ms(self._before)
        with Heralds(self._remote, self._before, self._choice.method) as heralds:
            command = upgrade(lambda: self._watch.ended)
            after = self._back(begun)
            self._heard = heralds.heard()
        past = Past.of(self._repository, begun, upgrade_began_ms)
        doubts = list(past.doubts(self._choice.method, self._before, after))
        moment_ms = past.covered.until_ms
        self._news("comparing every key with what the backup says that there has to be")
        with open_generation(self._repository, begun.generation, self._scratch, at_ms=moment_ms) as at:
            expected = Expected(at, self._repository, moment_ms)
            found, seen = self._compare(expected, after, {})
            doubts += past.doubts_of(found, self._heard)
            left, restored = found, None
            written = len(expected.written_since(past.back_ms)) if found.to_restore else None
            if found.to_restore and not doubts and offer(found):
                restored, left = self._restore(expected, after, found, seen)
        return self._report(begun, command, after, past, found, left, restored, written, doubts)

    # The upgrade

    def _back(self, begun: FollowStatus) -> Survey:
        """Wait until the endpoint answers, and every change up to then is known and durable. Raises NotBack."""
        try:
            after = self._look()
            self._watch.proved(_there_ms(after))
        except RemoteError as error:
            if error.fault is not RemoteFault.UNREACHABLE:
                raise
            text = moment_text(begun.durable_until_ms or 0)
            advice = f"what was captured is kept: `backup restore --at` has every moment up to {text} at least"
            raise NotBack(error.fault, error.what, advice) from error
        return after

    def _look(self) -> Survey:
        """What the endpoint is now, however long it stays away: the capture's patience ends that."""
        while True:
            try:
                return look(self._remote)
            except RemoteError as error:
                if error.fault is not RemoteFault.UNREACHABLE:
                    raise
            self._watch.until(lambda status: True)
            self._stop.wait(_PAUSE_S)

    # The comparison

    def _compare(
        self, expected: Expected, after: Survey, ours: dict[Place, bytes | None]
    ) -> tuple[Findings, dict[Place, Seen]]:
        """What is missing by now, and how it was seen. ours: what we wrote. Raises RemoteError, Halted, ..."""
        settings = self._options
        looked = Comparison(
            expected,
            self._remote,
            after,
            patience_s=settings.patience_s,
            stop=self._stop,
            progress=self._progress,
        )
        # A key may have been written after it was compared, or before and not be told of yet.
        self._watch.proved(_there_ms(after))
        name = expected.name
        written = frozenset(signalled_since(self._repository, name, expected.entries, ours)) & frozenset(looked.seen)
        written |= {place for place in looked.seen if self._heard.has(place)}
        if flushed := flushed_since(self._repository, name, expected.entries):
            written |= {place for place in looked.seen if place[0] in flushed}
        found = classes(looked.seen, self._history(expected), written)
        findings = Findings(looked.compared, found, len(written), dict(looked.unread), looked.functions)
        return findings, {place: seen for place, seen in looked.seen.items() if place not in written}

    def _history(self, expected: Expected) -> Iterator[list[Record]]:
        """Older values: of this backup, then of earlier ones of the same source, the newest first."""
        yield from expected.older()
        for one in reversed(self._repository.generations()):
            own = one.head is not None and one.head.source == self._before.name
            if own and one.name < expected.name and one.status is not Status.DAMAGED:
                yield from GenerationReader.open(self._repository, one.name, unfinished=True).batches(
                    ("base", "changes")
                )

    def _restore(
        self, expected: Expected, after: Survey, found: Findings, seen: dict[Place, Seen]
    ) -> tuple[Restored, Findings]:
        """Put back what is lost or went back, and look again."""
        wanted = {place: seen[place] for one in RESTORED for place in found[one]}
        patience_s = self._options.patience_s
        with closing(Restorer(self._remote, after, patience_s=patience_s, stop=self._stop)) as restorer:
            functions = found.functions == "different"
            restored = restorer.restore(expected, wanted, functions=functions, news=self._news)
            self._news(f"{restored.written:,} keys put back, {restored.deleted:,} deleted again; comparing once more")
            return restored, self._compare(expected, after, restorer.ours)[0]

    def _report(
        self,
        begun: FollowStatus,
        command: int | None,
        after: Survey,
        past: Past,
        found: Findings,
        left: Findings,
        restored: Restored | None,
        written_since: int | None,
        doubts: Sequence[str],
    ) -> GuardReport:
        why, verdict = list[str](), _verdict(left, self._choice, doubts)
        if verdict != "proved":
            why = [*doubts, *(f"{keys:,} keys could not be read: {words}" for words, keys in left.unread.items())]
        return GuardReport(
            generation=begun.generation,
            method=self._choice.method,
            why_method=self._choice.why,
            covered_since_ms=past.covered.since_ms,
            covered_until_ms=past.covered.until_ms,
            clock_ahead_ms=self._before.clock_ahead_ms,
            command=command,
            outages=past.outages,
            downtime_ms=downtime_of(past.outages),
            before=self._before.server,
            after=after.server,
            found=found,
            left=left,
            restored=restored,
            written_since=written_since,
            verdict=verdict,
            why=tuple(why),
            notes=tuple(past.notes(found, self._heard, written_since)),
            seconds=time.monotonic() - self._began,
        )


def _verdict(left: Findings, choice: Choice, doubts: Sequence[str]) -> Verdict:
    if left.to_restore:
        return "unproved" if doubts else "different"
    return "unproved" if left.unread or choice.method == "poll" else "proved"


def _there_ms(after: Survey) -> int:
    """Now, by the endpoint's clock."""
    return now_ms() + after.clock_ahead_ms
