"""`cachekeep journal`: what was decided about a group or a cluster, when and why."""

from __future__ import annotations

import json
import re
import time
from datetime import datetime
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape

from cachekeep.cli import options
from cachekeep.cli.client import Client
from cachekeep.cli.connect import connect
from cachekeep.cli.console import console
from cachekeep.cli.refusal import Refused

_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 7 * 86400}
_SPAN = re.compile(r"([0-9]+(?:\.[0-9]+)?)([smhdw])\Z")
_MOST = 5000
_POLL_S = 0.2


def journal(
    name: Annotated[str, typer.Argument(metavar="NAME", help="A replication group, or a cluster.")],
    since: Annotated[
        str | None,
        typer.Option(
            "--since", metavar="SPAN|TIME", help="From 30s, 10m, 2h, 3d ago, or an ISO time with its zone on."
        ),
    ] = None,
    count: Annotated[
        int, typer.Option("-n", "--lines", metavar="N", min=1, max=_MOST, help="At most so many, the newest.")
    ] = 100,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on with what is decided from now on.")] = False,
    state_dir: options.StateDir = None,
    region: options.Region = None,
    as_json: options.Json = False,
) -> None:
    """Tell what was decided about a group or a cluster of its own, when and why. Oldest first.

    With --json one object a line, `at` in seconds since 1970.
    """
    client = connect(state_dir, region)
    begin = beginning(since, time.time())
    page = client.journal(name, since=begin, limit=count)
    out = console()
    if not as_json and page["resource"] != name.lower():
        out.print(f"[dim]{escape(name)} is a member of {page['resource']}, which decides about it:[/dim]")
    _show(out, page["notes"], as_json=as_json)
    if not page["notes"] and not as_json:
        out.print(f"Nothing was decided about {page['resource']}{' in that time' if since else ' yet'}")
    if follow:
        _follow(client, out, page, begin, as_json=as_json)


def beginning(since: str | None, now: float) -> float:
    """Seconds since 1970 of `2h` or `2026-01-31T12:00:00Z`; 0 for None. Raises Refused."""
    if since is None:
        return 0.0
    found = _SPAN.match(since)
    if found:
        return max(0.0, now - float(found[1]) * _UNITS[found[2]])
    try:
        return max(0.0, datetime.fromisoformat(since).astimezone().timestamp())
    except (ValueError, OverflowError):
        raise Refused(f"--since takes 30s, 10m, 2h, 3d, or an ISO time, not {since[:40]!r}") from None


def _follow(client: Client, out: Console, page: dict[str, Any], begin: float, *, as_json: bool) -> None:
    """Until interrupted. Notes of one instant are told apart by their sentences."""
    latest = page["notes"]
    try:
        while True:
            time.sleep(_POLL_S)
            at = latest[-1]["at"] if latest else begin
            shown = {note["sentence"] for note in latest if note["at"] == at}
            found = client.journal(page["resource"], since=at, limit=_MOST)["notes"]
            fresh = [note for note in found if note["at"] > at or note["sentence"] not in shown]
            _show(out, fresh, as_json=as_json)
            latest = found or latest
    except KeyboardInterrupt:
        return


def _show(out: Console, notes: list[dict[str, Any]], *, as_json: bool) -> None:
    for note in notes:
        if as_json:
            typer.echo(json.dumps(note))
        else:
            out.print(f"[dim]{moment(note['at'])}[/dim]  {escape(note['sentence'])}", soft_wrap=True)


def moment(at: float) -> str:
    """In this machine's zone, with milliseconds: the order of things that take milliseconds is to be seen."""
    return datetime.fromtimestamp(at).astimezone().strftime("%Y-%m-%d %H:%M:%S.%f")[:-3]
