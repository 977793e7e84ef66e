"""The seed's tables row by row, and the readings that were chosen where it says two things."""

from __future__ import annotations

import json
from importlib.resources import files
from typing import Any

import pytest

from cachekeep.domain.metrics import Column, Tier
from cachekeep.domain.verdicts import Bound, Level, Threshold, read_thresholds, worst
from cachekeep.plan.verdict import Context, Past, baseline_bytes_per_s, judge, overridden, past_of

MIB = 1048576
NOW = 1_000_000_020.0
RAW = json.loads((files("cachekeep.data") / "thresholds.json").read_text("utf-8"))
THRESHOLDS = {threshold.metric: threshold for threshold in read_thresholds(RAW)}
SAFE, WARNING, RISK, UNKNOWN = Level.SAFE, Level.WARNING, Level.RISK, Level.UNKNOWN


def of(metric: str, value: float | None, column: Column | None = None, **context: Any) -> Any:
    """Without a column: the value as it is now and was in the last minutes."""
    if column is None:
        column = Column() if value is None else minutes([value] * 2)
    threshold = THRESHOLDS[metric]
    return judge(threshold, value, past_of(threshold, column, NOW), Context(NOW, **context))


def minutes(values: list[float], *, ago_s: int = 60) -> Column:
    """Points of one sample a minute, the last one of which began ago_s before now."""
    last = int(NOW - ago_s) // 60 * 60
    starts = [last - 60 * (len(values) - 1 - at) for at in range(len(values))]
    return Column(starts, [1.0] * len(values), values, values, values)


# Value -> class, border by border: the border itself, and either side of it.
ROWS = {
    "CPUUtilization": [(0, SAFE), (59.9, SAFE), (60, WARNING), (79.9, WARNING), (80, RISK), (100, RISK)],
    "EngineCPUUtilization": [(0, SAFE), (49.9, SAFE), (50, WARNING), (74.9, WARNING), (75, RISK), (100, RISK)],
    "DatabaseMemoryUsagePercentage": [(0, SAFE), (69.9, SAFE), (70, WARNING), (84.9, WARNING), (85, RISK)],
    "DatabaseCapacityUsagePercentage": [(69.9, SAFE), (70, WARNING), (80, WARNING), (84.9, WARNING), (85, RISK)],
    "CacheHitRate": [(100, SAFE), (95, SAFE), (90.1, SAFE), (90, WARNING), (75, WARNING), (74.9, RISK), (0, RISK)],
    "ConnectionsUsagePercentage": [(69.9, SAFE), (70, WARNING), (83.3, WARNING), (90, WARNING), (90.1, RISK)],
    "SwapUsage": [(0, SAFE), (MIB - 1, SAFE), (MIB, WARNING), (50 * MIB, WARNING), (50 * MIB + 1, RISK)],
    "MemoryFragmentationRatio": [(0.9, WARNING), (1, SAFE), (1.1, SAFE), (1.2, WARNING), (1.5, WARNING), (1.6, RISK)],
    "FreeableMemoryPercentage": [(100, SAFE), (30.1, SAFE), (30, WARNING), (15, WARNING), (14.9, RISK), (0, RISK)],
    "DB0AverageTTL": [
        (7 * 86400e3, SAFE), (86400e3, SAFE), (300001, SAFE), (300000, WARNING), (60000, WARNING), (59999, RISK)
    ],
    "NetworkConntrackAllowanceExceeded": [(0, SAFE), (1, WARNING), (10, WARNING), (11, RISK)],
    "NetworkPacketsPerSecondAllowanceExceeded": [(0, SAFE), (1, WARNING), (10, WARNING), (11, RISK)],
}  # fmt: skip


@pytest.mark.parametrize(
    ("metric", "value", "level"), [(metric, value, level) for metric, rows in ROWS.items() for value, level in rows]
)
def test_each_row_of_the_seeds_tables_has_its_class(metric: str, value: float, level: Level) -> None:
    verdict = of(metric, value)
    assert verdict.level is level, verdict.sentence


def test_all_sixteen_metrics_stand_in_their_tiers() -> None:
    tiers = {tier: [t.metric for t in THRESHOLDS.values() if t.tier is tier] for tier in Tier}
    assert [len(tiers[tier]) for tier in (Tier.CRUCIAL, Tier.IMPORTANT, Tier.OPTIONAL)] == [7, 7, 2]
    assert set(THRESHOLDS) - set(ROWS) == {
        "NetworkBytesIn", "NetworkBytesOut", "NetworkPacketsIn", "NetworkPacketsOut"
    }  # fmt: skip


def test_every_metric_that_is_judged_is_one_that_is_measured() -> None:
    measured = json.loads((files("cachekeep.data") / "metrics.json").read_text("utf-8"))["metrics"]
    known = {(metric["name"], metric["namespace"]) for metric in measured}
    assert {(t.metric, t.namespace) for t in THRESHOLDS.values()} <= known
    needed = {need.metric for t in THRESHOLDS.values() for need in t.needs}
    assert needed <= {name for name, _ in known}


@pytest.mark.parametrize("threshold", THRESHOLDS.values(), ids=lambda t: t.metric)
def test_every_threshold_says_what_it_means_why_and_what_next(threshold: Threshold) -> None:
    assert threshold.means
    assert threshold.next
    assert threshold.causes
    assert threshold.source


def test_what_is_not_measured_is_unknown_and_says_why() -> None:
    assert of("CacheHitRate", None).sentence == "Cache Hit Rate is unknown: no reads came, so there is no hit rate"
    for metric in THRESHOLDS:
        assert of(metric, None).level is UNKNOWN


def test_a_node_that_does_not_answer_has_no_verdict() -> None:
    verdict = of("CPUUtilization", 5, trouble="cannot reach it")
    assert (verdict.level, verdict.number) == (UNKNOWN, None)
    assert "cannot reach it" in verdict.sentence


def test_fragmentation_of_a_nearly_empty_engine_is_unknown() -> None:
    assert of("MemoryFragmentationRatio", 6.5, values={"BytesUsedForCache": 64 * MIB - 1}).level is UNKNOWN
    assert of("MemoryFragmentationRatio", 6.5, values={"BytesUsedForCache": 64 * MIB}).level is RISK


def test_expiry_times_say_nothing_on_a_replica_nor_where_no_key_expires() -> None:
    assert of("DB0AverageTTL", 10, role="replica").level is UNKNOWN
    assert of("DB0AverageTTL", 10, role="primary").level is RISK
    assert of("DB0AverageTTL", 0, role="primary").level is UNKNOWN


def test_one_busy_minute_of_five_is_not_a_busy_node() -> None:
    assert of("CPUUtilization", 95, minutes([10, 10, 10, 10, 95])).level is SAFE
    assert of("CPUUtilization", 95, minutes([90, 90, 90, 90, 95])).level is RISK
    # Nothing newer than an hour: the reading of now is all there is.
    assert of("CPUUtilization", 95, minutes([10] * 5, ago_s=3600)).level is UNKNOWN


@pytest.mark.parametrize("metric", ["CPUUtilization", "NetworkConntrackAllowanceExceeded", "CacheHitRate"])
def test_an_average_or_a_maximum_of_less_than_a_minute_is_unknown(metric: str) -> None:
    # The first point may be of a single second.
    for column in (Column(), minutes([95.0])):
        verdict = of(metric, 95, column)
        assert (verdict.level, verdict.number) == (UNKNOWN, 95)
        assert verdict.sentence.endswith("not measured for a whole minute yet")
    assert of(metric, 95, minutes([95.0, 95.0])).level is not UNKNOWN
    assert of("SwapUsage", 0, Column()).level is SAFE


def test_the_worst_minute_of_five_counts_for_what_was_dropped() -> None:
    assert of("NetworkConntrackAllowanceExceeded", 0, minutes([0, 12, 0, 0])).level is RISK
    assert of("NetworkConntrackAllowanceExceeded", 0, minutes([12, 0, 0, 0, 0, 0, 0])).level is SAFE


def test_network_traffic_is_judged_by_the_baseline_and_by_what_is_usual() -> None:
    baseline = baseline_bytes_per_s("5 Gbps baseline / 10 Gbps burst")
    assert baseline == 625e6
    assert of("NetworkBytesIn", 1e9).level is UNKNOWN
    for share, level in ((69, SAFE), (70, WARNING), (90, WARNING), (91, RISK)):
        assert of("NetworkBytesIn", share / 100 * 625e6 * 60, baseline_bytes_per_s=baseline).level is level
    usual = [1e8] * 120
    assert of("NetworkBytesIn", 1e8, minutes(usual)).level is SAFE
    spike = of("NetworkBytesIn", 9e8, minutes([*usual, *[9e8] * 5]))
    assert spike.level is WARNING
    assert "9 times what is usual" in spike.sentence
    # Three times next to nothing is nothing.
    assert of("NetworkPacketsIn", 900, minutes([*[100.0] * 120, *[900.0] * 5])).level is SAFE
    assert of("NetworkPacketsIn", 900, minutes([900.0] * 20)).level is UNKNOWN


@pytest.mark.parametrize("text", ["Up to 10 Gigabit", "Moderate", ""])
def test_a_network_without_a_baseline_has_none(text: str) -> None:
    assert baseline_bytes_per_s(text) is None


def test_memory_that_will_be_full_within_the_day_is_a_warning_and_within_the_hour_a_risk() -> None:
    slow, fast = [40 + 0.1 * at for at in range(60)], [20 + 0.8 * at for at in range(60)]
    verdict = of("DatabaseMemoryUsagePercentage", slow[-1], minutes(slow))
    assert verdict.level is WARNING
    assert "growing steadily by 6 percentage points an hour, full in about 9 h at this rate" in verdict.sentence
    assert of("DatabaseMemoryUsagePercentage", fast[-1], minutes(fast)).level is RISK
    crawl = [40 + 0.02 * at for at in range(60)]
    assert of("DatabaseMemoryUsagePercentage", crawl[-1], minutes(crawl)).level is SAFE


def test_little_swap_that_grows_steadily_is_a_risk() -> None:
    growing = [at * MIB / 20 for at in range(60)]
    assert of("SwapUsage", growing[-1], minutes(growing)).level is RISK
    # The same, an hour ago: it does not grow any more.
    assert of("SwapUsage", growing[-1], minutes(growing, ago_s=3600)).level is WARNING


def test_a_group_may_have_numbers_of_its_own() -> None:
    own = {t.metric: t for t in overridden(list(THRESHOLDS.values()), {"CPUUtilization": {"warning": 30}})}
    assert judge(own["CPUUtilization"], 30, Past(recent=30), Context(NOW)).level is WARNING
    assert judge(own["CPUUtilization"], 80, Past(recent=80), Context(NOW)).level is RISK
    assert own["SwapUsage"] == THRESHOLDS["SwapUsage"]
    own = {t.metric: t for t in overridden(list(THRESHOLDS.values()), {"NetworkBytesIn": {"warning": 5, "risk": 9}})}
    assert judge(own["NetworkBytesIn"], 10, Past(recent=10), Context(NOW)).level is RISK


@pytest.mark.parametrize(
    ("overrides", "sentence"),
    [
        ({"Nonsense": {"risk": 1}}, "no threshold for 'Nonsense'"),
        ({"CPUUtilization": {"warning": 90}}, "the warning at 90 lies above the risk at 80"),
        ({"CacheHitRate": {"risk": 95}}, "the warning at 90 lies below the risk at 95"),
        ({"CPUUtilization": {"risk": 101}}, "not within 0 and 100"),
        ({"SwapUsage": {"risk": -1}}, "not within 0 and inf"),
        ({"CPUUtilization": {"risk": True}}, "risk is not a number"),
        ({"CPUUtilization": {"risk": float("nan")}}, "risk is not a number"),
        ({"CPUUtilization": {"risk": "80"}}, "risk is not a number"),
        ({"CPUUtilization": {"risk": 10**400}}, "risk is not a number"),
        ({"SwapUsage": {"risk": -(10**400)}}, "risk is not a number"),
        ({"CPUUtilization": {"danger": 80}}, "give warning, risk or both"),
        ({"CPUUtilization": {}}, "give warning, risk or both"),
        ({"CPUUtilization": 80}, "give warning, risk or both"),
        ({"NetworkBytesIn": {"risk": 80}}, "give both warning and risk"),
    ],
)
def test_numbers_that_make_no_sense_are_refused_with_a_sentence(overrides: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        overridden(list(THRESHOLDS.values()), overrides)


def test_the_worst_of_several_is_what_is_known() -> None:
    assert worst([SAFE, UNKNOWN]) is SAFE
    assert worst([WARNING, RISK, UNKNOWN]) is RISK
    assert worst([]) is UNKNOWN


@pytest.mark.parametrize("text", ["60", "=> 60", ">= x", ""])
def test_a_malformed_bound_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r".+"):
        Bound.parse(text)


def test_a_malformed_thresholds_file_is_refused() -> None:
    entry = RAW["thresholds"][0]
    for broken in ({"warning": ">= 90"}, {"statistic": "median"}, {"tier": "nice"}, {"surprise": 1}):
        with pytest.raises((ValueError, TypeError)):
            read_thresholds({**RAW, "thresholds": [{**entry, **broken}]})
    with pytest.raises(ValueError, match="twice"):
        read_thresholds({**RAW, "thresholds": [entry, entry]})
