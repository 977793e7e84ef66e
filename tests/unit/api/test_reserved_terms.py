"""Reserved nodes by the clock, and offerings by their prices."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal

import pytest

from cachekeep.domain.engine import Engine
from cachekeep.domain.prices import Price, PriceModel
from cachekeep.domain.reserved_node import PAYMENT_S, YEAR_S, Offering, ReservedNode, ReservedState

PRICE = Price(
    "cache.m5.large", "us-east-1", Engine.VALKEY, PriceModel.RESERVED_3_PARTIAL, Decimal("0.1"), Decimal(500), "x"
)
NODE = ReservedNode(
    "us-east-1", "r", "o", "cache.m5.large", Engine.VALKEY, PRICE.model, Decimal("0.1"), Decimal(500), 2, 1000.0
)


def test_a_reservation_ends_by_the_clock() -> None:
    told = [NODE.state(1000.0 + s) for s in (0.0, PAYMENT_S, 3 * YEAR_S - 1, 3 * YEAR_S)]
    assert told == [ReservedState.PAYMENT_PENDING, ReservedState.ACTIVE, ReservedState.ACTIVE, ReservedState.RETIRED]


def test_an_offering_keeps_its_id_when_its_price_changes() -> None:
    dearer = Offering(replace(PRICE, usd_per_hour=Decimal("0.2"), as_of="2026-01-01"))
    assert dearer.id == Offering(PRICE).id
    assert Offering(replace(PRICE, model=PriceModel.RESERVED_3_NONE, usd_upfront=Decimal(0))).id != dearer.id
    assert (dearer.type, dearer.duration_s) == ("Partial Upfront", 3 * YEAR_S)


@pytest.mark.parametrize(
    "price",
    [replace(PRICE, usd_per_hour=None), replace(PRICE, model=PriceModel.ON_DEMAND, usd_upfront=Decimal(0))],
    ids=["unknown", "on demand"],
)
def test_without_a_reserved_price_there_is_no_offering(price: Price) -> None:
    with pytest.raises(ValueError, match="not the known price"):
        Offering(price)
