"""The group `cachekeep backup`: which commands there are, and what their exit codes mean."""

from __future__ import annotations

import typer

from cachekeep.cli.backup.catalog import list_, show
from cachekeep.cli.backup.compact import compact_
from cachekeep.cli.backup.diff import diff_
from cachekeep.cli.backup.doctor import doctor
from cachekeep.cli.backup.exchange import export_, import_
from cachekeep.cli.backup.expire import expire_
from cachekeep.cli.backup.guard import guard_
from cachekeep.cli.backup.outcome import EXIT_CODES
from cachekeep.cli.backup.restore import restore_
from cachekeep.cli.backup.run import run
from cachekeep.cli.backup.verify import verify_

_EXAMPLES = f"""[bold]Examples[/bold]
  cachekeep backup doctor rediss://cache.example:6379   [dim]# what it allows, how it would be copied[/dim]
  cachekeep backup run redis://127.0.0.1:6379 ./backups
  cachekeep backup verify ./backups --deep              [dim]# loads it into an engine and compares[/dim]
  cachekeep backup restore ./backups redis://127.0.0.1:6380 --dry-run

{EXIT_CODES}
"""
MAKE, PROVE, KEEP = "Make and put back", "Prove", "Keep and exchange"

app = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode="rich",
    epilog=_EXAMPLES,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command("run", rich_help_panel=MAKE, short_help="Copy an endpoint into a backup.")(run)
app.command("guard", rich_help_panel=MAKE, short_help="Watch over an upgrade, put back what it lost.")(guard_)
app.command("restore", rich_help_panel=MAKE, short_help="Put back what differs.")(restore_)
app.command("verify", rich_help_panel=PROVE, short_help="Prove a backup: digests, a live endpoint, an engine.")(verify_)
app.command("diff", rich_help_panel=PROVE, short_help="Compare two endpoints, or a backup and an endpoint.")(diff_)
app.command("doctor", rich_help_panel=PROVE, short_help="What an endpoint allows, how it would be copied.")(doctor)
app.command("list", rich_help_panel=KEEP, short_help="List the backups of a place.")(list_)
app.command("show", rich_help_panel=KEEP, short_help="Show one: source, gaps, interruptions.")(show)
app.command("expire", rich_help_panel=KEEP, short_help="Remove old backups.")(expire_)
app.command("compact", rich_help_panel=KEEP, short_help="Join the segments of what was followed.")(compact_)
app.command("export", rich_help_panel=KEEP, short_help="Write one as JSON, RDB or RESP files.")(export_)
app.command("import", rich_help_panel=KEEP, short_help="Make a backup of a folder of JSON files.")(import_)
