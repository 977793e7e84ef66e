"""Maintenance and snapshot windows: reading, checking, choosing a default, and whether one is open. Pure.

Sources: ElastiCache guide, "Managing maintenance" (60 minutes at least, UTC, the 8-hour block per region).
"""

from __future__ import annotations

import re
import zlib
from datetime import UTC, datetime

from cachekeep.domain.cache_cluster import CacheCluster, Status
from cachekeep.domain.faults import invalid_value
from cachekeep.domain.replication_group import ReplicationGroup

_DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
_MAINTENANCE = re.compile(r"([a-z]{3}):(\d\d):(\d\d)-([a-z]{3}):(\d\d):(\d\d)\Z", re.ASCII)
_DAILY = re.compile(r"(\d\d):(\d\d)-(\d\d):(\d\d)\Z", re.ASCII)
_DAY_M = 24 * 60
_WEEK_M = 7 * _DAY_M
# First hour (UTC) of the 8-hour block in which a region's default windows lie; 22:00 for those not listed, which are
# newer than the guide's table.
_BLOCK_STARTS = {
    "us-east-1": 3, "us-east-2": 4, "us-west-1": 6, "us-west-2": 6, "ca-central-1": 3, "sa-east-1": 1,
    "eu-west-1": 22, "eu-west-2": 23, "eu-central-1": 23, "ap-southeast-1": 14, "ap-southeast-2": 12,
    "ap-northeast-1": 13, "ap-northeast-2": 12, "ap-northeast-3": 12, "ap-south-1": 17.5, "ap-east-1": 13,
    "cn-north-1": 14, "cn-northwest-1": 14, "eu-west-3": 23 + 59 / 60, "eu-south-1": 21, "af-south-1": 13,
    "me-south-1": 13, "us-gov-west-1": 6,
}  # fmt: skip


def maintenance_window(text: str) -> str:
    """The window in lower case. Raises InvalidParameterValue unless it is `ddd:hh24:mi-ddd:hh24:mi`, 60 min long."""
    _, length = _maintenance_minutes(text.lower())
    if not 60 <= length <= _DAY_M:
        raise invalid_value(f"The maintenance window {text} must be at least 60 minutes and at most 24 hours long.")
    return text.lower()


def snapshot_window(text: str) -> str:
    """Raises InvalidParameterValue unless it is `hh24:mi-hh24:mi`, 60 minutes long at least."""
    found = _DAILY.match(text)
    if not found:
        raise invalid_value(f"Invalid snapshot window {text[:40]!r}. Should be specified as a range hh24:mi-hh24:mi.")
    start, end = _clock(found[1], found[2], text), _clock(found[3], found[4], text)
    if (end - start) % _DAY_M < 60:
        raise invalid_value(f"The snapshot window {text} must be at least 60 minutes long.")
    return text


def is_open(window: str, now: float) -> bool:
    """Whether the weekly window is open at `now` (seconds since 1970)."""
    start, length = _maintenance_minutes(window)
    moment = datetime.fromtimestamp(now, UTC)
    minute = moment.weekday() * _DAY_M + moment.hour * 60 + moment.minute
    return (minute - start) % _WEEK_M < length


def is_due(resource: ReplicationGroup | CacheCluster, now: float) -> bool:
    """Something waits for the window, the window is open, and nothing else is being done."""
    return (
        resource.status is Status.AVAILABLE
        and resource.pending.anything
        and is_open(resource.upkeep.maintenance_window, now)
    )


def default_maintenance_window(region: str, name: str) -> str:
    """One hour in the region's block; the same for the same name, so that nothing is random."""
    number = zlib.crc32(f"{region}/{name}".encode())
    start = _block_minute(region) + (number % _starts(region)) * 30
    day = (number // 14) % 7
    first = day * _DAY_M + start
    return f"{_moment(first)}-{_moment(first + 60)}"


def default_snapshot_window(region: str, name: str) -> str:
    start = (_block_minute(region) + (zlib.crc32(name.encode()) % _starts(region)) * 30) % _DAY_M
    end = (start + 60) % _DAY_M
    return f"{start // 60:02d}:{start % 60:02d}-{end // 60:02d}:{end % 60:02d}"


def daily_window(region: str, name: str, start: str | None) -> str:
    """The hour in which a serverless cache's daily snapshot is taken. start: `hh24:mi`, None where nothing was said."""
    if start is None:
        return default_snapshot_window(region, name)
    end = (int(start[:2]) * 60 + int(start[3:]) + 60) % _DAY_M
    return f"{start}-{end // 60:02d}:{end % 60:02d}"


def _block_minute(region: str) -> int:
    return round(_BLOCK_STARTS.get(region, 22) * 60)


def _starts(region: str) -> int:
    """How many half hours of the block a window of 60 minutes can begin at. Paris has 7 h 30 min (23:59-07:29)."""
    return 14 if region != "eu-west-3" else 13


def _moment(minute: int) -> str:
    minute %= _WEEK_M
    return f"{_DAYS[minute // _DAY_M]}:{minute % _DAY_M // 60:02d}:{minute % 60:02d}"


def _maintenance_minutes(text: str) -> tuple[int, int]:
    """Start (minutes from Monday 00:00) and length."""
    found = _MAINTENANCE.match(text)
    if not found or found[1] not in _DAYS or found[4] not in _DAYS:
        raise invalid_value(
            f"Invalid maintenance window {text[:40]!r}. Should be specified as a range ddd:hh24:mi-ddd:hh24:mi."
        )
    start = _DAYS.index(found[1]) * _DAY_M + _clock(found[2], found[3], text)
    end = _DAYS.index(found[4]) * _DAY_M + _clock(found[5], found[6], text)
    return start, (end - start) % _WEEK_M


def _clock(hours: str, minutes: str, text: str) -> int:
    if int(hours) > 23 or int(minutes) > 59:
        raise invalid_value(f"Invalid time in the window {text!r}: hours are 00-23, minutes 00-59.")
    return int(hours) * 60 + int(minutes)
