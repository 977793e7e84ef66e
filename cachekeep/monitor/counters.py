"""Counters of one engine over minutes: increases that survive restarts, resets and silences. Pure.

An engine counts from its start, and CONFIG RESETSTAT sets it back. So the increase of a minute is put together from
what was seen of each run of the engine in it. A step over a time in which nobody looked belongs to no minute: it is
left out, and the minute has no point.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

# A reading that is older than this when the minute ends says too little about its last seconds.
STALE_S = 3.0

Values = Callable[[], Mapping[str, float]]


class Counters:
    """One node's. Read with `see`, every second; `close` ends a minute."""

    def __init__(self) -> None:
        self._run = ""
        self._base: Mapping[str, float] = {}
        self._last: Values | None = None
        self._last_at = 0.0
        self._carried: dict[str, float] = {}
        self._whole = False
        self._sums: dict[str, float] = {}
        self._told: dict[str, float] = {}

    def see(self, at: float, run: str, up_s: float, values: Values) -> None:
        """run: names the run of the engine. up_s: its age. values: the counters by name, computed only when needed."""
        if run != self._run:
            self._begin(at, run, up_s, values)
        elif self._last is None:
            # Nobody looked for a while: that belongs to no minute, but it was counted.
            now = values()
            self._sum(_increases(self._base, now))
            self._base = now
        self._last, self._last_at = values, at

    def close(self, end: float) -> dict[str, float] | None:
        """Increases within the minute that ends at `end`; None when it was not watched as a whole."""
        if self._last is None:
            return None
        now = self._last()
        fresh = end - self._last_at <= STALE_S
        seen = self._with(now)
        increases = seen if self._whole and fresh else None
        self._sum(seen)
        self._carried = {}
        self._base = now
        self._whole = fresh
        if not fresh:
            self._last = None
        return increases

    def totals(self) -> dict[str, float]:
        """All increases that were seen since the first look, those of minutes that count for nothing too."""
        seen = self._with(self._last()) if self._last is not None else self._carried
        for name in {**self._sums, **seen}:
            # Never less than before, when the engine was reset within the minute: whoever keeps the totals takes a step
            # down for a start from zero.
            total = self._sums.get(name, 0.0) + seen.get(name, 0.0)
            self._told[name] = max(total, self._told.get(name, 0.0))
        return dict(self._told)

    def _begin(self, at: float, run: str, up_s: float, values: Values) -> None:
        """Another run of the engine. One that was started since the last look has counted from zero under our eyes."""
        watched = self._last is not None and self._whole
        if self._last is not None:
            self._carried = self._with(self._last())
        since = at - self._last_at if self._last is not None else 60.0
        born_now = up_s <= since + 2.0
        self._run = run
        self._base = {} if born_now else values()
        # The very first look at a young engine: it has counted nothing before this minute.
        self._whole = born_now and (watched or (self._last is None and up_s <= at % 60.0))

    def _with(self, now: Mapping[str, float]) -> dict[str, float]:
        """Carried over from earlier runs, and the increases since the base. Less than the base: counted anew."""
        sums = dict(self._carried)
        for name, increase in _increases(self._base, now).items():
            sums[name] = sums.get(name, 0.0) + increase
        return sums

    def _sum(self, increases: Mapping[str, float]) -> None:
        for name, increase in increases.items():
            self._sums[name] = self._sums.get(name, 0.0) + increase


def _increases(base: Mapping[str, float], now: Mapping[str, float]) -> dict[str, float]:
    found = {}
    for name, value in now.items():
        before = base.get(name, 0.0)
        found[name] = value - before if value >= before else value
    return found
