"""Alarms on metrics, what became of them, and whom to tell. Pure.

Words and bounds: CloudWatch API 2010-08-01 (PutMetricAlarm).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

Dimensions = tuple[tuple[str, str], ...]
# The reason of the state of an alarm that was never judged.
UNCHECKED = "Unchecked: Initial alarm creation"


class AlarmState(StrEnum):
    OK = "OK"
    ALARM = "ALARM"
    INSUFFICIENT_DATA = "INSUFFICIENT_DATA"


class Comparison(StrEnum):
    GREATER_OR_EQUAL = "GreaterThanOrEqualToThreshold"
    GREATER = "GreaterThanThreshold"
    LESS = "LessThanThreshold"
    LESS_OR_EQUAL = "LessThanOrEqualToThreshold"


class MissingData(StrEnum):
    """How periods without a point are judged."""

    BREACHING = "breaching"
    NOT_BREACHING = "notBreaching"
    IGNORE = "ignore"
    MISSING = "missing"


@dataclass(frozen=True)
class MetricQuery:
    """One entry of GetMetricData's MetricDataQueries: either an expression over the ids of others, or a metric.

    dimensions: in order of their names. period: seconds; None takes that of what the expression is over.
    """

    id: str
    expression: str = ""
    namespace: str = ""
    metric: str = ""
    dimensions: Dimensions = ()
    statistic: str = ""
    period: int | None = None
    unit: str | None = None
    label: str | None = None
    return_data: bool = True


@dataclass(frozen=True)
class Alarm:
    """queries: either one metric, or metric math of which exactly one has return_data. statistic within them:
    Average, Sum, Minimum, Maximum, SampleCount or pNN.

    *_actions: ARNs of topics. Times: seconds since 1970. reason_data: JSON text, as CloudWatch gives it.
    single: it was put with MetricName and not with Metrics, and is shown so.
    """

    region: str
    name: str
    queries: tuple[MetricQuery, ...]
    evaluation_periods: int
    datapoints_to_alarm: int
    threshold: float
    comparison: Comparison
    configuration_updated_at: float
    state_updated_at: float
    state_transitioned_at: float
    treat_missing: MissingData = MissingData.MISSING
    single: bool = True
    description: str | None = None
    actions_enabled: bool = True
    ok_actions: tuple[str, ...] = ()
    alarm_actions: tuple[str, ...] = ()
    insufficient_data_actions: tuple[str, ...] = ()
    evaluate_low_sample_count: bool = True
    state: AlarmState = AlarmState.INSUFFICIENT_DATA
    state_reason: str = UNCHECKED
    state_reason_data: str = ""
    tags: Mapping[str, str] = field(default_factory=dict)


class HistoryKind(StrEnum):
    CONFIGURATION_UPDATE = "ConfigurationUpdate"
    STATE_UPDATE = "StateUpdate"
    ACTION = "Action"


@dataclass(frozen=True)
class HistoryItem:
    """One line of DescribeAlarmHistory. data: JSON text."""

    at: float
    region: str
    alarm: str
    kind: HistoryKind
    summary: str
    data: str


class Channel(StrEnum):
    """How a subscriber is told."""

    WEBHOOK = "webhook"
    EMAIL = "email"
    COMMAND = "command"


@dataclass(frozen=True)
class Subscription:
    """endpoint: an http(s) URL, an address, or the absolute path of a program. secret: signs webhooks; never in a
    text."""

    id: str
    channel: Channel
    endpoint: str
    secret: str = field(default="", repr=False)


@dataclass(frozen=True)
class Topic:
    """Whom to tell, under one name. Its ARN is `arn:aws:sns:REGION:ACCOUNT:NAME`: what AlarmActions and
    NotificationTopicArn say."""

    region: str
    name: str
    subscriptions: tuple[Subscription, ...] = ()
    created_at: float = 0.0
