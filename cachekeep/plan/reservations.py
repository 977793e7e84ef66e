"""What reserved nodes cost for a time, and what they save on the nodes that run. Pure.

A reservation is paid for whether or not a node of its kind runs: the same region, engine and node type. (AWS lets a
reservation of one size count for other sizes of its family; that is left out here, as it needs normalisation factors.)
Called by report.cost.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal

from cachekeep.domain.engine import Engine
from cachekeep.domain.prices import HOURS_PER_YEAR, PriceList
from cachekeep.domain.reserved_node import ReservedNode, ReservedState
from cachekeep.plan.cost import RunningCost

_TENTH_OF_A_MILL = Decimal("0.0001")
_Kind = tuple[str, Engine | None, str]


@dataclass(frozen=True)
class ReservationCost:
    """usd: what the reservation costs for the hours asked about, its upfront part spread over its years.

    used: how many of its nodes run. saved_usd: what those would cost on demand, less `usd`: below 0 where the
    reservation costs more than it saves; None when the price on demand is not known.
    """

    node: ReservedNode
    used: int
    usd: Decimal
    saved_usd: Decimal | None


def reservation_costs(
    reserved: Iterable[ReservedNode], running: Iterable[RunningCost], prices: PriceList, hours: Decimal, now: float
) -> list[ReservationCost]:
    """Those that are active at `now` (seconds since 1970), the oldest first: it gets the nodes that run first.

    running: at AWS a former or coming instance of a node is no node of its own, and here neither.
    """
    left: Counter[_Kind] = Counter()
    for cost in running:
        left[(cost.region, cost.engine, cost.node_type)] += cost.nodes
    told = []
    for node in sorted(reserved, key=lambda n: (n.started_at, n.id)):
        if node.state(now) is ReservedState.RETIRED:
            continue
        kind = (node.region, node.engine, node.node_type)
        used = min(node.count, left[kind])
        left[kind] -= used
        told.append(_cost(node, used, prices, hours))
    return told


def _cost(node: ReservedNode, used: int, prices: PriceList, hours: Decimal) -> ReservationCost:
    hourly = node.usd_per_hour + node.usd_upfront / (node.model.years * HOURS_PER_YEAR)
    usd = (node.count * hourly * hours).quantize(_TENTH_OF_A_MILL)
    price = prices.find(node.node_type, node.region, node.engine)
    if price is None or price.usd_per_hour is None:
        return ReservationCost(node, used, usd, None)
    return ReservationCost(node, used, usd, (used * price.usd_per_hour * hours - usd).quantize(_TENTH_OF_A_MILL))


def reservation_json(cost: ReservationCost) -> Mapping[str, object]:
    """For programs; amounts in USD, None for not known."""
    node = cost.node
    return {
        "id": node.id,
        "region": node.region,
        "engine": node.engine.value,
        "node_type": node.node_type,
        "model": node.model.value,
        "count": node.count,
        "used": cost.used,
        "usd": float(cost.usd),
        "saved_usd": None if cost.saved_usd is None else float(cost.saved_usd),
    }


def saved(costs: Sequence[ReservationCost]) -> Decimal | None:
    """In all; None when not every one is known."""
    amounts = [cost.saved_usd for cost in costs]
    known = [amount for amount in amounts if amount is not None]
    return sum(known, Decimal(0)) if len(known) == len(amounts) else None
