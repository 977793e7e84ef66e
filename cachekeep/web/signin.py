"""Signing in with an access key, signing out, choosing the region."""

from __future__ import annotations

import math

from starlette.requests import Request
from starlette.responses import Response

from cachekeep.domain.faults import Fault
from cachekeep.web.attempts import sources_of
from cachekeep.web.frame import ROOT, Form, Frame, cookie_name, read_form, region_of, to
from cachekeep.web.sessions import ABSOLUTE_S, Session


class SignIn:
    """The pages of one dashboard."""

    def __init__(self, frame: Frame) -> None:
        self._frame = frame

    async def show(self, request: Request) -> Response:
        if self._frame.session(request) is not None:
            return to("/")
        return self._form(request)

    async def check(self, request: Request) -> Response:
        """No CSRF token, there is no session yet: that the form is ours is told by its origin (web.guard)."""
        frame = self._frame
        try:
            form = await read_form(request, frame.form_deadline_s)
        except Fault as fault:
            return self._form(request, fault.message, fault.status)
        # Nothing is awaited from here on: forms that were begun together and end together are counted one by one.
        access_key = form.get("access_key", "").strip()
        sources = sources_of(request.client.host if request.client else "", access_key)
        wait_s = math.ceil(frame.attempts.wait_s(*sources))
        if wait_s > 0:
            answer = self._form(request, f"Too many attempts. Try again in {wait_s} s.", 429, access_key)
            answer.headers["retry-after"] = str(wait_s)
            return answer
        frame.attempts.failed(*sources)
        if not frame.operator.verify_key(access_key, form.get("secret", "").strip()):
            return self._form(request, "The access key ID or its secret is wrong.", 403, access_key)
        frame.attempts.succeeded(*sources)
        refusal = frame.operator.why_not(access_key, request.client.host if request.client else "")
        if refusal is not None:
            return self._form(request, refusal, 403, access_key)
        return self._begin(request, access_key)

    def _begin(self, request: Request, access_key: str) -> Response:
        sessions = self._frame.sessions
        sessions.end(request.cookies.get(cookie_name(request), ""))
        token, _ = sessions.begin(access_key, self._frame.views.regions()[0])
        answer = to("/")
        answer.set_cookie(
            cookie_name(request),
            token,
            max_age=int(ABSOLUTE_S),
            path=ROOT,
            secure=request.url.scheme == "https",
            httponly=True,
            samesite="strict",
        )
        return answer

    async def leave(self, request: Request, session: Session, form: Form) -> Response:
        name = cookie_name(request)
        self._frame.sessions.end(request.cookies.get(name, ""))
        answer = to("/sign-in")
        answer.delete_cookie(name, path=ROOT, httponly=True, samesite="strict")
        return answer

    async def choose_region(self, request: Request, session: Session, form: Form) -> Response:
        session.region = region_of(self._frame.views, session, form)
        return to("/")

    def _form(self, request: Request, trouble: str = "", status: int = 200, access_key: str = "") -> Response:
        return self._frame.page("sign_in.html", request, None, status, trouble=trouble, access_key=access_key)
