"""Reads serverless_prices.csv: what AWS asks for serverless caches. Called by report.cost_serverless."""

from __future__ import annotations

import csv
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from functools import cache
from importlib.resources import files

from cachekeep.data.load import DataError
from cachekeep.domain.engine import Engine


@dataclass(frozen=True)
class ServerlessPrice:
    """least_gb: what is billed at least. as_of: a date in text."""

    engine: Engine
    usd_per_gb_hour: Decimal
    usd_per_million_ecpu: Decimal
    least_gb: Decimal
    source: str
    as_of: str


@cache
def serverless_prices() -> Mapping[Engine, ServerlessPrice]:
    """By engine, of us-east-1. Raises DataError."""
    text = (files("cachekeep.data") / "serverless_prices.csv").read_text()
    try:
        found = [_price(row) for row in csv.DictReader(text.splitlines())]
    except (KeyError, ValueError, InvalidOperation) as error:
        raise DataError(f"serverless_prices.csv: {error!r}") from error
    return {price.engine: price for price in found}


def _price(row: Mapping[str, str]) -> ServerlessPrice:
    return ServerlessPrice(
        Engine(row["engine"]),
        Decimal(row["usd_per_gb_hour"]),
        Decimal(row["usd_per_million_ecpu"]),
        Decimal(row["least_gb"]),
        row["source"],
        row["as_of"],
    )
