"""`cachekeep backup restore`: put back what differs, and only that."""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated

import typer
from rich.table import Table

from cachekeep import backups
from cachekeep.backup.catalog import Repository, Status
from cachekeep.backup.contents import Contents, GenerationContents, Selected, literal, open_generation
from cachekeep.backup.coverage import moment_text
from cachekeep.backup.moments import skew_told
from cachekeep.backup.restore import RestoreOptions, RestoreReport, restore
from cachekeep.cli.backup import options
from cachekeep.cli.backup.outcome import FAILED, GAPS, stoppable, told
from cachekeep.cli.backup.page import print_page, text_of
from cachekeep.cli.backup.progress import shown
from cachekeep.cli.backup.words import counted
from cachekeep.cli.console import console
from cachekeep.cli.refusal import Refused
from cachekeep.codec.segment import SegmentError

_SHOWN_REFUSED = 20
_ESCAPE = re.compile(rb"\\(?:x([0-9a-fA-F]{2})|([\\nrt]))")
_ESCAPED = {b"\\": b"\\", b"n": b"\n", b"r": b"\r", b"t": b"\t"}

At = Annotated[
    str | None,
    typer.Option(
        "--at",
        metavar="TIME",
        help="As it was then: 2026-11-22T21:00:00.123Z, 5m ago, now, or a segment like #12; of a backup made with "
        "--follow. Default: the latest moment.",
        rich_help_panel=options.CHOICE,
    ),
]
Key = Annotated[
    str | None,
    typer.Option(
        "--key",
        metavar="KEY",
        help="Only this key, no glob; bytes as in \\xff, a backslash as two.",
        rich_help_panel=options.CHOICE,
    ),
]
NewName = Annotated[
    str | None,
    typer.Option("--as", metavar="NAME", help="Give the key of --key this name.", rich_help_panel=options.CHOICE),
]


def restore_(
    dest: options.Dest,
    target: options.Target,
    wanted: options.Id = None,
    at: At = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Compare and count; write nothing.")] = False,
    delete_extra: Annotated[
        bool, typer.Option("--delete-extra", help="Remove keys of the target that the backup does not have.")
    ] = False,
    damaged: Annotated[
        bool, typer.Option("--damaged", help="Restore what is still whole of a damaged or unfinished backup.")
    ] = False,
    db: options.Databases = None,
    match: options.Match = None,
    key: Key = None,
    new_name: NewName = None,
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
    one_key, name_there = one_key_of(key, new_name, match)
    if new_name is not None and delete_extra:
        raise Refused("--as and --delete-extra do not go together: what has the new name already is nothing extra")
    with told(), stoppable() as stop, shown(as_json=as_json) as progress:
        place = options.place_of(dest, passphrase_file, key_file, s3_endpoint, s3_region)
        access = options.access_of(user, password_file, ca, cert, cert_key, insecure)
        opened = backups.repository(place, rescue=damaged)
        name, at_ms = backups.chosen(opened, wanted, at, tuple(Status) if damaged else ())
        found = _target(options.endpoint_of("TARGET", target, timeout_s, access))
        databases = options.databases_of(db)
        pattern = options.match_of(match) if one_key is None else literal(one_key if name_there is None else name_there)
        settings = RestoreOptions(dry_run=dry_run, delete_extra=delete_extra, databases=databases, match=pattern)
        with open_generation(
            opened,
            name,
            backups.scratch(),
            unfinished=damaged,
            on_damage=(lambda finding: damages.append(str(finding))) if damaged else None,
            at_ms=at_ms,
        ) as contents:
            read: Contents = contents
            if one_key is not None:
                read = Selected(contents, databases=databases, key=one_key, name=name_there, may_be_absent=delete_extra)
            with _damage_refused(name):
                report = restore(read, found.remote, found.survey, settings, progress=progress, stop=stop)
    gaps = gaps_of(opened, name, contents.at_ms)
    _show(report, contents, found.survey.server, damages, gaps, as_json=as_json)
    if not report.complete or damages or gaps:
        raise typer.Exit(GAPS)


def _target(found: backups.Endpoint) -> backups.Endpoint:
    """Raises UrlError."""
    if found.db is not None:
        raise backups.UrlError(
            "a restore writes every database to the one of the same number: leave the number out of the URL"
        )
    return found


@contextmanager
def _damage_refused(name: str) -> Iterator[None]:
    try:
        yield
    except SegmentError as error:
        what = f"{name} is damaged ({error}); what was written before it was met stays"
        advice = "`backup verify` names all damage, --damaged restores what is whole"
        raise Refused(f"{what}; {advice}", FAILED) from error


def one_key_of(key: str | None, new_name: str | None, match: str | None) -> tuple[bytes | None, bytes | None]:
    """--key, and the name that it gets; both None without --key. Raises Refused."""
    if key is None:
        if new_name is not None:
            raise Refused("--as names a key anew: say which with --key")
        return None, None
    if match is not None:
        raise Refused("--key names one key and --match many: leave one of them away")
    one = key_of("--key", key)
    return one, None if new_name is None else key_of("--as", new_name)


def key_of(option: str, text: str) -> bytes:
    """A key as a user writes it, and as pages of this program show it: text with `\\xff`, or `b64:` and base64."""
    if text.startswith("b64:"):
        try:
            return base64.b64decode(text[4:], validate=True)
        except binascii.Error:
            raise Refused(f"{option} {text!r} is no base64; a key that begins so itself: write \\x62 for b") from None
    data = text.encode("utf-8", "surrogateescape")
    if b"\\" in _ESCAPE.sub(b"", data):
        raise Refused(
            f"{option} {text!r} has a backslash that begins nothing known: \\xff \\n \\r \\t, or \\\\ for itself"
        )
    return _ESCAPE.sub(lambda found: bytes.fromhex(found[1].decode()) if found[1] else _ESCAPED[found[2]], data)


def as_of(contents: GenerationContents) -> dict[str, str | int | None]:
    """For JSON: the moment that was read, by this machine's clock, and in ms by the source's."""
    if contents.at_ms is None:
        return {"at": None, "at_ms": None}
    return {"at": moment_text(contents.at_ms - (contents.clock_ahead_ms or 0)), "at_ms": contents.at_ms}


def show_moment(contents: GenerationContents) -> None:
    """The moment that was read, where the source was followed, and what its clock has to do with it."""
    out = console()
    if contents.at_ms is not None:
        out.print(f"as of {as_of(contents)['at']}", markup=False, soft_wrap=True)
        if told_of := skew_told(contents.head):
            out.print(told_of, style="yellow", markup=False, soft_wrap=True)


def show_clock_shift(shift_ms: int, ahead: str, of: str) -> None:
    """That expiries were moved, because the clocks differ. ahead, of: what the two sides are called."""
    if shift_ms:
        way = "ahead of" if shift_ms > 0 else "behind"
        console().print(
            f"the clock of {ahead} is {abs(shift_ms) / 1000:.1f} s {way} that of {of}: expiries were moved by as much, "
            "and are compared to a second",
            style="yellow",
            markup=False,
            soft_wrap=True,
        )


def gaps_of(opened: Repository, name: str, at_ms: int | None = None) -> list[str]:
    """What the backup itself says that it does not know; nothing, of a moment that it covers."""
    if at_ms is not None:
        return []
    one = opened.generation(name)
    if one.end is None:
        return [f"{name} is unfinished: what was not copied yet is not in it"]
    return [gap.reason for gap in one.end.gaps]


def _show(
    report: RestoreReport,
    contents: GenerationContents,
    server: str,
    damages: list[str],
    gaps: list[str],
    *,
    as_json: bool,
) -> None:
    name = contents.name
    if as_json:
        page = {"backup": name, "report": report, "complete": report.complete, "damages": damages, "gaps": gaps}
        print_page(page | as_of(contents))
        return
    out = console()
    verb = "would be restored" if report.dry_run else "restored"
    out.print(f"[bold]{name}[/bold] {verb} to {server} in {report.seconds:.1f} s", soft_wrap=True)
    show_moment(contents)
    show_clock_shift(report.clock_shift_ms, "the target", "the source when it was captured")
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
        out.print(f"and {counted(report.refused_keys - _SHOWN_REFUSED, 'refused key')} more", style="red")
