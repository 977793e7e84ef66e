"""Snapshots and restores that something comes between: a kill, a failover, a full disk, damage."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from ipaddress import IPv4Network
from pathlib import Path
from typing import Any

import psutil
import pytest

from .conftest import (
    Service,
    cluster_status,
    connect,
    create_cluster,
    create_group,
    gone,
    group_status,
    messages,
    wait_for,
)
from .test_full_disk import fill
from .test_snapshots import begin_cluster, begin_group, cluster_client, primary, refused, snapshot, take

pytestmark = pytest.mark.slow

KEYS = 3000


def slow_saving(node: Any, us_per_key: int = 2000) -> None:
    """The engine takes its time for every key that it writes into an RDB file: 6 s for all."""
    node.config_set("rdb-key-save-delay", us_per_key)


def filled(node: Any) -> None:
    node.mset({f"key:{n}": f"value {n}" for n in range(KEYS)})


def generations(service: Service) -> list[Path]:
    folder = service.state_dir / "snapshots"
    return [path for path in folder.iterdir() if path.is_dir()] if folder.is_dir() else []


def status(service: Service) -> str:
    command = [sys.executable, "-m", "cachekeep", "status", "--json"]
    return subprocess.run(command, env=service.environment, capture_output=True, text=True, check=True).stdout


def worker(service: Service) -> psutil.Process | None:
    assert service.process is not None
    for child in psutil.Process(service.process.pid).children():
        with suppress(psutil.NoSuchProcess):  # it has ended meanwhile
            if "cachekeep.snapshot_child" in child.cmdline():
                return child
    return None


def test_a_killed_service_takes_back_what_it_was_taking(new_service: Callable[..., Service]) -> None:
    service = new_service().start()
    ec = service.client()
    cluster = create_cluster(ec, [], "one")
    node = connect(cluster["CacheNodes"][0]["Endpoint"])
    filled(node)
    slow_saving(node)
    ec.create_snapshot(SnapshotName="half", CacheClusterId="one")
    wait_for(lambda: generations(service))
    child = wait_for(lambda: worker(service))
    service.kill()
    wait_for(lambda: not child.is_running() or child.status() == psutil.STATUS_ZOMBIE, 60)
    ec = service.start().client()
    wait_for(lambda: refused(ec, "half"))
    assert "Reason: the service ended while it was taken" in messages(ec, "cache-cluster", "one")[-1]
    assert cluster_status(ec, "one") == "available"
    wait_for(lambda: not generations(service))
    slow_saving(node, 0)
    take(ec, "whole", CacheClusterId="one")


def test_a_killed_worker_is_replaced(new_service: Callable[..., Service]) -> None:
    service = new_service().start()
    ec = service.client()
    cluster = create_cluster(ec, [], "one")
    node = connect(cluster["CacheNodes"][0]["Endpoint"])
    filled(node)
    slow_saving(node)
    ec.create_snapshot(SnapshotName="snap", CacheClusterId="one")
    wait_for(lambda: generations(service))
    (half,) = generations(service)
    wait_for(lambda: worker(service)).kill()
    wait_for(lambda: not half.exists(), 60)
    slow_saving(node, 0)
    wait_for(lambda: snapshot(ec, "snap")["SnapshotStatus"] == "available", 60)
    again = begin_cluster(ec, [], "two", SnapshotName="snap")
    assert connect(again["CacheNodes"][0]["Endpoint"]).dbsize() == KEYS


def test_a_failover_goes_on_meanwhile(new_service: Callable[..., Service]) -> None:
    service = new_service().start()
    ec = service.client()
    group = create_group(ec, [], "grp", NumCacheClusters=3, AutomaticFailoverEnabled=True)
    filled(primary(group))
    primary(group).wait(2, 10_000)
    for member in group["NodeGroups"][0]["NodeGroupMembers"]:
        slow_saving(connect(member["ReadEndpoint"]))
    ec.create_snapshot(SnapshotName="snap", ReplicationGroupId="grp")
    wait_for(lambda: generations(service))
    (pid,) = service.engines("grp-001")
    os.kill(pid, signal.SIGKILL)

    def moved() -> bool:
        shown = ec.describe_replication_groups(ReplicationGroupId="grp")["ReplicationGroups"][0]
        roles = {m["CacheClusterId"]: m["CurrentRole"] for m in shown["NodeGroups"][0]["NodeGroupMembers"]}
        return roles["grp-001"] == "replica"

    wait_for(moved)
    assert primary(group).set("after", "1")
    assert snapshot(ec, "snap")["SnapshotStatus"] in ("creating", "available")
    wait_for(lambda: snapshot(ec, "snap")["SnapshotStatus"] == "available", 90)
    wait_for(lambda: group_status(ec, "grp") == "available", 60)
    again = begin_group(ec, [], "again", SnapshotName="snap")
    assert primary(again).dbsize() >= KEYS


def test_a_restore_goes_on_after_a_kill_and_refuses_damage(new_service: Callable[..., Service]) -> None:
    service = new_service().start()
    ec = service.client()
    cluster = create_cluster(ec, [], "one")
    filled(connect(cluster["CacheNodes"][0]["Endpoint"]))
    take(ec, "snap", CacheClusterId="one")
    shape = {"NumNodeGroups": 2, "ReplicasPerNodeGroup": 0, "SnapshotName": "snap"}
    ec.create_replication_group(ReplicationGroupId="cut", ReplicationGroupDescription="x", **shape)
    ec.create_cache_cluster(CacheClusterId="two", SnapshotName="snap")
    assert snapshot(ec, "snap")["SnapshotStatus"] == "restoring"
    service.kill()
    ec = service.start().client()
    wait_for(lambda: cluster_status(ec, "two") == "available", 60)
    wait_for(lambda: group_status(ec, "cut") == "available", 60)
    shown = ec.describe_cache_clusters(CacheClusterId="two", ShowCacheNodeInfo=True)["CacheClusters"][0]
    assert connect(shown["CacheNodes"][0]["Endpoint"]).dbsize() == KEYS
    wait_for(lambda: snapshot(ec, "snap")["SnapshotStatus"] == "available")
    segment = next((service.state_dir / "snapshots").glob("*/*.seg"))
    segment.chmod(0o600)
    data = bytearray(segment.read_bytes())
    data[len(data) // 2] ^= 0xFF
    segment.write_bytes(data)
    for name, more in (("bad", {}), ("worse", {"NumNodeGroups": 2, "ReplicasPerNodeGroup": 0})):
        ec.create_replication_group(
            ReplicationGroupId=name, ReplicationGroupDescription="x", SnapshotName="snap", **more
        )
        wait_for(lambda name=name: group_status(ec, name) == "create-failed", 60)
        assert "snapshot snap could not be restored" in messages(ec, "replication-group", name)[-1]
        assert not service.engines(f"{name}-001")
    ec.copy_snapshot(SourceSnapshotName="snap", TargetSnapshotName="copy")
    wait_for(lambda: refused(ec, "copy"), 60)
    assert "damaged" in messages(ec, "cache-cluster", "one")[-1]


def begun_and_held(service: Service, ec: Any) -> psutil.Process:
    """A cluster `two` that is being restored; its engine runs, and the process that feeds it does nothing."""
    cluster = create_cluster(ec, [], "one")
    filled(connect(cluster["CacheNodes"][0]["Endpoint"]))
    take(ec, "snap", CacheClusterId="one")
    wait_for(lambda: worker(service) is None)
    ec.create_cache_cluster(CacheClusterId="two", SnapshotName="snap")
    feeder: psutil.Process = wait_for(lambda: worker(service))
    feeder.suspend()
    wait_for(lambda: service.engines("two"))
    return feeder


def keys_of(ec: Any, name: str) -> int:
    wait_for(lambda: cluster_status(ec, name) == "available", 60)
    shown = ec.describe_cache_clusters(CacheClusterId=name, ShowCacheNodeInfo=True)["CacheClusters"][0]
    return int(connect(shown["CacheNodes"][0]["Endpoint"]).dbsize())


def test_a_service_that_is_killed_while_an_engine_loads_begins_anew(new_service: Callable[..., Service]) -> None:
    service = new_service().start()
    feeder = begun_and_held(service, service.client())
    service.kill()
    feeder.kill()
    ec = service.start().client()
    assert keys_of(ec, "two") == KEYS
    wait_for(lambda: not list((service.state_dir / "restores").iterdir()))


def test_an_engine_that_dies_before_it_has_loaded_is_fed_again(new_service: Callable[..., Service]) -> None:
    service = new_service().start()
    ec = service.client()
    feeder = begun_and_held(service, ec)
    (pid,) = service.engines("two")
    os.kill(pid, signal.SIGKILL)
    wait_for(lambda: service.engines("two") not in ([], [pid]))
    feeder.resume()
    assert keys_of(ec, "two") == KEYS
    wait_for(lambda: worker(service) is None)


def test_a_worker_that_is_killed_while_an_engine_loads_is_replaced(new_service: Callable[..., Service]) -> None:
    service = new_service().start()
    ec = service.client()
    begun_and_held(service, ec).kill()
    assert keys_of(ec, "two") == KEYS


def test_a_cache_that_is_deleted_before_it_has_loaded_leaves_nothing(new_service: Callable[..., Service]) -> None:
    service = new_service().start()
    ec = service.client()
    feeder = begun_and_held(service, ec)
    ec.delete_cache_cluster(CacheClusterId="two")
    feeder.resume()
    wait_for(lambda: not [c for c in ec.describe_cache_clusters()["CacheClusters"] if c["CacheClusterId"] == "two"], 60)
    wait_for(lambda: worker(service) is None and not list((service.state_dir / "restores").iterdir()))
    wait_for(lambda: snapshot(ec, "snap")["SnapshotStatus"] == "available")


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    place = tmp_path / "disk"
    place.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=48m", "tmpfs", str(place)], check=False)
    if mounted.returncode:
        pytest.skip("needs the right to mount a tmpfs")
    yield place
    subprocess.run(["umount", str(place)], check=True)


def test_a_full_disk_leaves_nothing_half_done(small_disk: Path, loopback_range: IPv4Network) -> None:
    service = Service(small_disk / "state", list(loopback_range.subnets(new_prefix=27))[4])
    try:
        ec = service.start().client()
        cluster = create_cluster(ec, [], "one")
        node = connect(cluster["CacheNodes"][0]["Endpoint"])
        filled(node)
        fill(small_disk)
        ec.create_snapshot(SnapshotName="snap", CacheClusterId="one")
        wait_for(lambda: refused(ec, "snap"), 60)
        assert "Snapshot failed" in messages(ec, "cache-cluster", "one")[-1]
        assert cluster_status(ec, "one") == "available"
        assert node.dbsize() == KEYS
        (small_disk / "filler").unlink()
        assert not generations(service)
        take(ec, "snap", CacheClusterId="one")
    finally:
        service.dispose()


def test_a_lone_primary_that_comes_back_empty_fails_the_snapshot(new_service: Callable[..., Service]) -> None:
    """What it has then is not what was to be kept: an empty snapshot that is `available` would be a trap."""
    service = new_service().start()
    ec = service.client()
    cluster = create_cluster(ec, [], "one")
    node = connect(cluster["CacheNodes"][0]["Endpoint"])
    filled(node)
    wait_for(lambda: f'"keys": {KEYS}' in status(service), 30)
    slow_saving(node)
    ec.create_snapshot(SnapshotName="lost", CacheClusterId="one")
    wait_for(lambda: node.info("persistence")["rdb_bgsave_in_progress"])
    os.kill(node.info("server")["process_id"], signal.SIGKILL)
    wait_for(lambda: refused(ec, "lost"), 60)
    assert "lost its data while the snapshot was taken" in messages(ec, "cache-cluster", "one")[-1]
    wait_for(lambda: cluster_status(ec, "one") == "available")


def test_three_groups_at_once_and_deletions_in_the_middle(new_service: Callable[..., Service]) -> None:
    """Of two shards each. What is deleted meanwhile is refused, or goes whole and takes nothing of the others along."""
    service = new_service().start()
    ec, names = service.client(), ("one", "two", "three")
    for name in names:
        group = {"ReplicationGroupId": name, "ReplicationGroupDescription": "x", "Engine": "valkey"}
        ec.create_replication_group(**group, NumNodeGroups=2, ReplicasPerNodeGroup=0)
    for name in names:
        wait_for(lambda n=name: group_status(ec, n) == "available", 60)
        with cluster_client(described(ec, name)) as client:
            client.mset_nonatomic({f"key:{n}": f"{name} {n}" for n in range(KEYS)})
        for node in nodes_of(ec, name):
            slow_saving(node, 6000)
    for name in names:
        ec.create_snapshot(SnapshotName=f"s-{name}", ReplicationGroupId=name)
    wait_for(lambda: generations(service), 30)
    # In the middle of all three: what is being taken cannot go, nor what it is taken of.
    for name in names:
        assert snapshot(ec, f"s-{name}")["SnapshotStatus"] == "creating"
        with pytest.raises(ec.exceptions.InvalidSnapshotStateFault):
            ec.delete_snapshot(SnapshotName=f"s-{name}")
        with pytest.raises(ec.exceptions.InvalidReplicationGroupStateFault):
            ec.delete_replication_group(ReplicationGroupId=name)
        with pytest.raises(ec.exceptions.InvalidReplicationGroupStateFault):
            ec.create_snapshot(SnapshotName=f"again-{name}", ReplicationGroupId=name)
    # A shard of one dies in the middle; the others are none the wiser.
    dying = nodes_of(ec, "two")[0]
    wait_for(lambda: dying.info("persistence")["rdb_bgsave_in_progress"], 60)
    os.kill(int(dying.info("server")["process_id"]), signal.SIGKILL)
    wait_for(lambda: refused(ec, "s-two"), 120)
    assert any("Snapshot failed" in text for text in messages(ec, "replication-group", "two"))
    for name in ("one", "three"):
        wait_for(lambda n=name: snapshot(ec, f"s-{n}")["SnapshotStatus"] == "available", 120)
    ec.delete_snapshot(SnapshotName="s-one")
    ec.delete_replication_group(ReplicationGroupId="three")
    wait_for(lambda: refused(ec, "s-one") and gone(ec, "group", "three"), 60)
    wait_for(lambda: len(generations(service)) == 1, 30)
    wait_for(lambda: group_status(ec, "two") == group_status(ec, "one") == "available", 60)
    restored = begin_group(ec, [], "again", SnapshotName="s-three")
    assert restored["Status"] == "available"
    with cluster_client(restored) as client:
        keys = [f"key:{n}" for n in range(KEYS)]
        assert client.mget_nonatomic(keys) == [f"three {n}" for n in range(KEYS)]
    assert "Traceback" not in service.log.read_text()


def described(ec: Any, name: str) -> dict[str, Any]:
    return dict(ec.describe_replication_groups(ReplicationGroupId=name)["ReplicationGroups"][0])


def nodes_of(ec: Any, name: str) -> list[Any]:
    """A client for each node of the group."""
    found = [ec.describe_cache_clusters(CacheClusterId=one, ShowCacheNodeInfo=True) for one in members(ec, name)]
    return [connect(one["CacheClusters"][0]["CacheNodes"][0]["Endpoint"]) for one in found]


def members(ec: Any, name: str) -> list[str]:
    return list(described(ec, name)["MemberClusters"])
