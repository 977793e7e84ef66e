"""`cachekeep backup compact`: fewer and larger segments for what was followed, from a moment on."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable
from typing import Annotated

import typer

from cachekeep import backups
from cachekeep.backup.catalog import CatalogError, CatalogFault, Repository
from cachekeep.backup.compact import Compaction, compact, followed
from cachekeep.backup.coverage import moment_text
from cachekeep.backup.moments import moment_of, skew_ms
from cachekeep.backup.progress import OnProgress
from cachekeep.cli.backup import options
from cachekeep.cli.backup.outcome import FAILED, stoppable, told
from cachekeep.cli.backup.page import print_page
from cachekeep.cli.backup.progress import shown
from cachekeep.cli.backup.run import duration_of
from cachekeep.cli.backup.words import counted
from cachekeep.cli.console import console, in_bytes
from cachekeep.cli.refusal import MISUSE, Refused

Before = Annotated[
    str | None,
    typer.Option("--before", metavar="TIME", help="Give up the moments before it: 2026-11-22T21:00:00Z, or 36h ago."),
]
Window = Annotated[
    float | None,
    typer.Option(
        "--window",
        parser=duration_of,
        metavar="TIME",
        help="Keep any-moment restore for so long back from now: 7d, 12h.",
    ),
]
One = Annotated[
    str | None,
    typer.Option("--id", metavar="ID", help="Which backup, by the beginning of its name; default: all followed ones."),
]


def compact_(
    dest: options.Dest,
    wanted: One = None,
    before: Before = None,
    window_s: Window = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be kept; write nothing.")] = False,
    passphrase_file: options.PassphraseFile = None,
    key_file: options.SealKeyFile = None,
    s3_endpoint: options.S3Endpoint = None,
    s3_region: options.S3Region = None,
    as_json: options.Json = False,
) -> None:
    """Join the segments of backups that were followed and are not being written. Without --before and --window every
    moment stays restorable; with one of them the state at that moment becomes the beginning.

    A backup takes the place of the old one once it was read back and found equal. Interrupted, the old one is there.
    """
    with told(), stoppable() as stop, shown(as_json=as_json) as progress:
        before_ms = _before_ms(before, window_s)
        opened = backups.repository(options.place_of(dest, passphrase_file, key_file, s3_endpoint, s3_region))
        if wanted:
            name = backups.generation(opened, wanted).name
            done = [compact(opened, name, before_ms=before_ms, dry_run=dry_run, progress=progress, stop=stop)]
            left: dict[str, CatalogError] = {}
        else:
            names = [one.name for one in followed(opened)]
            done, left = _each(opened, names, before_ms, progress, stop, dry_run=dry_run)
    if as_json:
        reasons = {name: str(error) for name, error in left.items()}
        print_page({"dry_run": dry_run, "compacted": done, "left": reasons})
    else:
        _show(opened, done, left, dry_run=dry_run)
    if any(error.fault is not CatalogFault.STATE for error in left.values()):
        raise typer.Exit(FAILED)


def _before_ms(before: str | None, window_s: float | None) -> int | None:
    """By this machine's clock."""
    if before is not None and window_s is not None:
        raise Refused("--before and --window say the same in two ways: give one of them", MISUSE)
    now_ms = time.time_ns() // 1_000_000
    if window_s is not None:
        return now_ms - round(window_s * 1000)
    if before is None:
        return None
    moment = moment_of(before, now_ms)
    if moment.ms is None:
        raise Refused(f"--before {before} is no time: write 2026-11-22T21:00:00Z, or 36h ago", MISUSE)
    return moment.ms


def _each(
    opened: Repository,
    names: Iterable[str],
    before_ms: int | None,
    progress: OnProgress,
    stop: threading.Event,
    *,
    dry_run: bool,
) -> tuple[list[Compaction], dict[str, CatalogError]]:
    """What was done, and by name why others were left as they are."""
    done: list[Compaction] = []
    left: dict[str, CatalogError] = {}
    for name in names:
        try:
            done.append(compact(opened, name, before_ms=before_ms, dry_run=dry_run, progress=progress, stop=stop))
        except CatalogError as error:
            left[name] = error
    return done, left


def _show(opened: Repository, done: Iterable[Compaction], left: dict[str, CatalogError], *, dry_run: bool) -> None:
    """Moments by this machine's clock."""
    out = console()
    for one in done:
        ahead_ms = skew_ms(opened.generation(one.made or one.name).head)
        kept = f"moments from {moment_text(one.since_ms - ahead_ms)} to {moment_text(one.until_ms - ahead_ms)}"
        if one.made:
            sizes = f"{one.segments[0]:,} -> {counted(one.segments[1] or 0, 'segment')}"
            stored = f"{in_bytes(one.bytes[0])} -> {in_bytes(one.bytes[1] or 0)}"
            text = f"{one.name} is now {one.made}: {kept}, {sizes}, {stored}"
        elif dry_run and one.note is None:
            text = f"{one.name} would be compacted: {kept} would stay, of {counted(one.segments[0], 'segment')}"
        else:
            text = f"{one.name} stays as it is"
        note = (one.note or "").replace(": ", "; ")
        out.print(f"{text}: {note}" if note else text, markup=False, soft_wrap=True)
    for name, why in left.items():
        out.print(f"{name} stays: {str(why).removeprefix(name).lstrip()}", markup=False, soft_wrap=True)
    if not (done or left):
        out.print("No backup here was followed: there is nothing to compact")
