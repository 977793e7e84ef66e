"""The options that backup commands share, each defined once. Secrets are no options: files or the environment."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from cachekeep import backups
from cachekeep.cli.console import console
from cachekeep.cli.refusal import MISUSE, Refused

ENDPOINT = "Endpoint (also in its URL: rediss://user@host:6379/0?password_file=...&ca=...&cert=...&key=...&insecure=1)"
PLACE = "Place of the backup"
CHOICE = "What of it"

_URL = "redis:// rediss:// (TLS) or unix:///path"
Source = Annotated[str, typer.Argument(metavar="SOURCE", help=f"The endpoint to read: {_URL}.", show_default=False)]
Target = Annotated[str, typer.Argument(metavar="TARGET", help=f"The endpoint to write: {_URL}.", show_default=False)]
Dest = Annotated[
    str, typer.Argument(metavar="DEST", help="Where backups are: a folder, or s3://bucket/prefix.", show_default=False)
]
Id = Annotated[
    str | None,
    typer.Option(
        "--id", metavar="ID", help="Which backup, by the beginning of its name; default: the newest good one."
    ),
]

User = Annotated[
    str | None,
    typer.Option(
        "--user",
        metavar="NAME",
        help="ACL user. [dim]CACHEKEEP_SOURCE_USER, CACHEKEEP_TARGET_USER[/dim]",
        rich_help_panel=ENDPOINT,
    ),
]
PasswordFile = Annotated[
    Path | None,
    typer.Option(
        "--password-file",
        metavar="FILE",
        help="File with the password or AUTH token. "
        "[dim]CACHEKEEP_SOURCE_PASSWORD, CACHEKEEP_TARGET_PASSWORD hold it itself[/dim]",
        rich_help_panel=ENDPOINT,
    ),
]
Ca = Annotated[
    Path | None,
    typer.Option(
        "--ca", metavar="FILE", help="Trust these authorities (PEM), not the system's.", rich_help_panel=ENDPOINT
    ),
]
Cert = Annotated[
    Path | None, typer.Option("--cert", metavar="FILE", help="Client certificate (PEM).", rich_help_panel=ENDPOINT)
]
CertKey = Annotated[
    Path | None, typer.Option("--cert-key", metavar="FILE", help="Its private key (PEM).", rich_help_panel=ENDPOINT)
]
Insecure = Annotated[
    bool,
    typer.Option("--insecure", help="TLS without proof of whose server it is.", rich_help_panel=ENDPOINT),
]
TimeoutS = Annotated[
    float,
    typer.Option(
        "--timeout",
        metavar="SECONDS",
        min=1,
        help="Give up an exchange when no byte comes for so long.",
        rich_help_panel=ENDPOINT,
    ),
]

PassphraseFile = Annotated[
    Path | None,
    typer.Option(
        "--passphrase-file",
        metavar="FILE",
        help="File with the passphrase that seals the backup. [dim]CACHEKEEP_BACKUP_PASSPHRASE holds it itself[/dim]",
        rich_help_panel=PLACE,
    ),
]
SealKeyFile = Annotated[
    Path | None,
    typer.Option("--key-file", metavar="FILE", help="File of 32 bytes that seals the backup.", rich_help_panel=PLACE),
]
S3Endpoint = Annotated[
    str | None,
    typer.Option(
        "--s3-endpoint", metavar="URL", help="S3-speaking server. [dim]AWS_ENDPOINT_URL_S3[/dim]", rich_help_panel=PLACE
    ),
]
S3Region = Annotated[
    str | None,
    typer.Option(
        "--s3-region", metavar="NAME", help="Region of the bucket. [dim]AWS_REGION[/dim]", rich_help_panel=PLACE
    ),
]

Databases = Annotated[
    str | None,
    typer.Option(
        "--db", metavar="N,...", help="Only these databases; default: all that have keys.", rich_help_panel=CHOICE
    ),
]
Match = Annotated[
    str | None,
    typer.Option("--match", metavar="GLOB", help="Only keys like this, as in SCAN MATCH.", rich_help_panel=CHOICE),
]
Json = Annotated[
    bool, typer.Option("--json", help="Print one JSON object on stdout; progress as JSON lines on stderr.")
]


def place_of(
    dest: str, passphrase_file: Path | None, key_file: Path | None, s3_endpoint: str | None, s3_region: str | None
) -> backups.Place:
    """Raises SealError for a secret that cannot be used."""
    return backups.Place(dest, backups.secret_of(passphrase_file, key_file), s3_endpoint, s3_region)


def endpoint_of(side: str, url: str, timeout_s: float, access: backups.Access) -> backups.Endpoint:
    """Connect, and warn of a password that every user of the machine can read. side: SOURCE or TARGET."""
    found = backups.endpoint(url, access.with_environment(side), timeout_s=timeout_s)
    if found.password_in_url:
        _warn(
            "the password in the URL can be read in the list of processes; "
            f"use --password-file or CACHEKEEP_{side}_PASSWORD"
        )
    if found.remote.password_file_exposed:
        _warn("the password_file of the URL can be read by other users: chmod 600 it")
    return found


def _warn(text: str) -> None:
    console(stderr=True).print(f"cachekeep: {text}", style="yellow", markup=False, soft_wrap=True)


def access_of(
    user: str | None,
    password_file: Path | None,
    ca: Path | None,
    cert: Path | None,
    cert_key: Path | None,
    insecure: bool,
) -> backups.Access:
    """Raises UrlError when the password's file cannot be read."""
    password = None
    if password_file:
        password, exposed = backups.password_from_file(password_file)
        if exposed:
            _warn(f"{password_file} can be read by other users: chmod 600 {password_file}")
    return backups.Access(user, password, ca, cert, cert_key, insecure)


def databases_of(text: str | None, named_by_url: int | None = None) -> frozenset[int] | None:
    """`0,3` -> {0, 3}; None is all. A database in the URL means that one alone."""
    if text is None:
        return None if named_by_url is None else frozenset({named_by_url})
    try:
        found = frozenset(int(part) for part in text.split(","))
    except ValueError:
        found = frozenset({-1})
    if not found or min(found) < 0:
        raise Refused(f"--db {text!r} is not a list of databases: write numbers with commas, such as 0,3", MISUSE)
    return found


def match_of(text: str | None) -> bytes | None:
    return None if text is None else text.encode("utf-8", "surrogateescape")
