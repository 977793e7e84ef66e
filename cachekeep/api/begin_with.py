"""SnapshotName and SnapshotArns of the creates: what the new cache begins with, and what it takes over from there.

Whatever the request leaves open is as the snapshot has it. Called by api.ops.create_group and api.ops.cache_clusters.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from cachekeep.api import capacity, choose
from cachekeep.api.context import Call
from cachekeep.api.ops.snapshots import check_bucket
from cachekeep.api.shards import ShardPlace
from cachekeep.codec.dump import Target, rdb_version_of
from cachekeep.codec.rdb_head import why_not_loaded
from cachekeep.domain.engine import Engine
from cachekeep.domain.faults import Fault, invalid_combination, invalid_value
from cachekeep.domain.ids import OWN_PARTITION, Arn
from cachekeep.domain.parameters import NodeType, ParameterGroup
from cachekeep.domain.ports import Transaction
from cachekeep.domain.replication_group import ClusterMode
from cachekeep.domain.restore import Restore
from cachekeep.domain.serverless import backing_id, is_behind_serverless, serverless_name
from cachekeep.domain.slots import SLOTS, SlotRange, Slots, slots_text
from cachekeep.domain.snapshot import ShardSnapshot, Snapshot, SnapshotStatus

_S3 = "arn:aws:s3:::"
_WHOLE: Slots = (SlotRange(0, SLOTS - 1),)
_READY = (SnapshotStatus.AVAILABLE, SnapshotStatus.RESTORING)


@dataclass(frozen=True)
class Beginning:
    """call: with what the snapshot gives in place of what the request leaves open. Neither: with nothing."""

    call: Call
    snapshot: Snapshot | None = None
    urls: tuple[str, ...] = ()

    def restore(
        self,
        choice: choose.EngineChoice,
        parameters: ParameterGroup,
        node_type: NodeType | None,
        shards: Sequence[ShardPlace],
    ) -> Restore | None:
        """What is to be done for it; None for nothing. shards: of the new cache, with () for slots where it has none.
        node_type: None where the nodes are made as large as the data is.

        Raises InvalidParameterCombination when the new cache cannot hold it.
        """
        if self.urls:
            return Restore("", "", seeded=False, urls=self.urls)
        if self.snapshot is None:
            return None
        clustered = any(shard.slots for shard in shards)
        _check_loads(self.snapshot, choice)
        _check_databases(self.call, self.snapshot, parameters, clustered=clustered)
        lanes = _lanes(self.snapshot, shards)
        if node_type is not None:
            _check_room(self.call, self.snapshot, choice, parameters, node_type, len(shards))
        return Restore(
            self.snapshot.name,
            self.snapshot.generation,
            seeded=bool(lanes),
            lanes=lanes,
            piped=not _keeps(parameters),
        )

    def mark(self, work: Transaction) -> None:
        """The snapshot is `restoring` meanwhile."""
        if self.snapshot is not None:
            now = work.get(Snapshot, self.snapshot.region, self.snapshot.name)
            if now is not None and now.status is SnapshotStatus.AVAILABLE:
                work.replace(now, replace(now, status=SnapshotStatus.RESTORING))


def _keeps(parameters: ParameterGroup) -> bool:
    """Whether nodes with these parameters keep their data on disk."""
    return parameters.values.get("appendonly") == "yes" or bool(parameters.values.get("save"))


def asked(call: Call, *, alone: bool) -> Beginning:
    """alone: a cluster of its own, of one node. Raises InvalidParameterValue, InvalidParameterCombination."""
    name, arns = call.text("SnapshotName"), call.texts("SnapshotArns")
    of_serverless = call.text("ServerlessCacheSnapshotName")
    if not name and not arns and not of_serverless:
        return Beginning(call)
    if name and arns:
        raise invalid_combination("Use either SnapshotName or SnapshotArns, not both.")
    if of_serverless and (name or arns):
        raise invalid_combination("Use either ServerlessCacheSnapshotName or SnapshotName or SnapshotArns.")
    if (call.text("Engine") or "").lower() == Engine.MEMCACHED.value:
        raise invalid_combination("Snapshots are not supported for the engine memcached.")
    if alone and len(arns) > 1:
        raise invalid_combination("A cache cluster has one node: SnapshotArns can name one RDB file.")
    stored = _kept_as(name, of_serverless) or own_snapshot(call, arns)
    if not stored:
        return Beginning(call, urls=tuple(url_of(call, arn) for arn in arns))
    snapshot = ready_snapshot(call, stored)
    if alone and len(snapshot.shards) > 1:
        raise invalid_combination(
            f"Snapshot {snapshot.told_name} has {len(snapshot.shards)} node groups: restore it into a replication "
            "group."
        )
    return Beginning(_filled_in(call, snapshot, alone=alone), snapshot)


def _kept_as(name: str | None, of_serverless: str | None) -> str | None:
    """Under which name the snapshot is stored; None where none is named."""
    if of_serverless:
        return backing_id(of_serverless.lower())
    if name and is_behind_serverless(name.lower()):
        raise invalid_value(f"Snapshot {name[:80]} not found.")
    return name.lower() if name else None


def ready_snapshot(call: Call, stored: str) -> Snapshot:
    """The snapshot that is stored under this name. Raises InvalidParameterValue, InvalidParameterCombination."""
    snapshot = call.services.store.get(Snapshot, call.region, stored)
    if snapshot is None:
        raise invalid_value(f"Snapshot {serverless_name(stored)[:80]} not found.")
    if snapshot.status not in _READY:
        raise invalid_combination(
            f"Snapshot {snapshot.told_name} must be in available state to be restored; it is {snapshot.status.value}."
        )
    return snapshot


def own_snapshot(call: Call, arns: Sequence[str]) -> str | None:
    """Under which name the snapshot of ours is stored that the only ARN names; None for any other ARN."""
    if len(arns) != 1 or arns[0].startswith(_S3) or not arns[0].startswith(OWN_PARTITION):
        return None
    try:
        arn = Arn.parse(arns[0])
    except Fault:
        return None
    if arn.region != call.region or arn.account != call.services.account_id:
        return None
    match arn.kind:
        case "snapshot":
            return _kept_as(arn.name, None)
        case "serverlesscachesnapshot":
            return _kept_as(None, arn.name)
    return None


def url_of(call: Call, arn: str) -> str:
    """`bucket/key`. Raises InvalidParameterValue."""
    bucket, slash, key = arn.removeprefix(_S3).partition("/")
    if not arn.startswith(_S3) or not slash or not key or "," in key:
        raise invalid_value(
            f"Invalid SnapshotArn {arn[:200]!r}: it must be {_S3}BUCKET/KEY, without a comma in the key."
        )
    check_bucket(call, bucket)
    return f"{bucket}/{key}"


def _filled_in(call: Call, snapshot: Snapshot, *, alone: bool) -> Call:
    engine = call.text("Engine")
    given: dict[str, Any] = {
        "Engine": snapshot.engine.value,
        "CacheNodeType": snapshot.node_type,
        "Port": snapshot.port,
    }
    if engine is None or engine.lower() == snapshot.engine.value:
        there = call.services.catalogue.best(snapshot.engine, snapshot.version)
        if snapshot.substitute is not None or (there is not None and there.engine is snapshot.engine):
            given["EngineVersion"] = str(snapshot.version)
    if not alone and snapshot.cluster_mode is not ClusterMode.DISABLED:
        given |= _shape(call, snapshot)
    params = {name: value for name, value in call.params.items() if value is not None}
    return replace(call, params={**given, **params})


def _shape(call: Call, snapshot: Snapshot) -> dict[str, Any]:
    """Cluster mode and node groups, unless the request says otherwise."""
    if call.text("ClusterMode") is not None or call.text("CacheParameterGroupName") is not None:
        mode: dict[str, Any] = {}
    else:
        mode = {"ClusterMode": snapshot.cluster_mode.value}
    asked_mode = call.text("ClusterMode")
    others = call.params.get("NodeGroupConfiguration") or call.number("NumCacheClusters") is not None
    count = call.number("NumNodeGroups")
    if others or asked_mode == "disabled" or count not in (None, len(snapshot.shards)):
        return mode
    own_count = call.number("ReplicasPerNodeGroup") is not None
    return mode | {"NodeGroupConfiguration": [_entry(shard, own_count=own_count) for shard in snapshot.shards]}


def _entry(shard: ShardSnapshot, *, own_count: bool) -> dict[str, Any]:
    entry: dict[str, Any] = {"NodeGroupId": shard.id, "Slots": slots_text(shard.slots)}
    if own_count or not shard.zones:
        return entry
    return entry | {
        "ReplicaCount": len(shard.zones) - 1,
        "PrimaryAvailabilityZone": shard.zones[0],
        "ReplicaAvailabilityZones": list(shard.zones[1:]),
    }


def _check_loads(snapshot: Snapshot, choice: choose.EngineChoice) -> None:
    """Raises InvalidParameterCombination when the engine asked for does not load what the snapshot's engine wrote."""
    engine, version = choice.substitute or choice.engine, choice.substitute_version or choice.version
    wrote, wrote_version = snapshot.wrote
    rdb_version = snapshot.rdb_version or rdb_version_of(Target(wrote, wrote_version))
    reason = why_not_loaded(engine, version, wrote, rdb_version)
    if reason is not None:
        raise invalid_combination(
            f"Snapshot {snapshot.told_name} of {wrote.label} {wrote_version} cannot be restored into {engine.label} "
            f"{version}: {reason}."
        )


def _check_databases(call: Call, snapshot: Snapshot, parameters: ParameterGroup, *, clustered: bool) -> None:
    have = choose.databases(call, parameters, clustered=clustered)
    needed = max(snapshot.databases, default=0) + 1
    if needed > have:
        raise invalid_combination(
            f"Snapshot {snapshot.told_name} has keys in database {needed - 1}, and with the parameter group "
            f"{parameters.name}{' and cluster mode' if clustered else ''} there are {have} databases."
        )


def _check_room(
    call: Call,
    snapshot: Snapshot,
    choice: choose.EngineChoice,
    parameters: ParameterGroup,
    node_type: NodeType,
    shards: int,
) -> None:
    """Raises InvalidParameterCombination when the data is larger than the nodes are."""
    engine, version = choice.substitute or choice.engine, choice.substitute_version or choice.version
    room = capacity.room_bytes(call, node_type, parameters, engine, version) * shards
    used = sum(shard.used_bytes for shard in snapshot.shards)
    if used > room:
        raise invalid_combination(
            f"Snapshot {snapshot.told_name} is of {used} bytes of memory, and {shards} node groups of type "
            f"{node_type.name} hold {room}. Choose a larger node type."
        )


def _lanes(snapshot: Snapshot, shards: Sequence[ShardPlace]) -> tuple[tuple[str, str], ...]:
    """By id of each new shard, the lane with exactly its slots; () where there is not one for each."""
    if snapshot.method != "psync" or len(snapshot.shards) != len(shards):
        return ()
    lanes = {shard.slots or _WHOLE: shard.lane for shard in snapshot.shards}
    found = [(shard.id, lanes.get(shard.slots or _WHOLE, "")) for shard in shards]
    return tuple(found) if all(lane for _, lane in found) else ()
