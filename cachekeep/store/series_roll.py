"""Joining, cutting and rolling up columns of points. Pure.

Statistic sets merge exactly: counts and totals add up, the least and the most are those of all, buckets add up.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Collection, Iterable, Sequence
from itertools import chain, compress
from operator import add

from cachekeep.domain.metrics import Buckets, Column

EMPTY = Column((), (), (), (), (), {})


def joined(columns: Sequence[Column]) -> Column:
    """One after the other: each begins after the one before it has ended."""
    if len(columns) == 1:
        return columns[0]
    return Column(
        list(chain.from_iterable(c.starts for c in columns)),
        list(chain.from_iterable(c.count for c in columns)),
        list(chain.from_iterable(c.total for c in columns)),
        list(chain.from_iterable(c.least for c in columns)),
        list(chain.from_iterable(c.most for c in columns)),
        {start: found for c in columns for start, found in c.buckets.items()},
    )


def cut(column: Column, start: int, end: int) -> Column:
    """The points of start <= their start < end."""
    first, last = bisect_left(column.starts, start), bisect_left(column.starts, end)
    if (first, last) == (0, len(column)):
        return column
    part = slice(first, last)
    buckets = {at: found for at, found in column.buckets.items() if start <= at < end}
    return Column(
        column.starts[part], column.count[part], column.total[part], column.least[part], column.most[part], buckets
    )


def without(column: Column, starts: Collection[int]) -> Column:
    """What is left when the points at these starts are taken out."""
    keep = [start not in starts for start in column.starts]
    if all(keep):
        return column
    return Column(
        list(compress(column.starts, keep)),
        list(compress(column.count, keep)),
        list(compress(column.total, keep)),
        list(compress(column.least, keep)),
        list(compress(column.most, keep)),
        {at: found for at, found in column.buckets.items() if at not in starts},
    )


def in_order(column: Column) -> Column:
    """The points sorted by start."""
    order = sorted(range(len(column)), key=column.starts.__getitem__)
    return Column(
        [column.starts[i] for i in order],
        [column.count[i] for i in order],
        [column.total[i] for i in order],
        [column.least[i] for i in order],
        [column.most[i] for i in order],
        column.buckets,
    )


def rolled(column: Column, period: int) -> Column:
    """Merged to periods of `period` seconds that begin at multiples of it. Points of one period stand together."""
    begins = [start - start % period for start in column.starts]
    edges = [i for i, (one, before) in enumerate(zip(begins, [None, *begins], strict=False)) if one != before]
    if len(edges) == len(begins):
        return Column(begins, column.count, column.total, column.least, column.most, _rolled_buckets(column, period))
    parts = [slice(a, b) for a, b in zip(edges, [*edges[1:], len(begins)], strict=True)]
    return Column(
        [begins[i] for i in edges],
        _each(sum, column.count, parts),
        _each(sum, column.total, parts),
        _extremes(min, column.least, parts),
        _extremes(max, column.most, parts),
        _rolled_buckets(column, period),
    )


def _each(merge: Callable[[Sequence[float]], float], numbers: Sequence[float], parts: Sequence[slice]) -> list[float]:
    return [merge(numbers[part]) for part in parts]


def _extremes(
    merge: Callable[[Sequence[float]], float], numbers: Sequence[float], parts: Sequence[slice]
) -> Sequence[float]:
    if list(numbers).count(numbers[0]) == len(numbers):
        return [numbers[0]] * len(parts)
    return _each(merge, numbers, parts)


def _rolled_buckets(column: Column, period: int) -> dict[int, Buckets]:
    groups: dict[int, list[Buckets]] = {}
    for start, found in column.buckets.items():
        groups.setdefault(start - start % period, []).append(found)
    return {start: found[0] if len(found) == 1 else _summed(found) for start, found in groups.items()}


def _summed(histograms: Iterable[Buckets]) -> Buckets:
    counts: dict[float, float] = {}
    for bound, count in chain.from_iterable(histograms):
        counts[bound] = add(counts.get(bound, 0.0), count)
    return tuple(sorted(counts.items()))
