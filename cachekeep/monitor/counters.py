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

    def see(self, at: float, run: str, up_s: float, values: Values) -> None:
        """run: names the run of the engine. up_s: its age. values: the counters by name, computed only when needed."""
        if run != self._run:
            self._begin(at, run, up_s, values)
        elif self._last is None:
            self._base = values()
        self._last, self._last_at = values, at

    def close(self, end: float) -> dict[str, float] | None:
        """Increases within the minute that ends at `end`; None when it was not watched as a whole."""
        if self._last is None:
            return None
        now = self._last()
        fresh = end - self._last_at <= STALE_S
        increases = self._with(now) if self._whole and fresh else None
        self._carried = {}
        self._base = now
        self._whole = fresh
        if not fresh:
            self._last = None
        return increases

    def _begin(self, at: float, run: str, up_s: float, values: Values) -> None:
        """Another run of the engine. One that was started since the last look has counted from zero under our eyes."""
        watched = self._last is not None and self._whole
        if watched and self._last is not None:
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
        for name, value in now.items():
            before = self._base.get(name, 0.0)
            sums[name] = sums.get(name, 0.0) + (value - before if value >= before else value)
        return sums
