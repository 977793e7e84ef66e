"""The known prices of a node type, and what so many nodes of it cost: for the dashboard's page of cost.

Called on the event loop; imported prices are read in a thread where their file changed. The sums are plan.cost's.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from cachekeep.domain.faults import invalid_value
from cachekeep.plan.cost import Usage, price_json, rows_for, usage_of, why_unknown
from cachekeep.report.cost_prices import KnownPrices

# With the offer of all regions there are tens of thousands.
MOST_ROWS = 300


@dataclass(frozen=True)
class PriceQuestion:
    """As somebody typed it: texts, "" for the usual. node_type: "" for all. region: "" for every one."""

    node_type: str = ""
    count: str = ""
    utilisation: str = ""
    hours: str = ""
    region: str = ""

    @property
    def usage(self) -> Usage:
        """Raises InvalidParameterValue, with what a value must be."""
        try:
            return usage_of(self.count, self.utilisation, self.hours)
        except ValueError as error:
            raise invalid_value(f"{error}.") from error


async def price_table(prices: KnownPrices, asked: PriceQuestion) -> dict[str, Any]:
    """{"rows": [see plan.cost.price_json], "notes": [sentence]}; MOST_ROWS at most. Raises InvalidParameterValue for
    numbers that make no sense, and for a node type or a region that no price is known of."""
    usage = asked.usage
    name, region = asked.node_type.strip().lower(), asked.region.strip().lower()
    await prices.wait()
    known = prices.latest()
    of_type = rows_for(known, name or None)
    if not of_type:
        raise invalid_value(f"{why_unknown(name, (row.node_type for row in known))}.")
    rows = rows_for(of_type, None, region or None)
    if not rows:
        have = ", ".join(sorted({row.region for row in of_type})[:40])
        raise invalid_value(
            f"no price of {name or 'any node type'} in {region[:40]} is known; there are prices of {have}."
        )
    notes = [prices.trouble] if prices.trouble else []
    if len(rows) > MOST_ROWS:
        notes.append(f"{MOST_ROWS} of {len(rows)} prices are shown: name a node type or a region")
    return {"rows": [price_json(row, usage) for row in rows[:MOST_ROWS]], "notes": notes}
