"""`cachekeep backup guard`: watch over an upgrade, prove that nothing is missing, put back what is."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from enum import StrEnum
from typing import Annotated, Any

import typer

from cachekeep import backups
from cachekeep.backup.coverage import moment_text
from cachekeep.cli.backup import options
from cachekeep.cli.backup.outcome import DIFFERENT, FAILED, GAPS, stoppable, told
from cachekeep.cli.backup.page import print_page, text_of
from cachekeep.cli.backup.progress import shown
from cachekeep.cli.backup.run import duration_of
from cachekeep.cli.console import console
from cachekeep.cli.refusal import MISUSE, Refused
from cachekeep.follow.guard import NotBack, guard
from cachekeep.follow.guard_types import CLASSES, Findings, GuardOptions, GuardReport, Restored, Upgrade
from cachekeep.follow.types import FollowOptions, OnNews

_LOOK_S = 0.2
_MEANING = {
    "lost": "not there any more",
    "went back": "an older copy of it is there",
    "changed": "a value that no backup knows: written after the return, or of a copy older than any backup; kept",
}


class Method(StrEnum):
    AUTO = "auto"
    TRACKING = "tracking"
    KEYSPACE = "keyspace"
    POLL = "poll"
    PSYNC = "psync"


def guard_(
    source: options.Source,
    dest: options.Dest,
    command: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="-- COMMAND",
            help="What does the upgrade, and returns when it is done; without it: Ctrl-C says so.",
            show_default=False,
        ),
    ] = None,
    yes: Annotated[bool, typer.Option("--yes", help="Put back what is missing without asking.")] = False,
    method: Annotated[
        Method,
        typer.Option("--source", help="How changes are captured; auto: tracking, else keyspace, else poll."),
    ] = Method.AUTO,
    patience_s: Annotated[
        float,
        typer.Option(
            "--patience",
            parser=duration_of,
            metavar="SECONDS",
            show_default="1h",
            help="Wait so long for a source that is away: 90, 90s, 15m, 2h.",
        ),
    ] = 3600.0,
    user: options.User = None,
    password_file: options.PasswordFile = None,
    ca: options.Ca = None,
    cert: options.Cert = None,
    cert_key: options.CertKey = None,
    insecure: options.Insecure = False,
    timeout_s: options.TimeoutS = 30.0,
    passphrase_file: options.PassphraseFile = None,
    key_file: options.SealKeyFile = None,
    s3_endpoint: options.S3Endpoint = None,
    s3_region: options.S3Region = None,
    as_json: options.Json = False,
) -> None:
    """Capture SOURCE until continuity is proved, run COMMAND, capture on through the outage, and judge what came back.

    Keys that were lost, or went back to an older value, are put back with --yes or when you say so. Exit code 0 when
    nothing is missing in the end, 5 when something is, 4 when it cannot be proved, 1 when COMMAND failed.
    """
    if command and shutil.which(command[0]) is None:
        raise Refused(f"{command[0]} is no command here: write it behind `--`, with its path", MISUSE)
    with told(), stoppable() as stop, shown(as_json=as_json) as progress:
        place = options.place_of(dest, passphrase_file, key_file, s3_endpoint, s3_region)
        access = options.access_of(user, password_file, ca, cert, cert_key, insecure)
        found = options.endpoint_of("SOURCE", source, timeout_s, access)
        if found.db is not None:
            raise Refused(
                f"{found.remote.name} names database {found.db}, and a guard is for all: leave it out", MISUSE
            )
        opened, news = backups.repository(place, create=True), _news(as_json=as_json)
        follow = FollowOptions(source=method.value, max_lag_s=1.0, patience_s=patience_s, rollover_s=0.0)
        try:
            with backups.alone(place, found.survey.name):
                report = guard(
                    found.remote,
                    found.survey,
                    opened,
                    GuardOptions(follow),
                    scratch=backups.scratch(),
                    upgrade=_command(command, stop, news, as_json=as_json) if command else _waiting(stop, news),
                    offer=lambda findings: _offered(findings, yes=yes, as_json=as_json),
                    on_news=news,
                    progress=progress,
                    stop=stop,
                )
        except NotBack as error:
            raise Refused(str(error), GAPS) from error
    _show(report, found.remote.name, dest, as_json=as_json)
    if code := exit_code(report):
        raise typer.Exit(code)


def exit_code(report: GuardReport) -> int:
    """0, 5, 4; 1 when the data is whole and the command failed."""
    match report.verdict:
        case "different":
            return DIFFERENT
        case "unproved":
            return GAPS
    return FAILED if report.command else 0


def _command(words: list[str], stop: threading.Event, news: OnNews, *, as_json: bool) -> Upgrade:
    """Run it; its output passes through, beside the page of --json on stderr.

    The first signal asks it to end and is waited for, the second kills it. On a terminal, where it may ask for
    something, it stays in the terminal's group, and the terminal signals it too; else it has a group of its own.
    """

    def run(lost: Callable[[], bool]) -> int:
        own, out, sent = None if sys.stdin.isatty() else 0, sys.stderr if as_json else None, 0
        with _signals() as came, subprocess.Popen(words, stdout=out, process_group=own) as process:
            while True:
                try:
                    code = process.wait(_LOOK_S)
                    break
                except subprocess.TimeoutExpired:
                    if (asked := len(came)) == sent:  # another may come at any moment: look once
                        continue
                _send(process, signal.SIGKILL if asked > 1 else signal.SIGTERM, group=own is not None)
                if asked == 1:
                    who = f"{words[0]} (process {process.pid})"
                    news(f"stopping: {who} was asked to end and is waited for; the next signal kills it")
                sent = asked
        if came:
            stop.set()
        news(f"{words[0]} ended with exit code {code}" if code >= 0 else f"{words[0]} was ended by signal {-code}")
        return code

    return run


def _send(process: subprocess.Popen[bytes], number: int, *, group: bool) -> None:
    if not group:
        process.send_signal(number)
        return
    with suppress(ProcessLookupError):  # it has just ended
        os.killpg(process.pid, number)


@contextmanager
def _signals(*, hangup: bool = True) -> Iterator[list[int]]:
    """The numbers of the signals that come meanwhile and ask for an end. SIGHUP stays ignored where it is (nohup)."""
    came: list[int] = []
    heeded = [signal.SIGINT, signal.SIGTERM]
    if hangup and signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:
        heeded.append(signal.SIGHUP)
    before = {number: signal.signal(number, lambda got, _: came.append(got)) for number in heeded}
    try:
        yield came
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _waiting(stop: threading.Event, news: OnNews) -> Upgrade:
    """Until SIGINT or SIGTERM says that it is done. A terminal that is closed (SIGHUP) says no such thing."""

    def wait(lost: Callable[[], bool]) -> None:
        with _signals(hangup=False) as done:
            news("upgrade now; Ctrl-C (or SIGTERM) when it is done")
            while not (done or lost() or stop.wait(_LOOK_S)):
                pass
        if done:
            news("the upgrade is said to be done")

    return wait


def _news(*, as_json: bool) -> OnNews:
    """Sentences on stderr, as they come; from several threads."""
    err, lock = console(stderr=True), threading.Lock()

    def tell(sentence: str) -> None:
        now = datetime.now(UTC)
        with lock:
            if as_json:
                line = {"event": "news", "at": now.isoformat(timespec="milliseconds"), "text": sentence}
                print(json.dumps(line), file=sys.stderr, flush=True)
            else:
                err.print(f"{now:%H:%M:%S} {sentence}", markup=False, soft_wrap=True)

    return tell


def _offered(findings: Findings, *, yes: bool, as_json: bool) -> bool:
    if yes:
        return True
    if as_json or not (sys.stdin.isatty() and sys.stderr.isatty()):
        return False
    for line in _counted(findings):
        typer.echo(line, err=True)
    return typer.confirm(f"Put back these {findings.to_restore:,}?", err=True)


def _show(report: GuardReport, source: str, dest: str, *, as_json: bool) -> None:
    if as_json:
        print_page(_page(report))
        return
    out = console()
    colour = {"proved": "green", "different": "red", "unproved": "yellow"}[report.verdict]
    words = {"proved": "nothing is missing", "different": "keys are missing", "unproved": "could not be proved"}
    out.print(f"[bold]{report.generation}[/bold]  [{colour}]{words[report.verdict]}[/]", soft_wrap=True)
    away = "never away"
    if report.outages:
        away = f"away {report.downtime_ms / 1000:.1f} s (first failed contact to first answer)"
    before, after = moment_text(report.covered_since_ms), moment_text(report.covered_until_ms)
    lines = [
        f"{report.before} before, {report.after} after; {away}",
        f"captured by {report.method}; every change from {before} to {after} is known{_later(report)}",
        f"{report.found.compared:,} keys compared, {report.found.written:,} left out, for they were written meanwhile",
        *_counted(report.found),
        *_restored(report.restored, report.left),
        *report.notes,
    ]
    for line in lines:
        out.print(f"  {line}", markup=False, soft_wrap=True)
    for line in report.why:
        out.print(f"  {line}", style="yellow", markup=False, soft_wrap=True)
    if report.command:
        out.print(f"  the command ended with exit code {report.command}", style="red")
    if report.left.to_restore:
        at = moment_text(report.covered_until_ms - report.clock_ahead_ms)
        restore = ["cachekeep", "backup", "restore", dest, source, "--id", report.generation, "--at", at]
        what = "nothing was put back" if report.restored is None else "not all was put back"
        out.print(f"  {what}; one key is put back, as it was at that moment, by", style="red")
        out.print(f"    {shlex.join(restore)} --db N --key NAME", markup=False, soft_wrap=True)
        if report.only_here:
            out.print(
                f"  {report.only_here:,} of these keys changed after that moment: what they were then is older or"
                " nothing, and only the guard itself puts their last change back (--yes, before it ends)",
                style="red",
                soft_wrap=True,
            )


def _later(report: GuardReport) -> str:
    """What was captured after the last moment of which all is known."""
    if not report.later:
        return ""
    return f"; {report.later:,} keys changed after that and were captured too, perhaps not the last of them"


def _counted(findings: Findings) -> list[str]:
    """A line per class, and its keys by name."""
    lines = []
    named = findings.named()
    for one in CLASSES:
        if keys := findings[one]:
            names = ", ".join(f"db{db} {text_of(key)}" for db, key in named[one])
            more = ", ..." if len(keys) > len(named[one]) else ""
            lines.append(f"{one}: {len(keys):,} keys ({_MEANING[one]}): {names}{more}")
    if findings.functions == "different":
        lines.append("function libraries are missing")
    return lines


def _restored(restored: Restored | None, left: Findings) -> list[str]:
    if restored is None:
        return []
    lines = [
        f"{restored.written:,} keys put back, {restored.deleted:,} deleted again, {left.to_restore:,} still differ"
    ]
    if restored.kept:
        lines.append(f"{restored.kept:,} keys were written or expired meanwhile, and left as they are")
    lines += [f"refused: db{db} {text_of(key)}: {why}" for db, key, why in restored.refused[:20]]
    if restored.functions not in ("none", "kept"):
        lines.append(f"functions: {restored.functions}")
    return lines


def _page(report: GuardReport) -> dict[str, Any]:
    def of(findings: Findings) -> dict[str, Any]:
        return {
            "compared": findings.compared,
            "written_meanwhile": findings.written,
            "counts": {one: len(findings[one]) for one in CLASSES},
            "named": {one: [{"db": db, "key": key} for db, key in keys] for one, keys in findings.named().items()},
            "unread": dict(findings.unread),
            "functions": findings.functions,
        }

    same = ("generation", "method", "why_method", "command", "outages", "downtime_ms", "before", "after", "verdict")
    return {
        **{name: getattr(report, name) for name in same},
        "covered": [report.covered_since_ms, report.covered_until_ms],
        "found": of(report.found),
        "restored": report.restored,
        "left": of(report.left),
        "written_since": report.written_since,
        "later": report.later,
        "only_here": report.only_here,
        "why": report.why,
        "notes": report.notes,
        "seconds": report.seconds,
    }
