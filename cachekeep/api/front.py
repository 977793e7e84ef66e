"""An API beside ElastiCache's: one request in, one answer out, in whichever protocol. Called by the surface.

The caller is known already: the surface has verified the signature, whose scope names the service.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager

import structlog

from cachekeep.api.dispatch import Answer, check_region
from cachekeep.api.gate import DENIED, Gate, Visit, tags_given
from cachekeep.api.wire import CborWire, JsonWire, QueryWire, Wire, header
from cachekeep.codec import rpc_cbor
from cachekeep.codec.aws_model import Operation, load_service
from cachekeep.codec.sigv4 import Caller, HttpRequest
from cachekeep.domain.faults import Fault
from cachekeep.domain.identity import OK
from cachekeep.domain.ports import Conflict, WorldError

log = structlog.get_logger()


class Front(ABC):
    """service: in the scope of credentials. prefix: of its actions in policies. operations: those carried out. gate:
    who may do what; None: every key may do everything."""

    def __init__(self, service: str, prefix: str, operations: Collection[str], gate: Gate | None) -> None:
        self.service, self._prefix, self._operations, self._gate = service, prefix, operations, gate
        self._model = load_service(service)
        self._query, self._json, self._cbor = (made(self._model) for made in (QueryWire, JsonWire, CborWire))

    @abstractmethod
    def perform(self, operation: str, visit: Visit, params: Mapping[str, object]) -> Mapping[str, object]:
        """Carry out what is allowed already; the answer by the model's names. Raises Fault."""

    @abstractmethod
    def resources(self, operation: str, params: Mapping[str, object], region: str) -> tuple[str, ...]:
        """The ARNs that policies are asked about."""

    def in_thread(self, operation: str) -> bool:
        """It reads series and nothing else; it may take some ten milliseconds, and more."""
        return False

    def worded(self, fault: Fault) -> Fault:
        """In the words of this service, where they differ from those of the code that it shares."""
        return fault

    def answer(self, request: HttpRequest, caller: Caller, request_id: str) -> Answer:
        """Never raises: what is wrong becomes a fault, and a bug of ours InternalFailure without its traceback."""
        try:
            return self._carry_out(request, caller, request_id)
        except Fault as fault:
            log.info("refused", service=self.service, region=caller.region, code=fault.code, why=fault.message)
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
        wire, fault = self._wire(request), self.worded(fault)
        headers = {**wire.headers, **wire.fault_headers(fault)}
        return Answer(fault.status, wire.fault(fault, request_id), request_id, wire.content_type, headers)

    def may_run_in_thread(self, request: HttpRequest) -> bool:
        try:
            return self.in_thread(self._wire(request).operation(request))
        except Fault:
            return False

    def speaks(self, request: HttpRequest) -> bool:
        """By its protocol it can only be for this API: ElastiCache is asked by forms alone."""
        target = self._model.target
        return request.path.startswith(f"/service/{target}/") or header(request, "x-amz-target").startswith(
            f"{target}."
        )

    def _carry_out(self, request: HttpRequest, caller: Caller, request_id: str) -> Answer:
        check_region(caller)
        wire = self._wire(request)
        visit = Visit(request_id, request.source, caller.access_key, caller.region)
        with self._let_in(wire, visit, request) as (operation, params):
            result = self.perform(operation.name, visit, params)
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
            if name in self._operations:
                visit.asks(self._prefix, name)
            operation, params = wire.read(request)
            visit.asks(self._prefix, operation.name)
            if self._gate is not None:
                visit.resources = self.resources(operation.name, params, visit.region)
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
        return self._json if header(request, "x-amz-target") or not self._model.namespace else self._query
