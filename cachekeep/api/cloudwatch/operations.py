"""The operations of the CloudWatch API that are carried out, and which of them may run in a thread."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

from cachekeep.api.cloudwatch import alarms, get_data, history, list_metrics, put_alarm, statistics
from cachekeep.api.cloudwatch.call import CloudWatchCall, Result


@dataclass(frozen=True)
class Entry:
    """in_thread: it reads series and nothing else, and may take long; all others touch the store."""

    handler: Callable[[CloudWatchCall], Result]
    in_thread: bool = False


OPERATIONS: Final[Mapping[str, Entry]] = {
    "DeleteAlarms": Entry(alarms.delete_alarms),
    "DescribeAlarmHistory": Entry(history.describe_alarm_history),
    "DescribeAlarms": Entry(alarms.describe_alarms),
    "DescribeAlarmsForMetric": Entry(alarms.describe_alarms_for_metric),
    "DisableAlarmActions": Entry(alarms.disable_alarm_actions),
    "EnableAlarmActions": Entry(alarms.enable_alarm_actions),
    "GetMetricData": Entry(get_data.get_metric_data, in_thread=True),
    "GetMetricStatistics": Entry(statistics.get_metric_statistics, in_thread=True),
    "ListMetrics": Entry(list_metrics.list_metrics, in_thread=True),
    "ListTagsForResource": Entry(alarms.list_tags_for_resource),
    "PutMetricAlarm": Entry(put_alarm.put_metric_alarm),
    "SetAlarmState": Entry(alarms.set_alarm_state),
    "TagResource": Entry(alarms.tag_resource),
    "UntagResource": Entry(alarms.untag_resource),
}
