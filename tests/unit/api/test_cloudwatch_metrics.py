"""ListMetrics, GetMetricData and GetMetricStatistics under boto3, in the three protocols."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError
from cloudwatch_desk import NOW, PROTOCOLS, REGION, CloudWatchDesk, cloudwatch_desk, node

from cachekeep.codec.sigv4 import HttpRequest
from cachekeep.domain.metrics import AWS_NAMESPACE, Point, Subject

END = datetime.fromtimestamp(NOW, UTC)
START = END - timedelta(minutes=4)


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[CloudWatchDesk]:
    with cloudwatch_desk(tmp_path) as it:
        yield it


@pytest.fixture(params=PROTOCOLS)
def client(desk: CloudWatchDesk, request: pytest.FixtureRequest) -> Any:
    return desk.client(request.param)


def stat(name: str = "CurrConnections", statistic: str = "Average", period: int = 60, **dimensions: str) -> Any:
    given = [{"Name": key, "Value": value} for key, value in (dimensions or {"CacheClusterId": "c-001"}).items()]
    metric = {"Namespace": AWS_NAMESPACE, "MetricName": name, "Dimensions": given}
    return {"Metric": metric, "Period": period, "Stat": statistic}


def ask(client: Any, *queries: Any, **more: Any) -> Any:
    return client.get_metric_data(MetricDataQueries=list(queries), StartTime=START, EndTime=END, **more)


def values(answer: Any) -> list[list[float]]:
    return [result["Values"] for result in answer["MetricDataResults"]]


def refused(client: Any, *queries: Any, **more: Any) -> tuple[str, str]:
    with pytest.raises(ClientError) as caught:
        ask(client, *queries, **more)
    return caught.value.response["Error"]["Code"], caught.value.response["Error"]["Message"]


def test_metrics_and_math_come_newest_first(desk: CloudWatchDesk, client: Any) -> None:
    desk.series.put(node(), "CurrConnections", [1, 2, 3, 4])
    answer = ask(client, {"Id": "m1", "MetricStat": stat()}, {"Id": "e1", "Expression": "m1 * 2", "Label": "<double>"})
    assert values(answer) == [[4.0, 3.0, 2.0, 1.0], [8.0, 6.0, 4.0, 2.0]]
    first, second = answer["MetricDataResults"]
    assert first["Timestamps"][0] == END - timedelta(minutes=1)
    assert (first["Label"], second["Label"]) == ("CurrConnections", "<double>")
    assert first["StatusCode"] == "Complete"
    assert answer["ResponseMetadata"]["RequestId"] == "r-1"


def test_a_fault_is_the_clients_exception_in_every_protocol(client: Any) -> None:
    code, text = refused(client, {"Id": "m1", "MetricStat": stat(period=90)})
    assert (code, text) == ("ValidationError", "Period must be 1, 5, 10, 20, 30 or a multiple of 60.")
    with pytest.raises(client.exceptions.InvalidNextToken):
        ask(client, {"Id": "m1", "MetricStat": stat()}, NextToken="nonsense")


def test_series_that_cannot_be_read_are_not_an_empty_answer(desk: CloudWatchDesk, client: Any) -> None:
    desk.series.put(node(), "CurrConnections", [1, 2, 3, 4])
    desk.series.trouble = "the metrics file cannot be read now"
    code, text = refused(client, {"Id": "m1", "MetricStat": stat()})
    assert (code, text) == ("ServiceUnavailable", "the metrics file cannot be read now")


def test_ten_thousand_queries_are_refused(desk: CloudWatchDesk) -> None:
    queries = [{"Id": f"m{number}", "Expression": "1"} for number in range(10_000)]
    body = json.dumps({"MetricDataQueries": queries, "StartTime": NOW - 60, "EndTime": NOW}).encode()
    target = ("x-amz-target", "GraniteServiceVersion20100801.GetMetricData")
    answer = desk.send(HttpRequest("POST", "/", "", [target], body))
    assert answer.status == 400
    assert answer.headers["x-amzn-query-error"] == "InvalidParameterValue;Sender"


def test_five_hundred_queries_are_answered(desk: CloudWatchDesk) -> None:
    desk.series.put(node(), "CurrConnections", [1])
    answer = ask(desk.client(), *({"Id": f"m{number}", "MetricStat": stat()} for number in range(500)))
    assert len(answer["MetricDataResults"]) == 500
    assert desk.series.reads == 1


def test_what_is_not_returned_can_still_be_computed_with(desk: CloudWatchDesk, client: Any) -> None:
    desk.series.put(node(), "CurrConnections", [1, 2])
    hidden = {"Id": "m1", "MetricStat": stat(), "ReturnData": False}
    answer = ask(client, hidden, {"Id": "e", "Expression": "SUM(METRICS())"}, ScanBy="TimestampAscending")
    assert values(answer) == [[1.0, 2.0]]


def test_pages_go_on_where_the_one_before_ended(desk: CloudWatchDesk, client: Any) -> None:
    desk.series.put(node(1), "CurrConnections", [1, 2, 3])
    desk.series.put(node(2), "CurrConnections", [4, 5, 6])
    queries = [
        {"Id": "a", "MetricStat": stat(CacheClusterId="c-001")},
        {"Id": "b", "MetricStat": stat(CacheClusterId="c-002")},
    ]
    seen: dict[str, list[float]] = {}
    statuses, token, pages = [], {}, 0
    while pages < 5:
        answer = ask(client, *queries, MaxDatapoints=2, **token)
        pages += 1
        for result in answer["MetricDataResults"]:
            seen.setdefault(result["Id"], []).extend(result["Values"])
            statuses.append(result["StatusCode"])
        if "NextToken" not in answer:
            break
        token = {"NextToken": answer["NextToken"]}
    assert (seen, pages) == ({"a": [3.0, 2.0, 1.0], "b": [6.0, 5.0, 4.0]}, 3)
    assert statuses == ["PartialData", "Complete", "PartialData", "Complete"]
    assert refused(client, queries[0], **token)[0] == "InvalidNextToken"


def test_cluster_stands_for_all_its_nodes(desk: CloudWatchDesk) -> None:
    desk.series.put(node(1, "0001"), "CurrConnections", [1, 5])
    desk.series.put(node(1, "0002"), "CurrConnections", [3])
    desk.series.put(Subject(REGION, "c-001"), "CurrConnections", [100])
    desk.series.put(Subject("us-east-1", "c-001", "0001"), "CurrConnections", [1000])
    queries = [{"Id": f"m{n}", "MetricStat": stat("CurrConnections", s)} for n, s in enumerate(("Sum", "Maximum"))]
    second = {"Id": "x", "MetricStat": stat(CacheClusterId="c-001", CacheNodeId="0002")}
    group = {"Id": "g", "MetricStat": stat(ReplicationGroupId="c-001")}
    answer = ask(desk.client(), *queries, second, group)
    assert values(answer) == [[8.0, 1.0], [5.0, 1.0], [3.0], [100.0]]


@pytest.mark.parametrize(
    "wrong",
    [
        stat("NoSuchMetric"),
        stat(CacheClusterId="nobody"),
        stat(InstanceId="i-1"),
        {**stat(), "Unit": "Bytes"},
        {**stat(), "Metric": {"Namespace": "AWS/EC2", "MetricName": "CurrConnections"}},
    ],
)
def test_what_is_not_known_has_no_points(desk: CloudWatchDesk, wrong: Any) -> None:
    desk.series.put(node(), "CurrConnections", [1])
    assert values(ask(desk.client(), {"Id": "m", "MetricStat": wrong})) == [[]]


def test_percentiles_are_of_buckets_or_of_the_minutes(desk: CloudWatchDesk) -> None:
    at = NOW // 300 * 300 - 300
    for minute, average in enumerate((1.0, 2.0, 3.0, 4.0, 5.0)):
        desk.series.write(at + 60 * minute, {node(): {"CurrConnections": Point.of(average)}})
    buckets = ((10.0, 90.0), (20.0, 10.0))
    desk.series.write(at, {node(): {"GetLatency": Point(100, 900, 1, 20, buckets)}})
    names = ["CurrConnections", "GetLatency", "GetLatency"]
    queries = [
        {"Id": f"m{n}", "MetricStat": stat(name, statistic, 300)}
        for n, (name, statistic) in enumerate(zip(names, ("p50", "p95", "p99.9"), strict=True))
    ]
    client = desk.client()
    answer = client.get_metric_data(MetricDataQueries=queries, StartTime=START - timedelta(minutes=9), EndTime=END)
    assert values(answer) == [[3.0], [15.0], [pytest.approx(19.9)]]


def test_labels_take_properties(desk: CloudWatchDesk) -> None:
    desk.series.put(node(), "CurrConnections", [1, 2])
    label = "${PROP('Dim.CacheClusterId')} ${PROP('MetricName')} ${LABEL} ${MAX} ${LAST} ${NOPE}"
    answer = ask(desk.client(), {"Id": "m", "MetricStat": stat(), "Label": label})
    assert answer["MetricDataResults"][0]["Label"] == "c-001 CurrConnections CurrConnections 2 2 --"


def test_a_label_says_two_dashes_for_a_sum_that_no_number_can_hold(desk: CloudWatchDesk) -> None:
    desk.series.put(node(), "CurrConnections", [1e308, 1e308])
    answer = ask(desk.client(), {"Id": "m", "MetricStat": stat(), "Label": "${SUM} ${MAX} ${SUM}"})
    assert answer["MetricDataResults"][0]["Label"] == "-- 1e+308 --"


@pytest.mark.parametrize(
    "expression",
    [
        "SLICE([m], 1e999)",
        "CEIL(1e999) + m",
        "SEARCH('{AWS/ElastiCache,CacheClusterId} c-001', 'Sum', 1e999)",
        "SORT([m], SUM, ASC, 1e999)",
        "TIME_SERIES(1e999)",
    ],
)
def test_a_number_that_is_too_large_is_a_mistake_of_the_caller(desk: CloudWatchDesk, expression: str) -> None:
    with pytest.raises(ClientError, match=r"ValidationError.*too large"):
        ask(desk.client(), {"Id": "m", "MetricStat": stat()}, {"Id": "e", "Expression": expression})


def test_a_search_finds_all_clusters(desk: CloudWatchDesk) -> None:
    for number in (1, 2):
        desk.series.put(node(number), "CurrConnections", [number])
    text = "SEARCH('{AWS/ElastiCache,CacheClusterId} MetricName=\"CurrConnections\"', 'Average', 60)"
    answer = ask(desk.client(), {"Id": "e", "Expression": text}, {"Id": "s", "Expression": f"SUM({text})"})
    assert values(answer) == [[1.0], [2.0], [3.0]]
    assert [r["Label"] for r in answer["MetricDataResults"][:2]] == ["c-001 CurrConnections", "c-002 CurrConnections"]


@pytest.mark.parametrize(
    "query",
    [
        {"Id": "m"},
        {"Id": "M", "MetricStat": stat()},
        {"Id": "m", "MetricStat": stat(), "Expression": "1"},
        {"Id": "m", "MetricStat": stat(statistic="tm99")},
        {"Id": "m", "MetricStat": stat(period=2**31 - 1)},
        {"Id": "e", "Expression": "m9 + 1"},
        {"Id": "e", "Expression": "AVG(TIME_SERIES(1))"},
        {"Id": "e", "Expression": "SEARCH('{A,B} x', 'Average', 7)"},
    ],
)
def test_absurd_queries_are_refused(desk: CloudWatchDesk, query: Any) -> None:
    assert refused(desk.client(), query)[0] == "ValidationError"


def test_fifty_years_are_what_there_is(desk: CloudWatchDesk) -> None:
    desk.series.put(node(), "CurrConnections", [1, 2])
    ages = {"StartTime": datetime(1976, 1, 1, tzinfo=UTC), "EndTime": datetime(2090, 1, 1, tzinfo=UTC)}
    answer = desk.client().get_metric_data(MetricDataQueries=[{"Id": "m", "MetricStat": stat()}], **ages)
    assert values(answer) == [[2.0, 1.0]]


def test_statistics_of_one_metric(desk: CloudWatchDesk, client: Any) -> None:
    desk.series.put(node(), "CurrConnections", [1, 3])
    asked = {"Namespace": AWS_NAMESPACE, "MetricName": "CurrConnections", "StartTime": START, "EndTime": END}
    where = {"Dimensions": [{"Name": "CacheClusterId", "Value": "c-001"}], "Period": 60}
    both = {"Statistics": ["Sum", "SampleCount"], "ExtendedStatistics": ["p90"]}
    answer = client.get_metric_statistics(**asked, **where, **both)
    assert answer["Label"] == "CurrConnections"
    last = answer["Datapoints"][-1]
    assert last == {
        "Timestamp": END - timedelta(minutes=1),
        "Sum": 3.0,
        "SampleCount": 1.0,
        "ExtendedStatistics": {"p90": 3.0},
        "Unit": "Count",
    }
    with pytest.raises(client.exceptions.MissingRequiredParameterException):
        client.get_metric_statistics(**asked, **where)
    with pytest.raises(client.exceptions.InvalidParameterCombinationException, match="1440"):
        client.get_metric_statistics(**{**asked, "StartTime": END - timedelta(days=2)}, **where, Statistics=["Sum"])


def test_metrics_are_listed_by_filter_and_page(desk: CloudWatchDesk, client: Any) -> None:
    for number in range(260):
        desk.series.put(node(number), "CurrConnections", [1])
    desk.series.put(node(1), "EngineCPUUtilization", [1], last=NOW - 5 * 3600)
    found = [m for page in client.get_paginator("list_metrics").paginate() for m in page["Metrics"]]
    assert len(found) == 522
    assert len(client.list_metrics()["Metrics"]) == 500
    of_one = client.list_metrics(Dimensions=[{"Name": "CacheClusterId", "Value": "c-001"}], Namespace=AWS_NAMESPACE)
    assert sorted(m["MetricName"] for m in of_one["Metrics"]) == ["CurrConnections"] * 2 + ["EngineCPUUtilization"] * 2
    assert client.list_metrics(RecentlyActive="PT3H", MetricName="EngineCPUUtilization")["Metrics"] == []
    with pytest.raises(ClientError):
        client.list_metrics(NextToken="%%%")


def test_other_operations_are_refused(client: Any) -> None:
    with pytest.raises(ClientError) as caught:
        client.list_dashboards()
    assert caught.value.response["Error"]["Code"] == "InvalidAction"


def test_only_reads_of_series_may_run_in_a_thread(desk: CloudWatchDesk) -> None:
    def form(action: str) -> HttpRequest:
        return HttpRequest("POST", "/", "", [], f"Action={action}&Version=2010-08-01".encode())

    assert desk.front.may_run_in_thread(form("GetMetricData"))
    assert not desk.front.may_run_in_thread(form("PutMetricAlarm"))
    assert not desk.front.may_run_in_thread(HttpRequest("POST", "/", "", [], b"%"))


def test_a_form_that_names_two_operations_is_refused(desk: CloudWatchDesk) -> None:
    """The thread is chosen by the one that is seen first; the other one must not run in it."""
    for form in (b"Action=GetMetricData&%41ction=DeleteAlarms", b"%41ction=DeleteAlarms&Action=GetMetricData"):
        answer = desk.send(HttpRequest("POST", "/", "", [], form + b"&Version=2010-08-01"))
        assert answer.status == 400
        assert b"given more than once" in answer.body
