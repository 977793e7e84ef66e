"""LogDeliveryConfigurations: what a request asks for, and how it is shown.

Rules: ElastiCache guide, "Log delivery" (slow log from Redis OSS 6.0, engine log from 6.2, neither for Memcached; one
configuration per log type); always applied immediately.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from enum import StrEnum
from typing import Any, TypeVar

from cachekeep.api.context import Call
from cachekeep.domain.cache_cluster import Upkeep
from cachekeep.domain.engine import Engine, EngineVersion
from cachekeep.domain.faults import invalid_combination, invalid_value
from cachekeep.domain.log_delivery import DestinationType, LogDelivery, LogFormat, LogStatus, LogType

E = TypeVar("E", bound=StrEnum)
_SINCE = {LogType.SLOW: EngineVersion((6, 0)), LogType.ENGINE: EngineVersion((6, 2))}


def with_log_deliveries(call: Call, upkeep: Upkeep, engine: Engine, version: EngineVersion) -> Upkeep:
    """The upkeep with what the request changes of log delivery. Raises InvalidParameterValue and -Combination."""
    asked = call.params.get("LogDeliveryConfigurations")
    if not asked:
        return upkeep
    if not engine.speaks_resp:
        raise invalid_combination("Log delivery is not supported for the engine memcached.")
    found = {delivery.log_type: delivery for delivery in upkeep.log_deliveries}
    named: set[LogType] = set()
    for item in asked:
        log_type = _choice(item, "LogType", LogType)
        if log_type is None:
            raise invalid_value("LogType must be provided in each of LogDeliveryConfigurations.")
        if log_type in named:
            raise invalid_value(f"Only one log delivery configuration can be given for the log type {log_type.value}.")
        named.add(log_type)
        found[log_type] = _asked(item, log_type, found.get(log_type), engine, version)
    return replace(upkeep, log_deliveries=tuple(found[log_type] for log_type in LogType if log_type in found))


def _asked(
    item: Mapping[str, Any], log_type: LogType, now: LogDelivery | None, engine: Engine, version: EngineVersion
) -> LogDelivery:
    if item.get("Enabled") is False:
        if now is None:
            raise invalid_combination(f"Log delivery of {log_type.value} is not enabled, so it cannot be disabled.")
        return replace(now, status=LogStatus.DISABLING, message="")
    if version < _SINCE[log_type]:
        raise invalid_combination(
            f"{log_type.value} can be delivered from engine version {_SINCE[log_type]} on, and this is "
            f"{engine.label} {version}."
        )
    before = now if now is not None and now.is_wanted else None
    kind = _choice(item, "DestinationType", DestinationType) or (before.destination_type if before else None)
    written = _choice(item, "LogFormat", LogFormat) or (before.log_format if before else None)
    if kind is None or written is None:
        missing = "DestinationType" if kind is None else "LogFormat"
        raise invalid_value(f"{missing} must be provided to deliver {log_type.value}.")
    name = _destination(item, kind)
    if name is None and before is not None and before.destination_type is kind:
        name = before.destination
    if name is None:
        raise invalid_value(f"DestinationDetails must name where {log_type.value} is delivered ({kind.value}).")
    try:
        new = LogDelivery(log_type, kind, name, written)
    except ValueError as error:
        raise invalid_value(f"DestinationDetails: {error}.") from None
    if before is None:
        return new
    return before if before.route == new.route else replace(new, status=LogStatus.MODIFYING)


def _choice(item: Mapping[str, Any], name: str, words: type[E]) -> E | None:
    text = item.get(name)
    if text is None:
        return None
    try:
        return words(text)
    except ValueError:
        possible = ", ".join(word.value for word in words)
        raise invalid_value(f"Invalid {name} {str(text)[:40]!r}: it must be one of {possible}.") from None


def _destination(item: Mapping[str, Any], kind: DestinationType) -> str | None:
    details = item.get("DestinationDetails") or {}
    cloudwatch = details.get("CloudWatchLogsDetails") or {}
    firehose = details.get("KinesisFirehoseDetails") or {}
    if (cloudwatch and kind is not DestinationType.CLOUDWATCH_LOGS) or (
        firehose and kind is not DestinationType.FIREHOSE
    ):
        raise invalid_combination(f"DestinationDetails are not those of the destination type {kind.value}.")
    name = cloudwatch.get("LogGroup") if kind is DestinationType.CLOUDWATCH_LOGS else firehose.get("DeliveryStream")
    return None if name is None else str(name)


def shown(upkeep: Upkeep) -> list[dict[str, Any]]:
    """LogDeliveryConfigurations of a describe."""
    return [
        _plain(delivery) | {"Status": delivery.status.value, "Message": delivery.message or None}
        for delivery in upkeep.log_deliveries
    ]


def pending(upkeep: Upkeep) -> dict[str, Any]:
    """For PendingModifiedValues: those that are on their way."""
    coming = [
        _plain(delivery)
        for delivery in upkeep.log_deliveries
        if delivery.status in (LogStatus.ENABLING, LogStatus.MODIFYING)
    ]
    return {"LogDeliveryConfigurations": coming} if coming else {}


def _plain(delivery: LogDelivery) -> dict[str, Any]:
    if delivery.destination_type is DestinationType.CLOUDWATCH_LOGS:
        details = {"CloudWatchLogsDetails": {"LogGroup": delivery.destination}}
    else:
        details = {"KinesisFirehoseDetails": {"DeliveryStream": delivery.destination}}
    return {
        "LogType": delivery.log_type.value,
        "DestinationType": delivery.destination_type.value,
        "DestinationDetails": details,
        "LogFormat": delivery.log_format.value,
    }
