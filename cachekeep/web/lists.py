"""Pages over the whole region: alarms, backups, cost."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import Response

from cachekeep.domain.faults import Fault
from cachekeep.web.frame import Frame
from cachekeep.web.ports import Json
from cachekeep.web.sessions import Session

# What the form of prices has before somebody fills it in: one node for a month.
_USUAL = {"node_type": "", "count": "1", "utilisation": "100", "hours": "730", "region": ""}


class ListPages:
    def __init__(self, frame: Frame) -> None:
        self._frame = frame

    async def alarms(self, request: Request, session: Session) -> Response:
        views, region = self._frame.views, session.region
        return self._frame.page(
            "alarms.html", request, session, alarms=views.alarms(region), history=views.alarm_history(region)
        )

    async def backups(self, request: Request, session: Session) -> Response:
        return self._frame.page("backups.html", request, session, backups=self._frame.views.backups(session.region))

    async def cost(self, request: Request, session: Session) -> Response:
        """?node_type=&count=&utilisation=&hours=&region=: what is running, and the prices that were asked for."""
        views = self._frame.views
        asked = {name: request.query_params.get(name, usual)[:100] for name, usual in _USUAL.items()}
        prices: Json | None = None
        refusal: Fault | None = None
        if "node_type" in request.query_params:
            try:
                prices = await views.prices(**asked)
            except Fault as fault:
                refusal = fault
        return self._frame.page(
            "cost.html",
            request,
            session,
            200 if refusal is None else refusal.status,
            cost=await views.cost(session.region, None),
            asked=asked,
            node_types=views.node_types(),
            prices=prices,
            fault=refusal,
        )
