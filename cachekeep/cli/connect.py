"""The way from a command to the running service. Called by the commands that need it."""

from __future__ import annotations

from typing import Any

from cachekeep import credentials
from cachekeep.cli import options
from cachekeep.cli.client import Client
from cachekeep.cli.refusal import SERVICE_DOWN, Refused
from cachekeep.cli.service import find_service


def connect(state_dir: str | None, region: str | None = None) -> Client:
    """Raises Refused, with exit code 3 when the service is down."""
    settings = options.settings_from(state_dir=state_dir, region=region)
    service = find_service(settings.state_dir)
    if service is None:
        raise Refused(f"the service is down (state in {settings.state_dir}); `cachekeep up` starts it", SERVICE_DOWN)
    if service.url is None:
        raise Refused(f"the service (pid {service.pid}) is starting and does not answer yet", 1)
    return Client(service.url, credentials.load(settings.state_dir), settings.region, settings.ca_file)


def group_named(client: Client, name: str) -> dict[str, Any]:
    """The group as the status page shows it. Raises Refused."""
    groups = [g for g in client.status()["groups"] if g["region"] == client.region and not g.get("serverless")]
    for group in groups:
        if group["id"] == name.lower():
            return dict(group)
    have = f"; there are {', '.join(g['id'] for g in groups)}" if groups else ""
    raise Refused(f"there is no replication group {name[:60]!r} in {client.region}{have}", 1)
