"""The narrow doors between the services and the world. Protocols only; adapters live in store, host, engine, endpoint.

Errors: an adapter raises `WorldError` for what may be gone at the next look (a refused connection, an engine that
is still loading, a busy address); anything else is a bug. Every call on the world ends by itself within seconds.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Protocol, TypeVar

from cachekeep.domain.access import Rules
from cachekeep.domain.alarms import Alarm, HistoryItem, HistoryKind, Topic
from cachekeep.domain.cache_cluster import CacheCluster
from cachekeep.domain.engine import Engine, EngineInstall, EngineVersion
from cachekeep.domain.events import Event, Note
from cachekeep.domain.global_group import GlobalGroup
from cachekeep.domain.metrics import WatchedTarget
from cachekeep.domain.migration import SourceFacts
from cachekeep.domain.nodes import Address, NodeFacts, NodeKey, NodeSpec, Process
from cachekeep.domain.parameters import ParameterGroup
from cachekeep.domain.replication_group import ReplicationGroup
from cachekeep.domain.reserved_node import ReservedNode
from cachekeep.domain.security_group import SecurityGroup
from cachekeep.domain.serverless import ServerlessCache
from cachekeep.domain.service_updates import ServiceUpdate, UpdateAction, UpkeepNotice
from cachekeep.domain.slots import Slots
from cachekeep.domain.snapshot import Snapshot
from cachekeep.domain.subnet_group import SubnetGroup
from cachekeep.domain.users import User, UserGroup
from cachekeep.domain.verdicts import ThresholdOverrides
from cachekeep.domain.world import WorldError as WorldError


class Clock(Protocol):
    def now(self) -> float:
        """Seconds since 1970, UTC."""
        ...


class EngineCatalogue(Protocol):
    """The engine programs of this machine."""

    def installs(self) -> Sequence[EngineInstall]:
        """All that were found and answered a probe, newest version first within an engine."""
        ...

    def best(self, engine: Engine, wanted: EngineVersion | None) -> EngineInstall | None:
        """The newest installation that `wanted` covers (any version when None), or None."""
        ...


class Host(Protocol):
    """Runs nodes as processes of this machine, each in a session and a folder of its own.

    The processes outlive the service. A node's process is known by pid, start time and folder.
    """

    async def start(self, spec: NodeSpec, install: EngineInstall | None, *, keep_data: bool) -> Process:
        """Write folder and configuration and run the program; returns at once, before it answers.

        Does nothing when the node's process already runs. install is None for the discovery responder.
        keep_data False removes whatever data files an earlier process left, and what it knew of its cluster. True
        loads what is_saved or kept says is there, whichever of the two persistence settings is on now. Raises
        WorldError (disk full, program not executable).
        """
        ...

    async def stop(self, key: NodeKey, *, grace_s: float) -> None:
        """SIGTERM, then SIGKILL after grace_s; returns when the process is gone. Nothing runs: no effect."""
        ...

    def find(self, key: NodeKey) -> Process | None:
        """The node's living process, re-adopted if an earlier service started it."""
        ...

    def watch(self, key: NodeKey, process: Process, on_exit: Callable[[], None]) -> None:
        """Call on_exit in the event loop once this very process ends (by pidfd where the kernel has it)."""
        ...

    def has_folder(self, key: NodeKey) -> bool: ...

    def is_saved(self, key: NodeKey) -> bool:
        """The folder holds a complete data set of an orderly stop, marked by `mark_saved`."""
        ...

    def kept(self, key: NodeKey, config: Mapping[str, str]) -> str:
        """What persistence left in the folder of a node that runs no more, and a node with `config` would load:
        `aof`, `rdb`, or "" for nothing (also when config has no persistence: then old files are not trusted)."""
        ...

    def note_keeping(self, key: NodeKey, values: Mapping[str, str], *, done: bool) -> bool:
        """Told before (done False) and after a running engine gets new values of appendonly and save, if there are
        any among values. True when it kept nothing so far and now will: data files from before are no longer kept."""
        ...

    def started_since_saved(self, key: NodeKey) -> bool:
        """A process was started after the data set was saved."""
        ...

    def is_marked(self, key: NodeKey) -> bool:
        """`mark_saved` set the mark, whether or not a data set came of it."""
        ...

    def mark_saved(self, key: NodeKey, saved: bool) -> None:
        """Set or remove that mark, durably."""
        ...

    async def remove(self, key: NodeKey) -> None:
        """Delete the node's folder; refuses with WorldError while its process lives."""
        ...

    async def end_strays(self, is_wanted: Callable[[NodeKey], bool]) -> list[str]:
        """End the processes that an earlier service started and that belong to no folder any more, but for those
        of nodes that are wanted (their folder was deleted under them: they serve on). The names of the ended."""
        ...

    def nodes(self) -> list[NodeKey]:
        """All nodes that have a folder here."""
        ...

    def started_with(self, key: NodeKey) -> Mapping[str, str] | None:
        """The `config` of the spec that the node's process was started with; None when there is no record."""
        ...

    def record_listening(self, key: NodeKey, directives: Mapping[str, str]) -> None:
        """Write down on which ports the node was seen to listen, for whoever asks it without this service."""
        ...

    def renew(self, spec: NodeSpec, now: float) -> bool:
        """Write a new certificate for the node if the one it has is due, or lacks one of its addresses, or was never
        marked as read. True when there is one for the engine to read. Raises WorldError."""
        ...

    def renewed(self, key: NodeKey) -> None:
        """The engine has read the certificate in the node's folder."""
        ...

    def log_tail(self, key: NodeKey, lines: int) -> list[str]:
        """The last lines of the engine's log, oldest first; empty when there is none."""
        ...

    def discovery_members(self, key: NodeKey) -> tuple[int, tuple[Address, ...]] | None:
        """What the discovery responder of a memcached cluster announces now: version and members."""
        ...

    def advertise(self, key: NodeKey, version: int, members: Sequence[Address]) -> None:
        """Replace what the responder announces, atomically."""
        ...


class EngineAdmin(Protocol):
    """Talks to engines. Connections are kept per node; `forget` closes one."""

    async def facts(self, engine: Engine, address: Address, settings: Collection[str]) -> NodeFacts:
        """One look. settings: the configuration directives to read back (Valkey and Redis only)."""
        ...

    async def ping(self, address: Address, timeout_s: float) -> str | None:
        """Valkey and Redis: the engine's word for its role (`master`, `slave`), or None when it answers something else,
        as while it loads. Raises WorldError when it does not answer, lets the service in no more, or says that a script
        keeps it busy (`BUSY` stands in the text then)."""
        ...

    async def interrupt(self, address: Address) -> None:
        """End a script or function that runs for too long and has not written yet. Raises WorldError when it has."""
        ...

    async def takes_connections(self, address: Address) -> bool:
        """Somebody listens there."""
        ...

    async def look_outside(self, address: Address) -> SourceFacts:
        """One look at a server that is not ours. Raises nothing: why it could not be asked is part of the answer."""
        ...

    async def follow(self, address: Address, primary: Address) -> None: ...

    async def promote(self, address: Address) -> None: ...

    async def latch(self, address: Address, *, on: bool) -> None:
        """See steps.Latch."""
        ...

    async def switch_over(
        self,
        address: Address,
        successor: Address,
        binds: Sequence[str],
        successor_binds: Sequence[str],
        given_up: Collection[str],
    ) -> None:
        """See steps.SwitchOver. All or nothing as long as both answer: raises WorldError with the roles as they were
        when the successor does not catch up or refuses; then writes go on at the old one. At every moment at most one
        of the two takes writes from clients."""
        ...

    async def meet(self, address: Address, peer: Address) -> None:
        """CLUSTER MEET, with the bus port of the peer."""
        ...

    async def forget_node(self, address: Address, node_id: str) -> None:
        """CLUSTER FORGET. A node that is not known any more: no effect."""
        ...

    async def add_slots(self, address: Address, slots: Slots, epoch: int) -> None:
        """CLUSTER SET-CONFIG-EPOCH (while it knows nobody; no effect otherwise) and CLUSTER ADDSLOTS."""
        ...

    async def replicate(self, address: Address, primary_id: str) -> None:
        """CLUSTER REPLICATE."""
        ...

    async def take_over(self, address: Address, *, vote: bool) -> None:
        """See steps.TakeOver. Returns once the node says that it is a primary. Raises WorldError."""
        ...

    async def cluster_switch_over(self, address: Address) -> None:
        """CLUSTER FAILOVER. Returns once the node says that it is a primary. Raises WorldError when it does not
        become one; the roles are as they were then."""
        ...

    async def migrate_slots(self, address: Address, slots: Slots, target_id: str) -> None:
        """CLUSTER MIGRATESLOTS: begins it and returns."""
        ...

    async def cancel_migrations(self, address: Address) -> None:
        """CLUSTER CANCELSLOTMIGRATIONS."""
        ...

    async def move_slots(
        self,
        address: Address,
        slots: Slots,
        source_id: str,
        target: Address,
        target_id: str,
        others: Sequence[Address],
    ) -> None:
        """See steps.MoveSlots: returns after about a second, or when all are moved. No key is lost or overwritten
        when it is broken off anywhere: called again, it goes on."""
        ...

    async def bind(self, address: Address, hosts: Sequence[str], given_up: Collection[str]) -> None:
        """CONFIG SET bind, then CLIENT KILL LADDR for each address that was given up."""
        ...

    async def configure(self, address: Address, values: Mapping[str, str]) -> None:
        """CONFIG SET, all or nothing where the engine can. Raises WorldError with the engine's words."""
        ...

    async def reload_certificate(self, engine: Engine, address: Address) -> None:
        """Have the engine read the certificate in its folder again; connections that are open stay."""

    async def set_users(self, address: Address, link: str, users: Rules) -> None:
        """See steps.SetUsers: the service's own user, whom it logs in to other nodes as, and all others at once. No
        effect without a login. Raises WorldError in words without a secret."""
        ...

    async def save_soon(self, address: Address) -> None:
        """Have a snapshot written in the background, for an engine whose save points were switched on: one that has
        nothing new would write none. No answer is waited for longer than that it has begun."""
        ...

    async def shutdown_saving(self, address: Address) -> None:
        """SHUTDOWN SAVE. Returns once the connection has dropped. Raises WorldError when the save failed."""
        ...

    async def forget(self, address: Address) -> None: ...

    async def close(self) -> None: ...


class AddressPool(Protocol):
    """Hands out addresses for nodes and endpoints; the store remembers to whom.

    movable: an address can be moved from one engine to another while both run (loopback addresses can,
    ports of one address cannot), so a group can have endpoints of its own.
    """

    movable: bool

    def pick(self, port: int, count: int, taken: Collection[Address], after: Address | None) -> list[Address]:
        """`count` free addresses, none in `taken`, searched from behind `after` (round robin, so that an
        address that was given back rests as long as possible). Raises WorldError when there are too few."""
        ...


class Conflict(Exception):
    """A resource was changed by somebody else since it was read."""


Resource = (
    ReplicationGroup
    | CacheCluster
    | ParameterGroup
    | SubnetGroup
    | Alarm
    | Topic
    | WatchedTarget
    | ThresholdOverrides
    | Snapshot
    | ReservedNode
    | ServerlessCache
    | ServiceUpdate
    | UpdateAction
    | UpkeepNotice
    | GlobalGroup
    | User
    | UserGroup
    | SecurityGroup
)
R = TypeVar("R", bound=Resource)


class Transaction(Protocol):
    """Reads and writes that happen together or not at all. Ends without an await in between."""

    def get(self, kind: type[R], region: str, name: str) -> R | None: ...

    def all(self, kind: type[R], region: str | None = None) -> list[R]: ...

    def insert(self, resource: Resource) -> None:
        """Raises Conflict when one of this kind and name is there."""
        ...

    def replace(self, old: Resource, new: Resource) -> None:
        """Raises Conflict when what is stored is not `old` any more."""
        ...

    def delete(self, resource: Resource) -> None: ...

    def add_event(self, event: Event) -> None: ...

    def add_note(self, note: Note) -> None:
        """To the journal."""
        ...

    def add_history(self, item: HistoryItem) -> None:
        """To the history of an alarm; kept for 14 days."""
        ...

    def addresses(self) -> set[Address]:
        """All that are claimed."""
        ...

    def last_claimed(self) -> Address | None:
        """The address that was claimed last, whether or not it was released since."""
        ...

    def claim(self, owner: str, addresses: Sequence[Address]) -> None: ...

    def release(self, addresses: Sequence[Address]) -> None: ...


class Store(Protocol):
    """Everything that is wanted, and what was seen of it last. Durable once a transaction has ended."""

    def get(self, kind: type[R], region: str, name: str) -> R | None: ...

    def all(self, kind: type[R], region: str | None = None) -> list[R]:
        """Ordered by name."""
        ...

    def events(
        self, region: str, *, since: float, until: float, source_type: str | None, source_id: str | None
    ) -> list[Event]:
        """Newest last."""
        ...

    def journal(self, region: str, resource_id: str, *, since: float = 0.0, limit: int = 1000) -> list[Note]:
        """The newest `limit` notes of a group, or of a cluster of its own; oldest first."""
        ...

    def alarm_history(
        self, region: str, alarm: str | None = None, *, since: float, until: float, kind: HistoryKind | None = None
    ) -> list[HistoryItem]:
        """Oldest first."""
        ...

    def transaction(self) -> AbstractContextManager[Transaction]: ...

    def subscribe(self, changed: Callable[[Sequence[Resource]], None]) -> None:
        """Call `changed` after every transaction that touched resources."""
        ...
