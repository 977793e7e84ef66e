"""Changes of engine and version: which can follow which, which files are read by whom, and how a change begins.

Pure; called by the API, which refuses what cannot be, and by the planners when a maintenance window opens.

A group changes by replication: each member gets a second instance of the new version, which becomes a replica of the
old one. A single node changes by its files: it is saved, ended and started anew. The engines' rule is the RDB version:
one of Redis 6 is 9, of 7.0 is 10, of 7.2 and all Valkey before 9 is 11, of Redis 7.4 and later is 12; Valkey 9 has a
format of its own (VALKEY080), yet sends version 11 to a replica that is older. A program reads everything up to its
own version; Valkey nothing of Redis 7.4 and later. Source: full syncs and loads tried in every pair of 6.2.5, 7.0.15,
8.2.3, Valkey 8.0.1, 8.1.8 and 9.1.2; rdb.h of both.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum

from cachekeep.domain.cache_cluster import CacheCluster, NodeStatus, Pending, Spare, Status
from cachekeep.domain.engine import Engine, EngineInstall, EngineVersion
from cachekeep.domain.nodes import Address
from cachekeep.domain.replication_group import EngineChange, ReplicationGroup

_VALKEY_RDB = 80
_LAST_SHARED_RDB = 11
_VALKEY_9 = 9


@dataclass(frozen=True)
class Runs:
    """An engine and its version."""

    engine: Engine
    version: EngineVersion

    def __str__(self) -> str:
        return f"{self.engine.label} {self.version}"


class Kind(StrEnum):
    """upgrade: to a newer version, or from Redis to Valkey. downgrade: to an older one. rollback: to instances of it
    that are still alive and in sync."""

    UPGRADE = "upgrade"
    DOWNGRADE = "downgrade"
    ROLLBACK = "rollback"


def kind_of(now: Runs, wanted: Runs, members: Iterable[CacheCluster] = ()) -> Kind:
    """What a change from `now` to `wanted` is."""
    if any(former_spare(member, wanted) is not None for member in members):
        return Kind.ROLLBACK
    if now.engine is wanted.engine:
        return Kind.UPGRADE if now.version < wanted.version else Kind.DOWNGRADE
    return Kind.UPGRADE if wanted.engine is Engine.VALKEY else Kind.DOWNGRADE


def former_spare(member: CacheCluster, wanted: Runs) -> Spare | None:
    """The member's former instance, if it is of the wanted version and stays."""
    spare = member.spare
    if spare is None or not spare.former or spare.leaving or Runs(spare.engine, spare.version) != wanted:
        return None
    return spare


def _rdb_version(runs: Runs) -> int:
    version = runs.version
    if runs.engine is Engine.VALKEY:
        return _VALKEY_RDB if version.major >= _VALKEY_9 else _LAST_SHARED_RDB
    for since, number in (((7, 4), 12), ((7, 2), 11), ((7, 0), 10), ((5, 0), 9)):
        if (version.major, version.minor) >= since:
            return number
    return 8


def reads(reader: Runs, writer: Runs) -> bool:
    """`reader` loads the files that `writer` saves."""
    return _reads_rdb(reader, writer.engine, _rdb_version(writer))


def _reads_rdb(reader: Runs, engine: Engine, number: int) -> bool:
    if number == _VALKEY_RDB:
        return reader.engine is Engine.VALKEY and _rdb_version(reader) == _VALKEY_RDB
    if reader.engine is Engine.VALKEY and engine is Engine.REDIS:
        return number <= _LAST_SHARED_RDB
    return number <= _rdb_version(reader)


def follows(replica: Runs, primary: Runs) -> bool:
    """`replica` can replicate from `primary`, as long as no data is used that only `primary` knows (hash fields that
    expire, of Valkey 9): then a full synchronisation fails, and later commands are told by unexpected_error_replies."""
    number = _rdb_version(primary)
    if number == _VALKEY_RDB and not reads(replica, primary):
        number = _LAST_SHARED_RDB
    return _reads_rdb(replica, primary.engine, number)


def why_not(
    now: Runs,
    wanted: Runs,
    installs: Sequence[EngineInstall],
    *,
    by_file: bool,
    rollback: bool = False,
    expiring_fields: int = 0,
) -> str | None:
    """Why a change from `now` to `wanted` is not possible, with what is; None when it is.

    by_file: the data goes through a file (a single node), not through replication. rollback: instances of the wanted
    version are still in sync. expiring_fields: hashes in the data whose fields expire. Memcached keeps nothing, so any
    version of it will do.
    """
    if not now.engine.speaks_resp or not wanted.engine.speaks_resp:
        if now.engine is wanted.engine:
            return None
        return f"The engine cannot be changed from {now.engine.value} to {wanted.engine.value}."
    forbidden = expiring_fields_sentence(expiring_fields, wanted.engine, wanted.version)
    if forbidden is not None:
        return f"{forbidden}; persist or delete them."
    if rollback:
        return None
    possible = _possible(now, installs, by_file=by_file)
    if now.engine is Engine.VALKEY and wanted.engine is Engine.REDIS:
        # As ElastiCache: from Redis OSS to Valkey only.
        return f"The engine cannot be changed from valkey to redis; {possible}"
    if by_file and not reads(wanted, now):
        return f"{wanted} cannot read the files of {now}, and a single node has no other way; {possible}"
    if not by_file and not follows(wanted, now):
        return f"{wanted} cannot replicate from {now}; {possible}"
    return None


def expiring_fields_sentence(count: int, engine: Engine, version: EngineVersion) -> str | None:
    """Why data with so many hashes whose fields expire cannot go to that engine; None when it can."""
    if not count or (engine is Engine.VALKEY and version.major >= _VALKEY_9):
        return None
    hashes = "1 hash has" if count == 1 else f"{count} hashes have"
    return f"{hashes} fields that expire, which {engine.label} {version} does not know"


def _possible(now: Runs, installs: Sequence[EngineInstall], *, by_file: bool) -> str:
    can = reads if by_file else follows
    others = [Runs(i.engine, i.version) for i in installs if i.engine.speaks_resp]
    found = [
        str(other)
        for other in others
        if other != now and not (now.engine is Engine.VALKEY and other.engine is Engine.REDIS) and can(other, now)
    ]
    if not found:
        return "nothing else that is installed on this machine can take over its data."
    return f"possible on this machine: {', '.join(found)}."


@dataclass(frozen=True)
class Begun:
    """A group and its members at the beginning of a change. released: addresses that turned out not to be needed."""

    group: ReplicationGroup
    members: tuple[CacheCluster, ...]
    released: tuple[Address, ...] = ()


def begin(group: ReplicationGroup, members: Sequence[CacheCluster], now: float) -> Begun:
    """Begin the change of engine that waits in group.pending; what else waits there goes on waiting.

    members: of the group, in any order. A former instance of the wanted version is used again (a rollback); every other
    member needs member.pending.spare, with its address. group.engine, version and parameter_group and the members stay
    what they are until the planner swaps the instances; where to is told by engine_change.
    Raises ValueError when nothing waits, or a member has neither.
    """
    pending = group.pending
    if pending.engine is None or pending.version is None or pending.parameter_group is None:
        raise ValueError(f"no change of engine waits for {group.id}")
    wanted = Runs(pending.engine, pending.version)
    pairs = [_prepared(member, wanted) for member in members]
    return Begun(
        replace(
            group,
            status=Status.MODIFYING,
            pending=without_engine(pending),
            engine_change=EngineChange(
                engine=pending.engine,
                version=pending.version,
                parameter_group=pending.parameter_group,
                before_engine=group.engine,
                before_version=group.version,
                before_parameter_group=group.parameter_group,
                started_at=now,
            ),
        ),
        tuple(member for member, _ in pairs),
        tuple(address for _, released in pairs for address in released),
    )


def _prepared(member: CacheCluster, wanted: Runs) -> tuple[CacheCluster, tuple[Address, ...]]:
    """The member with its second instance, and the address that waited in vain if a former one is used again."""
    if Runs(*member.runs) == wanted and member.spare is None and member.pending.spare is None:
        # It runs the wanted version since an earlier change, which was stopped or given up on the way.
        return replace(member, status=Status.MODIFYING, pending=without_engine(member.pending)), ()
    coming, former = member.pending.spare, former_spare(member, wanted)
    begun = replace(member, status=Status.MODIFYING, pending=without_engine(member.pending))
    if former is not None:
        spared = () if coming is None else coming.addresses
        return replace(begun, spare=replace(former, former=False)), spared
    if coming is None or Runs(coming.engine, coming.version) != wanted:
        raise ValueError(f"{member.id} has no second instance of {wanted}")
    if member.spare is not None:
        raise ValueError(f"{member.id} has a second instance of {member.spare.engine.label} {member.spare.version}")
    return replace(begun, spare=coming), ()


def begin_single(cluster: CacheCluster) -> CacheCluster:
    """Begin the change of engine that waits for a cluster of its own: its processes are ended and started anew.

    Valkey and Redis save their data first; Memcached nodes come back empty.
    Raises ValueError when nothing waits.
    """
    pending = cluster.pending
    if pending.engine is None or pending.version is None or pending.parameter_group is None:
        raise ValueError(f"no change of engine waits for {cluster.id}")
    new = replace(
        cluster,
        engine=pending.engine,
        version=pending.version,
        parameter_group=pending.parameter_group,
        pending=without_engine(pending),
        status=Status.MODIFYING,
    )
    return restarting(new)


def restarting(cluster: CacheCluster) -> CacheCluster:
    """Every process that runs now is to be ended and started anew."""
    nodes = tuple(
        n if n.process is None else replace(n, status=NodeStatus.REBOOTING, reboot_from=n.process)
        for n in cluster.nodes
    )
    return replace(cluster, nodes=nodes)


def without_engine(pending: Pending) -> Pending:
    """What waits beside a change of engine."""
    return replace(pending, engine=None, version=None, parameter_group=None, spare=None)
