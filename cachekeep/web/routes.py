"""The dashboard put together: its routes, to be put beside those of the API."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection
from pathlib import Path

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Mount, Route
from starlette.staticfiles import StaticFiles

from cachekeep.web.attempts import Attempts
from cachekeep.web.frame import FORM_DEADLINE_S, ROOT, Frame, to
from cachekeep.web.guard import Guard
from cachekeep.web.lists import ListPages
from cachekeep.web.overview import Overview
from cachekeep.web.plans import ActionPages
from cachekeep.web.ports import Operator, Views
from cachekeep.web.resource import ResourcePages
from cachekeep.web.right_size import RightSizePage
from cachekeep.web.sessions import Sessions
from cachekeep.web.signin import SignIn

_STATIC = Path(__file__).parent / "static"


def loopback_hosts(port: int) -> frozenset[str]:
    """The values of the Host header under which a service on this machine is asked."""
    names = ("127.0.0.1", "localhost", "[::1]")
    # Browsers leave the port out where it is the usual one.
    return frozenset(f"{name}:{port}" for name in names) | frozenset(names if port in (80, 443) else ())


def build(
    operator: Operator,
    views: Views,
    hosts: Collection[str],
    *,
    now: Callable[[], float] = time.time,
    monotonic: Callable[[], float] = time.monotonic,
    form_deadline_s: float = FORM_DEADLINE_S,
) -> list[BaseRoute]:
    """Routes under `/ui`. hosts: see loopback_hosts. Everything is answered with the same strict headers."""
    frame = Frame(operator, views, Sessions(monotonic), Attempts(monotonic), now, form_deadline_s)
    app = Starlette(routes=[Mount("/static", StaticFiles(directory=_STATIC)), *_routes(frame)])
    guarded = Guard(app, hosts)

    async def bare(_: Request) -> Response:
        return to("/")

    # `/ui` alone is answered here: Starlette's own redirect would not pass the guard.
    return [Route(ROOT, Guard(Route(ROOT, bare), hosts)), Mount(ROOT, guarded)]


def _routes(frame: Frame) -> list[BaseRoute]:
    signing, overview, resource = SignIn(frame), Overview(frame), ResourcePages(frame)
    actions, lists = ActionPages(frame), ListPages(frame)
    asking, telling = frame.asking, frame.telling
    return [
        Route("/", asking(overview.show), methods=["GET"]),
        Route("/rows", asking(overview.rows), methods=["GET"]),
        Route("/sign-in", signing.show, methods=["GET"]),
        Route("/sign-in", signing.check, methods=["POST"]),
        Route("/sign-out", telling(signing.leave), methods=["POST"]),
        Route("/region", telling(signing.choose_region), methods=["POST"]),
        Route("/chart", asking(resource.chart), methods=["GET"]),
        Route("/alarms", asking(lists.alarms), methods=["GET"]),
        Route("/backups", asking(lists.backups), methods=["GET"]),
        Route("/cost", asking(lists.cost), methods=["GET"]),
        Route("/action/{action}", asking(actions.ask), methods=["GET"]),
        Route("/plan/{action}", telling(actions.plan), methods=["POST"]),
        Route("/confirm", telling(actions.confirm), methods=["POST"]),
        Route("/right-size/{kind}/{name}", asking(RightSizePage(frame).show), methods=["GET"]),
        # Last: whatever is none of the above names a kind of resource.
        Route("/{kind}/{name}/live", asking(resource.live), methods=["GET"]),
        Route("/{kind}/{name}", asking(resource.show), methods=["GET"]),
    ]
