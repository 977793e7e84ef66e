"""The HTTP surface: the AWS endpoint at `/`, a health probe, and the signed pages of the CLI (see api.pages)."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence

from starlette.applications import Starlette
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, RedirectResponse, Response
from starlette.routing import BaseRoute, Route

from cachekeep.api.dispatch import OWN_SERVICE, Answer, Dispatcher, new_request_id
from cachekeep.api.front import Front
from cachekeep.api.gate import Visit
from cachekeep.api.pages import Page, PageCall, journal_page, json_body, let_in
from cachekeep.codec.query import MAX_BODY_BYTES
from cachekeep.codec.sigv4 import HttpRequest
from cachekeep.codec.xml import encode_fault
from cachekeep.domain.faults import Fault
from cachekeep.domain.ports import WorldError

NAMESPACE = "http://elasticache.amazonaws.com/doc/2015-02-02/"
# How long a request may take to arrive.
BODY_DEADLINE_S = 60.0
# How much of a body that is too long is read and thrown away, so that a client that sends first and reads afterwards
# still finds the answer. Whatever sends more than that loses its connection.
MAX_DRAIN_BYTES = 32 << 20
DRAIN_DEADLINE_S = 5.0
Endpoint = Callable[[Request], Awaitable[Response]]


def build(
    dispatcher: Dispatcher,
    version: str,
    pages: Mapping[str, Page],
    writable: Collection[str] = (),
    fronts: Sequence[Front] = (),
    more: Sequence[BaseRoute] = (),
    scrape: BaseRoute | None = None,
) -> Starlette:
    """The ASGI application. pages: by the name that stands behind `/_cachekeep/`; the journal is there anyway.
    writable: the names of those that take a POST too. fronts: APIs beside ElastiCache's. more: routes beside these; a
    browser that asks for `/` is sent to `/ui`, which is one of them. scrape: `/metrics`."""

    api = _api(dispatcher, fronts, browsers_elsewhere=bool(more))

    async def healthz(_: Request) -> Response:
        return JSONResponse({"service": "cachekeep", "version": version})

    return Starlette(
        routes=[
            Route("/", api, methods=["GET", "POST"]),
            *([Route("/service/{service}/operation/{operation}", api, methods=["POST"])] if fronts else []),
            Route("/healthz", healthz, methods=["GET"]),
            *(
                Route(
                    f"/_cachekeep/{name}",
                    _paged(dispatcher, handler),
                    methods=["GET", "POST"] if name in writable else ["GET"],
                )
                for name, handler in {"journal": journal_page(dispatcher), **pages}.items()
            ),
            *([scrape] if scrape else []),
            *more,
        ]
    )


def _api(dispatcher: Dispatcher, fronts: Sequence[Front], *, browsers_elsewhere: bool) -> Endpoint:
    """What answers requests of AWS's clients."""

    async def api(request: Request) -> Response:
        if browsers_elsewhere and _is_browser(request):
            return RedirectResponse("/ui", 303)
        try:
            async with asyncio.timeout(BODY_DEADLINE_S):
                body = await _body(request)
        except TimeoutError:
            return _hang_up(Fault("RequestTimeout", f"The request did not arrive within {BODY_DEADLINE_S:g} s.", 408))
        except ClientDisconnect:
            return Response(status_code=400)  # nobody reads it
        asked = http_request(request, body or b"")
        front = _front_of(fronts, asked)
        if body is None:
            await _drain(request)
            text = f"A request can have at most {MAX_BODY_BYTES} bytes."
            if front is not None:
                refused = front.refuse(asked, Fault("ValidationError", text), new_request_id())
                return _response(refused, closes=True)
            return _hang_up(Fault("RequestEntityTooLarge", text, 413))
        if front is not None:
            return _response(await _ask(dispatcher, front, asked))
        return _response(dispatcher.answer(asked))

    return api


def _paged(dispatcher: Dispatcher, handler: Page) -> Endpoint:
    """What answers with a signed page."""

    async def answer(request: Request) -> Response:
        try:
            async with asyncio.timeout(BODY_DEADLINE_S):
                body = await _body(request)
        except (TimeoutError, ClientDisconnect):
            return Response(status_code=400)
        if body is None:
            return JSONResponse({"code": "RequestEntityTooLarge", "message": "The request is too long."}, 413)
        return await _page(dispatcher, http_request(request, body), request.query_params, handler)

    return answer


async def _ask(dispatcher: Dispatcher, front: Front, request: HttpRequest) -> Answer:
    """Those that only read series are answered in a thread, so that a long one holds nobody up."""
    request_id = new_request_id()
    try:
        caller = dispatcher.authenticate(request)
        if caller.service != front.service:
            raise Fault("SignatureDoesNotMatch", f"Credential should be scoped to correct service: '{front.service}'.")
    except Fault as fault:
        return front.refuse(request, fault, request_id)
    if front.may_run_in_thread(request):
        return await asyncio.to_thread(front.answer, request, caller, request_id)
    return front.answer(request, caller, request_id)


def _front_of(fronts: Sequence[Front], request: HttpRequest) -> Front | None:
    """By its protocol; else by the scope that it is signed for: forms are what ElastiCache is asked with, too. What
    comes by the path of Smithy's protocol and is of none is answered by the first."""
    speaking = next((front for front in fronts if front.speaks(request)), None)
    signed = next((front for front in fronts if _is_signed_for(front.service, request)), None)
    return speaking or signed or (fronts[0] if fronts and request.path.startswith("/service/") else None)


def _is_signed_for(service: str, request: HttpRequest) -> bool:
    scope = f"/{service}/aws4_request"
    signed = any(name == "authorization" and scope in value for name, value in request.headers)
    return signed or scope.replace("/", "%2F") in request.query


def _is_browser(request: Request) -> bool:
    """Someone who looks at the address: nothing is asked for, nothing is signed."""
    plain = request.method == "GET" and not request.url.query and "authorization" not in request.headers
    return plain and "text/html" in request.headers.get("accept", "")


async def _page(dispatcher: Dispatcher, request: HttpRequest, query: Mapping[str, str], handler: Page) -> Response:
    """A signed page as JSON."""
    visit = Visit(new_request_id(), request.source)
    try:
        caller = dispatcher.authenticate(request, visit)
        if caller.service != OWN_SERVICE:
            raise Fault("SignatureDoesNotMatch", f"Credential should be scoped to '{OWN_SERVICE}'.")
        with let_in(dispatcher.gate, visit, request, query):
            found = handler(PageCall(caller.region, request.method, dict(query), json_body(request), caller.access_key))
            page = await found if isinstance(found, Awaitable) else found
        return Response(json.dumps(page), media_type="application/json")
    except Fault as fault:
        return JSONResponse({"code": fault.code, "message": fault.message}, status_code=fault.status)
    except WorldError as error:
        return JSONResponse({"code": "ServiceUnavailable", "message": str(error)}, status_code=503)


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


def http_request(request: Request, body: bytes) -> HttpRequest:
    """As the check of its signature wants it."""
    scope = request.scope
    return HttpRequest(
        method=request.method,
        path=scope["raw_path"].decode("latin-1"),
        query=scope["query_string"].decode("latin-1"),
        headers=[(name.decode("latin-1").lower(), value.decode("latin-1")) for name, value in scope["headers"]],
        body=body,
        source=request.client.host if request.client else "",
    )


def _response(answer: Answer, *, closes: bool = False) -> Response:
    """closes: the connection, as where the next request would begin is not known."""
    headers = {"x-amzn-RequestId": answer.request_id, **answer.headers, **({"connection": "close"} if closes else {})}
    return Response(answer.body, answer.status, headers, media_type=answer.content_type)


def _hang_up(fault: Fault) -> Response:
    request_id = new_request_id()
    return _response(Answer(fault.status, encode_fault(NAMESPACE, fault, request_id), request_id), closes=True)
