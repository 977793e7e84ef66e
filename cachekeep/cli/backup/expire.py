"""`cachekeep backup expire`: remove old backups by a rule."""

from __future__ import annotations

from typing import Annotated

import typer

from cachekeep import backups
from cachekeep.backup.expire import Removal, expire, keep_of
from cachekeep.cli.backup import options
from cachekeep.cli.backup.outcome import told
from cachekeep.cli.backup.page import print_page
from cachekeep.cli.console import console


def expire_(
    dest: options.Dest,
    keep: Annotated[
        str,
        typer.Option(
            "--keep",
            metavar="WHAT",
            help="7 (the newest seven), 30d, or any of window=7d (every moment of the last 7 days; also window=12h), "
            "last=3,daily=7,weekly=4,monthly=6.",
        ),
    ],
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would go, remove nothing.")] = False,
    passphrase_file: options.PassphraseFile = None,
    key_file: options.SealKeyFile = None,
    s3_endpoint: options.S3Endpoint = None,
    s3_region: options.S3Region = None,
    as_json: options.Json = False,
) -> None:
    """Remove old backups. The newest good one always stays, and so does one that is being written.

    With window= every moment of that time that can be restored now can be restored afterwards.
    """
    with told():
        rule = keep_of(keep)
        opened = backups.repository(options.place_of(dest, passphrase_file, key_file, s3_endpoint, s3_region))
        removals: list[Removal] = expire(opened, rule, dry_run=dry_run)
    if as_json:
        print_page({"dry_run": dry_run, "removed": removals})
        return
    out = console()
    for removal in removals:
        out.print(f"{'would remove' if dry_run else 'removed'} {removal.name}: {removal.reason}", markup=False)
    if not removals:
        out.print("Nothing to remove")
