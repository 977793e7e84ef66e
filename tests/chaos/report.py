"""What a chaos run prints."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator
from statistics import median

from .oracle import Death
from .run import Outcome

# An action's effect on the writers is looked for in the seconds after it.
EFFECT_S = 5.0
MOST_SHOWN, LOG_SHOWN = 25, 4000


def lines(outcome: Outcome, seed: int) -> Iterator[str]:
    yield from _actions(outcome)
    yield ""
    yield from _writes(outcome)
    if outcome.wrong:
        yield ""
        yield f"WRONG, with seed {seed}:"
        yield from (f"  {text}" for text in outcome.wrong[:MOST_SHOWN])
        if len(outcome.wrong) > MOST_SHOWN:
            yield f"  and {len(outcome.wrong) - MOST_SHOWN} more"
        yield ""
        yield "timeline:"
        yield from (f"  {line}" for line in outcome.world.timeline())
        yield ""
        yield "end of the service's log:"
        yield outcome.log[-LOG_SHOWN:]
    else:
        yield f"nothing is wrong (seed {seed})"


def _actions(outcome: Outcome) -> Iterator[str]:
    begun: Counter[str] = Counter()
    refused: Counter[str] = Counter()
    gaps: defaultdict[str, list[float]] = defaultdict(list)
    loads = {group.id: group.load for group in outcome.world.groups}
    for it in outcome.world.happened:
        (begun if it.begun else refused)[it.action] += 1
        load = loads.get(it.group)
        if it.begun and load:
            gaps[it.action].append(load.longest_gap(it.at, it.at + EFFECT_S))
    yield f"{'action':<20} {'begun':>6} {'not':>6}   longest pause of a writer within {EFFECT_S:g} s: median, most (ms)"
    for name in sorted(begun | refused):
        spans = gaps[name]
        shown = f"{median(spans) * 1000:8.0f} {max(spans) * 1000:8.0f}" if spans else ""
        yield f"{name:<20} {begun[name]:>6} {refused[name]:>6}   {shown}"


def _writes(outcome: Outcome) -> Iterator[str]:
    for group in outcome.world.groups:
        verdict = outcome.verdicts.get(group.id)
        if verdict is None:
            continue
        yield (
            f"{group.id}: {verdict.acknowledged:,} writes acknowledged, {verdict.lost} lost, of these "
            f"{verdict.lost_for_nothing} without a death that explains them; {len(group.deaths)} deaths of primaries"
        )
        by_death: Counter[Death] = Counter()
        for loss in verdict.losses:
            if loss.death:
                by_death[loss.death] += len(loss.numbers)
        for death, count in sorted(by_death.items(), key=lambda it: it[0].at):
            window = "everything before" if death.since == 0 else f"{death.at - death.since:.1f} s before"
            yield f"  {death.at - outcome.world.began:8.3f} s  {death.what}: {count} lost (window: {window})"
        if group.load and group.load.errors:
            yield f"  errors that writers saw: {dict(group.load.errors.most_common(8))}"
