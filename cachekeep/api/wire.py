"""The protocols of the APIs beside ElastiCache's: the reading of a request, and answers in its shape."""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Final

from cachekeep.codec import json_protocol, query, rpc_cbor, xml
from cachekeep.codec.aws_model import Operation, Service
from cachekeep.codec.sigv4 import HttpRequest
from cachekeep.domain.faults import Fault

# A form of 500 queries has some 15 fields for each.
_MAX_FIELDS: Final = 20_000
_ACTION: Final = re.compile(rb"(?:^|&)Action=([A-Za-z]+)(?=&|$)")


class Wire(ABC):
    """One protocol. headers: what every answer carries, beside the id of the request."""

    content_type: str = "text/xml"
    headers: Mapping[str, str] = {}

    def __init__(self, service: Service) -> None:
        self.service = service

    @abstractmethod
    def operation(self, request: HttpRequest) -> str:
        """The name of what is asked for; "" when there is none."""

    @abstractmethod
    def read(self, request: HttpRequest) -> tuple[Operation, Mapping[str, object]]:
        """Raises Fault."""

    @abstractmethod
    def answer(self, operation: Operation, result: Mapping[str, object], request_id: str) -> bytes: ...

    @abstractmethod
    def fault(self, fault: Fault, request_id: str) -> bytes: ...

    def fault_headers(self, fault: Fault) -> Mapping[str, str]:
        return {"x-amzn-query-error": json_protocol.query_error(fault)} if self.service.was_query else {}

    def _known(self, name: str) -> Operation:
        operation = self.service.operations.get(name)
        if operation is None:
            text = f"Could not find operation {name[:100]} for version {self.service.api_version}"
            raise Fault("InvalidAction", text, 400)
        return operation


class QueryWire(Wire):
    def operation(self, request: HttpRequest) -> str:
        """Looked for, and not read: a form of some ten thousand fields is read once, by `read`."""
        found = _ACTION.search(self._form(request))
        return found[1].decode() if found else ""

    def read(self, request: HttpRequest) -> tuple[Operation, Mapping[str, object]]:
        fields = query.parse_form(self._form(request), max_fields=_MAX_FIELDS)
        return query.decode_request(self.service, fields)

    def _form(self, request: HttpRequest) -> bytes:
        return request.body if request.method == "POST" and request.body else request.query.encode("ascii", "replace")

    def answer(self, operation: Operation, result: Mapping[str, object], request_id: str) -> bytes:
        return xml.encode_response(self.service, operation, result, request_id)

    def fault(self, fault: Fault, request_id: str) -> bytes:
        return xml.encode_fault(self.service.namespace, fault, request_id)

    def fault_headers(self, fault: Fault) -> Mapping[str, str]:
        return {}


class JsonWire(Wire):
    def __init__(self, service: Service) -> None:
        super().__init__(service)
        self.content_type = f"application/x-amz-json-{service.json_version}"

    def operation(self, request: HttpRequest) -> str:
        return header(request, "x-amz-target").removeprefix(f"{self.service.target}.")

    def read(self, request: HttpRequest) -> tuple[Operation, Mapping[str, object]]:
        operation = self._known(self.operation(request))
        return operation, json_protocol.decode_json(operation.input, request.body)

    def answer(self, operation: Operation, result: Mapping[str, object], request_id: str) -> bytes:
        return json_protocol.encode_json(operation.output, result)

    def fault(self, fault: Fault, request_id: str) -> bytes:
        return json_protocol.encode_json_fault(self.service, fault)


class CborWire(Wire):
    content_type = rpc_cbor.CONTENT_TYPE
    headers: Mapping[str, str] = {"smithy-protocol": rpc_cbor.PROTOCOL}

    def operation(self, request: HttpRequest) -> str:
        return rpc_cbor.operation_of(self.service, request.path) or ""

    def read(self, request: HttpRequest) -> tuple[Operation, Mapping[str, object]]:
        operation = self._known(self.operation(request))
        return operation, rpc_cbor.decode_cbor(operation.input, request.body)

    def answer(self, operation: Operation, result: Mapping[str, object], request_id: str) -> bytes:
        return rpc_cbor.encode_cbor(operation.output, result)

    def fault(self, fault: Fault, request_id: str) -> bytes:
        return rpc_cbor.encode_cbor_fault(self.service, fault)


def header(request: HttpRequest, name: str) -> str:
    return next((value for key, value in request.headers if key == name), "")
