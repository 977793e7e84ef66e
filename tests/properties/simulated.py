"""The ports Host, EngineAdmin, EngineCatalogue and Clock over a machine in memory (tests.properties.machine)."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence

from cachekeep.domain.engine import Engine, EngineInstall, EngineVersion
from cachekeep.domain.nodes import Address, NodeFacts, NodeKey, NodeSpec, Process, ProgramKind, Role
from cachekeep.domain.ports import WorldError
from cachekeep.domain.slots import Slots, numbers_of
from tests.properties import bus
from tests.properties.bus import Bus
from tests.properties.machine import BYTES_PER_WRITE, Folder, Running, World

# A pause of writes lifts itself after so many ticks.
PAUSE_TICKS = 10
MOVED_AT_ONCE = 2


class ServiceDied(BaseException):
    """The service was killed here; the machine goes on."""


class Mischief:
    """What goes wrong with the n-th call that changes something: it fails, its reply is lost, the service dies.

    done: called after every change.
    """

    def __init__(self) -> None:
        self.kind: str | None = None
        self.after = 0
        self.done: Callable[[], None] = lambda: None

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
        self.done()

    def between(self) -> None:
        """Between two changes that one call makes."""
        self.afterwards()
        self.before()


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
        if grace_s == 0.0:
            self.world.kill(key)
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

    def is_marked(self, key: NodeKey) -> bool:
        folder = self.world.folders.get(key)
        return folder is not None and folder.saved

    def is_saved(self, key: NodeKey) -> bool:
        folder = self.world.folders.get(key)
        return folder is not None and folder.saved and folder.data is not None

    def kept(self, key: NodeKey, config: Mapping[str, str]) -> str:
        folder = self.world.folders.get(key)
        if folder is None or not (config.get("appendonly") == "yes" or config.get("save")):
            return ""
        return next((kind for kind in ("aof", "rdb") if kind in folder.kept), "")

    def note_keeping(self, key: NodeKey, values: Mapping[str, str], *, done: bool) -> bool:
        return False

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
            version=f"{found.spec.version}.2",
            pid=found.process.pid,
            role=found.role,
            offset=found.offset,
            link_up=found.link_up and not found.loading,
            syncing=found.transfer > 0,
            loading=found.loading > 0,
            primary=found.primary,
            binds=found.binds,
            used_memory_bytes=len(found.data) * BYTES_PER_WRITE,
            keys=len(found.data),
            config={name: found.config[name] for name in settings if name in found.config},
            unexpected_errors=found.errors,
            cluster=None if found.bus is None or found.loading else found.bus.facts(),
        )

    async def ping(self, address: Address, timeout_s: float) -> None:
        engine = self.world.at(address.host)
        if engine is None or not engine.answers:
            raise WorldError(f"{address} does not answer")

    async def interrupt(self, address: Address) -> None:
        raise WorldError("no script runs")

    async def takes_connections(self, address: Address) -> bool:
        return self.world.at(address.host) is not None

    async def follow(self, address: Address, primary: Address) -> None:
        engine = self._change(address)
        self._become_replica(engine, primary)
        self.mischief.afterwards()

    async def promote(self, address: Address) -> None:
        engine = self._change(address)
        self._become_primary(engine)
        self.mischief.afterwards()

    async def latch(self, address: Address, *, on: bool) -> None:
        raise WorldError("nobody follows a server outside")

    async def bind(self, address: Address, hosts: Sequence[str], given_up: Collection[str]) -> None:
        engine = self._change(address)
        self._listen(engine, hosts)
        self.mischief.afterwards()

    def _listen(self, engine: Running, hosts: Sequence[str]) -> None:
        for host in hosts:
            holder = self.world.at(host)
            if holder is not None and holder is not engine:
                raise WorldError(f"{host} is in use")
        engine.binds = tuple(hosts)

    async def switch_over(
        self,
        address: Address,
        successor: Address,
        binds: Sequence[str],
        successor_binds: Sequence[str],
        given_up: Collection[str],
    ) -> None:
        """The inner points of engine.switch_over, in its order."""
        old = self._change(address)
        new = self._at(successor)
        if old.role is not Role.PRIMARY or new.primary != address or not new.link_up or new.stalled:
            raise WorldError(f"{successor} did not catch up")
        bound = old.binds
        old.paused = PAUSE_TICKS
        try:
            self.mischief.between()
            new.writes, new.paused = old.writes, PAUSE_TICKS
            self._become_primary(new)
            self.mischief.between()
            self._become_replica(old, successor)
            self._listen(old, [host for host in binds if host in bound] or list(binds))
            self.mischief.between()
        except WorldError:
            self._become_replica(new, address)
            new.link_up, new.paused = True, 0
            self._become_primary(old)
            self._listen(old, bound)
            old.paused = 0
            raise
        new.paused = old.paused = 0
        self._listen(new, successor_binds)
        self.mischief.between()
        self._listen(old, binds)
        self.mischief.afterwards()

    def _become_primary(self, engine: Running) -> None:
        engine.role, engine.primary, engine.link_up, engine.transfer = Role.PRIMARY, None, False, 0

    def _become_replica(self, engine: Running, primary: Address) -> None:
        if engine.primary != primary:
            engine.role, engine.primary = Role.REPLICA, primary
            engine.link_up, engine.transfer = False, 0

    async def configure(self, address: Address, values: Mapping[str, str]) -> None:
        self._change(address).config.update(values)
        self.mischief.afterwards()

    async def save_soon(self, address: Address) -> None:
        self._change(address)

    async def shutdown_saving(self, address: Address) -> None:
        engine = self._change(address)
        folder = self.world.folders[engine.spec.key]
        folder.data = engine.writes
        self.world.end(engine.spec.key)
        if self.save_reply_lost:
            raise WorldError("no answer within 120 s")

    async def meet(self, address: Address, peer: Address) -> None:
        engine = self._clustered(address)
        engine.greeted[peer] = bus.HANDSHAKE_TICKS
        self.mischief.afterwards()

    async def forget_node(self, address: Address, node_id: str) -> None:
        bus.forget(self._clustered(address), node_id)
        self.mischief.afterwards()

    async def add_slots(self, address: Address, slots: Slots, epoch: int) -> None:
        bus.add_slots(self._clustered(address), numbers_of(slots), epoch)
        self.mischief.afterwards()

    async def replicate(self, address: Address, primary_id: str) -> None:
        mine = self._clustered(address)
        engine = self._at(address)
        view = mine.peers.get(primary_id)
        if view is None:
            raise WorldError(f"Unknown node {primary_id}")
        if view.primary_id is not None:
            raise WorldError("I can only replicate a primary")
        if mine.primary_id is None and (mine.slots or engine.data):
            raise WorldError("To set a primary the node must be empty and without assigned slots")
        if mine.primary_id != primary_id:
            mine.primary_id = primary_id
            self._become_replica(engine, view.address)
        self.mischief.afterwards()

    async def take_over(self, address: Address, *, vote: bool) -> None:
        self._clustered(address)
        engine = self._at(address)
        if engine.role is Role.REPLICA:
            bus.become_primary(engine)
        self.mischief.afterwards()

    async def cluster_switch_over(self, address: Address) -> None:
        mine = self._clustered(address)
        engine = self._at(address)
        if engine.role is Role.PRIMARY:
            return
        old = next((e for e in self.world.running.values() if e.bus is not None and e.bus.id == mine.primary_id), None)
        if old is None or not old.answers or not engine.link_up or engine.stalled or old.role is Role.REPLICA:
            raise WorldError(f"{address} was not handed the primary's role")
        engine.writes = old.writes
        bus.become_primary(engine)
        mine.slots |= bus.bus_of(old).slots
        bus.demote(old, mine)
        self.mischief.afterwards()

    async def migrate_slots(self, address: Address, slots: Slots, target_id: str) -> None:
        bus.migrate(self._clustered(address), slots, target_id)
        self.mischief.afterwards()

    async def cancel_migrations(self, address: Address) -> None:
        for migration in self._clustered(address).migrations:
            if migration.running:
                migration.state = "cancelled"
        self.mischief.afterwards()

    async def move_slots(
        self,
        address: Address,
        slots: Slots,
        source_id: str,
        target: Address,
        target_id: str,
        others: Sequence[Address],
    ) -> None:
        """A few at once, those that are half moved first; key by key, and then the owner."""
        here, there = self._clustered(address), self._clustered(target)
        source, its = self._at(address), self._at(target)
        if (here.id, there.id) != (source_id, target_id) or its.role is Role.REPLICA:
            raise WorldError("the nodes have changed")
        wanted = sorted(numbers_of(slots) & here.slots, key=lambda s: (s not in there.importing, s))
        for slot in wanted[:MOVED_AT_ONCE]:
            if slot in there.slots:
                bus.give_away(source, frozenset({slot}))
                continue
            there.importing[slot] = source_id
            self.mischief.between()
            here.exporting[slot] = target_id
            for value in [v for v in sorted(source.data) if bus.slot_of(v) == slot]:
                self.mischief.between()
                bus.take_values(its, [value])
                source.writes += (bus.gone(value),)
            self.mischief.between()
            bus.claim(its, frozenset({slot}))
            self.mischief.between()
            bus.give_away(source, frozenset({slot}))
        self.mischief.afterwards()

    async def forget(self, address: Address) -> None:
        return

    async def close(self) -> None:
        return

    def _at(self, address: Address) -> Running:
        engine = self.world.at(address.host)
        if engine is None or not engine.answers or engine.spec.program is ProgramKind.DISCOVERY:
            raise WorldError(f"{address} does not answer")
        return engine

    def _clustered(self, address: Address) -> Bus:
        engine = self._change(address)
        if engine.bus is None:
            raise WorldError("This instance has cluster support disabled")
        return engine.bus

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
