"""What `run --follow` shows while it runs: a live table on a terminal, lines elsewhere, JSON lines for programs.

For people all of it is on stderr; JSON lines are on stdout. Safe to be told by several threads.
"""

from __future__ import annotations

import json
import math
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any, Protocol, TextIO

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from cachekeep.cli.backup.page import plain
from cachekeep.cli.backup.words import counted, in_duration
from cachekeep.cli.console import console, in_bytes
from cachekeep.follow.types import Choice, FollowStatus

_LINE_EVERY_S = 10.0
# A little less than the second between two statuses, so that none is left out because it came a moment early.
_JSON_EVERY_S = 0.9
_SHOWN_STRETCHES = 20
_COLOURS = {"following": "green", "away": "red", "store": "red"}
Clock = Callable[[], float]


class View(Protocol):
    """Told what was chosen, then how it goes."""

    def choice(self, source: str, choice: Choice, metrics_url: str | None) -> None: ...

    def status(self, status: FollowStatus) -> None: ...

    def news(self, sentence: str) -> None: ...


@contextmanager
def viewed(*, as_json: bool, stop: threading.Event) -> Iterator[View]:
    """The view for what stdout and stderr are. stop: set when nobody takes the JSON lines any more."""
    if as_json:
        yield JsonLines(sys.stdout, stop)
        return
    err = console(stderr=True)
    if not sys.stderr.isatty() or err.is_dumb_terminal:
        yield Lines(sys.stderr)
        return
    table = LiveTable(err)
    with table.live:
        yield table


class LiveTable:
    """One table that is drawn anew, news above it."""

    def __init__(self, out: Console) -> None:
        self._status: FollowStatus | None = None
        self.live = Live(console=out, get_renderable=self._draw, refresh_per_second=4, transient=True)

    def choice(self, source: str, choice: Choice, metrics_url: str | None) -> None:
        for line in choice_lines(source, choice, metrics_url):
            self.live.console.print(line, markup=False)

    def status(self, status: FollowStatus) -> None:
        self._status = status

    def news(self, sentence: str) -> None:
        self.live.console.print(Text.assemble((_clock(), "dim"), f" {sentence}"))

    def _draw(self) -> RenderableType:
        return table_of(self._status) if self._status else Text("connecting", style="dim")


class Lines:
    """A line every ten seconds, and one for each new phase and piece of news."""

    def __init__(self, out: TextIO, now: Clock = time.monotonic) -> None:
        self._out, self._rarely = out, _Rarely(_LINE_EVERY_S, now)
        self._lock = threading.Lock()

    def choice(self, source: str, choice: Choice, metrics_url: str | None) -> None:
        for line in choice_lines(source, choice, metrics_url):
            self._print(line)

    def status(self, status: FollowStatus) -> None:
        if self._rarely.due(status):
            self._print(f"{_clock()} {line_of(status)}")

    def news(self, sentence: str) -> None:
        self._print(f"{_clock()} {sentence}")

    def _print(self, line: str) -> None:
        with self._lock:
            try:
                print(line, file=self._out, flush=True)
            except OSError:  # nobody reads it any more, which is no reason to end a capture
                _silence(self._out)


class JsonLines:
    """`{"event":"choice"...}`, `status` every second and with each new phase, `news`, `sealed` or `failed`."""

    def __init__(self, out: TextIO, stop: threading.Event, now: Clock = time.monotonic) -> None:
        self._out, self._stop, self._rarely = out, stop, _Rarely(_JSON_EVERY_S, now)
        self._lock = threading.Lock()
        self.broken = False

    def choice(self, source: str, choice: Choice, metrics_url: str | None) -> None:
        self.event("choice", source=source, **plain(choice), metrics_url=metrics_url)

    def status(self, status: FollowStatus) -> None:
        if self._rarely.due(status):
            self.event("status", **plain(status))

    def news(self, sentence: str) -> None:
        self.event("news", text=sentence)

    def event(self, event: str, /, **rest: Any) -> None:  # noqa: ANN401 - JSON
        """One line. Whoever was to take it and is gone: the capture is asked to end, sealed."""
        line = json.dumps({"event": event, "at": _now(), **rest})
        with self._lock:
            if self.broken:
                return
            try:
                print(line, file=self._out, flush=True)
            except OSError:
                self.broken = True
                _silence(self._out)
                self._stop.set()


class _Rarely:
    """Says which statuses are to be shown: the first one, one of a new phase, and one when `every_s` have passed."""

    def __init__(self, every_s: float, now: Clock) -> None:
        self._every_s, self._now = every_s, now
        self._shown: tuple[str, str] | None = None
        self._next_s = 0.0
        self._lock = threading.Lock()

    def due(self, status: FollowStatus) -> bool:
        with self._lock:
            moment_s, what = self._now(), (status.generation, status.phase)
            if what == self._shown and moment_s < self._next_s:
                return False
            self._shown, self._next_s = what, moment_s + self._every_s
            return True


def choice_lines(source: str, choice: Choice, metrics_url: str | None) -> list[str]:
    """How it is followed, why, what that does not see; where metrics are."""
    lines = [f"following {source} by {choice.method}: {choice.why}"]
    lines += [f"  limit: {limit}" for limit in choice.limits]
    return lines + ([f"  metrics at {metrics_url}"] if metrics_url else [])


def line_of(status: FollowStatus) -> str:
    """One line for a log."""
    parts = [
        f"{status.phase} by {status.method}, {status.generation or 'no backup yet'}",
        *([status.trouble] if status.trouble else []),
        read_of(status),
        *([f"durable until {moment_of(status.durable_until_ms)}"] if status.durable_until_ms is not None else []),
        lag_of(status),
        f"{counted(status.changes, 'change')}, {status.changes_per_s:,.0f}/s",
        f"gaps {status.gaps:,}" if status.gaps else "no gaps",
        f"{in_bytes(status.bytes)} stored",
    ]
    if status.method != "psync":  # which has neither a queue of keys nor passes over them
        parts += [f"queue {status.queue_keys:,}", f"missed {status.missed:,}", f"passes {status.passes:,}"]
    return "; ".join(parts)


def table_of(status: FollowStatus) -> RenderableType:
    """The same for a terminal."""
    table = Table(box=None, show_header=False, pad_edge=False)
    table.add_column(style="dim")
    table.add_column()
    colour = _COLOURS.get(status.phase, "yellow")
    went_on = f"for {in_duration(status.uptime_s)}"
    table.add_row("backup", Text(status.generation or "none yet"))
    table.add_row("phase", Text.assemble((status.phase, colour), f" by {status.method}, {went_on}"))
    table.add_row(*_row(read_of(status), "read until"), style="" if status.covered_until_ms else "yellow")
    if status.durable_until_ms is not None:
        table.add_row("durable until", Text(moment_of(status.durable_until_ms)))
    table.add_row(*_row(lag_of(status), "recovery point:" if status.method == "poll" else "lag"))
    changes = f"{status.changes:,}, {status.changes_per_s:,.0f}/s"
    keyed = status.method != "psync"
    table.add_row("changes", Text(f"{changes}, queue {status.queue_keys:,}" if keyed else changes))
    if keyed:
        passes = counted(status.passes, "whole pass", "whole passes")
        table.add_row("keys", Text(f"{status.keys:,} read in {passes}, missed {status.missed:,}"))
    table.add_row("gaps", Text(f"{status.gaps:,}" if status.gaps else "none", style="red" if status.gaps else ""))
    table.add_row("stored", Text(in_bytes(status.bytes)))
    return Group(table, Text(status.trouble, style="red")) if status.trouble else table


def _row(text: str, word: str) -> tuple[str, Text]:
    """A sentence that begins with the word as a row of that name."""
    return word.removesuffix(":"), Text(text.removeprefix(word).lstrip())


def read_of(status: FollowStatus) -> str:
    """`read until 2026-11-23T01:02:00Z, every change since 2026-11-23T00:00:00Z (1 h 2 min)`. Polling: the last moment.

    What of it survives a crash is another matter: durable_until_ms.
    """
    since, until = status.covered_since_ms, status.covered_until_ms
    if since is None or until is None:
        return "no moment read yet" if status.phase in ("starting", "copying") else "continuity is not proved now"
    if status.method == "poll":
        return f"read until {moment_of(until)}, that moment only"
    return (
        f"read until {moment_of(until)}, every change since {moment_of(since)} ({in_duration((until - since) / 1000)})"
    )


def lag_of(status: FollowStatus) -> str:
    """From a change to its being read. Polling: what a restore may lose, by the distances of the last moments."""
    if status.method != "poll":
        return f"lag {_ms(status.lag_ms)} now, {_ms(status.lag_p99_ms)} p99 of the last minute"
    distances = [ms for ms in (status.lag_ms, status.lag_p99_ms) if ms is not None]
    if status.passes < 2 or not distances:
        return "recovery point: not known before the second pass"
    return f"recovery point: at most {in_duration(math.ceil(max(distances) / 1000))}"


def moment_of(ms: int, *, exact: bool = False) -> str:
    """RFC 3339 in UTC, to the second or, where a command takes it, to the millisecond."""
    text = datetime.fromtimestamp(ms / 1000, UTC).isoformat(timespec="seconds").removesuffix("+00:00")
    return f"{text}.{ms % 1000:03}Z" if exact else f"{text}Z"


def stretch_lines(stretches: Sequence[tuple[int, int]]) -> list[str]:
    """The newest intervals that can be restored, as people need them: exact."""
    lines = [f"  covered {_stretch(since, until)}" for since, until in stretches[-_SHOWN_STRETCHES:]]
    if len(stretches) > _SHOWN_STRETCHES:
        lines.append(f"  these are the last of {len(stretches):,} covered intervals; `backup show` has all")
    return lines or ["  no moment can be restored yet: the first copy of all keys did not come to its end"]


def _stretch(since: int, until: int) -> str:
    if since == until:
        return f"{moment_of(since, exact=True)}, that moment only"
    length = in_duration((until - since) / 1000)
    return f"{moment_of(since, exact=True)} to {moment_of(until, exact=True)} ({length})"


def _silence(stream: TextIO) -> None:
    """What is written to it from now on, and what it still holds, goes nowhere: Python would fail on it at the end."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, stream.fileno())
    os.close(nowhere)


def _ms(ms: float | None) -> str:
    if ms is None:
        return "-"
    return f"{ms:,.0f} ms" if ms < 10_000 else f"{ms / 1000:,.1f} s"


def _clock() -> str:
    return datetime.now(UTC).strftime("%H:%M:%SZ")


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
