"""boto3 clients that ask a front directly, without a network, in the protocol that is named."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from io import BytesIO
from typing import Any
from urllib.parse import urlsplit

import boto3
from botocore.awsrequest import AWSPreparedRequest, AWSResponse
from botocore.config import Config
from botocore.serialize import create_serializer

from cachekeep.api.dispatch import Answer
from cachekeep.codec.sigv4 import HttpRequest

Send = Callable[[HttpRequest], Answer]
# Who answers the clients now: one takes a third of a second to make, so that tests share them.
_AT: dict[str, Send] = {}


def direct_client(service: str, region: str, protocol: str, send: Send) -> Any:
    _AT[service] = send
    return _client(service, region, protocol)


class _Raw(BytesIO):
    def stream(self, **_: object) -> list[bytes]:
        return [self.read()]


def _answer(service: str, request: AWSPreparedRequest) -> AWSResponse:
    parts = urlsplit(request.url)
    headers = [(n.lower(), v.decode() if isinstance(v, bytes) else v) for n, v in request.headers.items()]
    body = request.body or b""
    body = body.encode() if isinstance(body, str) else body
    answer = _AT[service](HttpRequest(request.method, parts.path, parts.query, headers, body))
    return AWSResponse(
        request.url,
        answer.status,
        {"content-type": answer.content_type, **answer.headers, "x-amzn-requestid": answer.request_id},
        _Raw(answer.body),
    )


@cache
def _client(service: str, region: str, protocol: str) -> Any:
    made = boto3.Session("AKID", "secret", region_name=region).client(
        service,
        endpoint_url="http://127.0.0.1:1",
        config=Config(retries={"max_attempts": 0}, parameter_validation=False),
    )
    # Another protocol than the one it chose.
    made.meta.service_model.__dict__["resolved_protocol"] = protocol
    made._serializer = create_serializer(protocol, include_validation=False)
    made.meta.events.register("before-send", lambda request, **_: _answer(service, request))
    return made
