"""What a node should be (NodeSpec) and what is seen of it (ObservedNode). Pure.

A node is one engine process with an address of its own and a folder of its own.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from functools import cached_property
from ipaddress import ip_address

from cachekeep.domain.access import Rules, acl_digest
from cachekeep.domain.engine import Engine, EngineVersion
from cachekeep.domain.restore import Seed
from cachekeep.domain.slots import Slots
from cachekeep.domain.transit import Transit


@dataclass(frozen=True, order=True)
class Address:
    """A host (an IP address in text) and a TCP port."""

    host: str
    port: int

    def __post_init__(self) -> None:
        if not 0 < self.port < 65536:
            raise ValueError(f"not a TCP port: {self.port}")

    def __str__(self) -> str:
        return f"{self.host}:{self.port}"


def is_ip(host: str) -> bool:
    """An IP address in text, of version 4 or 6; else it is a name."""
    try:
        ip_address(host)
    except ValueError:
        return False
    return True


@dataclass(frozen=True, order=True)
class NodeKey:
    """Names one node in an installation: region, cache cluster id and cache node id (`0001`).

    The node id `cfg` names the discovery responder of a memcached cluster, which runs like a node.
    """

    region: str
    cluster_id: str
    node_id: str = "0001"

    def __str__(self) -> str:
        return f"{self.region}/{self.cluster_id}/{self.node_id}"


class ProgramKind(StrEnum):
    """Which program a node runs."""

    ENGINE = "engine"
    DISCOVERY = "discovery"
    SWITCH = "switch"


@dataclass(frozen=True)
class NodeSpec:
    """Everything that is needed to start a node.

    config: for Valkey and Redis the directives of the configuration file, for Memcached the command-line
    options (`-m` -> `512`), for the discovery responder nothing. A directive that may stand several times
    (`client-output-buffer-limit`) holds its lines joined by a newline.
    follow: the primary to replicate from as soon as the engine runs; None starts a primary.
    link: names the nodes that log in to one another, such as all of a replication group; "" for nobody. users: who may
    log in besides the service: the words of ACL SETUSER for each, with digests of passwords only; () leaves `default`
    open. Neither is written to node.json.
    transit: how its clients and fellow nodes talk to it. hosts: every address that its certificate is to name.
    transit_moves: it may run in another mode than that, and is to be brought into it while it runs.
    """

    key: NodeKey
    engine: Engine
    version: EngineVersion
    address: Address
    config: Mapping[str, str] = field(default_factory=dict)
    follow: Address | None = None
    program: ProgramKind = ProgramKind.ENGINE
    link: str = ""
    users: Rules = ()
    transit: Transit = Transit.OFF
    hosts: tuple[str, ...] = ()
    transit_moves: bool = False
    seed: Seed | None = None
    """What the process loads when it is started without data of its own."""

    @property
    def clustered(self) -> bool:
        """The engine runs in cluster mode."""
        return self.config.get("cluster-enabled") == "yes"

    @cached_property
    def acl(self) -> str:
        """The digest that a node with these users tells."""
        return acl_digest(self.link, self.users)


@dataclass(frozen=True)
class Process:
    """An operating-system process, identified so that a reused pid is never mistaken for it.

    started: the kernel's start time (clock ticks since boot on Linux), as text.
    """

    pid: int
    started: str

    @property
    def identity(self) -> str:
        return f"{self.pid}:{self.started}"


class Role(StrEnum):
    PRIMARY = "primary"
    REPLICA = "replica"


@dataclass(frozen=True)
class Peer:
    """One line of CLUSTER NODES. primary_id: whom a replica follows. handshake: known by address only, as yet.

    failed: the majority calls it failed (`fail`), or this node suspects it (`fail?`). linked: this node's bus
    connection to it is up.
    """

    id: str
    address: Address | None
    role: Role
    primary_id: str | None = None
    slots: Slots = ()
    handshake: bool = False
    failed: bool = False
    linked: bool = True


@dataclass(frozen=True)
class SlotMigration:
    """One atomic slot migration of Valkey 9, as its source or its target tells it (CLUSTER GETSLOTMIGRATIONS).

    state: the engine's word; `success`, `failed` and `cancelled` are final.
    """

    name: str
    slots: Slots
    exports: bool
    target_id: str
    state: str
    message: str = ""

    @property
    def running(self) -> bool:
        return self.state not in ("success", "failed", "cancelled", "canceled")


@dataclass(frozen=True)
class ClusterFacts:
    """What a node in cluster mode knows. ok: cluster_state is ok. slots: its own. peers: all others it knows.

    exporting, importing: slots that are being moved key by key, each with the id of the node at the other end.
    migrations: atomic ones that run, and the last that ended.
    """

    id: str
    ok: bool = False
    epoch: int = 0
    slots: Slots = ()
    peers: tuple[Peer, ...] = ()
    exporting: tuple[tuple[int, str], ...] = ()
    importing: tuple[tuple[int, str], ...] = ()
    migrations: tuple[SlotMigration, ...] = ()


@dataclass(frozen=True)
class NodeFacts:
    """What a running engine says of itself (INFO, CONFIG GET, memcached stats).

    offset: replication offset in bytes. link_up: a replica's link to its primary is up and its first
    synchronisation is complete. primary: whom a replica follows. binds: addresses it listens on, in order.
    config: the running values of the directives that Cachekeep manages. pid: the process that answered.
    """

    version: str
    pid: int = 0
    run_id: str = ""
    role: Role = Role.PRIMARY
    offset: int = 0
    link_up: bool = False
    syncing: bool = False
    loading: bool = False
    primary: Address | None = None
    binds: tuple[str, ...] = ()
    used_memory_bytes: int = 0
    maxmemory_bytes: int = 0
    keys: int = 0
    clients: int = 0
    config: Mapping[str, str] = field(default_factory=dict)
    databases_used: tuple[int, ...] = ()
    """Numbers of the databases that hold keys."""
    expiring_fields: int = 0
    """Hashes with fields that expire, which no engine before Valkey 9 knows."""
    unexpected_errors: int = 0
    """Commands of the replication stream that this node could not carry out: its data differs from the primary's."""
    replicas_waiting: int = 0
    """Replicas that this node knows of and that are not online yet."""
    cluster: ClusterFacts | None = None
    """None without cluster mode."""
    keys_loaded: int | None = None
    """Keys of the RDB file that it loaded last, expired ones included; None before 7.0, and where it loaded none."""
    takes_tokens: bool = False
    """The module that lets users in by IAM token is loaded."""
    latched: bool = False
    """It keeps the link to its primary, and cannot make a new one (steps.Latch)."""
    acl: str | None = None
    """The digest of the users that it was last told of, "" for none (domain.access); None when nobody asked."""


@dataclass(frozen=True)
class ObservedNode:
    """One look at one node.

    process None: nothing runs. facts None while a process runs: it does not answer (yet).
    saved: the folder holds the complete data set of an orderly stop, to be loaded at the next start. tried_since:
    a process was started since it was saved.
    failures: starts in a row that ended before the engine answered; log_tail: the engine's last log lines then.
    started_with: the configuration that the process was started with, None when unknown.
    announced: what a discovery responder tells, version and members. listening: a responder takes connections.
    silent_s: for how long a living process has not answered, counted only while it was really asked.
    known_offset, known_binds: the replication offset and the addresses of its last answer, whenever that was.
    kept: without a process, what persistence left in the folder to be loaded: `aof`, `rdb`, or "" for nothing.
    """

    process: Process | None = None
    facts: NodeFacts | None = None
    folder: bool = False
    saved: bool = False
    tried_since: bool = False
    failures: int = 0
    log_tail: tuple[str, ...] = ()
    started_with: Mapping[str, str] | None = None
    announced: tuple[int, tuple[Address, ...]] | None = None
    listening: bool = False
    silent_s: float = 0.0
    known_offset: int = 0
    known_binds: tuple[str, ...] = ()
    kept: str = ""

    @property
    def serving(self) -> bool:
        """A process runs, answers, and has loaded its data."""
        return self.process is not None and self.facts is not None and not self.facts.loading

    @property
    def loading_failed(self) -> bool:
        """A start with the saved data came to nothing, or it came to something and died since: the data may be old."""
        return self.saved and (self.failures >= LOADS_TRIED or (self.tried_since and self.failures == 0))


# Starts with saved data that may fail before others who have data come first.
LOADS_TRIED = 3
NOTHING_SEEN = ObservedNode()
