"""The `cachekeep` command: what there is to call, and how a call that cannot be carried out ends."""

from __future__ import annotations

import errno
import os
import sys
from contextlib import redirect_stdout, suppress
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from cachekeep.cli import options
from cachekeep.cli.doctor import doctor
from cachekeep.cli.down import down
from cachekeep.cli.env import env
from cachekeep.cli.groups import app as groups
from cachekeep.cli.journal import journal
from cachekeep.cli.late import Late, LateGroup
from cachekeep.cli.plan import CONTEXT as PLAN_CONTEXT
from cachekeep.cli.plan import plan
from cachekeep.cli.refusal import MISUSE, OUTPUT_FAILED, Refused
from cachekeep.cli.status import status
from cachekeep.cli.up import up
from cachekeep.credentials import CredentialsError
from cachekeep.domain.world import WorldError
from cachekeep.settings import SettingsError

_EXAMPLES = """[bold]Examples[/bold]
  cachekeep up --demo           [dim]# start, with a Valkey primary and a replica[/dim]
  eval "$(cachekeep env)"       [dim]# point boto3, aws, Terraform at it[/dim]
  cachekeep status              [dim]# what runs where, with how much memory[/dim]
  cachekeep groups modify demo --replicas 2 --dry-run   [dim]# what would happen[/dim]
  cachekeep journal demo        [dim]# what was decided, when and why[/dim]
  cachekeep down                [dim]# stop all; the next up brings the keys back[/dim]

[bold]Settings[/bold] are options, environment variables, or TOML, in that order:
  --port 8601 | CACHEKEEP_PORT=8601 | port = 8601 in the CACHEKEEP_CONFIG file
  CACHEKEEP_ACCESS_KEYS=id:secret,...  [dim]# more accepted keys; never an option[/dim]
"""

app = typer.Typer(
    name="cachekeep",
    cls=LateGroup,
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    epilog=_EXAMPLES,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _print_version(wanted: bool) -> None:
    if wanted:
        from cachekeep import __version__  # late: to look it up takes a tenth of a command's time

        typer.echo(f"cachekeep {__version__}")
        raise typer.Exit


@app.callback()
def root(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """The ElastiCache you own: real Valkey, Redis and Memcached engines behind the AWS ElastiCache API."""


def serve(
    state_dir: options.StateDir = None,
    port: options.Port = None,
    account_id: options.AccountId = None,
    address_range: options.AddressRange = None,
    overcommit: options.Overcommit = None,
    redis_stand_in: options.RedisStandIn = None,
    log_level: options.LogLevel = None,
    hang_timeout: options.HangTimeout = None,
    rollback_hours: options.RollbackHours = None,
    sync_timeout: options.SyncTimeout = None,
) -> None:
    """Run the service in the foreground, for systemd and the like; log on stderr.

    SIGINT or SIGTERM ends it. Engines run on, and the next start adopts them.
    """
    settings = options.settings_from(
        state_dir=state_dir,
        port=port,
        account_id=account_id,
        address_range=address_range,
        overcommit=overcommit,
        redis_stand_in=redis_stand_in,
        log_level=log_level,
        hang_timeout=hang_timeout,
        rollback_hours=rollback_hours,
        sync_timeout=sync_timeout,
    )
    # Imported late: the other commands answer in half the time without it.
    from cachekeep import app as service

    try:
        service.serve(settings)
    except service.StartError as error:
        raise Refused(str(error)) from error


_CANNOT_WRITE = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO})

RUN, LOOK, CHANGE, KEEP = "Run", "Look and use", "Change", "Keep"
_CLI = "cachekeep.cli"
LateGroup.late = {
    "health": Late(f"{_CLI}.health", "app", LOOK, "Tell how well caches are; exit code by the worst verdict."),
    "watch": Late(f"{_CLI}.watch", "app", LOOK, "Measure caches that run elsewhere, read-only."),
    "cost": Late(f"{_CLI}.cost", "app", LOOK, "What nodes cost at AWS, and what runs here would."),
    "right-size": Late(f"{_CLI}.right_size", "app", LOOK, "Name the smallest node types that hold a measured load."),
    "prometheus": Late(f"{_CLI}.prometheus", "app", LOOK, "Print what Prometheus and Grafana need."),
    "ca": Late(f"{_CLI}.authority", "app", LOOK, "Print the certificate that clients of TLS trust."),
    "topics": Late(f"{_CLI}.topics", "app", CHANGE, "Say whom alarms and events are told."),
    "keys": Late(f"{_CLI}.keys", "app", CHANGE, "Give others access keys, and say what each may do."),
    "audit": Late(f"{_CLI}.audit", "app", LOOK, "Tell who changed what, and who was refused."),
    "backup": Late(f"{_CLI}.backup.app", "app", KEEP, "Back up, verify and restore any Redis-compatible endpoint."),
}
app.command(rich_help_panel=RUN, short_help="Start the service in the background; --demo makes a group to try.")(up)
app.command(rich_help_panel=RUN, short_help="Stop service and engines; the data stays.")(down)
app.command(rich_help_panel=RUN, short_help="Run the service in the foreground.")(serve)
app.command(rich_help_panel=LOOK, short_help="Show service, groups, nodes, roles, memory, endpoints.")(status)
app.add_typer(groups, name="groups", rich_help_panel=CHANGE, short_help="List, change and fail over groups.")
app.command(
    rich_help_panel=CHANGE,
    context_settings=PLAN_CONTEXT,
    short_help="Tell what a request would do, without doing it.",
)(plan)
app.command(rich_help_panel=LOOK, short_help="Tell what was decided about a group, when and why.")(journal)
app.command(rich_help_panel=LOOK, short_help="Print the export lines for AWS clients.")(env)
app.command(rich_help_panel=LOOK, short_help="Check engines, addresses, ports, disk and limits.")(doctor)


def main(arguments: list[str] | None = None) -> None:
    """Run one command and exit. What went wrong is one sentence on stderr, never a traceback."""
    if sys.stdout is None:  # the shell closed it
        with Path(os.devnull).open("w") as nowhere, redirect_stdout(nowhere):
            main(arguments)
    try:
        _run(arguments)
    except (SystemExit, OSError) as error:
        trouble = _output_trouble(error)
        if trouble is not None:
            _end(f"cannot write the output: {trouble}", OUTPUT_FAILED)
        raise


def _run(arguments: list[str] | None) -> None:
    try:
        app(arguments)
    except Refused as refused:
        _end(str(refused), refused.code)
    except (SettingsError, CredentialsError) as error:
        _end(str(error), MISUSE)
    except WorldError as error:
        _end(str(error), 1)


def _output_trouble(ended: BaseException) -> str | None:
    """Why what was printed cannot be written, a full disk for one; None when all of it is."""
    try:
        sys.stdout.flush()
    except OSError as error:
        # Or the interpreter tries again at its end, complains, and changes the exit code.
        with suppress(OSError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        # Who reads no further has seen what they wanted.
        return None if isinstance(error, BrokenPipeError) else error.strerror
    # Without a buffer nothing is left to flush. Of files of their own commands tell the name, in a sentence of theirs.
    unnamed = isinstance(ended, OSError) and ended.filename is None and ended.errno in _CANNOT_WRITE
    return ended.strerror if isinstance(ended, OSError) and unnamed else None


def _end(text: str, code: int) -> None:
    with suppress(OSError):
        Console(stderr=True, highlight=False).print(f"cachekeep: {text}", style="red", markup=False, soft_wrap=True)
    sys.exit(code)
