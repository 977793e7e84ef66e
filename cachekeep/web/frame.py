"""What every page needs: who is signed in, the templates, forms, answers. Used by the pages of this room."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import Any
from urllib.parse import parse_qsl, quote

from jinja2 import Environment, PackageLoader, StrictUndefined
from starlette.requests import ClientDisconnect, Request
from starlette.responses import HTMLResponse, PlainTextResponse, RedirectResponse, Response

from cachekeep.domain.faults import Fault, invalid_value
from cachekeep.domain.ports import WorldError
from cachekeep.web import texts
from cachekeep.web.attempts import Attempts
from cachekeep.web.ports import Operator, Views
from cachekeep.web.sessions import Session, Sessions

ROOT = "/ui"
MOST_FORM_BYTES = 64 << 10
# How long a form may take to arrive: as any request of the API.
FORM_DEADLINE_S = 60.0
Form = dict[str, str]
Handler = Callable[[Request], Awaitable[Response]]
Page = Callable[[Request, Session], Awaitable[Response]]
FormPage = Callable[[Request, Session, Form], Awaitable[Response]]


@cache
def _templates() -> Environment:
    made = Environment(
        loader=PackageLoader("cachekeep.web", "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters.update(
        bytes=texts.size, when=texts.when, pause=texts.pause, path=lambda text: quote(str(text), safe="")
    )
    made.globals["root"] = ROOT
    return made


@dataclass(frozen=True)
class Frame:
    """now: seconds since 1970, for what is shown; sessions and attempts have clocks of their own."""

    operator: Operator
    views: Views
    sessions: Sessions
    attempts: Attempts
    now: Callable[[], float]
    form_deadline_s: float = FORM_DEADLINE_S
    templates: Environment = field(default_factory=_templates)

    def page(
        self, name: str, request: Request, session: Session | None, status: int = 200, **facts: object
    ) -> Response:
        """A whole page, or a fragment of one, out of a template."""
        # A form that did not arrive in time: where the next request would begin is not known.
        headers = {"connection": "close"} if status == 408 else None
        return HTMLResponse(self.render(name, request, session, **facts), status, headers)

    def render(self, name: str, request: Request, session: Session | None, **facts: object) -> str:
        shared = {"session": session, "here": request.url.path, "regions": self.views.regions() if session else ()}
        return self.templates.get_template(name).render(shared | facts)

    def asking(self, page: Page) -> Handler:
        """A GET by somebody who is signed in; a fault is shown as a page."""

        async def handle(request: Request) -> Response:
            session = self.session(request)
            if session is None:
                return _to_sign_in(request)
            try:
                return await page(request, session)
            except Fault as fault:
                return self.fault(request, session, fault)
            except WorldError as error:
                return self.fault(request, session, Fault("ServiceUnavailable", str(error), 503))

        return handle

    def telling(self, page: FormPage) -> Handler:
        """A POST by somebody who is signed in, out of a page that we gave to that session."""

        async def handle(request: Request) -> Response:
            session = self.session(request)
            if session is None:
                return _to_sign_in(request)
            try:
                form = await read_form(request, self.form_deadline_s)
                if not secrets.compare_digest(form.get("csrf", "").encode(), session.csrf.encode()):
                    raise Fault(
                        "AccessDenied", "This form is not from your session; nothing was done. Reload the page."
                    )
                return await page(request, session, form)
            except Fault as fault:
                return self.fault(request, session, fault)
            except WorldError as error:
                return self.fault(request, session, Fault("ServiceUnavailable", str(error), 503))

        return handle

    def session(self, request: Request) -> Session | None:
        # Fragments that pages fetch by themselves must not keep an unattended session alive.
        by_hand = request.method == "POST" or "hx-request" not in request.headers
        token = request.cookies.get(cookie_name(request), "")
        session = self.sessions.find(token, by_hand=by_hand)
        if session is None:
            return None
        session.source = request.client.host if request.client else ""
        if self.operator.why_not(session.access_key, session.source) is not None:
            # The key was removed, or may less than it might when it signed in.
            self.sessions.end(token)
            return None
        return session

    def fault(self, request: Request, session: Session, fault: Fault) -> Response:
        return self.page("fault.html", request, session, fault.status, fault=fault)


def cookie_name(request: Request) -> str:
    """With the port: browsers keep cookies by host, and two services on one machine would sign each other out."""
    return f"cachekeep_session_{request.url.port or (443 if request.url.scheme == 'https' else 80)}"


async def read_form(request: Request, deadline_s: float) -> Form:
    """Fields of a urlencoded form; of a repeated one the last. Raises a fault for anything else, for too much, and for
    what does not arrive."""
    if request.headers.get("content-type", "").partition(";")[0].strip() != "application/x-www-form-urlencoded":
        raise Fault("InvalidParameterValue", "Only forms are understood here.", 415)
    try:
        async with asyncio.timeout(deadline_s):
            body = await _body(request)
    except TimeoutError:
        raise Fault("RequestTimeout", f"The form did not arrive within {deadline_s:g} s.", 408) from None
    except ClientDisconnect:
        raise Fault("InvalidParameterValue", "The form did not arrive whole.") from None
    try:
        return dict(parse_qsl(body.decode("ascii"), keep_blank_values=True, max_num_fields=100, errors="strict"))
    except ValueError:
        raise Fault("InvalidParameterValue", "The form is malformed.") from None


async def _body(request: Request) -> bytes:
    body = b""
    async for part in request.stream():
        body += part
        if len(body) > MOST_FORM_BYTES:
            raise Fault("InvalidParameterValue", f"A form can have at most {MOST_FORM_BYTES} bytes.", 413)
    return body


def to(path: str) -> Response:
    """Go and see that page: with GET, whatever was asked before."""
    return RedirectResponse(ROOT + path, 303)


def _to_sign_in(request: Request) -> Response:
    if "hx-request" in request.headers:
        return PlainTextResponse("Sign in first.", 401, {"HX-Redirect": f"{ROOT}/sign-in"})
    return to("/sign-in")


def region_of(views: Views, session: Session, asked: Mapping[str, str]) -> str:
    """The region that a request names. What a page fetches names the page's own: another page of the same session may
    have chosen one since. Raises a fault for one that is not of this service."""
    region = asked.get("region", session.region)
    if region not in views.regions():
        raise invalid_value(f"{region[:40]!r} is not a region of this service.")
    return region


def find_resource(views: Views, region: str, kind: str, name: str) -> Mapping[str, Any]:
    """The row of the status page, or of the watched targets. Raises AWS's fault for one that is not there."""
    if kind not in ("group", "cluster", "serverless", "watched"):
        raise Fault("InvalidParameterValue", "There is no such page.", 404)
    if kind == "serverless":
        return _find_serverless(views, region, name)
    rows = views.watched(region) if kind == "watched" else views.status()[f"{kind}s"]
    for row in rows:
        if row["id"] == name and (kind == "watched" or (row["region"] == region and not row.get("serverless"))):
            found: Mapping[str, Any] = row
            return found
    if kind == "group":
        raise Fault("ReplicationGroupNotFoundFault", f"ReplicationGroup {name} not found in {region}.")
    raise Fault("CacheClusterNotFound", f"CacheCluster {name} not found in {region}.")


def _find_serverless(views: Views, region: str, name: str) -> Mapping[str, Any]:
    """The group or cluster that runs it."""
    status = views.status()
    for row in (*status["groups"], *status["clusters"]):
        if row.get("serverless") == name and row["region"] == region:
            found: Mapping[str, Any] = row
            return found
    raise Fault("ServerlessCacheNotFoundFault", f"Serverless cache {name} not found in {region}.", 404)


def shown_name(resource: Mapping[str, Any]) -> str:
    """Of a serverless cache its own, not that of what runs it."""
    return str(resource.get("serverless") or resource["id"])
