"""The CloudWatch API: one request in, one answer out, in whichever of its three protocols. Called by the surface.

The caller is known already: the surface has verified the signature, whose scope names the service `monitoring`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import structlog

from cachekeep.api.action_resources import alarm_resources
from cachekeep.api.cloudwatch.call import CloudWatchCall, CloudWatchServices
from cachekeep.api.cloudwatch.operations import OPERATIONS
from cachekeep.api.cloudwatch.wire import CborWire, JsonWire, QueryWire, Wire, header
from cachekeep.api.dispatch import Answer, check_region
from cachekeep.api.gate import DENIED, Gate, Visit, tags_given
from cachekeep.codec import rpc_cbor
from cachekeep.codec.aws_model import Operation, load_service
from cachekeep.codec.sigv4 import Caller, HttpRequest
from cachekeep.domain.faults import Fault
from cachekeep.domain.identity import OK
from cachekeep.domain.ports import Conflict, WorldError

log = structlog.get_logger()

SERVICE = "monitoring"


class CloudWatch:
    """gate: who may do what; None: every key may do everything."""

    def __init__(self, services: CloudWatchServices, gate: Gate | None = None) -> None:
        self._services = services
        self._gate = gate
        self._service = load_service(SERVICE)
        self._query, self._json, self._cbor = (made(self._service) for made in (QueryWire, JsonWire, CborWire))

    def answer(self, request: HttpRequest, caller: Caller, request_id: str) -> Answer:
        """Never raises: what is wrong becomes a fault, and a bug of ours InternalFailure without its traceback."""
        try:
            return self._carry_out(request, caller, request_id)
        except Fault as fault:
            log.info("refused", service=SERVICE, region=caller.region, code=fault.code, why=fault.message)
            return self.refuse(request, fault, request_id)
        except (WorldError, Conflict) as error:
            log.warning("request could not be served", request_id=request_id, reason=str(error))
            return self.refuse(request, Fault("ServiceUnavailable", str(error)), request_id)
        except Exception:
            log.exception("request failed", request_id=request_id)
            text = f"Cachekeep failed to answer; its log tells more about {request_id}."
            return self.refuse(request, Fault("InternalFailure", text), request_id)

    def refuse(self, request: HttpRequest, fault: Fault, request_id: str) -> Answer:
        """A fault in the protocol of the request; also for what goes wrong before `answer`, such as a signature."""
        wire = self._wire(request)
        headers = {**wire.headers, **wire.fault_headers(fault)}
        return Answer(fault.status, wire.fault(fault, request_id), request_id, wire.content_type, headers)

    def may_run_in_thread(self, request: HttpRequest) -> bool:
        """What is asked for reads series and nothing else; it may take some ten milliseconds, and more."""
        try:
            entry = OPERATIONS.get(self._wire(request).operation(request))
        except Fault:
            return False
        return entry is not None and entry.in_thread

    def speaks(self, request: HttpRequest) -> bool:
        """By its protocol it can only be for this API: ElastiCache is asked by forms alone."""
        target = header(request, "x-amz-target")
        return request.path.startswith("/service/") or target.startswith(f"{self._service.target}.")

    def _carry_out(self, request: HttpRequest, caller: Caller, request_id: str) -> Answer:
        check_region(caller)
        wire = self._wire(request)
        visit = Visit(request_id, request.source, caller.access_key, caller.region)
        with self._let_in(wire, visit, request) as (operation, params):
            result = OPERATIONS[operation.name].handler(CloudWatchCall(self._services, caller.region, params))
        log.debug("answered", operation=operation.name, region=caller.region, access_key=caller.access_key)
        body = wire.answer(operation, result, request_id)
        return Answer(200, body, request_id, wire.content_type, wire.headers)

    @contextmanager
    def _let_in(
        self, wire: Wire, visit: Visit, request: HttpRequest
    ) -> Iterator[tuple[Operation, Mapping[str, object]]]:
        """Read, asked about at the gate, and written down however it ends. Raises Fault."""
        outcome = "InternalFailure"
        try:
            name = wire.operation(request)
            if name in OPERATIONS:
                visit.asks("cloudwatch", name)
            operation, params = wire.read(request)
            visit.asks("cloudwatch", operation.name)
            if self._gate is not None:
                account = self._services.account_id
                visit.resources = alarm_resources(operation.name, params, visit.region, account)
                visit.parameters = params
                try:
                    self._gate.check(visit, visit.region, tags_given(params))
                except Fault as fault:
                    # The name of the fault in the model of services that speak JSON.
                    named = fault.code if isinstance(wire, QueryWire) else f"{fault.code}Exception"
                    raise Fault(named if fault.code == DENIED else fault.code, fault.message, fault.status) from None
            yield operation, params
            outcome = OK
        except Fault as fault:
            outcome = fault.code.removesuffix("Exception") if fault.code.startswith(DENIED) else fault.code
            raise
        except (WorldError, Conflict):
            outcome = "ServiceUnavailable"
            raise
        finally:
            if self._gate is not None:
                self._gate.end(visit, outcome)

    def _wire(self, request: HttpRequest) -> Wire:
        if header(request, "smithy-protocol") == rpc_cbor.PROTOCOL or request.path.startswith("/service/"):
            return self._cbor
        return self._json if header(request, "x-amz-target") else self._query
