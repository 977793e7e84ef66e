"""GetMetricData: up to 500 metrics and expressions, page by page. Runs in a thread: reads series and nothing else.

A page ends after 100,800 datapoints; what comes after it is read with the next page only. The token of a page names the
place to go on at, and the request that it belongs to.
"""

from __future__ import annotations

import hashlib
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from typing import Any, Final

from cachekeep.api import paging
from cachekeep.api.cloudwatch.call import CloudWatchCall, Result, bad_token, validation_error
from cachekeep.api.cloudwatch.list_metrics import all_series
from cachekeep.api.cloudwatch.select import (
    LONGEST_KEPT_S,
    STATISTICS,
    Columns,
    check_period,
    check_statistic,
    percentile_of,
    rounded,
)
from cachekeep.api.cloudwatch.statistics import dimensions_of, times_of
from cachekeep.domain.alarms import Dimensions, MetricQuery
from cachekeep.plan.metric_functions import summary
from cachekeep.plan.metric_math import MAX_SERIES, Book, MathError, Search, Series, Window

MAX_QUERIES: Final = 500
MAX_DATAPOINTS: Final = 100_800
# What one request may hold in memory, wherever its points come from.
MAX_READ: Final = 3_000_000
_PROPERTY = re.compile(r"\$\{(?:PROP\('([^']{1,300})'\)|([A-Z_]{1,20}))\}")


def get_metric_data(call: CloudWatchCall) -> Result:
    queries = queries_of(call.params["MetricDataQueries"])
    if not queries:
        raise validation_error("The parameter MetricDataQueries must have at least one element.")
    start, end = times_of(call)
    most = call.params.get("MaxDatapoints", MAX_DATAPOINTS)
    if not 1 <= most <= MAX_DATAPOINTS:
        raise validation_error(f"The parameter MaxDatapoints must be between 1 and {MAX_DATAPOINTS}.")
    mark = _mark(call.params)
    place = _read_token(call.text("NextToken"), mark)
    try:
        pages = _Pages(Answering(call, queries, start, end), place, most)
        results = pages.fill(call.params.get("ScanBy") != "TimestampAscending")
    except MathError as error:
        raise validation_error(f"{error}.") from None
    token = None if pages.next is None else _write_token(pages.next, mark)
    return {"MetricDataResults": results, "NextToken": token, "Messages": []}


def queries_of(given: Sequence[Mapping[str, Any]]) -> tuple[MetricQuery, ...]:
    """Raises ValidationError for too many, and for what no query can be."""
    if len(given) > MAX_QUERIES:
        raise validation_error(
            f"The collection MetricDataQueries must not have a size greater than {MAX_QUERIES}; it has {len(given)}."
        )
    return tuple(_query(one) for one in given)


def _query(given: Mapping[str, Any]) -> MetricQuery:
    name, stat, expression = given["Id"], given.get("MetricStat"), given.get("Expression")
    if (stat is None) == (expression is None):
        raise validation_error(
            f"Exactly one of the parameters MetricStat and Expression must be given for {name[:60]!r}."
        )
    wanted = given.get("Period")
    label, shown = given.get("Label"), given.get("ReturnData", True)
    if stat is None:
        period = None if wanted is None else check_period(wanted)
        return MetricQuery(name, expression=str(expression), period=period, label=label, return_data=shown)
    metric, statistic = stat["Metric"], stat["Stat"]
    if "Namespace" not in metric or "MetricName" not in metric:
        raise validation_error(f"The parameters Namespace and MetricName are required for {name[:60]!r}.")
    check_statistic(statistic)
    return MetricQuery(
        name,
        namespace=metric["Namespace"],
        metric=metric["MetricName"],
        dimensions=dimensions_of(metric.get("Dimensions")),
        statistic=statistic,
        period=check_period(stat["Period"]),
        unit=stat.get("Unit"),
        label=label,
        return_data=shown,
    )


class Answering:
    """Fetches for one request, and counts what it fetches."""

    def __init__(self, call: CloudWatchCall, queries: tuple[MetricQuery, ...], start: float, end: float) -> None:
        self._call = call
        self.queries = [query for query in queries if query.return_data]
        services = call.services
        self._columns = Columns(services, call.region, start, end, {q.metric for q in queries if q.metric})
        now = services.now()
        # Nothing is filled where nothing can be: a request over 50 years is not worth a grid of 50 years.
        window = Window(rounded(start, now, 60), min(int(end), int(now) + 60))
        self.book = Book(queries, window, self._fetch, self._find)
        self._left = MAX_READ
        self._plain = _distinct_labels([query for query in queries if query.metric])
        self._by_id = {query.id: query for query in queries}

    def _fetch(self, query: MetricQuery) -> Series:
        assert query.period is not None  # noqa: S101 - _query's rule for metrics
        return self._series(
            query.namespace, query.metric, query.dimensions, query.statistic, query.period, query.unit, query.metric
        )

    def _series(
        self, space: str, name: str, dimensions: Dimensions, statistic: str, period: int, unit: str | None, label: str
    ) -> Series:
        starts, values = self._columns.values(space, name, dimensions, statistic, period, unit)
        self._left -= len(starts)
        if self._left < 0:
            raise validation_error(
                f"The request reads more than {MAX_READ} datapoints. Ask for fewer metrics, or less time."
            )
        return Series(label, period, starts, values)

    def _find(self, search: Search) -> Sequence[Series]:
        if search.statistic not in STATISTICS and percentile_of(search.statistic) is None:
            raise MathError(f"SEARCH knows no statistic {search.statistic[:60]!r}")
        period = check_period(search.period)
        found = []
        for dimensions, namespace, name in self._all_series:
            if _matches(search, namespace, name, dimensions):
                label = " ".join([*(value for _, value in dimensions), name])
                found.append(self._series(namespace, name, dimensions, search.statistic, period, None, label))
                if len(found) > MAX_SERIES:
                    raise MathError(f"SEARCH found more than {MAX_SERIES} time series")
        return found

    @cached_property
    def _all_series(self) -> list[tuple[Dimensions, str, str]]:
        since = int(self._call.services.now()) - LONGEST_KEPT_S
        return sorted(all_series(self._call.services, self._call.region, since))

    def label(self, query: MetricQuery, series: Series, *, several: bool) -> str:
        plain = series.label if several else self._plain.get(query.id, query.id)
        if query.label is None:
            return plain
        # Each property once: a label may say ${AVG} hundreds of times.
        parts = {part[0]: part for part in _PROPERTY.finditer(query.label)}
        texts = {text: self._property(query, series, plain, part) for text, part in parts.items()}
        return _PROPERTY.sub(lambda part: texts[part[0]], query.label)

    def _property(self, query: MetricQuery, series: Series, plain: str, part: re.Match[str]) -> str:
        values = series.values
        match part[2]:
            case "LABEL":
                return plain
            case "DATAPOINT_COUNT":
                return str(len(values))
            case "FIRST" if values:
                return f"{values[0]:g}"
            case "LAST" if values:
                return f"{values[-1]:g}"
            case ("AVG" | "MIN" | "MAX" | "SUM") as name if values:
                found = summary(name, values)
                return f"{found:g}" if math.isfinite(found) else "--"
        of_query = {
            "AccountId": self._call.services.account_id,
            "Region": self._call.region,
            "Namespace": query.namespace,
            "MetricName": query.metric,
            "Stat": query.statistic,
            "Period": str(series.period),
            **{f"Dim.{name}": value for name, value in query.dimensions},
        }
        return of_query.get(part[1] or "", "--" if part[2] else part[0])


def _distinct_labels(queries: Sequence[MetricQuery]) -> dict[str, str]:
    """The name of the metric, and of its dimensions' values and statistic what tells it from the others."""
    many_dimensions = len({query.dimensions for query in queries}) > 1
    many_statistics = len({query.statistic for query in queries}) > 1
    labels = {}
    for query in queries:
        values = [value for _, value in query.dimensions] if many_dimensions else []
        labels[query.id] = " ".join([*values, query.metric, *([query.statistic] if many_statistics else [])])
    return labels


def _matches(search: Search, namespace: str, name: str, dimensions: Dimensions) -> bool:
    if search.namespace != namespace or search.dimensions != {key for key, _ in dimensions}:
        return False
    known = {**dict(dimensions), "MetricName": name, "Namespace": namespace}
    if any(known.get(key) != value for key, value in search.exact):
        return False
    return all(any(word.lower() in value.lower() for value in known.values()) for word in search.words)


class _Pages:
    """Fills one page. A place is (query, series within the query, points of it that earlier pages have shown)."""

    def __init__(self, answering: Answering, place: tuple[int, int, int], most: int) -> None:
        self._answering = answering
        self._place = place
        self._left = most
        self.next: tuple[int, int, int] | None = None

    def fill(self, descending: bool) -> list[dict[str, object]]:
        return list(self._results(descending))

    def _results(self, descending: bool) -> Iterator[dict[str, object]]:
        first, first_series, shown = self._place
        queries = self._answering.queries
        for number in range(first, len(queries)):
            query = queries[number]
            found = self._answering.book.series(query.id)
            for index in range(first_series, len(found)):
                if not self._left:
                    self.next = (number, index, 0)
                    return
                series = found[index]
                label = self._answering.label(query, series, several=len(found) > 1)
                yield self._result(query.id, label, series, shown, descending)
                if shown + self._left < len(series.starts):
                    self.next = (number, index, shown + self._left)
                    return
                self._left -= len(series.starts) - shown
                shown = 0
            first_series = 0

    def _result(self, name: str, label: str, series: Series, shown: int, descending: bool) -> dict[str, object]:
        times, values = list(series.starts), list(series.values)
        if descending:
            times.reverse()
            values.reverse()
        until = shown + self._left
        return {
            "Id": name,
            "Label": label,
            "Timestamps": times[shown:until],
            "Values": values[shown:until],
            "StatusCode": "PartialData" if until < len(times) else "Complete",
        }


def _mark(params: Mapping[str, Any]) -> str:
    """Tells one request from another, apart from its page."""
    text = repr(sorted((name, value) for name, value in params.items() if name not in ("NextToken", "MaxDatapoints")))
    return hashlib.sha256(text.encode("utf-8", "replace")).hexdigest()[:16]


def _write_token(place: tuple[int, int, int], mark: str) -> str:
    return paging.written(":".join([mark, *map(str, place)]))


def _read_token(token: str | None, mark: str) -> tuple[int, int, int]:
    """Raises InvalidNextToken for a token that was not given for this request."""
    if not token:
        return (0, 0, 0)
    try:
        text = paging.read(token)
    except ValueError:
        raise bad_token() from None
    of, *numbers = text.split(":")
    if of != mark or len(numbers) != 3 or not all(n.isascii() and n.isdecimal() and len(n) < 9 for n in numbers):
        raise bad_token()
    return int(numbers[0]), int(numbers[1]), int(numbers[2])
