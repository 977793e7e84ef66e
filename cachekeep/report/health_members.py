"""The nodes that a group, a cluster or a watched target has, as they are measured now. Reads the gauges only."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from functools import cache

from cachekeep.data.metrics import metrics
from cachekeep.domain.metric_ports import Gauges
from cachekeep.domain.metrics import Current, Subject
from cachekeep.domain.serverless import serverless_name
from cachekeep.plan.verdict import Context

# A node is asked every second. One that was asked no more for so long has no numbers of now.
STALE_S = 15.0


@dataclass(frozen=True)
class Member:
    """label: as people see it (`demo-001`, `sessions/0002`). owner: id of the group, or of the cluster itself.
    watched: it is only read, and runs somewhere else."""

    subject: Subject
    label: str
    owner: str
    current: Current = field(repr=False)
    watched: bool = False

    def context(self, now: float, baselines: Mapping[str, float]) -> Context:
        """baselines: node type -> bytes per second."""
        facts = self.current.facts
        return Context(
            now,
            self.current.values,
            facts.get("role", ""),
            baselines.get(facts.get("node_type", "")),
            self.trouble(now),
            untold(memcached=facts.get("engine") == "memcached", watched=self.watched),
        )

    def trouble(self, now: float) -> str | None:
        """Why there are no numbers of now."""
        silent_s = now - self.current.at
        if self.current.trouble is None and self.current.at and silent_s > STALE_S:
            return f"it was not asked for {silent_s:.0f} s"
        return self.current.trouble


@cache
def untold(*, memcached: bool, watched: bool) -> Mapping[str, str]:
    """The metrics that such a node never has, and why."""
    found = {}
    for metric in metrics().values():
        if memcached and "memcached" not in metric.engines:
            found[metric.name] = "Memcached has no such number"
        elif watched and metric.local_only:
            found[metric.name] = "it cannot be seen from outside the host of a watched endpoint"
    return found


def members_by_owner(gauges: Gauges, region: str, watched: Collection[str] = ()) -> dict[str, list[Member]]:
    """Of all that is measured in the region, in order of their ids. watched: ids of targets."""
    nodes = [subject for subject in gauges.subjects() if subject.region == region and subject.node_id]
    several = {name for name, count in Counter(subject.id for subject in nodes).items() if count > 1}
    found: dict[str, list[Member]] = {}
    for subject in nodes:
        current = gauges.current(subject)
        if current is None:
            continue
        owner = current.facts.get("replication_group", subject.id)
        shown = serverless_name(subject.id)
        label = f"{shown}/{subject.node_id}" if subject.id in several else shown
        found.setdefault(owner, []).append(Member(subject, label, owner, current, owner in watched))
    return found


def troubles(gauges: Gauges, region: str, now: float) -> dict[str, list[str]]:
    """Of the groups, clusters and targets that have nodes without numbers of now: which these are, and why."""
    found = {}
    for owner, members in members_by_owner(gauges, region).items():
        silent = [(member.label, member.trouble(now)) for member in members]
        if told := [f"{label}: {why}" for label, why in silent if why]:
            found[owner] = told
    return found


def members_of(gauges: Gauges, region: str, name: str, watched: Collection[str] = ()) -> list[Member]:
    """Those of the group or target of that name, else those of the cluster, or its node: `sessions/0002`."""
    found = members_by_owner(gauges, region, watched)
    if name in found:
        return found[name]
    cluster, _, node_id = name.partition("/")
    everyone = (member for members in found.values() for member in members)
    return [one for one in everyone if one.subject.id == cluster and node_id in ("", one.subject.node_id)]
