"""What fits a machine, and which zone a node is shown in."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cachekeep.data.load import node_types
from cachekeep.domain.cache_cluster import Pending
from cachekeep.domain.engine import Engine
from cachekeep.domain.faults import Fault
from cachekeep.plan.placement import Machine, check_capacity, growth_bytes, node_bytes, promised_bytes, spread, zones_of
from tests.properties.stored import cluster_of, memcached_of

GIB = 1 << 30
STEADY = settings(derandomize=True, deadline=None)


def test_a_node_is_promised_what_its_engine_may_hold() -> None:
    large = node_types()["cache.m7g.large"]
    assert node_bytes(Engine.VALKEY, large) == node_bytes(Engine.REDIS, large) == large.maxmemory_bytes
    assert node_bytes(Engine.MEMCACHED, large) == large.memcached_bytes


def test_every_node_of_every_cluster_is_counted() -> None:
    micro = node_types()["cache.t4g.micro"]
    clusters = [cluster_of("a", 1), cluster_of("b", 2), memcached_of("m", (3, 4, 5))]
    assert promised_bytes([], node_types()) == 0
    assert promised_bytes(clusters, node_types()) == 2 * micro.maxmemory_bytes + 3 * micro.memcached_bytes


def test_what_waits_for_the_window_is_promised_already() -> None:
    types = node_types()
    micro, small = types["cache.t4g.micro"], types["cache.t4g.small"]
    cluster = cluster_of("a", 1)
    growing = replace(cluster, pending=Pending(node_type="cache.t4g.small"))
    assert promised_bytes([growing], types) == small.maxmemory_bytes
    shrinking = replace(cluster, node_type="cache.t4g.small", pending=Pending(node_type="cache.t4g.micro"))
    assert promised_bytes([shrinking], types) == small.maxmemory_bytes
    memcached = memcached_of("m", (3, 4))
    more = replace(memcached, pending=Pending(nodes_to_add=memcached.nodes))
    assert promised_bytes([more], types) == 4 * micro.memcached_bytes
    each = small.maxmemory_bytes - micro.maxmemory_bytes
    assert growth_bytes(Engine.VALKEY, "cache.t4g.micro", None, "cache.t4g.small", types) == each
    assert growth_bytes(Engine.VALKEY, "cache.t4g.micro", "cache.t4g.small", "cache.t4g.small", types) == 0
    assert growth_bytes(Engine.VALKEY, "cache.t4g.small", None, "cache.t4g.micro", types) == 0


@STEADY
@given(st.integers(0, 1 << 42), st.floats(0.1, 20), st.integers(0, 1 << 42), st.integers(0, 1 << 42))
def test_what_is_promised_never_passes_the_limit(memory: int, overcommit: float, promised: int, more: int) -> None:
    machine = Machine(memory, overcommit)
    if promised + more <= machine.promised_at_most:
        check_capacity(machine, promised, "cache.m7g.large", more)
        return
    with pytest.raises(Fault) as caught:
        check_capacity(machine, promised, "cache.m7g.large", more)
    assert caught.value.code == "InsufficientCacheClusterCapacity"


def test_the_refusal_says_what_is_asked_what_is_there_and_what_helps() -> None:
    with pytest.raises(Fault) as caught:
        check_capacity(Machine(4 * GIB, 1.5), 5 * GIB, "cache.m7g.large", 2 * GIB)
    for part in ("cache.m7g.large", "2.00 GiB", "5.00 GiB", "4.00 GiB", "6.00 GiB", "factor 1.5", "smaller node type"):
        assert part in caught.value.message
    check_capacity(Machine(4 * GIB, 1.5), 5 * GIB, "cache.t4g.micro", GIB)


def test_zones_of_a_region() -> None:
    assert zones_of("eu-west-1") == ("eu-west-1a", "eu-west-1b", "eu-west-1c")


@pytest.mark.parametrize(
    ("count", "asked", "several", "letters"),
    [
        (0, (), True, ""),
        (3, (), False, "aaa"),
        (5, (), True, "abcab"),
        (3, ("c", "c"), True, "ccc"),
        (2, ("b",), False, "ba"),
        (1, ("b", "c"), True, "b"),
    ],
)
def test_nodes_are_spread_over_zones(count: int, asked: tuple[str, ...], several: bool, letters: str) -> None:
    zones = spread("us-east-1", count, tuple(f"us-east-1{letter}" for letter in asked), several=several)
    assert zones == [f"us-east-1{letter}" for letter in letters]


@STEADY
@given(st.integers(0, 50), st.booleans())
def test_no_zone_has_two_nodes_more_than_another(count: int, several: bool) -> None:
    zones = spread("us-east-1", count, (), several=several)
    assert len(zones) == count
    each = [zones.count(zone) for zone in zones_of("us-east-1")]
    assert not several or max(each) - min(each) <= 1
