"""Metrics of real nodes through stock boto3: listed, read, computed with, and an alarm that they raise."""

from __future__ import annotations

import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from botocore.exceptions import ClientError

from .conftest import Service, connect, create_group, wait_for
from .test_alarms import PROTOCOLS, asked, cloudwatch, subscribe
from .web_receiver import Receiver, receiver

CONNECTIONS = {"Namespace": "AWS/ElastiCache", "MetricName": "CurrConnections"}


@pytest.fixture
def web() -> Iterator[Receiver]:
    with receiver() as it:
        yield it


def span(minutes: int = 10) -> dict[str, Any]:
    end = datetime.now(UTC)
    return {"StartTime": end - timedelta(minutes=minutes), "EndTime": end}


def stat(cluster: str, metric: str, statistic: str) -> dict[str, Any]:
    dimensions = [{"Name": "CacheClusterId", "Value": cluster}]
    of = {"Namespace": "AWS/ElastiCache", "MetricName": metric, "Dimensions": dimensions}
    return {"Metric": of, "Period": 60, "Stat": statistic}


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_what_is_not_there_has_no_points_and_what_is_wrong_is_a_fault(service: Service, protocol: str) -> None:
    cw = cloudwatch(service, protocol)
    of_nobody = [{"Name": "CacheClusterId", "Value": "nobody"}]
    assert cw.list_metrics(Dimensions=of_nobody)["Metrics"] == []
    query = {"Id": "m", "MetricStat": stat("nobody", "CurrItems", "Sum")}
    (result,) = cw.get_metric_data(MetricDataQueries=[query], **span())["MetricDataResults"]
    assert (result["Values"], result["StatusCode"]) == ([], "Complete")
    asked_for = {**CONNECTIONS, "Dimensions": of_nobody, "Statistics": ["Sum"]}
    assert cw.get_metric_statistics(**asked_for, Period=60, **span())["Datapoints"] == []
    with pytest.raises(cw.exceptions.InvalidParameterCombinationException):
        cw.get_metric_statistics(**asked_for, Period=60, **span(3000))
    with pytest.raises(ClientError) as caught:
        cw.get_metric_data(MetricDataQueries=[{"Id": "e", "Expression": "1 +"}], **span())
    assert caught.value.response["Error"]["Code"] == "ValidationError"
    assert caught.value.response["ResponseMetadata"]["HTTPStatusCode"] == 400


@pytest.mark.slow
def test_metrics_of_a_live_group_are_listed_computed_and_raise_an_alarm(
    service: Service, ec: Any, created: list[tuple[str, str]], name: str, web: Receiver
) -> None:
    """Some three minutes: the points of a minute come after its end."""
    topic = subscribe(service, name, web)
    group = create_group(ec, created, name)
    primary = f"{name}-001"
    clients = [connect(group["NodeGroups"][0]["PrimaryEndpoint"]) for _ in range(20)]
    cw = service.client("cloudwatch")
    cw.put_metric_alarm(
        AlarmName=name,
        **CONNECTIONS,
        Dimensions=[{"Name": "CacheClusterId", "Value": primary}],
        Statistic="Maximum",
        Period=60,
        EvaluationPeriods=1,
        Threshold=20,
        ComparisonOperator="GreaterThanOrEqualToThreshold",
        AlarmActions=[topic["arn"]],
    )

    def load() -> list[dict[str, Any]]:
        for client in clients:
            client.set("k", "v")
            client.get("k")
            client.get("missing")
        time.sleep(0.05)  # a modest load, not a wait
        return web.messages()

    (message,) = wait_for(load, 200)
    assert (message["NewStateValue"], message["Trigger"]["MetricName"]) == ("ALARM", "CurrConnections")
    (alarm,) = cw.describe_alarms(AlarmNames=[name])["MetricAlarms"]
    assert alarm["StateValue"] == "ALARM"
    assert "Threshold Crossed" in alarm["StateReason"]
    listed = cw.get_paginator("list_metrics").paginate(Dimensions=[{"Name": "CacheClusterId", "Value": primary}])
    assert {"CurrConnections", "CacheHits", "EngineCPUUtilization"} <= {
        metric["MetricName"] for page in listed for metric in page["Metrics"]
    }
    for protocol in PROTOCOLS:
        values = hit_rates(cloudwatch(service, protocol), primary)
        assert values["computed"] == pytest.approx(values["told"])
    cw.delete_alarms(AlarmNames=[name])
    asked(service).change_topics({"action": "remove", "name": name})
    for client in clients:
        client.close()


def hit_rates(cw: Any, cluster: str) -> dict[str, list[float]]:
    """As the service tells it, and computed of hits and misses by metric math."""
    hidden = [
        {"Id": n, "MetricStat": stat(cluster, m, "Sum"), "ReturnData": False}
        for n, m in (("h", "CacheHits"), ("m", "CacheMisses"))
    ]
    told = {"Id": "told", "MetricStat": stat(cluster, "CacheHitRate", "Average")}
    queries = [*hidden, told, {"Id": "computed", "Expression": "100 * h / (h + m)"}]
    answer = cw.get_metric_data(MetricDataQueries=queries, **span())
    values = {result["Id"]: result["Values"] for result in answer["MetricDataResults"]}
    assert values["told"]
    return values
