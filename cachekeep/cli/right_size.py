"""`cachekeep right-size`: the smallest node types and shapes that would hold what was measured, and what they cost.

Exit codes: 0 when something holds the load, 1 when nothing does or its memory is unknown, 2 for a wrong call, 3 when
the service is down or does not answer.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape

from cachekeep.cli import options
from cachekeep.cli.columns import print_rows
from cachekeep.cli.connect import connect
from cachekeep.cli.console import console, in_bytes
from cachekeep.cli.refusal import Refused
from cachekeep.domain.engine import Engine
from cachekeep.domain.faults import Fault
from cachekeep.report.right_size import check_days, goal_of

# Nothing holds the load, or its memory is unknown.
NO_ANSWER = 1
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

    Exit code: 0 something holds it, 1 nothing does or its memory is unknown, 2 a wrong call, 3 the service is down.
    """
    numbers = [_number("--margin", margin), _number("--horizon-days", horizon_days)]
    days = _number("--window-days", window_days)
    try:
        goal_of(*numbers)
        check_days(days)
    except Fault as error:
        raise Refused(str(error)) from error
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
        _show_shapes(out, page["candidates"][:most])
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


def _show_shapes(out: Console, shapes: Sequence[Mapping[str, Any]]) -> None:
    """Prices of the engines side by side; below each shape what is to know of it, and last what is so of all."""
    engines = list(shapes[0]["usd_month_by_engine"])
    mixed = len({shape["engine"] for shape in shapes}) > 1
    columns = ["Node type", *(["Engine"] if mixed else []), ">Shards", ">Replicas"]
    columns += [*(f">{Engine(engine).label} USD/month" for engine in engines), ">Holds"]
    of_all = [note for note in shapes[0]["notes"] if len(shapes) > 1 and all(note in s["notes"] for s in shapes)]
    rows = [
        [
            shape["node_type"],
            *([Engine(shape["engine"]).label] if mixed else []),
            str(shape["shards"]),
            str(shape["replicas"]),
            *(_usd(shape["usd_month_by_engine"][engine]) for engine in engines),
            in_bytes(shape["usable_bytes"]),
        ]
        for shape in shapes
    ]
    notes = ["; ".join(note for note in shape["notes"] if note not in of_all) for shape in shapes]
    print_rows(out, columns, rows, notes)
    for note in of_all:
        out.print(f"all of these: {note}", style="dim", markup=False, soft_wrap=True)


def _usd(amount: float | None) -> str:
    return "unknown" if amount is None else f"{amount:,.2f}"


def _number(option: str, text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise Refused(f"{option} must be a number, not {text[:40]!r}")
    return value


app = typer.Typer()
app.command()(right_size)
