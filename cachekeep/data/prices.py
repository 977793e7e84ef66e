"""Reads the package's prices and the specifications that sizing needs; reads and writes price files of users.

A price file is CSV with the columns of prices/reserved.csv: node_type, region, engine, model, usd_per_hour,
usd_upfront, source, as_of. An empty usd_per_hour is a price that is not known. On-demand prices of the package stand in
node_types.csv. Called by the CLI and the composition root.

Which reading: the two prices of the seed document name no region, and match no region whose prices are known
(us-east-1 has 0.156 and 0.158). They stay in the list, with region `unstated`.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterable, Mapping
from decimal import Decimal, InvalidOperation
from functools import cache
from importlib.resources import files

from cachekeep.data.load import DataError, node_types
from cachekeep.domain.engine import Engine
from cachekeep.domain.prices import UNSTATED, NodeSpecs, Price, PriceList, PriceModel

COLUMNS = ("node_type", "region", "engine", "model", "usd_per_hour", "usd_upfront", "source", "as_of")
_BASELINE = re.compile(r"([0-9.]+) Gbps(?: baseline / [0-9.]+ Gbps burst)?\Z")


class PriceFileError(ValueError):
    """A price file that cannot be read; the text names the file, the line, and what it must be."""


@cache
def package_prices() -> PriceList:
    """All rows that come with Cachekeep, those without a known price among them."""
    try:
        on_demand = [_on_demand(row) for row in _rows("node_types.csv")]
        return PriceList([*on_demand, *read_prices(_text("prices/reserved.csv"), "reserved.csv")])
    except (KeyError, ValueError, InvalidOperation) as error:
        raise DataError(f"prices: {error!r}") from error


@cache
def node_specs() -> Mapping[str, NodeSpecs]:
    """The node types whose memory is known, with network and CPU baseline, by name in the order of the file."""
    networks: dict[str, str] = {}
    for row in _rows("node_types.csv"):
        if row["region"] != UNSTATED:  # the seed's own rows tell the network as the price page does: without a baseline
            networks.setdefault(row["node_type"], row["network"])
    baselines = {row["node_type"]: row["baseline_pct_per_vcpu"] for row in _rows("node_memory.csv")}
    found = {}
    for name, node_type in node_types().items():
        network = networks.get(name, "")
        match = _BASELINE.match(network)
        found[name] = NodeSpecs(
            node_type,
            network,
            float(match[1]) if match else None,
            float(baselines[name]) if baselines.get(name) else None,
        )
    return found


def read_prices(text: str, name: str) -> list[Price]:
    """Rows of a price file. name: what to call it in errors. Raises PriceFileError."""
    reader = csv.DictReader(io.StringIO(text, newline=""), strict=True)
    found: list[Price] = []
    # Each text and amount is kept once: a list of all regions has tens of thousands of rows.
    seen: dict[str, str] = {}
    amounts: dict[str, Decimal] = {}
    try:
        missing = [column for column in COLUMNS if column not in (reader.fieldnames or ())]
        if missing:
            raise PriceFileError(f"{name} is no price file: it lacks the column {missing[0]} ({', '.join(COLUMNS)})")
        for row in reader:
            try:
                found.append(_price(row, seen, amounts))
            except (ValueError, InvalidOperation, AttributeError, TypeError) as error:
                why = "a column is missing or not a number" if isinstance(error, InvalidOperation) else error
                raise PriceFileError(f"{name}, line {reader.line_num}: {why}") from error
    except csv.Error as error:
        raise PriceFileError(f"{name}, line {reader.line_num}: {error}") from error
    return found


def write_prices(rows: Iterable[Price]) -> str:
    """The text of a price file."""
    out = io.StringIO(newline="")
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(COLUMNS)
    for row in rows:
        hourly = "" if row.usd_per_hour is None else f"{row.usd_per_hour:f}"
        writer.writerow(
            (row.node_type, row.region, row.engine, row.model, hourly, f"{row.usd_upfront:f}", row.source, row.as_of)
        )
    return out.getvalue()


def _price(row: Mapping[str, str], seen: dict[str, str], amounts: dict[str, Decimal]) -> Price:
    def text(name: str) -> str:
        given = row[name].strip()
        return seen.setdefault(given, given)

    def amount(given: str) -> Decimal:
        found = amounts.get(given)
        return amounts.setdefault(given, Decimal(given)) if found is None else found

    return Price(
        node_type=text("node_type"),
        region=text("region") or UNSTATED,
        engine=Engine(row["engine"].strip()),
        model=PriceModel(row["model"].strip()),
        usd_per_hour=amount(row["usd_per_hour"]) if row["usd_per_hour"].strip() else None,
        usd_upfront=amount(row["usd_upfront"].strip() or "0"),
        source=text("source"),
        as_of=text("as_of"),
    )


def _on_demand(row: Mapping[str, str]) -> Price:
    return _price({**row, "model": PriceModel.ON_DEMAND, "usd_upfront": ""}, {}, {})


def _rows(name: str) -> list[dict[str, str]]:
    return list(csv.DictReader(_text(name).splitlines()))


def _text(name: str) -> str:
    return files("cachekeep.data").joinpath(*name.split("/")).read_text("utf-8")
