"""Create, Describe, Copy, Delete and Export ServerlessCacheSnapshot; final snapshots for DeleteServerlessCache.

Each is a snapshot of the group behind the cache, carried out by cachekeep.snapshots as any other; what is other are its
name, what is told of it, and the faults. Source of shapes and faults: botocore elasticache 2015-02-02.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from cachekeep.api import choose
from cachekeep.api.context import Call
from cachekeep.api.entry import Entry, Truth
from cachekeep.api.ops.members import members_of
from cachekeep.api.ops.serverless_found import find_cache, wrong_state
from cachekeep.api.ops.snapshots import LONGEST_NAME, SOURCES, check_bucket, stored
from cachekeep.api.paging import page_by_token
from cachekeep.api.present import Shape
from cachekeep.api.present_snapshot import serverless_shape
from cachekeep.domain.cache_cluster import Status
from cachekeep.domain.faults import Fault, invalid_combination, invalid_value
from cachekeep.domain.ids import resource_id
from cachekeep.domain.ports import Transaction
from cachekeep.domain.replication_group import ReplicationGroup
from cachekeep.domain.serverless import ServerlessCache, ServerlessStatus, backing_id
from cachekeep.domain.snapshot import Snapshot, SnapshotSource, SnapshotStatus
from cachekeep.plan.snapshots import DAY_S, copy_of, snapshot_of_group

MOST_IN_A_DAY = 24
"""Manual ones of one cache in 24 hours. Source: ElastiCache guide, "Quotas", serverless snapshots."""
_MOST_RECORDS = 50


def create_serverless_cache_snapshot(call: Call) -> Shape:
    name = _new_name(call, "ServerlessCacheSnapshotName")
    cache = find_cache(call, call.params["ServerlessCacheName"])
    _refuse_keys(call)
    tags = choose.choose_tags(call)
    with call.services.store.transaction() as work:
        group = _source(work, cache, "snapshotted")
        _check_quota(call, cache.backing_id)
        snapshot = stored(work, replace(_of_group(call, work, group, name), tags=tags))
        return _shown(call, snapshot)


def _source(work: Transaction, cache: ServerlessCache, done: str) -> ReplicationGroup:
    """The group to read. Raises InvalidParameterCombination, InvalidServerlessCacheStateFault."""
    if not cache.engine.speaks_resp:
        raise invalid_combination("Snapshots are not supported for a serverless cache running Memcached.")
    group = work.get(ReplicationGroup, cache.region, cache.backing_id)
    if group is None or cache.status is not ServerlessStatus.AVAILABLE:
        raise wrong_state(cache, done)
    require_no_snapshot(cache, group)
    if group.status is not Status.AVAILABLE:
        raise Fault(
            "InvalidServerlessCacheStateFault",
            f"Serverless cache {cache.name} is being scaled or changed and cannot be {done} until that is done.",
        )
    return group


def require_no_snapshot(cache: ServerlessCache, group: ReplicationGroup | None) -> None:
    """Raises InvalidServerlessCacheStateFault while a snapshot of the cache is being taken."""
    if group is not None and group.status is Status.SNAPSHOTTING:
        raise Fault(
            "InvalidServerlessCacheStateFault",
            f"A snapshot of the serverless cache {cache.name} is being taken: try again once it is there.",
        )


def _of_group(call: Call, work: Transaction, group: ReplicationGroup, name: str) -> Snapshot:
    members = {m.id: m for m in members_of(work, group)}
    return snapshot_of_group(group, members, name, SnapshotSource.MANUAL, call.services.clock.now())


def final_snapshot(call: Call, work: Transaction, cache: ServerlessCache, group: ReplicationGroup | None) -> None:
    """FinalSnapshotName: it is taken first, and the cache goes once it is available.

    Raises the faults of CreateServerlessCacheSnapshot, but for its quota.
    """
    name = _new_name(call, "FinalSnapshotName")
    group = _source(work, cache, "deleted with a final snapshot")
    stored(work, replace(_of_group(call, work, group, name), final=True))


def _new_name(call: Call, parameter: str) -> str:
    """As it is kept. Raises InvalidParameterValue, ServerlessCacheSnapshotAlreadyExistsFault."""
    name = resource_id(parameter, call.params[parameter], LONGEST_NAME)
    if call.services.store.get(Snapshot, call.region, backing_id(name)) is not None:
        raise Fault(
            "ServerlessCacheSnapshotAlreadyExistsFault", f"Serverless cache snapshot {name[:80]} already exists."
        )
    return backing_id(name)


def _check_quota(call: Call, group_id: str | None) -> None:
    """Raises ServerlessCacheSnapshotQuotaExceededFault."""
    since = call.services.clock.now() - DAY_S
    every = call.services.store.all(Snapshot, call.region)
    manual = [s for s in every if s.group_id == group_id and s.source is SnapshotSource.MANUAL]
    if sum(s.requested_at > since for s in manual) >= MOST_IN_A_DAY:
        raise Fault(
            "ServerlessCacheSnapshotQuotaExceededFault",
            f"There can be at most {MOST_IN_A_DAY} manual snapshots of a serverless cache in 24 hours.",
        )


def _refuse_keys(call: Call) -> None:
    """Raises InvalidParameterCombination."""
    if call.text("KmsKeyId"):
        raise invalid_combination("KmsKeyId: there is no key service here; leave it out.")


def _shown(call: Call, snapshot: Snapshot) -> Shape:
    return {"ServerlessCacheSnapshot": _shape(call, snapshot)}


def _shape(call: Call, snapshot: Snapshot) -> Shape:
    group = call.services.store.get(ReplicationGroup, snapshot.region, snapshot.source_id)
    return serverless_shape(call, snapshot, group)


def _find(call: Call, name: str) -> Snapshot:
    """Raises ServerlessCacheSnapshotNotFoundFault."""
    found = call.services.store.get(Snapshot, call.region, backing_id(name.lower()))
    if found is None:
        raise Fault("ServerlessCacheSnapshotNotFoundFault", f"Serverless cache snapshot {name[:80]} not found.")
    return found


def _require_available(snapshot: Snapshot, done: str) -> None:
    if snapshot.status is not SnapshotStatus.AVAILABLE:
        raise Fault(
            "InvalidServerlessCacheSnapshotStateFault",
            f"Serverless cache snapshot {snapshot.told_name} is {snapshot.status.value} and cannot be {done} now.",
        )


def describe_serverless_cache_snapshots(call: Call) -> Shape:
    word = call.text("SnapshotType")
    if word is not None and word not in SOURCES:
        raise invalid_value(f"Invalid SnapshotType {word[:40]!r}: it must be manual, automated or all.")
    kind = SOURCES[word] if word is not None else None
    found = [s for s in _asked_for(call) if kind is None or s.source is kind]
    shown, token = page_by_token(call, found, lambda s: s.name, most_allowed=_MOST_RECORDS)
    return {"NextToken": token, "ServerlessCacheSnapshots": [_shape(call, s) for s in shown]}


def _asked_for(call: Call) -> list[Snapshot]:
    name, of = call.text("ServerlessCacheSnapshotName"), call.text("ServerlessCacheName")
    every = (s for s in call.services.store.all(Snapshot, call.region) if s.of_serverless)
    found = list(every) if name is None else [_find(call, name)]
    if of is not None:
        found = [s for s in found if s.group_id == backing_id(of.lower())]
        if not found:
            find_cache(call, of)
    return found


def copy_serverless_cache_snapshot(call: Call) -> Shape:
    original = _find(call, call.params["SourceServerlessCacheSnapshotName"])
    _refuse_keys(call)
    name = _new_name(call, "TargetServerlessCacheSnapshotName")
    _require_available(original, "copied")
    tags = {**original.tags, **choose.choose_tags(call)}
    choose.check_tag_count(tags)
    _check_quota(call, original.group_id)
    copy = copy_of(original, name, tags, call.services.clock.now())
    with call.services.store.transaction() as work:
        work.replace(original, replace(original, status=SnapshotStatus.COPYING))
        work.insert(copy)
    return _shown(call, copy)


def delete_serverless_cache_snapshot(call: Call) -> Shape:
    return _begin(call, "deleted", status=SnapshotStatus.DELETING)


def export_serverless_cache_snapshot(call: Call) -> Shape:
    """Into a bucket that the settings name: an RDB file of each shard, `NAME-SHARD.rdb`."""
    original = _find(call, call.params["ServerlessCacheSnapshotName"])
    bucket = call.params["S3BucketName"]
    check_bucket(call, bucket)
    _require_available(original, "exported")
    if original.method != "psync":
        raise Fault(
            "InvalidServerlessCacheSnapshotStateFault",
            f"Serverless cache snapshot {original.told_name} was taken without a fork, key by key: it has no RDB file "
            "to export.",
        )
    return _begin(call, "exported", status=SnapshotStatus.COPYING, export=f"{bucket}/{original.told_name}")


def _begin(call: Call, done: str, *, status: SnapshotStatus, export: str = "") -> Shape:
    """What is to be done with the snapshot is stored."""
    snapshot = _find(call, call.params["ServerlessCacheSnapshotName"])
    _require_available(snapshot, done)
    new = replace(snapshot, status=status, export=export)
    with call.services.store.transaction() as work:
        work.replace(snapshot, new)
    return _shown(call, new)


_TESTS = "tests/scenarios/test_serverless_snapshots.py::"
_STORY = _TESTS + "test_a_cache_comes_back_from_its_final_snapshot"
_COPIES = _TESTS + "test_copies_and_exports"

OPERATIONS: Mapping[str, Entry] = {
    "CreateServerlessCacheSnapshot": Entry(
        create_serverless_cache_snapshot,
        Truth.REAL,
        _STORY,
        "RDB files of all shards, from replicas in sync, read back before it is available. Refused for Memcached, "
        "while the cache changes its shards or engine, and with KmsKeyId.",
    ),
    "DescribeServerlessCacheSnapshots": Entry(describe_serverless_cache_snapshots, Truth.REAL, _STORY),
    "CopyServerlessCacheSnapshot": Entry(
        copy_serverless_cache_snapshot,
        Truth.REAL,
        _COPIES,
        "A copy is a further name of the same data, read again. KmsKeyId is refused.",
    ),
    "DeleteServerlessCacheSnapshot": Entry(delete_serverless_cache_snapshot, Truth.REAL, _COPIES),
    "ExportServerlessCacheSnapshot": Entry(
        export_serverless_cache_snapshot,
        Truth.REAL,
        _COPIES,
        "RDB files, NAME-SHARD.rdb, into a bucket that the setting buckets names.",
    ),
}
