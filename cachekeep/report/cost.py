"""What runs here and what is watched, at AWS's prices, and what the same costs on this machine.

One source for `cachekeep cost --groups`, the dashboard and the signed page `cost`. Quick, and called on the event loop:
the status page is read from the store. A price that is not known is said to be unknown.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from decimal import Decimal
from typing import Any

from cachekeep.domain.faults import Fault, invalid_value
from cachekeep.domain.metric_ports import Monitoring
from cachekeep.domain.metrics import Subject, WatchedTarget
from cachekeep.domain.prices import PriceList
from cachekeep.domain.reserved_node import ReservedNode
from cachekeep.domain.serverless import is_behind_serverless, serverless_name
from cachekeep.plan.cost import (
    HereCost,
    RunningCost,
    Usage,
    amount_of,
    cost_here,
    cost_usd,
    number,
    running_cost,
    usage_of,
)
from cachekeep.plan.reservations import reservation_costs, reservation_json, saved
from cachekeep.report.cost_here import MachineShare, Taken
from cachekeep.report.cost_prices import KnownPrices
from cachekeep.report.cost_serverless import serverless_cost
from cachekeep.report.watched import watched_resources

Page = dict[str, Any]


@dataclass(frozen=True)
class CostSources:
    """status: the status page. targets: what is watched. machine_usd_month: 0 for not said. cores: of this machine.
    reserved: reserved nodes of all regions."""

    status: Callable[[], Mapping[str, Any]]
    targets: Callable[[], Sequence[WatchedTarget]]
    prices: KnownPrices
    monitoring: Monitoring
    share: MachineShare
    cores: float
    machine_usd_month: float = 0.0
    reserved: Callable[[], Sequence[ReservedNode]] = tuple


@dataclass(frozen=True)
class CostTerms:
    """What to price with. prices_region: whose prices, None for each resource's own region. machine_usd_month: None
    for what the settings say."""

    usage: Usage = field(default_factory=Usage)
    prices_region: str | None = None
    machine_usd_month: Decimal | None = None


class CostReports:
    """What caches cost, as JSON values."""

    def __init__(self, sources: CostSources) -> None:
        self._in = sources

    async def page(self, region: str | None, query: Mapping[str, str]) -> Page:
        """`report` for ?name=&hours=&utilisation=&prices_region=&machine_usd_month=, with prices and measurements of
        now. Raises Fault."""
        terms = terms_of(query)
        status = self._in.status()
        await asyncio.to_thread(self._in.share.measure, (*status["groups"], *status["clusters"]))
        await self._in.prices.wait()
        return self.report(region, query.get("name") or None, terms)

    def report(self, region: str | None, name: str | None, terms: CostTerms | None = None) -> Page:
        """{"rows": [{"resource", "node_type", "count", "hourly", "monthly" (texts in USD, of all its nodes; None for
        not known), "source"}], "total" (text or None), "notes": [sentence]} for pages, and for programs `usage`,
        `resources` (amounts as numbers), `usd` (of those that are known), `here`, `reservations` and
        `reserved_saves` (USD, negative where they cost more than they save, None for not known).

        region: None for all. name: of a group, a cluster or a watched target; None for all. Raises
        ResourceNotFoundFault when there is none of that name, InvalidParameterValue for an absurd machine cost.
        """
        terms = terms or CostTerms()
        status = self._in.status()
        own = [
            (kind, one)
            for kind, resources in (("group", status["groups"]), ("cluster", status["clusters"]))
            for one in resources
            if _asked(one["region"], serverless_name(one["id"]), region, name)
        ]
        targets = [target for target in self._in.targets() if _asked(target.region, target.id, region, name)]
        watched = [("watched", one) for one in watched_resources(targets, self._in.monitoring.gauges)]
        if name is not None and not own and not watched:
            where = f" in {region}" if region else ""
            raise Fault(
                "ResourceNotFoundFault", f"There is no group, cluster or watched target {name[:60]!r}{where}.", 404
            )
        prices = self._in.prices.latest()
        costs = [self._cost(kind, one, prices, terms) for kind, one in (*own, *watched)]
        taken = self._in.share.taken([one for _, one in own])
        page = _assembled(costs, terms.usage, self._here(taken, terms), self._notes(costs, taken, prices))
        reserved = [node for node in self._in.reserved() if region in (None, node.region)] if name is None else []
        told = reservation_costs(reserved, costs, prices, terms.usage.hours, self._in.monitoring.now())
        return page | {"reservations": [reservation_json(one) for one in told], "reserved_saves": number(saved(told))}

    def _cost(self, kind: str, one: Mapping[str, Any], prices: PriceList, terms: CostTerms) -> RunningCost:
        if kind != "watched" and is_behind_serverless(one["id"]):
            current = self._in.monitoring.gauges.current(Subject(one["region"], one["id"]))
            return serverless_cost(one, current, terms.usage)
        return running_cost(kind, one, prices, terms.usage, terms.prices_region)

    def _here(self, taken: Taken, terms: CostTerms) -> HereCost:
        usd = terms.machine_usd_month
        if usd is None and self._in.machine_usd_month:
            usd = Decimal(str(self._in.machine_usd_month))
        memory = float(self._in.monitoring.total_memory_bytes)
        try:
            return cost_here(taken.memory_bytes, taken.cpu_cores, memory, self._in.cores, usd)
        except ValueError as error:
            raise invalid_value(f"{error}") from error

    def _notes(self, costs: Sequence[RunningCost], taken: Taken, prices: PriceList) -> list[str]:
        notes = list(dict.fromkeys(cost.note for cost in costs if cost.note))
        unpriced = sorted({c.region for c in costs if c.usd is None} - {row.region for row in prices})
        if unpriced:
            notes.append(
                f"no prices of {', '.join(unpriced)} are known: `cachekeep cost import` reads AWS's offer file, or "
                "name another region's prices"
            )
        if taken.missing:
            notes.append(f"the CPU of {taken.missing} node{'s' if taken.missing > 1 else ''} is not known yet")
        if self._in.prices.trouble:
            notes.append(self._in.prices.trouble)
        return notes


def terms_of(query: Mapping[str, str]) -> CostTerms:
    """Raises InvalidParameterValue, with what a value must be."""
    machine = query.get("machine_usd_month", "").strip()
    try:
        usage = usage_of("", query.get("utilisation", ""), query.get("hours", ""))
        stated = amount_of("machine_usd_month", machine, Decimal(0)) if machine else None
    except ValueError as error:
        raise invalid_value(f"{error}.") from error
    return CostTerms(usage, query.get("prices_region", "")[:40] or None, stated)


def _asked(its_region: str, its_id: str, region: str | None, name: str | None) -> bool:
    return region in (None, its_region) and (name is None or name.lower() == its_id)


def _assembled(costs: Sequence[RunningCost], usage: Usage, here: HereCost, notes: Sequence[str]) -> Page:
    priced = [cost.usd for cost in costs if cost.usd is not None]
    total = sum(priced, Decimal(0)) if priced or not costs else None
    if len(priced) < len(costs) and priced:
        notes = [*notes, "the sum is of the prices that are known"]
    shown: Page = asdict(here)
    shown |= {"usd": number(here.usd), "machine_usd_month": number(here.machine_usd_month)}
    return {
        "rows": [_row(cost) for cost in costs],
        "total": text(total),
        "notes": list(notes),
        "usage": {"utilisation": float(usage.utilisation_pct), "hours": float(usage.hours)},
        "resources": [_resource(cost) for cost in costs],
        "usd": number(total),
        "here": shown,
    }


def _row(cost: RunningCost) -> Page:
    """For a table that people read."""
    hourly = cost_usd(cost.price, Usage(cost.nodes, hours=Decimal(1))) if cost.price and cost.nodes else None
    return {
        "resource": cost.id,
        "node_type": cost.node_type or "unknown",
        "count": cost.nodes,
        "hourly": None if hourly is None else f"{hourly.normalize():f}",
        "monthly": text(cost.usd),
        "source": cost.price.source if cost.price and cost.usd is not None else cost.note,
    }


def _resource(cost: RunningCost) -> Page:
    """For programs."""
    return {
        "id": cost.id,
        "kind": cost.kind,
        "engine": cost.engine.value if cost.engine else None,
        "node_type": cost.node_type or None,
        "nodes": cost.nodes,
        "region": cost.region,
        "usd": number(cost.usd),
        "known": cost.usd is not None,
        "usd_per_hour": number(cost.price.usd_per_hour) if cost.price else None,
        "source": cost.price.source if cost.price else None,
        "note": cost.note or None,
    }


def text(amount: Decimal | None) -> str | None:
    return None if amount is None else f"{amount:,.2f}"
