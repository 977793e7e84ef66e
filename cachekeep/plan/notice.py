"""What topics are told: CloudWatch's message of an alarm, ElastiCache's message of an event. Pure.

Sources: messages of CloudWatch alarms as published to SNS; ElastiCache guide, "Event notifications and Amazon SNS"
(names of events, and `EVENT NAME : cluster-name`). Called by monitor.
"""

from __future__ import annotations

import json
import re

from cachekeep.domain.alarms import Alarm, AlarmState, MetricQuery
from cachekeep.domain.events import Event, SourceType
from cachekeep.plan.alarm import aws_time, period_of

# SNS's own limit of a subject (Publish).
LONGEST_SUBJECT = 100

# The beginning of an event's text, and AWS's name for it. What has no name there is told under the last one.
_EVENTS = (
    (r"Finished modifying number of nodes|Added cache node", "AddCacheNodeComplete"),
    (r"Removed cache node", "RemoveCacheNodeComplete"),
    (r"Failover .*completed", "FailoverComplete"),
    (r"Cache node .*(restarted|shutdown)", "CacheNodesRebooted"),
    (r"Certificate renewal complete", "CertificateRenewalComplete"),
    (r"Updated parameter|Updated to use a CacheParameterGroup", "CacheClusterParametersChanged"),
    (r"Cache cluster created", "CacheClusterProvisioningComplete"),
    (r"Failed to create the cache cluster", "CacheClusterProvisioningFailed"),
    (r"Cache cluster deleted", "DeleteCacheClusterComplete"),
    (r"Increasing the replica count started", "ReplicationGroupIncreaseReplicaCountStarted"),
    (r"Slot migration .*completed", "ReplicationGroupScalingComplete"),
    (r"Replication group .*created", "CreateReplicationGroupComplete"),
    (r"Succeeded applying modification to cache node type", "CacheClusterScalingComplete"),
    (r"Failed applying modification to cache node type", "CacheClusterScalingFailed"),
    (r"Started recovery|Recovering cache node", "CacheNodeReplaceStarted"),
    (r"Finished recovery|Finished recovering", "CacheNodeReplaceComplete"),
    (r"Snapshot succeeded", "SnapshotComplete"),
    (r"Snapshot failed", "SnapshotFailed"),
    (r"Service update .* is available", "ServiceUpdateAvailableForNode"),
)
OTHER_EVENT = "Event"


def alarm_subject(alarm: Alarm) -> str:
    """`ALARM: "name" in us-east-1`."""
    ending = f'" in {alarm.region}'
    beginning = f'{alarm.state.value}: "'
    return beginning + alarm.name[: LONGEST_SUBJECT - len(beginning) - len(ending)] + ending


def alarm_arn(region: str, account: str, name: str) -> str:
    return f"arn:aws:cloudwatch:{region}:{account}:alarm:{name}"


def alarm_message(alarm: Alarm, old: AlarmState, account: str) -> str:
    """JSON text. alarm: in its new state."""
    return json.dumps(
        {
            "AlarmName": alarm.name,
            "AlarmDescription": alarm.description,
            "AWSAccountId": account,
            "AlarmConfigurationUpdatedTimestamp": aws_time(alarm.configuration_updated_at),
            "NewStateValue": alarm.state.value,
            "NewStateReason": alarm.state_reason,
            "StateChangeTime": aws_time(alarm.state_updated_at),
            "Region": alarm.region,
            "AlarmArn": alarm_arn(alarm.region, account, alarm.name),
            "OldStateValue": old.value,
            "OKActions": list(alarm.ok_actions),
            "AlarmActions": list(alarm.alarm_actions),
            "InsufficientDataActions": list(alarm.insufficient_data_actions),
            "Trigger": _trigger(alarm),
        }
    )


def _trigger(alarm: Alarm) -> dict[str, object]:
    trigger: dict[str, object] = {}
    if alarm.single and alarm.queries:
        metric = alarm.queries[0]
        percentile = metric.statistic.startswith("p")
        trigger |= {"MetricName": metric.metric, "Namespace": metric.namespace}
        trigger["StatisticType"] = "ExtendedStatistic" if percentile else "Statistic"
        trigger["ExtendedStatistic" if percentile else "Statistic"] = _statistic(metric)
        trigger |= {"Unit": metric.unit, "Dimensions": _dimensions(metric), "Period": period_of(alarm)}
    trigger |= {
        "EvaluationPeriods": alarm.evaluation_periods,
        "DatapointsToAlarm": alarm.datapoints_to_alarm,
        "ComparisonOperator": alarm.comparison.value,
        "Threshold": alarm.threshold,
        "TreatMissingData": alarm.treat_missing.value,
        "EvaluateLowSampleCountPercentile": "" if alarm.evaluate_low_sample_count else "ignore",
    }
    if not alarm.single:
        trigger["Metrics"] = [_query(query) for query in alarm.queries]
    return trigger


def _query(query: MetricQuery) -> dict[str, object]:
    page: dict[str, object] = {"Id": query.id, "ReturnData": query.return_data}
    if query.label is not None:
        page["Label"] = query.label
    if query.expression:
        return page | {"Expression": query.expression}
    metric = {"Dimensions": _dimensions(query), "MetricName": query.metric, "Namespace": query.namespace}
    return page | {"MetricStat": {"Metric": metric, "Period": query.period, "Stat": query.statistic}}


def _statistic(metric: MetricQuery) -> str:
    """AVERAGE, SAMPLE_COUNT, p99: as these messages have it."""
    if metric.statistic.startswith("p"):
        return metric.statistic
    return {"SampleCount": "SAMPLE_COUNT"}.get(metric.statistic, metric.statistic.upper())


def _dimensions(metric: MetricQuery) -> list[dict[str, str]]:
    return [{"value": value, "name": name} for name, value in metric.dimensions]


def event_name(event: Event) -> str:
    """`ElastiCache:FailoverComplete`; `ElastiCache:Event` for what AWS has no name for."""
    found = next((name for pattern, name in _EVENTS if re.match(pattern, event.message, re.IGNORECASE)), OTHER_EVENT)
    if event.source_type is SourceType.REPLICATION_GROUP:
        found = found.replace("CacheClusterScaling", "ReplicationGroupScaling")
    return f"ElastiCache:{found}"


def event_message(event: Event) -> str:
    """JSON text: the name with whom it is of, as AWS publishes it, and what DescribeEvents says beside."""
    page = {event_name(event): event.source_id}
    if event.source_type is SourceType.CACHE_CLUSTER:
        page["Cache Cluster ID"] = event.source_id
    page |= {
        "Message": event.message,
        "SourceType": event.source_type.value,
        "SourceIdentifier": event.source_id,
        "Region": event.region,
        "Date": aws_time(event.at)[:-5] + "Z",
    }
    return json.dumps(page)
