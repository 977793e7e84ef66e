"""How `cachekeep cost` shows prices: tables for people."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Any

from rich.console import Console
from rich.markup import escape

from cachekeep.cli.columns import print_rows
from cachekeep.data.prices import node_specs
from cachekeep.domain.engine import Engine
from cachekeep.domain.prices import Price, PriceModel
from cachekeep.plan.cost import Usage, cost_usd, formula

UNKNOWN = "unknown"
MACHINE_COST = "CACHEKEEP_MACHINE_USD_MONTH"


def show_types(out: Console, rows: Sequence[Price], usage: Usage) -> None:
    """A line for each type and region, on demand, engines side by side."""
    engines = [engine for engine in Engine if any(row.engine is engine for row in rows)]
    lines: dict[tuple[str, str], dict[Engine, Price]] = {}
    for row in rows:
        if row.model is PriceModel.ON_DEMAND:
            lines.setdefault((row.node_type, row.region), {})[row.engine] = row
    specs = node_specs()
    cells = [
        (
            name,
            region,
            str(specs[name].type.vcpu) if name in specs else "-",
            f"{specs[name].type.memory_gib:g}" if name in specs else "-",
            *(_usd(cost_usd(by_engine[e], usage) if e in by_engine else None) for e in engines),
        )
        for (name, region), by_engine in lines.items()
    ]
    print_rows(out, ["Node type", "~Region", ">vCPU", ">GiB", *(f">{engine.label} USD" for engine in engines)], cells)
    out.print(f"{_sum(usage)}; sources and dates: `cachekeep cost NODE_TYPE`", style="dim", soft_wrap=True)


def show_type(out: Console, name: str, rows: Sequence[Price], usage: Usage) -> None:
    """Every row of one type, the sum of each, and where it comes from."""
    known = node_specs().get(name)
    if known:
        out.print(
            f"[bold]{name}[/bold]  {known.type.vcpu} vCPU, {known.type.memory_gib:g} GiB, network {known.network}",
            soft_wrap=True,
        )
    cells = [
        (
            row.region,
            row.engine.label,
            row.model.value,
            UNKNOWN if row.usd_per_hour is None else f"{row.usd_per_hour:f}",
            f"{row.usd_upfront:f}" if row.usd_upfront else "-",
            _usd(cost_usd(row, usage)),
            row.as_of or "-",
        )
        for row in rows
    ]
    print_rows(out, ["~Region", "~Engine", "~Model", ">USD/hour", ">Upfront USD", ">USD", "As of"], cells)
    for row in rows:
        if row.usd_per_hour is not None:
            out.print(f"{row.region}, {row.engine.label}: {formula(row, usage)}", soft_wrap=True, markup=False)
    for source in dict.fromkeys(row.source for row in rows if row.usd_per_hour is not None):
        # Rows that tell both begin with `price: `.
        out.print(f"source: {source.removeprefix('price: ')}", style="dim", soft_wrap=True, markup=False)


def show_running(out: Console, page: Mapping[str, Any]) -> None:
    """What runs or is watched, at AWS's prices, and what this machine gives for it. page: of report.cost."""
    cells = [
        (
            cost["id"],
            Engine(cost["engine"]).label if cost["engine"] else UNKNOWN,
            cost["node_type"] or UNKNOWN,
            str(cost["nodes"]),
            cost["region"],
            _usd(cost["usd"]),
        )
        for cost in page["resources"]
    ]
    if cells:
        print_rows(out, ["~Cache", "~Engine", "Node type", ">Nodes", "~Priced in", ">AWS USD"], cells)
    for note in page["notes"]:
        out.print(f"[yellow]{escape(note)}[/yellow]", soft_wrap=True)
    if page["usd"] is None:
        out.print(f"At AWS [bold]{UNKNOWN}[/bold]: the price of none of them is known", soft_wrap=True)
    else:
        words = "in all" if all(cost["known"] for cost in page["resources"]) else "in all, of those that are known"
        out.print(f"At AWS [bold]{_usd(page['usd'])}[/bold] USD {words}", soft_wrap=True)
    _show_reserved(out, page)
    _show_here(out, page["here"])


def _show_reserved(out: Console, page: Mapping[str, Any]) -> None:
    cells = [
        (
            one["id"],
            Engine(one["engine"]).label,
            one["node_type"],
            f"{one['used']} of {one['count']}",
            one["region"],
            _usd(one["usd"]),
            _usd(one["saved_usd"]),
        )
        for one in page.get("reservations", [])
    ]
    if not cells:
        return
    print_rows(out, ["~Reservation", "~Engine", "Node type", ">In use", "~Region", ">Costs USD", ">Saves USD"], cells)
    saves = page["reserved_saves"]
    if saves is not None and saves < 0:
        out.print(f"[yellow]Reserved nodes cost {-saves:,.2f} USD more than they save[/yellow]", soft_wrap=True)
    elif saves is not None:
        out.print(f"Reserved nodes save [bold]{saves:,.2f}[/bold] USD against on demand", soft_wrap=True)


def _show_here(out: Console, here: Mapping[str, Any]) -> None:
    shares = f"{_share(here['memory_share'])} of its memory, {_share(here['cpu_share'])} of its CPU"
    machine = here["machine_usd_month"]
    if machine is None:
        what = f"[bold]{UNKNOWN}[/bold]: what this machine costs is not stated, set {MACHINE_COST}"
    else:
        usd = UNKNOWN if here["usd"] is None else f"{here['usd']:,.2f} USD"
        what = f"[bold]{usd}[/bold] of the {machine:,.2f} that the machine costs a month"
    out.print(f"Here {what}; it takes {shares}", soft_wrap=True)


def _sum(usage: Usage) -> str:
    return f"USD for {usage.count} x {usage.hours:f} hours at {usage.utilisation_pct:f} % on demand"


def _share(share: float | None) -> str:
    return f"an {UNKNOWN} share" if share is None else f"{share * 100:.1f} %"


def _usd(amount: Decimal | float | None) -> str:
    return UNKNOWN if amount is None else f"{amount:,.2f}"
