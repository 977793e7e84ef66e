"""Pages over the whole region: alarms, backups, cost."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import Response

from cachekeep.web.frame import Frame
from cachekeep.web.sessions import Session


class ListPages:
    def __init__(self, frame: Frame) -> None:
        self._frame = frame

    async def alarms(self, request: Request, session: Session) -> Response:
        return self._frame.page("alarms.html", request, session, alarms=self._frame.views.alarms(session.region))

    async def backups(self, request: Request, session: Session) -> Response:
        return self._frame.page("backups.html", request, session, backups=self._frame.views.backups(session.region))

    async def cost(self, request: Request, session: Session) -> Response:
        cost = await self._frame.views.cost(session.region, None)
        return self._frame.page("cost.html", request, session, cost=cost)
