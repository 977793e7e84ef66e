"""What the last hours say of each node's metrics, kept until the next minute's points have come.

Read from the series once a node and minute, and only for those that somebody asks about. Thread-safe: every entry is
replaced as a whole.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence

import structlog

from cachekeep.domain.metric_ports import SeriesStore
from cachekeep.domain.metrics import MINUTE_S, Subject
from cachekeep.domain.ports import WorldError
from cachekeep.domain.verdicts import Threshold
from cachekeep.plan.verdict import Past, past_of

log = structlog.get_logger()

# Three times what growth is told from, so that what is usual is not only what has just been.
HISTORY_S = 3 * 3600
# A minute's points come a few seconds after its end.
_SETTLED_S = 6.0
_NOTHING: Mapping[str, Past] = {}


class Pasts:
    """thresholds: without anybody's own numbers, which do not matter here. now: seconds since 1970."""

    def __init__(self, series: SeriesStore, thresholds: Sequence[Threshold], now: Callable[[], float]) -> None:
        self._series, self._now = series, now
        self._thresholds = {
            threshold.metric: threshold
            for threshold in thresholds
            if threshold.statistic != "now" or threshold.growth or threshold.spike
        }
        self._known: dict[Subject, tuple[int, Mapping[str, Past]]] = {}

    def known(self, subject: Subject) -> Mapping[str, Past]:
        """At once: what was read last, nothing if it never was."""
        known = self._known.get(subject)
        return _NOTHING if known is None else known[1]

    def read(self, subjects: Collection[Subject]) -> None:
        """Bring these up to date. For a thread: it reads files and thinks. Where the series cannot be read nothing is
        known, rather than what may be hours old; a minute later they are read again."""
        minute = self._minute()
        for subject in subjects:
            try:
                self._known[subject] = (minute, self._of_series(subject))
            except WorldError as error:
                log.warning("health goes by the last values alone", node=str(subject), reason=str(error))
                self._known[subject] = (minute, _NOTHING)

    def outdated(self, subjects: Collection[Subject]) -> list[Subject]:
        """Those of which there may be newer points."""
        minute = self._minute()
        return [subject for subject in subjects if subject not in self._known or self._known[subject][0] != minute]

    def forget_others(self, subjects: Collection[Subject]) -> None:
        """Keep no more than these."""
        kept = set(subjects)
        # A list, in one go: a thread may be adding to these.
        for subject in list(self._known):
            if subject not in kept:
                self._known.pop(subject, None)

    def _minute(self) -> int:
        return int((self._now() - _SETTLED_S) // MINUTE_S)

    def _of_series(self, subject: Subject) -> Mapping[str, Past]:
        now = self._now()
        end = int(now // MINUTE_S + 1) * MINUTE_S
        columns = self._series.read(subject, self._thresholds, end - HISTORY_S, end, MINUTE_S)
        return {name: past_of(self._thresholds[name], column, now) for name, column in columns.items() if column.starts}
