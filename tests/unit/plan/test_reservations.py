"""Reserved nodes against the nodes that run: who gets which, what it costs, what it saves."""

from __future__ import annotations

from decimal import Decimal

import pytest

from cachekeep.domain.engine import Engine
from cachekeep.domain.prices import Price, PriceList, PriceModel
from cachekeep.domain.reserved_node import YEAR_S, ReservedNode
from cachekeep.plan.cost import RunningCost
from cachekeep.plan.reservations import reservation_costs, saved

REGION, TYPE = "us-east-1", "cache.m5.large"
HOURS = Decimal(730)
ON_DEMAND = Price(TYPE, REGION, Engine.VALKEY, PriceModel.ON_DEMAND, Decimal("0.2"), Decimal(0), "x")
PRICES = PriceList([ON_DEMAND])


def reserved(name: str, count: int, at: float = 0.0, **more: object) -> ReservedNode:
    given: dict[str, object] = {
        "node_type": TYPE,
        "engine": Engine.VALKEY,
        "model": PriceModel.RESERVED_1_PARTIAL,
        "usd_per_hour": Decimal("0.05"),
        "usd_upfront": Decimal(438),  # 0.05 an hour over a year
    }
    return ReservedNode(REGION, name, "offering", count=count, started_at=at, **{**given, **more})  # type: ignore[arg-type]


def runs(nodes: int, node_type: str = TYPE, engine: Engine | None = Engine.VALKEY, region: str = REGION) -> RunningCost:
    return RunningCost("g", "group", engine, node_type, nodes, region, None, None)


def costs(nodes: list[ReservedNode], running: list[RunningCost], now: float = 10.0) -> list[tuple[str, int, str, str]]:
    return [
        (one.node.id, one.used, f"{one.usd:f}", f"{one.saved_usd:f}" if one.saved_usd is not None else "unknown")
        for one in reservation_costs(nodes, running, PRICES, HOURS, now)
    ]


def test_a_reservation_in_use_saves_and_an_idle_one_costs() -> None:
    assert costs([reserved("a", 2)], [runs(2)]) == [("a", 2, "146.0000", "146.0000")]
    assert costs([reserved("a", 2)], [runs(1)]) == [("a", 1, "146.0000", "0.0000")]
    assert costs([reserved("a", 2)], []) == [("a", 0, "146.0000", "-146.0000")]


def test_the_oldest_gets_the_nodes_first() -> None:
    told = costs([reserved("new", 2, at=5.0), reserved("old", 2, at=1.0)], [runs(2), runs(1)])
    assert [(name, used) for name, used, *_ in told] == [("old", 2), ("new", 1)]


@pytest.mark.parametrize(
    "other",
    [runs(2, node_type="cache.m5.xlarge"), runs(2, engine=Engine.REDIS), runs(2, engine=None), runs(2, region="x")],
)
def test_only_nodes_of_its_kind_count(other: RunningCost) -> None:
    assert costs([reserved("a", 1)], [other])[0][1] == 0


def test_one_that_has_ended_is_left_out() -> None:
    assert costs([reserved("a", 1)], [runs(1)], now=YEAR_S) == []


def test_without_a_price_on_demand_the_saving_is_unknown() -> None:
    strange = reserved("b", 1, node_type="cache.none")
    assert costs([strange], [])[0][3] == "unknown"
    assert saved(reservation_costs([strange, reserved("a", 1)], [runs(1)], PRICES, HOURS, 10.0)) is None
    assert saved(reservation_costs([reserved("a", 1)], [runs(1)], PRICES, HOURS, 10.0)) == Decimal("73.0000")
    assert saved([]) == 0
