"""Metrics over minutes in which an engine dies, against what a client counted itself. Slow: minutes are minutes."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from typing import Any

import pytest
import valkey

from .conftest import Service, connect, create_group, wait_for

NAMES = ("SetTypeCmds", "GetTypeCmds", "NetworkBytesIn", "NewConnections", "ReplicationBytes", "ProcessedCommands")


@pytest.mark.slow
def test_a_failover_gives_neither_negative_nor_giant_steps(new_service: Callable[..., Service]) -> None:
    service = new_service().start()
    ec, cloudwatch = service.client(), service.client("cloudwatch")
    group = create_group(ec, [], "demo", AutomaticFailoverEnabled=True)
    client = connect(group["NodeGroups"][0]["PrimaryEndpoint"])
    begun = time.time() // 60 * 60
    killed, done = False, 0
    while time.time() < begun + 3 * 60 + 5:
        try:
            client.set(f"key{done % 100}", "x" * 1000)
            done += 1
        except (valkey.ValkeyError, OSError):
            client.close()
        if not killed and time.time() > begun + 90:
            (pid,) = service.engines("demo-001")
            os.kill(pid, signal.SIGKILL)
            killed = True
        time.sleep(0.01)
    end = begun + 3 * 60

    def points(node: str, name: str) -> list[dict[str, Any]]:
        dimensions = [{"Name": "CacheClusterId", "Value": node}, {"Name": "CacheNodeId", "Value": "0001"}]
        asked = {"Namespace": "AWS/ElastiCache", "MetricName": name, "Dimensions": dimensions, "Period": 60}
        found = cloudwatch.get_metric_statistics(**asked, StartTime=begun, EndTime=end, Statistics=["Sum"])
        return list(found["Datapoints"])

    wait_for(lambda: len(points("demo-002", "SetTypeCmds")) >= 2, 30)
    for node in ("demo-001", "demo-002"):
        for name in NAMES:
            for point in points(node, name):
                # A thousand bytes and some for each write, twice: to the primary, and to its replica.
                assert 0 <= point["Sum"] < 3 * 1200 * done, (node, name, point)
    # Each write is counted once at the primary and once more where it is replicated, and nothing else sets.
    sums = sum(point["Sum"] for node in ("demo-001", "demo-002") for point in points(node, "SetTypeCmds"))
    assert sums <= 2 * done + 10
