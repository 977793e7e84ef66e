"""Requests for snapshots of serverless caches: what is stored, shown and refused, without any engine."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from desk import REGION, Desk

from cachekeep.domain.cache_cluster import CacheCluster, Status
from cachekeep.domain.replication_group import ReplicationGroup
from cachekeep.domain.serverless import ServerlessCache, ServerlessStatus
from cachekeep.domain.snapshot import Snapshot, SnapshotSource, SnapshotStatus
from cachekeep.plan.snapshots import automatic_name
from cachekeep.serverless import life

VALUE, COMBINATION = "InvalidParameterValue", "InvalidParameterCombination"
CACHE_STATE, SNAPSHOT_STATE = "InvalidServerlessCacheStateFault", "InvalidServerlessCacheSnapshotStateFault"
ARN = f"arn:aws:elasticache:{REGION}:000000000000"
MIB = 1 << 20


def cache(desk: Desk, name: str = "s", **more: Any) -> ServerlessCache:
    """One that is available."""
    desk.ask("CreateServerlessCache", ServerlessCacheName=name, **{"Engine": "valkey", **more})
    if more.get("Engine") != "memcached":
        desk.settle(f"serverless--{name}")
    return set_status(desk, name, ServerlessStatus.AVAILABLE)


def set_status(desk: Desk, name: str, status: ServerlessStatus) -> ServerlessCache:
    found = desk.store.get(ServerlessCache, REGION, name)
    assert found is not None
    with desk.store.transaction() as work:
        work.replace(found, replace(found, status=status))
    return replace(found, status=status)


def begin(desk: Desk, name: str = "snap", of: str = "s", **more: Any) -> dict[str, Any]:
    asked = {"ServerlessCacheSnapshotName": name, "ServerlessCacheName": of, **more}
    return dict(desk.ask("CreateServerlessCacheSnapshot", **asked)["ServerlessCacheSnapshot"])


def kept(desk: Desk, name: str = "snap") -> Snapshot:
    found = desk.store.get(Snapshot, REGION, f"serverless--{name}")
    assert found is not None
    return found


def taken(desk: Desk, name: str = "snap", of: str = "s", used_bytes: int = 5 * MIB, **more: Any) -> Snapshot:
    """A snapshot as it is once it is there."""
    begin(desk, name, of)
    desk.settle(f"serverless--{of}")
    old = kept(desk, name)
    shards = tuple(replace(s, lane=f"lane{s.id}", used_bytes=used_bytes, taken_at=desk.clock.now()) for s in old.shards)
    plain = {"status": SnapshotStatus.AVAILABLE, "method": "psync", "rdb_version": 80, "generation": "g"}
    new = replace(old, shards=shards, **{**plain, **more})
    with desk.store.transaction() as work:
        work.replace(old, new)
    return new


def shown(desk: Desk, **filters: Any) -> list[str]:
    found = desk.ask("DescribeServerlessCacheSnapshots", **filters)["ServerlessCacheSnapshots"]
    return [one["ServerlessCacheSnapshotName"] for one in found]


def test_the_group_behind_the_cache_is_held_for_it(desk: Desk) -> None:
    cache(desk)
    told = begin(desk, "Nightly")
    assert told["ARN"] == f"{ARN}:serverlesscachesnapshot:nightly"
    assert (told["Status"], told["SnapshotType"], told["BytesUsedForCache"]) == ("creating", "manual", "0")
    assert told["ServerlessCacheConfiguration"] == {
        "ServerlessCacheName": "s",
        "Engine": "valkey",
        "MajorEngineVersion": "9",
    }
    assert desk.group("serverless--s").status is Status.SNAPSHOTTING
    assert desk.ask("DescribeServerlessCaches")["ServerlessCaches"][0]["Status"] == "AVAILABLE"


def test_what_a_snapshot_refuses(desk: Desk) -> None:
    cache(desk)
    cache(desk, "m", Engine="memcached", CacheUsageLimits={"DataStorage": {"Unit": "GB", "Maximum": 1}})
    taken(desk)
    asked = {"ServerlessCacheSnapshotName": "x", "ServerlessCacheName": "s"}
    for more, code in (
        ({"ServerlessCacheSnapshotName": "SNAP"}, "ServerlessCacheSnapshotAlreadyExistsFault"),
        ({"ServerlessCacheSnapshotName": "a--b"}, VALUE),
        ({"ServerlessCacheSnapshotName": ""}, VALUE),
        ({"ServerlessCacheName": "nobody"}, "ServerlessCacheNotFoundFault"),
        ({"ServerlessCacheName": "m"}, COMBINATION),
        ({"KmsKeyId": "key"}, COMBINATION),
        ({"Tags": [{"Key": str(n)} for n in range(51)]}, "TagQuotaPerResourceExceeded"),
    ):
        assert desk.refused("CreateServerlessCacheSnapshot", **{**asked, **more})[0] == code, more
    desk.settle("serverless--s", status=Status.MODIFYING)
    assert desk.refused("CreateServerlessCacheSnapshot", **asked)[0] == CACHE_STATE
    desk.settle("serverless--s")
    for status in (ServerlessStatus.CREATING, ServerlessStatus.DELETING, ServerlessStatus.CREATE_FAILED):
        set_status(desk, "s", status)
        assert desk.refused("CreateServerlessCacheSnapshot", **asked)[0] == CACHE_STATE


def test_24_in_a_day_of_one_cache(desk: Desk) -> None:
    cache(desk)
    cache(desk, "other")
    first = taken(desk)
    with desk.store.transaction() as work:
        for number in range(23):
            work.insert(replace(first, name=f"serverless--n{number}"))
        for number in range(3):
            work.insert(replace(first, name=f"serverless--a{number}", source=SnapshotSource.AUTOMATED))
    quota = "ServerlessCacheSnapshotQuotaExceededFault"
    asked = {"ServerlessCacheSnapshotName": "x", "ServerlessCacheName": "s"}
    assert desk.refused("CreateServerlessCacheSnapshot", **asked)[0] == quota
    names = {"SourceServerlessCacheSnapshotName": "snap", "TargetServerlessCacheSnapshotName": "x"}
    assert desk.refused("CopyServerlessCacheSnapshot", **names)[0] == quota
    begin(desk, "y", "other")
    desk.clock.time += 86_401
    begin(desk, "x")


def test_describe_filters_and_pages(desk: Desk) -> None:
    cache(desk)
    cache(desk, "empty")
    first = taken(desk, "n00")
    group = desk.group("serverless--s")
    daily = automatic_name(group, desk.clock.now())
    upkeep = replace(first.upkeep, snapshot_retention=3)
    with desk.store.transaction() as work:
        for number in range(1, 25):
            work.insert(replace(first, name=f"serverless--n{number:02d}"))
        work.insert(replace(first, name=daily, source=SnapshotSource.AUTOMATED, upkeep=upkeep))
    one = desk.ask("DescribeServerlessCacheSnapshots", MaxResults=20)
    rest = shown(desk, MaxResults=20, NextToken=one["NextToken"])
    every = [s["ServerlessCacheSnapshotName"] for s in one["ServerlessCacheSnapshots"]] + rest
    assert every == sorted(every) == [daily.removeprefix("serverless--"), *(f"n{n:02d}" for n in range(25))]
    assert shown(desk, SnapshotType="automated") == ["automatic.s-" + daily.rpartition(".s-")[2]]
    assert len(shown(desk, SnapshotType="manual", ServerlessCacheName="S")) == 25
    assert shown(desk, ServerlessCacheName="empty") == []
    assert shown(desk, ServerlessCacheSnapshotName="N07", ServerlessCacheName="s") == ["n07"]
    name = daily.removeprefix("serverless--")
    found = desk.ask("DescribeServerlessCacheSnapshots", ServerlessCacheSnapshotName=name)["ServerlessCacheSnapshots"]
    assert found[0]["ExpiryTime"] - found[0]["CreateTime"] == timedelta(days=3)
    assert found[0]["BytesUsedForCache"] == str(5 * MIB)
    for bad, code in (
        ({"ServerlessCacheSnapshotName": "nobody"}, "ServerlessCacheSnapshotNotFoundFault"),
        ({"ServerlessCacheName": "nobody"}, "ServerlessCacheNotFoundFault"),
        ({"SnapshotType": "mine"}, VALUE),
        ({"MaxResults": 51}, VALUE),
        ({"NextToken": "!"}, VALUE),
    ):
        assert desk.refused("DescribeServerlessCacheSnapshots", **bad)[0] == code, bad


def test_names_are_a_space_of_their_own(desk: Desk) -> None:
    """A snapshot of a cluster may have the same name; by the operations on those no other is found."""
    cache(desk)
    taken(desk)
    desk.create_cluster("c")
    desk.ask("CreateSnapshot", SnapshotName="snap", CacheClusterId="c")
    assert [one["SnapshotName"] for one in desk.ask("DescribeSnapshots")["Snapshots"]] == ["snap"]
    assert shown(desk) == ["snap"]
    hidden = "serverless--snap"
    assert desk.refused("DescribeSnapshots", SnapshotName=hidden)[0] == "SnapshotNotFoundFault"
    assert desk.refused("DeleteSnapshot", SnapshotName=hidden)[0] == "SnapshotNotFoundFault"
    names = {"SourceSnapshotName": hidden, "TargetSnapshotName": "x"}
    assert desk.refused("CopySnapshot", **names)[0] == "SnapshotNotFoundFault"
    asked = {"SnapshotName": "x", "CacheClusterId": "serverless--s-0001-001"}
    assert desk.refused("CreateSnapshot", **asked)[0] == "CacheClusterNotFound"
    group = {"ReplicationGroupId": "g", "ReplicationGroupDescription": "x"}
    assert desk.refused("CreateReplicationGroup", **group, SnapshotName=hidden)[0] == VALUE
    arns = [f"{ARN}:snapshot:{hidden}"]
    assert desk.refused("CreateReplicationGroup", **group, SnapshotArns=arns)[0] == VALUE


def test_tags(desk: Desk) -> None:
    cache(desk)
    taken(desk)
    arn = f"{ARN}:serverlesscachesnapshot:snap"
    desk.ask("AddTagsToResource", ResourceName=arn, Tags=[{"Key": "a", "Value": "b"}])
    assert desk.ask("ListTagsForResource", ResourceName=arn)["TagList"] == [{"Key": "a", "Value": "b"}]
    assert kept(desk).tags == {"a": "b"}
    code, _ = desk.refused("ListTagsForResource", ResourceName=f"{ARN}:snapshot:serverless--snap")
    assert code == "SnapshotNotFoundFault"


def test_copy_export_and_delete_need_it_available(desk: Desk) -> None:
    desk.services = replace(desk.services, buckets={"files": "/srv/files"})
    cache(desk)
    snap = taken(desk)
    copies = {"SourceServerlessCacheSnapshotName": "snap", "TargetServerlessCacheSnapshotName": "copy"}
    one = {"ServerlessCacheSnapshotName": "snap"}
    every = (
        ("CopyServerlessCacheSnapshot", copies),
        ("ExportServerlessCacheSnapshot", {**one, "S3BucketName": "files"}),
        ("DeleteServerlessCacheSnapshot", one),
    )
    for status in (SnapshotStatus.CREATING, SnapshotStatus.COPYING, SnapshotStatus.RESTORING, SnapshotStatus.DELETING):
        with desk.store.transaction() as work:
            work.replace(kept(desk), replace(snap, status=status))
        for operation, params in every:
            assert desk.refused(operation, **params)[0] == SNAPSHOT_STATE, (operation, status)
    with desk.store.transaction() as work:
        work.replace(kept(desk), snap)
    export = every[1][1]
    assert desk.refused(every[1][0], **{**export, "S3BucketName": "nobody"})[0] == VALUE
    assert desk.refused("CopyServerlessCacheSnapshot", **{**copies, "KmsKeyId": "key"})[0] == COMBINATION
    same = {**copies, "TargetServerlessCacheSnapshotName": "snap"}
    assert desk.refused("CopyServerlessCacheSnapshot", **same)[0] == "ServerlessCacheSnapshotAlreadyExistsFault"
    sent = desk.ask(every[1][0], **export)["ServerlessCacheSnapshot"]
    assert (sent["Status"], kept(desk).export) == ("exporting", "files/snap")
    with desk.store.transaction() as work:
        work.replace(kept(desk), replace(snap, method="scan"))
    assert desk.refused(every[1][0], **export)[0] == SNAPSHOT_STATE
    missing = {"ServerlessCacheSnapshotName": "nobody"}
    assert desk.refused("DeleteServerlessCacheSnapshot", **missing)[0] == "ServerlessCacheSnapshotNotFoundFault"


def test_a_final_snapshot_holds_the_cache_until_it_is_there(desk: Desk) -> None:
    wanted = cache(desk)
    taken(desk)
    delete = {"ServerlessCacheName": "s"}
    exists = "ServerlessCacheSnapshotAlreadyExistsFault"
    assert desk.refused("DeleteServerlessCache", **delete, FinalSnapshotName="snap")[0] == exists
    assert desk.refused("DeleteServerlessCache", **delete, FinalSnapshotName="-")[0] == VALUE
    told = desk.ask("DeleteServerlessCache", **delete, FinalSnapshotName="last")["ServerlessCache"]
    assert told["Status"] == "DELETING"
    assert kept(desk, "last").final
    assert desk.group("serverless--s").status is Status.SNAPSHOTTING
    assert desk.refused("DeleteServerlessCache", **delete)[0] == CACHE_STATE
    # It fails: what runs the cache is available again, and so is the cache.
    group = desk.settle("serverless--s")
    life.advance(desk.services, set_status(desk, "s", ServerlessStatus.DELETING), group)
    again = desk.store.get(ServerlessCache, REGION, "s")
    assert again is not None
    assert again.status is wanted.status
    assert "was not deleted: its final snapshot failed" in desk.events("s")[-1]


def test_memcached_has_no_final_snapshot(desk: Desk) -> None:
    cache(desk, "m", Engine="memcached", CacheUsageLimits={"DataStorage": {"Unit": "GB", "Maximum": 1}})
    asked = {"ServerlessCacheName": "m", "FinalSnapshotName": "f"}
    assert desk.refused("DeleteServerlessCache", **asked)[0] == COMBINATION


def test_a_cache_that_is_snapshotted_is_not_deleted(desk: Desk) -> None:
    cache(desk)
    begin(desk)
    assert desk.refused("DeleteServerlessCache", ServerlessCacheName="s")[0] == CACHE_STATE


def test_daily_ones_have_their_hour(desk: Desk) -> None:
    shape = desk.ask("CreateServerlessCache", ServerlessCacheName="s", Engine="valkey", SnapshotRetentionLimit=7)
    assert shape["ServerlessCache"]["SnapshotRetentionLimit"] == 7
    group = desk.settle("serverless--s")
    hour = shape["ServerlessCache"]["DailySnapshotTime"]
    assert (group.upkeep.snapshot_retention, group.upkeep.snapshot_window[:5]) == (7, hour)
    set_status(desk, "s", ServerlessStatus.AVAILABLE)
    desk.ask("ModifyServerlessCache", ServerlessCacheName="s", DailySnapshotTime="23:30", SnapshotRetentionLimit=0)
    group = desk.group("serverless--s")
    assert (group.upkeep.snapshot_retention, group.upkeep.snapshot_window) == (0, "23:30-00:30")


def test_a_new_cache_begins_with_a_snapshot(desk: Desk) -> None:
    cache(desk, MajorEngineVersion="8")
    used = 3 << 30
    taken(desk, used_bytes=used, rdb_version=11)
    asked = {"ServerlessCacheName": "new", "Engine": "valkey"}
    told = desk.ask("CreateServerlessCache", **asked, SnapshotArnsToRestore=[f"{ARN}:serverlesscachesnapshot:snap"])
    assert told["ServerlessCache"]["FullEngineVersion"] == "8.1.8", "as it was"
    group = desk.group("serverless--new")
    assert group.restore is not None
    assert (group.restore.lanes, group.restore.seeded) == ((("0001", "lane0001"),), True)
    assert group.restore.label == "snapshot snap"
    members = [m for m in desk.store.all(CacheCluster) if m.serverless == "new"]
    assert {m.memory_bytes for m in members} == {used + used // 4 + (1 << 30)}, "room for the data"
    assert kept(desk).status is SnapshotStatus.RESTORING


def test_a_new_cache_has_the_shards_of_the_snapshot(desk: Desk) -> None:
    desk.create_group("g", NumNodeGroups=3, ReplicasPerNodeGroup=0)
    desk.ask("CreateSnapshot", SnapshotName="of-group", ReplicationGroupId="g")
    old = desk.store.get(Snapshot, REGION, "of-group")
    assert old is not None
    shards = tuple(replace(s, lane=f"lane{s.id}", used_bytes=MIB) for s in old.shards)
    with desk.store.transaction() as work:
        work.replace(old, replace(old, shards=shards, status=SnapshotStatus.AVAILABLE, method="psync", rdb_version=80))
    arns = [f"{ARN}:snapshot:of-group"]
    desk.ask("CreateServerlessCache", ServerlessCacheName="new", Engine="valkey", SnapshotArnsToRestore=arns)
    group = desk.group("serverless--new")
    assert [s.slots for s in group.node_groups] == [s.slots for s in old.shards]
    assert group.restore is not None
    assert len(group.restore.lanes) == 3
    assert len(group.member_ids) == 6


@pytest.mark.parametrize(
    ("more", "code", "words"),
    [
        ({"SnapshotArnsToRestore": ["snap", "snap"]}, COMBINATION, "one snapshot"),
        ({"SnapshotArnsToRestore": ["snap"], "Engine": "memcached"}, COMBINATION, "no snapshots"),
        ({"SnapshotArnsToRestore": ["nobody"]}, VALUE, "Snapshot nobody not found"),
        ({"SnapshotArnsToRestore": ["snap"], "Engine": "redis"}, COMBINATION, "cannot be restored into"),
        ({"SnapshotArnsToRestore": ["snap"], "MajorEngineVersion": "8"}, COMBINATION, "cannot be restored into"),
        ({"SnapshotArnsToRestore": ["huge"]}, COMBINATION, "DataStorage Maximum"),
        ({"SnapshotArnsToRestore": ["creating"]}, COMBINATION, "must be in available state"),
    ],
)
def test_what_a_cache_cannot_begin_with(desk: Desk, more: dict[str, Any], code: str, words: str) -> None:
    cache(desk)
    taken(desk)
    taken(desk, "huge", used_bytes=3 << 30)
    begin(desk, "creating")
    arns = [f"{ARN}:serverlesscachesnapshot:{name}" for name in more["SnapshotArnsToRestore"]]
    limits = {"DataStorage": {"Unit": "GB", "Maximum": 2}}
    asked = {"ServerlessCacheName": "new", "Engine": "valkey", "CacheUsageLimits": limits, **more}
    found, message = desk.refused("CreateServerlessCache", **{**asked, "SnapshotArnsToRestore": arns})
    assert (found, words in message) == (code, True), message
    assert "serverless--" not in message


def test_arns_of_others_are_none(desk: Desk) -> None:
    cache(desk)
    taken(desk)
    for arn in (
        f"arn:aws:elasticache:{REGION}:111111111111:serverlesscachesnapshot:snap",
        "arn:aws:elasticache:us-west-2:000000000000:serverlesscachesnapshot:snap",
        f"{ARN}:serverlesscache:s",
        f"{ARN}:snapshot:serverless--snap",
        "arn:aws:s3:::nobody/x.rdb",
        "snap",
    ):
        asked = {"ServerlessCacheName": "new", "Engine": "valkey", "SnapshotArnsToRestore": [arn]}
        assert desk.refused("CreateServerlessCache", **asked)[0] == VALUE, arn


def test_a_group_begins_with_a_snapshot_of_a_cache(desk: Desk) -> None:
    cache(desk)
    taken(desk)
    asked = {"ReplicationGroupId": "g", "ReplicationGroupDescription": "x", "ServerlessCacheSnapshotName": "Snap"}
    for more in ({"SnapshotName": "snap"}, {"SnapshotArns": ["arn:aws:s3:::b/x.rdb"]}):
        assert desk.refused("CreateReplicationGroup", **asked, **more)[0] == COMBINATION
    missing = {**asked, "ServerlessCacheSnapshotName": "nobody"}
    assert desk.refused("CreateReplicationGroup", **missing)[0] == VALUE
    told = desk.ask("CreateReplicationGroup", **asked, CacheNodeType="cache.m7g.large")["ReplicationGroup"]
    assert (told["ClusterEnabled"], told["CacheNodeType"]) == (True, "cache.m7g.large")
    group = desk.store.get(ReplicationGroup, REGION, "g")
    assert group is not None
    assert group.restore is not None
    assert (group.serverless, group.restore.snapshot) == (None, "serverless--snap")
