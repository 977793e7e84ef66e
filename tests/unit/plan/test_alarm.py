"""Alarm states against CloudWatch's own tables, row by row, and the words of the reasons."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cachekeep.domain.alarms import Alarm, AlarmState, Comparison, MetricQuery, MissingData
from cachekeep.plan.alarm import breaches, evaluation_range, judge

END = 1_795_428_300  # 2026-11-23 10:05:00 UTC
QUERY = MetricQuery("m1", namespace="AWS/ElastiCache", metric="CPUUtilization", statistic="Average", period=60)
ALARM = Alarm("eu-west-1", "hot", (QUERY,), 3, 3, 0.5, Comparison.GREATER, 0.0, 0.0, 0.0)
STEADY = settings(max_examples=60, deadline=None)
OK, FIRES, UNKNOWN = AlarmState.OK, AlarmState.ALARM, AlarmState.INSUFFICIENT_DATA
RETAIN = None
TREATMENTS = (MissingData.MISSING, MissingData.IGNORE, MissingData.BREACHING, MissingData.NOT_BREACHING)

# Source: CloudWatch user guide, "How alarm state is evaluated when data is missing": both tables, columns MISSING,
# IGNORE, BREACHING, NOT BREACHING; then the examples of "Avoiding premature transitions to alarm state".
THREE_OF_THREE = {
    "0 - X - X": (OK, OK, OK, OK),
    "0 - - - -": (OK, OK, OK, OK),
    "- - - - -": (UNKNOWN, RETAIN, FIRES, OK),
    "0 X X - X": (FIRES, FIRES, FIRES, FIRES),
    "- - X - -": (FIRES, RETAIN, FIRES, OK),
}
TWO_OF_THREE = {
    "0 - X - X": (FIRES, FIRES, FIRES, FIRES),
    "0 0 X 0 X": (FIRES, FIRES, FIRES, FIRES),
    "0 - X - -": (OK, OK, FIRES, OK),
    "- - - - 0": (OK, OK, FIRES, OK),
    "- - - X -": (FIRES, RETAIN, FIRES, OK),
}
ROWS = [(3, row, states) for row, states in THREE_OF_THREE.items()]
ROWS += [(2, row, states) for row, states in TWO_OF_THREE.items()]


def points(row: str) -> list[float | None]:
    return [{"0": 0.0, "X": 1.0, "-": None}[letter] for letter in row.split()]


@pytest.mark.parametrize(("needed", "row", "states"), ROWS)
def test_states_are_those_of_the_documented_tables(
    needed: int, row: str, states: tuple[AlarmState | None, ...]
) -> None:
    found = tuple(
        judge(replace(ALARM, datapoints_to_alarm=needed, treat_missing=how), points(row), END, END).state
        for how in TREATMENTS
    )
    assert found == states


@pytest.mark.parametrize("row", ["- - - - X", "- - - X -"])
def test_a_lone_breaching_point_waits_for_the_next_ones(row: str) -> None:
    assert judge(ALARM, points(row), END, END).state is None


def test_five_points_are_looked_at_for_an_alarm_of_three() -> None:
    assert evaluation_range(ALARM) == 5


VALUES = st.lists(st.sampled_from([0.0, 1.0, None]), min_size=0, max_size=14)
SIZES = st.integers(1, 10).flatmap(lambda n: st.tuples(st.just(n), st.integers(1, n)))


@STEADY
@given(VALUES, SIZES)
def test_without_m_breaching_points_good_missing_data_never_alarms(
    values: list[float | None], sizes: tuple[int, int]
) -> None:
    wanted, needed = sizes
    alarm = replace(
        ALARM, evaluation_periods=wanted, datapoints_to_alarm=needed, treat_missing=MissingData.NOT_BREACHING
    )
    seen = [v for v in values[-evaluation_range(alarm) :] if v is not None][-wanted:]
    assert (judge(alarm, values, END, END).state is FIRES) == (seen.count(1.0) >= needed)


@STEADY
@given(st.lists(st.sampled_from([0.0, 1.0]), min_size=12, max_size=12), SIZES, st.sampled_from(TREATMENTS))
def test_without_gaps_the_treatment_of_missing_data_does_not_matter(
    values: list[float], sizes: tuple[int, int], how: MissingData
) -> None:
    wanted, needed = sizes
    alarm = replace(ALARM, evaluation_periods=wanted, datapoints_to_alarm=needed, treat_missing=how)
    expected = FIRES if sum(values[-wanted:]) >= needed else OK
    assert judge(alarm, values, END, END).state is expected


@STEADY
@given(VALUES, SIZES)
def test_ignored_gaps_never_lead_to_insufficient_data(values: list[float | None], sizes: tuple[int, int]) -> None:
    alarm = replace(ALARM, evaluation_periods=sizes[0], datapoints_to_alarm=sizes[1], treat_missing=MissingData.IGNORE)
    assert judge(alarm, values, END, END).state is not UNKNOWN


@pytest.mark.parametrize(
    ("comparison", "below", "at", "above"),
    [
        (Comparison.GREATER, False, False, True),
        (Comparison.GREATER_OR_EQUAL, False, True, True),
        (Comparison.LESS, True, False, False),
        (Comparison.LESS_OR_EQUAL, True, True, False),
    ],
)
def test_each_comparison_on_both_sides_of_its_threshold(
    comparison: Comparison, below: bool, at: bool, above: bool
) -> None:
    assert [breaches(comparison, value, 0.5) for value in (0.4, 0.5, 0.6)] == [below, at, above]


def test_reasons_are_in_cloudwatchs_words() -> None:
    five = replace(ALARM, evaluation_periods=5)
    end = 1_795_428_300
    assert judge(five, points("X 0 X 0 X"), end, end).reason == (
        "Threshold Crossed: 3 out of the last 5 datapoints [1.0 (23/11/26 10:04:00), 1.0 (23/11/26 10:02:00), "
        "1.0 (23/11/26 10:00:00)] were greater than the threshold (0.5) "
        "(minimum 3 datapoints for OK -> ALARM transition)."
    )
    assert judge(five, points("0 X 0 X 0"), end, end).reason == (
        "Threshold Crossed: 3 out of the last 5 datapoints [0.0 (23/11/26 10:04:00), 0.0 (23/11/26 10:02:00), "
        "0.0 (23/11/26 10:00:00)] were not greater than the threshold (0.5) "
        "(minimum 3 datapoints for ALARM -> OK transition)."
    )
    one = replace(ALARM, evaluation_periods=1, datapoints_to_alarm=1)
    assert judge(one, [None], end, end).reason == "Insufficient Data: 1 datapoint was unknown."
    two = replace(ALARM, evaluation_periods=2, datapoints_to_alarm=2, treat_missing=MissingData.BREACHING)
    assert judge(two, [None] * 4, end, end).reason == (
        "Threshold Crossed: no datapoints were received for 2 periods and 2 missing datapoints were treated as "
        "[Breaching]."
    )
    filled = replace(ALARM, evaluation_periods=3, datapoints_to_alarm=1, treat_missing=MissingData.NOT_BREACHING)
    assert judge(filled, points("- - - - X"), end, end).reason == (
        "Threshold Crossed: 1 out of the last 3 datapoints [1.0 (23/11/26 10:04:00)] was greater than the threshold "
        "(0.5) and 2 missing datapoints were treated as [NonBreaching] "
        "(minimum 1 datapoint for OK -> ALARM transition)."
    )


def test_the_reason_data_holds_the_evaluated_points_newest_first() -> None:
    data = json.loads(judge(ALARM, points("0 0 1 X X".replace("1", "X")), 1_795_428_300, 1_795_428_310.5).reason_data)
    assert data == {
        "version": "1.0",
        "queryDate": "2026-11-23T10:05:10.500+0000",
        "startDate": "2026-11-23T10:02:00.000+0000",
        "statistic": "Average",
        "period": 60,
        "recentDatapoints": [1.0, 1.0, 1.0],
        "threshold": 0.5,
        "evaluatedDatapoints": [
            {"timestamp": f"2026-11-23T10:0{minute}:00.000+0000", "value": 1.0} for minute in (4, 3, 2)
        ],
    }
