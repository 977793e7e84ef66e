"""`cachekeep backup run --follow`: capture every change of an endpoint until SIGINT or SIGTERM, then seal and sum up.

The stop by a signal is its normal end. Exit codes: 0 sealed, continuity proved at the end, no gap in this run; 4
sealed, but with gaps or not proved; 1 failed.
"""

from __future__ import annotations

import shlex
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

import typer

from cachekeep import backups
from cachekeep.backup.interruptions import now_ms
from cachekeep.cli.backup.follow_metrics import Metrics, served
from cachekeep.cli.backup.follow_view import JsonLines, View, in_duration, moment_of, stretch_lines, viewed
from cachekeep.cli.backup.outcome import FAILED, GAPS
from cachekeep.cli.backup.page import plain
from cachekeep.cli.console import console, in_bytes
from cachekeep.cli.refusal import MISUSE, Refused
from cachekeep.follow.follow import follow
from cachekeep.follow.types import Choice, FollowGap, FollowOptions, FollowReport, FollowStatus

_KEPT_STRETCHES = 1000
_SHOWN_GAPS = 50


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
    metrics, covered = Metrics(), Covered()
    with _metrics_at(metrics_port, metrics) as url:
        found = connect()
        if found.db is not None:
            text = f"the URL of SOURCE names database {found.db}, but --follow captures all of them"
            raise Refused(f"{text}; leave /{found.db} away", MISUSE)
        opened = backups.repository(place, create=True)
        metrics.about(found.survey.name, found.survey.clock_ahead_ms)
        with viewed(as_json=as_json, stop=stop) as view, _failure_told(view):

            def chosen(choice: Choice) -> None:
                view.choice(found.survey.name, choice, url)

            def heard(status: FollowStatus) -> None:
                metrics.update(status)
                covered.add(status)
                view.status(status)

            began_ms = now_ms() + found.survey.clock_ahead_ms
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
    covered.add(report.last)
    _end(report, began_ms, covered.without(report.gaps), place.dest, view)


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


@dataclass
class Covered:
    """The intervals that a run told of as durable, oldest first; the last thousand of them. Points, when polling."""

    stretches: list[tuple[int, int]] = field(default_factory=list)

    def add(self, status: FollowStatus) -> None:
        since, until, durable = status.covered_since_ms, status.covered_until_ms, status.durable_until_ms
        if since is None or until is None or durable is None or durable < since:
            return
        until = min(until, durable)
        if status.method == "poll":
            since = until
        if self.stretches and since <= self.stretches[-1][1]:
            first, last = self.stretches[-1]
            self.stretches[-1] = (min(first, since), max(last, until))
        else:
            self.stretches.append((since, until))
            del self.stretches[:-_KEPT_STRETCHES]

    def without(self, gaps: Sequence[FollowGap]) -> list[tuple[int, int]]:
        """What is left of them: a change that was missed for a while makes a gap of what had seemed covered."""
        left = self.stretches
        for gap in gaps:
            left = [part for stretch in left for part in _cut(stretch, gap)]
        return left


def _cut(stretch: tuple[int, int], gap: FollowGap) -> list[tuple[int, int]]:
    since, until = stretch
    if gap.start_ms >= until or (gap.end_ms is not None and gap.end_ms <= since):
        return [stretch]
    parts = [(since, gap.start_ms)] if since <= gap.start_ms else []
    return parts + ([(gap.end_ms, until)] if gap.end_ms is not None and gap.end_ms <= until else [])


def code_of(report: FollowReport, began_ms: int) -> int:
    """0 where the end is proved and every gap began before this run did, at began_ms by the source's clock."""
    own = [gap for gap in report.gaps if gap.start_ms >= began_ms]
    return GAPS if own or report.last.covered_until_ms is None else 0


def _end(report: FollowReport, began_ms: int, stretches: list[tuple[int, int]], dest: str, view: View) -> None:
    """Sum up, and end with the exit code."""
    code = code_of(report, began_ms)
    if isinstance(view, JsonLines):
        view.event("sealed", **plain(report), began_ms=began_ms, stretches=plain(stretches), continuous=not code)
        if view.broken:
            raise Refused("nobody reads the JSON lines any more; the capture is sealed, the same call goes on", FAILED)
    else:
        for line in summary(report, began_ms, stretches, dest):
            console().print(line, markup=False, soft_wrap=True)
    if code:
        raise typer.Exit(code)


def summary(report: FollowReport, began_ms: int, stretches: list[tuple[int, int]], dest: str) -> list[str]:
    """What was captured, what is missing, how to go on and how to restore: lines for people."""
    last = report.last
    verdict = "continuity proved" if not code_of(report, began_ms) else "with gaps"
    if last.covered_until_ms is None:
        verdict = "continuity not proved at the end"
    lines = [
        f"{', '.join(report.generations) or 'no backup'}  sealed, {verdict}",
        f"  {last.changes:,} changes by {report.choice.method} in {in_duration(last.uptime_s)}, "
        f"{last.keys:,} keys read in {last.passes:,} whole passes, {in_bytes(last.bytes)} stored",
        *stretch_lines(stretches),
        *(_gap(gap, began_ms) for gap in report.gaps[:_SHOWN_GAPS]),
    ]
    if len(report.gaps) > _SHOWN_GAPS:
        lines.append(f"  and {len(report.gaps) - _SHOWN_GAPS:,} gaps more; `backup show` has all")
    if last.missed:
        lines.append(f"  {last.missed:,} changes were found by passes over all keys only")
    lines += [f"  {note}" for note in report.notes]
    lines.append("  the same call goes on with it")
    if stretches:
        moment = moment_of(stretches[-1][1], exact=True)
        lines.append(f"  restore: cachekeep backup restore {shlex.quote(dest)} TARGET --at {moment}")
    return lines


def _gap(gap: FollowGap, began_ms: int) -> str:
    until = "the end" if gap.end_ms is None else moment_of(gap.end_ms, exact=True)
    where = f" ({gap.lane})" if gap.lane else ""
    when = " since before this run" if gap.start_ms < began_ms else ""
    return f"  gap{when} {moment_of(gap.start_ms, exact=True)} to {until}: {gap.reason}{where}"
