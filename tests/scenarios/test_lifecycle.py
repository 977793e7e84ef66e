"""The data plane outlives the control plane: kill -9 of the service, re-adoption, unfinished work."""

from __future__ import annotations

import json
import os
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import psutil
import pytest
import valkey.exceptions as valkey_errors

from cachekeep.domain.engine import EngineInstall

from .conftest import (
    Service,
    connect,
    gone,
    group_status,
    is_running,
    messages,
    wait_for,
)


def create(ec: Any, name: str = "demo", count: int = 3) -> dict[str, Any]:
    ec.create_replication_group(
        ReplicationGroupId=name,
        ReplicationGroupDescription="x",
        NumCacheClusters=count,
        AutomaticFailoverEnabled=count > 1,
    )
    wait_for(lambda: group_status(ec, name) == "available")
    group = ec.describe_replication_groups(ReplicationGroupId=name)["ReplicationGroups"][0]
    return dict(group["NodeGroups"][0])


def test_engines_serve_on_and_are_adopted_again(new_service: Callable[..., Service]) -> None:
    service = new_service().start()
    shard = create(service.client())
    writer, reader = connect(shard["PrimaryEndpoint"]), connect(shard["ReaderEndpoint"])
    writer.set("a", "1")
    writer_id, engines = writer.client_id(), service.engines()
    service.kill()
    assert service.engines() == engines
    writer.set("a", "2")
    assert writer.wait(2, 5000) == 2
    assert reader.get("a") == "2"
    service.start()
    ec = service.client()
    after = ec.describe_replication_groups(ReplicationGroupId="demo")["ReplicationGroups"][0]
    assert after["Status"] == "available"
    assert after["NodeGroups"][0] == shard
    # A round of control is over when a change that is asked for now is done.
    ec.modify_replication_group(ReplicationGroupId="demo", CacheNodeType="cache.t4g.small", ApplyImmediately=True)
    wait_for(lambda: group_status(ec, "demo") == "available")
    assert service.engines() == engines
    assert writer.client_id() == writer_id
    ec.delete_replication_group(ReplicationGroupId="demo")
    wait_for(lambda: gone(ec, "group", "demo"))
    assert not service.engines()
    assert not any(is_running(pid) for pid in engines)


def test_a_primary_that_died_meanwhile_is_replaced_at_the_next_start(new_service: Callable[..., Service]) -> None:
    service = new_service().start()
    shard = create(service.client())
    writer = connect(shard["PrimaryEndpoint"])
    writer.set("a", "1")
    assert writer.wait(2, 5000) == 2
    service.kill()
    (primary,) = service.engines("demo-001")
    os.kill(primary, signal.SIGKILL)
    service.start()
    ec = service.client()
    wait_for(lambda: any("Failover from primary node demo-001" in t for t in messages(ec, "replication-group", "demo")))
    wait_for(lambda: messages(ec, "cache-cluster", "demo-001")[-1] == "Finished recovery for cache nodes 0001")
    writer = connect(shard["PrimaryEndpoint"])
    assert writer.get("a") == "1"
    assert writer.role()[0] == "master"
    assert connect(shard["ReaderEndpoint"]).get("a") == "1"


def test_what_was_begun_is_finished_after_a_kill(new_service: Callable[..., Service]) -> None:
    """Killed right after a create and right after a delete were accepted."""
    service = new_service().start()
    ec = service.client()
    create(ec, "old", 2)
    old = service.engines()
    ec.create_replication_group(ReplicationGroupId="new", ReplicationGroupDescription="x", NumCacheClusters=3)
    ec.delete_replication_group(ReplicationGroupId="old")
    service.kill()
    service.start()
    ec = service.client()
    wait_for(lambda: group_status(ec, "new") == "available")
    wait_for(lambda: gone(ec, "group", "old"))
    assert not any(is_running(pid) for pid in old)
    assert len(service.engines()) == 3
    assert not list(service.nodes_root.glob("*/old-*"))


def test_processes_and_folders_that_belong_to_nothing_go_at_the_start(new_service: Callable[..., Service]) -> None:
    service = new_service().start()
    create(service.client(), "kept", 1)
    create(service.client(), "lost", 1)
    (lost,) = service.engines("lost-001")
    (kept,) = service.engines("kept-001")
    service.kill()
    # As if the service had died between forgetting a group and ending its engine.
    with closing(sqlite3.connect(service.state_dir / "store.sqlite")) as store, store:
        store.execute("DELETE FROM resource WHERE name LIKE 'lost%'")
    service.start()
    wait_for(lambda: not list(service.nodes_root.glob("*/lost-*")))
    assert not is_running(lost)
    assert list(service.engines()) == [kept]


def test_nodes_are_not_ended_because_the_store_is_gone(new_service: Callable[..., Service]) -> None:
    service = new_service().start()
    create(service.client(), "demo", 1)
    engines = service.engines()
    service.kill()
    for file in service.state_dir.glob("store.sqlite*"):
        file.rename(file.with_name(f"away-{file.name}"))
    with pytest.raises(AssertionError, match="is gone: put it back"):
        service.start()
    assert service.engines() == engines
    for file in service.state_dir.glob("away-*"):
        file.rename(file.with_name(file.name.removeprefix("away-")))
    service.start()
    assert group_status(service.client(), "demo") == "available"
    assert service.engines() == engines


def test_endpoints_stay_the_same_for_the_life_of_a_group(new_service: Callable[..., Service]) -> None:
    service = new_service().start()
    first = create(service.client(), "one", 2)
    service.stop()
    service.start()
    ec = service.client()
    create(ec, "two", 1)
    again = ec.describe_replication_groups(ReplicationGroupId="one")["ReplicationGroups"][0]["NodeGroups"][0]
    assert again["PrimaryEndpoint"] == first["PrimaryEndpoint"]
    assert again["ReaderEndpoint"] == first["ReaderEndpoint"]


def test_an_engine_of_somebody_else_at_a_nodes_address_is_left_alone(
    new_service: Callable[..., Service], valkey: EngineInstall, tmp_path: Path
) -> None:
    """It holds the address while ours is down: nothing is done to it, and our saved data waits."""
    service = new_service().start()
    at = create(service.client(), "demo", 1)["NodeGroupMembers"][0]["ReadEndpoint"]
    connect(at).set("ours", "1")
    down = [sys.executable, "-m", "cachekeep", "down"]
    subprocess.run(down, env=service.environment, check=True, capture_output=True)
    service.stop()
    foreign = subprocess.Popen(
        [valkey.program, "--bind", at["Address"], "--port", str(at["Port"]), "--save", "", "--dir", str(tmp_path)],
        stdout=subprocess.DEVNULL,
    )
    try:
        wait_for(lambda: answers(at))
        client = connect(at)
        client.set("theirs", "1")
        before = client.config_get("*")
        service.start()
        wait_for(lambda: "is taken by another process" in service.log.read_text())
        wait_for(lambda: service.log.read_text().count("is taken by another process") > 3)
        assert client.config_get("*") == before
        assert client.keys() == ["theirs"]
        client.close()
    finally:
        foreign.kill()
        foreign.wait(10)
    wait_for(lambda: answers(at) and connect(at).keys() == ["ours"])


def answers(at: dict[str, Any]) -> bool:
    try:
        return bool(connect(at).ping())
    except (valkey_errors.ConnectionError, valkey_errors.BusyLoadingError):
        return False


def test_down_believes_no_file_about_whom_to_end(new_service: Callable[..., Service]) -> None:
    service = new_service().start()
    service.stop()
    bystander = subprocess.Popen(["sleep", "60"])
    try:
        started = psutil.Process(bystander.pid).create_time()
        told = {"pid": bystander.pid, "started": started, "url": service.url}
        (service.state_dir / "service.json").write_text(json.dumps(told))
        down = [sys.executable, "-m", "cachekeep", "down"]
        subprocess.run(down, env=service.environment, check=True, capture_output=True)
        assert bystander.poll() is None
    finally:
        bystander.kill()
        bystander.wait(10)
