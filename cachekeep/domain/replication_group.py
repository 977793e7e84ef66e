"""A replication group: shards (node groups) of one primary and up to five replicas each. Pure.

With cluster mode disabled there is one shard behind two endpoints that follow its roles; with cluster mode enabled
1-90 shards share 16384 slots, and clients find them through one configuration endpoint.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum

from cachekeep.domain.cache_cluster import NOTHING_PENDING, Pending, Status, Upkeep
from cachekeep.domain.engine import Engine, EngineVersion
from cachekeep.domain.global_group import Mirrored
from cachekeep.domain.migration import Migration
from cachekeep.domain.nodes import Address, NodeKey
from cachekeep.domain.restore import Restore
from cachekeep.domain.slots import Slots
from cachekeep.domain.transit import Transit

SWITCH_NODE = "tls"


class ClusterMode(StrEnum):
    """ElastiCache's words. compatible: the engines run in cluster mode with one shard, and the endpoints of a group
    with cluster mode disabled remain beside the configuration endpoint."""

    DISABLED = "disabled"
    COMPATIBLE = "compatible"
    ENABLED = "enabled"


@dataclass(frozen=True)
class HandOver:
    """A planned change of primary that is asked for. to: the member that shall be primary; None: whichever replica is
    best. test: TestFailover asked for it, so the old primary's node is replaced afterwards."""

    to: str | None = None
    test: bool = False


@dataclass(frozen=True)
class NodeGroup:
    """One shard. member_ids: cache cluster ids in order of creation. primary_id: the member that takes writes.

    slots: those it shall own; () with cluster mode disabled, and for a shard that leaves.
    leaving: once its slots are elsewhere its members go.
    """

    id: str
    member_ids: tuple[str, ...]
    primary_id: str
    slots: Slots = ()
    leaving: bool = False
    hand_over: HandOver | None = None


@dataclass(frozen=True)
class EngineChange:
    """A change of engine or version under way, or done and still to be taken back.

    before_*: what to go back to. deadline: seconds since 1970 by which every new node must be in sync (0: none yet);
    a change that does not come so far is abandoned. done_at: when every member ran the new version; None before.
    stopping: it is to end where it is; members that run the new version keep it.
    """

    engine: Engine
    version: EngineVersion
    parameter_group: str
    before_engine: Engine
    before_version: EngineVersion
    before_parameter_group: str
    started_at: float
    deadline: float = 0.0
    done_at: float | None = None
    stopping: bool = False


@dataclass(frozen=True)
class ReplicationGroup:
    """endpoints: None where addresses cannot move (then the primary's own address is shown), and with cluster mode
    enabled, which has a configuration_endpoint instead.
    retain_primary: while deleting, keep the primary as a cluster of its own.
    tested_at: when TestFailover was called for this group, for the quota of 24 hours.
    resharding: percent of the slots to move that have moved; None when no resharding runs. resharding_slots: how many
    there were to move; 0 until they were counted.
    mode_before: the cluster mode that a change of mode under way comes from.
    """

    region: str
    id: str
    description: str
    engine: Engine
    version: EngineVersion
    node_type: str
    port: int
    parameter_group: str
    subnet_group: str
    upkeep: Upkeep
    created_at: float
    node_groups: tuple[NodeGroup, ...]
    status: Status = Status.CREATING
    automatic_failover: bool = False
    multi_az: bool = False
    primary_endpoint: Address | None = None
    reader_endpoint: Address | None = None
    pending: Pending = NOTHING_PENDING
    retain_primary: bool = False
    substitute: Engine | None = None
    substitute_version: EngineVersion | None = None
    tags: Mapping[str, str] = field(default_factory=dict)
    cluster_mode: ClusterMode = ClusterMode.DISABLED
    mode_before: ClusterMode | None = None
    configuration_endpoint: Address | None = None
    tested_at: tuple[float, ...] = ()
    resharding: float | None = None
    resharding_slots: int = 0
    engine_change: EngineChange | None = None
    transit: Transit = Transit.OFF
    transit_moves: bool = False
    at_rest: bool = False
    snapshotting_cluster: str | None = None
    """The member that daily snapshots are read from, where one was named."""
    final_snapshot: str = ""
    """The snapshot that is being taken before it is deleted; for users it is being deleted already."""
    restore: Restore | None = None
    """What a new group is to begin with, until it is available."""
    user_group_ids: tuple[str, ...] = ()
    user_groups_before: tuple[str, ...] | None = None
    """What the last request changed them from; None when it did not."""
    auth_tokens: tuple[str, ...] = ()
    """SHA-256 in hex, the newest last; "" among them lets in without a token, too."""
    auth_token_at: float | None = None
    serverless: str | None = None
    """The serverless cache that it belongs to: users neither see nor change it as a group."""
    migration: Migration | None = None
    global_id: str = ""
    """The global datastore that it is a member of; which role it has there stands in that."""
    mirrored: Mirrored | None = None
    """Of a secondary in cluster mode."""

    @property
    def switch_key(self) -> NodeKey:
        """Of the program that holds the group's port while encryption is preferred (endpoint.switch)."""
        return NodeKey(self.region, self.id, SWITCH_NODE)

    @property
    def told_status(self) -> Status:
        """The status that users are told."""
        return Status.DELETING if self.final_snapshot else self.status

    @property
    def clustered(self) -> bool:
        """The engines run in cluster mode."""
        return self.cluster_mode is not ClusterMode.DISABLED

    @property
    def member_ids(self) -> tuple[str, ...]:
        """Of all shards, in order."""
        return tuple(name for shard in self.node_groups for name in shard.member_ids)

    @property
    def primary_id(self) -> str:
        """Of the first shard: the only one unless cluster mode is enabled."""
        return self.node_groups[0].primary_id

    @property
    def endpoints(self) -> tuple[Address, ...]:
        """Every address that belongs to the group itself."""
        mine = (self.primary_endpoint, self.reader_endpoint, self.configuration_endpoint)
        return tuple(address for address in mine if address is not None)

    def shard(self, shard_id: str) -> NodeGroup | None:
        return next((shard for shard in self.node_groups if shard.id == shard_id), None)

    def shard_of(self, member_id: str) -> NodeGroup | None:
        return next((shard for shard in self.node_groups if member_id in shard.member_ids), None)

    def with_shard(self, shard: NodeGroup) -> ReplicationGroup:
        """This group with the shard of that id replaced."""
        return replace(self, node_groups=tuple(shard if old.id == shard.id else old for old in self.node_groups))
