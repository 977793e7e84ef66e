"""Progress on stderr: a bar with keys/s, MB/s and the time left on a terminal; JSON lines for programs."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

from rich.progress import (
    BarColumn,
    Progress,
    ProgressColumn,
    SpinnerColumn,
    Task,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
)
from rich.text import Text

from cachekeep.backup import progress as told
from cachekeep.cli.console import console

_EVERY_S = 1.0


@contextmanager
def shown(*, as_json: bool) -> Iterator[told.OnProgress]:
    """What to give to long work. Safe to be called from several threads."""
    if as_json:
        yield _Lines()
        return
    if not sys.stderr.isatty():
        yield told.unheard
        return
    columns = (
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(),
        _Keys(),
        _Rate(),
        TimeRemainingColumn(compact=True),
    )
    with Progress(*columns, console=console(stderr=True), transient=True) as bar:
        yield _Bar(bar)


class _Bar:
    """One line per phase."""

    def __init__(self, bar: Progress) -> None:
        self._bar = bar
        self._tasks: dict[str, tuple[TaskID, float]] = {}

    def __call__(self, now: told.Progress) -> None:
        if now.phase not in self._tasks:
            for task, _ in self._tasks.values():
                self._bar.stop_task(task)
            self._tasks[now.phase] = (self._bar.add_task(now.phase, total=now.total_keys), time.monotonic())
        task, began_s = self._tasks[now.phase]
        took_s = max(time.monotonic() - began_s, 1e-3)
        # INFO's count is an estimate: keys come and go while they are read.
        total = None if now.total_keys is None else max(now.total_keys, now.keys)
        self._bar.update(
            task,
            completed=now.keys,
            total=total,
            keys_per_s=now.keys / took_s,
            bytes_per_s=now.bytes / took_s,
        )


class _Keys(ProgressColumn):
    def render(self, task: Task) -> Text:
        total = "" if task.total is None else f"/{task.total:,.0f}"
        return Text(f"{task.completed:,.0f}{total} keys")


class _Rate(ProgressColumn):
    def render(self, task: Task) -> Text:
        keys, size = task.fields.get("keys_per_s", 0.0), task.fields.get("bytes_per_s", 0.0)
        return Text(f"{keys:,.0f}/s  {size / 1e6:,.1f} MB/s", style="cyan")


class _Lines:
    def __init__(self) -> None:
        self._began_s = self._next_s = time.monotonic()
        self._phase = ""

    def __call__(self, now: told.Progress) -> None:
        moment_s = time.monotonic()
        if now.phase == self._phase and moment_s < self._next_s:
            return
        if now.phase != self._phase:
            self._phase, self._began_s = now.phase, moment_s
        self._next_s = moment_s + _EVERY_S
        took_s = max(moment_s - self._began_s, 1e-3)
        line = {
            "event": "progress",
            "phase": now.phase,
            "keys": now.keys,
            "total_keys": now.total_keys,
            "bytes": now.bytes,
            "keys_per_s": round(now.keys / took_s),
            "bytes_per_s": round(now.bytes / took_s),
        }
        print(json.dumps(line), file=sys.stderr, flush=True)
