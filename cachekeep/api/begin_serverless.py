"""SnapshotArnsToRestore of CreateServerlessCache: what the new cache begins with, over how many shards, how large.

One shard where the snapshot has one or is of no cluster; else its shards as they were: they load their own files, and
the scaler makes of them what the data needs. Called by api.ops.serverless.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from cachekeep.api.begin_with import Beginning, own_snapshot, ready_snapshot, url_of
from cachekeep.api.context import Call
from cachekeep.api.shards import ShardPlace
from cachekeep.domain.engine import Engine
from cachekeep.domain.faults import invalid_combination, invalid_value
from cachekeep.domain.replication_group import ClusterMode
from cachekeep.domain.serverless import ServerlessCache
from cachekeep.domain.slots import Slots, divided
from cachekeep.domain.snapshot import Snapshot
from cachekeep.plan.serverless import Scaling, room

_S3 = "arn:aws:s3:::"


@dataclass(frozen=True)
class FirstShard:
    """memory_bytes: what each of its nodes shall be able to hold until the scaler has looked."""

    id: str
    slots: Slots
    memory_bytes: int

    @property
    def place(self) -> ShardPlace:
        return ShardPlace(self.id, self.slots, ())


def asked(call: Call, engine: Engine) -> Beginning:
    """Raises InvalidParameterValue, InvalidParameterCombination."""
    arns = call.texts("SnapshotArnsToRestore")
    if not arns:
        return Beginning(call)
    if not engine.speaks_resp:
        raise invalid_combination("Memcached has no snapshots.")
    if len(arns) > 1:
        raise invalid_combination("SnapshotArnsToRestore can name one snapshot or one RDB file.")
    if arns[0].startswith(_S3):
        return Beginning(call, urls=(url_of(call, arns[0]),))
    stored = own_snapshot(call, arns)
    if stored is None:
        raise invalid_value(
            f"Invalid snapshot ARN {arns[0][:200]!r}: it must be that of a serverless cache snapshot or of a snapshot "
            f"of this account and region, or {_S3}BUCKET/KEY."
        )
    snapshot = ready_snapshot(call, stored)
    if engine is snapshot.engine and call.text("MajorEngineVersion") is None:
        there = call.services.catalogue.best(snapshot.engine, snapshot.version)
        if snapshot.substitute is not None or there is not None:
            call = replace(call, params={**call.params, "MajorEngineVersion": str(snapshot.version)})
    return Beginning(call, snapshot)


def first_shards(begins: Beginning, cache: ServerlessCache, scaling: Scaling) -> list[FirstShard]:
    """The shards that a new cache begins with. Raises InvalidParameterCombination where its limit is below its data.

    With data every node has the room that this needs, whatever the limit: while keys are loaded none may be evicted.
    The scaler brings it down to the limit afterwards.
    """
    snapshot = begins.snapshot
    if snapshot is None:
        least = max(cache.least_bytes, room(0, scaling))
        memory = least if cache.most_bytes is None else min(least, cache.most_bytes)
        return [FirstShard("0001", divided(1)[0], memory)]
    used = sum(shard.used_bytes for shard in snapshot.shards)
    if cache.most_bytes is not None and used > cache.most_bytes:
        raise invalid_combination(
            f"Snapshot {snapshot.told_name} is of {used} bytes of memory, and the DataStorage Maximum is "
            f"{cache.most_bytes} bytes."
        )
    found = _shards(snapshot)
    least = -(-cache.least_bytes // len(found))
    return [FirstShard(name, slots, max(least, room(held, scaling))) for name, slots, held in found]


def _shards(snapshot: Snapshot) -> list[tuple[str, Slots, int]]:
    """Id, slots and bytes of each."""
    if snapshot.cluster_mode is ClusterMode.DISABLED:
        return [("0001", divided(1)[0], sum(shard.used_bytes for shard in snapshot.shards))]
    return [(shard.id, shard.slots, shard.used_bytes) for shard in snapshot.shards]
