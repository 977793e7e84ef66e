"""Alarms under boto3, in the three protocols: put, shown, set, switched, tagged, deleted, and their history."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError
from cloudwatch_desk import PROTOCOLS, REGION, CloudWatchDesk, cloudwatch_desk

from cachekeep.domain.alarms import Alarm

TOPIC = f"arn:aws:sns:{REGION}:000000000000:ops"
ALARM = {
    "AlarmName": "high",
    "AlarmDescription": "words & <more>",
    "MetricName": "CurrConnections",
    "Namespace": "AWS/ElastiCache",
    "Statistic": "Average",
    "Dimensions": [{"Name": "CacheClusterId", "Value": "c-001"}],
    "Period": 60,
    "EvaluationPeriods": 3,
    "DatapointsToAlarm": 2,
    "Threshold": 5.5,
    "ComparisonOperator": "GreaterThanThreshold",
    "TreatMissingData": "breaching",
    "AlarmActions": [TOPIC],
}
MATH = {
    "AlarmName": "math",
    "EvaluationPeriods": 1,
    "Threshold": 0.0,
    "ComparisonOperator": "LessThanThreshold",
    "Metrics": [
        {"Id": "e1", "Expression": "m1 / 2", "Label": "half"},
        {
            "Id": "m1",
            "MetricStat": {
                "Metric": {"Namespace": "AWS/ElastiCache", "MetricName": "CurrItems"},
                "Period": 60,
                "Stat": "p90",
            },
            "ReturnData": False,
        },
    ],
}


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[CloudWatchDesk]:
    with cloudwatch_desk(tmp_path) as it:
        yield it


@pytest.fixture(params=PROTOCOLS)
def client(desk: CloudWatchDesk, request: pytest.FixtureRequest) -> Any:
    return desk.client(request.param)


def names(answer: Any) -> list[str]:
    return [alarm["AlarmName"] for alarm in answer["MetricAlarms"]]


def test_an_alarm_is_shown_as_it_was_put(client: Any) -> None:
    client.put_metric_alarm(**ALARM)
    (shown,) = client.describe_alarms()["MetricAlarms"]
    assert ALARM.items() <= shown.items()
    assert shown["StateValue"] == "INSUFFICIENT_DATA"
    assert shown["AlarmArn"] == f"arn:aws:cloudwatch:{REGION}:000000000000:alarm:high"
    client.put_metric_alarm(**MATH)
    (shown,) = client.describe_alarms(AlarmNamePrefix="ma")["MetricAlarms"]
    assert [(m["Id"], m["ReturnData"]) for m in shown["Metrics"]] == [("e1", True), ("m1", False)]
    assert "MetricName" not in shown


def test_an_update_keeps_state_and_tags(desk: CloudWatchDesk, client: Any) -> None:
    client.put_metric_alarm(**ALARM, Tags=[{"Key": "k", "Value": "v"}])
    client.set_alarm_state(AlarmName="high", StateValue="ALARM", StateReason="drill", StateReasonData='{"a":1}')
    client.put_metric_alarm(**{**ALARM, "Threshold": 9.0})
    (shown,) = client.describe_alarms(StateValue="ALARM")["MetricAlarms"]
    assert (shown["Threshold"], shown["StateReason"], shown["StateReasonData"]) == (9.0, "drill", '{"a":1}')
    assert client.list_tags_for_resource(ResourceARN=shown["AlarmArn"])["Tags"] == [{"Key": "k", "Value": "v"}]
    client.tag_resource(ResourceARN=shown["AlarmArn"], Tags=[{"Key": "k2", "Value": ""}])
    client.untag_resource(ResourceARN=shown["AlarmArn"], TagKeys=["k"])
    alarm = desk.store.get(Alarm, REGION, "high")
    assert alarm is not None
    assert alarm.tags == {"k2": ""}


def test_history_tells_what_happened_newest_first(desk: CloudWatchDesk, client: Any) -> None:
    client.put_metric_alarm(**ALARM)
    for state in ("OK", "OK", "ALARM"):
        desk.now[0] += 1
        client.set_alarm_state(AlarmName="high", StateValue=state, StateReason="drill")
    desk.now[0] += 1
    client.delete_alarms(AlarmNames=["high"])
    items = client.describe_alarm_history(AlarmName="high")["AlarmHistoryItems"]
    assert [item["HistorySummary"] for item in items] == [
        'Alarm "high" deleted',
        f"Successfully executed action {TOPIC}",
        "Alarm updated from OK to ALARM",
        "Alarm updated from INSUFFICIENT_DATA to OK",
        'Alarm "high" created',
    ]
    assert desk.board.told == [(TOPIC, f'ALARM: "high" in {REGION}')]
    page = client.describe_alarm_history(HistoryItemType="StateUpdate", MaxRecords=1)
    assert len(page["AlarmHistoryItems"]) == 1
    rest = client.describe_alarm_history(HistoryItemType="StateUpdate", MaxRecords=1, NextToken=page["NextToken"])
    assert "NextToken" not in rest


def test_actions_are_switched_off_and_on(client: Any) -> None:
    client.put_metric_alarm(**ALARM)
    client.disable_alarm_actions(AlarmNames=["high", "nobody"])
    assert client.describe_alarms()["MetricAlarms"][0]["ActionsEnabled"] is False
    client.enable_alarm_actions(AlarmNames=["high"])
    assert client.describe_alarms()["MetricAlarms"][0]["ActionsEnabled"] is True


def test_alarms_are_found_by_metric(client: Any) -> None:
    client.put_metric_alarm(**ALARM)
    client.put_metric_alarm(**MATH)
    asked = {"Namespace": "AWS/ElastiCache", "MetricName": "CurrConnections"}
    assert names(client.describe_alarms_for_metric(**asked, Dimensions=ALARM["Dimensions"])) == ["high"]
    assert names(client.describe_alarms_for_metric(**asked)) == []
    assert names(client.describe_alarms_for_metric(Namespace="AWS/ElastiCache", MetricName="CurrItems")) == ["math"]


def test_alarms_come_in_pages(client: Any) -> None:
    for number in range(5):
        client.put_metric_alarm(**{**ALARM, "AlarmName": f"a{number}"})
    pages = list(client.get_paginator("describe_alarms").paginate(PaginationConfig={"PageSize": 2}))
    assert [names(page) for page in pages] == [["a0", "a1"], ["a2", "a3"], ["a4"]]
    assert names(client.describe_alarms(AlarmNames=["a3", "a1", "gone"])) == ["a1", "a3"]
    assert names(client.describe_alarms(AlarmTypes=["CompositeAlarm"])) == []
    assert names(client.describe_alarms(ActionPrefix="arn:aws:lambda")) == []


def test_what_is_not_there_is_not_found(client: Any) -> None:
    client.put_metric_alarm(**ALARM)
    with pytest.raises(client.exceptions.ResourceNotFound):
        client.delete_alarms(AlarmNames=["high", "nobody"])
    assert names(client.describe_alarms()) == ["high"]
    with pytest.raises(client.exceptions.ResourceNotFound):
        client.set_alarm_state(AlarmName="nobody", StateValue="OK", StateReason="x")
    with pytest.raises(client.exceptions.ResourceNotFoundException):
        client.list_tags_for_resource(ResourceARN=f"arn:aws:cloudwatch:{REGION}:000000000000:alarm:nobody")
    with pytest.raises(client.exceptions.InvalidFormatFault):
        client.set_alarm_state(AlarmName="high", StateValue="OK", StateReason="x", StateReasonData="{")


@pytest.mark.parametrize(
    "change",
    [
        {"Period": 90},
        {"Period": 3540, "EvaluationPeriods": 25},
        {"DatapointsToAlarm": 4},
        {"TreatMissingData": "perhaps"},
        {"ComparisonOperator": "GreaterThanUpperThreshold"},
        {"ThresholdMetricId": "e1"},
        {"AlarmActions": ["arn:aws:automate:eu-west-1:ec2:stop"]},
        {"AlarmActions": [f"{TOPIC} of a name that no topic can have"]},
        {"OKActions": [TOPIC.replace(REGION, "us-gov-west-1")]},
        {"ExtendedStatistic": "p99"},
        {"Metrics": MATH["Metrics"]},
    ],
)
def test_what_no_alarm_can_be_is_refused(desk: CloudWatchDesk, change: dict[str, Any]) -> None:
    client = desk.client()
    with pytest.raises(ClientError) as caught:
        client.put_metric_alarm(**{**ALARM, **change})
    assert caught.value.response["Error"]["Code"] == "ValidationError"
    assert names(client.describe_alarms()) == []


@pytest.mark.parametrize(
    "metrics",
    [
        [{**MATH["Metrics"][1], "ReturnData": False}],  # type: ignore[index]
        [{"Id": "e1", "Expression": "m9"}],
        [{"Id": "e1", "Expression": "SEARCH('{A,B} x', 'Sum', 60)"}],
    ],
)
def test_math_that_no_alarm_can_be_on_is_refused(desk: CloudWatchDesk, metrics: list[Any]) -> None:
    with pytest.raises(ClientError, match="ValidationError"):
        desk.client().put_metric_alarm(**{**MATH, "Metrics": metrics})
