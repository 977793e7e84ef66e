"""What a serverless cache costs at AWS: GB-hours and ECPUs, at its use of now. Called by report.cost.

AWS bills the data of each hour, never less than the floor, and the ECPUs that were used. Here the data of now and the
ECPUs of the last whole minute stand for every hour asked for.
"""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from typing import Any

from cachekeep.data.serverless_prices import serverless_prices
from cachekeep.domain.engine import Engine
from cachekeep.domain.metrics import Current
from cachekeep.domain.serverless import serverless_name
from cachekeep.plan.cost import RunningCost, Usage

KIND = "serverless"
_GB = Decimal(10**9)


def serverless_cost(resource: Mapping[str, Any], current: Current | None, usage: Usage) -> RunningCost:
    """resource: a group or cluster of the status page that runs a serverless cache. current: what is measured of the
    cache as a whole; None before its first minute."""
    engine = Engine(resource["engine"])
    price = serverless_prices()[engine]
    values = current.values if current is not None else {}
    held = max(Decimal(int(values.get("BytesUsedForCache", 0.0))) / _GB, price.least_gb)
    ecpu = Decimal(int(values.get("ElastiCacheProcessingUnits", 0.0))) * 60 * usage.hours
    usd = held * price.usd_per_gb_hour * usage.hours + ecpu / 10**6 * price.usd_per_million_ecpu
    name = serverless_name(resource["id"])
    text = (
        f"{name}: {held:.3f} GB x {price.usd_per_gb_hour:f} USD x {usage.hours:f} hours + {ecpu / 10**6:.3f} million "
        f"ECPU x {price.usd_per_million_ecpu:f} USD, at its use of now and at prices of {price.as_of} ({price.source})"
    )
    return RunningCost(name, KIND, engine, KIND, 1, resource["region"], None, usd, text)
