"""`cachekeep backup run`: copy an endpoint into a backup, or follow it (cli.backup.follow)."""

from __future__ import annotations

import re
import threading
from collections.abc import Callable
from dataclasses import replace
from enum import StrEnum
from functools import partial
from typing import Annotated, Literal

import typer

from cachekeep import backups
from cachekeep.backup.copy import CopyOptions, CopyReport, copy
from cachekeep.cli.backup import options
from cachekeep.cli.backup.outcome import GAPS, stoppable, told
from cachekeep.cli.backup.page import print_page
from cachekeep.cli.backup.progress import shown
from cachekeep.cli.backup.words import counted, where
from cachekeep.cli.console import console, in_bytes
from cachekeep.cli.refusal import MISUSE, Refused
from cachekeep.follow.types import FollowOptions


class Method(StrEnum):
    AUTO = "auto"
    PSYNC = "psync"
    SCAN = "scan"
    TRACKING = "tracking"
    KEYSPACE = "keyspace"
    POLL = "poll"


_COPIES: dict[Method, Literal["auto", "psync", "scan"]] = {
    Method.AUTO: "auto",
    Method.PSYNC: "psync",
    Method.SCAN: "scan",
}
_FOLLOWS: dict[Method, Literal["auto", "psync", "tracking", "keyspace", "poll"]] = {
    Method.AUTO: "auto",
    Method.PSYNC: "psync",
    Method.TRACKING: "tracking",
    Method.KEYSPACE: "keyspace",
    Method.POLL: "poll",
}
_DURATION = re.compile(r"([0-9]+(?:\.[0-9]+)?)\s*([smhd]?)")
_SECONDS = {"": 1.0, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86_400.0}
_LONGEST_S = 100 * 366 * 86_400.0
_FOLLOW = "Follow every change"
_WITH_FOLLOW_ONLY = frozenset(
    {"from_replica", "max_lag_s", "reconcile_s", "reconcile_keys_per_s", "rollover_s", "queue_keys", "metrics_port"}
)
_WITHOUT_FOLLOW_ONLY = frozenset({"db", "match"})
_COPY_PATIENCE_S = 60.0


def duration_of(text: str | float) -> float:
    """`90`, `90s`, `15m`, `24h`, `7d` -> seconds. Raises typer.BadParameter."""
    found = _DURATION.fullmatch(str(text).strip())
    seconds = float(found[1]) * _SECONDS[found[2]] if found else _LONGEST_S
    if seconds >= _LONGEST_S:
        raise typer.BadParameter(f"{text!r} is not a duration: write seconds, or a number with s, m, h or d")
    return seconds


Following = Annotated[
    bool,
    typer.Option(
        "--follow",
        help="After the copy go on with every change, until SIGINT or SIGTERM: any moment can be restored.",
        rich_help_panel=_FOLLOW,
    ),
]
FromReplica = Annotated[
    bool, typer.Option("--from-replica", help="Read a replica, not the primary.", rich_help_panel=_FOLLOW)
]
MaxLagS = Annotated[
    float,
    typer.Option(
        "--max-lag",
        parser=duration_of,
        metavar="SECONDS",
        show_default="5s",
        help="A change is in DEST after so long at most. Like all durations: 90, 90s, 15m, 24h, 7d.",
        rich_help_panel=_FOLLOW,
    ),
]
ReconcileS = Annotated[
    float,
    typer.Option(
        "--reconcile",
        parser=duration_of,
        metavar="SECONDS",
        show_default="1h",
        help="Read all keys so often, to prove that no change was missed; 0: only after a loss.",
        rich_help_panel=_FOLLOW,
    ),
]
ReconcileKeys = Annotated[
    int,
    typer.Option(
        "--reconcile-keys-per-s",
        metavar="N",
        min=0,
        help="At most so fast; 0: as fast as it goes.",
        rich_help_panel=_FOLLOW,
    ),
]
RolloverS = Annotated[
    float,
    typer.Option(
        "--rollover",
        parser=duration_of,
        metavar="SECONDS",
        show_default="24h",
        help="Begin a new backup so often, which keeps restores short; 0: never.",
        rich_help_panel=_FOLLOW,
    ),
]
QueueKeys = Annotated[
    int,
    typer.Option(
        "--queue",
        metavar="N",
        min=1,
        help="So many changed keys may wait to be read; more, and there is a gap.",
        rich_help_panel=_FOLLOW,
    ),
]
MetricsPort = Annotated[
    int | None,
    typer.Option(
        "--metrics-port",
        metavar="N",
        min=0,
        max=65_535,
        help="Serve /metrics (Prometheus) and /healthz on 127.0.0.1; 0: any free port, which is printed.",
        rich_help_panel=_FOLLOW,
    ),
]


def run(
    call: typer.Context,
    source: options.Source,
    dest: options.Dest,
    method: Annotated[
        Method,
        typer.Option(
            "--source",
            help="How to read; auto takes the best that works. A copy takes psync (the replication snapshot) or scan "
            "(SCAN and DUMP), --follow takes psync, tracking, keyspace or poll.",
        ),
    ] = Method.AUTO,
    db: options.Databases = None,
    match: options.Match = None,
    max_keys_per_s: Annotated[
        int | None, typer.Option("--max-keys-per-s", metavar="N", min=1, help="Spare the source: at most so many keys.")
    ] = None,
    count: Annotated[int, typer.Option("--count", metavar="N", min=1, max=10_000, help="Keys in one exchange.")] = 100,
    patience_s: Annotated[
        float | None,
        typer.Option(
            "--patience",
            parser=duration_of,
            metavar="SECONDS",
            show_default="60s; 1h with --follow",
            help="Wait so long for a source that went away.",
        ),
    ] = None,
    anew: Annotated[bool, typer.Option("--anew", help="Begin a new backup even if one is unfinished.")] = False,
    following: Following = False,
    from_replica: FromReplica = False,
    max_lag_s: MaxLagS = FollowOptions.max_lag_s,
    reconcile_s: ReconcileS = FollowOptions.reconcile_s,
    reconcile_keys_per_s: ReconcileKeys = FollowOptions.reconcile_keys_per_s or 0,
    rollover_s: RolloverS = FollowOptions.rollover_s,
    queue_keys: QueueKeys = FollowOptions.queue_keys,
    metrics_port: MetricsPort = None,
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

    With --follow every change too, until SIGINT or SIGTERM: then it is sealed, and the same call goes on with it.
    Exit code 4 when something is missing: each gap is named. --json with --follow: JSON lines on stdout.
    """
    _refuse_misfits(call, method, following)
    with told(), stoppable() as stop:
        place = options.place_of(dest, passphrase_file, key_file, s3_endpoint, s3_region)
        access = options.access_of(user, password_file, ca, cert, cert_key, insecure)
        connect = partial(options.endpoint_of, "SOURCE", source, timeout_s, access)
        if not following:
            copied = CopyOptions(
                source=_COPIES[method],
                match=options.match_of(match),
                count=count,
                max_keys_per_s=max_keys_per_s,
                patience_s=_COPY_PATIENCE_S if patience_s is None else patience_s,
                resume=not anew,
            )
            _copy(connect, place, copied, db, as_json=as_json, stop=stop)
            return
        followed = FollowOptions(
            source=_FOLLOWS[method],
            max_lag_s=max_lag_s,
            reconcile_s=reconcile_s,
            reconcile_keys_per_s=reconcile_keys_per_s or None,
            max_keys_per_s=max_keys_per_s,
            rollover_s=rollover_s,
            queue_keys=queue_keys,
            patience_s=FollowOptions.patience_s if patience_s is None else patience_s,
            count=count,
            from_replica=from_replica,
            resume=not anew,
        )
        # Imported late: the other commands answer sooner without it.
        from cachekeep.cli.backup.follow import follow_endpoint

        follow_endpoint(connect, place, followed, metrics_port=metrics_port, as_json=as_json, stop=stop)


def _refuse_misfits(call: typer.Context, method: Method, following: bool) -> None:
    """Options of the one kind of run given to the other."""
    wrong = _WITHOUT_FOLLOW_ONLY if following else _WITH_FOLLOW_ONLY
    for parameter in call.command.params:
        given = call.get_parameter_source(parameter.name or "")
        if parameter.name in wrong and given is not None and given.name != "DEFAULT":
            option = parameter.opts[0]
            if following:
                text = f"--follow captures all keys of all databases: {option} is not supported with it"
                raise Refused(f"{text}; leave it away, and choose when you restore", MISUSE)
            raise Refused(f"{option} is of --follow; add that, or leave {option} away", MISUSE)
    if following and method not in _FOLLOWS:
        text = f"--source {method.value} is for copies: --follow takes psync, tracking, keyspace, poll or auto"
        raise Refused(f"{text}; poll is the one that needs nothing but SCAN and DUMP", MISUSE)
    if not following and method not in _COPIES:
        text = f"--source {method.value} needs --follow"
        raise Refused(f"{text}; a copy takes psync, scan or auto", MISUSE)
    if following and call.params["max_lag_s"] <= 0:
        raise Refused("--max-lag has to be more than 0: nothing is durable at once", MISUSE)


def _copy(
    connect: Callable[[], backups.Endpoint],
    place: backups.Place,
    wanted: CopyOptions,
    db: str | None,
    *,
    as_json: bool,
    stop: threading.Event,
) -> None:
    with shown(as_json=as_json) as progress:
        found = connect()
        wanted = replace(wanted, databases=options.databases_of(db, found.db))
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
        f"{counted(keys, 'key')} of {server}, {in_bytes(report.bytes)} in {report.seconds:.1f} s ({rate:,.0f} keys/s)",
        soft_wrap=True,
    )
    if len(report.keys) > 1:
        out.print("  " + "  ".join(f"db{number} {count:,}" for number, count in sorted(report.keys.items())))
    out.print(f"  by {report.method}: {report.why}", markup=False, soft_wrap=True)
    if report.resumed:
        out.print("  went on with an unfinished copy")
    if report.interruptions:
        out.print(f"  the source went away {counted(report.interruptions, 'time')}; `backup show` has when and why")
    if report.vanished:
        out.print(f"  {counted(report.vanished, 'key was', 'keys were')} deleted or expired before being read")
    for note in report.notes:
        out.print(f"  {note}", markup=False, soft_wrap=True)
    for gap in report.gaps:
        out.print(f"  gap: {gap.reason}{where(gap.lane)}", style="red", markup=False, soft_wrap=True)
