"""What one look at a node says, by names of metrics."""

from __future__ import annotations

import pytest

from cachekeep.data.metrics import command_families, metrics
from cachekeep.monitor.readings import (
    Vocabulary,
    counters_of_engine,
    gauges_of_engine,
    gauges_of_memcached,
    number,
)

ENGINE = Vocabulary.of(metrics(), command_families(), speaks_resp=True)
MEMCACHED = Vocabulary.of(metrics(), command_families(), speaks_resp=False)


@pytest.mark.parametrize("text", ["-5", "1e29", "9223372036854775808", "1" * 400, "nan", "inf", "-inf", "", "many"])
def test_what_no_engine_can_count_was_not_told(text: str) -> None:
    assert number({"used_memory": text}, "used_memory") is None


@pytest.mark.parametrize(("text", "value"), [("0", 0.0), ("1.25", 1.25), ("9000000000000000000", 9e18)])
def test_what_an_engine_counts_is_taken(text: str, value: float) -> None:
    assert number({"used_memory": text}, "used_memory") == value


def test_sizes_of_a_hostile_engine_are_left_out() -> None:
    found = gauges_of_engine({"maxmemory": "-5", "used_memory": "100", "maxclients": "-1"}, ENGINE)
    assert found["BytesUsedForCache"] == 100
    assert not {"MaxMemory", "MaxConnections", "DatabaseMemoryUsagePercentage"} & set(found)
    found = gauges_of_engine({"maxmemory": "100", "used_memory": "1e29"}, ENGINE)
    assert not {"BytesUsedForCache", "DatabaseMemoryUsagePercentage"} & set(found)
    assert "NetworkBytesIn" not in counters_of_engine({"total_net_input_bytes": "-9"}, ENGINE)
    assert all(value >= 0 for value in gauges_of_memcached({"limit_maxbytes": "5", "bytes": "9"}, MEMCACHED).values())
