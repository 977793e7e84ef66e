"""Log delivery: slow logs and engine logs of real engines, in files and at real HTTP endpoints."""

from __future__ import annotations

import json
import os
import signal
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError

from .conftest import Service, connect, create_cluster, create_group, messages, wait_for
from .log_receiver import log_receiver
from .test_full_disk import fill, small_disk  # noqa: F401 - a fixture

Created = list[tuple[str, str]]


def _to_cloudwatch(group: str, log_type: str = "slow-log", written: str = "json") -> dict[str, Any]:
    return {
        "LogType": log_type,
        "DestinationType": "cloudwatch-logs",
        "DestinationDetails": {"CloudWatchLogsDetails": {"LogGroup": group}},
        "LogFormat": written,
    }


def _to_firehose(stream: str, log_type: str = "slow-log", written: str = "text") -> dict[str, Any]:
    return {
        "LogType": log_type,
        "DestinationType": "kinesis-firehose",
        "DestinationDetails": {"KinesisFirehoseDetails": {"DeliveryStream": stream}},
        "LogFormat": written,
    }


def _deliveries(ec: Any, name: str) -> dict[str, dict[str, Any]]:
    group = ec.describe_replication_groups(ReplicationGroupId=name)["ReplicationGroups"][0]
    return {one["LogType"]: one for one in group["LogDeliveryConfigurations"]}


def _cluster_deliveries(ec: Any, name: str) -> dict[str, dict[str, Any]]:
    cluster = ec.describe_cache_clusters(CacheClusterId=name)["CacheClusters"][0]
    return {one["LogType"]: one for one in cluster["LogDeliveryConfigurations"]}


def _slow(endpoint: dict[str, Any], word: str) -> None:
    """A command that is slow, with a word in its arguments."""
    with connect(endpoint) as client:
        client.client_setname("tester")
        client.eval("local n = 0; for i = 1, 3000000 do n = n + i end; return n", 0, word)


def _lines(path: Path) -> list[str]:
    return path.read_text().splitlines() if path.exists() else []


def _files(service: Service, group: str) -> Path:
    return service.state_dir / "logs" / "cloudwatch-logs" / "us-east-1" / group


def test_logs_of_a_group_arrive_in_files_masked(service: Service, ec: Any, created: Created, name: str) -> None:
    group = create_group(
        ec,
        created,
        name,
        LogDeliveryConfigurations=[_to_cloudwatch(name), _to_cloudwatch(name, "engine-log", "text")],
    )
    wait_for(lambda: {one["Status"] for one in _deliveries(ec, name).values()} == {"active"}, 40)
    primary = group["NodeGroups"][0]["PrimaryEndpoint"]
    _slow(primary, "my-secret-argument")
    stream = _files(service, name) / "elasticache" / "valkey" / f"{name}-001" / "0001"
    lines = wait_for(lambda: [line for line in _lines(stream / "slow-log.log") if "EVAL" in line], 40)
    entry = json.loads(lines[0])
    assert list(entry) == [
        "CacheClusterId", "CacheNodeId", "Id", "Timestamp", "Duration (us)", "Command", "ClientAddress", "ClientName",
    ]  # fmt: skip
    assert entry["CacheClusterId"] == f"{name}-001"
    assert entry["CacheNodeId"] == "0001"
    assert entry["Duration (us)"] >= 10000
    assert entry["Command"] == "EVAL ... (3 more arguments)"
    assert entry["ClientName"] == "tester"
    assert "my-secret-argument" not in (stream / "slow-log.log").read_text()
    for number in (1, 2):
        log = stream.parents[1] / f"{name}-00{number}" / "0001" / "engine-log.log"
        wait_for(lambda log=log: any("Ready to accept connections" in line for line in _lines(log)), 40)
        assert _lines(log)[0].startswith(f"{name}-00{number}/0001:")
        assert stat.S_IMODE(log.stat().st_mode) == 0o600
    member = ec.describe_cache_clusters(CacheClusterId=f"{name}-001")["CacheClusters"][0]
    assert member["ReplicationGroupLogDeliveryEnabled"] is True
    assert f"Log delivery of slow-log to cloudwatch-logs {name} is active" in messages(ec, "replication-group", name)


def test_a_restart_of_the_engine_is_in_its_log_and_delivery_can_be_changed_and_ended(
    service: Service, ec: Any, created: Created, name: str
) -> None:
    create_cluster(ec, created, name, LogDeliveryConfigurations=[_to_cloudwatch(name, "engine-log")])
    file = _files(service, name) / "elasticache" / "valkey" / name / "0001" / "engine-log.log"
    wait_for(lambda: sum("Ready to accept" in line for line in _lines(file)) == 1, 40)
    for pid in service.engines(name):
        os.kill(pid, signal.SIGKILL)
    wait_for(lambda: sum("Ready to accept" in line for line in _lines(file)) == 2, 40)
    assert {json.loads(line)["Role"] for line in _lines(file)} <= {"M", "S", "C"}

    other = f"{name}-other"
    shown = ec.modify_cache_cluster(
        CacheClusterId=name, ApplyImmediately=True, LogDeliveryConfigurations=[_to_firehose(other, "engine-log")]
    )["CacheCluster"]
    assert shown["PendingModifiedValues"]["LogDeliveryConfigurations"][0]["LogFormat"] == "text"
    assert shown["LogDeliveryConfigurations"][0]["Status"] == "modifying"
    wait_for(lambda: _cluster_deliveries(ec, name)["engine-log"]["Status"] == "active", 40)

    ec.modify_cache_cluster(
        CacheClusterId=name,
        ApplyImmediately=True,
        LogDeliveryConfigurations=[{"LogType": "engine-log", "Enabled": False}],
    )
    wait_for(lambda: _cluster_deliveries(ec, name) == {}, 40)
    assert "Log delivery of engine-log has ended" in messages(ec, "cache-cluster", name)


def test_http_endpoints_get_what_happened_while_the_service_was_dead(new_service: Callable[..., Service]) -> None:
    with log_receiver() as cloudwatch, log_receiver() as firehose:
        service = new_service(
            CACHEKEEP_LOGS_ENDPOINT=cloudwatch.url,
            CACHEKEEP_LOGS_ACCESS_KEY="AKLOGS:the-logs-secret",
            CACHEKEEP_FIREHOSE_URL=f"{firehose.url}/take",
            CACHEKEEP_FIREHOSE_ACCESS_KEY="the-firehose-secret",
        ).start()
        ec = service.client()
        made: Created = []
        wanted = [_to_cloudwatch("caches"), _to_firehose("stream-1", "engine-log", "json")]
        endpoint = create_cluster(ec, made, "dead", LogDeliveryConfigurations=wanted)["CacheNodes"][0]["Endpoint"]
        wait_for(lambda: {one["Status"] for one in _cluster_deliveries(ec, "dead").values()} == {"active"}, 40)
        _slow(endpoint, "before")
        wait_for(lambda: sum("EVAL" in line for line in cloudwatch.lines()) == 1, 40)
        wait_for(lambda: any("Ready to accept" in line for line in firehose.lines()), 40)
        service.kill()
        _slow(endpoint, "between")
        service.start()
        _slow(endpoint, "after")
        wait_for(lambda: sum("EVAL" in line for line in cloudwatch.lines()) >= 3, 40)

        puts = [body for _, body in cloudwatch.requests if "logEvents" in body]
        assert {(put["logGroupName"], put["logStreamName"]) for put in puts} == {
            ("caches", "elasticache/valkey/dead/0001/slow-log")
        }
        assert all("Credential=AKLOGS/" in headers["authorization"] for headers, _ in cloudwatch.requests)
        numbers = [json.loads(line)["Id"] for line in cloudwatch.lines() if "EVAL" in line]
        assert len(set(numbers)) == 3, "none is lost"
        assert {headers["x-amz-firehose-access-key"] for headers, _ in firehose.requests} == {"the-firehose-secret"}
        assert firehose.requests[0][0]["x-amz-firehose-source-arn"].endswith(":deliverystream/stream-1")
        told = service.log.read_text() + (service.state_dir / "service.json").read_text()
        assert "the-logs-secret" not in told
        assert "the-firehose-secret" not in told


@pytest.mark.slow
def test_a_destination_that_fails_is_told_and_gets_everything_afterwards(new_service: Callable[..., Service]) -> None:
    with log_receiver() as firehose:
        service = new_service(CACHEKEEP_FIREHOSE_URL=firehose.url).start()
        ec = service.client()
        made: Created = []
        endpoint = create_cluster(ec, made, "fails", LogDeliveryConfigurations=[_to_firehose("s")])["CacheNodes"][0][
            "Endpoint"
        ]
        wait_for(lambda: _cluster_deliveries(ec, "fails")["slow-log"]["Status"] == "active", 40)
        firehose.fails.set()
        _slow(endpoint, "one")
        wait_for(lambda: _cluster_deliveries(ec, "fails")["slow-log"]["Status"] == "error", 40)
        assert "answered HTTP 503" in _cluster_deliveries(ec, "fails")["slow-log"]["Message"]
        _slow(endpoint, "two")
        firehose.fails.clear()
        wait_for(lambda: sum("EVAL" in line for line in firehose.lines()) >= 2, 60)
        wait_for(lambda: _cluster_deliveries(ec, "fails")["slow-log"]["Status"] == "active", 40)
        fields = firehose.lines()[0].split(",")
        assert fields[:2] == ["fails", "0001"]
        assert fields[4] == "EVAL ... (3 more arguments)"


def test_a_file_that_cannot_be_written_is_told_and_made_up_for(
    service: Service, ec: Any, created: Created, name: str
) -> None:
    folder = _files(service, name)
    folder.parent.mkdir(parents=True, exist_ok=True)
    folder.write_text("in the way")
    endpoint = create_cluster(ec, created, name, LogDeliveryConfigurations=[_to_cloudwatch(name)])["CacheNodes"][0][
        "Endpoint"
    ]
    wait_for(lambda: _cluster_deliveries(ec, name)["slow-log"]["Status"] == "error", 40)
    _slow(endpoint, "word")
    folder.unlink()
    file = folder / "elasticache" / "valkey" / name / "0001" / "slow-log.log"
    wait_for(lambda: any("EVAL" in line for line in _lines(file)), 60)
    wait_for(lambda: _cluster_deliveries(ec, name)["slow-log"]["Status"] == "active", 40)


@pytest.mark.slow
def test_a_full_disk_tears_no_line_and_what_was_logged_meanwhile_arrives(
    small_disk: Path,  # noqa: F811
    new_service: Callable[..., Service],
) -> None:
    """The logs alone are on it; it fills in the middle of a file."""
    service = new_service()
    service.state_dir.mkdir(parents=True)
    (service.state_dir / "logs").symlink_to(small_disk)
    ec = service.start().client()
    wanted = [_to_cloudwatch("g"), _to_cloudwatch("h", "engine-log", "text")]
    endpoint = create_cluster(ec, [], "full", LogDeliveryConfigurations=wanted)["CacheNodes"][0]["Endpoint"]
    file = _files(service, "g") / "elasticache" / "valkey" / "full" / "0001" / "slow-log.log"
    _slow(endpoint, "before")
    wait_for(lambda: any("EVAL" in line for line in _lines(file)), 60)
    fill(small_disk)
    for number in range(20):
        _slow(endpoint, f"word{number}")
    wait_for(lambda: _cluster_deliveries(ec, "full")["slow-log"]["Status"] == "error", 60)
    assert any("space" in text for text in messages(ec, "cache-cluster", "full"))
    service.kill()
    service.start()
    _slow(endpoint, "after")
    with connect(endpoint) as client:
        wanted_ids = {entry["id"] for entry in client.slowlog_get(100) if b"EVAL" in entry["command"]}
    (small_disk / "filler").unlink()
    wait_for(lambda: wanted_ids <= {json.loads(line)["Id"] for line in _lines(file)}, 60)
    delivered = [json.loads(line)["Id"] for line in _lines(file)]
    assert len(delivered) == len(set(delivered)), "each once"
    wait_for(lambda: _cluster_deliveries(ec, "full")["slow-log"]["Status"] == "active", 60)
    assert "Traceback" not in service.log.read_text()


@pytest.mark.slow
def test_a_ring_that_overflows_is_told(ec: Any, created: Created, name: str) -> None:
    ec.create_cache_parameter_group(CacheParameterGroupName=name, CacheParameterGroupFamily="valkey9", Description="x")
    small = [("slowlog-log-slower-than", "0"), ("slowlog-max-len", "5")]
    pairs = [{"ParameterName": one, "ParameterValue": value} for one, value in small]
    ec.modify_cache_parameter_group(CacheParameterGroupName=name, ParameterNameValues=pairs)
    wanted = [_to_cloudwatch(name)]
    cluster = create_cluster(ec, created, name, CacheParameterGroupName=name, LogDeliveryConfigurations=wanted)
    wait_for(lambda: _cluster_deliveries(ec, name)["slow-log"]["Status"] == "active", 40)
    with connect(cluster["CacheNodes"][0]["Endpoint"]) as client:
        for number in range(2000):
            client.set("k", number)
    wait_for(lambda: any("were not delivered" in text for text in messages(ec, "cache-cluster", name)), 60)


@pytest.mark.parametrize(
    ("engine", "wanted", "says"),
    [
        ("memcached", [_to_cloudwatch("g")], "not supported"),
        ("valkey", [_to_cloudwatch("g"), _to_cloudwatch("h")], "Only one"),
        ("valkey", [{"LogType": "slow-log"}], "DestinationType"),
        ("valkey", [{"LogType": "slow-log", "Enabled": False}], "not enabled"),
        ("valkey", [_to_cloudwatch("a group")], "no name"),
        ("valkey", [_to_firehose("../x")], "no name"),
        ("valkey", [_to_cloudwatch("g", "audit-log")], "LogType"),
        ("valkey", [_to_cloudwatch("g") | {"DestinationType": "kinesis-firehose"}], "DestinationDetails"),
    ],
)
def test_bad_configurations_are_refused(ec: Any, name: str, engine: str, wanted: Any, says: str) -> None:
    if engine == "memcached":
        more: dict[str, Any] = {"NumCacheNodes": 1}
    else:
        more = {}
    with pytest.raises(ClientError) as caught:
        ec.create_cache_cluster(CacheClusterId=name, Engine=engine, LogDeliveryConfigurations=wanted, **more)
    assert caught.value.response["Error"]["Code"] in ("InvalidParameterValue", "InvalidParameterCombination")
    assert says in caught.value.response["Error"]["Message"]
