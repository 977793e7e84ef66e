"""A cache cluster: one Valkey or Redis node, or 1-40 Memcached nodes. Pure.

A member of a replication group is a cache cluster too, with one node; its group decides about it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum

from cachekeep.domain.engine import Engine, EngineVersion
from cachekeep.domain.nodes import Address, NodeKey


class Status(StrEnum):
    """Status words of clusters and groups, as DescribeCacheClusters and DescribeReplicationGroups give them."""

    CREATING = "creating"
    AVAILABLE = "available"
    MODIFYING = "modifying"
    REBOOTING = "rebooting cluster nodes"
    DELETING = "deleting"
    CREATE_FAILED = "create-failed"


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
class Pending:
    """Modifications that wait for the maintenance window (None or empty: nothing waits).

    nodes_to_add have their addresses already, and so has spare, the coming instance of a member to be upgraded.
    engine, version, parameter_group: to change to, together.
    """

    node_type: str | None = None
    nodes_to_add: tuple[CacheNode, ...] = ()
    node_ids_to_remove: tuple[str, ...] = ()
    automatic_failover: bool | None = None
    engine: Engine | None = None
    version: EngineVersion | None = None
    parameter_group: str | None = None
    spare: Spare | None = None

    @property
    def anything(self) -> bool:
        return self != NOTHING_PENDING


NOTHING_PENDING = Pending()


@dataclass(frozen=True)
class Upkeep:
    """Settings that groups and clusters share and that DescribeX shows as given.

    windows: UTC, `ddd:hh24:mi-ddd:hh24:mi` and `hh24:mi-hh24:mi`.
    """

    maintenance_window: str
    snapshot_window: str
    auto_minor_version_upgrade: bool = True
    notification_topic: str | None = None
    notification_active: bool = True
    security_group_ids: tuple[str, ...] = ()


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
