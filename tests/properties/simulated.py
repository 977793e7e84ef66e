"""A machine in memory: engines that replicate, folders, and the ports Host and EngineAdmin over them.

Time passes only in `World.tick`. What is modelled after the engines: a replica whose data is the beginning of its
primary's resumes, any other synchronises as a whole (transfer, load, link up); a link is down while the primary does
not answer; an address that one engine listens on is refused to every other.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field

from cachekeep.domain.engine import Engine, EngineInstall, EngineVersion
from cachekeep.domain.nodes import Address, NodeFacts, NodeKey, NodeSpec, Process, ProgramKind, Role
from cachekeep.domain.ports import WorldError

BYTES_PER_WRITE = 10


class ServiceDied(BaseException):
    """The service was killed here; the machine goes on."""


@dataclass
class Running:
    """A process and the engine in it. writes: its data set, in the order of the writes.

    synced: it has had a data set (its own or a primary's). transfer, loading: ticks that are left of each.
    silent, stalled: ticks for which it answers nobody, or applies nothing that it receives.
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

    @property
    def offset(self) -> int:
        return len(self.writes) * BYTES_PER_WRITE

    @property
    def answers(self) -> bool:
        return self.silent == 0


@dataclass
class Folder:
    """saved: the mark; it counts only together with data. tried: a process was started since it was made."""

    data: tuple[int, ...] | None = None
    saved: bool = False
    tried: bool = False
    config: Mapping[str, str] = field(default_factory=dict)
    log: list[str] = field(default_factory=list)
    announced: tuple[int, tuple[Address, ...]] | None = None


@dataclass
class World:
    """stale_marks: a saved data set stays marked when its engine served and died before anybody looked."""

    running: dict[NodeKey, Running] = field(default_factory=dict)
    folders: dict[NodeKey, Folder] = field(default_factory=dict)
    exits: dict[Process, Callable[[], None]] = field(default_factory=dict)
    stale_marks: bool = False
    broken_starts: set[NodeKey] = field(default_factory=set)
    pids: int = 100

    def at(self, host: str) -> Running | None:
        """Who listens there."""
        return next((e for e in self.running.values() if host in e.binds), None)

    def tick(self) -> None:
        for engine in self.running.values():
            if engine.silent:
                engine.silent -= 1
            elif engine.loading:
                self._load(engine)
            elif engine.role is Role.REPLICA:
                self._replicate(engine)

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
        else:
            engine.link_up, engine.transfer = False, 2

    def write(self, host: str, value: int) -> bool:
        """A client's write to the endpoint; True when it was acknowledged."""
        engine = self.at(host)
        if engine is None or not engine.answers or engine.loading or engine.role is not Role.PRIMARY:
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
        if engine is not None:
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
            folder.data, folder.saved = None, False
        folder.tried = True
        if spec.key in self.broken_starts:
            folder.log = ["Fatal error, can't open config file"]
            return process
        loads = folder.data is not None
        self.running[spec.key] = Running(
            process=process,
            spec=spec,
            role=Role.REPLICA if spec.follow else Role.PRIMARY,
            primary=spec.follow,
            writes=(),
            binds=(spec.address.host,),
            config=dict(spec.config),
            incoming=folder.data or (),
            loading=1 if loads else 0,
        )
        return process


class Mischief:
    """What goes wrong with the n-th call that changes something: it fails, its reply is lost, the service dies."""

    def __init__(self) -> None:
        self.kind: str | None = None
        self.after = 0

    def arm(self, kind: str | None, after: int) -> None:
        self.kind, self.after = kind, after

    def before(self) -> None:
        if self.kind == "fails" and self.after == 0:
            self.kind = None
            raise WorldError("refused")
        if self.kind == "dies" and self.after == 0:
            self.kind = None
            raise ServiceDied

    def afterwards(self) -> None:
        if self.kind == "lost" and self.after == 0:
            self.kind = None
            raise WorldError("the reply was lost")
        self.after -= 1


class FakeHost:
    """domain.ports.Host over a World."""

    def __init__(self, world: World, mischief: Mischief | None = None) -> None:
        self.world = world
        self.mischief = mischief or Mischief()
        self.stopped: list[NodeKey] = []

    async def start(self, spec: NodeSpec, install: EngineInstall | None, *, keep_data: bool) -> Process:
        self.mischief.before()
        process = self.world.start(spec, keep_data=keep_data)
        self.mischief.afterwards()
        return process

    async def stop(self, key: NodeKey, *, grace_s: float) -> None:
        self.mischief.before()
        self.world.end(key)
        self.stopped.append(key)
        self.mischief.afterwards()

    def find(self, key: NodeKey) -> Process | None:
        engine = self.world.running.get(key)
        return engine.process if engine else None

    def watch(self, key: NodeKey, process: Process, on_exit: Callable[[], None]) -> None:
        self.world.exits[process] = on_exit

    def has_folder(self, key: NodeKey) -> bool:
        return key in self.world.folders

    def is_saved(self, key: NodeKey) -> bool:
        folder = self.world.folders.get(key)
        return folder is not None and folder.saved and folder.data is not None

    def mark_saved(self, key: NodeKey, saved: bool) -> None:
        if key in self.world.folders:
            self.world.folders[key].saved = saved
            self.world.folders[key].tried = False

    def started_since_saved(self, key: NodeKey) -> bool:
        folder = self.world.folders.get(key)
        return folder is not None and folder.saved and folder.tried

    async def remove(self, key: NodeKey) -> None:
        self.mischief.before()
        if key in self.world.running:
            raise WorldError("its process still runs")
        self.world.folders.pop(key, None)
        self.mischief.afterwards()

    async def end_strays(self, is_wanted: Callable[[NodeKey], bool]) -> list[str]:
        return []

    def nodes(self) -> list[NodeKey]:
        return sorted(self.world.folders)

    def started_with(self, key: NodeKey) -> Mapping[str, str] | None:
        folder = self.world.folders.get(key)
        return folder.config if folder else None

    def log_tail(self, key: NodeKey, lines: int) -> list[str]:
        folder = self.world.folders.get(key)
        return folder.log[-lines:] if folder else []

    def discovery_members(self, key: NodeKey) -> tuple[int, tuple[Address, ...]] | None:
        folder = self.world.folders.get(key)
        return folder.announced if folder else None

    def advertise(self, key: NodeKey, version: int, members: Sequence[Address]) -> None:
        self.world.folders.setdefault(key, Folder()).announced = (version, tuple(members))


class FakeAdmin:
    """domain.ports.EngineAdmin over a World. ticking: every look lets time pass."""

    def __init__(self, world: World, mischief: Mischief | None = None, *, ticking: bool = False) -> None:
        self.world = world
        self.mischief = mischief or Mischief()
        self.ticking = ticking
        self.save_reply_lost = False

    async def facts(self, engine: Engine, address: Address, settings: Collection[str]) -> NodeFacts:
        if self.ticking:
            self.world.tick()
        found = self._at(address)
        return NodeFacts(
            version="9.1.2",
            pid=found.process.pid,
            role=found.role,
            offset=found.offset,
            link_up=found.link_up and not found.loading,
            syncing=found.transfer > 0,
            loading=found.loading > 0,
            primary=found.primary,
            binds=found.binds,
            used_memory_bytes=len(found.writes) * BYTES_PER_WRITE,
            keys=len(found.writes),
            config={name: found.config[name] for name in settings if name in found.config},
        )

    async def takes_connections(self, address: Address) -> bool:
        return self.world.at(address.host) is not None

    async def follow(self, address: Address, primary: Address) -> None:
        engine = self._change(address)
        if engine.primary != primary:
            engine.role, engine.primary = Role.REPLICA, primary
            engine.link_up, engine.transfer = False, 0
        self.mischief.afterwards()

    async def promote(self, address: Address) -> None:
        engine = self._change(address)
        engine.role, engine.primary, engine.link_up, engine.transfer = Role.PRIMARY, None, False, 0
        self.mischief.afterwards()

    async def bind(self, address: Address, hosts: Sequence[str], given_up: Collection[str]) -> None:
        engine = self._change(address)
        for host in hosts:
            holder = self.world.at(host)
            if holder is not None and holder is not engine:
                raise WorldError(f"{host} is in use")
        engine.binds = tuple(hosts)
        self.mischief.afterwards()

    async def configure(self, address: Address, values: Mapping[str, str]) -> None:
        self._change(address).config.update(values)
        self.mischief.afterwards()

    async def shutdown_saving(self, address: Address) -> None:
        engine = self._change(address)
        folder = self.world.folders[engine.spec.key]
        folder.data = engine.writes
        self.world.end(engine.spec.key)
        if self.save_reply_lost:
            raise WorldError("no answer within 120 s")

    async def forget(self, address: Address) -> None:
        return

    async def close(self) -> None:
        return

    def _at(self, address: Address) -> Running:
        engine = self.world.at(address.host)
        if engine is None or not engine.answers or engine.spec.program is ProgramKind.DISCOVERY:
            raise WorldError(f"{address} does not answer")
        return engine

    def _change(self, address: Address) -> Running:
        self.mischief.before()
        engine = self._at(address)
        if engine.loading:
            raise WorldError("LOADING")
        return engine


class FakeCatalogue:
    """domain.ports.EngineCatalogue with one installation of everything."""

    def __init__(self) -> None:
        self.missing = False

    def installs(self) -> Sequence[EngineInstall]:
        return []

    def best(self, engine: Engine, wanted: EngineVersion | None) -> EngineInstall | None:
        if self.missing or wanted is None:
            return None
        return EngineInstall(engine, wanted, "/opt/engine", "memory")


class FakeClock:
    """domain.ports.Clock that stands still until it is set."""

    def __init__(self, at: float = 1_750_000_000.0) -> None:
        self.at = at

    def now(self) -> float:
        return self.at
