"""`cachekeep right-size`: the smallest node types and shapes that would hold what was measured, and what they cost.

Exit codes: 0 when something holds the load, 1 when nothing does or its memory is unknown, 3 when the service is down,
64 for a number that cannot be used.
"""

from __future__ import annotations

import json
import math
from datetime import datetime
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from cachekeep.cli import options
from cachekeep.cli.connect import connect
from cachekeep.cli.console import console, in_bytes
from cachekeep.cli.refusal import Refused
from cachekeep.domain.engine import Engine
from cachekeep.domain.faults import Fault
from cachekeep.report.right_size import check_days, goal_of

# Nothing holds the load, or its memory is unknown.
NO_ANSWER = 1
# As sysexits.h has it.
BAD_NUMBER = 64
_MOST_SHOWN = 8


def right_size(
    name: Annotated[str, typer.Argument(metavar="NAME", help="A group, a cluster, or a watched target.")],
    margin: Annotated[str, typer.Option(metavar="PERCENT", help="What is to be free above the measured peak.")] = "25",
    horizon_days: Annotated[str, typer.Option(metavar="N", help="For how long the growth is to fit.")] = "90",
    window_days: Annotated[str, typer.Option(metavar="N", help="How much of the past to go by.")] = "14",
    prices_region: Annotated[
        str | None, typer.Option(metavar="NAME", help="Whose prices; of its own region by default.")
    ] = None,
    state_dir: options.StateDir = None,
    region: options.Region = None,
    as_json: options.Json = False,
) -> None:
    """Name the node types, shards and replicas that would hold the measured load, and what each costs at AWS.

    Exit code 1 when nothing holds it or its memory is unknown.
    """
    numbers = [_number("--margin", margin), _number("--horizon-days", horizon_days)]
    days = _number("--window-days", window_days)
    try:
        goal_of(*numbers)
        check_days(days)
    except Fault as error:
        raise Refused(str(error), BAD_NUMBER) from error
    client = connect(state_dir, region)
    query = {"name": name, "region": client.region, "margin": str(numbers[0]), "horizon": str(numbers[1])}
    query |= {"days": str(days), **({"prices_region": prices_region} if prices_region else {})}
    page = client.page("right-size", f"size {name[:60]}", query)
    if as_json:
        typer.echo(json.dumps(page, indent=2))
    else:
        show_right_size(console(), page)
    raise typer.Exit(exit_code(page))


def exit_code(page: dict[str, Any]) -> int:
    """0 when at least one shape holds the load. page: of report.right_size."""
    return 0 if page["candidates"] else NO_ANSWER


def show_right_size(out: Console, page: dict[str, Any], most: int = _MOST_SHOWN) -> None:
    """The answer, the cheapest shapes, why cheaper ones were rejected, and how far to believe it."""
    out.print(f"[bold]{escape(page['answer'])}[/bold]", soft_wrap=True)
    _show_load(out, page)
    if page["candidates"]:
        out.print(_table(page["candidates"][:most]))
        more = len(page["candidates"]) - most
        if more > 0:
            out.print(f"and {more} more (--json)", style="dim")
    if page["rejected"]:
        out.print("Cheaper, but:" if page["candidates"] else "Rejected:")
        # The dearest come nearest to holding it.
        for shape in page["rejected"][-most:]:
            out.print(f"  {escape(shape['why_not'])}", soft_wrap=True)
    unknown = f"; unknown: {', '.join(page['unknown'])}" if page["unknown"] else ""
    colour = {"high": "green", "medium": "yellow"}.get(page["confidence"], "red")
    out.print(f"Confidence [{colour}]{page['confidence']}[/{colour}]{escape(unknown)}", soft_wrap=True)
    for note in page["notes"]:
        out.print(f"[yellow]{escape(note)}[/yellow]", soft_wrap=True)
    for text in page["assumptions"]:
        out.print(f"assumed: {escape(text)}", style="dim", soft_wrap=True)


def _show_load(out: Console, page: dict[str, Any]) -> None:
    goal, seen, history = page["goal"], page["observed"], page["history"]
    if history["from"]:
        begin, end = (datetime.fromtimestamp(history[name]).astimezone() for name in ("from", "to"))
        out.print(f"measured from {begin:%Y-%m-%d %H:%M} to {end:%Y-%m-%d %H:%M}", soft_wrap=True)
    parts = [
        f"{in_bytes(seen['used_bytes'])} of memory" if seen["used_bytes"] is not None else None,
        _amount(seen["engine_cpu_pct"], "{:.0f} % of a core"),
        _amount(seen["ops_per_s"], "{:,.0f} commands/s"),
        _amount(seen["connections"], "{:,.0f} connections"),
    ]
    if any(parts):
        out.print(f"at its peak: {', '.join(filter(None, parts))}", soft_wrap=True)
    need = "unknown" if page["need_bytes"] is None else in_bytes(page["need_bytes"])
    terms = f"with {goal['margin'] * 100:g} % margin and {goal['horizon_days']:g} days of growth"
    out.print(f"to hold: {need} of memory, {terms}", soft_wrap=True)


def _amount(value: float | None, form: str) -> str | None:
    return None if value is None else form.format(value)


def _table(shapes: list[dict[str, Any]]) -> Table:
    """Prices of the engines side by side."""
    engines = list(shapes[0]["usd_month_by_engine"])
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="dim")
    for name in ("Node type", "Engine"):
        table.add_column(name, no_wrap=True)
    for name in ("Shards", "Replicas", *(f"{Engine(engine).label} USD/month" for engine in engines), "Holds"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("Note", overflow="fold")
    for shape in shapes:
        prices = shape["usd_month_by_engine"]
        table.add_row(
            shape["node_type"],
            shape["engine"],
            str(shape["shards"]),
            str(shape["replicas"]),
            *("unknown" if prices[engine] is None else f"{prices[engine]:,.2f}" for engine in engines),
            in_bytes(shape["usable_bytes"]),
            escape("; ".join(shape["notes"])),
        )
    return table


def _number(option: str, text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise Refused(f"{option} must be a number, not {text[:40]!r}", BAD_NUMBER)
    return value
