"""The health of groups, clusters and watched targets: verdicts on live nodes, with evidence where somebody looks.

Called by the command's page and the dashboard, on the event loop; the judging is plan.health's and plan.verdict's. What
nobody asks about costs nothing.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import replace
from types import MappingProxyType
from typing import Any

from cachekeep.domain.cache_cluster import CacheCluster
from cachekeep.domain.continuous import Standings
from cachekeep.domain.metric_ports import Meter, Monitoring
from cachekeep.domain.ports import Store
from cachekeep.domain.serverless import backing_id, serverless_name
from cachekeep.domain.verdicts import Level, Threshold, Verdict, worst
from cachekeep.plan.causes import Look, looks_for
from cachekeep.plan.continuous import backup_verdict
from cachekeep.plan.health import EXIT_CODES, NodeReading, assemble
from cachekeep.report.health_levels import Levels, Standing
from cachekeep.report.health_look import CloserLook, Wish
from cachekeep.report.health_members import Member, members_by_owner, members_of
from cachekeep.report.health_overrides import Overrides, Values, not_found, owner_since
from cachekeep.report.health_past import Pasts
from cachekeep.report.health_roster import Roster

# A group may have hundreds of nodes; the worst of them tell enough.
MOST_LOOKED_AT = 20
# How many nodes' histories are read in one go while the event loop does other things.
_BATCH = 10
# How many histories a report reads itself, some milliseconds each; of more nodes it takes what was read last.
_MOST_READ = 10
_PAUSE_S = 1.0


class HealthReports:
    """meter: for a closer look. baselines: node type -> bytes per second that its network lasts at, where known.
    backups: how continuous backups stand, at each moment that it is asked."""

    def __init__(
        self,
        monitoring: Monitoring,
        meter: Meter,
        store: Store,
        thresholds: Sequence[Threshold],
        baselines: Mapping[str, float],
        backups: Standings = MappingProxyType({}),
    ) -> None:
        self._monitoring, self._store, self._baselines = monitoring, store, baselines
        self._backups = backups
        self._look = CloserLook(monitoring.examiner, meter, monitoring.now)
        self._pasts = Pasts(monitoring.series, thresholds, monitoring.now)
        self._roster = Roster(store)
        self._overrides = Overrides(store, thresholds)
        self._levels = Levels(self._pasts, baselines, monitoring.now)
        self._asked = asyncio.Event()

    async def run(self) -> None:
        """Until cancelled: while somebody asks for levels, keep the histories that they need up to date."""
        while True:
            await self._asked.wait()
            self._asked.clear()
            gauges = self._monitoring.gauges
            nodes = [subject for subject in gauges.subjects() if subject.node_id]
            self._pasts.forget_others(nodes)
            self._levels.forget_others(nodes)
            outdated = self._pasts.outdated(nodes)
            for at in range(0, len(outdated), _BATCH):
                await asyncio.to_thread(self._pasts.read, outdated[at : at + _BATCH])
            await asyncio.sleep(_PAUSE_S)

    def report(self, region: str, name: str) -> dict[str, Any]:
        """As plan.health.assemble has it, of what is measured now, with `own_thresholds` (see Overrides.values).

        name: of a group, a cluster, a watched target, or of a member of one (`demo-001`, `sessions/0002`), which then
        has a report of its own. Evidence
        is that of a closer look of the last two minutes. Raises Fault ResourceNotFoundFault.
        """
        members, owner = self._find(region, name)
        now = self._monitoring.now()
        outdated = self._pasts.outdated([member.subject for member in members])
        self._pasts.read(outdated[:_MOST_READ])
        if len(outdated) > _MOST_READ:
            self._asked.set()
        nodes = [self._reading(member, now) for member in members]
        limits, backup = self._overrides.thresholds(region, owner), self._backup(region, name)
        whole = assemble(serverless_name(name), region, now, nodes, limits, backup)
        return {**whole, "own_thresholds": {k: dict(v) for k, v in self._overrides.values(region, owner).items()}}

    async def examined(self, region: str, name: str) -> dict[str, Any]:
        """The report after a closer look at those of its nodes that are not well; takes three seconds at most."""
        members, _ = self._find(region, name)
        await asyncio.to_thread(self._pasts.read, self._pasts.outdated([member.subject for member in members]))
        wishes = self._wishes(members, self.report(region, name))
        await self._look.take(wishes)
        return self.report(region, name)

    def levels(self, region: str) -> dict[str, str]:
        """The worst level of every group, cluster and watched target, by id. At once, however many there are: levels
        are some seconds old, and right after the start growth and five-minute averages are not known yet."""
        return {name: standing.level.value for name, standing in self._standings(region).items()}

    def overview(self, region: str) -> dict[str, Any]:
        """`resources`, each with id, kind (group, cluster, serverless, target), level, sentence, exit_code; level and
        exit_code of the worst, where unknown is worse than safe. Nothing to tell of is no trouble: 0."""
        standings = self._standings(region)
        resources = [
            {"id": serverless_name(entry.id), "kind": entry.kind, **_told(standings[entry.id])}
            for entry in self._roster.entries(region)
        ]
        level = _level_of_region([standing.level for standing in standings.values()])
        return {
            "region": region,
            "at": self._monitoring.now(),
            "level": level.value,
            "exit_code": EXIT_CODES[level] if standings else 0,
            "resources": resources,
        }

    def thresholds_of(self, region: str, name: str) -> dict[str, Threshold]:
        """By metric, with the numbers of its own that the group, cluster or target of that name has, or the group that
        the member of that name belongs to."""
        return {t.metric: t for t in self._overrides.thresholds(region, self._owner(region, name))}

    def change(self, region: str, name: str, wish: Mapping[str, Any], unset: Sequence[str]) -> Values:
        """Set and unset numbers of its own; see Overrides.change."""
        values = self._overrides.change(region, self._meant(region, name), wish, unset)
        self._levels.forget_all()
        return values

    def _backup(self, region: str, name: str) -> Verdict | None:
        standing = self._backups.get((region, name))
        return None if standing is None else backup_verdict(standing, self._monitoring.now())

    def _find(self, region: str, name: str) -> tuple[list[Member], str]:
        """The nodes, and whose thresholds count for them. Raises Fault."""
        name = self._meant(region, name)
        members = members_of(self._monitoring.gauges, region, name, self._roster.targets(region))
        if not members and owner_since(self._store, region, name) is None:
            raise not_found(region, name)
        return members, members[0].owner if members else self._owner(region, name)

    def _meant(self, region: str, name: str) -> str:
        """What runs the serverless cache of that name, where nothing else has it."""
        behind = backing_id(name)
        if owner_since(self._store, region, behind) is None or owner_since(self._store, region, name) is not None:
            return name
        return behind

    def _owner(self, region: str, name: str) -> str:
        cluster = self._store.get(CacheCluster, region, name.partition("/")[0])
        return name if cluster is None else cluster.replication_group_id or name

    def _reading(self, member: Member, now: float) -> NodeReading:
        context = member.context(now, self._baselines)
        evidence = replace(
            self._look.evidence(member.subject),
            evictions=context.values.get("Evictions"),
            fragmentation=context.values.get("MemoryFragmentationRatio"),
        )
        return NodeReading(member.label, context, self._pasts.known(member.subject), evidence)

    def _wishes(self, members: Sequence[Member], report: Mapping[str, Any]) -> list[Wish]:
        """What to look at on which nodes, the worst nodes first."""
        wanted: dict[str, tuple[int, frozenset[Look]]] = {}
        for metric in (metric for tier in report["tiers"] for metric in tier["metrics"]):
            looks = looks_for(metric["metric"])
            for node in metric["nodes"]:
                rank = Level(node["level"]).rank
                if looks and rank > Level.SAFE.rank:
                    before = wanted.get(node["node"], (0, frozenset[Look]()))
                    wanted[node["node"]] = (max(rank, before[0]), before[1] | looks)
        wishes = []
        for member in sorted(members, key=lambda member: -wanted.get(member.label, (0,))[0]):
            place = self._monitoring.gauges.place(member.subject)
            if member.label in wanted and place is not None:
                wishes.append(Wish(member.subject, place, wanted[member.label][1]))
        return wishes[:MOST_LOOKED_AT]

    def _standings(self, region: str) -> dict[str, Standing]:
        """By id of group, cluster or target; those of which no node is measured among them."""
        found = members_by_owner(self._monitoring.gauges, region, self._roster.targets(region))
        names = dict.fromkeys([*(resource.id for resource in self._roster.entries(region)), *found])
        everyone = [member for members in found.values() for member in members]
        if self._pasts.outdated([member.subject for member in everyone]):
            self._asked.set()
        self._levels.begin(everyone)
        return {
            name: self._levels.standing(
                found.get(name, []), self._overrides.thresholds(region, name), self._backup(region, name)
            )
            for name in names
        }


def _level_of_region(levels: Sequence[Level]) -> Level:
    """Not safe where of one nothing can be said; a warning or risk that is known weighs more."""
    level = worst(levels)
    return Level.UNKNOWN if level is Level.SAFE and Level.UNKNOWN in levels else level


def _told(standing: Standing) -> dict[str, Any]:
    return {"level": standing.level.value, "sentence": standing.sentence, "exit_code": standing.exit_code}
