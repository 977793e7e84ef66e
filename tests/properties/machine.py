"""A machine in memory: processes, the engines in them, and their folders.

Time passes only in `World.tick`, a second each. What is modelled after the engines: a replica whose data is the
beginning of its primary's resumes, any other synchronises as a whole (transfer, load, link up); a link is down while
the primary does not answer; an address that one engine listens on is refused to every other; a killed process leaves
what its persistence had written. Cluster mode is in tests.properties.bus.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from cachekeep.domain.engine import EngineVersion
from cachekeep.domain.nodes import Address, NodeKey, NodeSpec, Process, Role
from tests.properties.bus import Bus, Known, fail_migrations_to, gossip, takes_away

BYTES_PER_WRITE = 10
# Snapshots are taken every so many ticks.
SNAPSHOT_TICKS = 4
FOREVER = 1_000_000


@dataclass
class Running:
    """A process and the engine in it. writes: its data set, in the order of the writes; see bus.takes_away.

    synced: it has had a data set (its own or a primary's). transfer, loading: ticks that are left of each.
    silent, stalled: ticks for which it answers nobody, or applies nothing that it receives. paused: ticks for which
    writes wait. errors: commands of the replication stream that it could not carry out.
    """

    process: Process
    spec: NodeSpec
    role: Role
    primary: Address | None
    writes: tuple[int, ...]
    binds: tuple[str, ...]
    config: dict[str, str]
    synced: bool = False
    link_up: bool = False
    transfer: int = 0
    loading: int = 0
    incoming: tuple[int, ...] = ()
    silent: int = 0
    stalled: int = 0
    paused: int = 0
    errors: int = 0
    bus: Bus | None = None

    @property
    def offset(self) -> int:
        return len(self.writes) * BYTES_PER_WRITE

    @property
    def answers(self) -> bool:
        return self.silent == 0

    @property
    def data(self) -> frozenset[int]:
        """What it holds, after all that was written to it and moved away from it."""
        if self.bus is None:
            return frozenset(self.writes)
        held: set[int] = set()
        for write in self.writes:
            if write >= 0:
                held.add(write)
            else:
                held = {value for value in held if not takes_away(write, value)}
        return frozenset(held)


@dataclass
class Folder:
    """saved: the mark; it counts only together with data. tried: a process was started since it was made.

    kept: what persistence wrote, by kind. known: the cluster that the node was in, which only data brings back.
    """

    data: tuple[int, ...] | None = None
    saved: bool = False
    tried: bool = False
    kept: dict[str, tuple[int, ...]] = field(default_factory=dict)
    known: Known | None = None
    config: Mapping[str, str] = field(default_factory=dict)
    log: list[str] = field(default_factory=list)
    announced: tuple[int, tuple[Address, ...]] | None = None


@dataclass
class World:
    """stale_marks: a saved data set stays marked when its engine served and died before anybody looked.

    unreadable: versions that cannot load what an engine of another version sends.
    """

    running: dict[NodeKey, Running] = field(default_factory=dict)
    folders: dict[NodeKey, Folder] = field(default_factory=dict)
    exits: dict[Process, Callable[[], None]] = field(default_factory=dict)
    stale_marks: bool = False
    broken_starts: set[NodeKey] = field(default_factory=set)
    unreadable: set[EngineVersion] = field(default_factory=set)
    pids: int = 100
    ticks: int = 0

    def at(self, host: str) -> Running | None:
        """Who listens there."""
        return next((e for e in self.running.values() if host in e.binds), None)

    def tick(self) -> None:
        self.ticks += 1
        for engine in self.running.values():
            engine.paused = max(0, engine.paused - 1)
            if engine.silent:
                engine.silent -= 1
            elif engine.loading:
                self._load(engine)
            elif engine.role is Role.REPLICA:
                self._replicate(engine)
            if self.ticks % SNAPSHOT_TICKS == 0 and engine.config.get("save") and not engine.loading:
                self.folders[engine.spec.key].kept["rdb"] = engine.writes
        gossip([e for e in self.running.values() if e.bus is not None and e.answers and not e.loading])

    def _load(self, engine: Running) -> None:
        engine.loading -= 1
        if not engine.loading:
            engine.writes, engine.synced = engine.incoming, True
            engine.link_up = engine.role is Role.REPLICA

    def _replicate(self, engine: Running) -> None:
        source = self.at(engine.primary.host) if engine.primary else None
        if source is None or source is engine or not source.answers or source.loading:
            engine.link_up, engine.transfer = False, 0
        elif engine.stalled:
            engine.stalled -= 1
        elif engine.transfer:
            engine.transfer -= 1
            if not engine.transfer:
                engine.incoming, engine.writes, engine.loading = source.writes, (), 1
        elif engine.synced and source.writes[: len(engine.writes)] == engine.writes:
            engine.link_up, engine.writes = True, source.writes
        elif engine.spec.version in self.unreadable and engine.spec.version != source.spec.version:
            engine.link_up = False
        else:
            engine.link_up, engine.transfer = False, 2

    def write(self, host: str, value: int) -> bool:
        """A client's write to the endpoint; True when it was acknowledged."""
        engine = self.at(host)
        if engine is None or not engine.answers or engine.loading or engine.paused or engine.role is not Role.PRIMARY:
            return False
        engine.writes, engine.synced = (*engine.writes, value), True
        return True

    def kill(self, key: NodeKey) -> None:
        engine = self.running.get(key)
        if engine is None:
            return
        if not self.stale_marks and not engine.loading:
            self.folders[key].saved = False
        self.end(key)

    def end(self, key: NodeKey) -> None:
        engine = self.running.pop(key, None)
        if engine is None:
            return
        folder = self.folders[key]
        if engine.config.get("appendonly") == "yes" and not engine.loading:
            folder.kept["aof"] = engine.writes
        folder.known = None
        if engine.bus is not None:
            folder.known = engine.bus.known()
            for other in self.running.values():
                if other.bus is not None:
                    fail_migrations_to(other.bus, engine.bus.id)
        on_exit = self.exits.pop(engine.process, None)
        if on_exit is not None:
            on_exit()

    def start(self, spec: NodeSpec, *, keep_data: bool) -> Process:
        if spec.key in self.running:
            return self.running[spec.key].process
        self.pids += 1
        process = Process(self.pids, str(self.pids * 7))
        folder = self.folders.setdefault(spec.key, Folder())
        folder.config = dict(spec.config)
        if not keep_data:
            folder.data, folder.saved, folder.kept, folder.known = None, False, {}, None
        folder.tried = True
        if spec.key in self.broken_starts:
            folder.log = ["Fatal error, can't open config file"]
            return process
        kept = folder.kept.get("aof", folder.kept.get("rdb"))
        loaded = folder.data if kept is None or (folder.saved and folder.data is not None) else kept
        clustered = spec.config.get("cluster-enabled") == "yes"
        bus = Bus.begin(f"id{self.pids}", spec.address, folder.known) if clustered else None
        follow = spec.follow if bus is None else bus.primary_address
        self.running[spec.key] = Running(
            process=process,
            spec=spec,
            role=Role.REPLICA if follow or (bus is not None and bus.primary_id) else Role.PRIMARY,
            primary=follow,
            writes=(),
            binds=(spec.address.host,),
            config=dict(spec.config),
            incoming=loaded or (),
            loading=1 if loaded is not None else 0,
            bus=bus,
        )
        return process
