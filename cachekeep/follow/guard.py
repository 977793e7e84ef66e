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
from cachekeep.backup.walk import Halted
from cachekeep.codec.record import Record
from cachekeep.domain.remote import Remote, RemoteError, RemoteFault, ScratchEngines
from cachekeep.follow.choose import choose
from cachekeep.follow.follow import follow
from cachekeep.follow.guard_compare import Comparison, Seen, classes
from cachekeep.follow.guard_expected import Expected, emptied_since, signalled_since
from cachekeep.follow.guard_herald import Heard, Heralds
from cachekeep.follow.guard_past import ANNOUNCED, Past, emptied, restorable
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
_NAMES = {"psync": "PSYNC", "tracking": "CLIENT TRACKING", "keyspace": "keyspace notifications", "poll": "polling"}
_NOTICES = "it notices which keys clients write after the return, so that these are kept, and it outlives a restart"
_PROVES_NOTHING = "nothing else is allowed here; nobody knows what was written after the last pass: nothing is proved"
_PASSING = (RemoteFault.UNREACHABLE, RemoteFault.DENIED)  # a new server may get its users and passwords a moment later


class NotBack(RemoteError):
    """The source stayed away for longer than it is waited for. Nothing is proved; what was captured is kept."""


def choose_for_guard(remote: Remote, survey: Survey, options: GuardOptions, scratch: ScratchEngines | None) -> Choice:
    """Key by key where the server announces changes; PSYNC, which a restart of the source ends, only where asked for.

    Raises RemoteError(DENIED).
    """
    if options.follow.source != "auto":
        chosen = choose(remote, survey, options.follow, scratch)
        return replace(chosen, why="it was asked for")
    refused: RemoteError | None = None
    for method in (*ANNOUNCED, "poll"):
        try:
            chosen = choose(remote, survey, replace(options.follow, source=method), scratch)
            because = f" ({refused.what.partition(', but ')[2] or refused.what})" if refused else ""
            return replace(chosen, why=(_PROVES_NOTHING if method == "poll" else _NOTICES) + because)
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
        method = self._choice.method
        self._news(f"capturing by {_NAMES[method]}: {self._choice.why}")
        for limit in self._choice.limits:
            self._news(f"its limits: {limit}")
        begun = self._watch.proved()
        if method != "poll":  # which claims moments: of others, an interval
            begun = self._watch.proved((begun.durable_until_ms or 0) + 1)
        self._news("every change is captured and durable from here on: the upgrade may begin")
        upgrade_began_ms = _there_ms(self._before)
        self._watch.on_end = self._news
        with Heralds(self._remote, self._before, method) as heralds:
            command = upgrade(lambda: self._watch.ended)
            self._go_on()
            after = self._back(begun)
            self._heard = heralds.heard()
        past = Past.of(self._repository, begun, upgrade_began_ms)
        moment_ms = past.covered.until_ms
        self._news("comparing every key with what the backup says that there has to be")
        with open_generation(self._repository, begun.generation, self._scratch, at_ms=moment_ms) as at:
            expected = Expected(at, self._repository, moment_ms)
            found, seen = self._compare(expected, after, {})
            doubts = [*past.doubts(method, self._before, after, found), *past.doubts_of(method, found, self._heard)]
            doubts += self._emptied(begun, upgrade_began_ms)
            left, restored, offered = found, None, restorable(found, self._heard)
            if offered.to_restore and not doubts and offer(offered):
                restored, left = self._restore(expected, after, offered, seen)
                doubts += self._emptied(begun, upgrade_began_ms)
            return self._report(begun, command, after, past, expected, found, left, restored, doubts)

    def _emptied(self, begun: FollowStatus, since_ms: int) -> Iterator[str]:
        return emptied(emptied_since(self._repository, begun.generation, since_ms))

    def _go_on(self) -> None:
        """Raises Halted when everything is to stop."""
        if self._stop.is_set():
            raise Halted("stopped before the upgrade was judged; what was captured is kept")

    # The upgrade

    def _back(self, begun: FollowStatus) -> Survey:
        """Wait until the endpoint answers, and every change up to then is known and durable. Raises NotBack."""
        try:
            after = self._look()
            self._watch.proved(_there_ms(after))
        except RemoteError as error:
            if error.fault not in _PASSING:
                raise
            text = moment_text(begun.durable_until_ms or 0)
            advice = f"what was captured is kept: `backup restore --at` has every moment up to {text} at least"
            raise NotBack(error.fault, error.what, advice) from error
        return after

    def _look(self) -> Survey:
        """What the endpoint is now, however long it stays away: the capture's patience ends that.

        One that lets nobody in, or is a replica and was none, is waited for as long. Raises RemoteError, Halted.
        """
        told, began = set[str](), time.monotonic()
        while True:
            last = time.monotonic() - began > self._options.follow.patience_s
            try:
                after = look(self._remote)
                if last or after.role == self._before.role or after.role == "primary":
                    return after
                trouble = "the endpoint is a replica now: waiting until it is a primary"
            except RemoteError as error:
                if error.fault not in _PASSING or (last and error.fault is RemoteFault.DENIED):
                    raise
                trouble = f"{error.what}: waiting" if error.fault is RemoteFault.DENIED else ""
            if trouble and trouble not in told:
                told.add(trouble)
                self._news(trouble)
            self._watch.until(lambda status: True)
            self._stop.wait(_PAUSE_S)
            self._go_on()

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
        """Put back what was found to be so, and look again."""
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
        expected: Expected,
        found: Findings,
        left: Findings,
        restored: Restored | None,
        doubts: Sequence[str],
    ) -> GuardReport:
        doubts = list(dict.fromkeys(doubts))
        changed, since_back = expected.written_since(expected.moment_ms), expected.written_since(past.back_ms)
        written_since = len(since_back) if found.to_restore else None
        missing = {place for one in RESTORED for place in left[one]}
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
            later=len(changed - since_back),
            only_here=len(missing & changed),
            verdict=verdict,
            why=tuple(why),
            notes=tuple(past.notes(found, self._heard, written_since)),
            seconds=time.monotonic() - self._began,
        )


def _verdict(left: Findings, choice: Choice, doubts: Sequence[str]) -> Verdict:
    if doubts:
        return "unproved"
    if left.to_restore:
        return "different"
    return "unproved" if left.unread or choice.method == "poll" else "proved"


def _there_ms(after: Survey) -> int:
    """Now, by the endpoint's clock."""
    return now_ms() + after.clock_ahead_ms
