"""`cachekeep backup diff`: where two endpoints, or a backup and an endpoint, differ."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated

import typer
from rich.table import Table

from cachekeep import backups
from cachekeep.backup.contents import Contents, GenerationContents, contents_of, open_generation
from cachekeep.backup.diff import DiffReport, diff
from cachekeep.cli.backup import options
from cachekeep.cli.backup.outcome import DIFFERENT, stoppable, told
from cachekeep.cli.backup.page import print_page, text_of
from cachekeep.cli.backup.progress import shown
from cachekeep.cli.backup.restore import At, as_of, show_clock_shift, show_moment
from cachekeep.cli.console import console

_SHOWN = 50


def diff_(
    left: Annotated[str, typer.Argument(metavar="A", help="An endpoint, or the place of a backup.")],
    right: Annotated[str, typer.Argument(metavar="B", help="An endpoint.")],
    wanted: options.Id = None,
    at: At = None,
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
    """Compare every key of A and B by value and expiry. Exit code 5 when anything differs.

    Where the endpoints have different passwords, put password_file=... into a URL, or set CACHEKEEP_SOURCE_PASSWORD
    for A and CACHEKEEP_TARGET_PASSWORD for B.
    """
    with told(), stoppable() as stop, shown(as_json=as_json) as progress:
        access = options.access_of(user, password_file, ca, cert, cert_key, insecure)
        if is_place(right):
            raise backups.UrlError("B has to be an endpoint: name the backup first, or restore one to compare two")
        other = options.endpoint_of("TARGET", right, timeout_s, access)
        place = options.place_of(left, passphrase_file, key_file, s3_endpoint, s3_region) if is_place(left) else None
        if at is not None and place is None:
            raise backups.UrlError("--at is a moment of a backup, and both A and B are endpoints")
        named = other.db
        if place is None:
            one = options.endpoint_of("SOURCE", left, timeout_s, access)
            named = _same_database(one.db, other.db)
        with _opened(place, wanted, at) if place else _living(one) as contents:
            databases, pattern = _limits(contents, options.databases_of(db, named), options.match_of(match))
            names = (contents.name, other.remote.name)
            report = diff(
                contents,
                other.remote,
                other.survey,
                databases=databases,
                match=pattern,
                progress=progress,
                stop=stop,
            )
    _show(report, contents, names, as_json=as_json)
    if report.differs:
        raise typer.Exit(DIFFERENT)


def is_place(text: str) -> bool:
    """A folder or a bucket, not an endpoint."""
    return text.startswith("s3://") or ("://" not in text and not text.startswith("unix:"))


def _same_database(left: int | None, right: int | None) -> int | None:
    if None not in (left, right) and left != right:
        raise backups.UrlError(
            f"the URLs name database {left} and {right}: a key is compared with that of the same database"
        )
    return right if left is None else left


def _limits(
    contents: Contents, databases: frozenset[int] | None, pattern: bytes | None
) -> tuple[frozenset[int] | None, bytes | None]:
    """What is compared: as asked, else what A was limited to when it was copied."""
    if isinstance(contents, GenerationContents):
        databases = contents.scope if databases is None else databases
        pattern = contents.glob if pattern is None else pattern
    return databases, pattern


@contextmanager
def _opened(place: backups.Place, wanted: str | None, at: str | None) -> Iterator[Contents]:
    opened = backups.repository(place)
    name, at_ms = backups.chosen(opened, wanted, at)
    with open_generation(opened, name, backups.scratch(), at_ms=at_ms) as contents:
        yield contents


@contextmanager
def _living(one: backups.Endpoint) -> Iterator[Contents]:
    yield contents_of(one.remote, one.survey)


def _show(report: DiffReport, contents: Contents, names: tuple[str, str], *, as_json: bool) -> None:
    if as_json:
        page = {"report": report, "differs": report.differs}
        print_page(page | (as_of(contents) if isinstance(contents, GenerationContents) else {}))
        return
    show_differences(report, names)
    if isinstance(contents, GenerationContents):
        show_moment(contents)
    show_clock_shift(report.clock_shift_ms, "B", "A")


def show_differences(report: DiffReport, sides: tuple[str, str]) -> None:
    """A table of numbers, then the keys by name. sides: what A and B are called."""
    out = console()
    out.print(f"A is {sides[0]}, B is {sides[1]}", markup=False, soft_wrap=True)
    table = Table(box=None, pad_edge=False)
    for column in ("database", "same", "different", "only in A", "only in B"):
        table.add_column(column, justify="left" if column == "database" else "right")
    for number, counts in sorted(report.databases.items()):
        different = sum(counts.different.values())
        table.add_row(
            f"db{number}", f"{counts.same:,}", f"{different:,}", f"{counts.only_left:,}", f"{counts.only_right:,}"
        )
    out.print(table)
    for number, key, what in report.named[:_SHOWN]:
        what = what.replace("on the left", "in A").replace("on the right", "in B")
        out.print(f"db{number} {text_of(key)}: {what}", markup=False, soft_wrap=True)
    for reason, count in report.left_unread.items():
        out.print(f"A did not show {count:,} keys: {reason}", style="red", markup=False, soft_wrap=True)
    for number, counts in sorted(report.databases.items()):
        for reason, count in counts.unread.items():
            out.print(f"db{number}: B did not show {count:,} keys: {reason}", style="red", markup=False, soft_wrap=True)
    if report.functions == "different":
        out.print("the function libraries differ", style="red")
    if not report.differs:
        out.print("[green]nothing differs[/]")
