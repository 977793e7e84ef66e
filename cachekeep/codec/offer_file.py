"""Reads AWS's Price List offer file of ElastiCache, JSON or CSV, a piece at a time. Pure but for reading the stream.

The files have hundreds of megabytes: of the JSON form one product or one SKU's terms is in memory at once, of the CSV
form one line. Kept are cache nodes in AWS regions (no Local Zones, no Outposts), on demand and reserved (`standard`),
in USD. What is left out is counted, with a reason. A price that the file states twice, differently, is left out too.
Source: AWS Billing guide, "Reading a service price list file". Called by the CLI.
"""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import Decimal, InvalidOperation
from functools import cache
from typing import Any, TextIO

from cachekeep.codec.json_window import DamagedJson, JsonWindow
from cachekeep.domain.engine import Engine
from cachekeep.domain.prices import Price, PriceModel

OFFER = "AmazonElastiCache"
_MOST_ROWS = 5_000_000
_MODELS = {
    ("1yr", "No Upfront"): PriceModel.RESERVED_1_NONE,
    ("1yr", "Partial Upfront"): PriceModel.RESERVED_1_PARTIAL,
    ("1yr", "All Upfront"): PriceModel.RESERVED_1_ALL,
    ("3yr", "No Upfront"): PriceModel.RESERVED_3_NONE,
    ("3yr", "Partial Upfront"): PriceModel.RESERVED_3_PARTIAL,
    ("3yr", "All Upfront"): PriceModel.RESERVED_3_ALL,
}


class OfferFileError(ValueError):
    """Not an offer file of ElastiCache, or a damaged one; the text says what is wrong."""


@dataclass(frozen=True)
class Offer:
    """prices: what could be used. left_out: reason -> number of products or terms. as_of: YYYY-MM-DD."""

    prices: tuple[Price, ...]
    left_out: Mapping[str, int]
    version: str
    as_of: str


@dataclass
class _Head:
    code: str = ""
    version: str = ""
    published: str = ""


@dataclass
class _Rate:
    hourly: Decimal | None = None
    upfront: Decimal = Decimal(0)


@dataclass
class _Gathered:
    head: _Head = field(default_factory=_Head)
    # SKU -> node type, region, engine
    products: dict[str, tuple[str, str, Engine]] = field(default_factory=dict)
    # SKU and term -> model and rate; a SKU may have two terms of one model
    rates: dict[tuple[str, str], tuple[PriceModel, _Rate]] = field(default_factory=dict)
    left_out: Counter[str] = field(default_factory=Counter)
    seen: int = 0

    def count(self) -> None:
        self.seen += 1
        if self.seen > _MOST_ROWS:
            raise OfferFileError(f"more than {_MOST_ROWS:,} products and terms: this cannot be ElastiCache's file")

    def rate(self, sku: str, code: str, model: PriceModel | None) -> _Rate | None:
        """What the term's prices are to be added to; None, and counted, for a model that is not known."""
        if model is None:
            self.left_out["terms of a kind that is not known"] += 1
            return None
        return self.rates.setdefault((sku, code), (model, _Rate()))[1]


def read_offer(stream: TextIO) -> Offer:
    """Read a file opened as text with newline="". Raises OfferFileError, and OSError or UnicodeDecodeError."""
    reader = JsonWindow(stream)
    first = reader.peek()
    gathered = _Gathered()
    if first == "{":
        try:
            _gather_json(reader, gathered)
        except DamagedJson as error:
            raise OfferFileError(str(error)) from error
    elif first:
        _gather_csv(reader, gathered)
    else:
        raise OfferFileError("the file is empty")
    return _joined(gathered)


def _joined(gathered: _Gathered) -> Offer:
    head = gathered.head
    if head.code != OFFER:
        raise OfferFileError(
            f"the file is not the offer file of {OFFER} (its offer code is {head.code[:40] or 'none'!r})"
        )
    as_of, left_out = head.published[:10], gathered.left_out
    found: dict[Any, Price] = {}
    differing = set()
    for (sku, _), (model, rate) in gathered.rates.items():
        product = gathered.products.get(sku)
        if product is None or rate.hourly is None:
            left_out["terms of no product that counts" if product is None else "terms without a price per hour"] += 1
            continue
        try:
            source = f"AWS Price List offer file {OFFER} version {head.version or 'unknown'}, SKU {sku}"
            price = Price(*product, model, rate.hourly, rate.upfront, source, as_of)
        except ValueError as error:
            raise OfferFileError(f"SKU {sku[:40]}: {error}") from error
        had = found.setdefault(price.key, price)
        if (had.usd_per_hour, had.usd_upfront) != (price.usd_per_hour, price.usd_upfront):
            differing.add(price.key)
    for key in differing:
        del found[key]
        left_out["prices that the file states twice, differently"] += 1
    return Offer(tuple(found.values()), dict(left_out), head.version, as_of)


def _product(attributes: Mapping[str, Any], family: str) -> tuple[str, str, Engine] | str:
    """What the attributes name, or why they do not count. Keys: lower case, letters only."""
    if family != "Cache Instance":
        return "products that are no cache nodes"
    if attributes.get("locationtype", "AWS Region") != "AWS Region":
        return "nodes outside of AWS regions"
    usage = attributes.get("usagetype", "NodeUsage:")
    if "NodeUsage:" not in usage or "ExtendedSupport" in usage:
        return "usage that is no node hour"
    engine = {"valkey": Engine.VALKEY, "redis": Engine.REDIS, "memcached": Engine.MEMCACHED}.get(
        attributes.get("cacheengine", "").lower()
    )
    region = attributes.get("regioncode") or _regions().get(attributes.get("location", ""))
    if engine is None or not region or not attributes.get("instancetype", "").startswith("cache."):
        return "nodes without a known engine, region or type"
    return attributes["instancetype"], region, engine


def _model(term: str, length: str, option: str, offering: str) -> PriceModel | None:
    if term == "OnDemand":
        return PriceModel.ON_DEMAND
    return _MODELS.get((length, option)) if offering in ("", "standard") else None


def _add_rate(rate: _Rate, unit: str, amount: str, sku: str) -> None:
    try:
        usd = Decimal(amount)
    except InvalidOperation as error:
        raise OfferFileError(f"SKU {sku[:40]}: {amount[:40]!r} is not an amount") from error
    if unit.lower() in ("hrs", "hours", "hour"):
        rate.hourly = usd
    elif unit.lower() == "quantity":
        rate.upfront = usd


@cache
def _regions() -> Mapping[str, str]:
    """Region codes by the names that price files use, from botocore; old files say EU where it says Europe."""
    from botocore.loaders import Loader

    found = {}
    for partition in Loader().load_data("endpoints")["partitions"]:
        for code, region in partition["regions"].items():
            found[region["description"]] = code
            found[region["description"].replace("Europe (", "EU (")] = code
    return found


# --- JSON ---


def _gather_json(window: JsonWindow, gathered: _Gathered) -> None:
    head = gathered.head
    for name in window.members():
        match name:
            case "products":
                for sku in window.members():
                    gathered.count()
                    _json_product(sku, window.value(), gathered)
            case "terms":
                for term in window.members():
                    for sku in window.members():
                        gathered.count()
                        _json_terms(term, sku, window.value(), gathered)
            case "offerCode":
                head.code = str(window.value())
            case "version":
                head.version = str(window.value())[:40]
            case "publicationDate":
                head.published = str(window.value())
            case _:
                window.value()


def _json_product(sku: str, product: Any, gathered: _Gathered) -> None:  # noqa: ANN401
    try:
        attributes = {str(key).lower(): str(value) for key, value in product["attributes"].items()}
        found = _product(attributes, str(product.get("productFamily", "")))
    except (KeyError, TypeError, AttributeError) as error:
        raise OfferFileError(f"product {sku[:40]!r} has no attributes") from error
    if isinstance(found, str):
        gathered.left_out[found] += 1
    else:
        gathered.products[sku] = found


def _json_terms(term: str, sku: str, terms: Any, gathered: _Gathered) -> None:  # noqa: ANN401
    try:
        for code, offer in terms.items():
            given = offer.get("termAttributes") or {}
            model = _model(
                term,
                given.get("LeaseContractLength", ""),
                given.get("PurchaseOption", ""),
                given.get("OfferingClass", ""),
            )
            rate = gathered.rate(sku, code, model)
            if rate is None:
                continue
            for dimension in offer["priceDimensions"].values():
                if "USD" in dimension["pricePerUnit"]:
                    _add_rate(rate, str(dimension["unit"]), str(dimension["pricePerUnit"]["USD"]), sku)
    except (KeyError, TypeError, AttributeError) as error:
        raise OfferFileError(f"the terms of SKU {sku[:40]!r} are not as AWS writes them") from error


# --- CSV ---


def _gather_csv(window: JsonWindow, gathered: _Gathered) -> None:
    """Some lines of `name,value`, the line of column names, then a line for each price dimension."""
    columns: list[str] = []
    try:
        for cells in csv.reader(window.lines(), strict=True):
            if columns and cells:
                if len(cells) != len(columns):
                    raise OfferFileError(
                        f"the file is damaged or cut off: a line has {len(cells)} of {len(columns)} columns"
                    )
                gathered.count()
                _csv_row(dict(zip(columns, cells, strict=False)), gathered)
            elif cells and cells[0] == "SKU":
                columns = [_plain(name) for name in cells]
            elif len(cells) == 2:
                _csv_head(cells[0], cells[1], gathered.head)
            elif cells:
                raise OfferFileError("the file is neither the JSON nor the CSV form of an offer file")
    except csv.Error as error:
        raise OfferFileError(f"the file is damaged: {error}") from error


def _plain(name: str) -> str:
    """`Cache Engine`, `usageType` and `vCPU` as the JSON form has them, in lower case."""
    return "".join(filter(str.isalnum, name)).lower()


def _csv_head(name: str, value: str, head: _Head) -> None:
    match _plain(name):
        case "offercode":
            head.code = value
        case "version":
            head.version = value[:40]
        case "publicationdate":
            head.published = value


def _csv_row(row: Mapping[str, str], gathered: _Gathered) -> None:
    sku = row.get("sku", "")
    if sku not in gathered.products:
        found = _product({key: value for key, value in row.items() if value}, row.get("productfamily", ""))
        if isinstance(found, str):
            gathered.left_out[found] += 1
            return
        gathered.products[sku] = found
    model = _model(
        row.get("termtype", ""),
        row.get("leasecontractlength", ""),
        row.get("purchaseoption", ""),
        row.get("offeringclass", ""),
    )
    rate = gathered.rate(sku, row.get("offertermcode", ""), model)
    if rate is not None and row.get("currency") == "USD":
        _add_rate(rate, row.get("unit", ""), row.get("priceperunit", ""), sku)
