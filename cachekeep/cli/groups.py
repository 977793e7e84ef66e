"""`cachekeep groups`: replication groups, listed, changed and failed over with one plain command each."""

from __future__ import annotations

import json
import time
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from cachekeep.cli import options
from cachekeep.cli.client import Client
from cachekeep.cli.connect import connect, group_named
from cachekeep.cli.console import console, in_short
from cachekeep.cli.journal import moment
from cachekeep.cli.modification import Changes, Request, request_for, why_not_done
from cachekeep.cli.plan import show_plan
from cachekeep.cli.refusal import Refused
from cachekeep.cli.words import STATUS_COLOURS, extras

app = typer.Typer(
    no_args_is_help=False, rich_markup_mode="rich", context_settings={"help_option_names": ["-h", "--help"]}
)
_WAIT_S = 3600.0
_POLL_S = 0.1

Name = Annotated[str, typer.Argument(metavar="NAME", help="The replication group.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Only tell what would happen; nothing is done.")]
Wait = Annotated[bool, typer.Option("--wait", help="Return when it is done, and tell the journal meanwhile.")]


@app.callback(invoke_without_command=True)
def groups(
    context: typer.Context,
    state_dir: options.StateDir = None,
    as_json: options.Json = False,
) -> None:
    """List replication groups; change one; hand one over. Without a command: the list, of all regions."""
    if context.invoked_subcommand is not None:
        return
    # What runs a serverless cache is no group of anybody's: `cachekeep status` has it, by the name of the cache.
    found = [group for group in connect(state_dir).status()["groups"] if group.get("serverless") is None]
    if as_json:
        typer.echo(json.dumps(found, indent=2))
        return
    out = console()
    if not found:
        out.print("No replication groups yet")
        return
    out.print(_list(found))


def _list(found: list[dict[str, Any]]) -> Table:
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="dim")
    for name in ("Group", "Status", "Engine", "Type"):
        table.add_column(name, overflow="fold", no_wrap=name == "Group")
    for name in ("Shards", "Nodes", "Memory"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("Endpoint", no_wrap=True)
    regions = {group["region"] for group in found}
    for group in found:
        primaries = [n for n in group["nodes"] if n["role"] == "primary" and n["spare"] is None]
        # Where all follow another region or server, the first member stands for all.
        primaries = primaries or group["nodes"][:1]
        used = sum(n["used_memory"] or 0 for n in primaries)
        limit = sum(n["maxmemory"] or 0 for n in primaries)
        colour = STATUS_COLOURS.get(group["status"], "yellow")
        table.add_row(
            f"[bold]{escape(group['id'])}[/bold]" + (f" in {group['region']}" if len(regions) > 1 else ""),
            f"[{colour}]{group['status']}[/{colour}]" + "".join(f", {text}" for text in extras(group)),
            f"{group['engine']} {group['version']}",
            group["node_type"].removeprefix("cache."),
            str(len(group["shards"]) or 1),
            str(len([n for n in group["nodes"] if n["spare"] is None])),
            f"{in_short(used)}/{in_short(limit)}",
            group["primary_endpoint"] or group["configuration_endpoint"] or "-",
        )
    return table


@app.command()
def modify(
    name: Name,
    node_type: Annotated[str | None, typer.Option("--node-type", metavar="TYPE", help="cache.r7g.large")] = None,
    engine_version: Annotated[str | None, typer.Option("--engine-version", metavar="VERSION", help="9.1")] = None,
    engine: Annotated[str | None, typer.Option("--engine", metavar="ENGINE", help="valkey, from redis")] = None,
    parameter_group: Annotated[str | None, typer.Option("--parameter-group", metavar="NAME")] = None,
    automatic_failover: Annotated[bool | None, typer.Option("--automatic-failover/--no-automatic-failover")] = None,
    cluster_mode: Annotated[
        str | None, typer.Option("--cluster-mode", metavar="MODE", help="compatible, then enabled")
    ] = None,
    primary: Annotated[
        str | None, typer.Option("--primary", metavar="MEMBER", help="Hand over to this member.")
    ] = None,
    replicas: Annotated[int | None, typer.Option("--replicas", metavar="N", min=0, help="Of each shard.")] = None,
    shards: Annotated[
        int | None, typer.Option("--shards", metavar="N", min=1, help="The present number spreads the slots evenly.")
    ] = None,
    now: Annotated[bool, typer.Option("--now/--in-window", help="At once, or in the maintenance window.")] = True,
    dry_run: DryRun = False,
    wait: Wait = False,
    state_dir: options.StateDir = None,
    region: options.Region = None,
    as_json: options.Json = False,
) -> None:
    """Change a group. `--dry-run` tells the steps, the pause of writes and the memory before anything happens."""
    client = connect(state_dir, region)
    changes = Changes(
        node_type=node_type,
        engine_version=engine_version,
        engine=engine,
        parameter_group=parameter_group,
        automatic_failover=automatic_failover,
        cluster_mode=cluster_mode,
        primary=primary,
        replicas=replicas,
        shards=shards,
        now=now,
    )
    request = request_for(group_named(client, name), changes)
    if wait and not now:
        raise Refused("--wait needs --now: the maintenance window may be days away")
    group = _carry_out(client, name.lower(), request, dry_run=dry_run, wait=wait, as_json=as_json)
    if wait and group is not None and (reason := why_not_done(group, changes)) is not None:
        raise Refused(f"{name} is available again, but {reason}; `cachekeep journal {name}` tells why", 1)


@app.command()
def failover(
    name: Name,
    shard: Annotated[str, typer.Option("--shard", metavar="ID", help="Which shard.")] = "0001",
    dry_run: DryRun = False,
    wait: Wait = False,
    state_dir: options.StateDir = None,
    region: options.Region = None,
    as_json: options.Json = False,
) -> None:
    """Hand a shard over to its best replica, as TestFailover does; the old primary's node is replaced."""
    client = connect(state_dir, region)
    group = group_named(client, name)
    request = Request("TestFailover", {"ReplicationGroupId": group["id"], "NodeGroupId": shard})
    _carry_out(client, group["id"], request, dry_run=dry_run, wait=wait, as_json=as_json)


def _carry_out(
    client: Client, name: str, request: Request, *, dry_run: bool, wait: bool, as_json: bool
) -> dict[str, Any] | None:
    """The group as it is then; None for a dry run."""
    if dry_run:
        show_plan(client.rehearse(request.operation, request.fields), as_json=as_json)
        return None
    begin = time.time()
    client.request(request.operation, request.fields)
    group = _settled(client, name, begin, quiet=as_json) if wait else group_named(client, name)
    if as_json:
        typer.echo(json.dumps(group, indent=2))
    else:
        _tell(console(), group, waited=wait)
    return group


def _tell(out: Console, group: dict[str, Any], *, waited: bool) -> None:
    colour = STATUS_COLOURS.get(group["status"], "yellow")
    out.print(f"[bold]{escape(group['id'])}[/bold] is [{colour}]{group['status']}[/{colour}]", soft_wrap=True)
    if group["waits_for_window"]:
        out.print(f"What was asked for waits for the maintenance window {group['waits_for_window']}", soft_wrap=True)
    elif not waited and group["status"] != "available":
        out.print(f"[dim]cachekeep journal {escape(group['id'])} --follow tells how it goes on[/dim]", soft_wrap=True)


def _settled(client: Client, name: str, begin: float, *, quiet: bool) -> dict[str, Any]:
    """The group once nothing is being changed any more. Raises Refused when that does not come about."""
    out = console()
    told = 0
    deadline = time.monotonic() + _WAIT_S
    while True:
        group = group_named(client, name)
        notes = client.journal(name, since=begin, limit=1000)["notes"]
        for note in notes[told:] if not quiet else ():
            out.print(f"[dim]{moment(note['at'])}[/dim]  {escape(note['sentence'])}", soft_wrap=True)
        told = len(notes)
        if group["status"] == "available":
            return group
        if group["status"] in ("create-failed", "deleting") or time.monotonic() > deadline:
            raise Refused(f"{name} is {group['status']}, not available; `cachekeep journal {name}` tells why", 1)
        time.sleep(_POLL_S)
