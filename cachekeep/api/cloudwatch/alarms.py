"""What is asked of alarms that are there: to be shown, set, switched on and off, tagged and deleted."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import UTC, datetime

from cachekeep.api import paging
from cachekeep.api.cloudwatch.call import CloudWatchCall, Result, bad_token, validation_error
from cachekeep.api.cloudwatch.history import configured
from cachekeep.api.cloudwatch.put_alarm import MAX_TAGS, tags_of
from cachekeep.api.cloudwatch.select import STATISTICS
from cachekeep.api.cloudwatch.statistics import dimensions_of
from cachekeep.domain.alarms import Alarm, AlarmState, MetricQuery
from cachekeep.domain.faults import Fault
from cachekeep.plan.notice import alarm_arn

_FEWEST_RECORDS = 50


def describe_alarms(call: CloudWatchCall) -> Result:
    names, prefix = call.texts("AlarmNames"), call.text("AlarmNamePrefix")
    if names and prefix:
        raise validation_error("AlarmNames and AlarmNamePrefix cannot be given together.")
    types = call.texts("AlarmTypes") or ("MetricAlarm",)
    if call.text("ChildrenOfAlarmName") or call.text("ParentsOfAlarmName") or "MetricAlarm" not in types:
        return {"MetricAlarms": [], "CompositeAlarms": []}
    state, actions = call.text("StateValue"), call.text("ActionPrefix")
    found = [
        alarm
        for alarm in sorted(call.services.store.all(Alarm, call.region), key=lambda alarm: alarm.name)
        if (not names or alarm.name in names)
        and alarm.name.startswith(prefix or "")
        and state in (None, alarm.state.value)
        and (actions is None or any(arn.startswith(actions) for arn in _all_actions(alarm)))
    ]
    after = call.text("NextToken")
    rest = found if after is None else [alarm for alarm in found if alarm.name > _named(after)]
    most = call.params.get("MaxRecords", max(_FEWEST_RECORDS, len(names)))
    shown = rest[:most]
    more = len(rest) > most
    return {
        "MetricAlarms": [shape(call, alarm) for alarm in shown],
        "CompositeAlarms": [],
        "NextToken": paging.written(shown[-1].name) if more else None,
    }


def _named(token: str) -> str:
    """The name of the last alarm of the page before: what is made or deleted in between hides nothing else."""
    try:
        return paging.read(token)
    except ValueError:
        raise bad_token() from None


def describe_alarms_for_metric(call: CloudWatchCall) -> Result:
    """Alarms on this one metric, or whose math is over it; dimensions must be the same, all of them."""
    wanted = dimensions_of(call.params.get("Dimensions"))
    statistic = call.text("Statistic") or call.text("ExtendedStatistic")

    def fits(query: MetricQuery) -> bool:
        return (
            (query.namespace, query.metric) == (call.params["Namespace"], call.params["MetricName"])
            and query.dimensions == wanted
            and statistic in (None, query.statistic)
            and call.params.get("Period") in (None, query.period)
            and call.text("Unit") in (None, query.unit)
        )

    found = [a for a in call.services.store.all(Alarm, call.region) if any(fits(query) for query in a.queries)]
    return {"MetricAlarms": [shape(call, alarm) for alarm in found]}


def shape(call: CloudWatchCall, alarm: Alarm) -> dict[str, object]:
    """An alarm as DescribeAlarms shows it."""
    shown: dict[str, object] = {
        "AlarmName": alarm.name,
        "AlarmArn": _arn(call, alarm.name),
        "AlarmDescription": alarm.description,
        "AlarmConfigurationUpdatedTimestamp": _time(alarm.configuration_updated_at),
        "ActionsEnabled": alarm.actions_enabled,
        "OKActions": list(alarm.ok_actions),
        "AlarmActions": list(alarm.alarm_actions),
        "InsufficientDataActions": list(alarm.insufficient_data_actions),
        "StateValue": alarm.state.value,
        "StateReason": alarm.state_reason[:1023],
        "StateReasonData": alarm.state_reason_data[:4000] or None,
        "StateUpdatedTimestamp": _time(alarm.state_updated_at),
        "StateTransitionedTimestamp": _time(alarm.state_transitioned_at),
        "EvaluationPeriods": alarm.evaluation_periods,
        "DatapointsToAlarm": alarm.datapoints_to_alarm,
        "Threshold": alarm.threshold,
        "ComparisonOperator": alarm.comparison.value,
        "TreatMissingData": alarm.treat_missing.value,
    }
    if not alarm.single:
        return {**shown, "Metrics": [_query_shape(query) for query in alarm.queries]}
    return {**shown, **_single_shape(alarm)}


def _single_shape(alarm: Alarm) -> dict[str, object]:
    query = alarm.queries[0]
    is_plain = query.statistic in STATISTICS
    return {
        "MetricName": query.metric,
        "Namespace": query.namespace,
        "Statistic": query.statistic if is_plain else None,
        "ExtendedStatistic": None if is_plain else query.statistic,
        "EvaluateLowSampleCountPercentile": None
        if is_plain
        else ("evaluate" if alarm.evaluate_low_sample_count else "ignore"),
        "Dimensions": [{"Name": name, "Value": value} for name, value in query.dimensions],
        "Period": query.period,
        "Unit": query.unit,
    }


def _query_shape(query: MetricQuery) -> dict[str, object]:
    shown: dict[str, object] = {"Id": query.id, "Label": query.label, "ReturnData": query.return_data}
    if query.expression:
        return {**shown, "Expression": query.expression, "Period": query.period}
    dimensions = [{"Name": name, "Value": value} for name, value in query.dimensions]
    metric = {"Namespace": query.namespace, "MetricName": query.metric, "Dimensions": dimensions}
    stat = {"Metric": metric, "Period": query.period, "Stat": query.statistic, "Unit": query.unit}
    return {**shown, "MetricStat": stat}


def _time(at: float) -> datetime:
    return datetime.fromtimestamp(at, UTC)


def _all_actions(alarm: Alarm) -> tuple[str, ...]:
    return (*alarm.ok_actions, *alarm.alarm_actions, *alarm.insufficient_data_actions)


def set_alarm_state(call: CloudWatchCall) -> Result:
    """Until the next evaluation. What follows from a change of state, such as actions, is monitoring's to do."""
    name, state, reason = call.params["AlarmName"], AlarmState(call.params["StateValue"]), call.params["StateReason"]
    data = call.text("StateReasonData") or ""
    if data:
        try:
            json.loads(data)
        except (ValueError, RecursionError):
            raise Fault("InvalidFormat", "StateReasonData is not valid JSON.") from None
    call.services.set_state(call.region, name, state, reason, data)
    return {}


def enable_alarm_actions(call: CloudWatchCall) -> Result:
    return _switch(call, on=True)


def disable_alarm_actions(call: CloudWatchCall) -> Result:
    return _switch(call, on=False)


def _switch(call: CloudWatchCall, *, on: bool) -> Result:
    """Names that are not there are passed over, as AWS does."""
    now = call.services.now()
    with call.services.store.transaction() as work:
        for name in dict.fromkeys(call.texts("AlarmNames")):
            old = work.get(Alarm, call.region, name)
            if old is not None and old.actions_enabled is not on:
                work.replace(old, replace(old, actions_enabled=on, configuration_updated_at=now))
                work.add_history(configured(old, "updated", now))
    return {}


def delete_alarms(call: CloudWatchCall) -> Result:
    """All of them or, when one is not there, none."""
    now = call.services.now()
    names = list(dict.fromkeys(call.texts("AlarmNames")))
    with call.services.store.transaction() as work:
        found = [work.get(Alarm, call.region, name) for name in names]
        missing = [name for name, alarm in zip(names, found, strict=True) if alarm is None]
        if missing and len(names) > 1:
            raise Fault("ResourceNotFound", f"Alarms do not exist: {', '.join(missing)[:200]}.", 404)
        for alarm in found:
            if alarm is not None:
                work.delete(alarm)
                work.add_history(configured(alarm, "deleted", now))
    return {}


def _arn(call: CloudWatchCall, name: str) -> str:
    return alarm_arn(call.region, call.services.account_id, name)


def _change_tags(call: CloudWatchCall, change: Callable[[dict[str, str]], dict[str, str]]) -> Result:
    with call.services.store.transaction() as work:
        old = work.get(Alarm, call.region, _alarm_name(call))
        if old is None:
            raise _not_tagged(call)
        tags = change(dict(old.tags))
        if len(tags) > MAX_TAGS:
            raise Fault("InvalidParameterValue", f"There can be at most {MAX_TAGS} tags.")
        work.replace(old, replace(old, tags=tags))
    return {}


def tag_resource(call: CloudWatchCall) -> Result:
    added = tags_of(call.params["Tags"])
    return _change_tags(call, lambda tags: {**tags, **added})


def untag_resource(call: CloudWatchCall) -> Result:
    removed: Sequence[str] = call.texts("TagKeys")
    return _change_tags(call, lambda tags: {key: value for key, value in tags.items() if key not in removed})


def list_tags_for_resource(call: CloudWatchCall) -> Result:
    alarm = call.services.store.get(Alarm, call.region, _alarm_name(call))
    if alarm is None:
        raise _not_tagged(call)
    return {"Tags": [{"Key": key, "Value": value} for key, value in sorted(alarm.tags.items())]}


def _alarm_name(call: CloudWatchCall) -> str:
    arn, before = call.params["ResourceARN"], _arn(call, "")
    if not arn.startswith(before):
        raise Fault("InvalidParameterValue", f"{arn[:200]} is not the ARN of an alarm of this account and region.")
    return str(arn.removeprefix(before))


def _not_tagged(call: CloudWatchCall) -> Fault:
    return Fault("ResourceNotFoundException", f"{call.params['ResourceARN'][:200]} does not exist.", 404)
