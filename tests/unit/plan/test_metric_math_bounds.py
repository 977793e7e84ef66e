"""Metric math that asks for too much, or for more than a number can hold: refused, and each thing is computed once."""

from __future__ import annotations

import math
from collections.abc import Sequence

import pytest

from cachekeep.domain.alarms import MetricQuery
from cachekeep.plan.metric_functions import Series, Window
from cachekeep.plan.metric_math import MAX_FOUND, MAX_SEARCHES, Book, MathError, Search
from cachekeep.plan.metric_math_check import MAX_TEXT
from cachekeep.plan.metric_math_work import MAX_WORK

SEARCH = "SEARCH('{A,D} x','Sum',60)"
METRICS = {
    "m1": Series("m1", 60, [0, 60, 120], [1.0, 2.0, 4.0]),
    "m2": Series("m2", 60, [60, 120, 180], [1.0, 2.0, 4.0]),
    "huge": Series("huge", 60, [0, 60, 120], [1e308, 1e308, 1e308]),
    "endless": Series("endless", 60, [0], [math.inf]),
    "broken": Series("broken", 60, [0], [math.nan]),
}


class Request:
    """The queries x0, x1... over METRICS, with so many series behind each search."""

    def __init__(self, *expressions: str, found: int = 2, until: int = 240, most: int = MAX_WORK) -> None:
        queries = [MetricQuery(name, metric=name, namespace="n", period=60) for name in METRICS]
        queries += [MetricQuery(f"x{number}", expression=text) for number, text in enumerate(expressions)]
        self.searches: list[Search] = []
        self.fetched: list[str] = []
        self._many = [METRICS["m1"]] * found
        self._last = queries[-1].id
        self._book = Book(queries, Window(0, until), self._fetch, self._find, most)

    def _fetch(self, query: MetricQuery) -> Series:
        self.fetched.append(query.id)
        return METRICS[query.id]

    def _find(self, search: Search) -> Sequence[Series]:
        self.searches.append(search)
        return self._many

    def answer(self) -> tuple[Series, ...]:
        return self._book.series(self._last)


@pytest.mark.parametrize(
    "expression",
    [
        "SLICE([m1], 1e999)",
        "CEIL(1e999) + m1",
        "SEARCH('{A,D} x', 'Sum', 1e999)",
        "SORT([m1], SUM, ASC, 1e999)",
        "TIME_SERIES(1e999)",
        "m1 * " + "9" * 400,
        "SLICE([m1], FIRST(endless))",
        "SLICE([m1], LAST(broken))",
    ],
)
def test_what_is_no_number_is_refused(expression: str) -> None:
    with pytest.raises(MathError, match=r"too large|not a number"):
        Request(expression).answer()


@pytest.mark.parametrize("direction", ["ASC", "DESC"])
def test_a_series_with_a_sum_that_no_number_can_hold_is_sorted_last(direction: str) -> None:
    assert [one.label for one in Request(f"SORT([huge, m1], SUM, {direction})").answer()] == ["m1", "huge"]


def test_expressions_that_share_expressions_are_computed_once() -> None:
    shared = ["m1", *("+".join(f"x{before}" for before in range(number)) for number in range(1, 60))]
    request = Request(*shared)
    (series,) = request.answer()
    assert series.values[0] == 2.0**58
    assert request.fetched == ["m1"]


@pytest.mark.parametrize(
    "expression",
    [
        "MAX(m1" + ", 5" * 300 + ")",
        "+".join(["m1"] * 100),
        "TIME_SERIES(" + "+".join(["1"] * 280) + ")",
        "[" + ",".join(["METRICS()"] * 50) + "]",
        "SUM([m1" + ", METRICS('no')" * 130 + "])",
        "+".join([f"SUM({SEARCH})"] * 50),
        "STDDEV([" + ", m1, m2" * 40 + "])",
        "RUNNING_SUM(" * 15 + SEARCH + ")" * 15,
        "LOG(" * 15 + SEARCH + ")" * 15,
        "FILL(" * 15 + SEARCH + ", m2)" * 15,
        "SORT(" * 15 + SEARCH + ", STDDEV, ASC)" * 15,
        f"[{SEARCH}, {SEARCH}, {SEARCH}, {SEARCH}]",
        f"({SEARCH} * m1) ^ 2 + m2 + m2 + m2",
        "IF(" * 30 + "m1" + ", m1, m2)" * 30,
        "MINUTE(m1) + " * 30 + "HOUR(m1)",
    ],
)
def test_work_is_counted_whatever_it_is_over(expression: str) -> None:
    expression = expression.replace("[, ", "[")
    Request(expression, found=60).answer()
    with pytest.raises(MathError, match="too many datapoints"):
        Request(expression, found=60, most=5000).answer()


def test_filling_an_array_counts_the_grid_for_each_series() -> None:
    with pytest.raises(MathError, match="too many datapoints"):
        Request(f"FILL({SEARCH}, 0)", found=40, until=86400, most=500_000).answer()
    assert len(Request(f"FILL({SEARCH}, 0)", found=30, until=86400, most=500_000).answer()) == 30


def test_the_same_search_is_made_once() -> None:
    request = Request(f"SUM({SEARCH}) + SUM({SEARCH})", f"x0 + MAX({SEARCH})")
    request.answer()
    assert len(request.searches) == 1


def test_searches_and_what_they_find_are_bounded() -> None:
    many = [f"SUM(SEARCH('{{A,D}} x{number}','Sum',60))" for number in range(MAX_SEARCHES + 1)]
    pairs = [f"{left} + {right}" for left, right in zip(many[:-1:2], many[1::2], strict=True)]
    all_allowed = "+".join(f"x{number}" for number in range(len(pairs)))
    assert len(Request(*pairs, all_allowed).answer()) == 1
    with pytest.raises(MathError, match="searches"):
        Request(*pairs, f"{all_allowed} + {many[-1]}").answer()
    with pytest.raises(MathError, match=f"at most {MAX_FOUND} time series"):
        Request("+".join(many[:5]), found=MAX_FOUND // 4).answer()


def test_all_expressions_together_have_a_bound() -> None:
    long = "m1 " + " " * 1000 + "+ 1"
    with pytest.raises(MathError, match=f"at most {MAX_TEXT} characters"):
        Request(*[long] * (MAX_TEXT // len(long) + 1))
