"""`cachekeep cost`: what cache nodes cost at AWS, what runs here would cost there, and where the prices come from.

`cost NODE_TYPE` and `cost --groups` need no name of a command: whatever is no command goes to `show`, --help too.
"""

from __future__ import annotations

import json
from decimal import Decimal
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from cachekeep.cli import options
from cachekeep.cli.connect import connect
from cachekeep.cli.console import console
from cachekeep.cli.cost_files import import_offer, known_prices
from cachekeep.cli.cost_tables import show_running, show_type, show_types
from cachekeep.cli.refusal import Refused
from cachekeep.domain.engine import Engine
from cachekeep.domain.prices import Price, PriceList
from cachekeep.plan.cost import Usage, amount_of, price_json, rows_for, usage_of, why_unknown

_EXAMPLES = """[bold]Examples[/bold]
  cachekeep cost                                    [dim]# all node types, engines side by side[/dim]
  cachekeep cost cache.m5.large --count 3           [dim]# every known price of one, with its source[/dim]
  cachekeep cost --groups --machine-usd-month 80    [dim]# what runs or is watched, at AWS's prices and here[/dim]
  cachekeep cost import index.json                  [dim]# keep the prices of AWS's offer file[/dim]

Exit codes: 0 shown, 1 no price is known there, 2 a wrong call, 3 the service is down or does not answer.
"""
_SHOW = "show"


class _ShowByDefault(TyperGroup):
    # Any: the context is of click or of typer's own copy of it, as the version of typer has it.
    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:  # noqa: ANN401
        if not args or args[0] not in self.commands:
            args = [_SHOW, *args]
        return super().parse_args(ctx, args)


app = typer.Typer(
    help="What cache nodes cost at AWS, and what runs here would cost there.",
    cls=_ShowByDefault,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
)


@app.command(_SHOW, epilog=_EXAMPLES, short_help="Show prices; this is what `cachekeep cost` does.")
def show(
    node_type: Annotated[str | None, typer.Argument(metavar="[NODE_TYPE]", help="All of them by default.")] = None,
    count: Annotated[str, typer.Option(metavar="N", help="How many nodes.")] = "1",
    utilisation: Annotated[
        str, typer.Option("--utilisation", "--utilization", metavar="PERCENT", help="Of the hours, on demand only.")
    ] = "100",
    hours: Annotated[str, typer.Option(metavar="N", help="730 hours are a month.")] = "730",
    region: Annotated[str | None, typer.Option(metavar="NAME", help="Prices of this region only.")] = None,
    engine: Annotated[str | None, typer.Option(metavar="NAME", help="valkey, redis or memcached.")] = None,
    prices: Annotated[Path | None, typer.Option(metavar="FILE", help="More prices, over the others.")] = None,
    groups: Annotated[bool, typer.Option("--groups", help="What runs here, at AWS's prices and here.")] = False,
    machine_usd_month: Annotated[
        str | None, typer.Option(metavar="USD", help="With --groups: what this machine costs a month.")
    ] = None,
    state_dir: options.StateDir = None,
    as_json: options.Json = False,
) -> None:
    """Show what cache nodes cost at AWS: nodes x USD per hour x utilisation / 100 x hours.

    A price that no source states is unknown. Amounts with an upfront part spread it over the years.
    """
    stated = (machine_usd_month or "").strip()
    try:
        usage = usage_of(count, utilisation, hours)
        machine_usd = amount_of("the machine's cost", stated, Decimal(0)) if stated else None
    except ValueError as error:
        raise Refused(str(error)) from error
    if groups:
        if node_type is not None or engine is not None or usage.count != 1:
            raise Refused("--groups shows all that runs; it takes no node type, no engine and no count")
        if prices is not None:
            raise Refused("--groups goes by the prices that the service has; `cachekeep cost import` adds to them")
        _running(usage, region, machine_usd, state_dir, as_json=as_json)
        return
    if machine_usd_month is not None:
        raise Refused("--machine-usd-month goes with --groups")
    known = known_prices(options.settings_from(state_dir=state_dir).state_dir, prices)
    rows = _chosen(known, node_type, region, engine)
    if as_json:
        typer.echo(json.dumps({"usage": _usage_json(usage), "rows": [price_json(r, usage) for r in rows]}, indent=2))
    elif node_type is None:
        show_types(console(), rows, usage)
    else:
        show_type(console(), rows[0].node_type, rows, usage)


@app.command("import", short_help="Keep the prices of an AWS offer file.")
def import_(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="AWS's AmazonElastiCache offer, JSON or CSV.")],
    state_dir: options.StateDir = None,
    as_json: options.Json = False,
) -> None:
    """Keep the prices of AWS's Price List offer file of AmazonElastiCache (JSON or CSV), or of a price file.

    They stand over those of the package where they are newer.
    """
    offer, kept = import_offer(file, options.settings_from(state_dir=state_dir).state_dir)
    if as_json:
        page = {"read": len(offer.prices), "kept": kept, "as_of": offer.as_of or None, "left_out": offer.left_out}
        typer.echo(json.dumps(page, indent=2))
        return
    out = console()
    dated = f" of {offer.as_of}" if offer.as_of else ""
    read = _counted(len(offer.prices), "price")
    out.print(f"{read}{dated} read, {_counted(kept, 'imported price')} kept", soft_wrap=True)
    for reason, number in offer.left_out.items():
        out.print(f"left out: {number} {reason}", style="dim", soft_wrap=True)


def _counted(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def _chosen(known: PriceList, node_type: str | None, region: str | None, engine: str | None) -> list[Price]:
    """The rows asked for; at least one. Raises Refused."""
    if engine is not None and engine not in set(Engine):
        raise Refused(f"the engine must be valkey, redis or memcached, not {engine[:40]!r}")
    name = node_type.strip().lower() if node_type is not None else None
    of_type = rows_for(known, name)
    if name is not None and not of_type:
        raise Refused(why_unknown(name, (row.node_type for row in known)))
    rows = rows_for(of_type, None, region, Engine(engine) if engine is not None else None)
    if rows:
        return rows
    asked = " ".join(filter(None, (f"{name or 'any node type'}", f"for {engine}" if engine else "")))
    have = ", ".join(sorted({row.region for row in of_type if row.usd_per_hour is not None})[:40])
    where = f" in {region[:40]}" if region is not None else ""
    raise Refused(f"no price of {asked}{where} is known; there are prices of {have or 'no region'}", 1)


def _running(
    usage: Usage, region: str | None, machine_usd: Decimal | None, state_dir: str | None, *, as_json: bool
) -> None:
    """What runs in all regions and what is watched. An unknown price makes the sum one of those that are known."""
    query = {"utilisation": f"{usage.utilisation_pct:f}", "hours": f"{usage.hours:f}"}
    if region is not None:
        query["prices_region"] = region
    if machine_usd is not None:
        query["machine_usd_month"] = str(machine_usd)
    page = connect(state_dir).page("cost", "tell what the caches cost", query)
    if as_json:
        typer.echo(json.dumps(page, indent=2))
    else:
        show_running(console(), page)


def _usage_json(usage: Usage) -> dict[str, Any]:
    return {"count": usage.count, "utilisation": float(usage.utilisation_pct), "hours": float(usage.hours)}
