"""Reserved cache nodes: what was bought for one or three years, and how it stands by the clock. Pure.

Nothing is bought from anybody and no engine is concerned: a reservation says how a bill would look. Words of states and
offering types: botocore elasticache 2015-02-02, ReservedCacheNode; ElastiCache guide "Reserved nodes".
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from enum import StrEnum

from cachekeep.domain.engine import Engine
from cachekeep.domain.prices import Price, PriceModel

YEAR_S = 31_536_000
# How long a reservation is `payment-pending`. AWS takes minutes; here there is nothing to wait for but the state
# itself, which tools poll for.
PAYMENT_S = 2.0
# Any fixed namespace will do, as long as it stays: ids of offerings follow from it.
_NAMESPACE = uuid.UUID("0f2cf1d4-6b1e-5d0b-9c55-2d4f3a8e7b61")
_OFFERING_TYPES = {"no-upfront": "No Upfront", "partial-upfront": "Partial Upfront", "all-upfront": "All Upfront"}
# Of before 2015: still valid in filters, and offered no more.
OLD_OFFERING_TYPES = ("Light Utilization", "Medium Utilization", "Heavy Utilization")
OFFERING_TYPES = (*_OFFERING_TYPES.values(), *OLD_OFFERING_TYPES)


class ReservedState(StrEnum):
    PAYMENT_PENDING = "payment-pending"
    ACTIVE = "active"
    RETIRED = "retired"


@dataclass(frozen=True)
class Offering:
    """What can be bought: a price of a reserved node whose amount is known. Its id is the same for ever, whatever it
    comes to cost. Raises ValueError for a price on demand or an unknown one."""

    price: Price

    def __post_init__(self) -> None:
        if not self.price.model.years or self.price.usd_per_hour is None:
            raise ValueError(f"{self.price.node_type} {self.price.model.value}: not the known price of a reserved node")

    @property
    def id(self) -> str:
        price = self.price
        return str(uuid.uuid5(_NAMESPACE, "/".join((price.region, price.engine, price.node_type, price.model))))

    @property
    def duration_s(self) -> int:
        return self.price.model.years * YEAR_S

    @property
    def type(self) -> str:
        return offering_type(self.price.model)


def offering_type(model: PriceModel) -> str:
    """`All Upfront` of reserved-3yr-all-upfront."""
    return _OFFERING_TYPES[model.value.split("-", 2)[2]]


@dataclass(frozen=True)
class ReservedNode:
    """A reservation. started_at: seconds since 1970. usd_per_hour, usd_upfront: of one node, as when it was bought."""

    region: str
    id: str
    offering_id: str
    node_type: str
    engine: Engine
    model: PriceModel
    usd_per_hour: Decimal
    usd_upfront: Decimal
    count: int
    started_at: float
    tags: Mapping[str, str] = field(default_factory=dict)

    @property
    def duration_s(self) -> int:
        return self.model.years * YEAR_S

    @property
    def type(self) -> str:
        return offering_type(self.model)

    def state(self, now: float) -> ReservedState:
        """now: seconds since 1970."""
        if now >= self.started_at + self.duration_s:
            return ReservedState.RETIRED
        return ReservedState.PAYMENT_PENDING if now < self.started_at + PAYMENT_S else ReservedState.ACTIVE
