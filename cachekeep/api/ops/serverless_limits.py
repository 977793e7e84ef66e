"""What a request for a serverless cache says of its limits and snapshots, and what of it is not there yet."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from cachekeep.api.context import Call
from cachekeep.domain.engine import Engine
from cachekeep.domain.faults import invalid_combination, invalid_value, not_available_yet
from cachekeep.domain.serverless import ServerlessCache, UsageLimits

# Source: ElastiCache guide, "Setting scaling limits to manage costs".
_STORAGE_GB = (1, 5000)
_ECPU = (1000, 15_000_000)
_MOST_RETENTION_DAYS = 35
_TIME = re.compile(r"([01][0-9]|2[0-3]):[0-5][0-9]\Z")
# Parameters without effect here, and what counts as not asking for it.
_NOT_YET: Mapping[str, tuple[object, ...]] = {
    "ConnectionType": ("vpc",),
    "Integrations": ([],),
    "NetworkType": ("ipv4",),
}


def refuse_not_yet(call: Call) -> None:
    """Raises InvalidParameterCombination for the first parameter that asks for what is not there yet."""
    for name, harmless in _NOT_YET.items():
        value = call.params.get(name)
        if value is not None and value not in harmless:
            raise not_available_yet(f"The parameter {name}")


def choose_limits(call: Call, now: UsageLimits | None = None) -> UsageLimits:
    """Those given; what is not given stays as it is. Raises InvalidParameterValue or InvalidParameterCombination."""
    given: Mapping[str, Any] = call.params.get("CacheUsageLimits") or {}
    now = now or UsageLimits()
    storage = _pair("DataStorage", given, _STORAGE_GB) or (now.storage_most_gb, now.storage_least_gb)
    ecpu = _pair("ECPUPerSecond", given, _ECPU) or (now.ecpu_most, now.ecpu_least)
    return UsageLimits(*storage, *ecpu)


def _pair(name: str, given: Mapping[str, Any], bounds: tuple[int, int]) -> tuple[int | None, int | None] | None:
    """Maximum and Minimum; None when nothing is said of it."""
    part: Mapping[str, Any] | None = given.get(name)
    if part is None:
        return None
    most, least = part.get("Maximum"), part.get("Minimum")
    for word, value in (("Maximum", most), ("Minimum", least)):
        if value is not None and not bounds[0] <= value <= bounds[1]:
            raise invalid_value(f"{name} {word} must be between {bounds[0]} and {bounds[1]}, and {value} was given.")
    if most is not None and least is not None and least > most:
        raise invalid_combination(f"{name} Minimum {least} is above its Maximum {most}.")
    return most, least


def choose_snapshots(call: Call, engine: Engine, now: ServerlessCache | None = None) -> tuple[int, str | None]:
    """Retention in days, and the daily time. Raises InvalidParameterValue or InvalidParameterCombination."""
    days, daily = call.number("SnapshotRetentionLimit"), call.text("DailySnapshotTime")
    if not engine.speaks_resp and (days or daily is not None):
        raise invalid_combination("Memcached has no snapshots.")
    if days is not None and not 0 <= days <= _MOST_RETENTION_DAYS:
        raise invalid_value(f"SnapshotRetentionLimit must be between 0 and {_MOST_RETENTION_DAYS}, not {days}.")
    if daily is not None and not _TIME.match(daily):
        raise invalid_value(f"Invalid DailySnapshotTime {daily[:20]!r}: it must be hh24:mi, such as 09:00.")
    return (
        days if days is not None else now.snapshot_retention_days if now is not None else 0,
        daily if daily is not None else now.daily_snapshot_time if now is not None else None,
    )
