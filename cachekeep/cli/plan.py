"""`cachekeep plan`: what a request would do. Asks the service to rehearse it; nothing is done."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from cachekeep.cli import options
from cachekeep.cli.connect import connect
from cachekeep.cli.console import console, in_bytes
from cachekeep.cli.spelling import read

CONTEXT = {"ignore_unknown_options": True, "help_option_names": ["-h", "--help"]}


def plan(
    words: Annotated[
        list[str],
        typer.Argument(
            metavar="OPERATION [--parameter VALUE]...",
            help="As after `aws elasticache`: modify-replication-group --replication-group-id demo ...",
            show_default=False,
        ),
    ],
    param: Annotated[
        list[str] | None,
        typer.Option("--param", metavar="NAME=VALUE", help="A parameter by the API's own name; may be repeated."),
    ] = None,
    state_dir: options.StateDir = None,
    region: options.Region = None,
    as_json: options.Json = False,
) -> None:
    """Tell what an ElastiCache request would do, step by step, without doing it.

    Says the steps, for how long writes wait, the memory meanwhile, and how to undo it. What the service would
    refuse is refused here in the same words, with exit code 1.
    """
    wish = read(words, param or [])
    show_plan(connect(state_dir, region).rehearse(wish.operation, wish.fields), as_json=as_json)


def show_plan(made: dict[str, Any], *, as_json: bool = False) -> None:
    """made: the service's answer to a rehearsal."""
    if as_json:
        typer.echo(json.dumps(made, indent=2))
        return
    out = console()
    about = f" of {', '.join(made['resources'])}" if made["resources"] else ""
    out.print(f"[bold]{made['operation']}[/bold]{escape(about)} [dim](a plan: nothing is done)[/dim]")
    _steps(out, made["steps"])
    if made["changes"]:
        out.print(_facts(made))


def _steps(out: Console, steps: list[str]) -> None:
    table = Table(box=None, show_header=False, padding=(0, 1, 0, 0))
    table.add_column(justify="right", no_wrap=True)
    table.add_column(overflow="fold")
    for number, step in enumerate(steps, 1):
        table.add_row(f"{number:3}.", escape(step))
    out.print(table)


def _facts(made: dict[str, Any]) -> Table:
    table = Table(box=None, show_header=False, padding=(0, 2, 0, 0))
    table.add_column(no_wrap=True, style="dim")
    table.add_column(overflow="fold")
    at = made["begins_at"]
    begins = "at once" if at is None else f"{datetime.fromtimestamp(at, UTC):%a %Y-%m-%d %H:%M} UTC"
    if made["most_s"]:
        begins += f", takes about {_span(made['least_s'], made['most_s'])}"
    table.add_row("begins", begins)
    memory = [made["memory"][name] for name in ("now_bytes", "meanwhile_bytes", "afterwards_bytes")]
    for gap in made["gaps"]:
        table.add_row("pause", escape(_gap(gap)))
    if not made["gaps"] and memory[0] and memory[2]:
        table.add_row("pause", "writes go on without a pause")
    if any(memory):
        sizes = [in_bytes(size) for size in memory]
        table.add_row("memory", f"at most {sizes[0]} now, {sizes[1]} meanwhile, {sizes[2]} afterwards")
    for name, colour in (("undo", ""), ("warnings", "yellow")):
        for text in made[name]:
            table.add_row(name.removesuffix("s"), f"[{colour}]{escape(text)}[/{colour}]" if colour else escape(text))
    return table


def _gap(gap: dict[str, Any]) -> str:
    times = "" if gap["times"] == 1 else f", {gap['times']} times"
    return f"{_ms(gap['least_ms'], gap['most_ms'])} for {gap['what']}{times} ({gap['source']})"


def _ms(least: float, most: float) -> str:
    return f"{least:.0f}-{most:.0f} ms" if most < 2000 else f"{least / 1000:.1f}-{most / 1000:.1f} s"


def _span(least: float, most: float) -> str:
    if most < 120:
        return f"{least:.1f}-{most:.1f} s"
    return f"{least / 60:.0f}-{most / 60:.0f} min"
