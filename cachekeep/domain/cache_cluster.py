"""A cache cluster: one Valkey or Redis node, or 1-40 Memcached nodes. Pure.

A member of a replication group is a cache cluster too, with one node; its group decides about it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum

from cachekeep.domain.engine import Engine, EngineVersion
from cachekeep.domain.log_delivery import LogDelivery
from cachekeep.domain.nodes import Address, NodeKey
from cachekeep.domain.restore import Restore, Seed
from cachekeep.domain.transit import Transit


class Status(StrEnum):
    """Status words of clusters and groups, as DescribeCacheClusters and DescribeReplicationGroups give them."""

    CREATING = "creating"
    AVAILABLE = "available"
    MODIFYING = "modifying"
    REBOOTING = "rebooting cluster nodes"
    DELETING = "deleting"
    MIGRATING = "migrating"
    CREATE_FAILED = "create-failed"
    SNAPSHOTTING = "snapshotting"


class NodeStatus(StrEnum):
    CREATING = "creating"
    AVAILABLE = "available"
    REBOOTING = "rebooting"
    DELETING = "deleting"


class ParameterStatus(StrEnum):
    """Whether a node runs with the values of its parameter group."""

    IN_SYNC = "in-sync"
    APPLYING = "applying"
    PENDING_REBOOT = "pending-reboot"


@dataclass(frozen=True)
class CacheNode:
    """One node of a cluster.

    process: the identity (`pid:start`) of the process last seen, None before the first.
    reboot_from: the process that a reboot was asked for; cleared once another one serves.
    recovering: its process died by itself and is being replaced.
    instance: names the node's folder where that is not its node_id: an upgrade puts a new instance in its place.
    published: the address that is told to users where it is not the node's own: that of an earlier instance.
    """

    node_id: str
    address: Address
    zone: str
    created_at: float
    status: NodeStatus = NodeStatus.CREATING
    parameters: ParameterStatus = ParameterStatus.IN_SYNC
    process: str | None = None
    reboot_from: str | None = None
    recovering: bool = False
    instance: str = ""
    published: Address | None = None


@dataclass(frozen=True)
class Spare:
    """A second instance of a member's node, of another engine version: the coming one during an upgrade, the former
    one afterwards, which stays in sync for as long as the upgrade can be taken back.

    former: it is the former one. leaving: it is to be stopped and removed. reserve: where the first instance moves
    once this one has taken its place, so that the address that users know can stay with the member; None where
    addresses do not move.
    """

    node: CacheNode
    engine: Engine
    version: EngineVersion
    parameter_group: str
    former: bool = False
    leaving: bool = False
    reserve: Address | None = None

    @property
    def addresses(self) -> tuple[Address, ...]:
        return (self.node.address,) if self.reserve is None else (self.node.address, self.reserve)


@dataclass(frozen=True)
class ScaleConfig:
    """How a Memcached cluster comes to another node type. percentage: of the nodes at a time, 10-100.

    interval_minutes: between two batches, 2-30. Raises ValueError. Source: ElastiCache guide "On-demand scaling for
    Memcached clusters", which has the defaults, too.
    """

    percentage: int = 20
    interval_minutes: int = 5

    def __post_init__(self) -> None:
        if not 10 <= self.percentage <= 100:
            raise ValueError(f"ScalePercentage must be between 10 and 100, not {self.percentage}.")
        if not 2 <= self.interval_minutes <= 30:
            raise ValueError(f"ScaleIntervalMinutes must be between 2 and 30, not {self.interval_minutes}.")


@dataclass(frozen=True)
class Scaling:
    """A Memcached cluster on its way to node_type. scaled: the ids of the nodes that have it.

    step_at: when the last batch began, seconds since 1970; None before the first.
    """

    node_type: str
    config: ScaleConfig
    scaled: tuple[str, ...] = ()
    step_at: float | None = None


@dataclass(frozen=True)
class Pending:
    """Modifications that wait for the maintenance window (None or empty: nothing waits).

    nodes_to_add have their addresses already, and so has spare, the coming instance of a member to be upgraded.
    engine, version, parameter_group: to change to, together. transit: the mode to change to.
    """

    node_type: str | None = None
    nodes_to_add: tuple[CacheNode, ...] = ()
    node_ids_to_remove: tuple[str, ...] = ()
    automatic_failover: bool | None = None
    engine: Engine | None = None
    version: EngineVersion | None = None
    parameter_group: str | None = None
    spare: Spare | None = None
    transit: Transit | None = None
    scale_config: ScaleConfig | None = None

    @property
    def anything(self) -> bool:
        return self != NOTHING_PENDING


NOTHING_PENDING = Pending()


@dataclass(frozen=True)
class Upkeep:
    """Settings that groups and clusters share and that DescribeX shows as given.

    windows: UTC, `ddd:hh24:mi-ddd:hh24:mi` and `hh24:mi-hh24:mi`. snapshot_retention: days, 0 for no daily snapshots.
    """

    maintenance_window: str
    snapshot_window: str
    auto_minor_version_upgrade: bool = True
    notification_topic: str | None = None
    notification_active: bool = True
    security_group_ids: tuple[str, ...] = ()
    snapshot_retention: int = 0
    log_deliveries: tuple[LogDelivery, ...] = ()


@dataclass(frozen=True)
class CacheCluster:
    """created_at: seconds since 1970. configuration_endpoint: Memcached only, served by the discovery responder."""

    region: str
    id: str
    engine: Engine
    version: EngineVersion
    node_type: str
    port: int
    parameter_group: str
    subnet_group: str
    upkeep: Upkeep
    created_at: float
    nodes: tuple[CacheNode, ...]
    status: Status = Status.CREATING
    zones: tuple[str, ...] = ()
    replication_group_id: str | None = None
    configuration_endpoint: Address | None = None
    configuration_version: int = 1
    pending: Pending = NOTHING_PENDING
    tags: Mapping[str, str] = field(default_factory=dict)
    node_type_before: str | None = None
    """What to go back to when the data does not fit a smaller node type that is being applied."""
    substitute: Engine | None = None
    """The engine that really runs, where an explicit setting lets it stand in for `engine`."""
    substitute_version: EngineVersion | None = None
    spare: Spare | None = None
    transit: Transit = Transit.OFF
    at_rest: bool = False
    transit_moves: bool = False
    """Its mode changes while it runs, or did so once: see plan.transit."""
    final_snapshot: str = ""
    """The snapshot that is being taken before it is deleted; for users it is being deleted already."""
    restore: Restore | None = None
    """What a new cluster of its own is to begin with, until it is available."""
    seed: Seed | None = None
    """What its node finds in its folder at its first start, until the cluster is available."""

    scaling: Scaling | None = None
    serverless: str | None = None
    """The serverless cache that it belongs to: users neither see nor change it as a cluster."""
    memory_bytes: int | None = None
    """What a node of it holds at most, in place of what its node type would give."""
    auth_tokens: tuple[str, ...] = ()
    """As a group's. A member has those of its group, to be shown; what counts is what the group has."""
    auth_token_at: float | None = None
    user_group_ids: tuple[str, ...] = ()
    """Kept from the group that it was the primary of: what was guarded must not stand open."""
    restore_failed: bool = False
    """It is create-failed because what it was to begin with could not be had."""

    @property
    def told_status(self) -> Status:
        """The status that users are told."""
        return Status.DELETING if self.final_snapshot else self.status

    @property
    def told_word(self) -> str:
        """As the describes have it: of a restore that failed AWS has a word that its waiters end at."""
        failed = self.restore_failed and self.told_status is Status.CREATE_FAILED
        return "restore-failed" if failed else self.told_status.value

    def node_type_of(self, node: CacheNode) -> str:
        """The type that the node has while others have another one."""
        scaled = self.scaling is not None and node.node_id in self.scaling.scaled
        return self.scaling.node_type if scaled and self.scaling is not None else self.node_type

    def key(self, node: CacheNode) -> NodeKey:
        return NodeKey(self.region, self.id, node.instance or node.node_id)

    @property
    def addresses(self) -> tuple[Address, ...]:
        """Every address that belongs to it, what waits for a maintenance window included."""
        spares = [address for s in (self.spare, self.pending.spare) if s is not None for address in s.addresses]
        nodes = (*self.nodes, *self.pending.nodes_to_add)
        own = [address for n in nodes for address in (n.address, n.published) if address is not None] + spares
        if self.configuration_endpoint is not None:
            own.append(self.configuration_endpoint)
        return tuple(dict.fromkeys(own))

    @property
    def discovery_key(self) -> NodeKey:
        return NodeKey(self.region, self.id, "cfg")

    @property
    def runs(self) -> tuple[Engine, EngineVersion]:
        """The engine and version that really run."""
        return (self.substitute or self.engine, self.substitute_version or self.version)

    def with_node(self, node: CacheNode) -> CacheCluster:
        """This cluster with the node of the same id replaced."""
        return replace(self, nodes=tuple(node if n.node_id == node.node_id else n for n in self.nodes))
