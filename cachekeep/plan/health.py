"""The health of one group, watched target or cluster: every metric of every node, in the seed's tiers. Pure.

Called by surfaces (command, page, API), which hand in what was measured and get plain JSON values:
    {"id", "region", "at", "level", "sentence", "exit_code",
     "nodes": [{"id", "role", "level", "trouble"}], "continuous_backup": as a metric, or None,
     "tiers": [{"tier", "level", "metrics": [{"metric", "title", "level", "value", "number", "unit", "node",
       "sentence", "means", "cause", "next", "evidence", "nodes": [{"node", "level", "value", "number"}]}]}]}
A metric of the group is its worst node's; node is "" where no node has a value.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from cachekeep.domain.metrics import Tier
from cachekeep.domain.verdicts import Level, Threshold, Verdict, worst
from cachekeep.plan.causes import Evidence, explained
from cachekeep.plan.verdict import NO_PAST, Context, Past, judge

# As monitoring plugins have it, so that a check can run the command as it is. 3, cannot tell, is also what commands
# return when the service is down.
EXIT_CODES = {Level.SAFE: 0, Level.WARNING: 1, Level.RISK: 2, Level.UNKNOWN: 3}
_NAMED = 3
# A node that cannot be asked, and why.
Silent = tuple[str, str]


@dataclass(frozen=True)
class NodeReading:
    """id: as people see it (`demo-001`). past: by metric; one that is missing has none."""

    id: str
    context: Context
    past: Mapping[str, Past] = field(default_factory=dict)
    evidence: Evidence = field(default_factory=Evidence)


def assemble(
    group: str,
    region: str,
    at: float,
    nodes: Sequence[NodeReading],
    thresholds: Sequence[Threshold],
    backup: Verdict | None = None,
) -> dict[str, Any]:
    """The report. at: seconds since 1970. thresholds: with the group's overrides, in the order to be shown. backup: on
    the group's continuous one, None without."""
    found = {node.id: _verdicts(node, thresholds) for node in nodes}
    by_metric = {
        threshold.metric: _metric(threshold, [(name, verdicts[threshold.metric]) for name, verdicts in found.items()])
        for threshold in thresholds
    }
    tiers = [_tier(tier, [by_metric[t.metric] for t in thresholds if t.tier is tier]) for tier in Tier]
    silent = [(node.id, node.context.trouble) for node in nodes if node.context.trouble]
    level = level_of_all((Level(tier["level"]) for tier in tiers), silent, backup)
    titles = [metric["title"] for tier in tiers for metric in tier["metrics"] if metric["level"] == level.value]
    titles += titles_of(backup, level)
    return {
        "id": group,
        "region": region,
        "at": at,
        "level": level.value,
        "sentence": sentence_of(level, titles, silent),
        "exit_code": EXIT_CODES[level],
        "nodes": [_node(node, found[node.id]) for node in nodes],
        "tiers": tiers,
        "continuous_backup": None if backup is None else _of_group(backup),
    }


def level_of_all(levels: Iterable[Level], silent: Sequence[Silent], backup: Verdict | None = None) -> Level:
    """The worst, but not safe where a node cannot be asked: what is wrong with that one is not known.

    A single metric that is unknown changes nothing: on most machines some are. A backup that goes well says nothing
    of the nodes.
    """
    level = worst(levels)
    if backup is not None and backup.level.rank > max(level.rank, Level.SAFE.rank):
        level = backup.level
    return Level.UNKNOWN if silent and level is Level.SAFE else level


def titles_of(backup: Verdict | None, level: Level) -> list[str]:
    """The backup's title where it has the group's level."""
    return [backup.title] if backup is not None and backup.level is level else []


def _of_group(verdict: Verdict) -> dict[str, Any]:
    """A verdict on no node, in the form of a metric's."""
    return {
        "metric": verdict.metric,
        "title": verdict.title,
        "unit": "Seconds",
        "means": verdict.means,
        "tier": verdict.tier.value,
        "level": verdict.level.value,
        "value": verdict.value,
        "number": verdict.number,
        "node": "",
        "sentence": verdict.sentence,
        "cause": verdict.cause,
        "next": verdict.next,
        "evidence": [],
        "nodes": [],
    }


def _verdicts(node: NodeReading, thresholds: Sequence[Threshold]) -> dict[str, Verdict]:
    values = node.context.values
    return {
        threshold.metric: explained(
            judge(threshold, values.get(threshold.metric), node.past.get(threshold.metric, NO_PAST), node.context),
            threshold,
            values,
            node.evidence,
        )
        for threshold in thresholds
    }


def _metric(threshold: Threshold, found: Sequence[tuple[str, Verdict]]) -> dict[str, Any]:
    """The metric over all nodes; the first of equally bad ones is named."""
    shared = {"metric": threshold.metric, "title": threshold.title, "unit": threshold.unit, "means": threshold.means}
    if not found:
        unknown: dict[str, Any] = {
            "level": "unknown",
            "value": "-",
            "number": None,
            "node": "",
            "cause": "",
            "next": "",
            "evidence": [],
        }
        return {**shared, **unknown, "sentence": f"{threshold.title} is unknown: no node is measured", "nodes": []}
    name, verdict = max(found, key=lambda pair: (pair[1].level.rank, _distance(threshold, pair[1])))
    return {
        **shared,
        "level": verdict.level.value,
        "value": verdict.value,
        "number": verdict.number,
        "node": name if verdict.number is not None else "",
        "sentence": verdict.sentence,
        "cause": verdict.cause,
        "next": verdict.next,
        "evidence": list(verdict.evidence),
        "nodes": [
            {"node": node, "level": each.level.value, "value": each.value, "number": each.number}
            for node, each in found
        ],
    }


def _distance(threshold: Threshold, verdict: Verdict) -> float:
    """Larger is worse, among verdicts of one level."""
    if verdict.number is None:
        return float("-inf")
    return verdict.number if threshold.warning is None or threshold.warning.upward else -verdict.number


def _tier(tier: Tier, metrics: Sequence[dict[str, Any]]) -> dict[str, Any]:
    return {
        "tier": tier.value,
        "level": worst(Level(metric["level"]) for metric in metrics).value,
        "metrics": list(metrics),
    }


def _node(node: NodeReading, verdicts: Mapping[str, Verdict]) -> dict[str, Any]:
    level = worst(verdict.level for verdict in verdicts.values())
    return {"id": node.id, "role": node.context.role, "level": level.value, "trouble": node.context.trouble}


def sentence_of(level: Level, titles: Sequence[str], silent: Sequence[Silent]) -> str:
    """How a group stands. titles: of the metrics at that level. silent: whoever has no numbers is named, with why."""
    parts = []
    if level in (Level.WARNING, Level.RISK):
        parts.append(f"{level.value}: {', '.join(titles)}")
    elif not silent:
        parts.append("all that is known is safe" if level is Level.SAFE else "nothing is known yet")
    parts += [f"no numbers from {name}: {trouble}" for name, trouble in silent[:_NAMED]]
    if len(silent) > _NAMED:
        parts.append(f"and {len(silent) - _NAMED} more nodes")
    return "; ".join(parts)
