"""Events: what DescribeEvents tells users; notes: what was decided and why, for the journal. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class SourceType(StrEnum):
    CACHE_CLUSTER = "cache-cluster"
    CACHE_PARAMETER_GROUP = "cache-parameter-group"
    CACHE_SUBNET_GROUP = "cache-subnet-group"
    CACHE_SECURITY_GROUP = "cache-security-group"
    REPLICATION_GROUP = "replication-group"
    SERVERLESS_CACHE = "serverless-cache"
    SERVERLESS_CACHE_SNAPSHOT = "serverless-cache-snapshot"
    USER = "user"
    USER_GROUP = "user-group"


@dataclass(frozen=True)
class Event:
    """at: seconds since 1970, UTC."""

    at: float
    region: str
    source_type: SourceType
    source_id: str
    message: str


@dataclass(frozen=True)
class Note:
    """One sentence of the journal of a group or of a cluster of its own. at: seconds since 1970, UTC."""

    at: float
    region: str
    resource_id: str
    sentence: str
