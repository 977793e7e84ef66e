"""The bus of cluster mode in memory: who knows whom, who owns which slots, gossip, votes, migrations.

Modelled after cluster_legacy.c, a tick a second: introductions and news take ticks, a forgotten node is not taken back
for a while, of two that claim a slot the higher epoch has it, a replica of a failed primary is elected by the majority
of the primaries, an atomic migration takes ticks and fails when an end dies.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from cachekeep.domain import slots as domain_slots
from cachekeep.domain.nodes import Address, ClusterFacts, Peer, Role, SlotMigration
from cachekeep.domain.ports import WorldError
from cachekeep.domain.slots import Slots, ranges_of

if TYPE_CHECKING:
    from tests.properties.machine import Running

FAILED_TICKS = 4
ELECTION_TICKS = 7
BAN_TICKS = 6
HANDSHAKE_TICKS = 2
MIGRATION_TICKS = 3


def slot_of(value: int) -> int:
    return value % domain_slots.SLOTS


def end_of(slot: int) -> int:
    """The entry of a data set that says: everything in this slot has gone elsewhere."""
    return -slot - 1


def gone(value: int) -> int:
    """The entry that says: this value has gone elsewhere."""
    return -domain_slots.SLOTS - value - 1


def takes_away(entry: int, value: int) -> bool:
    """Whether an entry (below zero) of a data set takes that value away."""
    return entry in (end_of(slot_of(value)), gone(value))


@dataclass(frozen=True)
class View:
    """What a node knows of another. unheard: ticks since it was heard of."""

    id: str
    address: Address
    primary_id: str | None = None
    slots: frozenset[int] = frozenset()
    epoch: int = 0
    unheard: int = 0

    @property
    def failed(self) -> bool:
        return self.unheard >= FAILED_TICKS


@dataclass(frozen=True)
class Known:
    """What nodes.conf keeps."""

    id: str
    epoch: int
    slots: frozenset[int]
    primary_id: str | None
    peers: tuple[View, ...]


@dataclass
class Migration:
    """An atomic one, at its source. left: ticks."""

    name: str
    slots: frozenset[int]
    target_id: str
    left: int = MIGRATION_TICKS
    state: str = "replicating"

    @property
    def running(self) -> bool:
        return self.state not in ("success", "failed", "cancelled")


@dataclass
class Bus:
    """greeted: addresses being introduced, with the ticks left. banned: forgotten ids, likewise."""

    id: str
    address: Address
    epoch: int = 0
    slots: frozenset[int] = frozenset()
    primary_id: str | None = None
    peers: dict[str, View] = field(default_factory=dict)
    greeted: dict[Address, int] = field(default_factory=dict)
    banned: dict[str, int] = field(default_factory=dict)
    exporting: dict[int, str] = field(default_factory=dict)
    importing: dict[int, str] = field(default_factory=dict)
    migrations: list[Migration] = field(default_factory=list)

    @classmethod
    def begin(cls, new_id: str, address: Address, known: Known | None) -> Bus:
        if known is None:
            return cls(new_id, address)
        peers = {view.id: replace(view, unheard=0) for view in known.peers}
        return cls(known.id, address, known.epoch, known.slots, known.primary_id, peers)

    def known(self) -> Known:
        return Known(self.id, self.epoch, self.slots, self.primary_id, tuple(self.peers.values()))

    @property
    def primary_address(self) -> Address | None:
        view = self.peers.get(self.primary_id or "")
        return view.address if view is not None else None

    @property
    def highest_epoch(self) -> int:
        return max([self.epoch, *(view.epoch for view in self.peers.values())])

    @property
    def ok(self) -> bool:
        """Every slot has an owner, and the majority of the owners is there."""
        owners = [view for view in self.peers.values() if view.slots]
        owned = self.slots.union(*(view.slots for view in owners))
        failed = sum(view.failed for view in owners)
        return len(owned) == domain_slots.SLOTS and failed == 0

    def owner_of(self, slot: int) -> str | None:
        if slot in self.slots:
            return self.id
        claims = [view for view in self.peers.values() if slot in view.slots]
        return max(claims, key=lambda view: view.epoch).id if claims else None

    def facts(self) -> ClusterFacts:
        peers = [
            Peer(
                view.id,
                view.address,
                Role.REPLICA if view.primary_id else Role.PRIMARY,
                view.primary_id,
                ranges_of(view.slots),
                failed=view.failed,
                linked=view.unheard == 0,
            )
            for view in self.peers.values()
        ]
        peers += [Peer(f"?{address}", address, Role.PRIMARY, handshake=True) for address in self.greeted]
        return ClusterFacts(
            self.id,
            self.ok,
            self.epoch,
            ranges_of(self.slots),
            tuple(peers),
            tuple(sorted(self.exporting.items())),
            tuple(sorted(self.importing.items())),
            tuple(SlotMigration(m.name, ranges_of(m.slots), True, m.target_id, m.state) for m in self.migrations),
        )


Engines = Sequence["Running"]


def bus_of(engine: Running) -> Bus:
    assert engine.bus is not None
    return engine.bus


def gossip(engines: Engines) -> None:
    """One tick. engines: all in cluster mode that answer."""
    by_id = {bus_of(e).id: e for e in engines}
    for engine in engines:
        bus = bus_of(engine)
        bus.banned = {name: left - 1 for name, left in bus.banned.items() if left > 1}
        _shake_hands(bus, engines)
    for engine in engines:
        _hear(engine, by_id)
    for engine in engines:
        _settle_claims(engine, by_id)
        _follow_on(engine, by_id)
    _elect(engines)
    for engine in engines:
        _migrate(engine, by_id)


def _shake_hands(bus: Bus, engines: Engines) -> None:
    for address, left in list(bus.greeted.items()):
        bus.greeted[address] = left - 1
        if left > 1:
            continue
        del bus.greeted[address]
        other = next((bus_of(e) for e in engines if bus_of(e).address == address), None)
        if other is None or other is bus or other.id in bus.banned:
            continue
        bus.peers.setdefault(other.id, View(other.id, other.address))
        if bus.id not in other.banned:
            other.peers.setdefault(bus.id, View(bus.id, bus.address))


def _hear(engine: Running, by_id: dict[str, Running]) -> None:
    """The news of every peer, and of whom it knows."""
    bus = bus_of(engine)
    for name in list(bus.peers):
        other = by_id.get(name)
        if other is None:
            bus.peers[name] = replace(bus.peers[name], unheard=bus.peers[name].unheard + 1)
            continue
        its = bus_of(other)
        bus.peers[name] = View(its.id, its.address, its.primary_id, its.slots, its.epoch)
        for former in list(bus.peers.values()):
            if former.id != name and former.epoch < its.epoch and former.slots & its.slots:
                bus.peers[former.id] = replace(former, slots=former.slots - its.slots)
        for third in its.peers.values():
            met = third.id == bus.id or third.id in bus.peers or third.id in bus.banned
            if not met and not third.failed and third.address not in bus.greeted:
                bus.greeted[third.address] = HANDSHAKE_TICKS


def _settle_claims(engine: Running, by_id: dict[str, Running]) -> None:
    """Of two that claim a slot the higher epoch has it; of two equal epochs the lesser id takes a new one."""
    bus = bus_of(engine)
    for view in list(bus.peers.values()):
        other = by_id.get(view.id)
        if other is None or engine.role is Role.REPLICA:
            continue
        its = bus_of(other)
        if its.epoch == bus.epoch and its.slots and bus.slots and bus.id < its.id:
            bus.epoch = bus.highest_epoch + 1
        lost = bus.slots & its.slots
        if lost and its.epoch > bus.epoch:
            give_away(engine, lost)
            if not bus.slots and _same_shard(engine, other):
                demote(engine, its)


def _same_shard(engine: Running, other: Running) -> bool:
    """By their ids: members of one shard have names that differ in the last part only."""
    names = (engine.spec.key.cluster_id, other.spec.key.cluster_id)
    return names[0].rpartition("-")[0] == names[1].rpartition("-")[0]


def _follow_on(engine: Running, by_id: dict[str, Running]) -> None:
    """A replica of a replica follows the primary of that one."""
    bus = bus_of(engine)
    if bus.primary_id is None:
        return
    its = by_id.get(bus.primary_id)
    if its is not None and its.role is Role.REPLICA:
        further = by_id.get(bus_of(its).primary_id or "")
        if further is not None and further is not engine and bus_of(further).id in bus.peers:
            demote(engine, bus_of(further))


def _elect(engines: Engines) -> None:
    """The best replica of a primary that failed, if the majority of the owners of slots can be asked."""
    for engine in sorted(engines, key=lambda e: (-e.offset, bus_of(e).id)):
        bus = bus_of(engine)
        view = bus.peers.get(bus.primary_id or "")
        if view is None or view.unheard < ELECTION_TICKS or not view.slots or not engine.synced:
            continue
        if has_majority(bus) and not any(view.slots & bus_of(e).slots for e in engines):
            become_primary(engine)


def has_majority(bus: Bus) -> bool:
    owners = [view for view in bus.peers.values() if view.slots]
    return 2 * sum(not view.failed and view.unheard == 0 for view in owners) > len(owners)


def become_primary(engine: Running) -> None:
    """With the slots of the primary that it followed."""
    bus = bus_of(engine)
    view = bus.peers.get(bus.primary_id or "")
    if view is not None:
        bus.slots |= view.slots
        bus.peers[view.id] = replace(view, slots=frozenset())
    bus.epoch = bus.highest_epoch + 1
    bus.primary_id = None
    engine.role, engine.primary, engine.link_up, engine.transfer = Role.PRIMARY, None, False, 0


def demote(engine: Running, primary: Bus) -> None:
    bus = bus_of(engine)
    if bus.primary_id == primary.id:
        return
    bus.primary_id, bus.slots = primary.id, frozenset()
    bus.exporting, bus.importing = {}, {}
    for migration in bus.migrations:
        if migration.running:
            migration.state = "failed"
    engine.role, engine.primary = Role.REPLICA, primary.address
    engine.link_up, engine.transfer = False, 0


def give_away(engine: Running, slots: frozenset[int]) -> None:
    """The slots are another's now: what is in them is deleted here."""
    bus = bus_of(engine)
    bus.slots -= slots
    bus.exporting = {slot: end for slot, end in bus.exporting.items() if slot not in slots}
    engine.writes += tuple(end_of(slot) for slot in sorted(slots) if any(slot_of(v) == slot for v in engine.data))


def claim(engine: Running, slots: frozenset[int]) -> None:
    bus = bus_of(engine)
    bus.slots |= slots
    bus.importing = {slot: end for slot, end in bus.importing.items() if slot not in slots}
    bus.epoch = bus.highest_epoch + 1


def take_values(engine: Running, values: Sequence[int]) -> None:
    engine.writes += tuple(value for value in values if value not in engine.data)
    engine.synced = True


def _migrate(engine: Running, by_id: dict[str, Running]) -> None:
    bus = bus_of(engine)
    for migration in bus.migrations:
        if not migration.running:
            continue
        target = by_id.get(migration.target_id)
        if target is None:
            continue
        if target.role is Role.REPLICA or engine.role is Role.REPLICA or migration.slots - bus.slots:
            migration.state = "failed"
            continue
        migration.left -= 1
        if migration.left == 0:
            migration.state = "success"
            take_values(target, [v for v in sorted(engine.data) if slot_of(v) in migration.slots])
            claim(target, migration.slots)
            give_away(engine, migration.slots)


def fail_migrations_to(bus: Bus, target_id: str) -> None:
    """The target's process ended: its connection dropped."""
    for migration in bus.migrations:
        if migration.running and migration.target_id == target_id:
            migration.state = "failed"


def add_slots(bus: Bus, slots: frozenset[int], epoch: int) -> None:
    """CLUSTER SET-CONFIG-EPOCH and CLUSTER ADDSLOTS."""
    if bus.epoch == 0 and not bus.peers:
        bus.epoch = epoch
    busy = [slot for slot in slots if bus.owner_of(slot) not in (None, bus.id)]
    if busy:
        raise WorldError(f"Slot {busy[0]} is already busy")
    bus.slots |= slots


def forget(bus: Bus, node_id: str) -> None:
    if node_id == bus.primary_id:
        raise WorldError("Can't forget my primary!")
    if bus.peers.pop(node_id, None) is not None:
        bus.banned[node_id] = BAN_TICKS


def migrate(bus: Bus, slots: Slots, target_id: str) -> None:
    wanted = domain_slots.numbers_of(slots)
    if target_id not in bus.peers:
        raise WorldError(f"Unknown node {target_id}")
    if wanted - bus.slots:
        raise WorldError("slots are not served by this node")
    if any(m.running and m.slots & wanted for m in bus.migrations):
        raise WorldError("slots are being migrated already")
    bus.migrations.append(Migration(f"m{len(bus.migrations)}", wanted, target_id))
