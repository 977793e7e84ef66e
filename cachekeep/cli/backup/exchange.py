"""`cachekeep backup export` and `import`: to and from other formats."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from cachekeep import backups
from cachekeep.backup.contents import Contents, Selected, open_generation
from cachekeep.backup.export import ExportReport, Format, export
from cachekeep.backup.export_aof import AofReport, export_aof
from cachekeep.backup.ingest import IngestReport, ingest
from cachekeep.cli.backup import options
from cachekeep.cli.backup.outcome import GAPS, told
from cachekeep.cli.backup.page import print_page
from cachekeep.cli.backup.progress import shown
from cachekeep.cli.backup.restore import (
    At,
    Key,
    NewName,
    as_of,
    gaps_of,
    one_key_of,
    show_moment,
)
from cachekeep.cli.backup.words import counted, where
from cachekeep.cli.console import console, in_bytes
from cachekeep.cli.refusal import Refused
from cachekeep.codec.dump import Target
from cachekeep.domain.engine import Engine, EngineVersion


class Form(StrEnum):
    JSON = "json"
    RDB = "rdb"
    RESP = "resp"
    AOF = "aof"


_FORMATS: dict[Form, Format] = {Form.JSON: "json", Form.RDB: "rdb", Form.RESP: "resp"}


def export_(
    dest: options.Dest,
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="A folder that is empty or not there yet.")],
    form: Annotated[
        Form,
        typer.Option(
            "--format",
            help="json: readable chunks; rdb: an engine's file; resp: for redis-cli --pipe; aof: an appendonlydir, "
            "where the source was followed by psync.",
        ),
    ],
    for_: Annotated[
        str | None,
        typer.Option("--for", metavar="ENGINE:VERSION", help="What is to load rdb or resp, such as redis:6.2."),
    ] = None,
    wanted: options.Id = None,
    at: At = None,
    db: options.Databases = None,
    match: options.Match = None,
    key: Key = None,
    new_name: NewName = None,
    passphrase_file: options.PassphraseFile = None,
    key_file: options.SealKeyFile = None,
    s3_endpoint: options.S3Endpoint = None,
    s3_region: options.S3Region = None,
    as_json: options.Json = False,
) -> None:
    """Write a backup as JSON, RDB, RESP or AOF. Exit code 4 when keys are missing: each is named."""
    one_key, name_there = one_key_of(key, new_name, match)
    databases, pattern = options.databases_of(db), options.match_of(match)
    limited = (databases, pattern, one_key) != (None, None, None)
    if form is Form.AOF and (limited or for_ is not None):
        raise Refused("--format aof is all of the source for its own engine: leave --db, --match, --key and --for away")
    with told(), shown(as_json=as_json) as progress:
        opened = backups.repository(options.place_of(dest, passphrase_file, key_file, s3_endpoint, s3_region))
        name, at_ms = backups.chosen(opened, wanted, at)
        with open_generation(opened, name, backups.scratch(), at_ms=at_ms) as contents:
            read: Contents = contents
            if limited:
                read = Selected(contents, databases=databases, match=pattern, key=one_key, name=name_there)
            report: ExportReport | AofReport
            if form is Form.AOF:
                report = export_aof(opened, name, folder, contents.at_ms)
            else:
                report = export(read, folder, _FORMATS[form], target=_target_of(for_), progress=progress)
        gaps = gaps_of(opened, name, contents.at_ms)
    if as_json:
        print_page({"report": report, "gaps": gaps} | as_of(contents))
    else:
        _show_export(report, gaps) if isinstance(report, ExportReport) else _show_aof(report)
        show_moment(contents)
    if gaps or (isinstance(report, ExportReport) and report.skipped):
        raise typer.Exit(GAPS)


def import_(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="Folder with redis_backup_db*_part_*.json files.")],
    dest: options.Dest,
    passphrase_file: options.PassphraseFile = None,
    key_file: options.SealKeyFile = None,
    s3_endpoint: options.S3Endpoint = None,
    s3_region: options.S3Region = None,
    as_json: options.Json = False,
) -> None:
    """Make a backup in DEST of a folder of JSON chunks. Exit code 4 when keys or files are missing: each is named."""
    with told(), shown(as_json=as_json) as progress:
        place = options.place_of(dest, passphrase_file, key_file, s3_endpoint, s3_region)
        report = ingest(folder, backups.repository(place, create=True), progress)
    if as_json:
        print_page(report)
    else:
        _show_import(report)
    if report.verdict != "complete" or report.skipped:
        raise typer.Exit(GAPS)


def _target_of(text: str | None) -> Target | None:
    if text is None:
        return None
    name, _, version = text.partition(":")
    try:
        return Target(Engine(name.lower()), EngineVersion.parse(version))
    except ValueError:
        raise backups.UrlError(
            f"--for {text!r} is no engine and version: write redis:6.2, redis:7.0, valkey:8.1 or the like"
        ) from None


def _show_export(report: ExportReport, gaps: list[str]) -> None:
    out = console()
    keys = sum(report.written.values())
    out.print(
        f"{counted(keys, 'key')} of {report.generation} in {counted(len(report.files), 'file')} of {report.folder}, "
        f"{in_bytes(report.bytes)}",
        markup=False,
        soft_wrap=True,
    )
    for reason, count in report.skipped.items():
        out.print(f"not written: {counted(count, 'key')}: {reason}", style="red", markup=False, soft_wrap=True)
    for text in gaps:
        out.print(f"gap of the backup: {text}", style="red", markup=False, soft_wrap=True)


def _show_aof(report: AofReport) -> None:
    out = console()
    for lane, folder in report.folders.items():
        text = f"{report.generation}{where(lane)}: start an engine with `--appendonly yes --dir {folder}`"
        out.print(text, markup=False, soft_wrap=True)
    out.print(f"{in_bytes(report.bytes)} written")


def _show_import(report: IngestReport) -> None:
    out = console()
    out.print(
        f"[bold]{report.generation}[/bold]  {counted(sum(report.keys.values()), 'key')} of "
        f"{counted(report.files, 'file')}",
        soft_wrap=True,
    )
    if report.gone:
        out.print(f"  {counted(report.gone, 'key')} had expired")
    for reason, count in report.skipped.items():
        out.print(f"  skipped: {counted(count, 'key')}: {reason}", style="red", markup=False, soft_wrap=True)
    for name in report.missing:
        out.print(f"  missing: {name}", style="red", markup=False, soft_wrap=True)
