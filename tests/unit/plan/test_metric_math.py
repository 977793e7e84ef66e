"""Metric math: operators, functions, arrays, gaps, mistakes and bounds."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cachekeep.domain.alarms import MetricQuery
from cachekeep.plan.metric_functions import Series, Window
from cachekeep.plan.metric_math import Book, MathError, Search, check_queries, parse_search
from cachekeep.plan.metric_math_parse import parse

FETCHED = {
    "m1": Series("m1", 60, [0, 60, 120], [1.0, 2.0, 4.0]),
    "m2": Series("m2", 60, [0, 120], [10.0, 0.0]),
    "m3": Series("m3", 60, [0, 60, 120], [-1.5, 0.0, 1.5]),
    "none": Series("none", 60, [], []),
}


def compute(expression: str, *more: tuple[str, str]) -> tuple[Series, ...]:
    queries = [MetricQuery(name, metric=name, namespace="n", period=60) for name in FETCHED]
    queries += [MetricQuery(name, expression=text) for name, text in (("e", expression), *more)]
    check_queries(queries)

    def find(search: Search) -> Sequence[Series]:
        return [FETCHED["m1"], FETCHED["m3"]] if search.namespace == "A" else []

    return Book(queries, Window(0, 180), lambda query: FETCHED[query.id], find).series("e")


@pytest.mark.parametrize(
    ("expression", "points"),
    [
        ("m1 + 1", {0: 2, 60: 3, 120: 5}),
        ("m1 + m2", {0: 11, 120: 4}),
        ("m1 / m2", {0: 0.1}),
        ("2 ^ 3 ^ m1 * 0 + 1 - -m1", {0: 2, 60: 3, 120: 5}),
        ("-m1 ^ 2", {0: -1, 60: -4, 120: -16}),
        ("(m1 + 1) * 2", {0: 4, 60: 6, 120: 10}),
        ("m1 > 1 AND m3 <= 0", {0: 0, 60: 1, 120: 0}),
        ("m1 == 2 || m3 < 0", {0: 1, 60: 1, 120: 0}),
        ("m1 - AVG(m1)", {0: 1 - 7 / 3, 60: 2 - 7 / 3, 120: 4 - 7 / 3}),
        ("SUM([m1, m2])", {0: 11, 60: 2, 120: 4}),
        ("AVG([m1, m3])", {0: -0.25, 60: 1, 120: 2.75}),
        ("MAX([m1, m3, m2])", {0: 10, 60: 2, 120: 4}),
        ("MIN([m1, 0 * m1])", {0: 0, 60: 0, 120: 0}),
        ("MAX(m1, 3)", {0: 3, 60: 3, 120: 4}),
        ("SUM(METRICS('m1'))", {0: 1, 60: 2, 120: 4}),
        ("METRIC_COUNT(METRICS()) * m1", {0: 4, 60: 8, 120: 16}),
        ("RATE(m1)", {60: 1 / 60, 120: 2 / 60}),
        ("DIFF(m1)", {60: 1, 120: 2}),
        ("DIFF_TIME(m2)", {120: 120}),
        ("m1 / PERIOD(m1)", {0: 1 / 60, 60: 2 / 60, 120: 4 / 60}),
        ("ABS(m3)", {0: 1.5, 60: 0, 120: 1.5}),
        ("CEIL(m3) + FLOOR(m3)", {0: -3, 60: 0, 120: 3}),
        ("FILL(m2, 7)", {0: 10, 60: 7, 120: 0}),
        ("FILL(m2, REPEAT)", {0: 10, 60: 10, 120: 0}),
        ("FILL(m2, LINEAR)", {0: 10, 60: 5, 120: 0}),
        ("FILL(none, 0)", {0: 0, 60: 0, 120: 0}),
        ("IF(m1 > 1, m1, 0)", {0: 0, 60: 2, 120: 4}),
        ("IF(m1 > 1, m2, m3)", {0: -1.5, 120: 0}),
        ("IF(m1 > 1, m1)", {60: 2, 120: 4}),
        ("TIME_SERIES(3)", {0: 3, 60: 3, 120: 3}),
        ("RUNNING_SUM(m1)", {0: 1, 60: 3, 120: 7}),
        ("FIRST(SORT(METRICS(), MAX, DESC))", {0: 10, 120: 0}),
        ("LAST([m1, m3])", {0: -1.5, 60: 0, 120: 1.5}),
        ("MINUTE(m1)", {0: 0, 60: 1, 120: 2}),
        ("HOUR(m1) + DAY(m1)", {0: 4, 60: 4, 120: 4}),
        ("LOG10(m2)", {0: 1}),
        ("none + m1", {}),
        ("SUM(SEARCH('{A,D} MetricName=\"x\"', 'Average', 60))", {0: -0.5, 60: 2, 120: 5.5}),
    ],
)
def test_an_expression_gives_these_points(expression: str, points: dict[int, float]) -> None:
    (series,) = compute(expression)
    assert dict(zip(series.starts, series.values, strict=True)) == pytest.approx(points)


def test_an_array_gives_several_series() -> None:
    assert [series.label for series in compute("SORT([m1, m3, none], AVG, ASC)")] == ["m3", "m1", "none"]
    assert [list(series.values) for series in compute("[m1, m3] * 2")] == [[2.0, 4.0, 8.0], [-3.0, 0.0, 3.0]]
    assert len(compute("REMOVE_EMPTY(METRICS())")) == 3
    assert len(compute("SORT(METRICS(), SUM, ASC, 2)")) == 2


def test_expressions_may_refer_to_expressions_in_any_order() -> None:
    (series,) = compute("e2 * 2", ("e2", "e3 + 1"), ("e3", "m1"))
    assert list(series.values) == [4.0, 6.0, 10.0]


def test_a_chain_of_hundreds_of_expressions_is_computed() -> None:
    chain = [(f"x{number}", f"x{number + 1} + 1" if number < 450 else "m1") for number in range(451)]
    (series,) = compute("x0", *chain)
    assert series.values[0] == 451.0


@pytest.mark.parametrize(
    "expression",
    [
        "",
        "m1 +",
        "m1 m2",
        "1 + 1",
        "AVG(m1)",
        "unknown + 1",
        "e + 1",
        "NOSUCH(m1)",
        "[m1, 1]",
        "[m1] + [m2]",
        "m1 # 2",
        "1e",
        "'text'",
        "IF([m1], m1)",
        "AVG(none)",
        "1 / 0 + m1",
        "m1 * 10 ^ 400",
        "FILL(m1)",
        "SEARCH('nothing', 'Average', 60)",
        "SEARCH('{A,D} x OR y', 'Average', 60)",
        "(" * 100 + "m1" + ")" * 100,
        "+".join(["m1"] * 500),
        "m1 +" + " " * 2048 + "1",
        "m1 + LOG(0)",
        "m1 + CEIL(LOG(0))",
        "m1 + SUM(10 ^ 308, 10 ^ 308)",
    ],
)
def test_what_cannot_be_computed_says_why(expression: str) -> None:
    with pytest.raises(MathError, match=r"\w"):
        compute(expression or " ")


def test_expressions_that_lead_back_to_themselves_are_refused() -> None:
    with pytest.raises(MathError, match="leads back"):
        compute("e2", ("e2", "e"))


@pytest.mark.parametrize("name", ["M1", "1m", "m-1", "m1"])
def test_ids_are_words_in_lower_case_and_come_once(name: str) -> None:
    with pytest.raises(MathError):
        check_queries([MetricQuery("m1", metric="x"), MetricQuery(name, metric="x")])


def test_a_request_over_too_much_time_is_refused_before_it_is_computed() -> None:
    queries = [MetricQuery("e", expression="TIME_SERIES(1)")]
    with pytest.raises(MathError, match="too many datapoints"):
        Book(queries, Window(0, 60 * 10**9), lambda query: FETCHED["m1"], lambda search: ()).series("e")


@given(st.text("m123e+-*/^()[],'<>=& IFSUM.", max_size=40))
def test_any_text_is_computed_or_refused(text: str) -> None:
    try:
        compute(text or " ")
    except MathError:
        return


@pytest.mark.parametrize("name", ["SUM([m1 * 4 * 10 ^ 307, m1 * 4 * 10 ^ 307])", "RUNNING_SUM(m1 * 4 * 10 ^ 307)"])
def test_what_no_number_can_hold_is_a_gap(name: str) -> None:
    (series,) = compute(name)
    assert len(series.starts) == 2 == len(series.values)


def test_a_search_is_taken_apart() -> None:
    assert parse_search('{AWS/ElastiCache, CacheClusterId} MetricName="Evictions" AND demo', "Sum", 60) == Search(
        "AWS/ElastiCache", frozenset({"CacheClusterId"}), (("MetricName", "Evictions"),), ("demo",), "Sum", 60
    )


@pytest.mark.parametrize("text", ['SELECT AVG(CPUUtilization) FROM "AWS/ElastiCache"', "  select\tMAX(a) FROM b"])
def test_a_query_of_metrics_insights_is_said_not_to_be_supported(text: str) -> None:
    with pytest.raises(MathError, match=r"Metrics Insights queries .* are not supported"):
        parse(text)
