"""The thresholds file against the seed document's tables, row by row, and which reading stands where it says two."""

from __future__ import annotations

from typing import Any

import pytest

from cachekeep.data.metrics import metrics
from cachekeep.data.thresholds import thresholds
from cachekeep.domain.metrics import Tier
from cachekeep.domain.verdicts import Level
from cachekeep.plan.verdict import Context, Past, judge

MIB, MINUTE_MS = 1048576.0, 60_000.0
SAFE, WARNING, RISK = Level.SAFE, Level.WARNING, Level.RISK
BY_TITLE = {threshold.title: threshold for threshold in thresholds()}

# The seed's rows: title; where safe begins; the border of safe and warning, and whose it is; the border of warning and
# risk, and whose it is; the far end of risk; the smallest step. A border that two classes share is the worse one's.
ROWS = [
    ("CPU Utilization", 0, (60, WARNING), (80, RISK), 100, 0.1),
    ("Engine CPU Utilization", 0, (50, WARNING), (75, RISK), 100, 0.1),
    ("Database Memory Usage %", 0, (70, WARNING), (85, RISK), 100, 0.1),
    ("Database Capacity Usage %", 0, (70, WARNING), (85, RISK), 100, 0.1),
    ("Cache Hit Rate", 100, (90, WARNING), (75, WARNING), 0, 0.1),
    ("Current Connections", 0, (70, WARNING), (90, WARNING), 100, 0.1),
    ("Swap Usage", 0, (MIB, WARNING), (50 * MIB, WARNING), 2048 * MIB, 1),
    ("Memory Fragmentation Ratio", 1, (1.2, WARNING), (1.5, WARNING), 10, 0.01),
    ("Freeable Memory", 100, (30, WARNING), (15, WARNING), 0, 0.1),
    ("DB0 Average TTL", 24 * 60 * MINUTE_MS, (5 * MINUTE_MS, WARNING), (MINUTE_MS, WARNING), 1, 1),
    ("Network Connections Tracked Allowance Exceeded", 0, (1, WARNING), (10, WARNING), 1e6, 1),
    ("Network Packets Per Second Allowance Exceeded", 0, (1, WARNING), (10, WARNING), 1e6, 1),
]


def level(title: str, value: float) -> Level:
    return judge(BY_TITLE[title], value, Past(recent=value), Context(1e9, role="primary")).level


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row[0])
def test_a_row_of_the_seed_holds_at_below_and_above_each_border(row: Any) -> None:
    title, begin, (first, first_is), (second, second_is), end, step = row
    towards_risk = step if end > begin else -step
    found = [
        (value, level(title, value))
        for value in (
            begin,
            first - towards_risk,
            first,
            first + towards_risk,
            (first + second) / 2,
            second - towards_risk,
            second,
            second + towards_risk,
            end,
        )
    ]
    expected = [SAFE, SAFE, first_is, WARNING, WARNING, WARNING, second_is, RISK, RISK]
    assert [each for _, each in found] == expected, found


def test_the_four_of_network_traffic_have_no_numbers_in_the_seed_and_none_here() -> None:
    without = [threshold.metric for threshold in thresholds() if threshold.warning is None]
    assert without == ["NetworkBytesIn", "NetworkBytesOut", "NetworkPacketsIn", "NetworkPacketsOut"]
    assert len(ROWS) + len(without) == len(thresholds()) == 16


@pytest.mark.parametrize(
    ("title", "value", "is_", "said"),
    [
        # "Using 80 % of capacity is fine"; the table says 70-85 % is a warning.
        ("Database Capacity Usage %", 80, WARNING, "80 % fine"),
        # "Current connections = 5000, max allowed = 6000 -> safe"; the table says 70-90 % is a warning.
        ("Current Connections", 100 * 5000 / 6000, WARNING, "5000 of 6000"),
        # "Swap usage > 0 -> very slow"; the table and the notes call up to 1 MB safe.
        ("Swap Usage", 1, SAFE, "any swap very slow"),
        # "Freeable memory < 10MB"; the table says < 15 % of RAM.
        ("Freeable Memory", 14, RISK, "below 10 MB"),
        # No class below 1, where memory is swapped out.
        ("Memory Fragmentation Ratio", 0.99, WARNING, "no class below 1"),
        # "Average TTL = 60s -> caching may not be effective"; the table's risk begins below 1 min.
        ("DB0 Average TTL", MINUTE_MS, WARNING, "Exactly 1 minute"),
        # AWS's alarm default is 90 %, the seed's risk 80 %.
        ("CPU Utilization", 85, RISK, "AWS advises 90 %"),
        # AWS's alarm default is 80 %, the seed's risk is below 75 %.
        ("Cache Hit Rate", 78, WARNING, "AWS's alarm default is 80 %"),
    ],
)
def test_where_sources_contradict_each_other_the_reading_is_stated_and_applied(
    title: str, value: float, is_: Level, said: str
) -> None:
    assert level(title, value) is is_
    assert said in BY_TITLE[title].reading


def test_raising_maxclients_is_not_advised_for_dropped_packets() -> None:
    threshold = BY_TITLE["Network Connections Tracked Allowance Exceeded"]
    assert "more maxclients does not help" in threshold.next


def test_every_metric_that_is_judged_is_measured_in_the_unit_of_its_threshold() -> None:
    for threshold in thresholds():
        metric = metrics()[threshold.metric]
        assert metric.namespace == threshold.namespace
        assert metric.unit.replace("None", "Ratio") == threshold.unit or threshold.metric == "DB0AverageTTL"


def test_tiers_come_in_the_order_of_the_seed() -> None:
    tiers = [threshold.tier for threshold in thresholds()]
    assert tiers == sorted(tiers, key=list(Tier).index)
