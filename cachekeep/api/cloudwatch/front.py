"""The CloudWatch API, in its three protocols."""

from __future__ import annotations

from collections.abc import Mapping

from cachekeep.api.action_resources import alarm_resources
from cachekeep.api.cloudwatch.call import CloudWatchCall, CloudWatchServices
from cachekeep.api.cloudwatch.operations import OPERATIONS
from cachekeep.api.front import Front
from cachekeep.api.gate import Gate, Visit

SERVICE = "monitoring"


class CloudWatch(Front):
    """gate: who may do what; None: every key may do everything."""

    def __init__(self, services: CloudWatchServices, gate: Gate | None = None) -> None:
        super().__init__(SERVICE, "cloudwatch", OPERATIONS, gate)
        self._services = services

    def perform(self, operation: str, visit: Visit, params: Mapping[str, object]) -> Mapping[str, object]:
        return OPERATIONS[operation].handler(CloudWatchCall(self._services, visit.region, params))

    def resources(self, operation: str, params: Mapping[str, object], region: str) -> tuple[str, ...]:
        return alarm_resources(operation, params, region, self._services.account_id)

    def in_thread(self, operation: str) -> bool:
        entry = OPERATIONS.get(operation)
        return entry is not None and entry.in_thread
