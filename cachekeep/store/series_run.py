"""Runs: the points of one metric in order of time, as arrays; joining, cutting, replacing, rolling up. Pure.

Statistic sets merge exactly: counts and totals add up, the least and the most are those of all, buckets add up. Buckets
are made only when somebody looks at them: few do.
"""

from __future__ import annotations

from array import array
from bisect import bisect_left
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain, compress
from operator import lt

from cachekeep.domain.metrics import Buckets, Column

# Where a point's buckets are: a sequence of buckets, and the place in it.
Place = tuple[Sequence[Buckets], int]


@dataclass(slots=True)
class Run:
    """Sequences of one length. Two fields may be one object; none is changed once it is here. buckets: by start, the
    places of those that add up to the point's."""

    starts: Sequence[int]
    count: array[float]
    total: array[float]
    least: array[float]
    most: array[float]
    buckets: dict[int, tuple[Place, ...]] = field(default_factory=dict)


class Histograms(Mapping[int, Buckets]):
    """Buckets by start, added up at the time of asking."""

    def __init__(self, places: Mapping[int, tuple[Place, ...]]) -> None:
        self._places = places

    def __getitem__(self, start: int) -> Buckets:
        found = [source[i] for source, i in self._places[start]]
        if len(found) == 1:
            return found[0]
        sums: dict[float, float] = {}
        for bound, count in chain.from_iterable(found):
            sums[bound] = sums.get(bound, 0.0) + count
        return tuple(sorted(sums.items()))

    def __iter__(self) -> Iterator[int]:
        return iter(self._places)

    def __len__(self) -> int:
        return len(self._places)


class Calendar:
    """Starts, cut, joined and rolled once for the many metrics of one read that share them."""

    def __init__(self) -> None:
        # By identity, hence what they were made of is kept with them.
        self._joined: dict[tuple[int, ...], tuple[Sequence[Sequence[int]], list[int]]] = {}
        self._cut: dict[tuple[int, int, int], tuple[Sequence[int], Sequence[int]]] = {}
        self._ordered: dict[int, tuple[Sequence[int], bool]] = {}
        self._periods: dict[tuple[int, int], tuple[Sequence[int], list[int], list[tuple[int, int]], int]] = {}

    def join(self, parts: Sequence[Sequence[int]]) -> list[int]:
        key = tuple(map(id, parts))
        found = self._joined.get(key)
        if found is None:
            found = self._joined[key] = (parts, list(chain.from_iterable(parts)))
        return found[1]

    def cut(self, starts: Sequence[int], first: int, last: int) -> Sequence[int]:
        key = (id(starts), first, last)
        found = self._cut.get(key)
        if found is None:
            found = self._cut[key] = (starts, starts[first:last])
        return found[1]

    def in_order(self, starts: Sequence[int]) -> bool:
        """Each is greater than the one before it."""
        found = self._ordered.get(id(starts))
        if found is None:
            found = self._ordered[id(starts)] = (starts, all(map(lt, starts, starts[1:])))
        return found[1]

    def periods(self, starts: Sequence[int], period: int) -> tuple[list[int], list[tuple[int, int]], int]:
        """The periods that have points, from which to which point, and how many all but the first and the last have;
        0 where they differ."""
        key = (id(starts), period)
        found = self._periods.get(key)
        if found is None:
            begins = [start - start % period for start in starts]
            edges = [i for i, begin in enumerate(begins) if not i or begin != begins[i - 1]]
            pairs = list(zip(edges, [*edges[1:], len(begins)], strict=True))
            lengths = {b - a for a, b in pairs[1:-1]}
            width = lengths.pop() if len(lengths) == 1 else 0
            found = self._periods[key] = (starts, [begins[i] for i in edges], pairs, width)
        return found[1], found[2], found[3]


def joined(runs: Sequence[Run], calendar: Calendar) -> Run:
    """One after the other, in that order. runs: at least one."""
    if len(runs) == 1:
        return runs[0]
    least = _chained([run.least for run in runs])
    most = least if all(run.most is run.least for run in runs) else _chained([run.most for run in runs])
    total = least if all(run.total is run.least for run in runs) else _chained([run.total for run in runs])
    buckets: dict[int, tuple[Place, ...]] = {}
    for run in runs:
        for start, places in run.buckets.items():
            buckets[start] = buckets.get(start, ()) + places
    starts = calendar.join([run.starts for run in runs])
    return Run(starts, _chained([run.count for run in runs]), total, least, most, buckets)


def _chained(arrays: Sequence[array[float]]) -> array[float]:
    found = arrays[0][:]
    for more in arrays[1:]:
        found += more
    return found


def cut(run: Run, start: int, end: int, calendar: Calendar) -> Run:
    """The points of start <= their start < end."""
    first, last = bisect_left(run.starts, start), bisect_left(run.starts, end)
    if (first, last) == (0, len(run.starts)):
        return run
    part = slice(first, last)
    least = run.least[part]
    total = least if run.total is run.least else run.total[part]
    most = least if run.most is run.least else run.most[part]
    buckets = {at: places for at, places in run.buckets.items() if start <= at < end}
    return Run(calendar.cut(run.starts, first, last), run.count[part], total, least, most, buckets)


def replaced(run: Run, fresh: Run | None, starts: Collection[int], calendar: Calendar) -> Run:
    """run with what fresh says of these starts; where it says nothing, there is nothing any more."""
    keep = [start not in starts for start in run.starts]
    if not all(keep):
        run = Run(
            list(compress(run.starts, keep)),
            array("d", compress(run.count, keep)),
            array("d", compress(run.total, keep)),
            array("d", compress(run.least, keep)),
            array("d", compress(run.most, keep)),
            {start: places for start, places in run.buckets.items() if start not in starts},
        )
    return run if fresh is None else in_order(joined([run, fresh], calendar), calendar)


def in_order(run: Run, calendar: Calendar) -> Run:
    """The points sorted by start; of points with one start, the earlier given stay first."""
    if calendar.in_order(run.starts):
        return run
    order = sorted(range(len(run.starts)), key=run.starts.__getitem__)
    return Run(
        [run.starts[i] for i in order],
        array("d", [run.count[i] for i in order]),
        array("d", [run.total[i] for i in order]),
        array("d", [run.least[i] for i in order]),
        array("d", [run.most[i] for i in order]),
        {start: run.buckets[start] for start in sorted(run.buckets)},
    )


def rolled(run: Run, period: int, calendar: Calendar) -> Run:
    """Merged to periods of `period` seconds that begin at multiples of it. Points are in order."""
    begins, pairs, width = calendar.periods(run.starts, period)
    buckets: dict[int, tuple[Place, ...]] = {}
    for start, places in run.buckets.items():
        begin = start - start % period
        buckets[begin] = buckets.get(begin, ()) + places
    if len(pairs) == len(run.starts):
        return Run(begins, run.count, run.total, run.least, run.most, buckets)
    single = run.total is run.least is run.most
    total = run.total.tolist()
    least, most = (total, total) if single else (run.least.tolist(), run.most.tolist())
    return Run(
        begins,
        _merged(sum, run.count.tolist(), pairs, width),
        _merged(sum, total, pairs, width),
        _merged(min, least, pairs, width),
        _merged(max, most, pairs, width),
        buckets,
    )


def _merged(
    merge: Callable[[Sequence[float]], float], numbers: list[float], pairs: Sequence[tuple[int, int]], width: int
) -> array[float]:
    first = numbers[0]
    if merge is not sum and numbers.count(first) == len(numbers):
        return array("d", [first]) * len(pairs)
    if not width:
        return array("d", [merge(numbers[a:b]) for a, b in pairs])
    # Without a slice for each.
    begin, end = pairs[0][1], pairs[-1][0]
    whole = map(merge, zip(*[iter(numbers[begin:end])] * width, strict=True))
    return array("d", [merge(numbers[:begin]), *whole, merge(numbers[end:])])


def column_of(run: Run) -> Column:
    lists: dict[int, list[float]] = {}
    for numbers in (run.count, run.total, run.least, run.most):
        if id(numbers) not in lists:
            lists[id(numbers)] = numbers.tolist()
    count, total, least, most = (lists[id(n)] for n in (run.count, run.total, run.least, run.most))
    starts = run.starts if isinstance(run.starts, list) else list(run.starts)
    return Column(starts, count, total, least, most, Histograms(run.buckets) if run.buckets else {})
