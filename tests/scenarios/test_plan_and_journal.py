"""Plans before anything is done, and the journal afterwards: `plan`, `groups` and `journal` on a real service."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import suppress
from ipaddress import IPv4Network
from typing import Any

import pytest

from cachekeep.domain.events import Note
from cachekeep.store.sqlite import SqliteStore

from .conftest import Service, group_status, wait_for

GROUP = "planned"


@pytest.fixture(scope="module")
def it(tmp_path_factory: pytest.TempPathFactory, loopback_range: IPv4Network) -> Iterator[Service]:
    """A service with a group of two."""
    network = list(loopback_range.subnets(new_prefix=27))[3]
    service = Service(tmp_path_factory.mktemp("planned") / "state", network)
    try:
        service.start()
        service.client().create_replication_group(
            ReplicationGroupId=GROUP, ReplicationGroupDescription="x", NumCacheClusters=2, AutomaticFailoverEnabled=True
        )
        wait_for(lambda: group_status(service.client(), GROUP) == "available")
        yield service
    finally:
        service.dispose()


def run(it: Service, *arguments: str, code: int = 0) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(
        [sys.executable, "-m", "cachekeep", *arguments],
        env=it.environment, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert done.returncode == code, f"exit code {done.returncode}\n{done.stdout}\n{done.stderr}"
    assert "Traceback" not in done.stderr
    return done


def described(it: Service) -> list[Any]:
    """All that a plan could have changed."""
    ec = it.client()
    groups = ec.describe_replication_groups()["ReplicationGroups"]
    clusters = ec.describe_cache_clusters(ShowCacheNodeInfo=True)["CacheClusters"]
    events = ec.describe_events(Duration=600)["Events"]
    return [groups, clusters, events, it.engines()]


def test_a_plan_tells_and_does_nothing(it: Service) -> None:
    before = described(it)
    line = ["modify-replication-group", "--replication-group-id", GROUP, "--cache-node-type", "cache.m7g.large"]
    text = run(it, "plan", "aws", "elasticache", *line, "--apply-immediately").stdout
    assert f"ModifyReplicationGroup of {GROUP}" in text
    assert "nothing is done" in text
    assert "1. maxmemory of 2 nodes is set while they run" in text
    assert "writes go on without a pause" in text
    made = json.loads(run(it, "plan", *line, "--no-apply-immediately", "--json").stdout)
    assert made["begins_at"] > time.time() - 3600
    assert "maintenance window" in made["steps"][0]
    assert described(it) == before


def test_a_dry_run_is_the_plan_of_the_same_request(it: Service) -> None:
    before = described(it)
    dry = json.loads(run(it, "groups", "modify", GROUP, "--node-type", "cache.m7g.large", "--dry-run", "--json").stdout)
    fields = (f"ReplicationGroupId={GROUP}", "CacheNodeType=cache.m7g.large", "ApplyImmediately=true")
    params = [word for field in fields for word in ("--param", field)]
    assert json.loads(run(it, "plan", "ModifyReplicationGroup", *params, "--json").stdout) == dry
    assert described(it) == before


def test_the_figures_come_from_the_engines_that_run(it: Service) -> None:
    made = json.loads(run(it, "groups", "failover", GROUP, "--dry-run", "--json").stdout)
    assert made["gaps"][0]["most_ms"] == 10
    assert "measured" in made["gaps"][0]["source"]
    assert made["warnings"] == [], "the replica is seen to be in sync"
    assert f"{GROUP}-002 has every one of them" in made["steps"][0]


def test_what_would_be_refused_is_refused_with_the_services_words(it: Service) -> None:
    before = described(it)
    refused = run(it, "plan", "delete-cache-cluster", "--cache-cluster-id", f"{GROUP}-001", code=1)
    assert "the service would refuse DeleteCacheCluster: InvalidCacheClusterState: " in refused.stderr
    assert "only reads" in run(it, "plan", "describe-events", code=1).stderr
    assert "no replication group 'nothing'" in run(it, "groups", "failover", "nothing", code=1).stderr
    assert described(it) == before


def test_boto3_can_rehearse_too(it: Service) -> None:
    """Any client that signs its headers: the answer is JSON instead of XML."""
    ec = it.client()
    answers: list[Any] = []

    def add_header(request: Any, **_: Any) -> None:
        request.headers["x-cachekeep-rehearse"] = "true"

    ec.meta.events.register("before-sign.elasticache", add_header)
    ec.meta.events.register("before-parse.elasticache", lambda response_dict, **_: answers.append(response_dict))
    with suppress(Exception):
        ec.delete_replication_group(ReplicationGroupId=GROUP)
    (answer,) = answers
    made = json.loads(answer["body"])
    assert "is lost" in made["warnings"][0]
    assert group_status(it.client(), GROUP) == "available"


def test_groups_are_listed(it: Service) -> None:
    text = run(it, "groups").stdout
    (line,) = [line for line in text.splitlines() if line.startswith(GROUP)]
    assert "available" in line
    assert "t4g.micro" in line
    (group,) = json.loads(run(it, "groups", "--json").stdout)
    assert group["id"] == GROUP


def test_a_change_is_waited_for(it: Service) -> None:
    done = run(it, "groups", "modify", GROUP, "--node-type", "cache.t4g.small", "--wait")
    assert f"{GROUP} is available" in done.stdout
    shown = json.loads(run(it, "groups", "--json").stdout)[0]
    assert shown["node_type"] == "cache.t4g.small"
    waiting = run(it, "groups", "modify", GROUP, "--node-type", "cache.t4g.micro", "--in-window").stdout
    assert "waits for the maintenance window" in waiting
    refused = run(it, "groups", "modify", GROUP, "--node-type", "cache.t4g.micro", "--in-window", "--wait", code=2)
    assert "--wait needs --now" in refused.stderr
    run(it, "groups", "modify", GROUP, "--node-type", "cache.t4g.micro", "--wait")


def note(it: Service, name: str, sentence: str, at: float) -> None:
    """What control would write."""
    store = SqliteStore(it.state_dir / "store.sqlite")
    try:
        with store.transaction() as work:
            work.add_note(Note(at, "us-east-1", name, sentence))
    finally:
        store.close()


def test_the_journal_tells_what_was_decided(it: Service) -> None:
    now = time.time()
    note(it, "told", "promoting told-002 at offset [7]", now - 7200)
    note(it, "told", "told-002 has taken over", now - 60)
    text = run(it, "journal", "told").stdout
    assert text.index("promoting told-002 at offset [7]") < text.index("told-002 has taken over")
    assert "promoting" not in run(it, "journal", "told", "--since", "1h").stdout
    assert "promoting" not in run(it, "journal", "told", "-n", "1").stdout
    lines = run(it, "journal", "told", "--json").stdout.splitlines()
    assert [json.loads(line)["sentence"] for line in lines][-1] == "told-002 has taken over"
    assert "No group or cluster 'nobody'" in run(it, "journal", "nobody", code=1).stderr
    assert "--since takes" in run(it, "journal", "told", "--since", "yesterday", code=2).stderr


def test_a_members_journal_is_its_groups(it: Service) -> None:
    note(it, GROUP, "a sentence of the group", time.time())
    text = run(it, "journal", f"{GROUP}-002").stdout
    assert f"{GROUP}-002 is a member of {GROUP}" in text
    assert "a sentence of the group" in text


def test_the_journal_is_followed(it: Service) -> None:
    note(it, "followed", "before", time.time())
    process = subprocess.Popen(
        [sys.executable, "-m", "cachekeep", "journal", "followed", "--follow", "--json"],
        env=it.environment, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        assert process.stdout is not None
        assert json.loads(process.stdout.readline())["sentence"] == "before"
        at = time.time()
        note(it, "followed", "first", at)
        note(it, "followed", "of the same instant", at)
        heard = [json.loads(process.stdout.readline())["sentence"] for _ in range(2)]
        assert heard == ["first", "of the same instant"]
        process.send_signal(signal.SIGINT)
        assert process.wait(10) == 0
        assert process.stdout.read() == "", "nothing is told twice"
    finally:
        process.kill()
        process.wait(10)
        if process.stdout:
            process.stdout.close()


def test_a_journal_is_for_those_who_sign(it: Service) -> None:
    with pytest.raises(urllib.error.HTTPError) as refused:
        urllib.request.urlopen(f"{it.url}/_cachekeep/journal?name={GROUP}", timeout=10)
    assert refused.value.code == 403
    refused.value.close()


def test_an_installation_that_is_down_says_so(it: Service) -> None:
    environment = {**it.environment, "CACHEKEEP_STATE_DIR": str(it.state_dir / "none")}
    done = subprocess.run(
        [sys.executable, "-m", "cachekeep", "journal", GROUP],
        env=environment | {"PATH": os.environ["PATH"]}, capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert done.returncode == 3
    assert "the service is down" in done.stderr
