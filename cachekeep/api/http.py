"""The HTTP surface: the AWS endpoint at `/`, a health probe, and the signed pages of the CLI: status and journal."""

from __future__ import annotations

import asyncio
import json
import math
from collections.abc import Callable, Mapping
from typing import Any

from starlette.applications import Starlette
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from cachekeep.api.dispatch import OWN_SERVICE, Answer, Dispatcher, new_request_id
from cachekeep.codec.query import MAX_BODY_BYTES
from cachekeep.codec.sigv4 import HttpRequest
from cachekeep.codec.xml import encode_fault
from cachekeep.domain.faults import Fault, invalid_value

NAMESPACE = "http://elasticache.amazonaws.com/doc/2015-02-02/"
# How many notes of a journal are told at once, at most and unless told otherwise.
MOST_NOTES = 5000
USUAL_NOTES = 1000
# How long a request may take to arrive.
BODY_DEADLINE_S = 60.0
# How much of a body that is too long is read and thrown away, so that a client that sends first and reads afterwards
# still finds the answer. Whatever sends more than that loses its connection.
MAX_DRAIN_BYTES = 32 << 20
DRAIN_DEADLINE_S = 5.0


def build(dispatcher: Dispatcher, version: str, status: Callable[[], Mapping[str, Any]]) -> Starlette:
    """The ASGI application. status: what the status page shows, as JSON values."""

    async def api(request: Request) -> Response:
        try:
            async with asyncio.timeout(BODY_DEADLINE_S):
                body = await _body(request)
        except TimeoutError:
            return _hang_up(Fault("RequestTimeout", f"The request did not arrive within {BODY_DEADLINE_S:g} s.", 408))
        except ClientDisconnect:
            return Response(status_code=400)  # nobody reads it
        if body is None:
            await _drain(request)
            return _hang_up(Fault("RequestEntityTooLarge", f"A request can have at most {MAX_BODY_BYTES} bytes.", 413))
        return _response(dispatcher.answer(_http_request(request, body)))

    async def healthz(_: Request) -> Response:
        return JSONResponse({"service": "cachekeep", "version": version})

    async def status_page(request: Request) -> Response:
        return _page(dispatcher, request, lambda _: status())

    async def journal_page(request: Request) -> Response:
        return _page(dispatcher, request, lambda region: _journal(dispatcher, request, region))

    return Starlette(
        routes=[
            Route("/", api, methods=["GET", "POST"]),
            Route("/healthz", healthz, methods=["GET"]),
            Route("/_cachekeep/status", status_page, methods=["GET"]),
            Route("/_cachekeep/journal", journal_page, methods=["GET"]),
        ]
    )


def _page(dispatcher: Dispatcher, request: Request, page: Callable[[str], Mapping[str, Any]]) -> Response:
    """A signed page as JSON. page: is given the region of the signature, and may raise a Fault."""
    try:
        caller = dispatcher.authenticate(_http_request(request, b""))
        if caller.service != OWN_SERVICE:
            raise Fault("SignatureDoesNotMatch", f"Credential should be scoped to '{OWN_SERVICE}'.")
        return Response(json.dumps(page(caller.region)), media_type="application/json")
    except Fault as fault:
        return JSONResponse({"code": fault.code, "message": fault.message}, status_code=fault.status)


def _journal(dispatcher: Dispatcher, request: Request, region: str) -> dict[str, Any]:
    """?name=&region=&since=&limit=: the newest notes since then (seconds since 1970), oldest first."""
    asked = request.query_params
    since, limit = _number(asked.get("since", "0")), int(_number(asked.get("limit", str(USUAL_NOTES))))
    region = asked.get("region") or region
    name = asked.get("name", "").lower()
    owner, notes = dispatcher.journal(region, name, since=since, limit=max(1, min(limit, MOST_NOTES)))
    return {
        "region": region,
        "resource": owner,
        "notes": [{"at": note.at, "sentence": note.sentence} for note in notes],
    }


def _number(text: str) -> float:
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not math.isfinite(number):
        raise invalid_value(f"since and limit must be numbers, not {text[:40]!r}.")
    return number


async def _body(request: Request) -> bytes | None:
    """The whole body, or None as soon as it is longer than any request may be."""
    parts: list[bytes] = []
    size = 0
    async for part in request.stream():
        size += len(part)
        if size > MAX_BODY_BYTES:
            return None
        parts.append(part)
    return b"".join(parts)


async def _drain(request: Request) -> None:
    """Read on, keeping nothing, until the body ends or the patience does."""
    size = 0
    try:
        async with asyncio.timeout(DRAIN_DEADLINE_S):
            while size < MAX_DRAIN_BYTES:
                message = await request.receive()
                if message["type"] != "http.request" or not message.get("more_body", False):
                    return
                size += len(message.get("body", b""))
    except TimeoutError:
        return


def _http_request(request: Request, body: bytes) -> HttpRequest:
    scope = request.scope
    return HttpRequest(
        method=request.method,
        path=scope["raw_path"].decode("latin-1"),
        query=scope["query_string"].decode("latin-1"),
        headers=[(name.decode("latin-1").lower(), value.decode("latin-1")) for name, value in scope["headers"]],
        body=body,
    )


def _response(answer: Answer) -> Response:
    headers = {"x-amzn-RequestId": answer.request_id}
    return Response(answer.body, answer.status, headers, media_type=answer.content_type)


def _hang_up(fault: Fault) -> Response:
    """An answer after which the connection is closed: where the next request would begin is not known."""
    request_id = new_request_id()
    answer = _response(Answer(fault.status, encode_fault(NAMESPACE, fault, request_id), request_id))
    answer.headers["connection"] = "close"
    return answer
