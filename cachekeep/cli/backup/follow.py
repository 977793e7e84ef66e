"""`cachekeep backup run --follow`: capture every change of an endpoint until SIGINT or SIGTERM, then seal and sum up.

The stop by a signal is its normal end. Exit codes: 0 sealed, everything known at the end, no gap in this run; 4 sealed,
but with gaps or not proved; 1 failed. A capture tells moments by its source's clock; all that is shown is by this
machine's, as `show` and `--at` have it.
"""

from __future__ import annotations

import shlex
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace

import typer

from cachekeep import backups
from cachekeep.backup.catalog import CatalogError, Repository
from cachekeep.backup.coverage import Stretch, longest_between
from cachekeep.backup.interruptions import now_ms
from cachekeep.backup.moments import coverage_of, skew_ms
from cachekeep.cli.backup.follow_metrics import Metrics, served
from cachekeep.cli.backup.follow_view import (
    JsonLines,
    View,
    moment_of,
    stretch_lines,
    viewed,
)
from cachekeep.cli.backup.outcome import FAILED, GAPS
from cachekeep.cli.backup.page import plain
from cachekeep.cli.backup.words import counted, in_duration, where
from cachekeep.cli.console import console, in_bytes
from cachekeep.cli.refusal import MISUSE, Refused
from cachekeep.domain.blobs import BlobError
from cachekeep.follow.follow import follow
from cachekeep.follow.types import Choice, FollowGap, FollowOptions, FollowReport, FollowStatus

_SHOWN_GAPS = 50
Span = tuple[int, int]


def follow_endpoint(
    connect: Callable[[], backups.Endpoint],
    place: backups.Place,
    wanted: FollowOptions,
    *,
    metrics_port: int | None,
    as_json: bool,
    stop: threading.Event,
) -> None:
    """Follow until `stop`. Raises typer.Exit with the code, Refused, backups.ERRORS."""
    metrics = Metrics()
    with _metrics_at(metrics_port, metrics) as url:
        found = connect()
        if found.db is not None:
            text = f"the URL of SOURCE names database {found.db}, but --follow captures all of them"
            raise Refused(f"{text}; leave /{found.db} away", MISUSE)
        opened = backups.repository(place, create=True)
        clocks = Clocks(opened, found.survey.clock_ahead_ms)
        metrics.about(found.survey.name, found.survey.clock_ahead_ms)
        with (
            backups.alone(place, found.survey.name),
            viewed(as_json=as_json, stop=stop) as view,
            _failure_told(view),
        ):

            def chosen(choice: Choice) -> None:
                view.choice(found.survey.name, choice, url)

            def heard(status: FollowStatus) -> None:
                status = clocks.status(status)
                metrics.update(status)
                view.status(status)

            began_ms = now_ms()
            report = follow(
                found.remote,
                found.survey,
                opened,
                wanted,
                scratch=backups.scratch(),
                on_status=heard,
                on_news=view.news,
                on_choice=chosen,
                stop=stop,
            )
    _end(clocks.report(report), began_ms, captured(opened, report.generations, began_ms), place.dest, view)


@contextmanager
def _metrics_at(port: int | None, metrics: Metrics) -> Iterator[str | None]:
    if port is None:
        yield None
        return
    with served(port, metrics) as url:
        yield url


@contextmanager
def _failure_told(view: View) -> Iterator[None]:
    """To a program; people read it at the end of the command."""
    try:
        yield
    except (*backups.ERRORS, *backups.STOPS, OSError) as error:
        if isinstance(view, JsonLines):
            view.event("failed", reason=str(error))
        raise


class Clocks:
    """Moments by a source's clock as this machine's has them: by what the head of their generation says of the two."""

    def __init__(self, repository: Repository, ahead_ms: int) -> None:
        """ahead_ms: how far the source's clock is ahead, where no head tells."""
        self._repository, self._default_ms = repository, ahead_ms
        self._ahead_ms: dict[str, int] = {}

    def status(self, status: FollowStatus) -> FollowStatus:
        ahead_ms = self._ahead_of(status.generation)
        return replace(
            status,
            covered_since_ms=_moved(status.covered_since_ms, ahead_ms),
            covered_until_ms=_moved(status.covered_until_ms, ahead_ms),
            durable_until_ms=_moved(status.durable_until_ms, ahead_ms),
        )

    def report(self, report: FollowReport) -> FollowReport:
        ahead_ms = self._ahead_of(report.last.generation)
        gaps = (
            replace(gap, start_ms=gap.start_ms - ahead_ms, end_ms=_moved(gap.end_ms, ahead_ms)) for gap in report.gaps
        )
        return replace(report, gaps=tuple(gaps), last=self.status(report.last))

    def _ahead_of(self, generation: str) -> int:
        if not generation:
            return self._default_ms
        if generation not in self._ahead_ms:
            try:
                self._ahead_ms[generation] = skew_ms(self._repository.generation(generation).head)
            except (BlobError, CatalogError):  # the capture meets it too, and tells it
                self._ahead_ms[generation] = self._default_ms
        return self._ahead_ms[generation]


def _moved(ms: int | None, ahead_ms: int) -> int | None:
    return None if ms is None else ms - ahead_ms


@dataclass(frozen=True)
class Captured:
    """What can be restored of the generations of a run, in ms by this machine's clock.

    stretches: those that the run added, oldest first, each a first and a last moment (alike where the source was
    polled). latest_ms: the last moment, of earlier runs too.
    """

    stretches: tuple[Span, ...] = ()
    latest_ms: int | None = None

    @property
    def recovery_ms(self) -> int | None:
        return longest_between([Stretch(since, until, 0) for since, until in self.stretches])


def captured(repository: Repository, generations: Iterable[str], began_ms: int) -> Captured:
    """As `show` tells it, from began_ms on. Raises Refused when what is sealed cannot be read back."""
    every: list[Span] = []
    try:
        there = {one.name: one for one in repository.generations()}
        for name in generations:
            if name in there:  # expired or compacted since
                covered = coverage_of(repository, there[name])
                every += [(one.since_ms - covered.skew_ms, one.until_ms - covered.skew_ms) for one in covered.stretches]
    except (BlobError, CatalogError) as error:
        raise Refused(f"the capture is sealed, but what it covers cannot be read back: {error}", FAILED) from error
    joined: list[Span] = []
    for since, until in sorted((max(since, began_ms), until) for since, until in every if until > began_ms):
        if joined and since <= joined[-1][1]:
            joined[-1] = joined[-1][0], max(joined[-1][1], until)
        else:
            joined.append((since, until))
    return Captured(tuple(joined), max((until for _, until in every), default=None))


def code_of(report: FollowReport, began_ms: int) -> int:
    """0 where everything is known at the end and every gap began before this run did, at began_ms."""
    own = [gap for gap in report.gaps if gap.start_ms >= began_ms]
    return GAPS if own or report.last.covered_until_ms is None else 0


def _end(report: FollowReport, began_ms: int, made: Captured, dest: str, view: View) -> None:
    """Sum up, and end with the exit code."""
    code = code_of(report, began_ms)
    if isinstance(view, JsonLines):
        view.event(
            "sealed",
            **plain(report),
            began_ms=began_ms,
            stretches=plain(made.stretches),
            latest_ms=made.latest_ms,
            continuous=not code and report.choice.method != "poll",
            recovery_point_ms=made.recovery_ms if report.choice.method == "poll" else None,
        )
        if view.broken:
            raise Refused("nobody reads the JSON lines any more; the capture is sealed, the same call goes on", FAILED)
    else:
        for line in summary(report, began_ms, made, dest):
            console().print(line, markup=False, soft_wrap=True)
    if code:
        raise typer.Exit(code)


def summary(report: FollowReport, began_ms: int, made: Captured, dest: str) -> list[str]:
    """What was captured, what is missing, how to go on and how to restore: lines for people."""
    last = report.last
    lines = [
        f"{', '.join(report.generations) or 'no backup'}  {_verdict(report, began_ms, made)}",
        f"  {_figures(report)}",
        *_stretch_lines(made),
    ]
    if report.choice.method == "poll" and made.recovery_ms is not None:
        lines.append(f"  {_recovery(made.recovery_ms)}, the longest time between two of the last moments")
    lines += [_gap(gap, began_ms) for gap in report.gaps[:_SHOWN_GAPS]] or ["  no gaps"]
    if len(report.gaps) > _SHOWN_GAPS:
        lines.append(f"  and {counted(len(report.gaps) - _SHOWN_GAPS, 'gap')} more; `backup show` has all")
    if last.missed:
        lines.append(f"  {counted(last.missed, 'change was', 'changes were')} found by passes over all keys only")
    lines += [f"  {note}" for note in report.notes]
    lines.append("  the same call goes on with it")
    if made.latest_ms is not None:
        moment = moment_of(made.latest_ms, exact=True)
        lines.append(f"  restore: cachekeep backup restore {shlex.quote(dest)} TARGET --at {moment}")
    return lines


def _verdict(report: FollowReport, began_ms: int, made: Captured) -> str:
    """Polling proves moments and never continuity."""
    polled = report.choice.method == "poll"
    if report.last.covered_until_ms is None:
        text = "sealed, continuity not proved at the end"
    elif code_of(report, began_ms):
        text = "sealed, with gaps"
    else:
        text = "sealed" if polled else "sealed, continuity proved"
    if polled:
        text += f"; polling: {counted(len(made.stretches), 'moment')}, nothing is known between them"
    return text


def _figures(report: FollowReport) -> str:
    last, method = report.last, report.choice.method
    passes = ""
    if method != "psync":
        passes = f"{counted(last.keys, 'key')} read in {counted(last.passes, 'whole pass', 'whole passes')}, "
    changes = f"{counted(last.changes, 'change')} by {method} in {in_duration(last.uptime_s)}"
    return f"{changes}, {passes}{in_bytes(last.bytes)} stored"


def _stretch_lines(made: Captured) -> list[str]:
    if not made.stretches and made.latest_ms is not None:
        return ["  this run added no moment that can be restored; `backup show` has those of earlier runs"]
    return stretch_lines(made.stretches)


def _recovery(ms: int) -> str:
    return f"recovery point: at most {in_duration(-(-ms // 1000))}"


def _gap(gap: FollowGap, began_ms: int) -> str:
    until = "the end" if gap.end_ms is None else moment_of(gap.end_ms, exact=True)
    when = " since before this run" if gap.start_ms < began_ms else ""
    return f"  gap{when} {moment_of(gap.start_ms, exact=True)} to {until}: {gap.reason}{where(gap.lane)}"
