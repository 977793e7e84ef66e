"""What an operation of the CloudWatch API works with, and the faults in CloudWatch's words."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from cachekeep.domain.alarms import AlarmState
from cachekeep.domain.faults import Fault
from cachekeep.domain.metric_ports import SeriesStore
from cachekeep.domain.metrics import Metric
from cachekeep.domain.ports import Store, WorldError

# Region, alarm, state, reason and its data as JSON: see monitor.alarms. Raises Fault.
SetState = Callable[[str, str, AlarmState, str, str], None]

# The shape of an answer: by the model's names. Timestamps are seconds since 1970.
Result = Mapping[str, object]


def _set_nothing(region: str, name: str, state: AlarmState, reason: str, data: str) -> None:
    raise WorldError("alarms are not evaluated here, so their states cannot be set")


@dataclass(frozen=True)
class CloudWatchServices:
    """metrics: definitions by the name of the metric. now: seconds since 1970. set_state: enters a state, and has the
    actions of the alarm carried out. Reads of metrics touch nothing but
    `series`, `metrics` and `now`, so that they can run in a thread."""

    series: SeriesStore
    metrics: Mapping[str, Metric]
    store: Store
    now: Callable[[], float]
    account_id: str
    set_state: SetState = _set_nothing


@dataclass(frozen=True)
class CloudWatchCall:
    """One authenticated request: its region is the one of its signature."""

    services: CloudWatchServices
    region: str
    params: Mapping[str, Any]

    def text(self, name: str) -> str | None:
        value = self.params.get(name)
        return value if isinstance(value, str) else None

    def texts(self, name: str) -> tuple[str, ...]:
        return tuple(self.params.get(name) or ())


def validation_error(message: str) -> Fault:
    return Fault("ValidationError", message)


def bad_token() -> Fault:
    return Fault("InvalidNextToken", "The next token specified is invalid.")
