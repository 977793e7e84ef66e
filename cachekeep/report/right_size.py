"""Right-sizing of what runs or is watched: from months of points to node types, shapes and prices.

Called by the signed page `right-size` and the dashboard. The status page is read on the event loop, the series and the
plan in a thread: a long window of many nodes takes seconds.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from cachekeep.domain.faults import invalid_value
from cachekeep.domain.metric_ports import Monitoring
from cachekeep.domain.metrics import Current, Subject, WatchedTarget
from cachekeep.domain.prices import NodeSpecs
from cachekeep.domain.serverless import serverless_name
from cachekeep.plan.right_size import as_json, right_size
from cachekeep.plan.right_size_shapes import Goal
from cachekeep.report.cost_prices import KnownPrices
from cachekeep.report.right_size_history import DAY_S, history_of
from cachekeep.report.right_size_members import Members, named
from cachekeep.report.watched import watched_resources

USUAL_DAYS = 14.0
MOST_DAYS = 455.0
MOST_MARGIN_PCT = 1000.0
_ASSUMED = (
    "peaks of CPU, commands and network are the busiest five minutes on average; of connections the highest moment",
    "a core of this machine does as much as one of AWS",
)


@dataclass(frozen=True)
class SizingSources:
    """status: the status page. began: when a group or cluster of that region and name was created, seconds since 1970
    (0: not known); points from before are of another one. specs: of node types by name."""

    monitoring: Monitoring
    status: Callable[[], Mapping[str, Any]]
    targets: Callable[[], Sequence[WatchedTarget]]
    began: Callable[[str, str], float]
    prices: KnownPrices
    specs: Mapping[str, NodeSpecs]


class RightSizing:
    """What would hold the measured load, as JSON values."""

    def __init__(self, sources: SizingSources) -> None:
        self._in = sources

    async def page(self, region: str, query: Mapping[str, str]) -> dict[str, Any]:
        """?name=&margin= (percent) &days=&horizon= (days) &prices_region=. Raises Fault."""
        name = query.get("name", "")
        goal = goal_of(_number(query, "margin", 25.0), _number(query, "horizon", 90.0))
        days = _number(query, "days", USUAL_DAYS)
        return await self.report(region, name, goal, days, query.get("prices_region", "")[:40] or None)

    async def report(
        self,
        region: str,
        name: str,
        goal: Goal | None = None,
        days: float = USUAL_DAYS,
        prices_region: str | None = None,
    ) -> dict[str, Any]:
        """plan.right_size.as_json with `id`, `kind`, `history` (`from`, `to` in seconds since 1970, None without any)
        and `notes`. name: a group, a cluster, a watched target, or a member of one. Raises ResourceNotFoundFault, and
        InvalidParameterValue for a window that is none."""
        check_days(days)
        status = self._in.status()
        resources = [("group", one) for one in status["groups"]] + [("cluster", one) for one in status["clusters"]]
        watched = [target for target in self._in.targets() if target.region == region]
        resources += [("watched", one) for one in watched_resources(watched, self._in.monitoring.gauges)]
        members = named(resources, region, name)
        seen = {subject: self._in.monitoring.gauges.current(subject) for subject in members.subjects}
        added = {target.id: target.added_at for target in watched}
        began = added[members.id] if members.kind == "watched" else self._in.began(region, members.id)
        window_s = min(days * DAY_S, max(60.0, self._in.monitoring.now() - began))
        await self._in.prices.wait()
        return await asyncio.to_thread(self._judged, members, seen, window_s, goal, prices_region)

    def _judged(
        self,
        members: Members,
        seen: Mapping[Subject, Current | None],
        window_s: float,
        goal: Goal | None,
        prices_region: str | None,
    ) -> dict[str, Any]:
        monitoring, prices = self._in.monitoring, self._in.prices.latest()
        history = history_of(members, monitoring.series, seen.get, monitoring.now(), window_s)
        region = prices_region or members.region
        page = as_json(right_size(history.observed, self._in.specs, prices, region, goal))
        notes = list(history.notes)
        if not members.node_type:
            notes.append("nobody said which node type it has now, so nothing is compared with it")
        if not any(row.region == region for row in prices):
            notes.append(f"no prices of {region} are known: `cachekeep cost import`, or name another region's prices")
        local = members.kind != "watched"
        return {
            "id": serverless_name(members.id),
            "kind": members.kind,
            **page,
            "assumptions": [*page["assumptions"], *(_ASSUMED if local else _ASSUMED[:1])],
            "history": {"from": history.begin or None, "to": history.end or None},
            "notes": notes,
        }


def goal_of(margin_pct: float, horizon_days: float) -> Goal:
    """Raises InvalidParameterValue, with what a value must be."""
    if not 0 <= margin_pct <= MOST_MARGIN_PCT:  # false for NaN too
        raise invalid_value(f"margin must be between 0 and {MOST_MARGIN_PCT:g} (%), not {margin_pct:g}")
    try:
        return Goal(margin=margin_pct / 100, horizon_days=horizon_days)
    except ValueError as error:
        raise invalid_value(f"{error}") from error


def check_days(days: float) -> None:
    """Raises InvalidParameterValue."""
    if not 0 < days <= MOST_DAYS:  # false for NaN too
        raise invalid_value(f"days must be above 0 and at most {MOST_DAYS:g}, not {days:g}")


def _number(query: Mapping[str, str], name: str, usual: float) -> float:
    given = query.get(name)
    try:
        value = float(given) if given else usual
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise invalid_value(f"{name} must be a number, not {(given or '')[:40]!r}.")
    return value
