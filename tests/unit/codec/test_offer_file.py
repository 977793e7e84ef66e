"""AWS's offer file of ElastiCache in both forms, whole, strange and damaged."""

from __future__ import annotations

import io
import json
from decimal import Decimal
from typing import Any

import pytest

from cachekeep.codec.offer_file import Offer, OfferFileError, read_offer
from cachekeep.domain.engine import Engine
from cachekeep.domain.prices import PriceModel

ATTRIBUTES = {
    "servicecode": "AmazonElastiCache",
    "location": "US East (N. Virginia)",
    "locationType": "AWS Region",
    "instanceType": "cache.c7gn.large",
    "cacheEngine": "Valkey",
    "usagetype": "NodeUsage:cache.c7gn.large",
    "regionCode": "us-east-1",
}


def term(usd: str, upfront: str = "", length: str = "", option: str = "", currency: str = "USD") -> dict[str, Any]:
    dimensions = {"x.hours": {"unit": "Hrs", "pricePerUnit": {currency: usd}}}
    if upfront:
        dimensions["x.fee"] = {"unit": "Quantity", "pricePerUnit": {"USD": upfront}}
    given = {"LeaseContractLength": length, "PurchaseOption": option, "OfferingClass": "standard"} if length else {}
    return {"priceDimensions": dimensions, "termAttributes": given}


def offer(**changes: Any) -> dict[str, Any]:
    return {
        "formatVersion": "v1.0",
        "offerCode": "AmazonElastiCache",
        "version": "20250624130639",
        "publicationDate": "2025-06-24T13:06:39Z",
        "products": {"A": {"productFamily": "Cache Instance", "attributes": ATTRIBUTES}},
        "terms": {
            "OnDemand": {"A": {"A.1": term("0.2040000000")}},
            "Reserved": {
                "A": {"A.2": term("0.0664", "580.788", "1yr", "Partial Upfront"), "A.3": term("9", "", "5yr", "x")}
            },
        },
        **changes,
    }


def read(value: object) -> Offer:
    return read_offer(io.StringIO(value if isinstance(value, str) else json.dumps(value)))


def test_the_json_form_gives_on_demand_and_reserved_prices() -> None:
    found = read(offer())
    assert found.as_of == "2025-06-24"
    rows = {p.model: p for p in found.prices}
    assert set(rows) == {PriceModel.ON_DEMAND, PriceModel.RESERVED_1_PARTIAL}
    price = rows[PriceModel.RESERVED_1_PARTIAL]
    assert (price.node_type, price.region, price.engine) == ("cache.c7gn.large", "us-east-1", Engine.VALKEY)
    assert (price.usd_per_hour, price.usd_upfront) == (Decimal("0.0664"), Decimal("580.788"))
    assert "version 20250624130639, SKU A" in price.source
    assert found.left_out == {"terms of a kind that is not known": 1}


def test_terms_may_stand_before_the_products() -> None:
    assert read(dict(reversed(offer().items()))).prices == read(offer()).prices


def test_a_file_larger_than_the_window_is_read_piece_by_piece() -> None:
    products = {
        f"S{n}": {"productFamily": "Cache Instance", "attributes": {**ATTRIBUTES, "instanceType": f"cache.t{n}.x"}}
        for n in range(3000)
    }
    terms = {"OnDemand": {sku: {f"{sku}.1": term(f"0.{n + 1:04}")} for n, sku in enumerate(products)}}
    text = json.dumps(offer(products=products, terms=terms), indent=1)
    assert len(text) > 1_000_000
    found = read(text)
    assert [p.usd_per_hour for p in found.prices] == [Decimal(f"0.{n + 1:04}") for n in range(3000)]


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"locationType": "AWS Outposts"}, "nodes outside of AWS regions"),
        ({"usagetype": "USE1-ExtendedSupport-NodeUsage:x"}, "usage that is no node hour"),
        ({"cacheEngine": "Any"}, "nodes without a known engine, region or type"),
        ({"regionCode": "", "location": "The Moon"}, "nodes without a known engine, region or type"),
    ],
)
def test_what_is_no_node_hour_in_a_region_is_left_out_with_the_reason(change: dict[str, str], reason: str) -> None:
    found = read(offer(products={"A": {"productFamily": "Cache Instance", "attributes": {**ATTRIBUTES, **change}}}))
    assert found.prices == ()
    assert found.left_out[reason] == 1


@pytest.mark.parametrize(("name", "code"), [("EU (Ireland)", "eu-west-1"), ("Asia Pacific (Mumbai)", "ap-south-1")])
def test_a_region_without_its_code_is_known_by_its_name(name: str, code: str) -> None:
    attributes = {**ATTRIBUTES, "regionCode": "", "location": name}
    found = read(offer(products={"A": {"productFamily": "Cache Instance", "attributes": attributes}}))
    assert {p.region for p in found.prices} == {code}


def test_a_price_stated_twice_differently_is_left_out() -> None:
    twice = {"OnDemand": {"A": {"A.1": term("0.2"), "A.2": term("0.3")}}}
    found = read(offer(terms=twice))
    assert found.prices == ()
    assert found.left_out == {"prices that the file states twice, differently": 1}


def test_a_price_in_another_currency_is_left_out() -> None:
    found = read(offer(terms={"OnDemand": {"A": {"A.1": term("0.2", currency="CNY")}}}))
    assert found.prices == ()
    assert found.left_out == {"terms without a price per hour": 1}


CSV = """"FormatVersion","v1.0"
"Disclaimer","for information, only"
"Publication Date","2025-06-24T13:06:39Z"
"Version","20250624130639"
"OfferCode","AmazonElastiCache"
"SKU","OfferTermCode","TermType","Unit","PricePerUnit","Currency","LeaseContractLength","PurchaseOption",\
"OfferingClass","Product Family","Location","Location Type","Instance Type","Cache Engine","usageType","Region Code"
"A","1","OnDemand","Hrs","0.2040000000","USD","","","",{0}
"A","2","Reserved","Quantity","580.788","USD","1yr","Partial Upfront","standard",{0}
"A","2","Reserved","Hrs","0.0664","USD","1yr","Partial Upfront","standard",{0}
"B","3","OnDemand","GB-Mo","0.085","USD","","","","Storage Snapshot","","AWS Region","","","",""
""".replace(
    "{0}",
    '"Cache Instance","US East (N. Virginia)","AWS Region","cache.c7gn.large","Valkey","NodeUsage:x","us-east-1"',
)


@pytest.mark.parametrize("text", [CSV, CSV.replace("\n", "\r\n")])
def test_the_csv_form_gives_the_same(text: str) -> None:
    found = read(text)
    assert found.prices == read(offer()).prices
    assert found.left_out == {"products that are no cache nodes": 1}


@pytest.mark.parametrize(
    ("value", "wrong"),
    [
        ("", "empty"),
        ("[1, 2]", "neither the JSON nor the CSV form|not the offer file"),
        ("{}", "not the offer file"),
        (offer(offerCode="AmazonEC2"), "AmazonEC2"),
        (json.dumps(offer())[:-40], "damaged or cut off"),
        (json.dumps(offer())[:300], "damaged or cut off"),
        ('{"offerCode" 1}', "':' expected"),
        ('{"a":' + "[" * 100_000, "values within values|damaged"),
        ('{"a":' + "7" * 5000 + "}", "thousands of digits"),
        (offer(products={"A": 3}), "has no attributes"),
        (offer(terms={"OnDemand": {"A": {"A.1": {}}}}), "not as AWS writes them"),
        (offer(terms={"OnDemand": {"A": {"A.1": term("NaN")}}}), "USD per hour must be"),
        (offer(terms={"OnDemand": {"A": {"A.1": term("free")}}}), "'free' is not an amount"),
        (CSV.replace('"0.2040000000"', '"0.2'), "damaged|amount"),
        ("\x00\x01 binary", "neither|damaged|not the offer"),
    ],
)
def test_a_damaged_file_is_refused_in_a_sentence(value: object, wrong: str) -> None:
    with pytest.raises(OfferFileError, match=wrong):
        read(value)
