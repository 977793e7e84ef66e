"""How `cachekeep cost` shows prices: tables for people."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from cachekeep.data.prices import node_specs
from cachekeep.domain.engine import Engine
from cachekeep.domain.prices import Price, PriceModel
from cachekeep.plan.cost import Usage, cost_usd, formula

UNKNOWN = "unknown"


def show_types(out: Console, rows: Sequence[Price], usage: Usage) -> None:
    """A line for each type and region, on demand, engines side by side."""
    engines = [engine for engine in Engine if any(row.engine is engine for row in rows)]
    table = _table("Node type", "Region", ">vCPU", ">GiB", *(f">{engine.label} USD" for engine in engines))
    lines: dict[tuple[str, str], dict[Engine, Price]] = {}
    for row in rows:
        if row.model is PriceModel.ON_DEMAND:
            lines.setdefault((row.node_type, row.region), {})[row.engine] = row
    specs = node_specs()
    for (name, region), by_engine in lines.items():
        known = specs.get(name)
        table.add_row(
            name,
            region,
            str(known.type.vcpu) if known else "-",
            f"{known.type.memory_gib:g}" if known else "-",
            *(_usd(cost_usd(by_engine[e], usage) if e in by_engine else None) for e in engines),
        )
    out.print(table)
    out.print(f"{_sum(usage)}; sources and dates: `cachekeep cost NODE_TYPE`", style="dim", soft_wrap=True)


def show_type(out: Console, name: str, rows: Sequence[Price], usage: Usage) -> None:
    """Every row of one type, the sum of each, and where it comes from."""
    known = node_specs().get(name)
    if known:
        out.print(
            f"[bold]{name}[/bold]  {known.type.vcpu} vCPU, {known.type.memory_gib:g} GiB, network {known.network}",
            soft_wrap=True,
        )
    table = _table("Region", "Engine", "Model", ">USD/hour", ">Upfront USD", ">USD", "As of")
    for row in rows:
        table.add_row(
            row.region,
            row.engine.label,
            row.model.value,
            UNKNOWN if row.usd_per_hour is None else f"{row.usd_per_hour:f}",
            f"{row.usd_upfront:f}" if row.usd_upfront else "-",
            _usd(cost_usd(row, usage)),
            row.as_of or "-",
        )
    out.print(table)
    for row in rows:
        if row.usd_per_hour is not None:
            out.print(f"{row.region}, {row.engine.label}: {formula(row, usage)}", soft_wrap=True, markup=False)
    for source in dict.fromkeys(row.source for row in rows if row.usd_per_hour is not None):
        out.print(f"source: {source}", style="dim", soft_wrap=True, markup=False)


def show_running(out: Console, page: Mapping[str, Any]) -> None:
    """What runs or is watched, at AWS's prices, and what this machine gives for it. page: of report.cost."""
    table = _table("Cache", "Engine", "Node type", ">Nodes", "Priced in", ">AWS USD")
    for cost in page["resources"]:
        table.add_row(
            escape(cost["id"]),
            Engine(cost["engine"]).label if cost["engine"] else UNKNOWN,
            cost["node_type"] or UNKNOWN,
            str(cost["nodes"]),
            cost["region"],
            _usd(cost["usd"]),
        )
    if page["resources"]:
        out.print(table)
    for note in page["notes"]:
        out.print(f"[yellow]{escape(note)}[/yellow]", soft_wrap=True)
    words = "in all" if all(cost["known"] for cost in page["resources"]) else "in all, of those that are known"
    out.print(f"At AWS [bold]{_usd(page['usd'])}[/bold] USD {words}", soft_wrap=True)
    here = page["here"]
    shares = f"{_share(here['memory_share'])} of its memory, {_share(here['cpu_share'])} of its CPU"
    machine = here["machine_usd_month"]
    stated = "" if machine is None else f" of the {machine:,.2f} that the machine costs a month"
    out.print(f"Here [bold]{_usd(here['usd'])}[/bold] USD{stated}; it takes {shares}", soft_wrap=True)


def _sum(usage: Usage) -> str:
    return f"USD for {usage.count} x {usage.hours:f} hours at {usage.utilisation_pct:f} % on demand"


def _share(share: float | None) -> str:
    return f"an {UNKNOWN} share" if share is None else f"{share * 100:.1f} %"


def _usd(amount: Decimal | float | None) -> str:
    return UNKNOWN if amount is None else f"{amount:,.2f}"


def _table(*columns: str) -> Table:
    """`>`: numbers, to the right."""
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="dim")
    for name in columns:
        table.add_column(name.removeprefix(">"), justify="right" if name.startswith(">") else "left", no_wrap=True)
    return table
