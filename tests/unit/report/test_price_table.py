"""The table of prices on the dashboard: the seed's examples, every known row, and questions that make no sense."""

from __future__ import annotations

import asyncio
import threading
from pathlib import Path
from typing import Any

import pytest

from cachekeep.domain.faults import Fault
from cachekeep.report.cost_prices import IMPORTED, KnownPrices
from cachekeep.report.price_table import MOST_ROWS, PriceQuestion, price_table


def table(folder: Path, *asked: str) -> dict[str, Any]:
    return asyncio.run(price_table(KnownPrices(folder / IMPORTED), PriceQuestion(*asked)))


def test_the_examples_of_the_calculator_come_out(tmp_path: Path) -> None:
    rows = table(tmp_path, "cache.m5.large")["rows"]
    assert {row["node_type"] for row in rows} == {"cache.m5.large"}
    assert 118.99 in {round(row["usd"], 2) for row in rows if row["known"]}
    assert all(row["source"] for row in rows)


def test_count_utilisation_and_hours_are_multiplied(tmp_path: Path) -> None:
    one = table(tmp_path, "cache.m5.large", "1", "100", "100")["rows"]
    many = table(tmp_path, " Cache.M5.Large ", "4", "50", "1000")["rows"]
    on_demand = [at for at, row in enumerate(one) if row["known"] and row["model"] == "on-demand"]
    assert on_demand
    assert [many[at]["usd"] for at in on_demand] == pytest.approx([20 * one[at]["usd"] for at in on_demand])


def test_a_region_leaves_the_others_out(tmp_path: Path) -> None:
    rows = table(tmp_path, "", "", "", "", "us-east-1")["rows"]
    assert {row["region"] for row in rows} == {"us-east-1"}
    assert len({row["node_type"] for row in rows}) > 20


def test_a_long_list_is_cut_and_says_so(tmp_path: Path) -> None:
    lines = [
        "node_type,region,engine,model,usd_per_hour,usd_upfront,source,as_of",
        *(f"cache.x{n}.large,eu-west-9,valkey,on-demand,0.1,0,a file,2026-10-02" for n in range(MOST_ROWS)),
    ]
    (tmp_path / IMPORTED).write_text("\n".join(lines) + "\n")
    made = table(tmp_path)
    assert len(made["rows"]) == MOST_ROWS
    assert any(f"{MOST_ROWS} of " in note for note in made["notes"])


@pytest.mark.parametrize(
    ("asked", "sentence"),
    [
        (("cache.m5.larg",), "did you mean cache.m5.large"),
        (("", "", "", "", "mars-1"), "no price of any node type in mars-1 is known; there are prices of"),
        (("", "1.5"), "the count must be a whole number of nodes, not '1.5'."),
        (("", "0"), "the count must be between 1"),
        (("", "1", "much"), "the utilisation must be a number, not 'much'."),
        (("", "1", "101"), "the utilisation must be above 0 and at most 100"),
        (("", "1", "100", "nan"), "the hours must be above 0"),
        (("", "1", "100", "1e999999"), "the hours must be above 0"),
    ],
)
def test_what_makes_no_sense_is_refused_in_a_sentence(tmp_path: Path, asked: tuple[str, ...], sentence: str) -> None:
    with pytest.raises(Fault) as caught:
        table(tmp_path, *asked)
    assert caught.value.code == "InvalidParameterValue"
    assert sentence in str(caught.value)


def test_however_many_wait_for_a_long_file_one_thread_reads_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cachekeep.report.cost_prices._PATIENCE_S", 0.02)
    path, goes_on, reading = tmp_path / IMPORTED, threading.Event(), []
    path.write_text(_HEADER)
    prices = KnownPrices(path)

    def slow(_: Path) -> list[Any]:
        reading.append(threading.current_thread())
        goes_on.wait(30)
        return []

    monkeypatch.setattr("cachekeep.report.cost_prices.imported_rows", slow)

    async def asked() -> int:
        before = threading.active_count()
        for _ in range(3):
            await asyncio.gather(*(prices.wait() for _ in range(5)))
        threads = threading.active_count() - before
        assert prices.trouble == "imported prices are still being read: ask again in a moment"
        goes_on.set()
        return threads

    assert asyncio.run(asked()) == 1
    asyncio.run(prices.wait())
    assert (prices.trouble, len(reading)) == (None, 1)


_HEADER = "node_type,region,engine,model,usd_per_hour,usd_upfront,source,as_of\n"
