"""The doors through which metrics come in and are kept. Protocols only.

Adapters: engine.meter (Meter), engine.explorer (Explorer), host.meter (HostMeter), store.series (SeriesStore).
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from cachekeep.domain.metrics import Buckets, Column, Current, Place, Point, Subject, WatchedTarget
from cachekeep.domain.nodes import Address


class Meter(Protocol):
    """Asks nodes for their numbers, on connections of its own, kept per place. Read-only commands, nothing else."""

    async def read(self, place: Place) -> Mapping[str, str]:
        """`INFO all` (with commandstats), or `stats` of Memcached: names and values as texts. The mapping may be lazy:
        looking up a name is cheap, whoever walks it pays for parsing all. Raises WorldError within about a second."""
        ...

    async def latencies(self, place: Place) -> Mapping[str, Buckets]:
        """LATENCY HISTOGRAM since the engine's start, by command (`get`, `config|get`): counts per bucket (not
        cumulative), bounds in microseconds. Empty where the engine has no such thing. Raises WorldError."""
        ...

    async def forget(self, place: Place) -> None: ...

    async def close(self) -> None: ...


class Examiner(Protocol):
    """Looks closer at a node, for evidence: seconds of work at most, read-only, sampled."""

    async def clients_by_address(self, place: Place) -> Mapping[str, int]:
        """How many clients come from each IP address, from CLIENT LIST. Raises WorldError."""
        ...

    async def sample_keys(self, place: Place, *, most: int, within_s: float) -> Sequence[SampledKey]:
        """Up to `most` random keys with their memory and how often they are used. Raises WorldError."""
        ...


@dataclass(frozen=True)
class FoundNode:
    """A node of a watched endpoint. address: an IP address and a port. host_name: what it calls itself, "" for
    nothing. shard: the same for all nodes of one shard, "" without cluster mode."""

    address: Address
    host_name: str = ""
    shard: str = ""
    primary: bool = True


@dataclass(frozen=True)
class Explored:
    """What is behind an endpoint. nodes: shards in the order of their slots, the primary of each first; never empty.
    engine: `valkey`, `redis` or `memcached`. note: what could not be found out, in a sentence."""

    nodes: Sequence[FoundNode]
    engine: str
    version: str
    clustered: bool = False
    note: str | None = None


class Explorer(Protocol):
    """Finds the nodes behind an endpoint. Read-only commands, connections of its own."""

    async def explore(self, place: Place, known: Collection[Address] = ()) -> Explored:
        """place: its host may be a name. known: nodes that need not answer now to be told again; all others must.
        Raises WorldError within a few seconds, with a sentence on what to do."""
        ...


class Watching(Protocol):
    """What pages need of the watching of targets."""

    def watched(self, region: str) -> list[dict[str, Any]]:
        """Every target of the region as JSON values (see web.ports.Views.watched), by name; never a password."""
        ...

    async def explored(self, target: WatchedTarget) -> WatchedTarget:
        """The target with the nodes that are found behind it now. Raises WorldError."""
        ...


@dataclass(frozen=True)
class SampledKey:
    """frequency: the engine's LFU counter, None where its policy keeps none. name: printable, cut to 100 characters.

    type: asked of the biggest keys only, else empty.
    """

    name: str
    db: int
    type: str
    memory_bytes: int
    frequency: int | None = None


@dataclass(frozen=True)
class MachineReading:
    """The whole machine, or the control group that limits us where one does. Counters since boot; None where this
    machine cannot tell.

    cpu_busy_s, cpu_total_s: CPU seconds of all cores, their quotient of differences is the utilisation.
    conntrack_exceeded, packets_exceeded, bandwidth_*_exceeded, link_local_exceeded: see data/metrics.json.
    """

    cpu_busy_s: float
    cpu_total_s: float
    memory_total_bytes: int
    memory_available_bytes: int
    conntrack_exceeded: int | None = None
    packets_exceeded: int | None = None
    bandwidth_in_exceeded: int | None = None
    bandwidth_out_exceeded: int | None = None
    link_local_exceeded: int | None = None


@dataclass(frozen=True)
class ProcessReading:
    """main_thread_cpu_s: CPU seconds of the thread with the process's own id; cpu_s: of all its threads."""

    rss_bytes: int
    swap_bytes: int
    cpu_s: float
    main_thread_cpu_s: float


@dataclass(frozen=True)
class Traffic:
    """What went over TCP, counted since the meter began; never decreases."""

    packets_in: int = 0
    packets_out: int = 0
    bytes_in: int = 0
    bytes_out: int = 0


class HostMeter(Protocol):
    """Reads this machine. Quick: each call takes well under a millisecond per process or socket asked for."""

    def machine(self) -> MachineReading: ...

    def processes(self, pids: Collection[int]) -> Mapping[int, ProcessReading]:
        """Those that live. Absent: gone, or not readable."""
        ...

    def traffic(self, owners: Mapping[Address, str]) -> Mapping[str, Traffic] | None:
        """Totals for each owner: of connections whose local end is one of its addresses, and of those that go out from
        one of its hosts (127.0.0.1 excepted). Connections that were closed since the last call count. owners may
        differ from call to call: what came since the last one goes to the owner of now. None where the kernel tells
        nobody (not Linux, not allowed)."""
        ...

    def close(self) -> None: ...


class SeriesStore(Protocol):
    """Keeps points for months in a bounded file. Thread-safe."""

    def write(self, start: int, rows: Mapping[Subject, Mapping[str, Point]]) -> None:
        """The points of the minute that begins at `start` (a multiple of 60, seconds since 1970). A second write for
        the same minute and subject replaces that subject's minute. Never raises for trouble with the disk: keeps the
        minute in memory (bounded), tries again with the next, and says so in `trouble`."""
        ...

    def read(self, subject: Subject, names: Collection[str], start: int, end: int, period: int) -> Mapping[str, Column]:
        """Points of start <= period's start < end, aggregated to periods of `period` seconds (a multiple of 60) that
        begin at multiples of it. A name without points has an empty Column. Where only coarser points are left (older
        than the retention of fine ones) those are returned instead, at their own starts. Raises WorldError when the
        file cannot be read now: that there are no points, and that nobody can tell, are two things."""
        ...

    def subjects(self, region: str | None = None) -> Sequence[Subject]:
        """All that have points, sorted."""
        ...

    def names(self, subject: Subject, since: int = 0) -> frozenset[str]:
        """The metrics of the subject that have had a point since then (to the hour)."""
        ...

    @property
    def trouble(self) -> str | None:
        """Why minutes wait in memory, or what was lost and where it was put; None when all is well."""
        ...

    def close(self) -> None: ...


class Gauges(Protocol):
    """What monitoring knows of now: for surfaces."""

    def current(self, subject: Subject) -> Current | None: ...

    def subjects(self) -> Sequence[Subject]:
        """Nodes and groups that are measured now, watched targets among them, sorted."""
        ...

    def place(self, subject: Subject) -> Place | None:
        """Where a node is asked; None for a group, and for what is not measured now."""
        ...


class Totals(Protocol):
    """Running sums beside the gauges, for those who keep series of their own."""

    def totals(self, subject: Subject) -> Mapping[str, float]:
        """A node's counters since it is measured, by metric name: they never decrease, whatever its engine does.
        Computed for this call. Empty for a group, and for what is not measured now."""
        ...

    def distributions(self, subject: Subject) -> Mapping[str, Point]:
        """Of metrics that have buckets: all that was measured in whole minutes so far, as one point."""
        ...


@dataclass(frozen=True)
class Monitoring:
    """What surfaces get: months of points, the values of now, and closer looks."""

    series: SeriesStore
    gauges: Gauges
    examiner: Examiner
    now: Callable[[], float]
    total_memory_bytes: int = 0
