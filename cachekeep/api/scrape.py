"""`/metrics` over HTTP: who may read it, in which format, compressed or not.

Guarded like the rest: a scraper sends the token of this installation (credentials.py), or the request is signed for our
own service. What the page tells is made by whoever builds the application.
"""

from __future__ import annotations

import asyncio
import gzip
import hmac
from collections.abc import Awaitable, Callable

from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from cachekeep.api.dispatch import OWN_SERVICE
from cachekeep.api.http import http_request
from cachekeep.codec.sigv4 import Caller, HttpRequest
from cachekeep.domain.faults import Fault

# Most of what can be won, for a fifth of the time of the usual level.
_GZIP_LEVEL = 1

# From whether OpenMetrics is asked for to content type and page.
Render = Callable[[bool], Awaitable[tuple[str, bytes]]]


def scrape_route(token: str, authenticate: Callable[[HttpRequest], Caller], render: Render) -> Route:
    """GET and HEAD of `/metrics`. authenticate: raises Fault for a request that no known key signed."""

    async def metrics(request: Request) -> Response:
        refusal = _refusal(request, token, authenticate)
        if refusal is not None:
            challenge = {"WWW-Authenticate": 'Bearer realm="cachekeep"'}
            return PlainTextResponse(refusal + "\n", 401, challenge)
        content_type, page = await render(_accepts(request, "accept", "application/openmetrics-text"))
        headers = {"Vary": "Accept, Accept-Encoding", "Cache-Control": "no-store"}
        if _accepts(request, "accept-encoding", "gzip"):
            page = await asyncio.to_thread(gzip.compress, page, _GZIP_LEVEL)
            headers["Content-Encoding"] = "gzip"
        # Not as media_type: the older format's has its charset already.
        return Response(page, headers={**headers, "Content-Type": content_type})

    return Route("/metrics", metrics, methods=["GET"])


def _refusal(request: Request, token: str, authenticate: Callable[[HttpRequest], Caller]) -> str | None:
    """Why the request may not read it, in a sentence, or None."""
    scheme, _, given = request.headers.get("authorization", "").partition(" ")
    if not scheme:
        return "Send the token that `cachekeep prometheus token` prints: Authorization: Bearer TOKEN."
    if scheme.lower() == "bearer":
        if hmac.compare_digest(given.strip().encode(), token.encode()):
            return None
        return "This is not the token of this Cachekeep; `cachekeep prometheus token` prints it."
    try:
        caller = authenticate(http_request(request, b""))  # a GET has no body
    except Fault as fault:
        return f"{fault.code}: {fault.message}"
    return None if caller.service == OWN_SERVICE else f"The signature must be scoped to the service {OWN_SERVICE!r}."


def _accepts(request: Request, header: str, wanted: str) -> bool:
    """Named, and not with a weight of 0."""
    for entry in request.headers.get(header, "").lower().split(","):
        name, *parameters = (part.strip() for part in entry.split(";"))
        if name == wanted:
            return not any(part.startswith("q=") and part[2:].strip("0.") == "" for part in parameters)
    return False
