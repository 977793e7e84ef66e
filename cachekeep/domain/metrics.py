"""What is measured: metrics, the nodes and groups that they are of, points and columns of points. Pure.

A point is a statistic set, as CloudWatch keeps it. A gauge (memory, connections) is read every second, so the point of
a minute has up to 60 samples. A counter (hits, bytes, packets) is published once a minute, as AWS does: one sample, the
increase within that minute, so that Average and Sum of one minute both say it.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

from cachekeep.domain.nodes import Address

# Of the metrics that AWS has, under AWS's names; the others are in `Cachekeep`.
AWS_NAMESPACE = "AWS/ElastiCache"
MINUTE_S = 60

# Upper bound of a bucket (in the metric's unit) and the number of samples in it; ascending, bounds exclusive below.
Buckets = tuple[tuple[float, float], ...]


class MetricKind(StrEnum):
    """gauge: a reading, sampled every second. counter: what happened within the minute. ratio: of two counters of the
    minute, such as a hit rate; absent where nothing happened."""

    GAUGE = "gauge"
    COUNTER = "counter"
    RATIO = "ratio"


class Tier(StrEnum):
    """How the seed document ranks its sixteen metrics."""

    CRUCIAL = "crucial"
    IMPORTANT = "important"
    OPTIONAL = "optional"


@dataclass(frozen=True)
class Metric:
    """One metric as the data file defines it. unit: CloudWatch's word (Percent, Bytes, Count, Seconds, Milliseconds,
    Microseconds, None). engines: `resp`, `memcached`, or both. local_only: cannot be measured on a watched endpoint.
    field: the name in INFO that it is taken from as it stands, memcached_field: that in `stats`; "" where computed.
    about: one sentence of what it means. reading: which reading was chosen where sources differ, and why ("" if none).
    """

    name: str
    namespace: str
    unit: str
    kind: MetricKind
    engines: tuple[str, ...]
    about: str
    source: str
    local_only: bool = False
    field: str = ""
    memcached_field: str = ""
    reading: str = ""


@dataclass(frozen=True, order=True)
class Subject:
    """Whom a series is of: a cache node, or a replication group as a whole (node_id is "" then).

    id: the cache cluster's id (a watched endpoint's name stands there too), or the replication group's.
    """

    region: str
    id: str
    node_id: str = ""

    def __str__(self) -> str:
        return f"{self.region}/{self.id}" + (f"/{self.node_id}" if self.node_id else "")


@dataclass(frozen=True)
class Point:
    """A statistic set over one period. buckets: the distribution, where the engine tells one (latencies)."""

    count: float
    total: float
    least: float
    most: float
    buckets: Buckets = ()

    @classmethod
    def of(cls, value: float) -> Point:
        """A single sample."""
        return cls(1.0, value, value, value)


@dataclass(frozen=True)
class Column:
    """The points of one metric in order of time, as sequences of one length. starts: seconds since 1970 at which each
    period begins. A period without samples is absent: gaps are gaps. buckets: of those periods that have them."""

    starts: Sequence[int] = ()
    count: Sequence[float] = ()
    total: Sequence[float] = ()
    least: Sequence[float] = ()
    most: Sequence[float] = ()
    buckets: Mapping[int, Buckets] = dataclasses.field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.starts)

    def average(self) -> list[float]:
        return [total / count for total, count in zip(self.total, self.count, strict=True)]


@dataclass(frozen=True)
class Current:
    """What a node showed last. at: seconds since 1970. values: gauges of this second, counters and ratios of the last
    whole minute, by metric name. facts: engine, version, role (`primary`, `replica`), node_type, replication_group,
    address, maxmemory_policy: texts, where known. trouble: why there is nothing newer, in a sentence."""

    at: float
    values: Mapping[str, float] = dataclasses.field(default_factory=dict)
    facts: Mapping[str, str] = dataclasses.field(default_factory=dict)
    trouble: str | None = None


@dataclass(frozen=True)
class Place:
    """Where a node is asked. tls: its certificate is verified against ca_file, or the system's authorities when "".

    The password is never part of a text.
    """

    address: Address
    speaks_resp: bool = True
    username: str = ""
    password: str = dataclasses.field(default="", repr=False)
    tls: bool = False
    ca_file: str = ""
    server_name: str = ""
    own: bool = False
    """A node that this installation runs: the service's own user and authority get in, nothing else of this counts."""


@dataclass(frozen=True)
class WatchedNode:
    """A node of a watched target under the name that it keeps. address: an IP address. host_name: what it calls
    itself, "" for nothing. shard: `0001`, "" without cluster mode."""

    cluster_id: str
    node_id: str
    address: Address
    host_name: str = ""
    shard: str = ""


@dataclass(frozen=True)
class WatchedTarget:
    """An endpoint that Cachekeep only reads: an AWS cache, or any other Redis, Valkey or Memcached.

    id: the name that stands as ReplicationGroupId in its metrics, and CacheClusterIds begin with it. url: without
    credentials. node_type: as the user says, for cost and right-sizing; "" for not known. nodes, engine, version: as
    last found. The password is never part of a text.
    """

    region: str
    id: str
    url: str
    username: str = ""
    password: str = dataclasses.field(default="", repr=False)
    ca_file: str = ""
    node_type: str = ""
    added_at: float = 0.0
    nodes: tuple[WatchedNode, ...] = ()
    engine: str = ""
    version: str = ""
