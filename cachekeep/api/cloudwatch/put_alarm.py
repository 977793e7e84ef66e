"""PutMetricAlarm: static thresholds on one metric or on metric math, M out of N periods, missing data.

Anomaly detection, PromQL and other kinds of alarms are refused. Words and bounds: CloudWatch API, PutMetricAlarm.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Final

from cachekeep.api.cloudwatch.call import CloudWatchCall, Result, validation_error
from cachekeep.api.cloudwatch.get_data import queries_of
from cachekeep.api.cloudwatch.history import configured
from cachekeep.api.cloudwatch.select import check_period, percentile_of
from cachekeep.api.cloudwatch.statistics import dimensions_of
from cachekeep.domain.alarms import Alarm, Comparison, MetricQuery, MissingData
from cachekeep.domain.faults import Fault
from cachekeep.domain.notifications import TopicArn
from cachekeep.plan.metric_math import MathError, check_queries

MAX_ALARMS: Final = 5000
MAX_METRICS: Final = 20
MAX_TAGS: Final = 50
_DAY_S, _WEEK_S = 86400, 7 * 86400
_NOT_HERE: Final = (
    "ThresholdMetricId",
    "EvaluationWindow",
    "WarmUpConfiguration",
    "EvaluationCriteria",
    "EvaluationInterval",
    "ActionConfiguration",
)
_OF_ONE_METRIC: Final = ("MetricName", "Namespace", "Statistic", "ExtendedStatistic", "Dimensions", "Period", "Unit")


def put_metric_alarm(call: CloudWatchCall) -> Result:
    now = call.services.now()
    made = _alarm(call, now)
    with call.services.store.transaction() as work:
        old = work.get(Alarm, call.region, made.name)
        if old is None:
            if len(work.all(Alarm, call.region)) >= MAX_ALARMS:
                raise Fault("LimitExceeded", f"There can be at most {MAX_ALARMS} alarms in a region.")
            work.insert(made)
        else:
            work.replace(old, _updated(old, made))
        work.add_history(configured(made, "created" if old is None else "updated", now))
    return {}


def _updated(old: Alarm, made: Alarm) -> Alarm:
    """The state stays, and so do tags: they change by TagResource only."""
    return replace(
        made,
        state=old.state,
        state_reason=old.state_reason,
        state_reason_data=old.state_reason_data,
        state_updated_at=old.state_updated_at,
        state_transitioned_at=old.state_transitioned_at,
        tags=old.tags,
    )


def _alarm(call: CloudWatchCall, now: float) -> Alarm:
    params = call.params
    for name in _NOT_HERE:
        if params.get(name) is not None:
            raise validation_error(f"{name} is not available in this version of Cachekeep: use a static threshold.")
    for name in ("EvaluationPeriods", "Threshold", "ComparisonOperator"):
        if params.get(name) is None:
            raise validation_error(f"The parameter {name} is required for an alarm on a static threshold.")
    queries = _metrics(params) if params.get("Metrics") else (_single(params),)
    periods = params["EvaluationPeriods"]
    enough = params.get("DatapointsToAlarm", periods)
    if enough > periods:
        raise validation_error("The parameter DatapointsToAlarm must be less than or equal to EvaluationPeriods.")
    _check_span(queries, periods)
    return Alarm(
        region=call.region,
        name=_name(params["AlarmName"]),
        queries=queries,
        evaluation_periods=periods,
        datapoints_to_alarm=enough,
        threshold=params["Threshold"],
        comparison=_comparison(params["ComparisonOperator"]),
        configuration_updated_at=now,
        state_updated_at=now,
        state_transitioned_at=now,
        treat_missing=_missing(params.get("TreatMissingData", "missing")),
        single=not params.get("Metrics"),
        description=params.get("AlarmDescription"),
        actions_enabled=params.get("ActionsEnabled", True),
        ok_actions=_actions(call, "OKActions"),
        alarm_actions=_actions(call, "AlarmActions"),
        insufficient_data_actions=_actions(call, "InsufficientDataActions"),
        evaluate_low_sample_count=_low_samples(params.get("EvaluateLowSampleCountPercentile", "evaluate")),
        tags=tags_of(params.get("Tags") or ()),
    )


def _single(params: Mapping[str, Any]) -> MetricQuery:
    for name in ("MetricName", "Namespace", "Period"):
        if params.get(name) is None:
            raise validation_error(f"The parameter {name} is required when Metrics is not given.")
    plain, extended = params.get("Statistic"), params.get("ExtendedStatistic")
    if (plain is None) == (extended is None):
        raise validation_error("Exactly one of the parameters Statistic and ExtendedStatistic must be given.")
    if extended is not None and percentile_of(extended) is None:
        raise validation_error(f"The value {extended[:60]} for parameter ExtendedStatistic is not supported.")
    return MetricQuery(
        "m1",
        namespace=params["Namespace"],
        metric=params["MetricName"],
        dimensions=dimensions_of(params.get("Dimensions")),
        statistic=str(plain or extended),
        period=check_period(params["Period"]),
        unit=params.get("Unit"),
    )


def _metrics(params: Mapping[str, Any]) -> tuple[MetricQuery, ...]:
    for name in _OF_ONE_METRIC:
        if params.get(name):
            raise validation_error(f"The parameter {name} cannot be given together with Metrics.")
    queries = queries_of(params["Metrics"])
    if len(queries) > MAX_METRICS:
        raise validation_error(f"The collection Metrics must not have a size greater than {MAX_METRICS}.")
    try:
        check_queries(queries)
    except MathError as error:
        raise validation_error(f"{error}.") from None
    if sum(query.return_data for query in queries) != 1:
        raise validation_error("Exactly one element of the metrics list should return data.")
    if any("SEARCH" in query.expression.upper() for query in queries):
        raise validation_error("SEARCH is not supported on alarms.")
    return queries


def _check_span(queries: Sequence[MetricQuery], periods: int) -> None:
    period = max(query.period or 60 for query in queries)
    longest = _DAY_S if period < 3600 else _WEEK_S
    if period * periods > longest:
        raise validation_error(
            f"Metrics cannot be checked across more than {'a day' if longest == _DAY_S else 'seven days'} "
            f"(EvaluationPeriods * Period must be <= {longest})."
        )


def _name(text: str) -> str:
    if any(ord(char) < 32 for char in text):
        raise validation_error("The parameter AlarmName must not have control characters.")
    return text


def _comparison(text: str) -> Comparison:
    try:
        return Comparison(text)
    except ValueError:
        raise validation_error(f"ComparisonOperator {text} needs anomaly detection, which is not available.") from None


def _missing(text: str) -> MissingData:
    try:
        return MissingData(text)
    except ValueError:
        raise validation_error(
            f"The value {text[:60]} for parameter TreatMissingData is not supported: use breaching, notBreaching, "
            "ignore or missing."
        ) from None


def _low_samples(text: str) -> bool:
    if text not in ("evaluate", "ignore"):
        raise validation_error("The parameter EvaluateLowSampleCountPercentile must be evaluate or ignore.")
    return text == "evaluate"


def _actions(call: CloudWatchCall, name: str) -> tuple[str, ...]:
    """Topics only, of this account: whom an alarm tells must be somebody that Cachekeep can tell."""
    arns = call.texts(name)
    account = call.services.account_id
    for arn in arns:
        topic = TopicArn.parse(arn)
        if topic is None or (topic.region, topic.account) != (call.region, account):
            usual = TopicArn(call.region, account, "TOPIC")
            raise validation_error(f"Invalid arn syntax in {name}: {arn[:200]}. Use {usual}.")
    return arns


def tags_of(given: Sequence[Mapping[str, str]]) -> dict[str, str]:
    tags = {one["Key"]: one["Value"] for one in given}
    if len(tags) != len(given):
        raise Fault("InvalidParameterValue", "A tag key is given more than once.")
    if len(tags) > MAX_TAGS:
        raise Fault("InvalidParameterValue", f"There can be at most {MAX_TAGS} tags.")
    if any(key.lower().startswith("aws:") for key in tags):
        raise Fault("InvalidParameterValue", "Tag keys that begin with aws: are reserved.")
    return tags
