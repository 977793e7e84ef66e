"""Signing in with an access key, signing out, choosing the region."""

from __future__ import annotations

import math

from starlette.requests import Request
from starlette.responses import Response

from cachekeep.domain.faults import Fault, invalid_value
from cachekeep.web.frame import COOKIE, ROOT, Form, Frame, read_form, to
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
        address = request.client.host if request.client else ""
        wait_s = frame.attempts.wait_s(address)
        if wait_s > 0:
            answer = self._form(request, f"Too many attempts. Try again in {math.ceil(wait_s)} s.", 429)
            answer.headers["retry-after"] = str(math.ceil(wait_s))
            return answer
        try:
            form = await read_form(request)
        except Fault as fault:
            return self._form(request, fault.message, fault.status)
        access_key = form.get("access_key", "").strip()
        # Counted before it is checked: attempts that arrive together do not share one free try.
        frame.attempts.failed(address)
        if not frame.operator.verify_key(access_key, form.get("secret", "").strip()):
            return self._form(request, "The access key ID or its secret is wrong.", 403, access_key)
        frame.attempts.succeeded(address)
        frame.sessions.end(request.cookies.get(COOKIE, ""))
        token, _ = frame.sessions.begin(access_key, frame.views.regions()[0])
        answer = to("/")
        answer.set_cookie(
            COOKIE,
            token,
            max_age=int(ABSOLUTE_S),
            path=ROOT,
            secure=request.url.scheme == "https",
            httponly=True,
            samesite="strict",
        )
        return answer

    async def leave(self, request: Request, session: Session, form: Form) -> Response:
        self._frame.sessions.end(request.cookies.get(COOKIE, ""))
        answer = to("/sign-in")
        answer.delete_cookie(COOKIE, path=ROOT, httponly=True, samesite="strict")
        return answer

    async def choose_region(self, request: Request, session: Session, form: Form) -> Response:
        region = form.get("region", "")
        if region not in self._frame.views.regions():
            raise invalid_value(f"{region[:40]!r} is not a region of this service.")
        session.region = region
        return to("/")

    def _form(self, request: Request, trouble: str = "", status: int = 200, access_key: str = "") -> Response:
        return self._frame.page("sign_in.html", request, None, status, trouble=trouble, access_key=access_key)
