"""A snapshot: the data of a replication group or a cluster at one moment, with what is needed to make it anew. Pure.

The data is a generation of the repository of snapshots (`cachekeep.backup`), one lane for each shard. Several
snapshots may name one generation: a copy is a further name, and the data goes with the last of them.

A snapshot of a serverless cache is one of the group behind it. Its names are a space of their own, as on AWS, so it is
kept as `serverless--NAME`, which nobody can ask for as a snapshot of a group or cluster.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from cachekeep.domain.cache_cluster import Upkeep
from cachekeep.domain.engine import Engine, EngineVersion
from cachekeep.domain.replication_group import ClusterMode
from cachekeep.domain.serverless import is_behind_serverless, serverless_name
from cachekeep.domain.slots import Slots


class SnapshotStatus(StrEnum):
    """ElastiCache's words, in the order of a snapshot's life."""

    CREATING = "creating"
    AVAILABLE = "available"
    RESTORING = "restoring"
    COPYING = "copying"
    DELETING = "deleting"


class SnapshotSource(StrEnum):
    MANUAL = "manual"
    AUTOMATED = "automated"


@dataclass(frozen=True)
class ShardSnapshot:
    """One shard. cluster_id: the member that is asked for; once it is taken, the one that it was read from.

    zones: of primary and replicas. lane: its name in the generation. bytes: of the RDB file; used_bytes: of the
    engine's memory. keys: None where that is not known. taken_at: seconds since 1970.
    """

    id: str
    cluster_id: str
    node_created_at: float
    slots: Slots = ()
    zones: tuple[str, ...] = ()
    lane: str = ""
    bytes: int = 0
    used_bytes: int = 0
    keys: int | None = None
    taken_at: float | None = None


@dataclass(frozen=True)
class Snapshot:
    """group_id or cluster_id: its source. version: as told to users; wrote_*: the engine that really ran and wrote it.

    generation: "" until its reading began. method: `psync` (RDB files) or `scan`. rdb_version: 0 for scan.
    databases: those with keys. final: the source is deleted once this is available. copy_of: the snapshot that it is
    another name of. export: where an RDB file of each shard is being written, `bucket/name`; "" for nowhere.
    """

    region: str
    name: str
    source: SnapshotSource
    requested_at: float
    group_id: str | None
    cluster_id: str | None
    engine: Engine
    version: EngineVersion
    node_type: str
    port: int
    parameter_group: str
    subnet_group: str
    upkeep: Upkeep
    source_created_at: float
    zone: str
    shards: tuple[ShardSnapshot, ...]
    description: str = ""
    cluster_mode: ClusterMode = ClusterMode.DISABLED
    automatic_failover: bool = False
    multi_az: bool = False
    substitute: Engine | None = None
    substitute_version: EngineVersion | None = None
    status: SnapshotStatus = SnapshotStatus.CREATING
    generation: str = ""
    method: str = ""
    rdb_version: int = 0
    databases: tuple[int, ...] = ()
    final: bool = False
    copy_of: str = ""
    export: str = ""
    tags: Mapping[str, str] = field(default_factory=dict)

    @property
    def wrote(self) -> tuple[Engine, EngineVersion]:
        """The engine and version whose files these are."""
        return (self.substitute or self.engine, self.substitute_version or self.version)

    @property
    def source_id(self) -> str:
        return self.group_id or self.cluster_id or ""

    @property
    def of_serverless(self) -> bool:
        """It is a snapshot of a serverless cache."""
        return is_behind_serverless(self.name)

    @property
    def told_name(self) -> str:
        """The name that users know it by."""
        return serverless_name(self.name)

    @property
    def told_source(self) -> str:
        """Of the cache, group or cluster that users know as its source."""
        return serverless_name(self.source_id)
