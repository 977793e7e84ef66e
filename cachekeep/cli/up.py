"""`cachekeep up`: the service in the background, and with --demo a replication group to try it on."""

from __future__ import annotations

import time
from typing import Annotated, Any

import typer
from rich.console import Console

from cachekeep import credentials
from cachekeep.cli import options
from cachekeep.cli.client import Client, answers
from cachekeep.cli.console import console
from cachekeep.cli.invocation import command_line
from cachekeep.cli.refusal import Refused
from cachekeep.cli.service import ServiceProcess, find_service, in_force, start_service
from cachekeep.settings import SERVICE_SETTINGS, Settings

DEMO = "demo"
_DEMO_DEADLINE_S = 60.0
_POLL_S = 0.05


def up(
    demo: Annotated[
        bool, typer.Option("--demo/--no-demo", help="Also create the replication group `demo`, if there is none.")
    ] = False,
    state_dir: options.StateDir = None,
    port: options.Port = None,
    region: options.Region = None,
    account_id: options.AccountId = None,
    address_range: options.AddressRange = None,
    overcommit: options.Overcommit = None,
    redis_stand_in: options.RedisStandIn = None,
    log_level: options.LogLevel = None,
    hang_timeout: options.HangTimeout = None,
    rollback_hours: options.RollbackHours = None,
    sync_timeout: options.SyncTimeout = None,
) -> None:
    """Start the service in the background and wait until it answers.

    Does nothing when it runs already. Engines that run are adopted as they are; those that `down` stopped come
    back with their data.
    """
    settings = options.settings_from(
        state_dir=state_dir,
        port=port,
        region=region,
        account_id=account_id,
        address_range=address_range,
        overcommit=overcommit,
        redis_stand_in=redis_stand_in,
        log_level=log_level,
        hang_timeout=hang_timeout,
        rollback_hours=rollback_hours,
        sync_timeout=sync_timeout,
    )
    out = console()
    running = find_service(settings.state_dir)
    service = start_service(settings) if running is None else _ready(running, settings)
    url = service.url or settings.url
    verb = "serves" if running is None else "already serves"
    out.print(f"Cachekeep {verb} the ElastiCache API at [bold]{url}[/bold] (pid {service.pid})", soft_wrap=True)
    kept = in_force(settings, service)
    waiting = [name for name in SERVICE_SETTINGS if getattr(kept, name) != getattr(settings, name)]
    if waiting:
        words = ", ".join(f"{name} {getattr(settings, name)}" for name in waiting)
        out.print(f"It keeps its settings: {words} takes effect after `down` and `up`.", style="yellow", soft_wrap=True)
    if demo:
        _show_demo(
            out, ensure_demo(Client(url, credentials.load(settings.state_dir), settings.region, settings.ca_file))
        )
    line = command_line("env", options.needed_options(kept, "state_dir", "port", "region"))
    out.print("Point any AWS client of this shell at it:")
    out.print(f'  eval "$({line})"', markup=False, soft_wrap=True)


def _ready(service: ServiceProcess, settings: Settings) -> ServiceProcess:
    """The service once it answers: it may be starting just now."""
    deadline = time.monotonic() + _DEMO_DEADLINE_S
    while service.alive and time.monotonic() < deadline:
        found = find_service(settings.state_dir) or service
        if found.url is not None and answers(found.url, ca_file=settings.ca_file):
            return found
        time.sleep(_POLL_S)
    raise Refused(f"the service runs (pid {service.pid}) but does not answer; `cachekeep down` ends it", 1)


def ensure_demo(client: Client) -> dict[str, Any]:
    """The demo group once it is available, created if there is none. Raises Refused."""
    if _demo(client) is None:
        client.create(
            ReplicationGroupId=DEMO,
            ReplicationGroupDescription="Made by cachekeep up --demo",
            Engine="valkey",
            EngineVersion="9.1",
            NumCacheClusters="2",
            AutomaticFailoverEnabled="true",
        )
    deadline = time.monotonic() + _DEMO_DEADLINE_S
    group = None
    while time.monotonic() < deadline:
        group = _demo(client)
        if group is not None and group["status"] == "available":
            return group
        if group is None or group["status"] in ("create-failed", "deleting"):
            break
        time.sleep(_POLL_S)
    status = "gone" if group is None else group["status"]
    raise Refused(f"the service runs, but the group {DEMO} is {status}; its events (describe-events) say why", 1)


def _demo(client: Client) -> dict[str, Any] | None:
    groups = client.status()["groups"]
    return next((g for g in groups if g["id"] == DEMO and g["region"] == client.region), None)


def _show_demo(out: Console, group: dict[str, Any]) -> None:
    own = group["nodes"][0]["address"] if group["nodes"] else "-"
    primary = group["primary_endpoint"] or own
    out.print(
        f"Replication group [bold]{DEMO}[/bold] is {group['status']}: {group['engine'].capitalize()} "
        f"{group['version']}, {len(group['nodes'])} nodes",
        soft_wrap=True,
    )
    out.print(f"  primary endpoint  [bold]{primary}[/bold]")
    out.print(f"  reader endpoint   [bold]{group['reader_endpoint'] or primary}[/bold]")
