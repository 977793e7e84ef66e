"""What a planner answers: steps to take now, values to store, events to tell. Pure data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from cachekeep.domain.cache_cluster import CacheCluster
from cachekeep.domain.events import Event
from cachekeep.domain.migration import SourceFacts
from cachekeep.domain.nodes import Address, NodeKey, NodeSpec, ObservedNode
from cachekeep.domain.parameters import Family
from cachekeep.domain.replication_group import ReplicationGroup
from cachekeep.domain.steps import Step
from cachekeep.plan.upstream import Upstream

# The longest time between two looks at a resource that is at rest; deaths are seen at once, by pidfd.
REST_S = 10.0
# How soon to look again while an engine starts, loads or synchronises.
SOON_S = 0.02


@dataclass(frozen=True)
class Limits:
    """How long things may take. hang_s: silence after which a living process counts as hung. sync_s: for a coming
    instance of an upgrade to be in sync. rollback_s: how long the former instance stays."""

    hang_s: float = 5.0
    sync_s: float = 600.0
    rollback_s: float = 3600.0


@dataclass(frozen=True)
class Look:
    """One look at the world, for one resource.

    nodes: what was seen, by node. specs: what each node should be. parameter_families: the family of each
    node's parameter group.
    """

    now: float
    nodes: Mapping[NodeKey, ObservedNode]
    specs: Mapping[NodeKey, NodeSpec]
    parameter_families: Mapping[NodeKey, Family]
    hold_s: Mapping[NodeKey, float] = field(default_factory=dict)
    """Seconds to wait before a node that keeps dying is started again; absent: none."""
    switch_hold_s: Mapping[NodeKey, float] = field(default_factory=dict)
    """Seconds to wait before a role is handed to a node again, after tries that failed; absent: none."""
    limits: Limits = Limits()
    source: SourceFacts | None = None
    """What the source of a migration said just before the nodes were looked at; None where it was not asked."""
    upstream: Upstream | None = None
    """For a member of a global datastore; None for a group that stands alone."""


@dataclass(frozen=True)
class Decision:
    """stages: done in order, the steps of one stage side by side; a failure ends the round.

    puts: values to store, each over the value that was planned from. drops: clusters to forget together with
    their addresses. forget: the resource itself is gone for good. released: addresses to give back.
    recheck_s: look again after so long even if nothing wakes. sentence: why, for log and journal; notes: more for the
    journal.
    """

    stages: tuple[tuple[Step, ...], ...] = ()
    puts: tuple[ReplicationGroup | CacheCluster, ...] = ()
    drops: tuple[CacheCluster, ...] = ()
    forget: bool = False
    released: tuple[Address, ...] = ()
    events: tuple[Event, ...] = ()
    recheck_s: float = REST_S
    sentence: str = ""
    notes: tuple[str, ...] = ()

    @property
    def steps(self) -> tuple[Step, ...]:
        return tuple(step for stage in self.stages for step in stage)
