"""Service updates: versions of engines that this machine came to have, and what became of them, by group or cluster.

Words: ElastiCache guide, "Self-service updates"; botocore elasticache 2015-02-02. Pure.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum

from cachekeep.domain.engine import Engine, EngineVersion

_DAY_S = 86400.0


class Severity(StrEnum):
    CRITICAL = "critical"
    IMPORTANT = "important"
    MEDIUM = "medium"
    LOW = "low"


# Within how many days an update of each severity should be applied (the guide, "Applying the self-service updates").
APPLY_WITHIN_DAYS = {Severity.CRITICAL: 14, Severity.IMPORTANT: 30, Severity.MEDIUM: 60, Severity.LOW: 90}


class UpdateStatus(StrEnum):
    AVAILABLE = "available"
    CANCELLED = "cancelled"
    EXPIRED = "expired"


class ActionStatus(StrEnum):
    """Of an update for one group or cluster, and, but for the last three, of each of its nodes."""

    NOT_APPLIED = "not-applied"
    WAITING_TO_START = "waiting-to-start"
    IN_PROGRESS = "in-progress"
    STOPPING = "stopping"
    STOPPED = "stopped"
    COMPLETE = "complete"
    SCHEDULING = "scheduling"
    SCHEDULED = "scheduled"
    NOT_APPLICABLE = "not-applicable"


class Initiator(StrEnum):
    CUSTOMER = "customer"
    SYSTEM = "system"


@dataclass(frozen=True)
class ServiceUpdate:
    """A version of an engine. seen_at: when this machine was first seen to have it. offered: somebody could take it.

    region: "", as it is the same in all of them.
    """

    name: str
    engine: Engine
    version: EngineVersion
    seen_at: float
    offered: bool = False
    region: str = ""

    @property
    def severity(self) -> Severity:
        """A guess by the numbers: releases that change only the last one mend things, others bring things."""
        patch = self.version.numbers[2] if len(self.version.numbers) > 2 else 0
        return Severity.IMPORTANT if patch else Severity.MEDIUM

    @property
    def apply_by(self) -> float:
        return self.seen_at + APPLY_WITHIN_DAYS[self.severity] * _DAY_S


def update_name(engine: Engine, version: EngineVersion, seen_at: float) -> str:
    """`valkey-9-1-2-patch-20261122`."""
    numbers = "-".join(str(number) for number in version.numbers)
    return f"{engine.value}-{numbers}-patch-{datetime.fromtimestamp(seen_at, UTC):%Y%m%d}"


@dataclass(frozen=True)
class NodeUpdate:
    """shard: id of its node group, "" without one. *_at: seconds since 1970; None for not yet."""

    cluster_id: str
    node_id: str
    shard: str = ""
    status: ActionStatus = ActionStatus.NOT_APPLIED
    started_at: float | None = None
    ended_at: float | None = None
    modified_at: float = 0.0


@dataclass(frozen=True)
class UpdateAction:
    """One update for one group, or one cluster of its own. name: update, kind and id, unique in the region.

    available_at: since when it could be taken. asked_at, asked_by: when it was asked for, and by whom. failure: why the
    last attempt came to nothing, failed_at when; "" for none.
    """

    region: str
    name: str
    update: str
    resource_id: str
    is_group: bool
    available_at: float
    status: ActionStatus = ActionStatus.NOT_APPLIED
    modified_at: float = 0.0
    asked_at: float | None = None
    asked_by: Initiator = Initiator.CUSTOMER
    failure: str = ""
    failed_at: float = 0.0
    nodes: tuple[NodeUpdate, ...] = ()


def action_name(update: str, resource_id: str, *, is_group: bool) -> str:
    return f"{update}/{'replicationgroup' if is_group else 'cluster'}/{resource_id}"


@dataclass(frozen=True)
class UpkeepNotice:
    """Something that a group or cluster was told once. name: what, kind and id."""

    region: str
    name: str
    at: float
