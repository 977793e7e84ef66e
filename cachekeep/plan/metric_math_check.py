"""The expressions of one request -> trees in the order to compute them in, each read once. Pure.

Called by plan.metric_math, and by api.cloudwatch for what is only kept (PutMetricAlarm).
Source: CloudWatch API reference, MetricDataQuery (Id, Expression).
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from graphlib import CycleError, TopologicalSorter
from typing import Final

from cachekeep.domain.alarms import MetricQuery
from cachekeep.plan.metric_math_parse import MathError, Tree, names, parse

# Of all expressions of a request together: reading them takes some 2 microseconds a character.
MAX_TEXT: Final = 200_000
_ID = re.compile(r"[a-z][A-Za-z0-9_]*")


@dataclass(frozen=True)
class Expression:
    """needs: the other expressions of the request that it names."""

    tree: Tree
    needs: frozenset[str]


def check_queries(queries: Sequence[MetricQuery]) -> Mapping[str, Expression]:
    """Each query that is an expression, by its id; those that others need come before them.

    Raises MathError for an id that is not allowed or comes twice, an expression that cannot be read, names what is not
    there, or leads back to itself, and for more text than one request may have.
    """
    ids = frozenset(query.id for query in queries)
    _check_ids(queries, ids)
    if sum(len(query.expression) for query in queries) > MAX_TEXT:
        raise MathError(f"The expressions of a request can have at most {MAX_TEXT} characters together")
    of_expressions = frozenset(query.id for query in queries if query.expression)
    found = {query.id: _expression(query, ids, of_expressions) for query in queries if query.expression}
    try:
        order = [*TopologicalSorter({name: one.needs for name, one in found.items()}).static_order()]
    except CycleError as error:
        raise MathError(f"The expression of {min(error.args[1])[:60]!r} leads back to itself") from None
    return {name: found[name] for name in order}


def _check_ids(queries: Sequence[MetricQuery], ids: frozenset[str]) -> None:
    for query in queries:
        if not _ID.fullmatch(query.id):
            raise MathError(
                f"The value {query.id[:60]!r} for parameter Id is not matching the expected pattern: it must begin with"
                " a lowercase letter, and have letters, digits and underscores only"
            )
    if len(ids) < len(queries):
        twice = min(name for name, times in Counter(query.id for query in queries).items() if times > 1)
        raise MathError(f"The values for parameter Id must be unique: {twice[:60]!r} is not")


def _expression(query: MetricQuery, ids: frozenset[str], of_expressions: frozenset[str]) -> Expression:
    try:
        tree = parse(query.expression)
    except MathError as error:
        raise MathError(f"Error in expression {query.id!r} [{error}]") from None
    named = names(tree)
    unknown = sorted(name for name in named - ids if _ID.fullmatch(name))
    if unknown:
        raise MathError(f"Error in expression {query.id!r} [Undefined variable: {unknown[0][:60]}]")
    return Expression(tree, named & of_expressions)
