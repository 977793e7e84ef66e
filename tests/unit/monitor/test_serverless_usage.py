"""What is measured of a serverless cache as a whole, from the minutes of its nodes."""

from __future__ import annotations

import pytest

from cachekeep.data.metrics import metrics
from cachekeep.domain.metrics import Point
from cachekeep.monitor.serverless import OWN_KB, with_node

PRIMARY = {"IsMaster": 1.0, "BytesUsedForCache": 500.0, "CurrItems": 7.0, "CurrConnections": 5.0}
REPLICA = {"IsMaster": 0.0, "BytesUsedForCache": 490.0, "CurrItems": 7.0, "CurrConnections": 3.0}
READS = {"GetTypeCmds": 1000.0, "GetTypeCmdsLatency": 2.0, "CacheHits": 600.0, "CacheMisses": 200.0}
WRITES = {"SetTypeCmds": 3000.0, "SetTypeCmdsLatency": 4.0}


def whole(*nodes: dict[str, float]) -> dict[str, float]:
    """Totals by metric."""
    cache: dict[str, Point] = {}
    for node in nodes:
        cache = with_node(cache, {name: Point.of(value) for name, value in node.items()}, metrics())
    return {name: point.total for name, point in cache.items()}


def test_data_is_of_primaries_and_connections_are_of_all() -> None:
    found = whole(PRIMARY, REPLICA, PRIMARY, REPLICA)
    assert (found["BytesUsedForCache"], found["CurrItems"], found["CurrConnections"]) == (1000.0, 14.0, 16.0)


def test_the_hit_rate_is_of_all_nodes_together() -> None:
    found = whole({**PRIMARY, **READS}, {**REPLICA, "CacheHits": 0.0, "CacheMisses": 200.0})
    assert found["CacheHitRate"] == 60.0


def test_ecpu_counts_every_command_at_least_once() -> None:
    found = whole({**PRIMARY, **READS, **WRITES})
    assert (found["ElastiCacheProcessingUnits"], found["TotalCmdsCount"]) == (4000.0, 4000.0)


def test_slow_commands_cost_more() -> None:
    found = whole({**PRIMARY, "SetTypeCmds": 10.0, "SetTypeCmdsLatency": 5000.0})
    assert found["ElastiCacheProcessingUnits"] == 5000.0


def test_large_values_cost_what_they_weigh() -> None:
    """A primary sends what it is given once more, to its replica: that is not the client's."""
    moved = {"NetworkBytesIn": 9e6, "NetworkBytesOut": 9.5e6, "ReplicationBytes": 9e6}
    found = whole({**PRIMARY, "SetTypeCmds": 9.0, "SetTypeCmdsLatency": 1.0, **moved})
    assert found["ElastiCacheProcessingUnits"] == pytest.approx(9.5e6 / 1024 - OWN_KB)


def test_the_writes_of_a_replica_are_those_of_its_primary() -> None:
    moved = {"NetworkBytesIn": 9e6, "NetworkBytesOut": 1e5, "ReplicationBytes": 9e6}
    assert whole({**REPLICA, **READS, **WRITES, **moved})["ElastiCacheProcessingUnits"] == 1000.0


def test_an_idle_cache_costs_nothing_however_often_it_is_looked_at() -> None:
    idle = {"GetTypeCmds": 0.0, "SetTypeCmds": 0.0, "NetworkBytesIn": 1e6, "NetworkBytesOut": 9e6}
    assert whole({**PRIMARY, **idle})["ElastiCacheProcessingUnits"] == 0.0


def test_a_minute_without_counters_adds_none() -> None:
    assert "ElastiCacheProcessingUnits" not in whole(PRIMARY, REPLICA)


def test_memcached_has_other_names() -> None:
    told = {"CmdGets": 5.0, "CmdSet": 3.0, "CmdTouch": 0.0, "GetHits": 4.0, "GetMisses": 1.0}
    found = whole({**told, "BytesUsedForCacheItems": 100.0, "CurrItems": 3.0})
    assert (found["ElastiCacheProcessingUnits"], found["CacheHitRate"], found["BytesUsedForCache"]) == (
        8.0,
        80.0,
        100.0,
    )
