"""`cachekeep health` on a live service: verdicts on real nodes, with what brought them about.

How busy the machine is decides CPU Utilization, so no test here says what the worst level of all is.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from ipaddress import IPv4Network
from typing import Any

import pytest
import valkey

from cachekeep import credentials
from cachekeep.cli.client import Client
from cachekeep.cli.main import main

from .conftest import Service, connect, create_group, wait_for

MIB = 1048576
# Of another address than the rest of the test's connections.
LEAKING = "127.0.9.1"


def run_apart(service: Service, *arguments: str, code: int) -> str:
    """stdout of the command in a process of its own."""
    done = subprocess.run(
        [sys.executable, "-m", "cachekeep", "health", *arguments],
        env=service.environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == code, done.stdout + done.stderr
    return done.stdout


Run = Callable[..., str]


@pytest.fixture
def run(
    small: tuple[Service, Any], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., str]:
    """The command in this process, which saves it a second: what it printed."""
    for name, value in small[0].environment.items():
        monkeypatch.setenv(name, value)

    def run(*arguments: str, code: int | None = None) -> str:
        with pytest.raises(SystemExit) as ended:
            main(["health", *arguments])
        printed = capsys.readouterr()
        assert code in (None, ended.value.code or 0), printed
        return printed.out or printed.err

    return run


def page(service: Service, name: str, look: str = "no") -> dict[str, Any]:
    client = Client(service.url, credentials.load(service.state_dir), "us-east-1")
    return client.page("health", "tell the health", {"name": name, "look": look})


def metric(report: dict[str, Any], name: str) -> dict[str, Any]:
    (found,) = [m for tier in report["tiers"] for m in tier["metrics"] if m["metric"] == name]
    return dict(found)


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory, loopback_range: IPv4Network) -> Iterator[tuple[Service, Any]]:
    """A service of these tests' own, that leaves a node that hangs alone, and its one group."""
    network = list(loopback_range.subnets(new_prefix=27))[6]
    service = Service(tmp_path_factory.mktemp("health") / "state", network, CACHEKEEP_HANG_TIMEOUT="600")
    try:
        group = create_group(service.start().client(), [], "small", CacheNodeType="cache.t4g.micro")
        yield service, group["NodeGroups"][0]["PrimaryEndpoint"]
    finally:
        service.dispose()


@contextmanager
def asking(endpoint: dict[str, Any], *command: str) -> Iterator[None]:
    """One client that asks this again and again, but leaves the machine to the others."""
    ended = threading.Event()

    def ask() -> None:
        client = connect(endpoint)
        while not ended.wait(0.003):
            client.execute_command(*command)

    thread = threading.Thread(target=ask)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


@contextmanager
def leaked(endpoint: dict[str, Any], count: int) -> Iterator[None]:
    """So many connections, opened and never used."""
    with ExitStack() as stack:
        for _ in range(count):
            address = (endpoint["Address"], endpoint["Port"])
            stack.enter_context(socket.create_connection(address, 5, (LEAKING, 0)))
        yield


def fill(client: valkey.Valkey[Any]) -> None:
    """One key that is most of the memory, among others."""
    with client.pipeline(transaction=False) as pipeline:
        for number in range(900):
            pipeline.set(f"small:{number}", "x")
        pipeline.setrange("the-big-one", 40 * MIB, "x")
        pipeline.execute()


def test_what_brings_verdicts_about_is_named(small: tuple[Service, Any], run: Run) -> None:
    service, endpoint = small
    own = ("DatabaseMemoryUsagePercentage:warning=5,risk=8", "connectionsusagepercentage:warning=0.1")
    told = run("small", "--set", own[0], "--set", own[1], code=0)
    assert "DatabaseMemoryUsagePercentage: warning 5, risk 8 (its own)" in told
    filling = connect(endpoint)
    fill(filling)
    filling.close()
    wanted = {"DatabaseMemoryUsagePercentage": "risk", "ConnectionsUsagePercentage": "warning"}

    with leaked(endpoint, 100):
        wait_for(lambda: {name: metric(page(service, "small"), name)["level"] for name in wanted} == wanted)
        text = run_apart(service, "small", code=2)
        # The closer look that the command took stands in the next reports, too.
        report = page(service, "small")

    memory, connections = metric(report, "DatabaseMemoryUsagePercentage"), metric(report, "ConnectionsUsagePercentage")
    assert memory["cause"] == "big keys: 'the-big-one' (string, 40.0 MiB, database 0)"
    assert memory["next"] == "Split 'the-big-one', or give it an expiry time."
    assert f"connections come from {LEAKING}" in connections["cause"]
    assert f"100 connections from {LEAKING}" in connections["evidence"]
    # The service's own connections come from elsewhere, and are none of the evidence.
    assert not [line for line in connections["evidence"] if "connections from" in line and LEAKING not in line]
    assert report["exit_code"] == 2
    for words in ("Crucial metrics", "Important metrics", "Optional metrics", "big keys: 'the-big-one'"):
        assert words in text

    run("small", "--unset", "all", code=0)
    assert metric(page(service, "small"), "DatabaseMemoryUsagePercentage")["level"] == "safe"


def test_a_node_that_does_not_answer_is_told_and_ends_with_3(small: tuple[Service, Any], run: Run) -> None:
    service, _ = small
    (pid,) = service.engines("small-002")
    os.kill(pid, signal.SIGSTOP)
    try:
        wait_for(lambda: page(service, "small-002")["nodes"][0]["trouble"])
        text = run("small-002/0001", code=3)
        whole = page(service, "small")
    finally:
        os.kill(pid, signal.SIGCONT)
    assert "did not answer" in text or "does not answer" in text
    assert "no numbers from small-002: " in whole["sentence"]
    assert whole["level"] != "safe"
    assert metric(whole, "SwapUsage")["node"] == "small-001"
    wait_for(lambda: page(service, "small-002")["nodes"][0]["trouble"] is None)


def test_all_of_a_region_are_told_line_by_line(run: Run) -> None:
    overview = json.loads(run("--json"))
    (entry,) = overview["resources"]
    assert (entry["id"], entry["kind"]) == ("small", "group")
    assert entry["exit_code"] == overview["exit_code"]
    assert run("--region", "eu-west-1", code=0).strip() == "No caches in eu-west-1 yet"


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (("nobody",), 3, "There is no group, cluster or watched target nobody in us-east-1"),
        (("small", "--set", "Nonsense:warning=1"), 64, "There is no threshold for 'Nonsense'"),
        (("small", "--set", "CPUUtilization:warning=90"), 64, "the warning at 90 lies above the risk at 80"),
        (("small-001", "--set", "CPUUtilization:warning=9"), 64, "small-001 belongs to small"),
    ],
)
def test_what_cannot_be_asked_is_no_warning(run: Run, arguments: tuple[str, ...], code: int, words: str) -> None:
    assert words in run(*arguments, code=code)


@pytest.mark.slow
def test_a_busy_engine_is_traced_to_its_command_after_a_whole_minute(small: tuple[Service, Any], run: Run) -> None:
    service, endpoint = small
    fill(connect(endpoint))
    run("small", "--set", "EngineCPUUtilization:warning=1", code=0)
    with asking(endpoint, "KEYS", "nothing:*"):
        wait_for(lambda: metric(page(service, "small"), "EngineCPUUtilization")["level"] == "warning", 200)
        cpu = metric(page(service, "small", look="yes"), "EngineCPUUtilization")
    run("small", "--unset", "all", code=0)
    assert "KEYS takes" in cpu["cause"]
    assert cpu["next"] == "Replace KEYS by SCAN, or keep a set of the names you look for."
    assert cpu["node"] == "small-001"


@pytest.mark.slow
def test_watching_tells_a_line_a_round_until_interrupted(small: tuple[Service, Any]) -> None:
    service, _ = small
    command = [sys.executable, "-m", "cachekeep", "health", "small", "--watch", "--json"]
    with subprocess.Popen(command, env=service.environment, stdout=subprocess.PIPE, text=True) as watching:
        assert watching.stdout is not None
        rounds = [json.loads(watching.stdout.readline()) for _ in range(2)]
        watching.send_signal(signal.SIGINT)
        code = watching.wait(20)
    assert [each["id"] for each in rounds] == ["small", "small"]
    assert rounds[0]["at"] < rounds[1]["at"]
    assert code in (0, 1, 2)


@pytest.mark.slow
def test_memory_that_is_filled_is_a_risk_by_the_seeds_own_bounds(small: tuple[Service, Any]) -> None:
    service, endpoint = small
    client = connect(endpoint)

    def memory(look: str) -> dict[str, Any]:
        return metric(page(service, "small", look=look), "DatabaseMemoryUsagePercentage")

    client.flushall()
    limit = int(client.info("memory")["maxmemory"])
    number = 0
    while client.info("memory")["used_memory"] < 0.87 * limit:
        client.setrange(f"filling:{number}", 16 * MIB - 1, "x")
        number += 1
    try:
        wait_for(lambda: memory(look="no")["level"] == "risk")
        # Evidence of a look a few seconds ago counts a while.
        wait_for(lambda: "100% of the keys never expire" in memory(look="yes")["cause"])
        assert "at or above 85 %" in memory(look="no")["sentence"]
    finally:
        client.flushall()


@pytest.mark.slow
def test_reads_that_miss_are_a_risk_after_a_whole_minute_of_them(small: tuple[Service, Any]) -> None:
    service, endpoint = small
    connect(endpoint).set("there", "x")
    with asking(endpoint, "GET", "there"), asking(endpoint, "GET", "not there"):
        found = wait_for(lambda: risk_of_misses(service), 200)
    # The two ask about equally often.
    assert 25 < found["number"] < 75
    assert found["node"] == "small-001"
    assert "below 75 %" in found["sentence"]


def risk_of_misses(service: Service) -> dict[str, Any] | None:
    found = metric(page(service, "small"), "CacheHitRate")
    return found if found["level"] == "risk" else None
