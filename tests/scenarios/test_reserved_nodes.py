"""Reserved cache nodes: offerings from the prices that are known, purchases, and what they come to."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest

from .conftest import Service, wait_for

Created = list[tuple[str, str]]
YEAR_S = 31_536_000


def offering(ec: Any, **filters: str) -> dict[str, Any]:
    (found,) = ec.describe_reserved_cache_nodes_offerings(**filters)["ReservedCacheNodesOfferings"]
    return dict(found)


def test_offerings_are_the_prices_that_a_source_states(service: Service, ec: Any) -> None:
    found = ec.describe_reserved_cache_nodes_offerings()["ReservedCacheNodesOfferings"]
    assert {(o["CacheNodeType"], o["ProductDescription"]) for o in found} == {("cache.c7gn.large", "valkey")}
    assert len({o["ReservedCacheNodesOfferingId"] for o in found}) == len(found) == 6
    partial = offering(ec, Duration="3", OfferingType="Partial Upfront")
    assert (partial["Duration"], partial["FixedPrice"], partial["UsagePrice"]) == (3 * YEAR_S, 1286.6688, 0.0)
    assert partial["RecurringCharges"] == [{"RecurringChargeAmount": 0.0488, "RecurringChargeFrequency": "Hourly"}]
    assert offering(ec, ReservedCacheNodesOfferingId=partial["ReservedCacheNodesOfferingId"]) == partial
    assert len(ec.describe_reserved_cache_nodes_offerings(Duration=str(YEAR_S))["ReservedCacheNodesOfferings"]) == 3
    for nothing in (
        {"OfferingType": "Heavy Utilization"},
        {"CacheNodeType": "cache.m5.large"},
        {"ProductDescription": "memcached"},
    ):
        assert ec.describe_reserved_cache_nodes_offerings(**nothing)["ReservedCacheNodesOfferings"] == [], nothing
    elsewhere = service.client(region="eu-west-1")
    assert elsewhere.describe_reserved_cache_nodes_offerings()["ReservedCacheNodesOfferings"] == []
    with pytest.raises(ec.exceptions.ReservedCacheNodesOfferingNotFoundFault):
        elsewhere.purchase_reserved_cache_nodes_offering(
            ReservedCacheNodesOfferingId=partial["ReservedCacheNodesOfferingId"]
        )


def test_a_purchase_is_pending_then_active(ec: Any, name: str) -> None:
    chosen = offering(ec, Duration="1", OfferingType="All Upfront")["ReservedCacheNodesOfferingId"]
    bought = ec.purchase_reserved_cache_nodes_offering(
        ReservedCacheNodesOfferingId=chosen,
        ReservedCacheNodeId=name.upper(),
        CacheNodeCount=3,
        Tags=[{"Key": "team", "Value": "a"}],
    )["ReservedCacheNode"]
    assert (bought["ReservedCacheNodeId"], bought["State"], bought["CacheNodeCount"]) == (name, "payment-pending", 3)
    assert bought["FixedPrice"] == 1143.7056

    def shown() -> dict[str, Any]:
        return dict(ec.describe_reserved_cache_nodes(ReservedCacheNodeId=name)["ReservedCacheNodes"][0])

    wait_for(lambda: shown()["State"] == "active")
    assert shown() | {"State": "payment-pending"} == bought
    assert ec.list_tags_for_resource(ResourceName=bought["ReservationARN"])["TagList"] == [
        {"Key": "team", "Value": "a"}
    ]
    by_filter = ec.describe_reserved_cache_nodes(
        ReservedCacheNodesOfferingId=chosen, Duration="1", CacheNodeType="cache.c7gn.large", OfferingType="All Upfront"
    )["ReservedCacheNodes"]
    assert name in [n["ReservedCacheNodeId"] for n in by_filter]
    assert ec.describe_reserved_cache_nodes(Duration="3", ReservedCacheNodeId=name)["ReservedCacheNodes"] == []


def test_what_cannot_be_bought_is_refused(ec: Any, name: str) -> None:
    chosen = offering(ec, Duration="1", OfferingType="No Upfront")["ReservedCacheNodesOfferingId"]
    given = {"ReservedCacheNodesOfferingId": chosen, "ReservedCacheNodeId": name}
    ec.purchase_reserved_cache_nodes_offering(**given)
    refused = ec.exceptions
    with pytest.raises(refused.ReservedCacheNodeAlreadyExistsFault) as again:
        ec.purchase_reserved_cache_nodes_offering(**given)
    assert again.value.response["ResponseMetadata"]["HTTPStatusCode"] == 404
    with pytest.raises(refused.ReservedCacheNodeQuotaExceededFault):
        ec.purchase_reserved_cache_nodes_offering(ReservedCacheNodesOfferingId=chosen, CacheNodeCount=301)
    for wrong in ({"CacheNodeCount": 0}, {"ReservedCacheNodeId": "no_good-"}):
        with pytest.raises(refused.InvalidParameterValueException):
            ec.purchase_reserved_cache_nodes_offering(**{"ReservedCacheNodesOfferingId": chosen, **wrong})
    for operation in (ec.describe_reserved_cache_nodes, ec.describe_reserved_cache_nodes_offerings):
        for filters in ({"Duration": "2"}, {"OfferingType": "Some Upfront"}, {"MaxRecords": 101}):
            with pytest.raises(refused.InvalidParameterValueException):
                operation(**filters)
    with pytest.raises(refused.ReservedCacheNodeNotFoundFault):
        ec.describe_reserved_cache_nodes(ReservedCacheNodeId="nobody")
    with pytest.raises(refused.ReservedCacheNodesOfferingNotFoundFault):
        ec.describe_reserved_cache_nodes_offerings(ReservedCacheNodesOfferingId="nobody")


def test_without_an_id_each_gets_one(ec: Any) -> None:
    chosen = offering(ec, Duration="1", OfferingType="No Upfront")["ReservedCacheNodesOfferingId"]
    ids = {
        ec.purchase_reserved_cache_nodes_offering(ReservedCacheNodesOfferingId=chosen)["ReservedCacheNode"][
            "ReservedCacheNodeId"
        ]
        for _ in range(3)
    }
    assert len(ids) == 3
    assert all(one.startswith("ri-20") for one in ids)


@pytest.mark.slow
def test_cost_shows_what_a_reservation_saves_and_imported_prices_are_offered(
    new_service: Callable[..., Service],
) -> None:
    service = new_service().start()
    ec = service.client()
    ec.create_cache_cluster(CacheClusterId="one", Engine="valkey", CacheNodeType="cache.c7gn.large")
    chosen = offering(ec, Duration="1", OfferingType="No Upfront")["ReservedCacheNodesOfferingId"]
    ec.purchase_reserved_cache_nodes_offering(
        ReservedCacheNodesOfferingId=chosen, ReservedCacheNodeId="kept", CacheNodeCount=2
    )
    file = service.state_dir.parent / "prices.csv"
    file.write_text(
        "node_type,region,engine,model,usd_per_hour,usd_upfront,source,as_of\n"
        "cache.m5.large,eu-west-1,memcached,reserved-3yr-all-upfront,0,2000,a bill,2026-01-01\n"
        "cache.m5.xlarge,eu-west-1,memcached,reserved-3yr-all-upfront,,4000,a bill,2026-01-01\n"
    )

    def cost(*words: str) -> str:
        command = [sys.executable, "-m", "cachekeep", "cost", *words]
        return subprocess.run(command, env=service.environment, capture_output=True, text=True, check=True).stdout

    page = json.loads(cost("--groups", "--json"))
    (told,) = page["reservations"]
    assert (told["id"], told["count"], told["used"], told["usd"]) == ("kept", 2, 1, 202.064)  # 2 x 0.1384 x 730
    assert told["saved_usd"] == page["reserved_saves"] == pytest.approx(page["resources"][0]["usd"] - 202.064)
    cost("import", str(file))
    shown = cost("--groups")
    assert "Reserved nodes cost" in shown
    assert "1 of 2" in shown
    elsewhere = service.client(region="eu-west-1")
    (found,) = wait_for(lambda: elsewhere.describe_reserved_cache_nodes_offerings()["ReservedCacheNodesOfferings"])
    assert (found["CacheNodeType"], found["ProductDescription"], found["FixedPrice"]) == (
        "cache.m5.large",
        "memcached",
        2000.0,
    )
