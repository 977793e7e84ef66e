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
from cachekeep.cli.console import console, in_bytes
from cachekeep.cli.engines import NODES_FOLDER, RunningNode, facts_of, running_nodes
from cachekeep.cli.refusal import SERVICE_DOWN, Refused
from cachekeep.cli.service import find_service
from cachekeep.domain.nodes import NodeFacts, ProgramKind
from cachekeep.engine.admin import Admin
from cachekeep.host.local import LocalHost

_COLOURS = {"available": "green", "create-failed": "red"}


def status(state_dir: options.StateDir = None, as_json: options.Json = False) -> None:
    """Show service, groups, nodes, roles, memory and endpoints. Exit code 3 when the service is down."""
    settings = options.settings_from(state_dir=state_dir)
    service = find_service(settings.state_dir)
    if service is None:
        _without_service(settings.state_dir, as_json=as_json)
        raise typer.Exit(SERVICE_DOWN)
    if service.url is None:
        raise Refused(f"the service (pid {service.pid}) is starting and does not answer yet", 1)
    page = Client(service.url, credentials.load(settings.state_dir), settings.region).status()
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
    if page["groups"]:
        table = _table("Replication groups")
        for group in page["groups"]:
            _add(table, group, [_endpoint("primary", group), _endpoint("reader", group)])
        out.print(table)
    if page["clusters"]:
        table = _table("Cache clusters")
        for cluster in page["clusters"]:
            _add(table, cluster, [_endpoint("configuration", cluster)])
        out.print(table)


def _table(title: str) -> Table:
    table = Table(title=title, title_justify="left", title_style="bold", box=None, padding=(0, 2, 0, 0))
    for name in ("Name", "Status", "Engine", "Role"):
        table.add_column(name, overflow="fold")
    for name in ("Memory", "Keys", "Clients"):
        table.add_column(name, justify="right")
    table.add_column("Address", overflow="fold")
    return table


def _add(table: Table, resource: dict[str, Any], endpoints: list[str]) -> None:
    """One line for the resource, one for each node."""
    engine = f"{resource['engine']} {resource['version']}"
    if resource["runs"]:
        engine += f" [yellow](runs {resource['runs']})[/yellow]"
    colour = _COLOURS.get(resource["status"], "yellow")
    table.add_row(
        f"[bold]{resource['id']}[/bold] [dim]{resource['region']}[/dim]",
        f"[{colour}]{resource['status']}[/{colour}]",
        engine,
        *[""] * 4,
        "\n".join(filter(None, endpoints)),
    )
    for node in resource["nodes"]:
        table.add_row(
            f"  {node['id']}" + ("" if node["node_id"] == "0001" else f" {node['node_id']}"),
            _node_status(node),
            "" if node["pid"] is None else f"[dim]pid {node['pid']}[/dim]",
            _role(node),
            f"{in_bytes(node['used_memory'])} / {in_bytes(node['maxmemory'])}",
            _count(node["keys"]),
            _count(node["clients"]),
            node["address"],
        )
    table.add_section()


def _node_status(node: dict[str, Any]) -> str:
    if node["pid"] is None:
        return f"{node['status']}, [red]no process[/red]"
    return str(node["status"])


def _role(node: dict[str, Any]) -> str:
    if node["role"] == "replica" and not node["in_sync"]:
        return "replica, [yellow]not in sync[/yellow]"
    return node["role"] or ""


def _count(number: int | None) -> str:
    return "-" if number is None else str(number)


def _endpoint(kind: str, resource: dict[str, Any]) -> str:
    address = resource.get(f"{kind}_endpoint")
    return f"{kind} [bold]{address}[/bold]" if address else ""


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
    table = _table("Engines that run on")
    for look in looks:
        seen = _engine_json(*look)
        table.add_row(
            seen["node"],
            "serving" if seen["answers"] else "[red]does not answer[/red]",
            f"{seen['engine']} {seen['version']} [dim]pid {seen['pid']}[/dim]",
            seen["role"] or "",
            f"{in_bytes(seen['used_memory'])} / {in_bytes(seen['maxmemory'])}",
            _count(seen["keys"]),
            _count(seen["clients"]),
            seen["address"] or "-",
        )
    out.print(table)


async def _look(state_dir: Path) -> list[tuple[RunningNode, NodeFacts | None]]:
    if not (state_dir / NODES_FOLDER).is_dir():
        return []
    host, admin = LocalHost(state_dir / NODES_FOLDER), Admin()
    try:
        nodes = running_nodes(host, state_dir)
        facts = await asyncio.gather(*(facts_of(admin, node) for node in nodes))
    finally:
        await admin.close()
        host.close()
    return list(zip(nodes, facts, strict=True))


def _engine_json(node: RunningNode, facts: NodeFacts | None) -> dict[str, Any]:
    discovery = node.program is ProgramKind.DISCOVERY
    return {
        "node": str(node.key),
        "engine": "discovery responder" if discovery else node.engine.value,
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
