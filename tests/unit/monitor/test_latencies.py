"""How long reads and writes took: of a minute, and of all minutes so far."""

from __future__ import annotations

from cachekeep.monitor.latencies import Latencies

FAMILIES = {"GetType": frozenset({"get"}), "SetType": frozenset({"set"})}


def test_totals_are_the_sum_of_all_minutes_over_a_restart_too() -> None:
    latencies = Latencies(FAMILIES)
    latencies.close({"get": ((1.0, 100.0),)}, {})
    assert latencies.totals == {}, "what came before the first look is nobody's"
    latencies.close({"get": ((1.0, 110.0), (4.0, 2.0))}, {"usec:GetType": 15.0})
    latencies.close({"get": ((1.0, 3.0),)}, {"usec:GetType": 3.0})  # restarted
    total = latencies.totals["SuccessfulReadRequestLatency"]
    assert total.buckets == ((1.0, 13.0), (4.0, 2.0))
    assert (total.count, total.total, total.most) == (15.0, 18.0, 4.0)
    assert "SuccessfulWriteRequestLatency" not in latencies.totals


def test_the_least_is_never_above_the_mean() -> None:
    """Commands that took less than a microsecond count as none of them, in the first bucket."""
    latencies = Latencies(FAMILIES)
    latencies.close({"get": ((1.0, 1.0),)}, {})
    points = latencies.close({"get": ((1.0, 248.0), (4.0, 2.0))}, {"usec:GetType": 91.0})
    reads = points["SuccessfulReadRequestLatency"]
    assert reads.least <= reads.total / reads.count == 91.0 / 249.0 <= reads.most
