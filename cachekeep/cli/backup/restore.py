"""`cachekeep backup restore`: put back what differs, and only that."""

from __future__ import annotations

from typing import Annotated

import typer
from rich.table import Table

from cachekeep import backups
from cachekeep.backup.catalog import Repository, Status
from cachekeep.backup.contents import open_generation
from cachekeep.backup.restore import RestoreOptions, RestoreReport, restore
from cachekeep.cli.backup import options
from cachekeep.cli.backup.outcome import FAILED, GAPS, stoppable, told
from cachekeep.cli.backup.page import print_page, text_of
from cachekeep.cli.backup.progress import shown
from cachekeep.cli.console import console
from cachekeep.cli.refusal import Refused
from cachekeep.codec.segment import SegmentError

_SHOWN_REFUSED = 20


def restore_(
    dest: options.Dest,
    target: options.Target,
    wanted: options.Id = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Compare and count; write nothing.")] = False,
    delete_extra: Annotated[
        bool, typer.Option("--delete-extra", help="Remove keys of the target that the backup does not have.")
    ] = False,
    damaged: Annotated[
        bool, typer.Option("--damaged", help="Restore what is still whole of a damaged or unfinished backup.")
    ] = False,
    db: options.Databases = None,
    match: options.Match = None,
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
    """Write to TARGET every key of the backup that differs there; run it again to go on after an interruption.

    Keys that the backup does not have stay, unless --delete-extra. Exit code 4 when keys were refused or lost.
    """
    damages: list[str] = []
    with told(), stoppable() as stop, shown(as_json=as_json) as progress:
        place = options.place_of(dest, passphrase_file, key_file, s3_endpoint, s3_region)
        access = options.access_of(user, password_file, ca, cert, cert_key, insecure)
        opened = backups.repository(place, rescue=damaged)
        name = backups.generation(opened, wanted, tuple(Status) if damaged else ()).name
        found = options.endpoint_of("TARGET", target, timeout_s, access)
        if found.db is not None:
            raise backups.UrlError(
                "a restore writes every database to the one of the same number: leave the number out of the URL"
            )
        settings = RestoreOptions(
            dry_run=dry_run,
            delete_extra=delete_extra,
            databases=options.databases_of(db),
            match=options.match_of(match),
        )
        with open_generation(
            opened,
            name,
            backups.scratch(),
            unfinished=damaged,
            on_damage=(lambda finding: damages.append(str(finding))) if damaged else None,
        ) as contents:
            try:
                report = restore(contents, found.remote, found.survey, settings, progress=progress, stop=stop)
            except SegmentError as error:
                what = f"{name} is damaged ({error}); what was written before it was met stays"
                advice = "`backup verify` names all damage, --damaged restores what is whole"
                raise Refused(f"{what}; {advice}", FAILED) from error
    gaps = gaps_of(opened, name)
    _show(report, name, found.survey.server, damages, gaps, as_json=as_json)
    if not report.complete or damages or gaps:
        raise typer.Exit(GAPS)


def gaps_of(opened: Repository, name: str) -> list[str]:
    """What the backup itself says that it does not know."""
    one = opened.generation(name)
    if one.end is None:
        return [f"{name} is unfinished: what was not copied yet is not in it"]
    return [gap.reason for gap in one.end.gaps]


def _show(report: RestoreReport, name: str, server: str, damages: list[str], gaps: list[str], *, as_json: bool) -> None:
    if as_json:
        print_page({"backup": name, "report": report, "complete": report.complete, "damages": damages, "gaps": gaps})
        return
    out = console()
    verb = "would be restored" if report.dry_run else "restored"
    out.print(f"[bold]{name}[/bold] {verb} to {server} in {report.seconds:.1f} s", soft_wrap=True)
    table = Table(box=None, pad_edge=False)
    columns = ("kept", "written", "expired", "deleted", "refused")
    table.add_column("database")
    for column in columns:
        table.add_column(column, justify="right")
    for number, counts in sorted(report.databases.items()):
        numbers = (counts.kept, counts.written, counts.expired, counts.deleted, sum(counts.refused.values()))
        table.add_row(f"db{number}", *(f"{one:,}" for one in numbers))
    out.print(table)
    if report.functions != "none":
        out.print(f"functions: {report.functions}", markup=False, soft_wrap=True)
    show_refused(report)
    if report.lost:
        out.print(report.lost, style="red", markup=False, soft_wrap=True)
    for text in damages:
        out.print(f"damaged: {text}", style="red", markup=False, soft_wrap=True)
    for text in gaps:
        out.print(f"gap of the backup: {text}", style="red", markup=False, soft_wrap=True)


def show_refused(report: RestoreReport) -> None:
    """The keys that a target did not take, with its words."""
    out = console()
    for number, key, reason in report.refused[:_SHOWN_REFUSED]:
        out.print(f"refused: db{number} {text_of(key)}: {reason}", style="red", markup=False, soft_wrap=True)
    if report.refused_keys > _SHOWN_REFUSED:
        out.print(f"and {report.refused_keys - _SHOWN_REFUSED:,} refused keys more", style="red")
