"""`cachekeep backup run`: copy an endpoint into a backup."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

import typer

from cachekeep import backups
from cachekeep.backup.copy import CopyOptions, CopyReport, copy
from cachekeep.cli.backup import options
from cachekeep.cli.backup.outcome import GAPS, stoppable, told
from cachekeep.cli.backup.page import print_page
from cachekeep.cli.backup.progress import shown
from cachekeep.cli.console import console, in_bytes


class Method(StrEnum):
    AUTO = "auto"
    PSYNC = "psync"
    SCAN = "scan"


def run(
    source: options.Source,
    dest: options.Dest,
    method: Annotated[
        Method,
        typer.Option(
            "--source", help="How to read: the replication snapshot, or SCAN and DUMP; auto takes what works."
        ),
    ] = Method.AUTO,
    db: options.Databases = None,
    match: options.Match = None,
    max_keys_per_s: Annotated[
        int | None, typer.Option("--max-keys-per-s", metavar="N", min=1, help="Spare the source: at most so many keys.")
    ] = None,
    count: Annotated[int, typer.Option("--count", metavar="N", min=1, max=10_000, help="Keys in one exchange.")] = 100,
    patience_s: Annotated[
        float, typer.Option("--patience", metavar="SECONDS", min=0, help="Wait so long for a source that went away.")
    ] = 60.0,
    anew: Annotated[bool, typer.Option("--anew", help="Begin a new backup even if one is unfinished.")] = False,
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
    """Copy every key of SOURCE into a new backup in DEST; an interrupted copy goes on where it was.

    Exit code 4 when something is missing: each gap is named.
    """
    with told(), stoppable() as stop, shown(as_json=as_json) as progress:
        place = options.place_of(dest, passphrase_file, key_file, s3_endpoint, s3_region)
        access = options.access_of(user, password_file, ca, cert, cert_key, insecure)
        found = options.endpoint_of("SOURCE", source, timeout_s, access)
        wanted = CopyOptions(
            source=method.value,
            databases=options.databases_of(db, found.db),
            match=options.match_of(match),
            count=count,
            max_keys_per_s=max_keys_per_s,
            patience_s=patience_s,
            resume=not anew,
        )
        opened = backups.repository(place, create=True)
        report = copy(
            found.remote, found.survey, opened, wanted, scratch=backups.scratch(), progress=progress, stop=stop
        )
    _show(report, found.survey.server, as_json=as_json)
    if report.gaps:
        raise typer.Exit(GAPS)


def _show(report: CopyReport, server: str, *, as_json: bool) -> None:
    if as_json:
        print_page(report)
        return
    out = console()
    keys = sum(report.keys.values())
    rate = keys / report.seconds if report.seconds else 0
    verdict = "[red]with gaps[/red]" if report.gaps else "[green]complete[/green]"
    out.print(
        f"[bold]{report.generation}[/bold]  {verdict}  "
        f"{keys:,} keys of {server}, {in_bytes(report.bytes)} in {report.seconds:.1f} s ({rate:,.0f} keys/s)",
        soft_wrap=True,
    )
    if len(report.keys) > 1:
        out.print("  " + "  ".join(f"db{number} {count:,}" for number, count in sorted(report.keys.items())))
    out.print(f"  by {report.method}: {report.why}", markup=False, soft_wrap=True)
    if report.resumed:
        out.print("  went on with an unfinished copy")
    if report.interruptions:
        out.print(f"  the source went away {report.interruptions} times; `backup show` has when and why")
    if report.vanished:
        out.print(f"  {report.vanished:,} keys were deleted or expired before they could be read")
    for note in report.notes:
        out.print(f"  {note}", markup=False, soft_wrap=True)
    for gap in report.gaps:
        lane = f" ({gap.lane})" if gap.lane else ""
        out.print(f"  gap: {gap.reason}{lane}", style="red", markup=False, soft_wrap=True)
