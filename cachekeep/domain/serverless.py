"""A serverless cache: a cache without nodes to choose, between limits of use. Pure.

It is run by a replication group of its own (Memcached: by a cluster of its own), which users do not see. Source of
shapes and bounds: botocore elasticache 2015-02-02; ElastiCache guide, "Serverless quotas" and "Scaling ElastiCache".
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from cachekeep.domain.engine import Engine, EngineVersion

GB = 1 << 30
# What AWS bills at least, and what a cache can hold here before it grows. Source: ElastiCache pricing page: "metered
# for a minimum of 100 MB" (Valkey), "1 GB" (the others).
LEAST_BYTES: Mapping[Engine, int] = {Engine.VALKEY: 100 * 10**6, Engine.REDIS: GB, Engine.MEMCACHED: GB}
# Two hyphens in a row: no name of a user's can be that of a resource behind a serverless cache.
_PREFIX = "serverless--"


class ServerlessStatus(StrEnum):
    """As DescribeServerlessCaches gives them."""

    CREATING = "CREATING"
    AVAILABLE = "AVAILABLE"
    MODIFYING = "MODIFYING"
    DELETING = "DELETING"
    CREATE_FAILED = "CREATE-FAILED"


@dataclass(frozen=True)
class UsageLimits:
    """CacheUsageLimits as they were given; None: not given. Storage in GB (2^30 bytes), of primaries only."""

    storage_most_gb: int | None = None
    storage_least_gb: int | None = None
    ecpu_most: int | None = None
    ecpu_least: int | None = None


@dataclass(frozen=True)
class ServerlessCache:
    """version: that of its engines, or the one asked for where something stands in. created_at: seconds since 1970.

    snapshot_retention_days, daily_snapshot_time (`hh24:mi`), kms_key_id, security_group_ids, subnet_ids and
    user_group_id are as given. trouble: why it cannot grow, in a sentence; "" while it can.
    """

    region: str
    name: str
    engine: Engine
    version: EngineVersion
    created_at: float
    status: ServerlessStatus = ServerlessStatus.CREATING
    description: str = ""
    limits: UsageLimits = UsageLimits()
    kms_key_id: str | None = None
    security_group_ids: tuple[str, ...] = ()
    subnet_ids: tuple[str, ...] = ()
    user_group_id: str | None = None
    snapshot_retention_days: int = 0
    daily_snapshot_time: str | None = None
    tags: Mapping[str, str] = field(default_factory=dict)
    trouble: str = ""

    @property
    def backing_id(self) -> str:
        """Of its replication group; of its cluster for Memcached."""
        return backing_id(self.name)

    @property
    def least_bytes(self) -> int:
        """It can always hold this much."""
        return max(LEAST_BYTES[self.engine], (self.limits.storage_least_gb or 0) * GB)

    @property
    def most_bytes(self) -> int | None:
        """It never holds more; None: as much as the machine promises."""
        most = self.limits.storage_most_gb
        return None if most is None else most * GB


def backing_id(name: str) -> str:
    """`sessions` -> `serverless--sessions`."""
    return f"{_PREFIX}{name}"


def is_behind_serverless(resource_id: str) -> bool:
    """The id is that of a group or cluster behind a serverless cache: users neither see nor change it."""
    return resource_id.startswith(_PREFIX)


def serverless_name(resource_id: str) -> str:
    """`serverless--sessions` -> `sessions`; of a member `sessions-0001-001`; any other id as it is."""
    return resource_id.removeprefix(_PREFIX)


def shown_text(text: str) -> str:
    """A sentence about what is behind serverless caches, by the names of the caches."""
    return text.replace(_PREFIX, "")
