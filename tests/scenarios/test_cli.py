"""The `cachekeep` command end to end: up, down, status, env, doctor, on real services and engines."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import stat
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from ipaddress import IPv4Network
from pathlib import Path
from typing import Any

import psutil
import pytest
from valkey.cluster import ValkeyCluster
from valkey.exceptions import ValkeyError

from cachekeep import credentials

from .conftest import Service, cluster_status, connect, group_status, is_running, wait_for

EXTRA_SECRET = "an-extra-secret-of-a-user"


class Installation(Service):
    """A Service that is started and stopped by the command."""

    def run(self, *arguments: str, code: int = 0, **more: str) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            [sys.executable, "-m", "cachekeep", *arguments],
            env=self.environment | more,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=120,
        )
        assert done.returncode == code, f"exit code {done.returncode}\n{done.stdout}\n{done.stderr}"
        assert "Traceback" not in done.stderr
        return done

    @property
    def pid(self) -> int:
        return int(json.loads((self.state_dir / "service.json").read_text())["pid"])

    def kill_service(self) -> None:
        pid = self.pid
        os.kill(pid, signal.SIGKILL)
        wait_for(lambda: not is_running(pid))

    def dispose(self) -> None:
        with suppress(FileNotFoundError, ValueError, ProcessLookupError):
            # Only a process that still is a service: the number may be another's by now.
            if "serve" in psutil.Process(self.pid).cmdline():
                self.kill_service()
        super().dispose()


@pytest.fixture
def install(tmp_path: Path, loopback_range: IPv4Network) -> Iterator[Callable[..., Installation]]:
    """Makes installations of the test's own, not started yet, each with a range of its own."""
    made: list[Installation] = []
    ranges = list(loopback_range.subnets(new_prefix=27))[4:]

    def make(**settings: str) -> Installation:
        made.append(Installation(tmp_path / f"state{len(made)}", ranges[len(made)], **settings))
        return made[-1]

    yield make
    for it in made:
        with suppress(psutil.NoSuchProcess):
            it.dispose()


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory, loopback_range: IPv4Network) -> Iterator[Installation]:
    """One installation for the tests that leave it as they find it: up, with the demo."""
    network = list(loopback_range.subnets(new_prefix=27))[3]
    it = Installation(
        tmp_path_factory.mktemp("shared-cli") / "state", network, CACHEKEEP_ACCESS_KEYS=f"AKEXTRA:{EXTRA_SECRET}"
    )
    try:
        it.run("up", "--demo")
        yield it
    finally:
        it.dispose()


def cluster_endpoint(ec: Any, name: str) -> dict[str, Any]:
    cluster = ec.describe_cache_clusters(CacheClusterId=name, ShowCacheNodeInfo=True)["CacheClusters"][0]
    return dict(cluster["CacheNodes"][0]["Endpoint"])


def available_cluster(ec: Any, name: str) -> bool:
    return cluster_status(ec, name) == "available"


def demo_endpoint(ec: Any, kind: str = "PrimaryEndpoint") -> dict[str, Any]:
    group = ec.describe_replication_groups(ReplicationGroupId="demo")["ReplicationGroups"][0]
    return dict(group["NodeGroups"][0][kind])


def mode_of(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_up_makes_a_demo_that_the_printed_line_leads_to(install: Callable[..., Installation]) -> None:
    it = install()
    out = it.run("up", "--demo").stdout
    assert it.url in out
    line = re.search(r'eval "\$\((.+)\)"', out)
    assert line is not None
    primary = demo_endpoint(it.client())
    assert f"{primary['Address']}:{primary['Port']}" in out
    # In a shell that knows nothing of our settings, and is set up for something else.
    shell = {"PATH": os.environ["PATH"], "HOME": "/", "AWS_SESSION_TOKEN": "x", "AWS_PROFILE": "none"}
    code = "import boto3; print(boto3.client('sts').get_caller_identity()['Account'])"
    code += "; print(boto3.client('elasticache').describe_replication_groups()['ReplicationGroups'][0]['Status'])"
    done = subprocess.run(
        ["/bin/sh", "-ec", f'eval "$({line[1]})"; exec "$0" -c "$1"', sys.executable, code],
        env=shell, capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert done.stdout.split() == ["000000000000", "available"]
    pid = it.pid
    again = it.run("up", "--demo").stdout
    assert "already serves" in again
    assert it.pid == pid
    assert len(it.engines()) == 2


def test_what_down_stopped_comes_back_with_its_keys(install: Callable[..., Installation]) -> None:
    it = install()
    assert "has not been started" in it.run("env", code=2).stderr
    it.run("up", "--demo")
    ec = it.client()
    env = it.run("env").stdout
    ec.create_cache_cluster(CacheClusterId="single", Engine="valkey", NumCacheNodes=1)
    wait_for(lambda: available_cluster(ec, "single"))
    endpoints = [demo_endpoint(ec), cluster_endpoint(ec, "single")]
    for endpoint in endpoints:
        connect(endpoint).mset({f"key{n}": f"value{n}" for n in range(500)})
    pid, engines = it.pid, list(it.engines())
    out = it.run("down").stdout
    assert "3 processes of nodes stopped; the data is saved" in out
    assert not is_running(pid)
    assert not any(is_running(engine) for engine in engines)
    assert not it.engines()
    assert "No engine runs" in it.run("down").stdout
    assert it.run("env").stdout == env, "keys and endpoint are known while the service is down, too"
    assert f"export AWS_ENDPOINT_URL_ELASTICACHE={it.url}\n" in env
    it.run("up", "--demo")
    wait_for(lambda: group_status(ec, "demo") == "available" and available_cluster(ec, "single"))
    assert [demo_endpoint(ec), cluster_endpoint(ec, "single")] == endpoints
    for endpoint in endpoints:
        assert wait_for(lambda e=endpoint: connect(e).dbsize()) == 500
        assert connect(endpoint).get("key499") == "value499"
    reader = demo_endpoint(ec, "ReaderEndpoint")
    wait_for(lambda: connect(reader).role()[0] == "slave" and connect(reader).get("key499") == "value499")


def test_shards_come_back_with_their_slots_and_keys(install: Callable[..., Installation]) -> None:
    it = install()
    it.run("up")
    ec = it.client()
    ec.create_replication_group(
        ReplicationGroupId="cm", ReplicationGroupDescription="x", NumNodeGroups=2, ReplicasPerNodeGroup=1
    )
    wait_for(lambda: group_status(ec, "cm") == "available")

    def described() -> tuple[dict[str, Any], list[str]]:
        group = ec.describe_replication_groups(ReplicationGroupId="cm")["ReplicationGroups"][0]
        return dict(group["ConfigurationEndpoint"]), [shard["Slots"] for shard in group["NodeGroups"]]

    endpoint, slots = described()

    def clustered() -> ValkeyCluster:
        return ValkeyCluster(host=endpoint["Address"], port=endpoint["Port"], decode_responses=True, socket_timeout=10)

    client = clustered()
    for n in range(300):
        client.set(f"key{n}", str(n))
    client.close()
    shown = it.run("status").stdout
    assert f"configuration {endpoint['Address']}:{endpoint['Port']}" in shown
    assert "shard 0002  slots 8192-16383 (8192)  primary cm-0002-001" in shown
    out = it.run("down").stdout
    assert "saving the data of 2 nodes" in out
    assert "4 processes of nodes stopped; the data is saved" in out
    assert not it.engines()
    it.run("up")
    wait_for(lambda: group_status(ec, "cm") == "available" and len(it.engines()) == 4)
    assert described() == (endpoint, slots)
    wait_for(lambda: all(n["in_sync"] is not False for n in in_cluster(it)) and len(in_cluster(it)) == 4)

    def kept() -> list[str | None] | None:
        with suppress(ValkeyError):  # the cluster may still be coming together
            client = clustered()
            try:
                return [client.get(f"key{n}") for n in range(300)]
            finally:
                client.close()
        return None

    assert wait_for(kept) == [str(n) for n in range(300)]


def in_cluster(it: Installation) -> list[dict[str, Any]]:
    """The nodes that answer, of the group in cluster mode."""
    (group,) = json.loads(it.run("status", "--json").stdout)["groups"]
    return [node for node in group["nodes"] if node["role"] is not None]


def test_a_killed_service_is_started_again_over_the_same_engines(shared: Installation) -> None:
    it = shared
    client = connect(demo_endpoint(it.client()))
    client.set("greeting", "hello")
    number = client.client_id()
    engines = it.engines()
    it.kill_service()
    down = it.run("status", code=3).stdout
    assert "The service is down" in down
    assert "us-east-1/demo-001/0001" in down
    seen = json.loads(it.run("status", "--json", code=3).stdout)
    assert seen["service"] is None
    assert {e["pid"] for e in seen["engines"]} == set(engines)
    assert sorted(e["role"] for e in seen["engines"]) == ["primary", "replica"]
    assert client.get("greeting") == "hello"
    it.run("up")
    assert it.engines() == engines
    assert client.client_id() == number, "the connection was dropped"
    page = json.loads(it.run("status", "--json").stdout)
    assert {n["pid"] for n in page["groups"][0]["nodes"]} == set(engines)


def test_down_cleans_up_after_a_killed_service(install: Callable[..., Installation]) -> None:
    it = install()
    it.run("up", "--demo")
    connect(demo_endpoint(it.client())).set("greeting", "hello")
    it.kill_service()
    out = it.run("down").stdout
    assert "The service does not run" in out
    assert "the data is saved" in out
    assert not it.engines()
    it.run("up")
    assert wait_for(lambda: connect(demo_endpoint(it.client())).get("greeting")) == "hello"


def test_a_replica_with_the_only_data_left_runs_on(install: Callable[..., Installation]) -> None:
    it = install()
    it.run("up", "--demo")
    ec = it.client()
    writer = connect(demo_endpoint(ec))
    writer.set("greeting", "hello")
    assert writer.wait(1, 5000) == 1
    it.kill_service()
    (primary,) = it.engines("demo-001")
    os.kill(primary, signal.SIGKILL)
    (replica,) = it.engines("demo-002")
    refused = it.run("down", code=1)
    assert f"us-east-1/demo-002/0001 (pid {replica}) runs on: it holds 1 keys" in refused.stderr
    assert is_running(replica)
    it.run("up")
    wait_for(lambda: group_status(ec, "demo") == "available" and len(it.engines()) == 2)
    assert wait_for(lambda: connect(demo_endpoint(ec)).get("greeting")) == "hello"


def test_an_engine_that_cannot_save_runs_on_and_is_named(install: Callable[..., Installation]) -> None:
    it = install()
    it.run("up", "--demo")
    writer = connect(demo_endpoint(it.client()))
    writer.set("greeting", "hello")
    (primary,) = it.engines("demo-001")
    # A folder where the engine wants to put its file: no user, not even root, can write there.
    blocker = Path(it.engines()[primary]) / "dump.rdb"
    blocker.unlink(missing_ok=True)
    (blocker / "in-the-way").mkdir(parents=True)
    refused = it.run("down", code=1)
    assert f"us-east-1/demo-001/0001 (pid {primary}) runs on, its data is not saved" in refused.stderr
    assert list(it.engines()) == [primary]
    assert writer.get("greeting") == "hello"
    (blocker / "in-the-way").rmdir()
    blocker.rmdir()
    it.run("down")
    it.run("up")
    assert wait_for(lambda: connect(demo_endpoint(it.client())).get("greeting")) == "hello"


def test_delete_data_leaves_nothing_even_when_service_json_vanished(install: Callable[..., Installation]) -> None:
    it = install()
    it.run("up", "--demo")
    pid, engines = it.pid, list(it.engines())
    assert "--yes" in it.run("down", "--delete-data", code=2).stderr
    assert is_running(pid), "nothing is stopped before the question is answered"
    (it.state_dir / "service.json").unlink()
    assert f"Service stopped (pid {pid})" in it.run("down", "--delete-data", "--yes").stdout
    assert not any(is_running(each) for each in [pid, *engines])
    assert not it.state_dir.exists()


def test_down_stops_memcached_and_its_responder(install: Callable[..., Installation], memcached: object) -> None:
    it = install()
    it.run("up")
    ec = it.client()
    ec.create_cache_cluster(CacheClusterId="mc", Engine="memcached", NumCacheNodes=2)
    wait_for(lambda: available_cluster(ec, "mc"))
    assert len(it.engines()) == 3
    assert "3 processes of nodes stopped\n" in it.run("down").stdout
    assert not it.engines()
    it.run("up")
    wait_for(lambda: len(it.engines()) == 3)


@pytest.mark.slow
def test_two_installations_live_side_by_side(install: Callable[..., Installation]) -> None:
    first, second = install(), install()
    first.run("up", "--demo")
    second.run("up", "--demo")
    for it, value in ((first, "one"), (second, "two")):
        endpoint = demo_endpoint(it.client())
        assert endpoint["Address"] in {str(host) for host in it.network}
        connect(endpoint).set("mine", value)
    assert connect(demo_endpoint(first.client())).get("mine") == "one"
    survivors = set(second.engines())
    first.run("down", "--delete-data", "--yes")
    assert set(second.engines()) == survivors
    assert connect(demo_endpoint(second.client())).get("mine") == "two"
    assert json.loads(second.run("status", "--json").stdout)["groups"][0]["status"] == "available"


def test_no_secret_where_others_can_read_it(shared: Installation) -> None:
    it = shared
    shown = it.run("up", "--demo").stdout
    key = credentials.load(it.state_dir)
    secrets = [key.secret, EXTRA_SECRET]
    extra = it.client()
    extra._request_signer._credentials.access_key = "AKEXTRA"
    extra._request_signer._credentials.secret_key = EXTRA_SECRET
    assert extra.describe_replication_groups()["ReplicationGroups"], "the further key is accepted"
    assert mode_of(it.state_dir) == 0o700
    for name in ("credentials", "service.log", "service.json", "store.sqlite"):
        assert mode_of(it.state_dir / name) == 0o600, name
    shown += it.run("status").stdout + it.run("status", "--json").stdout
    shown += it.run("doctor", "--json").stdout + (it.state_dir / "service.log").read_text()
    for pid in (it.pid, *it.engines()):
        shown += Path(f"/proc/{pid}/cmdline").read_text()
    for pid in it.engines():
        shown += Path(f"/proc/{pid}/environ").read_text()
    for folder in it.engines().values():
        shown += "".join(path.read_text() for path in Path(folder).iterdir() if path.suffix != ".rdb")
    assert not [secret for secret in secrets if secret in shown]


def test_a_port_that_is_taken_is_told_with_the_services_own_words(install: Callable[..., Installation]) -> None:
    it = install()
    with socket.socket() as other:
        other.bind(("127.0.0.1", it.port))
        other.listen()
        refused = it.run("up", code=1)
        assert f"port {it.port} of 127.0.0.1 cannot be used" in refused.stderr
        served = it.run("serve", code=2)
        assert served.stderr.startswith("cachekeep: ")
        assert len(served.stderr.splitlines()) == 1
        (port,) = [f for f in json.loads(it.run("doctor", "--json", code=1).stdout) if f["subject"] == "port"]
        assert port["verdict"] == "fail"


def test_a_second_service_for_one_state_directory_is_refused(shared: Installation) -> None:
    it = shared
    assert "another Cachekeep runs" in it.run("serve", code=2).stderr


def test_status_and_doctor_tell_of_a_running_service(shared: Installation) -> None:
    it = shared
    table = it.run("status").stdout
    endpoint = demo_endpoint(it.client())
    for text in (it.url, "demo", "available", "valkey 9.1", "replica", f"primary {endpoint['Address']}:6379", "/384M"):
        assert text in table
    narrow = it.run("status", COLUMNS="80").stdout
    nodes = json.loads(it.run("status", "--json").stdout)["groups"][0]["nodes"]
    assert all(node["address"] in narrow for node in nodes)
    assert max(len(line) for line in narrow.splitlines()[2:]) <= 80
    found = {f["subject"]: f for f in json.loads(it.run("doctor", "--json").stdout)}
    assert "held by this installation's service" in found["port"]["text"]
    assert found["credentials"]["verdict"] == "ok"
    assert str(it.network) in found["addresses"]["text"]
    assert "9.1" in found["Valkey"]["text"] or "8.1" in found["Valkey"]["text"]
