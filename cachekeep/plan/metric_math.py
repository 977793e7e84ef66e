"""Metric math: the queries of one GetMetricData, or of an alarm, computed over the series that a caller fetches. Pure.

Called by api.cloudwatch: for GetMetricData, and for the values of alarms. What is computed is bounded: by the text of
expressions, by the number of series and of searches, and by the work of all operations together.
Source: CloudWatch guide "Using math expressions with CloudWatch metrics".
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from cachekeep.domain.alarms import MetricQuery
from cachekeep.plan import metric_functions as functions
from cachekeep.plan.metric_functions import Series, Value, Window
from cachekeep.plan.metric_math_check import check_queries
from cachekeep.plan.metric_math_parse import Function, MathError, Name, Number, Operator, Several, Text, Tree
from cachekeep.plan.metric_math_work import MAX_WORK, Work

__all__ = ["Book", "MathError", "Search", "Series", "Window", "check_queries", "parse_search"]

MAX_SERIES: Final = 500
# Each goes through all series that there are. AWS allows as many for a graph.
MAX_SEARCHES: Final = 100
# By all searches of a request: each is read.
MAX_FOUND: Final = 2000
_SEARCH = re.compile(r"\s*\{(?P<schema>[^{}]*)\}(?P<terms>[^{}]*)\Z")
_TERM = re.compile(r"\s*(?:(?P<key>[A-Za-z]+)\s*=\s*)?(?:\"(?P<exact>[^\"]*)\"|(?P<word>[^\s\"=()]+))(?:\s+AND\b)?")


@dataclass(frozen=True)
class Search:
    """SEARCH('{Namespace,Dimension} key="value" word', 'Statistic', period).

    exact: MetricName or the name of a dimension, and the value it must have; words: parts that some value must have.
    """

    namespace: str
    dimensions: frozenset[str]
    exact: tuple[tuple[str, str], ...]
    words: tuple[str, ...]
    statistic: str
    period: int


Fetch = Callable[[MetricQuery], Series]
Find = Callable[[Search], Sequence[Series]]


class Book:
    """The queries of one request, each fetched or computed once, and only when it is asked for.

    most: units of work, see plan.metric_math_work.

    Raises MathError for queries that `check_queries` refuses, and where an expression cannot be computed.
    """

    def __init__(
        self, queries: Sequence[MetricQuery], window: Window, fetch: Fetch, find: Find, most: int = MAX_WORK
    ) -> None:
        self._expressions = check_queries(queries)
        self._queries = {query.id: query for query in queries}
        self._metric_ids = [query.id for query in queries if not query.expression]
        self._window = window
        self._fetch = fetch
        self._find = find
        self._known: dict[str, Value] = {}
        self._found: dict[Search, tuple[Series, ...]] = {}
        self._work = Work(most)

    def series(self, name: str) -> tuple[Series, ...]:
        """The one or more series of a query."""
        wanted = self._wanted(name)
        for needed in self._expressions if wanted else ():
            if needed in wanted:
                self._value_of(needed)
        value = self._value_of(name)
        if isinstance(value, Series):
            return (value,)
        if isinstance(value, tuple):
            return value
        raise MathError(f"Error in expression {name!r} [The expression must return a time series, not a number]")

    def _wanted(self, name: str) -> set[str]:
        """The query, what it needs, what those need, and so on, apart from what is known. Not by recursion: a chain of
        500 expressions is allowed."""
        wanted: set[str] = set()
        waiting = [name] if name in self._expressions else []
        while waiting:
            one = waiting.pop()
            if one not in wanted and one not in self._known:
                wanted.add(one)
                waiting += self._expressions[one].needs
        return wanted

    def _value_of(self, name: str) -> Value:
        known = self._known.get(name)
        if known is None:
            try:
                expression = self._expressions.get(name)
                known = self._evaluate(expression.tree) if expression else self._fetch(self._queries[name])
            except (MathError, ArithmeticError) as error:
                text = str(error) if isinstance(error, MathError) else "The result is too large"
                if not text.startswith("Error in expression"):
                    text = f"Error in expression {name!r} [{text}]"
                raise MathError(text) from None
            self._known[name] = known
        return known

    def _metrics(self, part: str = "") -> tuple[Series, ...]:
        """METRICS(): the metrics of the request, not its expressions; METRICS("x"): those with x in their id."""
        picked = [self._value_of(name) for name in self._metric_ids if part in name]
        found = self._bounded([series for series in picked if isinstance(series, Series)])
        self._work.listed(found, len(self._metric_ids))
        return found

    def _evaluate(self, tree: Tree) -> Value:
        self._work.step()
        match tree:
            case Number(value):
                return value
            case Name(value):
                if value not in self._queries:
                    raise MathError(f"Undefined variable: {value[:60]}")
                return self._value_of(value)
            case Operator(sign, left, right):
                a, b = self._evaluate(left), self._evaluate(right)
                self._work.combined(sign, a, b)
                return functions.combine(sign, a, b)
            case Several(items):
                return self._array(items)
            case Function(name, arguments):
                return self._call(name, arguments)
            case Text():
                raise MathError("A text stands where a value should be")

    def _array(self, items: Sequence[Tree]) -> tuple[Series, ...]:
        found: list[Series] = []
        for item in items:
            value = self._evaluate(item)
            if isinstance(value, float):
                raise MathError("An array can hold time series only")
            found += value if isinstance(value, tuple) else (value,)
            self._work.listed(value)
        return self._bounded(found)

    def _bounded(self, found: Sequence[Series]) -> tuple[Series, ...]:
        if len(found) > MAX_SERIES:
            raise MathError(f"More than {MAX_SERIES} time series")
        return tuple(found)

    def _call(self, name: str, arguments: tuple[Tree, ...]) -> Value:
        match name, arguments:
            case "METRICS", ():
                return self._metrics()
            case "METRICS", (Text(part),):
                return self._metrics(part)
            case "SEARCH", _:
                return self._search(arguments)
            case "FILL", (of, Name(word)) if word.upper() in ("REPEAT", "LINEAR"):
                return self._fill(self._evaluate(of), word.upper())
            case "SORT", (of, Name(by), Name(direction), *rest):
                return self._sort(of, by, direction, rest)
        values = [self._evaluate(argument) for argument in arguments]
        if name in functions.FOLDS and len(values) > 1:
            return self._fold_numbers(name, values)
        self._work.applied(name, *values)
        return self._apply(name, values)

    def _apply(self, name: str, values: Sequence[Value]) -> Value:
        match name, values:
            case "METRIC_COUNT", [tuple() as array]:
                return float(len(array))
            case "IF", [condition, yes, *rest] if len(rest) < 2:
                return self._if(condition, yes, rest[0] if rest else None)
            case "FILL", [of, (float() | Series()) as filler]:
                return self._fill(of, filler)
            case "TIME_SERIES", [float() as number]:
                self._work.filled(number, len(self._window.grid(self._period())))
                return functions.constant(number, self._window, self._period())
            case (("FIRST" | "LAST"), [tuple() as array]) if array:
                chosen: Series = array[0 if name == "FIRST" else -1]
                return chosen
            case (("FIRST" | "LAST"), [Series(values=points)]) if points:
                return functions.finite(points[0 if name == "FIRST" else -1])
            case "PERIOD", [Series(period=period)]:
                return float(period)
            case "REMOVE_EMPTY", [tuple() as array]:
                return tuple(series for series in array if series.values)
            case "SLICE", [tuple() as array, float() as first, *rest]:
                last = int(rest[0]) if rest and isinstance(rest[0], float) else len(array)
                return array[int(first) : last]
            case _, [float() as number] if name in functions.EACH:
                return functions.number_of(name, number)
            case _, [(Series() | tuple()) as of]:
                return self._apply_to_series(name, of)
        raise MathError(f"Unsupported arguments of {name[:40]}, or no such function")

    def _apply_to_series(self, name: str, of: Series | tuple[Series, ...]) -> Value:
        if name in functions.FOLDS:
            return functions.fold(name, of)
        if name in functions.EACH:
            return _over(of, lambda series: functions.each(name, series))
        if name in ("DIFF", "RATE", "DIFF_TIME"):
            return _over(of, lambda series: functions.differences(name, series))
        if name == "RUNNING_SUM":
            return _over(of, functions.running_sum)
        if name in functions.TIME_PARTS:
            return _over(of, lambda series: functions.time_part(name, series))
        raise MathError(f"Unsupported arguments of {name[:40]}, or no such function")

    def _fold_numbers(self, name: str, values: Sequence[Value]) -> Value:
        """MAX(m1, 5) and the like: series and numbers side by side, at the times of the series."""
        if any(isinstance(value, tuple) for value in values):
            raise MathError(f"{name} takes one array of time series, or several time series and numbers")
        series = [value for value in values if isinstance(value, Series)]
        if not series:
            return functions.number_of_all(name, [value for value in values if isinstance(value, float)])
        starts = series[0].starts
        self._work.folded(name, series, len(values) - len(series))
        constants = [Series("", 1, starts, [value] * len(starts)) for value in values if isinstance(value, float)]
        return functions.fold(name, (*series, *constants))

    def _if(self, condition: Value, yes: Value, no: Value | None) -> Value:
        if isinstance(condition, tuple) or isinstance(yes, tuple) or isinstance(no, tuple):
            raise MathError("IF takes time series and numbers, not arrays")
        if no is None:
            no = Series("", 60, (), ())
        return functions.choose(condition, yes, no)

    def _fill(self, of: Value, filler: float | str | Series) -> Value:
        for series in of if isinstance(of, tuple) else (of,):
            if isinstance(series, Series):
                other = len(filler.starts) if isinstance(filler, Series) else 0
                self._work.filled(series, len(self._window.grid(series.period)) + other)
        return _over(of, lambda series: functions.fill(series, filler, self._window))

    def _sort(self, of: Tree, by: str, direction: str, rest: Sequence[Tree]) -> Value:
        value = self._evaluate(of)
        self._work.applied("SORT", value)
        most = int(rest[0].value) if rest and isinstance(rest[0], Number) else None
        if not isinstance(value, tuple) or direction.upper() not in ("ASC", "DESC"):
            raise MathError("SORT takes an array, a function and ASC or DESC")
        return functions.ordered(value, by.upper(), direction.upper() == "DESC", most)

    def _period(self) -> int:
        """Of series that are made of a number: the longest of those that the request asks for."""
        return max((query.period or 60 for query in self._queries.values()), default=60)

    def _search(self, arguments: tuple[Tree, ...]) -> Value:
        match arguments:
            case (Text(text), Text(statistic), *rest):
                period = rest[0].value if rest and isinstance(rest[0], Number) else self._period()
                search = parse_search(text, statistic, int(period))
                if search not in self._found:
                    self._found[search] = self._searched(search)
                self._work.listed(self._found[search], len(text))
                return self._found[search]
        raise MathError("SEARCH takes a search text, a statistic and a period")

    def _searched(self, search: Search) -> tuple[Series, ...]:
        if len(self._found) >= MAX_SEARCHES:
            raise MathError(f"A request can have at most {MAX_SEARCHES} searches")
        found = self._bounded(self._find(search))
        if len(found) + sum(map(len, self._found.values())) > MAX_FOUND:
            raise MathError(f"The searches of a request can find at most {MAX_FOUND} time series together")
        return found


def _over(of: Value, apply: Callable[[Series], Series]) -> Value:
    if isinstance(of, Series):
        return apply(of)
    if isinstance(of, tuple):
        return tuple(apply(series) for series in of)
    raise MathError("A number stands where a time series should be")


def parse_search(text: str, statistic: str, period: int) -> Search:
    """Raises MathError for anything but a schema in braces, and terms that are joined by a space or AND."""
    found = _SEARCH.match(text)
    if not found:
        raise MathError("SEARCH needs a schema, such as '{AWS/ElastiCache,CacheClusterId} MetricName=\"CurrItems\"'")
    namespace, *dimensions = [part.strip().strip('"') for part in found["schema"].split(",")]
    exact, words, at, terms = [], [], 0, found["terms"].rstrip()
    while at < len(terms):
        term = _TERM.match(terms, at)
        if not term or term["word"] in ("OR", "NOT"):
            raise MathError("SEARCH here knows terms joined by a space or AND, without OR, NOT and parentheses")
        value = term["exact"] if term["exact"] is not None else term["word"]
        if term["key"]:
            exact.append((term["key"], value))
        else:
            words.append(value)
        at = term.end()
    if period < 1:
        raise MathError("The period of SEARCH must be at least 1 second")
    return Search(namespace, frozenset(dimensions), tuple(exact), tuple(words), statistic, period)
