"""`cachekeep status`: what runs. Asks the service; when it is down, the engines themselves."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import typer
from rich.console import Console
from rich.table import Table

from cachekeep import credentials
from cachekeep.cli import options
from cachekeep.cli.client import Client
from cachekeep.cli.console import console, in_short
from cachekeep.cli.engines import NODES_FOLDER, RunningNode, access_of, facts_of, running_nodes
from cachekeep.cli.refusal import SERVICE_DOWN, Refused
from cachekeep.cli.service import find_service
from cachekeep.cli.words import STATUS_COLOURS, extras
from cachekeep.domain.nodes import NodeFacts, ProgramKind
from cachekeep.domain.serverless import serverless_name
from cachekeep.engine.admin import Admin
from cachekeep.host.local import LocalHost


def status(state_dir: options.StateDir = None, as_json: options.Json = False) -> None:
    """Show service, groups, nodes, roles, memory and endpoints. Exit code 3: the service is down or does not answer."""
    settings = options.settings_from(state_dir=state_dir)
    service = find_service(settings.state_dir)
    if service is None:
        _without_service(settings.state_dir, as_json=as_json)
        raise typer.Exit(SERVICE_DOWN)
    if service.url is None:
        raise Refused(f"the service (pid {service.pid}) is starting and does not answer yet", 1)
    page = Client(service.url, credentials.load(settings.state_dir), settings.region, settings.ca_file).status()
    if as_json:
        typer.echo(json.dumps(page, indent=2))
        return
    out = console()
    out.print(
        f"Cachekeep {page['service']['version']} serves at [bold]{page['service']['url']}[/bold] "
        f"(pid {page['service']['pid']}, state in {settings.state_dir})",
        soft_wrap=True,
    )
    if not page["groups"] and not page["clusters"]:
        out.print("No caches yet")
        return
    _show(out, page)


def _show(out: Console, page: dict[str, Any]) -> None:
    for kind, resources in (("group", page["groups"]), ("cluster", page["clusters"])):
        for resource in resources:
            out.print()
            _show_resource(out, kind, resource)


def _show_resource(out: Console, kind: str, resource: dict[str, Any]) -> None:
    """A line that names it, a line of endpoints, and a table of its nodes that fits 80 columns."""
    engine = f"{resource['engine']} {resource['version']}"
    if resource["runs"]:
        engine += f" [yellow](runs {resource['runs']})[/yellow]"
    colour = STATUS_COLOURS.get(resource["status"], "yellow")
    # A service of an earlier version, which runs until it is started anew, does not tell this.
    serverless = resource.get("serverless") is not None
    out.print(
        f"[bold]{serverless_name(resource['id'])}[/bold]  [{colour}]{resource['status']}[/{colour}]  {engine}  "
        f"[dim]{'serverless' if serverless else kind} in {resource['region']}{_protection(resource)}[/dim]",
        soft_wrap=True,
    )
    endpoints = [
        f"{name} {resource[f'{name}_endpoint']}"
        for name in ("primary", "reader", "configuration")
        if resource.get(f"{name}_endpoint")
    ]
    if endpoints:
        out.print(f"  {'   '.join(endpoints)}", soft_wrap=True)
    if kind == "group":
        for text in extras(resource):
            out.print(f"  [yellow]{text}[/yellow]", soft_wrap=True)
        for shard in resource["shards"]:
            out.print(f"  {_shard(shard)}", soft_wrap=True)
    if resource["waits_for_window"]:
        out.print(f"  [yellow]changes wait for the window {resource['waits_for_window']}[/yellow]", soft_wrap=True)
    table = _table()
    for node in resource["nodes"]:
        name = serverless_name(node["id"]) if node["node_id"] == "0001" else node["node_id"]
        _add(table, name, _role(node), node)
    out.print(table)


def _protection(resource: dict[str, Any]) -> str:
    """`, TLS required, users of staff`; "" where the cache is open."""
    words = [f"TLS {resource['tls']}"] if resource.get("tls") else []
    return "".join(f", {word}" for word in [*words, *filter(None, [resource.get("guard")])])


def _shard(shard: dict[str, Any]) -> str:
    """`shard 0001  slots 0-5460 (5461)  primary demo-0001-001`, and what is not as it should be."""
    text = f"shard [bold]{shard['id']}[/bold]  "
    text += f"slots {shard['slots']} ({shard['slot_count']})" if shard["slots"] else "no slots"
    text += f"  primary {serverless_name(shard['primary'])}"
    owned = shard["owned"]
    if owned is not None and owned != shard["slot_count"]:
        text += f"  [yellow]owns {owned} now[/yellow]"
    return text + ("  [yellow]leaving[/yellow]" if shard["leaving"] else "")


def _table() -> Table:
    table = Table(box=None, padding=(0, 0, 0, 2), header_style="dim")
    table.add_column("Node", no_wrap=True)
    table.add_column("Role", overflow="fold")
    for name in ("Memory", "Keys", "Clients"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("Address", no_wrap=True)
    table.add_column("Pid", justify="right", no_wrap=True)
    return table


def _add(table: Table, name: str, role: str, node: dict[str, Any]) -> None:
    table.add_row(
        name,
        role,
        f"{in_short(node['used_memory'])}/{in_short(node['maxmemory'])}",
        _count(node["keys"]),
        _count(node["clients"]),
        node["address"] or "-",
        _count(node["pid"]),
    )


def _role(node: dict[str, Any]) -> str:
    """The role, and whatever is not as it should be."""
    words = [" ".join(filter(None, (node["spare"], node["role"] or "node")))]
    if node["role"] == "replica" and not node["in_sync"]:
        words.append("not in sync")
    if node["status"] != "available":
        words.append(node["status"])
    if node["pid"] is None:
        words.append("no process")
    elif node["used_memory"] is None:
        words.append("no answer")
    return words[0] if len(words) == 1 else f"{words[0]}, [yellow]{', '.join(words[1:])}[/yellow]"


def _count(number: int | None) -> str:
    return "-" if number is None else str(number)


def _without_service(state_dir: Path, *, as_json: bool) -> None:
    """What is seen without the service: the engines that run on."""
    looks = asyncio.run(_look(state_dir))
    if as_json:
        typer.echo(json.dumps({"service": None, "engines": [_engine_json(*look) for look in looks]}, indent=2))
        return
    out = console()
    out.print(f"[red]The service is down[/red] (state in {state_dir}); `cachekeep up` starts it", soft_wrap=True)
    if not looks:
        out.print("No engine runs")
        return
    out.print("These run on:")
    table = _table()
    for look in looks:
        seen = _engine_json(*look)
        role = seen["role"] or seen["engine"]
        _add(table, seen["node"], role if seen["answers"] else f"{role}, [red]no answer[/red]", seen)
    out.print(table)


async def _look(state_dir: Path) -> list[tuple[RunningNode, NodeFacts | None]]:
    if not (state_dir / NODES_FOLDER).is_dir():
        return []
    host, admin = LocalHost(state_dir / NODES_FOLDER), Admin(access_of(state_dir))
    try:
        nodes = running_nodes(host, state_dir)
        facts = await asyncio.gather(*(facts_of(admin, node) for node in nodes))
    finally:
        await admin.close()
        host.close()
    return list(zip(nodes, facts, strict=True))


def _engine_json(node: RunningNode, facts: NodeFacts | None) -> dict[str, Any]:
    discovery = node.program is not ProgramKind.ENGINE
    responder = "TLS switch" if node.program is ProgramKind.SWITCH else "discovery responder"
    return {
        "node": str(node.key),
        "engine": responder if discovery else node.engine.value,
        "version": "" if discovery else node.version,
        "pid": node.process.pid,
        "address": str(node.address) if node.address else None,
        "answers": facts is not None or discovery,
        "role": facts.role.value if facts and node.engine.speaks_resp else None,
        "used_memory": facts.used_memory_bytes if facts else None,
        "maxmemory": facts.maxmemory_bytes if facts else None,
        "keys": facts.keys if facts else None,
        "clients": facts.clients if facts else None,
    }
