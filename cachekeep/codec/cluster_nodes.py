"""What cluster mode tells of itself: CLUSTER NODES, CLUSTER INFO and CLUSTER GETSLOTMIGRATIONS. Pure; called by engine.

Source: cluster.c, later cluster_legacy.c, `clusterGenNodeDescription`, of 6.2.5, 7.0.15, 8.1.8, 9.1.2. A line:
`id ip:port@busport[,hostname[,aux=value]] flags primary|- ping pong epoch link-state slot|first-last|[slot->-id]...`
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from cachekeep.codec.info import parse_info
from cachekeep.domain.nodes import Address, ClusterFacts, Peer, Role, SlotMigration
from cachekeep.domain.slots import SLOTS, SlotRange, Slots

# A cluster of ElastiCache has at most 500 nodes; forgotten ones come back as `handshake` for a while.
_LINES_LIMIT = 3000
# Valkey keeps a log of a thousand migrations.
_MIGRATIONS_LIMIT = 1000
_ENDED_KEPT = 50
_FIELDS = 8


def parse_cluster(nodes: str, info: str, migrations: object = None) -> ClusterFacts:
    """Read the answers to CLUSTER NODES, CLUSTER INFO and, where there was one, CLUSTER GETSLOTMIGRATIONS.

    Raises ValueError when no line of `nodes` is the node's own.
    """
    own: list[str] | None = None
    peers: list[Peer] = []
    for line in nodes.split("\n", _LINES_LIMIT)[:_LINES_LIMIT]:
        fields = line.split()
        if len(fields) < _FIELDS:
            continue
        if "myself" in fields[2].split(","):
            own = fields
        else:
            peers.append(_peer(fields))
    if own is None:
        raise ValueError(f"CLUSTER NODES has no line of the node itself: {nodes[:80]!r}")
    state = parse_info(info)
    epoch = state.get("cluster_my_epoch", "")
    moving = own[_FIELDS:]
    return ClusterFacts(
        id=own[0],
        ok=state.get("cluster_state") == "ok",
        epoch=int(epoch) if epoch.isdecimal() else 0,
        slots=_slots(own[_FIELDS:]),
        peers=tuple(peers),
        exporting=_moving(moving, "->-"),
        importing=_moving(moving, "-<-"),
        migrations=parse_migrations(migrations),
    )


def parse_migrations(reply: object) -> tuple[SlotMigration, ...]:
    """Read CLUSTER GETSLOTMIGRATIONS, a list of flat lists of names and values: all that run, and the 50 that the
    engine names first of those that ended. Anything else is none."""
    if not isinstance(reply, list):
        return ()
    found = [_migration(entry) for entry in reply[:_MIGRATIONS_LIMIT] if isinstance(entry, list)]
    ended = [migration for migration in found if not migration.running][:_ENDED_KEPT]
    return (*(migration for migration in found if migration.running), *ended)


def _peer(fields: Sequence[str]) -> Peer:
    flags = fields[2].split(",")
    return Peer(
        id=fields[0],
        address=None if "noaddr" in flags else _address(fields[1]),
        role=Role.REPLICA if "slave" in flags else Role.PRIMARY,
        primary_id=fields[3] if fields[3] != "-" else None,
        slots=_slots(fields[_FIELDS:]),
        handshake="handshake" in flags,
        failed="fail" in flags or "fail?" in flags,
        linked=fields[7] == "connected",
    )


def _address(text: str) -> Address | None:
    """Read `ip:port@busport,hostname`; an IPv6 address stands without brackets. None for `:0@0`."""
    host, _, port = text.partition(",")[0].partition("@")[0].rpartition(":")
    return Address(host, int(port)) if host and port.isdecimal() and 0 < int(port) < 65536 else None


def _slots(words: Iterable[str]) -> Slots:
    found = []
    for word in words:
        first, _, last = word.partition("-")
        last = last or first
        if first.isdecimal() and last.isdecimal() and int(first) <= int(last) < SLOTS:
            found.append(SlotRange(int(first), int(last)))
    return tuple(found)


def _moving(words: Iterable[str], arrow: str) -> tuple[tuple[int, str], ...]:
    """Read `[93->-id]` or `[93-<-id]`."""
    found = []
    for word in words:
        slot, told, other = word.strip("[]").partition(arrow)
        if told and slot.isdecimal():
            found.append((int(slot), other))
    return tuple(found)


def _migration(entry: Sequence[object]) -> SlotMigration:
    table = dict(zip(entry[::2], entry[1::2], strict=False))

    def word(name: str) -> str:
        return str(table.get(name, ""))

    return SlotMigration(
        name=word("name"),
        slots=_slots(word("slot_ranges").split()),
        exports=word("operation").upper() == "EXPORT",
        target_id=word("target_node"),
        state=word("state"),
        message=word("message"),
    )
