"""The page that says which node types would hold what a cache was seen to hold, and what they would cost."""

from __future__ import annotations

import math

from starlette.requests import Request
from starlette.responses import Response

from cachekeep.domain.faults import invalid_value
from cachekeep.web.frame import Frame, find_resource, region_of
from cachekeep.web.sessions import Session

USUAL_MARGIN_PCT = 25.0
USUAL_HORIZON_DAYS = 90.0
MOST_MARGIN_PCT, MOST_HORIZON_DAYS = 1000.0, 3650.0
# How many shapes that hold the load, and how many that do not, are shown.
MOST_SHAPES = 12


class RightSizePage:
    def __init__(self, frame: Frame) -> None:
        self._frame = frame

    async def show(self, request: Request, session: Session) -> Response:
        """?region= &margin= (percent) &days= (of growth)"""
        kind, name = request.path_params["kind"], request.path_params["name"]
        region = region_of(self._frame.views, session, request.query_params)
        resource = find_resource(self._frame.views, region, kind, name)
        margin = _number(request, "margin", "the margin, in percent,", USUAL_MARGIN_PCT, MOST_MARGIN_PCT)
        days = _number(request, "days", "the days of growth", USUAL_HORIZON_DAYS, MOST_HORIZON_DAYS)
        found = await self._frame.views.right_size(region, resource["id"], margin, days)
        return self._frame.page(
            "right_size.html",
            request,
            session,
            kind=kind,
            of=name,
            region=region,
            margin=margin,
            days=days,
            found=found,
            most=MOST_SHAPES,
        )


def _number(request: Request, name: str, what: str, usual: float, most: float) -> float:
    text = request.query_params.get(name, "").strip()
    try:
        value = float(text) if text else usual
    except ValueError:
        value = math.nan
    if not 0 <= value <= most:  # false for NaN too
        raise invalid_value(f"{what} must be a number between 0 and {most:g}, not {text[:40]!r}.")
    return value
