"""A replication group with cluster mode disabled: one primary and up to five replicas behind two endpoints. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from cachekeep.domain.cache_cluster import NOTHING_PENDING, Pending, Status, Upkeep
from cachekeep.domain.engine import Engine, EngineVersion
from cachekeep.domain.nodes import Address


@dataclass(frozen=True)
class ReplicationGroup:
    """member_ids: cache cluster ids in order of creation. primary_id: the member that takes writes.

    endpoints: None where addresses cannot move (then the primary's own address is shown).
    retain_primary: while deleting, keep the primary as a cluster of its own.
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
    member_ids: tuple[str, ...]
    primary_id: str
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
