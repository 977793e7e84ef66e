"""The Resource Groups Tagging API: what tools read and set tags of whole accounts with. Caches, and alarms to read.

Tag policies are of AWS Organizations: no resource is in breach of one here.
Source: botocore resourcegroupstaggingapi 2017-01-26.
"""

from __future__ import annotations

from collections.abc import Mapping

from cachekeep.api.action_resources import ANY
from cachekeep.api.context import Services
from cachekeep.api.front import Front
from cachekeep.api.gate import Gate, Visit
from cachekeep.api.tagging.operations import OPERATIONS, TaggingCall
from cachekeep.domain.faults import Fault

SERVICE = "tagging"
# The codes of readers that all services share -> those of this one.
_WORDS = {
    "MissingParameter": "InvalidParameterException",
    "InvalidParameterValue": "InvalidParameterException",
    "InvalidAction": "UnknownOperationException",
    "ServiceUnavailable": "InternalServiceException",
    "InternalFailure": "InternalServiceException",
}


class Tagging(Front):
    """gate: who may do what; None: every key may do everything."""

    def __init__(self, services: Services, gate: Gate | None = None) -> None:
        super().__init__(SERVICE, "tag", OPERATIONS, gate)
        self._services = services

    def perform(self, operation: str, visit: Visit, params: Mapping[str, object]) -> Mapping[str, object]:
        return OPERATIONS[operation].handler(TaggingCall(self._services, visit, params, self._gate))

    def resources(self, operation: str, params: Mapping[str, object], region: str) -> tuple[str, ...]:
        """None of its own: what it tags is asked about one by one, as for the service whose resource it is."""
        return (ANY,)

    def worded(self, fault: Fault) -> Fault:
        return Fault(_WORDS.get(fault.code, fault.code), fault.message, fault.status)
