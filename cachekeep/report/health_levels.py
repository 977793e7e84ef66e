"""How groups stand as a whole, for an overview of hundreds of nodes: levels only, judged anew every few seconds."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass

from cachekeep.domain.metrics import Subject
from cachekeep.domain.verdicts import Level, Threshold, Verdict, worst
from cachekeep.plan.health import EXIT_CODES, level_of_all, sentence_of, titles_of
from cachekeep.plan.verdict import NO_PAST, judge
from cachekeep.report.health_members import Member
from cachekeep.report.health_past import Pasts

FRESH_S = 5.0
# Nodes judged anew in one call: a third of a millisecond each, and the event loop waits for all of them.
MOST_ANEW = 50


@dataclass(frozen=True)
class Standing:
    """Of a group, a cluster or a target."""

    level: Level
    sentence: str

    @property
    def exit_code(self) -> int:
        return EXIT_CODES[self.level]


@dataclass(frozen=True)
class _Judged:
    """A node's worst level, and the titles of the metrics that have it."""

    at: float
    trouble: str | None
    level: Level
    titles: tuple[str, ...]


class Levels:
    """Remembers each node's level for five seconds, or until it falls silent or answers again. Of hundreds of nodes
    some wait for their turn a few calls longer, those that were judged last."""

    def __init__(self, pasts: Pasts, baselines: Mapping[str, float], now: Callable[[], float]) -> None:
        self._pasts, self._baselines, self._now = pasts, baselines, now
        self._known: dict[Subject, _Judged] = {}
        self._turn: frozenset[Subject] = frozenset()

    def begin(self, members: Collection[Member]) -> None:
        """Before the standings of these are asked for: choose whose turn it is to be judged anew."""
        now = self._now()
        known = ((self._known[m.subject].at, m.subject) for m in members if m.subject in self._known)
        stale = sorted((at, subject) for at, subject in known if not 0 <= now - at < FRESH_S)
        self._turn = frozenset(subject for _, subject in stale[:MOST_ANEW])

    def standing(
        self, members: Sequence[Member], thresholds: Sequence[Threshold], backup: Verdict | None = None
    ) -> Standing:
        """thresholds: with their owner's numbers. backup: on the owner's continuous one."""
        judged = [self._of(member, thresholds) for member in members]
        silent = [
            (member.label, node.trouble)
            for member, node in zip(members, judged, strict=True)
            if node.trouble is not None
        ]
        level = level_of_all((node.level for node in judged), silent, backup)
        titles = dict.fromkeys(title for node in judged if node.level is level for title in node.titles)
        in_order = [threshold.title for threshold in thresholds if threshold.title in titles]
        in_order += titles_of(backup, level)
        return Standing(level, sentence_of(level, in_order, silent))

    def forget_all(self) -> None:
        """Somebody's thresholds changed."""
        self._known.clear()

    def forget_others(self, subjects: Collection[Subject]) -> None:
        """Keep no more than these."""
        for subject in self._known.keys() - set(subjects):
            del self._known[subject]

    def _of(self, member: Member, thresholds: Sequence[Threshold]) -> _Judged:
        now = self._now()
        trouble = member.trouble(now)
        known = self._known.get(member.subject)
        if known is not None and known.trouble == trouble and member.subject not in self._turn:
            return known
        judged = self._known[member.subject] = self._judge(member, thresholds, now, trouble)
        return judged

    def _judge(self, member: Member, thresholds: Sequence[Threshold], now: float, trouble: str | None) -> _Judged:
        if trouble is not None:
            return _Judged(now, trouble, Level.UNKNOWN, ())
        context, past = member.context(now, self._baselines), self._pasts.known(member.subject)
        verdicts = [
            judge(threshold, context.values.get(threshold.metric), past.get(threshold.metric, NO_PAST), context)
            for threshold in thresholds
        ]
        level = worst(verdict.level for verdict in verdicts)
        return _Judged(now, None, level, tuple(verdict.title for verdict in verdicts if verdict.level is level))
