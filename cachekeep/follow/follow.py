"""Follow a source: every change into a backup, until it is told to stop.

Called by `backup run --follow`, `backup guard` and the captures of groups (snapshot_child.capture).
What is captured is said by the entries of a generation: from when to when every change is known. A generation stays
open when this ends, so that the next call goes on with it; what lay between the two is a gap, but with PSYNC, whose
stream may go on where it ended.
"""

from __future__ import annotations

import threading
import time
from dataclasses import replace

from cachekeep.backup.catalog import Repository
from cachekeep.backup.pacing import Halt, Halted
from cachekeep.backup.survey_types import Ability, Survey
from cachekeep.domain.remote import Refusal, Remote, RemoteError, RemoteFault, ScratchEngines
from cachekeep.follow.choose import Rung, choose, ladder
from cachekeep.follow.key_follow import KeyFollow
from cachekeep.follow.monitor import Monitor
from cachekeep.follow.psync_follow import follow_by_psync
from cachekeep.follow.replica import replica_of
from cachekeep.follow.types import Choice, FollowOptions, FollowReport, FollowStatus, OnChoice, OnNews, OnStatus

_SHOW_S = 0.5


def _unseen(status: FollowStatus) -> None:
    """For callers that do not ask."""


def _unheard(sentence: str) -> None:
    """For callers that do not ask."""


def follow(
    remote: Remote,
    survey: Survey,
    repository: Repository,
    options: FollowOptions,
    *,
    scratch: ScratchEngines | None,
    on_status: OnStatus = _unseen,
    on_news: OnNews = _unheard,
    on_choice: OnChoice = lambda choice: None,
    stop: threading.Event | None = None,
) -> FollowReport:
    """Returns when `stop` is set: what was captured is sealed then.

    on_status: every half second; on_news: sentences for an operator; on_choice: once, before anything is read. All
    are called from threads of the capture. Raises RemoteError: the source refuses, or is away for longer than the
    patience; BlobError, CatalogError: the repository takes nothing, and that does not pass. What was captured until
    then is sealed, and the same call goes on there.
    """
    stop = stop or threading.Event()
    if options.from_replica:
        remote, seen = replica_of(remote, survey)
        survey = replace(seen, name=survey.name)
    choice = choose(remote, survey, options, scratch)
    on_choice(choice)
    if choice.method == "psync":
        try:
            return _by_psync(remote, survey, repository, options, choice, on_status, on_news, stop)
        except Refusal as refusal:
            if options.source == "psync":
                what = f"{survey.name} refuses PSYNC: {refusal}"
                raise RemoteError(RemoteFault.DENIED, what, "leave `--source psync` away") from refusal
            on_news(f"PSYNC was refused after all: {refusal}")
            survey = replace(survey, denied={**survey.denied, Ability.PSYNC: f"it was refused: {refusal}"})
            choice = choose(remote, survey, options, scratch)
            on_choice(choice)
    return _by_keys(remote, survey, repository, options, choice, on_status, on_news, stop)


def _by_psync(
    remote: Remote,
    survey: Survey,
    repository: Repository,
    options: FollowOptions,
    choice: Choice,
    on_status: OnStatus,
    on_news: OnNews,
    stop: threading.Event,
) -> FollowReport:
    monitor, ended = Monitor("psync", on_news), threading.Event()

    def show() -> None:
        while not ended.wait(_SHOW_S):
            on_status(monitor.status())

    shower = threading.Thread(target=show, name="status", daemon=True)
    shower.start()
    try:
        follow_by_psync(remote, survey, repository, options, choice, monitor, Halt(stop), survey.nodes)
    except Halted:
        if not stop.is_set():
            raise
    finally:
        ended.set()
        shower.join()
    return _report(monitor, choice, on_status)


def _by_keys(
    remote: Remote,
    survey: Survey,
    repository: Repository,
    options: FollowOptions,
    choice: Choice,
    on_status: OnStatus,
    on_news: OnNews,
    stop: threading.Event,
) -> FollowReport:
    monitor, shown_at = Monitor(choice.method, on_news), 0.0

    def tick() -> None:
        nonlocal shown_at
        if time.monotonic() - shown_at >= _SHOW_S:
            shown_at = time.monotonic()
            on_status(monitor.status())

    KeyFollow(remote, survey, repository, options, choice, monitor, stop).run(tick)
    return _report(monitor, choice, on_status)


def _report(monitor: Monitor, choice: Choice, on_status: OnStatus) -> FollowReport:
    last = monitor.status()
    on_status(last)
    return FollowReport(tuple(monitor.generations), choice, tuple(monitor.gaps), last, tuple(monitor.notes))


__all__ = ["FollowOptions", "FollowReport", "FollowStatus", "Rung", "choose", "follow", "ladder"]
