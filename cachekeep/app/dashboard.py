"""The dashboard on the real service: what its pages need (web.ports), out of the API, the store and the reports."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import math
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from cachekeep.api.context import Services
from cachekeep.api.dispatch import Dispatcher, new_request_id
from cachekeep.api.gate import Visit
from cachekeep.codec.aws_model import known_regions
from cachekeep.data.metrics import metrics
from cachekeep.domain.alarms import Alarm, Comparison
from cachekeep.domain.cache_cluster import CacheCluster
from cachekeep.domain.events import Event, SourceType
from cachekeep.domain.faults import Fault, invalid_value
from cachekeep.domain.metric_ports import Monitoring
from cachekeep.domain.replication_group import ReplicationGroup
from cachekeep.domain.serverless import backing_id, is_behind_serverless, serverless_name, shown_text
from cachekeep.domain.snapshot import Snapshot
from cachekeep.domain.verdicts import Threshold
from cachekeep.plan.right_size_shapes import Goal
from cachekeep.report import charts
from cachekeep.report.price_table import PriceQuestion
from cachekeep.web.ports import Json

MOST_SHOWN = 200
# As long as AWS keeps events.
EVENTS_S = 14 * 86400.0
# Of the API that actions are requests of.
_VERSION = "2015-02-02"


@dataclass(frozen=True)
class Reports:
    """What the service tells, as functions of a region and a name: see report.health, report.cost, report.right_size,
    report.price_table, monitor.targets; status is the page of all (cachekeep.status)."""

    health: Callable[[str, str], Json]
    levels: Callable[[str], Mapping[str, str]]
    troubles: Callable[[str], Mapping[str, Sequence[str]]]
    thresholds: Callable[[str, str], Mapping[str, Threshold]]
    cost: Callable[[str, str | None], Awaitable[Json]]
    prices: Callable[[PriceQuestion], Awaitable[Json]]
    right_size: Callable[[str, str, Goal], Awaitable[Json]]
    watched: Callable[[str], Sequence[Json]]
    status: Callable[[], Json]


class Secrets(Protocol):
    def get(self, key_id: str, /) -> str | None:
        """The secret of a key that is good now, None for every other."""
        ...


class KeyOperator:
    """Implements web.ports.Operator: whoever has an access key may do what the API would do for it."""

    def __init__(self, keys: Secrets, dispatcher: Dispatcher) -> None:
        self._keys, self._dispatcher = keys, dispatcher

    def verify_key(self, access_key: str, secret: str) -> bool:
        known = self._keys.get(access_key)
        # Digests are compared, so that not even the length of a secret shows in the time; unknown keys take as long.
        same = hmac.compare_digest(_digest(known or ""), _digest(secret))
        return same and bool(known)

    def why_not(self, access_key: str, source: str) -> str | None:
        """Pages tell of all regions: a policy has to allow cachekeep:GetDashboard on everything."""
        visit = Visit(new_request_id(), source, access_key)
        visit.asks("cachekeep", "GetDashboard")
        try:
            if self._keys.get(access_key) is None:
                return "This access key is not good any more."
            self._dispatcher.gate.check(visit, None)
        except Fault as fault:
            self._dispatcher.gate.end(visit, fault.code)
            return fault.message
        return None

    def perform(self, region: str, access_key: str, fields: Mapping[str, str], source: str = "") -> Json:
        return self._dispatcher.perform(region, access_key, {"Version": _VERSION, **fields}, source)

    def rehearse(self, region: str, access_key: str, fields: Mapping[str, str], source: str = "") -> Json:
        return self._dispatcher.foresee(region, access_key, {"Version": _VERSION, **fields}, source)


def _digest(text: str) -> bytes:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()


class DashboardViews:
    """Implements web.ports.Views."""

    def __init__(self, usual_region: str, services: Services, monitoring: Monitoring, reports: Reports) -> None:
        self._services, self._store = services, services.store
        self._monitoring, self._reports = monitoring, reports
        self.status = reports.status
        self.watched = reports.watched
        self._regions = [usual_region, *sorted(known_regions() - {usual_region})]
        self._node_types = list(services.catalog.node_types)

    def regions(self) -> Sequence[str]:
        return self._regions

    def node_types(self) -> Sequence[str]:
        return self._node_types

    def health(self, region: str, resource: str | None) -> Json:
        if resource is None:
            return {"resources": self._reports.levels(region), "troubles": self._reports.troubles(region)}
        report = self._reports.health(region, resource)
        verdicts = [{**metric, "tier": tier["tier"]} for tier in report["tiers"] for metric in tier["metrics"]]
        if (backup := report.get("continuous_backup")) is not None:
            verdicts.append(backup)
        return {**{name: report[name] for name in ("level", "sentence", "nodes")}, "verdicts": verdicts}

    async def chart(self, region: str, resource: str, metric: str, start: float, end: float) -> Json:
        thresholds = self._reports.thresholds(region, resource)
        asked = charts.ask(self._monitoring.gauges, metrics()[metric], region, resource, thresholds)
        return await asyncio.to_thread(charts.draw, self._monitoring.series, asked, start, end)

    async def right_size(self, region: str, resource: str, margin_pct: float, horizon_days: float) -> Json:
        try:
            goal = Goal(margin=margin_pct / 100, horizon_days=horizon_days)
        except ValueError as error:
            raise invalid_value(f"{error}.") from error
        return await self._reports.right_size(region, resource, goal)

    async def cost(self, region: str, resource: str | None) -> Json:
        told = await self._reports.cost(region, resource)
        if any(one["kind"] != "watched" for one in told["resources"]):
            return told
        # What is only watched takes nothing of this machine worth a sentence.
        return {name: value for name, value in told.items() if name != "here"}

    async def prices(self, node_type: str, count: str, utilisation: str, hours: str, region: str) -> Json:
        return await self._reports.prices(PriceQuestion(node_type, count, utilisation, hours, region))

    def events(self, region: str, resource: str) -> Sequence[Json]:
        group = self._store.get(ReplicationGroup, region, resource)
        since = self._services.clock.now() - EVENTS_S
        kind = SourceType.CACHE_CLUSTER if group is None else SourceType.REPLICATION_GROUP
        found = self._told(region, kind, resource, since)
        if is_behind_serverless(resource):
            found += self._told(region, SourceType.SERVERLESS_CACHE, serverless_name(resource), since)
        shown = dict.fromkeys((event.at, event.message) for event in found)
        lines = list(shown)
        for member in group.member_ids if group is not None else ():
            told = self._told(region, SourceType.CACHE_CLUSTER, member, since)
            # A failover is an event of the group and of a member: shown once.
            lines += [(e.at, f"{member}: {e.message}") for e in told if (e.at, e.message) not in shown]
        lines.sort(reverse=True)
        return [{"at": at, "message": shown_text(message)} for at, message in lines[:MOST_SHOWN]]

    def _told(self, region: str, kind: SourceType, name: str, since: float) -> list[Event]:
        return self._store.events(region, since=since, until=math.inf, source_type=kind.value, source_id=name)

    def journal(self, region: str, resource: str) -> Sequence[Json]:
        notes = self._store.journal(region, resource, limit=MOST_SHOWN)
        return [{"at": note.at, "sentence": shown_text(note.sentence)} for note in reversed(notes)]

    def alarms(self, region: str) -> Sequence[Json]:
        return [self._alarm(alarm) for alarm in self._store.all(Alarm, region)]

    def _alarm(self, alarm: Alarm) -> dict[str, Any]:
        query = next((query for query in alarm.queries if query.metric), alarm.queries[0])
        about = dict(query.dimensions)
        serverless = about.get("ServerlessCacheName") or ""
        name = about.get("ReplicationGroupId") or about.get("CacheClusterId") or serverless
        member = self._store.get(CacheCluster, alarm.region, name)
        return {
            "name": alarm.name,
            "state": alarm.state.value,
            "reason": alarm.state_reason,
            "condition": condition_of(alarm),
            "actions": _actions(alarm),
            "of": name,
            "resource": backing_id(name) if serverless else (member and member.replication_group_id) or name,
            "updated_at": alarm.state_transitioned_at,
        }

    def alarm_history(self, region: str) -> Sequence[Json]:
        now = self._services.clock.now()
        items = self._store.alarm_history(region, since=now - EVENTS_S, until=now)[-MOST_SHOWN:]
        return [{"at": item.at, "alarm": item.alarm, "summary": item.summary} for item in reversed(items)]

    def backups(self, region: str) -> Sequence[Json]:
        """Snapshots; the folders of `cachekeep backup` are known to nobody but who made them."""
        found = sorted(self._store.all(Snapshot, region), key=lambda one: -one.requested_at)
        return [_snapshot(one) for one in found[:MOST_SHOWN]]


def _snapshot(snapshot: Snapshot) -> dict[str, Any]:
    return {
        "name": serverless_name(snapshot.name),
        "resource": snapshot.source_id,
        "of": serverless_name(snapshot.source_id),
        "serverless": is_behind_serverless(snapshot.name),
        "source": snapshot.source.value,
        "at": snapshot.requested_at,
        "size_bytes": sum(shard.bytes for shard in snapshot.shards),
        "state": snapshot.status.value,
    }


_SIGNS = {
    Comparison.GREATER_OR_EQUAL: ">=",
    Comparison.GREATER: ">",
    Comparison.LESS: "<",
    Comparison.LESS_OR_EQUAL: "<=",
}


def condition_of(alarm: Alarm) -> str:
    """Such as `Average SwapUsage > 5 for 2 of 3 periods of 60 s`."""
    judged = next((query for query in alarm.queries if query.return_data), alarm.queries[0])
    what = f"{judged.statistic} {judged.metric}" if judged.metric else judged.expression
    # An expression has the period of what it is over.
    period = max((query.period for query in alarm.queries if query.period), default=60)
    total, least = alarm.evaluation_periods, alarm.datapoints_to_alarm
    if total == 1:
        times = f"one period of {period} s"
    else:
        times = f"{f'{least} of ' if least < total else ''}{total} periods of {period} s"
    return f"{what} {_SIGNS[alarm.comparison]} {alarm.threshold:g} for {times}"


def _actions(alarm: Alarm) -> str:
    if not (alarm.ok_actions or alarm.alarm_actions or alarm.insufficient_data_actions):
        return "none"
    return "on" if alarm.actions_enabled else "off"
