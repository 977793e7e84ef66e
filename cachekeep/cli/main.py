"""The `cachekeep` command."""

from __future__ import annotations

import sys

import typer

from cachekeep.app import StartError
from cachekeep.app import serve as run_service
from cachekeep.settings import SettingsError, load

app = typer.Typer(no_args_is_help=True, add_completion=False)


@app.callback()
def root() -> None:
    """Cachekeep: the ElastiCache you own."""


@app.command()
def serve() -> None:
    """Run the service in the foreground."""
    try:
        run_service(load())
    except (SettingsError, StartError) as error:
        sys.exit(f"cachekeep: {error}")


def main() -> None:
    app()
