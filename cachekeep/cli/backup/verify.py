"""`cachekeep backup verify`: prove a backup."""

from __future__ import annotations

from typing import Annotated

import typer

from cachekeep import backups
from cachekeep.backup.catalog import Status
from cachekeep.backup.coverage import moment_text
from cachekeep.backup.moments import skew_ms
from cachekeep.backup.verify import VerifyReport, verify
from cachekeep.cli.backup import options
from cachekeep.cli.backup.diff import show_differences
from cachekeep.cli.backup.outcome import DIFFERENT, FAILED, GAPS, stoppable, told
from cachekeep.cli.backup.page import print_page
from cachekeep.cli.backup.progress import shown
from cachekeep.cli.backup.restore import At, gaps_of, show_clock_shift, show_refused
from cachekeep.cli.backup.words import counted
from cachekeep.cli.console import console

_SHOWN_FINDINGS = 50


def verify_(
    dest: options.Dest,
    wanted: options.Id = None,
    at: At = None,
    against: Annotated[
        str | None, typer.Option("--against", metavar="URL", help="Compare every key with this living endpoint.")
    ] = None,
    deep: Annotated[
        bool, typer.Option("--deep", help="Load it into an engine of this machine and compare every key.")
    ] = False,
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
    """Read every byte of a backup and its digests; with --deep and --against, every key.

    Exit code 1 when it is damaged, 4 when it has gaps, 5 when keys differ.
    """
    with told(), stoppable() as stop, shown(as_json=as_json) as progress:
        place = options.place_of(dest, passphrase_file, key_file, s3_endpoint, s3_region)
        opened = backups.repository(place)
        name, at_ms = backups.chosen(opened, wanted, at, (Status.COMPLETE, Status.OPEN, Status.GAPS, Status.DAMAGED))
        living = None
        if against:
            access = options.access_of(user, password_file, ca, cert, cert_key, insecure)
            found = options.endpoint_of("SOURCE", against, timeout_s, access)
            living = (found.remote, found.survey)
        report = verify(
            opened,
            name,
            at_ms=at_ms,
            against=living,
            deep=deep,
            scratch=backups.scratch(),
            progress=progress,
            stop=stop,
        )
        gaps = gaps_of(opened, name, report.at_ms) if report.status is not Status.DAMAGED else []
        moment = None if report.at_ms is None else moment_text(report.at_ms - skew_ms(opened.generation(name).head))
    if as_json:
        page = {"report": report, "intact": report.intact, "proved": report.proved, "gaps": gaps, "at": moment}
        print_page(page)
    else:
        _show(report, gaps, moment)
    if code := _code(report):
        raise typer.Exit(code)


def _code(report: VerifyReport) -> int:
    """The worst of what was found."""
    if not report.intact or report.status is Status.DAMAGED:
        return FAILED
    if (report.deep and not report.deep.proved) or (report.against and report.against.differs):
        return DIFFERENT
    return 0 if report.proved else GAPS


def _show(report: VerifyReport, gaps: list[str], moment: str | None) -> None:
    out = console()
    if report.intact:
        out.print(f"[bold]{report.generation}[/bold]  every byte is as it was written", soft_wrap=True)
    else:
        out.print(f"[bold]{report.generation}[/bold]  [red]damaged in {counted(len(report.findings), 'place')}[/red]")
    for finding in report.findings[:_SHOWN_FINDINGS]:
        out.print(f"damaged: {finding}", style="red", markup=False, soft_wrap=True)
    for row in report.keyspace:
        keys = "- keys" if row.keys is None else counted(row.keys, "key")
        out.print(f"  db{row.db} {keys}: {row.explanation()}", markup=False, soft_wrap=True)
    if report.deep:
        out.print(f"loaded into {report.deep.engine} and compared:", markup=False)
        show_refused(report.deep.loaded)
        show_differences(report.deep.differences, ("the backup", "the engine"))
    if report.against:
        out.print("compared with the living endpoint (what differs may have changed since):")
        show_differences(report.against, ("the backup", "the endpoint"))
        show_clock_shift(report.against.clock_shift_ms, "the endpoint", "the source when it was captured")
    for text in (*report.notes, *gaps):
        out.print(text, style="yellow", markup=False, soft_wrap=True)
    if report.proved:
        out.print(f"[green]proved[/]{f', as of {moment}' if moment else ''}")
