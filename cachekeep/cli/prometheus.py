"""`cachekeep prometheus`: what Prometheus and Grafana need to watch this installation, on stdout."""

from __future__ import annotations

import json
from urllib.parse import urlsplit

import typer

from cachekeep import credentials
from cachekeep.cli import options
from cachekeep.cli.service import announced_url
from cachekeep.data.metrics import metrics
from cachekeep.data.thresholds import thresholds
from cachekeep.plan.alert_rules import alert_rules
from cachekeep.report.grafana import dashboard as grafana_dashboard

app = typer.Typer(
    no_args_is_help=True, rich_markup_mode="rich", context_settings={"help_option_names": ["-h", "--help"]}
)


@app.callback()
def prometheus() -> None:
    """What Prometheus and Grafana need to watch this installation. Works while the service is down."""


@app.command()
def token(state_dir: options.StateDir = None) -> None:
    """Print the token that a scraper of /metrics sends, and nothing else."""
    typer.echo(credentials.load_token(options.settings_from(state_dir=state_dir).state_dir))


@app.command()
def config(state_dir: options.StateDir = None, port: options.Port = None) -> None:
    """Print the scrape_config, which names the token's file and not the token.

    Prometheus has to be able to read that file: copy it, where it runs as another user.
    """
    settings = options.settings_from(state_dir=state_dir, port=port)
    url = announced_url(settings.state_dir) or settings.url
    for line in config_lines(url, str(settings.state_dir.absolute() / credentials.TOKEN_FILE), str(settings.ca_file)):
        typer.echo(line)


@app.command()
def rules() -> None:
    """Print the alert rules, for rule_files; made from the thresholds of the verdicts."""
    typer.echo(alert_rules(thresholds(), metrics()), nl=False)


@app.command()
def dashboard() -> None:
    """Print the Grafana dashboard, to import as it is: Dashboards, New, Import."""
    typer.echo(json.dumps(grafana_dashboard(thresholds(), metrics()), indent=2, ensure_ascii=False))


def config_lines(url: str, token_file: str, ca_file: str = "") -> list[str]:
    """url: of the service; ca_file: whom to trust where it is https. JSON texts are YAML texts."""
    secured = ["    scheme: https", "    tls_config:", f"      ca_file: {json.dumps(ca_file)}"]
    return [
        "scrape_configs:",
        "  - job_name: cachekeep",
        "    scrape_interval: 15s",
        *(secured if url.startswith("https:") else []),
        "    authorization:",
        f"      credentials_file: {json.dumps(token_file)}",
        "    static_configs:",
        f"      - targets: [{json.dumps(urlsplit(url).netloc)}]",
    ]
