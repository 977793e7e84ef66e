"""Create, Describe, Copy and Delete Snapshot; final snapshots for the deletes.

What is wanted is stored; cachekeep.snapshots carries it out. Texts of faults: botocore elasticache 2015-02-02.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from cachekeep.api import choose
from cachekeep.api.context import Call
from cachekeep.api.entry import Entry, Truth
from cachekeep.api.ops.members import find_group, members_of
from cachekeep.api.paging import page
from cachekeep.api.present import Shape
from cachekeep.api.present_snapshot import snapshot_shape
from cachekeep.api.surroundings import refuse_surroundings
from cachekeep.domain.cache_cluster import CacheCluster, Status
from cachekeep.domain.faults import Fault, invalid_combination, invalid_value
from cachekeep.domain.ids import resource_id
from cachekeep.domain.ports import Transaction
from cachekeep.domain.replication_group import ClusterMode, ReplicationGroup
from cachekeep.domain.snapshot import Snapshot, SnapshotSource, SnapshotStatus
from cachekeep.plan.snapshots import DAY_S, copy_of, held_for, snapshot_of_cluster, snapshot_of_group

LONGEST_NAME = 255
MOST_RECORDS = 50
_WITHOUT_SNAPSHOTS = ("cache.t1.micro",)
# SnapshotSource as the model has it, and the words of the describes.
SOURCES = {
    "system": SnapshotSource.AUTOMATED,
    "automated": SnapshotSource.AUTOMATED,
    "user": SnapshotSource.MANUAL,
    "manual": SnapshotSource.MANUAL,
    "all": None,
}


def create_snapshot(call: Call) -> Shape:
    name = _new_name(call, "SnapshotName")
    refuse_surroundings(call)
    group_id, cluster_id = call.text("ReplicationGroupId"), call.text("CacheClusterId")
    if (group_id is None) == (cluster_id is None):
        raise invalid_combination("Exactly one of ReplicationGroupId and CacheClusterId must be given.")
    tags = choose.choose_tags(call)
    with call.services.store.transaction() as work:
        if group_id is not None:
            snapshot = _of_group(call, work, find_group(call, group_id), name)
        else:
            snapshot = _of_cluster(call, work, cluster_id or "", name)
        return {"Snapshot": snapshot_shape(call, stored(work, replace(snapshot, tags=tags)), shards=True)}


def _of_group(call: Call, work: Transaction, group: ReplicationGroup, name: str) -> Snapshot:
    require_snapshots(group.engine.speaks_resp, group.node_type)
    if group.status is not Status.AVAILABLE:
        raise Fault(
            "InvalidReplicationGroupState",
            f"Replication group {group.id} must be in available state for a snapshot, and it is "
            f"{group.told_status.value}.",
        )
    members = {m.id: m for m in members_of(work, group)}
    snapshot = snapshot_of_group(group, members, name, SnapshotSource.MANUAL, call.services.clock.now())
    _check_quota(call, snapshot, len(group.node_groups))
    return snapshot


def _of_cluster(call: Call, work: Transaction, cluster_id: str, name: str) -> Snapshot:
    cluster = work.get(CacheCluster, call.region, cluster_id.lower())
    if cluster is None or cluster.serverless is not None:
        raise Fault("CacheClusterNotFound", f"CacheCluster not found: {cluster_id[:60]}")
    require_snapshots(cluster.engine.speaks_resp, cluster.node_type)
    held = work.get(ReplicationGroup, call.region, cluster.replication_group_id or "")
    if held is not None and held.cluster_mode is not ClusterMode.DISABLED:
        raise invalid_combination(
            f"Cache cluster {cluster.id} is a member of replication group {held.id} with cluster mode: a snapshot is "
            "of the whole group, by ReplicationGroupId."
        )
    states = [s for s in (cluster.told_status, held.told_status if held else None) if s not in (None, Status.AVAILABLE)]
    if states:
        raise Fault(
            "InvalidCacheClusterState",
            f"Cache cluster {cluster.id} must be in available state for a snapshot, and it is {states[0]}.",
        )
    snapshot = snapshot_of_cluster(cluster, held, name, SnapshotSource.MANUAL, call.services.clock.now())
    _check_quota(call, snapshot, 1)
    return snapshot


def require_snapshots(speaks_resp: bool, node_type: str) -> None:
    """Raises SnapshotFeatureNotSupportedFault."""
    if not speaks_resp or node_type in _WITHOUT_SNAPSHOTS:
        what = "running Memcached" if not speaks_resp else f"of the node type {node_type}"
        raise Fault("SnapshotFeatureNotSupportedFault", f"Snapshots are not supported for a cluster {what}.")


def _check_quota(call: Call, snapshot: Snapshot, nodes: int) -> None:
    """Raises SnapshotQuotaExceededFault. Source: ElastiCache guide, 20 manual snapshots per node in 24 hours."""
    most = call.services.snapshots_per_day * nodes
    recent = [
        s
        for s in call.services.store.all(Snapshot, call.region)
        if s.source is SnapshotSource.MANUAL
        and (s.group_id, s.cluster_id if s.group_id is None else None)
        == (snapshot.group_id, snapshot.cluster_id if snapshot.group_id is None else None)
        and s.requested_at > call.services.clock.now() - DAY_S
    ]
    if len(recent) * nodes >= most:
        raise Fault(
            "SnapshotQuotaExceededFault",
            "The request cannot be processed because it would exceed the maximum number of snapshots: "
            f"{call.services.snapshots_per_day} manual ones of a node in 24 hours.",
        )


def stored(work: Transaction, snapshot: Snapshot) -> Snapshot:
    """The snapshot as `creating`, and its source held for it: no other change until it is done."""
    work.insert(snapshot)
    group = work.get(ReplicationGroup, snapshot.region, snapshot.group_id) if snapshot.group_id else None
    if group is not None:
        for member in members_of(work, group):
            work.replace(member, held_for(snapshot, member))
        work.replace(group, held_for(snapshot, group))
    elif snapshot.cluster_id is not None:
        cluster = work.get(CacheCluster, snapshot.region, snapshot.cluster_id)
        if cluster is not None:
            work.replace(cluster, held_for(snapshot, cluster))
    return snapshot


def final_snapshot(call: Call, source: ReplicationGroup | CacheCluster, *, retain: bool = False) -> None:
    """FinalSnapshotIdentifier: the snapshot is taken first, and its source goes once it is available. retain: but for
    a group's primary.

    Raises the faults of CreateSnapshot; the state of the source is the caller's to check.
    """
    name = _new_name(call, "FinalSnapshotIdentifier")
    require_snapshots(source.engine.speaks_resp, source.node_type)
    now = call.services.clock.now()
    with call.services.store.transaction() as work:
        if isinstance(source, ReplicationGroup):
            members = {m.id: m for m in members_of(work, source)}
            snapshot = snapshot_of_group(source, members, name, SnapshotSource.MANUAL, now)
        else:
            snapshot = snapshot_of_cluster(source, None, name, SnapshotSource.MANUAL, now)
        _check_quota(call, snapshot, len(snapshot.shards))
        stored(work, replace(snapshot, final=True))
        held = work.get(ReplicationGroup, call.region, source.id) if retain else None
        if held is not None:
            work.replace(held, replace(held, retain_primary=True))


def _new_name(call: Call, parameter: str) -> str:
    """Raises InvalidParameterValue, SnapshotAlreadyExistsFault."""
    name = resource_id(parameter, call.params[parameter], LONGEST_NAME)
    if call.services.store.get(Snapshot, call.region, name) is not None:
        raise Fault("SnapshotAlreadyExistsFault", f"Snapshot with specified name already exists: {name}.")
    return name


def find_snapshot(call: Call, name: str) -> Snapshot:
    """Raises SnapshotNotFoundFault."""
    found = call.services.store.get(Snapshot, call.region, name.lower())
    if found is None or found.of_serverless:
        raise Fault("SnapshotNotFoundFault", f"Snapshot {name[:80]} not found.")
    return found


def describe_snapshots(call: Call) -> Shape:
    shards = bool(call.flag("ShowNodeGroupConfig"))
    word = call.text("SnapshotSource")
    if word is not None and word not in SOURCES:
        raise invalid_value(f"Invalid SnapshotSource {word[:40]!r}: it must be system, user or all.")
    kind = SOURCES[word] if word is not None else None
    found = [s for s in _asked_for(call) if kind is None or s.source is kind]
    shown, marker = page(call, found, lambda s: s.name, most_allowed=MOST_RECORDS)
    return {"Marker": marker, "Snapshots": [snapshot_shape(call, s, shards=shards) for s in shown]}


def _asked_for(call: Call) -> list[Snapshot]:
    name, group_id, cluster_id = call.text("SnapshotName"), call.text("ReplicationGroupId"), call.text("CacheClusterId")
    every = (s for s in call.services.store.all(Snapshot, call.region) if not s.of_serverless)
    found = list(every) if name is None else [find_snapshot(call, name)]
    if group_id is not None:
        found = [s for s in found if s.group_id == group_id.lower()]
    if cluster_id is not None:
        found = [s for s in found if s.cluster_id == cluster_id.lower()]
        if not found and call.services.store.get(CacheCluster, call.region, cluster_id.lower()) is None:
            raise Fault("CacheClusterNotFound", f"CacheCluster not found: {cluster_id[:60]}")
    return found


def _require_available(snapshot: Snapshot) -> None:
    if snapshot.status is not SnapshotStatus.AVAILABLE:
        raise Fault(
            "InvalidSnapshotState",
            f"Snapshot {snapshot.name} must be in available state, and it is {snapshot.status.value}.",
        )


def copy_snapshot(call: Call) -> Shape:
    original = find_snapshot(call, call.params["SourceSnapshotName"])
    refuse_surroundings(call)
    bucket = call.text("TargetBucket")
    if bucket:
        return _export(call, original, bucket)
    name = _new_name(call, "TargetSnapshotName")
    _require_available(original)
    tags = {**original.tags, **choose.choose_tags(call)}
    copy = copy_of(original, name, tags, call.services.clock.now())
    choose.check_tag_count(dict(copy.tags))
    _check_quota(call, copy, len(copy.shards))
    with call.services.store.transaction() as work:
        work.replace(original, replace(original, status=SnapshotStatus.COPYING))
        work.insert(copy)
    return {"Snapshot": snapshot_shape(call, copy, shards=True)}


def _export(call: Call, original: Snapshot, bucket: str) -> Shape:
    """Into a bucket that the settings name: an RDB file of each node group."""
    name = resource_id("TargetSnapshotName", call.params["TargetSnapshotName"], LONGEST_NAME)
    check_bucket(call, bucket)
    _require_available(original)
    if original.method != "psync":
        raise invalid_combination(
            f"Snapshot {original.name} was taken without a fork, key by key: it has no RDB file to export."
        )
    new = replace(original, status=SnapshotStatus.COPYING, export=f"{bucket}/{name}")
    with call.services.store.transaction() as work:
        work.replace(original, new)
    return {"Snapshot": {**snapshot_shape(call, new, shards=True), "SnapshotName": name}}


def check_bucket(call: Call, bucket: str) -> None:
    """Raises InvalidParameterValue for a bucket that the setting `buckets` does not name."""
    if bucket not in call.services.buckets:
        raise invalid_value(
            f"The S3 bucket {bucket[:63]} does not exist. Buckets of this installation are named by the setting "
            "`buckets` (CACHEKEEP_BUCKETS): NAME=FOLDER or NAME=s3://BUCKET/PREFIX."
        )


def delete_snapshot(call: Call) -> Shape:
    snapshot = find_snapshot(call, call.params["SnapshotName"])
    _require_available(snapshot)
    new = replace(snapshot, status=SnapshotStatus.DELETING)
    with call.services.store.transaction() as work:
        work.replace(snapshot, new)
    return {"Snapshot": snapshot_shape(call, new, shards=True)}


_TESTS = "tests/scenarios/test_snapshots.py::"

OPERATIONS: Mapping[str, Entry] = {
    "CreateSnapshot": Entry(
        create_snapshot,
        Truth.REAL,
        _TESTS + "test_a_snapshot_becomes_a_new_group",
        "RDB files of all node groups, from replicas in sync, read back before it is available. KmsKeyId is refused.",
    ),
    "DescribeSnapshots": Entry(
        describe_snapshots, Truth.REAL, _TESTS + "test_describe_filters_and_pages", "SnapshotSource also takes manual."
    ),
    "CopySnapshot": Entry(
        copy_snapshot,
        Truth.REAL,
        _TESTS + "test_copies_exports_and_files",
        "A copy is a further name of the same data, read again; TargetBucket: RDB files into a configured bucket.",
    ),
    "DeleteSnapshot": Entry(delete_snapshot, Truth.REAL, _TESTS + "test_copies_exports_and_files"),
}
