"""`cachekeep doctor`: is this machine fit, and what to do where it is not."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator
from contextlib import suppress

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from cachekeep.cli import checks, options
from cachekeep.cli.checks import Finding, Verdict
from cachekeep.cli.console import console
from cachekeep.cli.encryption_checks import encryption, logins
from cachekeep.cli.refusal import Refused
from cachekeep.cli.service import find_service, in_force
from cachekeep.host.installs import MachineCatalogue
from cachekeep.settings import Settings

_COLOURS = {Verdict.OK: "green", Verdict.WARN: "yellow", Verdict.FAIL: "red"}


def doctor(
    state_dir: options.StateDir = None,
    port: options.Port = None,
    address_range: options.AddressRange = None,
    overcommit: options.Overcommit = None,
    redis_stand_in: options.RedisStandIn = None,
    as_json: options.Json = False,
) -> None:
    """Check engines, addresses, ports, disk and limits, each with what to do. Exit code 1 when one fails."""
    settings = options.settings_from(
        state_dir=state_dir,
        port=port,
        address_range=address_range,
        overcommit=overcommit,
        redis_stand_in=redis_stand_in,
    )
    with suppress(Refused):  # told by checks.service
        settings = in_force(settings, find_service(settings.state_dir))
    findings = list(findings_of(settings))
    if as_json:
        typer.echo(json.dumps([dataclasses.asdict(f) for f in findings], indent=2))
    else:
        _show(console(), findings)
    if any(f.verdict is Verdict.FAIL for f in findings):
        raise typer.Exit(1)


def findings_of(settings: Settings) -> Iterator[Finding]:
    catalogue = MachineCatalogue(redis_from_valkey=settings.redis_stand_in)
    yield from checks.engines(catalogue.installs(), catalogue.broken, settings)
    yield checks.redis_stand_in(settings)
    yield checks.addresses(settings)
    yield from checks.service(settings)
    yield from checks.state_dir(settings)
    yield from encryption(settings)
    yield logins(settings, catalogue.installs())
    yield checks.open_files()
    yield from checks.memory(settings)
    yield from checks.kernel()


def _show(out: Console, findings: list[Finding]) -> None:
    from cachekeep import __version__  # late, as in cli.main

    table = Table(box=None, show_header=False, padding=(0, 2, 0, 0))
    table.add_column(no_wrap=True)
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for finding in findings:
        colour = _COLOURS[finding.verdict]
        text = escape(finding.text)
        if finding.advice:
            text += f"\n[bold]-> {escape(finding.advice)}[/bold]"
        table.add_row(f"[{colour}]{finding.verdict}[/{colour}]", finding.subject, text)
    out.print(f"Cachekeep {__version__} on this machine")
    out.print(table)
    counts = {verdict: sum(f.verdict is verdict for f in findings) for verdict in Verdict}
    out.print(", ".join(f"{count} {verdict}" for verdict, count in counts.items()))
