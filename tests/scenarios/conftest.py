"""Scenarios: a real Cachekeep in a process of its own, real engines, and the clients that users have (boto3)."""

from __future__ import annotations

import os
import signal
import socket
import ssl
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Generator, Iterator
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from ipaddress import IPv4Network
from itertools import count
from pathlib import Path
from typing import Any

import boto3
import psutil
import pytest
import valkey
from botocore.config import Config

from cachekeep import credentials
from cachekeep.host.process import inhabitants

_numbers = count(1)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """What the services of a failed test logged and wrote into their groups' journals last stands in its report."""
    report = yield
    if report.failed:
        services = [it for it in getattr(item, "funcargs", {}).values() if isinstance(it, Service)]
        report.sections += [(f"log of {it.state_dir.name}", it.told()) for it in services]
    return report


def wait_for(ask: Callable[[], Any], deadline_s: float = 20.0) -> Any:
    """The first true answer; fails with the last one after deadline_s. Nobody at an endpoint yet is no answer."""
    deadline = time.monotonic() + deadline_s
    while True:
        try:
            answer = ask()
            if answer:
                return answer
        except valkey.ConnectionError as error:
            answer = error
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {deadline_s:g} s; last answer: {answer!r}")
        time.sleep(0.02)


def _with_a_far_window(params: dict[str, Any], **_: Any) -> dict[str, Any]:
    far = datetime.now(UTC) + timedelta(days=3, hours=12)
    window = f"{far:%a:%H}:00-{far + timedelta(hours=1):%a:%H}:00".lower()
    return {"PreferredMaintenanceWindow": window} | params


class Service:
    """One installation: a state directory, a port, a range of addresses; started and stopped at will."""

    def __init__(self, state_dir: Path, network: IPv4Network, **settings: str) -> None:
        self.state_dir = state_dir
        self.network = network
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = int(probe.getsockname()[1])
        self.url = f"http://127.0.0.1:{self.port}"
        self.settings = settings
        self.trust: str | None = None
        """The authority of a service over HTTPS."""
        self.process: subprocess.Popen[bytes] | None = None

    @property
    def environment(self) -> dict[str, str]:
        clean = {k: v for k, v in os.environ.items() if not k.startswith(("CACHEKEEP_", "AWS_", "COLUMNS"))}
        return clean | {
            "CACHEKEEP_STATE_DIR": str(self.state_dir),
            "CACHEKEEP_PORT": str(self.port),
            "CACHEKEEP_ADDRESS_RANGE": str(self.network),
            **self.settings,
        }

    @property
    def log(self) -> Path:
        return self.state_dir.with_suffix(".log")

    def told(self) -> str:
        """The last lines of its log, and of those of its engines that were written to last."""
        engines = sorted(self.nodes_root.rglob("*.log"), key=lambda file: file.stat().st_mtime)[-4:]
        return "\n".join(
            f"== {file}\n" + "\n".join(file.read_text(errors="replace").splitlines()[-60:])
            for file in (self.log, *engines)
        )

    def start(self) -> Service:
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "cachekeep", "serve"],
                env=self.environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        wait_for(self._answers)
        return self

    def _answers(self) -> bool:
        assert self.process is not None
        if self.process.poll() is not None:
            raise AssertionError(f"the service ended: {self.log.read_text()[-2000:]}")
        try:
            context = None if self.trust is None else ssl.create_default_context(cafile=self.trust)
            with urllib.request.urlopen(f"{self.url}/healthz", timeout=2, context=context) as answer:
                return bool(answer.status == 200)
        except (urllib.error.URLError, ConnectionError, TimeoutError):
            return False

    def kill(self) -> None:
        """kill -9, and wait for the end."""
        assert self.process is not None
        self.process.kill()
        self.process.wait(10)

    def stop(self) -> None:
        if self.process is not None:
            self.process.terminate()
            self.process.wait(20)

    def client(self, name: str = "elasticache", region: str = "us-east-1") -> Any:
        """A boto3 client. What it creates gets a maintenance window half a week away, unless the test names one: by
        default it may be now, and then nothing waits for it."""
        key = credentials.load(self.state_dir)
        made = boto3.client(
            name,
            endpoint_url=self.url,
            region_name=region,
            verify=self.trust,
            aws_access_key_id=key.id,
            aws_secret_access_key=key.secret,
            config=Config(retries={"max_attempts": 1}, connect_timeout=5, read_timeout=30),
        )
        if name == "elasticache":
            for operation in ("CreateCacheCluster", "CreateReplicationGroup"):
                made.meta.events.register(f"provide-client-params.elasticache.{operation}", _with_a_far_window)
        return made

    @property
    def nodes_root(self) -> Path:
        return (self.state_dir / "nodes").resolve()

    def engines(self, cluster_id: str = "") -> dict[int, str]:
        """Living processes below the nodes' folder: pid -> folder; of one cluster if named."""
        return {
            found.seen.process.pid: found.folder
            for found in inhabitants(self.nodes_root)
            if not cluster_id or f"/{cluster_id}/" in found.folder + "/"
        }

    def dispose(self) -> None:
        """Service and engines, by pid; waits until none is left."""
        self.stop()
        deadline = time.monotonic() + 10
        while (left := self.engines()) and time.monotonic() < deadline:
            for pid in left:
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            time.sleep(0.01)


@pytest.fixture(scope="session")
def service(tmp_path_factory: pytest.TempPathFactory, loopback_range: IPv4Network) -> Iterator[Service]:
    """One service for all tests of a worker; they use names of their own."""
    first = next(loopback_range.subnets(new_prefix=25))
    it = Service(tmp_path_factory.mktemp("shared") / "state", first)
    yield it.start()
    it.dispose()


@pytest.fixture
def new_service(tmp_path: Path, loopback_range: IPv4Network) -> Iterator[Callable[..., Service]]:
    """Makes services of the test's own, not started yet, each with a range of its own."""
    made: list[Service] = []
    ranges = list(loopback_range.subnets(new_prefix=27))[4:]

    def make(**settings: str) -> Service:
        it = Service(tmp_path / f"state{len(made)}", ranges[len(made)], **settings)
        made.append(it)
        return it

    yield make
    for it in made:
        it.dispose()


@pytest.fixture
def ec(service: Service) -> Any:
    """An ElastiCache client of the shared service."""
    return service.client()


@pytest.fixture
def name() -> str:
    """A resource name that no other test of this run has."""
    return f"t{next(_numbers)}-{os.getpid() % 10000}"


@pytest.fixture
def created(ec: Any) -> Iterator[list[tuple[str, str]]]:
    """Put ("group" | "cluster", id) here: deleted after the test, and waited for."""
    made: list[tuple[str, str]] = []
    yield made
    for kind, name in made:
        with suppress(ec.exceptions.ReplicationGroupNotFoundFault, ec.exceptions.CacheClusterNotFoundFault):
            if kind == "group":
                with suppress(ec.exceptions.InvalidReplicationGroupStateFault):
                    ec.delete_replication_group(ReplicationGroupId=name)
                wait_for(lambda n=name: gone(ec, "group", n))
            else:
                with suppress(ec.exceptions.InvalidCacheClusterStateFault):
                    ec.delete_cache_cluster(CacheClusterId=name)
                wait_for(lambda n=name: gone(ec, "cluster", n))


def gone(ec: Any, kind: str, name: str) -> bool:
    try:
        if kind == "group":
            ec.describe_replication_groups(ReplicationGroupId=name)
        else:
            ec.describe_cache_clusters(CacheClusterId=name)
    except (ec.exceptions.ReplicationGroupNotFoundFault, ec.exceptions.CacheClusterNotFoundFault):
        return True
    return False


def group_status(ec: Any, name: str) -> str:
    return str(ec.describe_replication_groups(ReplicationGroupId=name)["ReplicationGroups"][0]["Status"])


def cluster_status(ec: Any, name: str) -> str:
    return str(ec.describe_cache_clusters(CacheClusterId=name)["CacheClusters"][0]["CacheClusterStatus"])


def create_group(ec: Any, created: list[tuple[str, str]], name: str, **more: Any) -> dict[str, Any]:
    """A group that is available, as described; deleted after the test."""
    more.setdefault("NumCacheClusters", 2)
    ec.create_replication_group(ReplicationGroupId=name, ReplicationGroupDescription="test", **more)
    created.append(("group", name))
    wait_for(lambda: group_status(ec, name) != "creating")
    return dict(ec.describe_replication_groups(ReplicationGroupId=name)["ReplicationGroups"][0])


def create_cluster(ec: Any, created: list[tuple[str, str]], name: str, **more: Any) -> dict[str, Any]:
    """A cluster that is available, as described with its nodes; deleted after the test."""
    more.setdefault("Engine", "valkey")
    ec.create_cache_cluster(CacheClusterId=name, **more)
    created.append(("cluster", name))
    wait_for(lambda: cluster_status(ec, name) != "creating")
    return dict(ec.describe_cache_clusters(CacheClusterId=name, ShowCacheNodeInfo=True)["CacheClusters"][0])


def connect(endpoint: dict[str, Any]) -> valkey.Valkey[Any]:
    """A plain client of an endpoint that a describe gave."""
    return valkey.Valkey(host=endpoint["Address"], port=endpoint["Port"], socket_timeout=10, decode_responses=True)


def messages(ec: Any, source_type: str, name: str) -> list[str]:
    """The texts of a resource's events, oldest first."""
    events = ec.describe_events(SourceType=source_type, SourceIdentifier=name, Duration=600)["Events"]
    return [event["Message"] for event in events]


def is_running(pid: int) -> bool:
    """False for a zombie too."""
    try:
        return bool(psutil.Process(pid).status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


# Fixtures that need what stands above.
from .calm import calm, unchanged, unchecked  # noqa: E402

__all__ = ["calm", "unchanged", "unchecked"]
