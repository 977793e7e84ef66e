"""The operations of the CloudWatch API that are carried out, and which of them may run in a thread."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

from cachekeep.api.cloudwatch import alarms, get_data, history, list_metrics, put_alarm, statistics
from cachekeep.api.cloudwatch.call import CloudWatchCall, Result


@dataclass(frozen=True)
class Entry:
    """proof: the test that shows it. note: for docs/api-coverage.md. in_thread: it reads series and nothing else, and
    may take long; all others touch the store."""

    handler: Callable[[CloudWatchCall], Result]
    proof: str
    note: str = ""
    in_thread: bool = False


_ALARMS = "tests/scenarios/test_alarms.py::test_an_alarm_from_put_to_deleted"
_LIVE = "tests/scenarios/test_cloudwatch.py::test_metrics_of_a_live_group_are_listed_computed_and_raise_an_alarm"
_TAGS = "tests/unit/api/test_cloudwatch_alarms.py::test_an_update_keeps_state_and_tags"
_STATISTICS = "tests/unit/api/test_cloudwatch_metrics.py::test_statistics_of_one_metric"

OPERATIONS: Final[Mapping[str, Entry]] = {
    "DeleteAlarms": Entry(alarms.delete_alarms, _ALARMS),
    "DescribeAlarmHistory": Entry(history.describe_alarm_history, _ALARMS),
    "DescribeAlarms": Entry(alarms.describe_alarms, _ALARMS),
    "DescribeAlarmsForMetric": Entry(alarms.describe_alarms_for_metric, _ALARMS),
    "DisableAlarmActions": Entry(alarms.disable_alarm_actions, _ALARMS),
    "EnableAlarmActions": Entry(alarms.enable_alarm_actions, _ALARMS),
    "GetMetricData": Entry(
        get_data.get_metric_data, _LIVE, "500 metrics and expressions; no trimmed means, no SELECT.", in_thread=True
    ),
    "GetMetricStatistics": Entry(statistics.get_metric_statistics, _STATISTICS, in_thread=True),
    "ListMetrics": Entry(list_metrics.list_metrics, _LIVE, in_thread=True),
    "ListTagsForResource": Entry(alarms.list_tags_for_resource, _TAGS),
    "PutMetricAlarm": Entry(
        put_alarm.put_metric_alarm, _LIVE, "Static thresholds, on a metric or on metric math; actions are topics."
    ),
    "SetAlarmState": Entry(alarms.set_alarm_state, _ALARMS),
    "TagResource": Entry(alarms.tag_resource, _TAGS),
    "UntagResource": Entry(alarms.untag_resource, _TAGS),
}
