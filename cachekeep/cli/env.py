"""`cachekeep env`: the lines that point AWS clients of a POSIX shell at this installation."""

from __future__ import annotations

import os
import shlex
from collections.abc import Iterator, Mapping
from pathlib import Path

import typer

from cachekeep import credentials
from cachekeep.cli import options
from cachekeep.cli.service import announced_url

# These would win over what we set: a session token is sent along with our key, a profile may bring an endpoint or
# a role of its own, and the last one makes clients overlook AWS_ENDPOINT_URL_*.
OVERRULING = (
    "AWS_SESSION_TOKEN",
    "AWS_SECURITY_TOKEN",
    "AWS_PROFILE",
    "AWS_DEFAULT_PROFILE",
    "AWS_IGNORE_CONFIGURED_ENDPOINT_URLS",
)
_HOST = "127.0.0.1"


def env(
    state_dir: options.StateDir = None,
    port: options.Port = None,
    region: options.Region = None,
) -> None:
    """Print the `export` lines for AWS clients: eval "$(cachekeep env)".

    Works while the service is down. The keys are this installation's own; AWS itself does not know them, so use
    the shell for ElastiCache, CloudWatch, STS and the tagging API only.
    """
    settings = options.settings_from(state_dir=state_dir, port=port, region=region)
    key = credentials.load(settings.state_dir)
    # Where the running service really listens.
    url = announced_url(settings.state_dir) or settings.url
    if port is not None and url != settings.url:
        typer.echo(f"# the service listens at {url}, not at port {port}", err=True)
    ca_file = settings.ca_file if url.startswith("https:") else None
    for line in lines(url, settings.region, key, os.environ, ca_file):
        typer.echo(line)


def lines(
    url: str, region: str, key: credentials.AccessKey, environment: Mapping[str, str], ca_file: Path | None = None
) -> Iterator[str]:
    """The lines for a shell that has this environment. ca_file: whom clients are to trust; None without HTTPS."""
    exports = {
        "AWS_ENDPOINT_URL_ELASTICACHE": url,
        "AWS_ENDPOINT_URL_CLOUDWATCH": url,
        "AWS_ENDPOINT_URL_STS": url,
        "AWS_ENDPOINT_URL_RESOURCE_GROUPS_TAGGING_API": url,
        "AWS_REGION": region,
        "AWS_DEFAULT_REGION": region,
        "AWS_ACCESS_KEY_ID": key.id,
        "AWS_SECRET_ACCESS_KEY": key.secret,
        **({"AWS_CA_BUNDLE": str(ca_file.absolute())} if ca_file is not None else {}),
        **_past_proxies(environment),
    }
    for name, value in exports.items():
        yield f"export {name}={shlex.quote(value)}"
    yield f"unset {' '.join(OVERRULING)}"


def _past_proxies(environment: Mapping[str, str]) -> dict[str, str]:
    """Where a proxy is set, AWS clients would ask it for 127.0.0.1 too."""
    if not any(environment.get(name) for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY")):
        return {}
    # Clients prefer the lower-case name where both are set.
    now = environment.get("no_proxy") or environment.get("NO_PROXY") or ""
    hosts = [host.strip() for host in now.split(",") if host.strip()]
    if _HOST in hosts or "*" in hosts:
        return {}
    value = ",".join([*hosts, _HOST])
    return {"no_proxy": value, "NO_PROXY": value}
