"""What nodes cost: AWS's formula, and the share of a machine."""

from __future__ import annotations

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cachekeep.data.prices import package_prices
from cachekeep.domain.engine import Engine
from cachekeep.domain.prices import UNSTATED, Price, PriceModel
from cachekeep.plan.cost import Usage, cost_here, cost_usd, formula, price_json, rows_for, running_cost, why_unknown


@pytest.mark.parametrize(("name", "hourly", "month"), [("m5", "0.163", "118.9900"), ("m7g", "0.164", "119.7200")])
def test_the_two_examples_of_the_seed_come_out_as_it_prints_them(name: str, hourly: str, month: str) -> None:
    price = package_prices().find(f"cache.{name}.large", UNSTATED, Engine.REDIS)
    assert price is not None
    assert formula(price, Usage()) == (
        f"1 instance(nodes) x {hourly} USD hourly x (100 / 100 Utilized/Month) x 730 hours in a month = {month} USD"
    )
    assert cost_usd(price, Usage()) == Decimal(month)
    assert price_json(price, Usage())["usd"] == float(month)


def test_an_unknown_price_has_no_sum() -> None:
    price = package_prices().find("cache.m5.large", "us-east-1", Engine.MEMCACHED)
    assert price is not None
    assert cost_usd(price, Usage()) is None
    assert price_json(price, Usage())["usd"] is None
    assert "unknown" in formula(price, Usage())


def test_a_reserved_node_costs_the_same_however_much_it_is_used() -> None:
    price = package_prices().find("cache.c7gn.large", "us-east-1", Engine.VALKEY, PriceModel.RESERVED_1_PARTIAL)
    assert price is not None
    full = cost_usd(price, Usage())
    assert full == cost_usd(price, Usage(utilisation_pct=Decimal(10)))
    assert full == (Decimal("0.0664") * 730 + Decimal("580.788") / 12).quantize(Decimal("0.0001"))
    assert "580.788 USD upfront / 8760 hours" in formula(price, Usage())


@given(count=st.integers(1, 1000), percent=st.integers(1, 100), hours=st.integers(1, 8760))
def test_the_sum_is_exact_and_in_proportion(count: int, percent: int, hours: int) -> None:
    price = Price("cache.a", "r", Engine.VALKEY, PriceModel.ON_DEMAND, Decimal("0.01"), Decimal(0), "s")
    assert cost_usd(price, Usage(count, Decimal(percent), Decimal(hours))) == Decimal(count * percent * hours) / 10_000


@pytest.mark.parametrize(
    ("usage", "wrong"),
    [
        ({"count": 0}, "count must be between"),
        ({"count": 10**30}, "count must be between"),
        ({"utilisation_pct": Decimal(0)}, "utilisation must be above 0"),
        ({"utilisation_pct": Decimal("100.1")}, "utilisation"),
        ({"utilisation_pct": Decimal("NaN")}, "utilisation"),
        ({"hours": Decimal(-1)}, "hours must be above 0"),
        ({"hours": Decimal("1e999")}, "hours"),
        ({"hours": Decimal("Infinity")}, "hours"),
    ],
)
def test_absurd_usage_is_refused_in_a_sentence(usage: dict[str, Decimal], wrong: str) -> None:
    with pytest.raises(ValueError, match=wrong):
        Usage(**usage)  # type: ignore[arg-type]


def test_an_unknown_type_is_answered_with_near_names() -> None:
    names = [price.node_type for price in package_prices()]
    assert "did you mean cache.m5.large" in why_unknown("m5.larg", names)
    assert "lists them all" in why_unknown("???", names)


def test_rows_of_a_type_put_known_prices_first() -> None:
    rows = rows_for(package_prices(), "cache.m5.large")
    assert [(row.region, row.engine.value, row.usd_per_hour is not None) for row in rows] == [
        ("unstated", "redis", True),
        ("us-east-1", "valkey", True),
        ("us-east-1", "redis", True),
        ("us-east-1", "memcached", False),
    ]


def resource(region: str = "us-east-1", **spares: str) -> dict[str, object]:
    nodes = [{"spare": None}, {"spare": None}, *({"spare": kind} for kind in spares.values())]
    return {"id": "g", "engine": "valkey", "node_type": "cache.m5.large", "region": region, "nodes": nodes}


def test_a_running_group_costs_as_many_nodes_as_aws_would_bill() -> None:
    cost = running_cost("group", resource(spare="coming"), package_prices(), Usage())
    assert (cost.nodes, cost.usd) == (2, Decimal("182.2080"))


def test_a_region_without_prices_is_unknown_unless_another_ones_are_asked_for() -> None:
    cost = running_cost("group", resource("eu-west-1"), package_prices(), Usage())
    assert cost.usd is None
    assert "eu-west-1 is unknown" in cost.note
    assert running_cost("group", resource("eu-west-1"), package_prices(), Usage(), "us-east-1").usd == Decimal(
        "182.2080"
    )


def test_the_engine_here_costs_its_larger_share_of_the_machine_or_an_unknown_sum() -> None:
    assert cost_here(1e9, 0.5, 4e9, 4).usd is None
    assert cost_here(1e9, 0.5, 4e9, 4, Decimal(0)).usd == 0
    here = cost_here(1e9, 0.5, 4e9, 4, Decimal(80))
    assert (here.memory_share, here.cpu_share, here.usd) == (0.25, 0.125, Decimal(20))
    assert cost_here(None, None, 4e9, 4, Decimal(80)).usd is None
    with pytest.raises(ValueError, match="machine's cost"):
        cost_here(1e9, 0.5, 4e9, 4, Decimal("NaN"))
