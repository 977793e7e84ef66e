"""Groups whose tag asks for a continuous backup: any moment of them can be restored."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psutil
import pytest
import valkey

from cachekeep import backups
from cachekeep.backup.catalog import CatalogError
from cachekeep.backup.lease import last_sign_ms
from cachekeep.backup.moments import last_moment_ms, skew_ms
from cachekeep.domain.continuous import CONTINUOUS_TAG

from .conftest import Service, connect, create_cluster, create_group, gone, group_status, messages, wait_for
from .test_full_disk import fill, small_disk  # noqa: F401 - a fixture
from .test_prometheus import ask, bearer

REGION = "us-east-1"
TAG = {"Key": CONTINUOUS_TAG, "Value": "24h"}
# Between a change at the engine and its arrival in the capture, on a busy machine.
ARRIVES_MS = 2000
AFTER = "after"


def place(service: Service, name: str) -> Path:
    return service.state_dir / "continuous" / REGION / name


def arn(ec: Any, name: str) -> str:
    return str(ec.describe_replication_groups(ReplicationGroupId=name)["ReplicationGroups"][0]["ARN"])


def captures(service: Service) -> list[psutil.Process]:
    assert service.process is not None
    children = psutil.Process(service.process.pid).children()
    return [child for child in children if _is_capture(child)]


def _is_capture(child: psutil.Process) -> bool:
    try:
        return "cachekeep.snapshot_child.capture" in child.cmdline()
    except psutil.NoSuchProcess:  # a zombie, too
        return False


def known_until_ms(service: Service, name: str) -> int:
    """The last moment that can be restored, by this machine's clock; 0 before there is one."""
    try:
        opened = backups.repository(str(place(service, name)))
        every = opened.generations()
    except CatalogError:
        return 0
    last = ((last_moment_ms(opened, one), one) for one in every if one.head)
    return max((ms - skew_ms(one.head) for ms, one in last if ms is not None), default=0)


def is_sealed(service: Service, name: str) -> bool:
    opened = backups.repository(str(place(service, name)))
    return all(last_sign_ms(opened, one) is None for one in opened.generations())


def moment(service: Service, name: str, client: valkey.Valkey[Any]) -> str:
    """One that can be restored, after what was written before the call and before what is written after it.

    What came while nobody listened is caught up with: none of it is missing, and when each of it was is not known.
    """
    while True:
        wanted = time.time_ns() // 1_000_000 + ARRIVES_MS
        wait_for(lambda ms=wanted: _is_known(service, name, client, ms), 60)
        text = datetime.fromtimestamp(wanted / 1000, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        try:
            backups.chosen(backups.repository(str(place(service, name))), at=text)
        except CatalogError:
            continue
        return text


def _is_known(service: Service, name: str, client: valkey.Valkey[Any], wanted: int) -> bool:
    if time.time_ns() // 1_000_000 > wanted:
        client.set(AFTER, "that there is a change is told sooner than that there is none")
    return known_until_ms(service, name) > wanted


def follows(service: Service, times: int) -> None:
    """Until it follows for that time: what was changed before has the moment at which it was caught up with."""
    wait_for(lambda: service.log.read_text().count("a continuous backup follows") == times, 60)


def command(service: Service, *words: str) -> subprocess.CompletedProcess[str]:
    call = [sys.executable, "-m", "cachekeep", "backup", *words]
    return subprocess.run(call, env=service.environment, capture_output=True, text=True, timeout=120)


def restored(service: Service, name: str, at: str, target: dict[str, Any]) -> dict[str, Any]:
    url = f"redis://{target['Address']}:{target['Port']}"
    client = connect(target)
    client.flushall()
    done = command(service, "restore", str(place(service, name)), url, "--at", at)
    assert done.returncode == 0, done.stderr + done.stdout
    return contents(client)


def contents(client: valkey.Valkey[Any]) -> dict[str, Any]:
    kinds = {"string": client.get, "list": lambda key: client.lrange(key, 0, -1), "hash": client.hgetall}
    return {key: kinds[client.type(key)](key) for key in client.scan_iter(count=1000) if key != AFTER}


def endpoint(group: dict[str, Any]) -> dict[str, Any]:
    return dict(group["NodeGroups"][0]["PrimaryEndpoint"])


def health(service: Service, name: str) -> dict[str, Any]:
    """What the command says of the group's backup, with the level of all in `whole` and its exit code in `code`."""
    call = [sys.executable, "-m", "cachekeep", "health", name, "--json"]
    done = subprocess.run(call, env=service.environment, capture_output=True, text=True, timeout=120)
    report = json.loads(done.stdout)
    return {**(report["continuous_backup"] or {}), "whole": report["level"], "code": done.returncode}


def shown(service: Service, name: str) -> dict[str, float]:
    """What /metrics says of it: `up`, `lag_seconds` and `bytes`."""
    start, group = "cachekeep_continuous_backup_", f'group="{name}"'
    lines = ask(service, bearer(service))[2].decode().splitlines()
    found = (line.removeprefix(start).rpartition(" ") for line in lines if line.startswith(start) and group in line)
    return {told.partition("{")[0]: float(value) for told, _, value in found}


def changed(client: valkey.Valkey[Any], step: int) -> None:
    client.mset({f"key:{n}": f"{step}.{n}" for n in range(200)})
    client.rpush("list", *(f"{step}.{n}" for n in range(10)))
    client.hset("hash", mapping={f"f{step}": str(step)})
    client.delete(*(f"key:{n}" for n in range(step * 10, step * 10 + 10)))


def test_the_tag_begins_it_and_its_removal_seals_it(
    service: Service, ec: Any, name: str, created: list[tuple[str, str]]
) -> None:
    with pytest.raises(ec.exceptions.InvalidParameterValueException, match="24h"):
        ec.create_replication_group(
            ReplicationGroupId=name, ReplicationGroupDescription="x", Tags=[{**TAG, "Value": "a while"}]
        )
    group = create_group(ec, created, name, NumCacheClusters=1, Tags=[TAG])
    with pytest.raises(ec.exceptions.InvalidParameterValueException, match="24h"):
        ec.add_tags_to_resource(ResourceName=arn(ec, name), Tags=[{**TAG, "Value": "0h"}])
    connect(endpoint(group)).set("a", "1")
    wait_for(lambda: known_until_ms(service, name), 60)
    (child,) = (one for one in captures(service) if one.is_running())
    assert not any("password" in word for word in (*child.cmdline(), *child.environ()))
    wait_for(lambda: shown(service, name).keys() == {"up", "lag_seconds", "bytes"}, 60)
    told = shown(service, name)
    assert told["up"] == 1
    assert told["bytes"] > 0
    assert 0 <= told["lag_seconds"] < 120
    assert health(service, name)["level"] == "safe"
    assert "running since" in health(service, name)["sentence"]
    ec.remove_tags_from_resource(ResourceName=arn(ec, name), TagKeys=[CONTINUOUS_TAG])
    wait_for(lambda: not child.is_running() or child.status() == psutil.STATUS_ZOMBIE, 30)
    assert is_sealed(service, name)
    assert command(service, "verify", str(place(service, name))).returncode == 0
    assert not shown(service, name)
    assert "level" not in health(service, name)


@pytest.mark.slow
def test_any_moment_is_restored_through_a_failover_and_the_death_of_all_that_keeps_it(
    new_service: Callable[..., Service],
) -> None:
    service = new_service().start()
    ec = service.client()
    group = create_group(ec, [], "kept", NumCacheClusters=2, AutomaticFailoverEnabled=True, Tags=[TAG])
    target = create_cluster(ec, [], "target")["CacheNodes"][0]["Endpoint"]
    moments: list[tuple[str, dict[str, Any]]] = []

    def step() -> None:
        client = connect(endpoint(group))
        changed(client, len(moments))
        state = contents(client)
        moments.append((moment(service, "kept", client), state))

    follows(service, 1)
    step()
    step()
    service.kill()
    changed(connect(endpoint(group)), 50)
    service.start()
    follows(service, 2)
    ec = service.client()
    step()
    captures(service)[0].kill()
    changed(connect(endpoint(group)), 51)
    follows(service, 3)
    step()
    ec.test_failover(ReplicationGroupId="kept", NodeGroupId="0001")
    wait_for(lambda: messages(ec, "replication-group", "kept")[-1].startswith("Failover"), 60)
    follows(service, 4)
    wait_for(lambda: group_status(ec, "kept") == "available", 60)
    step()
    service.stop()
    changed(connect(endpoint(group)), 52)
    service.start()
    follows(service, 5)
    ec = service.client()
    step()
    found = [restored(service, "kept", at, target) for at, _ in moments]
    assert found == [state for _, state in moments]
    listed = json.loads(command(service, "list", str(place(service, "kept")), "--json").stdout)
    assert listed
    ec.delete_replication_group(ReplicationGroupId="kept")
    wait_for(lambda: gone(ec, "group", "kept"), 60)
    wait_for(lambda: not captures(service), 30)
    assert is_sealed(service, "kept")
    assert command(service, "verify", str(place(service, "kept")), "--deep").returncode == 0
    assert restored(service, "kept", moments[-1][0], target) == moments[-1][1]
    assert "Traceback" not in service.log.read_text()


@pytest.mark.slow
def test_what_cannot_be_kept_is_told_and_goes_on(new_service: Callable[..., Service]) -> None:
    service = new_service().start()
    ec = service.client()
    folder = service.state_dir / "continuous"
    folder.write_text("in the way")
    create_group(ec, [], "kept", NumCacheClusters=1, Tags=[TAG])
    wait_for(lambda: any("cannot be kept" in text for text in messages(ec, "replication-group", "kept")), 60)
    folder.unlink()
    wait_for(lambda: any("goes on" in text for text in messages(ec, "replication-group", "kept")), 90)
    assert known_until_ms(service, "kept")


@pytest.mark.slow
def test_a_full_disk_is_told_and_nothing_that_was_kept_goes(
    small_disk: Path,  # noqa: F811
    new_service: Callable[..., Service],
) -> None:
    """The continuous backups alone are on it. What came while it was full is caught up with."""
    service = new_service()
    (service.state_dir).mkdir(parents=True, exist_ok=True)
    (service.state_dir / "continuous").symlink_to(small_disk)
    ec = service.start().client()
    group = create_group(ec, [], "kept", NumCacheClusters=1, Tags=[TAG])
    target = create_cluster(ec, [], "target")["CacheNodes"][0]["Endpoint"]
    client = connect(endpoint(group))
    follows(service, 1)
    changed(client, 1)
    before = moment(service, "kept", client), contents(client)
    fill(small_disk)
    client.set("unkept", "x" * 100_000)
    wait_for(lambda: shown(service, "kept")["up"] == 0, 60)
    told = health(service, "kept")
    assert told["level"] in ("warning", "risk")
    assert told["whole"] == told["level"]
    assert told["code"] == {"warning": 1, "risk": 2}[told["level"]]
    assert "not running since" in told["sentence"]
    assert "space" in told["cause"]
    assert any("space" in text for text in messages(ec, "replication-group", "kept"))
    changed(client, 2)
    assert restored(service, "kept", before[0], target) == before[1]
    (small_disk / "filler").unlink()
    wait_for(lambda: shown(service, "kept")["up"] == 1, 90)
    after = moment(service, "kept", client), contents(client)
    assert restored(service, "kept", after[0], target) == after[1]
    assert restored(service, "kept", before[0], target) == before[1]
    wait_for(lambda: health(service, "kept")["level"] == "safe", 60)
    assert command(service, "verify", str(place(service, "kept")), "--deep").returncode == 0
    assert "Traceback" not in service.log.read_text()


@pytest.mark.slow
def test_of_a_guarded_group_by_tls_and_in_cluster_mode(new_service: Callable[..., Service]) -> None:
    service = new_service().start()
    ec = service.client()
    password = "a password of the test"
    more = {"TransitEncryptionEnabled": True, "Engine": "redis", "AuthToken": password.replace(" ", "-")}
    create_group(ec, [], "guarded", NumCacheClusters=2, Tags=[TAG], **more)
    cluster = {"CacheParameterGroupName": "default.valkey9.cluster.on", "NumNodeGroups": 2, "ReplicasPerNodeGroup": 0}
    ec.create_replication_group(
        ReplicationGroupId="shards", ReplicationGroupDescription="x", Engine="valkey", Tags=[TAG], **cluster
    )
    for group in ("guarded", "shards"):
        wait_for(lambda g=group: known_until_ms(service, g), 90)
    assert not messages_of_trouble(ec)
    secret = (service.state_dir / "engine-password").read_text().strip()
    for child in captures(service):
        assert secret not in " ".join((*child.cmdline(), *child.environ().values()))
        os.kill(child.pid, signal.SIGKILL)
    wait_for(lambda: len(captures(service)) == 2, 60)
    assert secret not in service.log.read_text()


def messages_of_trouble(ec: Any) -> list[str]:
    events = ec.describe_events(SourceType="replication-group", Duration=600)["Events"]
    return [event["Message"] for event in events if "cannot be kept" in event["Message"]]
