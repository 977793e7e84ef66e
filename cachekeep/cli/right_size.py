"""How `cachekeep right-size` shows what plan.right_size found, and the exit code that scripts go by."""

from __future__ import annotations

from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from cachekeep.cli.console import in_bytes

# Nothing holds the load, or its memory is unknown.
NO_ANSWER = 1
_MOST_SHOWN = 8


def exit_code(page: dict[str, Any]) -> int:
    """0 when at least one shape holds the load. page: as plan.right_size.as_json has it."""
    return 0 if page["candidates"] else NO_ANSWER


def show_right_size(out: Console, page: dict[str, Any], most: int = _MOST_SHOWN) -> None:
    """The answer, the cheapest shapes, why cheaper ones were rejected, and how far to believe it."""
    out.print(f"[bold]{escape(page['answer'])}[/bold]", soft_wrap=True)
    goal = page["goal"]
    need = "unknown" if page["need_bytes"] is None else in_bytes(page["need_bytes"])
    out.print(
        f"to hold: {need} of keys, with {goal['margin'] * 100:g} % margin and {goal['horizon_days']:g} days of growth",
        soft_wrap=True,
    )
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
    for text in page["assumptions"]:
        out.print(f"assumed: {escape(text)}", style="dim", soft_wrap=True)


def _table(shapes: list[dict[str, Any]]) -> Table:
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="dim")
    for name in ("Node type", "Engine"):
        table.add_column(name, no_wrap=True)
    for name in ("Shards", "Replicas", "USD/month", "Holds"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("Note", overflow="fold")
    for shape in shapes:
        usd = shape["usd_month"]
        table.add_row(
            shape["node_type"],
            shape["engine"],
            str(shape["shards"]),
            str(shape["replicas"]),
            "unknown" if usd is None else f"{usd:,.2f}",
            in_bytes(shape["usable_bytes"]),
            escape("; ".join(shape["notes"])),
        )
    return table
