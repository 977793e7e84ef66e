"""`cachekeep watch`: endpoints that are not ours, through the command line, the service and CloudWatch."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from cachekeep import credentials
from cachekeep.cli.client import Client
from cachekeep.cli.refusal import Refused
from cachekeep.domain.engine import EngineInstall
from cachekeep.domain.nodes import Address

from .conftest import Service, group_status, wait_for

PASSWORD = "sesame-4711"


class Foreign:
    """An engine that nobody told Cachekeep of."""

    def __init__(self, install: EngineInstall, address: Address, folder: Path) -> None:
        self.address, self._folder = address, folder
        words = ["--bind", address.host, "--port", str(address.port), "--save", "", "--requirepass", PASSWORD]
        self._command = [install.program, *words, "--maxmemory", "64mb", "--dir", str(folder)]
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"redis://{self.address}"

    def start(self) -> None:
        self._process = subprocess.Popen(self._command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)

    def end(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait(10)


@pytest.fixture
def foreign(valkey: EngineInstall, fresh_address: Callable[..., Address], tmp_path: Path) -> Iterator[Foreign]:
    made = Foreign(valkey, fresh_address(), tmp_path)
    made.start()
    yield made
    made.end()


def run(service: Service, *words: str, stdin: str = "", **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "cachekeep", "watch", *words],
        env=service.environment | environment, input=stdin, capture_output=True, text=True, check=False,
    )  # fmt: skip


def page_of(service: Service) -> Client:
    return Client(service.url, credentials.load(service.state_dir), "us-east-1")


def watched(service: Service, name: str) -> dict[str, Any]:
    targets = page_of(service).page("watch", "list what is watched")["targets"]
    return next((dict(target) for target in targets if target["id"] == name), {})


def test_a_foreign_engine_is_measured_vanishes_and_returns(service: Service, foreign: Foreign, name: str) -> None:
    wish = {"action": "add", "name": name, "url": foreign.url}

    def refusal() -> str:
        with pytest.raises(Refused) as caught:
            page_of(service).change("watch", wish, "watch it")
        return str(caught.value)

    wait_for(lambda: "wants a login" in refusal())  # the engine has just been started
    added = run(service, "add", name, foreign.url, CACHEKEEP_WATCH_PASSWORD=PASSWORD)
    assert added.stdout.startswith(f"Watching {name}: valkey "), added.stderr
    target = wait_for(lambda: (seen := watched(service, name))["used_memory"] and seen)
    assert (target["engine"], target["maxmemory"], target["role"]) == ("valkey", 64 << 20, "primary")
    foreign.end()
    assert "Connection refused" in wait_for(lambda: watched(service, name)["trouble"])
    foreign.start()
    wait_for(lambda: watched(service, name)["trouble"] is None)
    removed = page_of(service).change("watch", {"action": "remove", "name": name}, "remove it")
    assert removed == {"removed": name}
    assert watched(service, name) == {}
    assert PASSWORD not in "".join((str(target), added.stdout, added.stderr, service.log.read_text()))
    assert (service.state_dir / "store.sqlite").stat().st_mode & 0o077 == 0


@pytest.mark.slow
def test_metrics_of_all_nodes_of_a_watched_cluster_are_found_by_cloudwatch(
    service: Service, ec: Any, created: list[tuple[str, str]], name: str
) -> None:
    # A cluster of Cachekeep's own, watched by its configuration endpoint, as one of AWS would be.
    ec.create_replication_group(
        ReplicationGroupId=name, ReplicationGroupDescription="x", NumNodeGroups=2, ReplicasPerNodeGroup=1
    )
    created.append(("group", name))
    wait_for(lambda: group_status(ec, name) == "available", 60)
    endpoint = ec.describe_replication_groups(ReplicationGroupId=name)["ReplicationGroups"][0]["ConfigurationEndpoint"]
    other = f"{name}x"
    added = run(service, "add", other, f"redis://{endpoint['Address']}:{endpoint['Port']}")
    assert "4 nodes" in added.stdout, added.stderr
    wanted = {f"{other}-{shard}-{number}" for shard in ("0001", "0002") for number in ("001", "002")}
    assert {node["id"] for node in watched(service, other)["nodes"]} == wanted
    cloudwatch = service.client("cloudwatch")

    def told() -> set[str]:
        pages = cloudwatch.get_paginator("list_metrics").paginate(MetricName="BytesUsedForCache")
        series = [series["Dimensions"] for page in pages for series in page["Metrics"]]
        return {dimension["Value"] for dimensions in series for dimension in dimensions} & {*wanted, other}

    wait_for(lambda: told() == {*wanted, other}, 150)
    assert run(service, "remove", other).returncode == 0
