"""DescribeAlarmHistory, and the lines that the API itself writes to it."""

from __future__ import annotations

import json
import math
from datetime import UTC, datetime

from cachekeep.api.cloudwatch.call import CloudWatchCall, Result
from cachekeep.api.cloudwatch.list_metrics import read_token, write_token
from cachekeep.domain.alarms import Alarm, HistoryItem, HistoryKind

_PAGE = 100


def describe_alarm_history(call: CloudWatchCall) -> Result:
    params = call.params
    kind = call.text("HistoryItemType")
    types = call.texts("AlarmTypes")
    if (types and "MetricAlarm" not in types) or (kind and kind not in set(HistoryKind)):
        return {"AlarmHistoryItems": []}
    start, end = params.get("StartDate"), params.get("EndDate")
    items = call.services.store.alarm_history(
        call.region,
        call.text("AlarmName"),
        since=start.timestamp() if start else 0.0,
        until=end.timestamp() if end else math.inf,
        kind=HistoryKind(kind) if kind else None,
    )
    if params.get("ScanBy") != "TimestampAscending":
        items = items[::-1]
    first, most = read_token(call.text("NextToken")), params.get("MaxRecords", _PAGE)
    shown = [_shown(item) for item in items[first : first + most]]
    more = first + most < len(items)
    return {"AlarmHistoryItems": shown, "NextToken": write_token(first + most) if more else None}


def _shown(item: HistoryItem) -> dict[str, object]:
    return {
        "AlarmName": item.alarm,
        "AlarmType": "MetricAlarm",
        "Timestamp": datetime.fromtimestamp(item.at, UTC),
        "HistoryItemType": item.kind.value,
        "HistorySummary": item.summary[:255],
        "HistoryData": item.data[:4095] or "{}",
    }


def configured(alarm: Alarm, what: str, at: float) -> HistoryItem:
    """what: created, updated or deleted."""
    data = json.dumps({"version": "1.0", "type": what.capitalize().removesuffix("d"), "alarmName": alarm.name})
    return HistoryItem(
        at, alarm.region, alarm.name, HistoryKind.CONFIGURATION_UPDATE, f'Alarm "{alarm.name}" {what}', data
    )
