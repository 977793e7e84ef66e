"""What nodes cost: AWS's formula over price rows, and the share of a machine that runs the same. Pure.

nodes x USD per hour x utilisation / 100 x hours, in decimal arithmetic. Source: the seed document's two examples, which
are AWS's pricing calculator: a month has 730 hours, and utilisation counts on demand only. The upfront part of a
reserved node is spread over its years. Called by the CLI and the service's cost page.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from difflib import get_close_matches
from typing import Any

from cachekeep.domain.engine import Engine
from cachekeep.domain.prices import Price, PriceList, PriceModel

MONTH_H = Decimal(730)
_MOST_NODES = 100_000
_MOST_HOURS = Decimal(87_840)  # ten years
_TENTH_OF_A_MILL = Decimal("0.0001")


@dataclass(frozen=True)
class Usage:
    """How much is bought. utilisation_pct: of the hours, on demand only. Raises ValueError with a sentence."""

    count: int = 1
    utilisation_pct: Decimal = Decimal(100)
    hours: Decimal = MONTH_H

    def __post_init__(self) -> None:
        if not 1 <= self.count <= _MOST_NODES:
            raise ValueError(f"the count must be between 1 and {_MOST_NODES:,} nodes, not {self.count!s:.40}")
        if not self.utilisation_pct.is_finite() or not 0 < self.utilisation_pct <= 100:
            raise ValueError(f"the utilisation must be above 0 and at most 100 (%), not {self.utilisation_pct!s:.40}")
        if not self.hours.is_finite() or not 0 < self.hours <= _MOST_HOURS:
            raise ValueError(
                f"the hours must be above 0 and at most {_MOST_HOURS:,} (a month has 730), not {self.hours!s:.40}"
            )


def usage_of(count: str = "", utilisation: str = "", hours: str = "") -> Usage:
    """As somebody typed it; "" for the usual. Raises ValueError with a sentence."""
    nodes = count.strip() or "1"
    if not nodes.isascii() or not nodes.removeprefix("-").isdigit() or len(nodes) > 40:
        raise ValueError(f"the count must be a whole number of nodes, not {nodes[:40]!r}")
    return Usage(
        int(nodes), amount_of("the utilisation", utilisation, Decimal(100)), amount_of("the hours", hours, MONTH_H)
    )


def amount_of(what: str, given: str, usual: Decimal) -> Decimal:
    """As somebody typed it; "" for the usual. what: to call it in the sentence of the ValueError."""
    try:
        return Decimal(given.strip()) if given.strip() else usual
    except InvalidOperation as error:
        raise ValueError(f"{what} must be a number, not {given[:40]!r}") from error


def cost_usd(price: Price, usage: Usage) -> Decimal | None:
    """USD, to a hundredth of a cent; None when the price is not known."""
    hourly = price.effective_usd_per_hour
    if hourly is None:
        return None
    used = Decimal(1) if price.model.years else usage.utilisation_pct / 100
    return (usage.count * hourly * used * usage.hours).quantize(_TENTH_OF_A_MILL)


def formula(price: Price, usage: Usage) -> str:
    """The sum in AWS's words, or that the price is not known."""
    usd = cost_usd(price, usage)
    if usd is None:
        return f"the price of {price.node_type} for {price.engine.label} in {price.region} is unknown"
    if price.model.years:
        upfront = f"{price.usd_upfront.normalize():f} USD upfront / {price.model.years * 8760} hours"
        hourly = f"({price.usd_per_hour or 0:f} USD hourly + {upfront})"
        return f"{usage.count} instance(nodes) x {hourly} x {usage.hours:f} hours = {usd:f} USD"
    return (
        f"{usage.count} instance(nodes) x {price.usd_per_hour:f} USD hourly x ({usage.utilisation_pct:f} / 100 "
        f"Utilized/Month) x {usage.hours:f} hours in a month = {usd:f} USD"
    )


def rows_for(
    prices: Iterable[Price], node_type: str | None = None, region: str | None = None, engine: Engine | None = None
) -> list[Price]:
    """The rows that fit, in the order: as given by type, then region, engine and model; known prices first."""
    fitting = [
        row
        for row in prices
        if node_type in (None, row.node_type) and region in (None, row.region) and engine in (None, row.engine)
    ]
    place = {name: n for n, name in enumerate(dict.fromkeys(row.node_type for row in fitting))}
    engines, models = list(Engine), list(PriceModel)
    return sorted(
        fitting,
        key=lambda row: (
            place[row.node_type],
            row.usd_per_hour is None,
            row.region,
            engines.index(row.engine),
            models.index(row.model),
        ),
    )


def why_unknown(node_type: str, names: Iterable[str]) -> str:
    """A sentence with near names, for a node type that no list has."""
    have = list(dict.fromkeys(names))
    asked = node_type.lower()
    near = get_close_matches(asked if asked.startswith("cache.") else f"cache.{asked}", have, n=3, cutoff=0.6)
    hint = f"; did you mean {' or '.join(near)}?" if near else "; `cachekeep cost` lists them all"
    return f"there is no node type {node_type[:60]!r}{hint}"


@dataclass(frozen=True)
class RunningCost:
    """What one group, cluster or watched target costs at AWS. usd: None when no price is known; then `note` says so.

    engine: None before a watched target answered. node_type: "" where nobody said it.
    """

    id: str
    kind: str
    engine: Engine | None
    node_type: str
    nodes: int
    region: str
    price: Price | None
    usd: Decimal | None
    note: str = ""


def running_cost(
    kind: str, resource: Mapping[str, Any], prices: PriceList, usage: Usage, region: str | None = None
) -> RunningCost:
    """resource: a group or cluster of the status page. region: whose prices to use; the resource's own by default.

    A former or coming instance of a node is no node of its own at AWS.
    """
    engine = Engine(resource["engine"]) if resource["engine"] else None
    where = region or resource["region"]
    count = sum(1 for node in resource["nodes"] if node.get("spare") is None)
    price = prices.find(resource["node_type"], where, engine) if engine is not None else None
    usd = None
    if price is not None and count:
        usd = cost_usd(price, Usage(count, usage.utilisation_pct, usage.hours))
    note = "" if usd is not None else _why_no_sum(resource, engine, count, where)
    return RunningCost(resource["id"], kind, engine, resource["node_type"], count, where, price, usd, note)


def _why_no_sum(resource: Mapping[str, Any], engine: Engine | None, count: int, region: str) -> str:
    if not resource["node_type"]:
        return f"nobody said which node type {resource['id']} has"
    if not count:
        return f"{resource['id']} has no nodes yet"
    if engine is None:
        return f"the engine of {resource['id']} is not known yet"
    return f"the price of {resource['node_type']} for {engine.label} in {region} is unknown"


@dataclass(frozen=True)
class HereCost:
    """What the same costs on this machine. Shares: 0 to 1 and above, None for not known.

    usd: the larger share of the machine's monthly cost; None when nobody stated that, or no share is known.
    """

    memory_share: float | None
    cpu_share: float | None
    machine_usd_month: Decimal | None
    usd: Decimal | None


def cost_here(
    memory_bytes: float | None,
    cpu_cores: float | None,
    machine_memory_bytes: float,
    machine_cores: float,
    machine_usd_month: Decimal | None = None,
) -> HereCost:
    """Raises ValueError for an absurd cost."""
    if machine_usd_month is not None and (not machine_usd_month.is_finite() or not 0 <= machine_usd_month <= 10**7):
        raise ValueError(f"the machine's cost must be between 0 and 10,000,000 USD a month, not {machine_usd_month}")
    memory = memory_bytes / machine_memory_bytes if memory_bytes is not None and machine_memory_bytes > 0 else None
    cpu = cpu_cores / machine_cores if cpu_cores is not None and machine_cores > 0 else None
    shares = [share for share in (memory, cpu) if share is not None]
    usd = None
    if machine_usd_month is not None and shares:
        usd = (machine_usd_month * Decimal(str(min(1.0, max(shares))))).quantize(_TENTH_OF_A_MILL)
    return HereCost(memory, cpu, machine_usd_month, usd)


def price_json(price: Price, usage: Usage) -> dict[str, Any]:
    """One row for programs; amounts in USD, None for unknown."""
    usd = cost_usd(price, usage)
    return {
        "node_type": price.node_type,
        "region": price.region,
        "engine": price.engine.value,
        "model": price.model.value,
        "usd_per_hour": number(price.usd_per_hour),
        "usd_upfront": number(price.usd_upfront),
        "usd": number(usd),
        "known": usd is not None,
        "formula": formula(price, usage),
        "source": price.source,
        "as_of": price.as_of or None,
    }


def number(amount: Decimal | None) -> float | None:
    """For JSON; None for not known."""
    return None if amount is None else float(amount)
