"""Alarms, topics and notices on a real service: stock boto3, the AWS CLI, and a webhook that checks its signature."""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from awscli.clidriver import create_clidriver
from botocore.serialize import create_serializer

from cachekeep import credentials
from cachekeep.cli.client import Client
from cachekeep.cli.env import lines
from cachekeep.cli.main import main

from .conftest import Service, cluster_status, create_cluster, create_group, messages, wait_for
from .web_receiver import Receiver, is_signed, receiver

PROTOCOLS = ("smithy-rpc-v2-cbor", "json", "query")


@pytest.fixture
def web() -> Iterator[Receiver]:
    with receiver() as it:
        yield it


@pytest.fixture
def topic(service: Service, name: str, web: Receiver) -> Iterator[dict[str, Any]]:
    """A topic with the webhook: `arn` and `secret`."""
    yield subscribe(service, name, web)
    asked(service).change_topics({"action": "remove", "name": name})


def asked(service: Service) -> Client:
    """What the commands ask the service with, without a process for each."""
    return Client(service.url, credentials.load(service.state_dir), "us-east-1")


def subscribe(service: Service, name: str, web: Receiver) -> dict[str, Any]:
    wish = {"action": "add", "name": name, "channel": "webhook", "endpoint": web.url}
    made = asked(service).change_topics(wish)
    return {"arn": made["topic"]["arn"], "secret": made["secret"]}


def cloudwatch(service: Service, protocol: str = PROTOCOLS[0]) -> Any:
    """Stock boto3, made to speak this one of the protocols that its versions choose among."""
    made = service.client("cloudwatch")
    made.meta.service_model.__dict__["resolved_protocol"] = protocol
    made._serializer = create_serializer(protocol)
    return made


def alarm(name: str, arn: str) -> dict[str, Any]:
    return {
        "AlarmName": name,
        "MetricName": "CurrConnections",
        "Namespace": "AWS/ElastiCache",
        "Statistic": "Maximum",
        "Dimensions": [{"Name": "CacheClusterId", "Value": "nobody-001"}],
        "Period": 60,
        "EvaluationPeriods": 2,
        "Threshold": 100.0,
        "ComparisonOperator": "GreaterThanThreshold",
        "AlarmActions": [arn],
        "OKActions": [arn],
    }


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_an_alarm_from_put_to_deleted(
    service: Service, name: str, topic: dict[str, Any], web: Receiver, protocol: str
) -> None:
    cw = cloudwatch(service, protocol)
    cw.put_metric_alarm(**alarm(name, topic["arn"]))
    cw.set_alarm_state(AlarmName=name, StateValue="ALARM", StateReason="drill")
    (message,) = web.wait_for(1)
    assert is_signed(*web.got[0], topic["secret"])
    assert not is_signed(*web.got[0], "another secret")
    assert (message["AlarmName"], message["NewStateValue"], message["NewStateReason"]) == (name, "ALARM", "drill")
    assert message["Trigger"]["MetricName"] == "CurrConnections"
    (shown,) = cw.describe_alarms(AlarmNames=[name])["MetricAlarms"]
    assert shown["StateValue"] == "ALARM"
    cw.disable_alarm_actions(AlarmNames=[name])
    cw.set_alarm_state(AlarmName=name, StateValue="OK", StateReason="unheard")
    cw.enable_alarm_actions(AlarmNames=[name])
    cw.set_alarm_state(AlarmName=name, StateValue="ALARM", StateReason="again")
    assert [m["NewStateReason"] for m in web.wait_for(2)] == ["drill", "again"]
    of_metric = {"Namespace": "AWS/ElastiCache", "MetricName": "CurrConnections"}
    found = cw.describe_alarms_for_metric(**of_metric, Dimensions=shown["Dimensions"])["MetricAlarms"]
    assert name in [one["AlarmName"] for one in found]
    history = cw.describe_alarm_history(AlarmName=name, HistoryItemType="Action")["AlarmHistoryItems"]
    assert [item["HistorySummary"] for item in history] == [f"Successfully executed action {topic['arn']}"] * 2
    cw.delete_alarms(AlarmNames=[name])
    assert cw.describe_alarms(AlarmNames=[name])["MetricAlarms"] == []


def test_the_aws_cli_works_with_what_env_prints(
    service: Service,
    name: str,
    topic: dict[str, Any],
    web: Receiver,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """The CLI's own main, in this process: starting it four times takes longer than what it does."""
    for line in lines(service.url, "us-east-1", credentials.load(service.state_dir), {}):
        word, _, rest = line.partition(" ")
        for one in shlex.split(rest):
            if word == "export":
                monkeypatch.setenv(*one.split("=", 1))
            else:
                monkeypatch.delenv(one, raising=False)
    driver = create_clidriver()

    def aws(*arguments: str) -> Any:
        assert driver.main(["cloudwatch", *arguments, "--output", "json"]) == 0
        return json.loads(capsys.readouterr().out or "null")

    options = "--metric-name CurrItems --namespace AWS/ElastiCache --statistic Average --period 60 --threshold 5"
    more = "--evaluation-periods 1 --comparison-operator LessThanThreshold --dimensions Name=CacheClusterId,Value=none"
    aws("put-metric-alarm", "--alarm-name", name, *options.split(), *more.split(), "--alarm-actions", topic["arn"])
    aws("set-alarm-state", "--alarm-name", name, "--state-value", "ALARM", "--state-reason", "drill")
    (message,) = web.wait_for(1)
    assert message["AlarmArn"].endswith(f":alarm:{name}")
    (shown,) = aws("describe-alarms", "--alarm-names", name)["MetricAlarms"]
    assert (shown["StateValue"], shown["Threshold"]) == ("ALARM", 5.0)
    assert aws("list-metrics", "--namespace", "AWS/EC2")["Metrics"] == []
    query = [{"Id": "e", "Expression": "TIME_SERIES(7)", "Period": 60}]
    at = ("--start-time", "2026-01-01T00:00:00Z", "--end-time", "2026-01-01T00:02:00Z")
    data = aws("get-metric-data", "--metric-data-queries", json.dumps(query), *at)
    assert data["MetricDataResults"][0]["Id"] == "e"
    aws("delete-alarms", "--alarm-names", name)


def test_the_topics_command_adds_tries_lists_and_removes(
    service: Service, name: str, web: Receiver, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("CACHEKEEP_STATE_DIR", str(service.state_dir))

    def topics(*arguments: str) -> str:
        with pytest.raises(SystemExit) as ended:
            main(["topics", *arguments])
        assert not ended.value.code
        return capsys.readouterr().out

    made = json.loads(topics("add", name, "--webhook", web.url, "--json"))
    assert topics("test", name) == f"webhook {web.url}: delivered\n"
    assert is_signed(*web.got[0], made["secret"])
    listed = topics()
    assert made["topic"]["arn"] in listed
    assert made["secret"] not in listed
    topics("remove", name)
    assert made["topic"]["arn"] not in topics("--json")


def test_elasticache_events_reach_the_topic_until_it_is_inactive(
    service: Service, ec: Any, created: list[tuple[str, str]], name: str, topic: dict[str, Any], web: Receiver
) -> None:
    create_cluster(ec, created, name, NotificationTopicArn=topic["arn"])
    told = wait_for(lambda: events(web, "CacheClusterProvisioningComplete"))
    assert told == [name]
    assert is_signed(*web.got[0], topic["secret"])
    ec.modify_cache_cluster(CacheClusterId=name, NotificationTopicStatus="inactive")
    ec.reboot_cache_cluster(CacheClusterId=name, CacheNodeIdsToReboot=["0001"])
    wait_for(lambda: cluster_status(ec, name) == "available")
    assert "Cache node 0001 restarted" in messages(ec, "cache-cluster", name)
    ec.modify_cache_cluster(CacheClusterId=name, NotificationTopicStatus="active")
    ec.delete_cache_cluster(CacheClusterId=name)
    wait_for(lambda: events(web, "DeleteCacheClusterComplete"))
    assert events(web, "CacheNodesRebooted") == []


def events(web: Receiver, kind: str) -> list[str]:
    """Of whom events of this kind were told."""
    return [message[f"ElastiCache:{kind}"] for message in web.messages() if f"ElastiCache:{kind}" in message]


@pytest.mark.slow
def test_a_failover_is_told_in_awss_shape(
    ec: Any, created: list[tuple[str, str]], name: str, topic: dict[str, Any], web: Receiver
) -> None:
    create_group(ec, created, name, AutomaticFailoverEnabled=True, NotificationTopicArn=topic["arn"])
    ec.test_failover(ReplicationGroupId=name, NodeGroupId="0001")
    wait_for(lambda: events(web, "FailoverComplete"), 60)


def test_a_webhook_that_hangs_holds_up_neither_others_nor_the_end(new_service: Callable[..., Service]) -> None:
    it = new_service().start()
    with receiver() as hanging, receiver() as prompt:
        hanging.hold.clear()
        subscribe(it, "ops", hanging)
        arn = subscribe(it, "ops", prompt)["arn"]
        cw = it.client("cloudwatch")
        cw.put_metric_alarm(**alarm("a", arn))
        for state in ("ALARM", "OK", "ALARM"):
            cw.set_alarm_state(AlarmName="a", StateValue=state, StateReason="drill")
        assert len(prompt.wait_for(3)) == 3
        assert len(hanging.wait_for(1)) == 1
        it.stop()
        assert it.process is not None
        assert it.process.returncode == 0
        # It ended although the one that hangs was never answered, nor given up.
        assert len(hanging.got) == 1
    assert "Traceback" not in it.log.read_text()
