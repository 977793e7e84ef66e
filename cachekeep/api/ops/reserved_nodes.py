"""Reserved cache nodes: the offerings that known prices make, what was bought of them, and the buying (recorded).

An offering exists where a source states the price: those of the package, and those of an offer file of AWS that
`cachekeep cost import` has read. Nothing is made up for the others.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Protocol

from cachekeep.api import choose, present
from cachekeep.api.context import Call
from cachekeep.api.entry import Entry, Truth
from cachekeep.api.paging import page
from cachekeep.domain.engine import Engine
from cachekeep.domain.faults import Fault, invalid_value
from cachekeep.domain.ids import resource_id
from cachekeep.domain.reserved_node import (
    OFFERING_TYPES,
    YEAR_S,
    Offering,
    ReservedNode,
    ReservedState,
)

LONGEST_ID = 60
_DURATIONS = {"1": YEAR_S, "3": 3 * YEAR_S, str(YEAR_S): YEAR_S, str(3 * YEAR_S): 3 * YEAR_S}


def describe_offerings(call: Call) -> present.Shape:
    wanted = call.text("ReservedCacheNodesOfferingId")
    found = [o for o in _offerings(call) if wanted in (None, o.id)]
    if wanted is not None and not found:
        raise _no_offering(wanted)
    fits = _filter(call)
    fitting = [o for o in found if fits(o.price.node_type, o.price.engine, o.duration_s, o.type)]
    shown, marker = page(call, fitting, lambda o: o.id)
    return {"Marker": marker, "ReservedCacheNodesOfferings": [_offering_shape(o) for o in shown]}


def describe_reserved_nodes(call: Call) -> present.Shape:
    wanted, offering = call.text("ReservedCacheNodeId"), call.text("ReservedCacheNodesOfferingId")
    if wanted is not None:
        one = call.services.store.get(ReservedNode, call.region, wanted.lower())
        if one is None:
            raise Fault("ReservedCacheNodeNotFound", f"Reserved cache node {wanted[:60]} was not found.")
        found = [one]
    else:
        found = call.services.store.all(ReservedNode, call.region)
    fits = _filter(call)
    fitting = [
        n for n in found if offering in (None, n.offering_id) and fits(n.node_type, n.engine, n.duration_s, n.type)
    ]
    shown, marker = page(call, fitting, lambda n: n.id)
    return {"Marker": marker, "ReservedCacheNodes": [_reserved_shape(call, n) for n in shown]}


def purchase(call: Call) -> present.Shape:
    asked = call.params["ReservedCacheNodesOfferingId"]
    offering = next((o for o in _offerings(call) if o.id == asked), None)
    if offering is None:
        raise _no_offering(asked)
    now = call.services.clock.now()
    name = call.text("ReservedCacheNodeId")
    name = _free_name(call, now) if name is None else resource_id("ReservedCacheNodeId", name, LONGEST_ID)
    if call.services.store.get(ReservedNode, call.region, name) is not None:
        raise Fault("ReservedCacheNodeAlreadyExists", f"Reserved cache node {name} already exists.")
    count = call.number("CacheNodeCount")
    count = 1 if count is None else count
    if count < 1:
        raise invalid_value(f"CacheNodeCount must be at least 1, not {count}.")
    _check_quota(call, count, now)
    price = offering.price
    if price.usd_per_hour is None:
        raise _no_offering(asked)
    node = ReservedNode(
        region=call.region,
        id=name,
        offering_id=offering.id,
        node_type=price.node_type,
        engine=price.engine,
        model=price.model,
        usd_per_hour=price.usd_per_hour,
        usd_upfront=price.usd_upfront,
        count=count,
        started_at=now,
        tags=choose.choose_tags(call),
    )
    with call.services.store.transaction() as work:
        work.insert(node)
    return {"ReservedCacheNode": _reserved_shape(call, node)}


def _check_quota(call: Call, count: int, now: float) -> None:
    have = sum(
        n.count for n in call.services.store.all(ReservedNode, call.region) if n.state(now) is not ReservedState.RETIRED
    )
    most = call.services.quotas.reserved_nodes_per_region
    if have + count > most:
        raise Fault(
            "ReservedCacheNodeQuotaExceeded",
            f"A region can have at most {most} reserved cache nodes; it has {have}, and {count} more were asked for.",
        )


def _free_name(call: Call, now: float) -> str:
    """As AWS names them: `ri-2026-11-23-08-33-25-582`."""
    while True:
        at = datetime.fromtimestamp(now, UTC)
        name = f"ri-{at:%Y-%m-%d-%H-%M-%S}-{at.microsecond // 1000:03d}"
        if call.services.store.get(ReservedNode, call.region, name) is None:
            return name
        now += 0.001


def _offerings(call: Call) -> list[Offering]:
    """Those of the region, by id."""
    rows = call.services.prices()
    known = [p for p in rows if p.region == call.region and p.model.years and p.usd_per_hour is not None]
    return sorted((Offering(p) for p in known), key=lambda o: o.id)


def _no_offering(name: str) -> Fault:
    return Fault("ReservedCacheNodesOfferingNotFound", f"Reserved cache nodes offering {name[:60]} was not found.")


class _Fits(Protocol):
    def __call__(self, node_type: str, engine: Engine, duration_s: int, offering_type: str) -> bool: ...


def _filter(call: Call) -> _Fits:
    """The filters that both describes have. Raises InvalidParameterValue for a value that no row can have."""
    wanted_type, product = call.text("CacheNodeType"), call.text("ProductDescription")
    duration, offering = call.text("Duration"), call.text("OfferingType")
    if duration is not None and duration not in _DURATIONS:
        raise invalid_value(f"Invalid Duration {duration[:40]!r}: it must be 1, 3, {YEAR_S} or {3 * YEAR_S}.")
    if offering is not None and offering not in OFFERING_TYPES:
        raise invalid_value(f"Invalid OfferingType {offering[:40]!r}: it must be one of {', '.join(OFFERING_TYPES)}.")

    def fits(node_type: str, engine: Engine, duration_s: int, offering_type: str) -> bool:
        return (
            wanted_type in (None, node_type)
            and product in (None, engine.value)
            and (duration is None or _DURATIONS[duration] == duration_s)
            and offering in (None, offering_type)
        )

    return fits


def _terms(hourly: float, upfront: float, duration_s: int, kind: str) -> present.Shape:
    """UsagePrice is of the old offering types: today's hourly price is a recurring charge, used or not."""
    return {
        "Duration": duration_s,
        "FixedPrice": upfront,
        "UsagePrice": 0.0,
        "OfferingType": kind,
        "RecurringCharges": [{"RecurringChargeAmount": hourly, "RecurringChargeFrequency": "Hourly"}],
    }


def _offering_shape(offering: Offering) -> present.Shape:
    price = offering.price
    return {
        "ReservedCacheNodesOfferingId": offering.id,
        "CacheNodeType": price.node_type,
        "ProductDescription": price.engine.value,
        **_terms(float(price.usd_per_hour or 0), float(price.usd_upfront), offering.duration_s, offering.type),
    }


def _reserved_shape(call: Call, node: ReservedNode) -> present.Shape:
    return {
        "ReservedCacheNodeId": node.id,
        "ReservedCacheNodesOfferingId": node.offering_id,
        "CacheNodeType": node.node_type,
        "StartTime": present.moment(node.started_at),
        "CacheNodeCount": node.count,
        "ProductDescription": node.engine.value,
        "State": node.state(call.services.clock.now()).value,
        "ReservationARN": call.arn("reserved-instance", node.id),
        **_terms(float(node.usd_per_hour), float(node.usd_upfront), node.duration_s, node.type),
    }


_PROOF = "tests/scenarios/test_reserved_nodes.py::"
OPERATIONS: Mapping[str, Entry] = {
    "DescribeReservedCacheNodes": Entry(
        describe_reserved_nodes, Truth.RECORDED, _PROOF + "test_a_purchase_is_pending_then_active"
    ),
    "DescribeReservedCacheNodesOfferings": Entry(
        describe_offerings,
        Truth.RECORDED,
        _PROOF + "test_offerings_are_the_prices_that_a_source_states",
        "Only reserved prices that a source states; `cachekeep cost import` adds those of AWS's offer file.",
    ),
    "PurchaseReservedCacheNodesOffering": Entry(
        purchase,
        Truth.RECORDED,
        _PROOF + "test_a_purchase_is_pending_then_active",
        "Kept, shown, and counted by `cachekeep cost --groups`; nothing is bought from anybody.",
    ),
}
