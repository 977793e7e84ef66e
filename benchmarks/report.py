"""The table that a run prints, and the same as JSON."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict

from rich.console import Console
from rich.table import Table

from benchmarks.figure import Figure, Verdict
from benchmarks.machine import Machine

_COLOURS = {
    Verdict.MET: "green",
    Verdict.MISSED: "bold red",
    Verdict.UNCLEAR: "yellow",
    Verdict.NOTED: "dim",
    Verdict.FAILED: "bold red",
}
_WIDTH = 170


def as_table(figures: Sequence[Figure], before: Machine, after: Machine, wall_s: float) -> None:
    title = f"{before}; load {after.load:.1f} at the end, {wall_s:.0f} s"
    table = Table(title=title, title_justify="left", title_style="dim", show_lines=False)
    table.add_column("figure", overflow="fold")
    table.add_column("measured", overflow="fold")
    table.add_column("target", no_wrap=True)
    table.add_column("verdict", no_wrap=True)
    table.add_column("conditions", style="dim", overflow="fold")
    for it in figures:
        colour = _COLOURS[it.verdict]
        table.add_row(it.name, it.measured, it.target, f"[{colour}]{it.verdict}[/{colour}]", it.how)
    console = Console()
    if not console.is_terminal:  # a file or a pipe has no width of its own
        console = Console(width=_WIDTH)
    console.print(table)


def as_json(figures: Sequence[Figure], before: Machine, after: Machine, wall_s: float) -> str:
    """Values are in seconds, bytes, percent, or answers per second, as the name of the figure says."""
    return json.dumps(
        {
            "machine": asdict(before),
            "load_at_end": after.load,
            "wall_s": round(wall_s, 1),
            "figures": [asdict(it) for it in figures],
        },
        indent=2,
    )
