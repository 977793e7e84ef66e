"""Prices and specifications of the package, and price files."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal

import pytest

from cachekeep.data.prices import PriceFileError, node_specs, package_prices, read_prices, write_prices
from cachekeep.domain.engine import Engine
from cachekeep.domain.prices import UNSTATED, Price, PriceList, PriceModel

HEAD = "node_type,region,engine,model,usd_per_hour,usd_upfront,source,as_of\n"
ROW = Price(
    "cache.x.large", "eu-west-1", Engine.VALKEY, PriceModel.ON_DEMAND, Decimal("0.2"), Decimal(0), "me", "2026-01-01"
)


def test_the_two_prices_of_the_seed_name_no_region() -> None:
    stated = {p.node_type: p.usd_per_hour for p in package_prices() if p.region == UNSTATED and p.usd_per_hour}
    assert stated == {"cache.m5.large": Decimal("0.163"), "cache.m7g.large": Decimal("0.164")}


def test_every_known_price_names_its_source_and_all_but_the_seeds_a_date() -> None:
    for price in package_prices():
        assert price.source
        assert price.as_of or price.usd_per_hour is None or price.region == UNSTATED, price


def test_valkey_costs_four_fifths_of_redis() -> None:
    prices = package_prices()
    pairs = [(prices.find(p.node_type, p.region, Engine.VALKEY), p) for p in prices if p.engine is Engine.REDIS]
    shared = [(v.usd_per_hour, r.usd_per_hour) for v, r in pairs if v and v.usd_per_hour and r.usd_per_hour]
    assert len(shared) == 73
    assert all(abs(valkey - redis * Decimal("0.8")) <= Decimal("0.0001") for valkey, redis in shared)


def test_reserved_prices_are_there_for_one_type() -> None:
    rows = {p.model: p for p in package_prices() if p.node_type == "cache.c7gn.large" and p.model.years}
    assert len(rows) == 6
    assert rows[PriceModel.RESERVED_1_NONE].effective_usd_per_hour == Decimal("0.1384")
    assert rows[PriceModel.RESERVED_1_ALL].effective_usd_per_hour == Decimal("1143.7056") / 8760
    assert rows[PriceModel.RESERVED_3_ALL].effective_usd_per_hour == Decimal("2412.504") / (3 * 8760)


def test_every_node_type_of_known_memory_has_a_network_baseline_and_only_t_types_burst() -> None:
    for name, specs in node_specs().items():
        assert specs.network_gbps, name
        assert (specs.cpu_baseline_pct is not None) == name.startswith("cache.t"), name
    assert node_specs()["cache.m5.large"].network_gbps == 0.75


def test_price_files_are_read_as_they_were_written() -> None:
    rows = [ROW, replace(ROW, usd_per_hour=None, source='a, "b"'), *package_prices()]
    assert read_prices(write_prices(rows), "f") == rows


@pytest.mark.parametrize(
    ("text", "wrong"),
    [
        ("", "lacks the column node_type"),
        ("a,b\n1,2\n", "lacks the column"),
        (HEAD + "cache.a,r,valkey,on-demand,NaN,,s,\n", "f, line 2: USD per hour must be between 0"),
        (HEAD + "cache.a,r,valkey,on-demand,-1,,s,\n", "USD per hour must be between 0"),
        (HEAD + "cache.a,r,valkey,on-demand,1e400,,s,\n", "USD per hour must be between 0"),
        (HEAD + "cache.a,r,valkey,on-demand,a lot,,s,\n", "not a number"),
        (HEAD + "cache.a,r,oracle,on-demand,1,,s,\n", "oracle"),
        (HEAD + "cache.a,r,valkey,monthly,1,,s,\n", "monthly"),
        (HEAD + "cache.a,r,valkey,on-demand,1,5,s,\n", "only a reserved node"),
        (HEAD + "cache.a,r,valkey,on-demand,1,,s,yesterday\n", "as_of must be a date"),
        (HEAD + "cache.a,r,valkey\n", "line 2"),
        (HEAD + 'cache.a,"r,valkey\n', "line"),
    ],
)
def test_a_malformed_price_file_is_told_by_line(text: str, wrong: str) -> None:
    with pytest.raises(PriceFileError, match=wrong):
        read_prices(text, "f")


def test_the_newer_row_wins_and_an_unknown_price_never_hides_a_known_one() -> None:
    older, unknown = (
        replace(ROW, usd_per_hour=Decimal(1), as_of="2025-01-01"),
        replace(ROW, usd_per_hour=None, as_of="2027-01-01"),
    )
    for rows in ([ROW, older, unknown], [unknown, older, ROW]):
        assert list(PriceList(rows)) == [ROW]
    same_day = replace(ROW, usd_per_hour=Decimal(3))
    assert list(PriceList([ROW]).merged([same_day])) == [same_day]
