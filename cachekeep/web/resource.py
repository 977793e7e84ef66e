"""The page of one group, cluster or watched target, the part of it that renews itself, and its charts' numbers."""

from __future__ import annotations

import math
import shlex
from collections.abc import Mapping
from typing import Any

from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, Response

from cachekeep.domain.faults import invalid_value
from cachekeep.domain.serverless import serverless_name
from cachekeep.web.actions import ACTIONS
from cachekeep.web.frame import Frame, find_resource, region_of, shown_name
from cachekeep.web.metrics import NAMES, charted
from cachekeep.web.overview import LEVELS, digest_of, main_endpoint, with_digest
from cachekeep.web.sessions import Session
from cachekeep.web.snippets import snippets

# Longest stretch that one chart shows: the retention of coarse points.
MOST_HOURS = 455 * 24.0
HOURS = (
    (1, "1 hour"),
    (6, "6 hours"),
    (24, "1 day"),
    (7 * 24, "7 days"),
    (15 * 24, "15 days"),
    (63 * 24, "63 days"),
    (455 * 24, "455 days"),
)


class ResourcePages:
    def __init__(self, frame: Frame) -> None:
        self._frame = frame

    async def show(self, request: Request, session: Session) -> Response:
        kind, name = request.path_params["kind"], request.path_params["name"]
        resource = find_resource(self._frame.views, session.region, kind, name)
        views, region = self._frame.views, session.region
        return self._frame.page(
            "resource.html",
            request,
            session,
            kind=kind,
            shown=name,
            resource=resource,
            live=self._live(request, session, region, kind, resource),
            actions=[action for action in ACTIONS.values() if action.fits(kind, resource)],
            endpoints=endpoints_of(kind, resource),
            snippets=_snippets(resource, kind),
            tiers=charted(resource["engine"], local=kind != "watched"),
            hours=HOURS,
            journal=() if kind == "watched" else views.journal(region, resource["id"]),
            events=() if kind == "watched" else views.events(region, resource["id"]),
            alarms=[alarm for alarm in views.alarms(region) if alarm.get("resource") == resource["id"]],
            backups=[backup for backup in views.backups(region) if backup.get("resource") == resource["id"]],
            backup=_backup(resource, kind),
            cost=await views.cost(region, name),
            notice=session.take_notice(),
        )

    async def live(self, request: Request, session: Session) -> Response:
        """Topology and verdicts; nothing (204) while the page has them as they are."""
        kind, name = request.path_params["kind"], request.path_params["name"]
        region = region_of(self._frame.views, session, request.query_params)
        resource = find_resource(self._frame.views, region, kind, name)
        live = self._live(request, session, region, kind, resource)
        if request.query_params.get("seen") == digest_of(live):
            return Response(status_code=204)
        return HTMLResponse(live)

    async def chart(self, request: Request, session: Session) -> Response:
        """?region=&resource=&metric=&hours=: numbers until now, as JSON."""
        asked = request.query_params
        metric, hours = asked.get("metric", ""), _hours(asked.get("hours", "1"))
        if metric not in NAMES:
            raise invalid_value(f"{metric[:60]!r} is not a metric that is drawn here.")
        end = self._frame.now()
        views = self._frame.views
        start = end - hours * 3600
        region = region_of(views, session, asked)
        numbers = await views.chart(region, asked.get("resource", ""), metric, start, end)
        return JSONResponse(numbers)

    def _live(self, request: Request, session: Session, region: str, kind: str, resource: Mapping[str, Any]) -> str:
        health = self._frame.views.health(region, resource["id"])
        verdicts = sorted(health.get("verdicts", ()), key=lambda v: _rank(v.get("level")))
        level = health.get("level", "unknown")
        troubles = {node["id"]: node["trouble"] for node in health.get("nodes", ()) if node.get("trouble")}
        facts = {
            "region": region,
            "kind": kind,
            "shown": shown_name(resource),
            "resource": resource,
            "worst": level if level in LEVELS else "unknown",
            "sentence": health.get("sentence", ""),
            "silent": bool(troubles),
            "well": level == "safe" and not troubles,
            "verdicts": verdicts,
            "pressing": [verdict for verdict in verdicts if verdict["level"] in ("risk", "warning")],
            "others": [verdict for verdict in verdicts if verdict["level"] not in ("risk", "warning")],
            "nodes": nodes_of(resource, troubles),
        }
        return with_digest(lambda mark: self._frame.render("live.html", request, session, digest=mark, **facts))


def nodes_of(resource: Mapping[str, Any], troubles: Mapping[str, str]) -> list[dict[str, Any]]:
    """Its nodes, replicas with `lag_bytes`: how far behind the primary of their shard they were when last seen.

    troubles: why nodes cannot be asked, by cluster, or by cluster and node where it has several.
    """
    nodes = resource.get("nodes") or ()
    primaries = {node.get("shard"): node.get("offset") for node in nodes if node.get("role") == "primary"}
    shown = []
    for node in nodes:
        lag, ahead = None, primaries.get(node.get("shard"))
        if node.get("role") == "replica" and ahead is not None and node.get("offset") is not None:
            # The two were not seen at the same instant: a replica can seem ahead.
            lag = max(0, ahead - node["offset"])
        name = serverless_name(node["id"])
        trouble = troubles.get(f"{name}/{node['node_id']}") or troubles.get(name, "")
        shown.append({**node, "id": name, "lag_bytes": lag, "trouble": trouble})
    return shown


def endpoints_of(kind: str, resource: Mapping[str, Any]) -> list[tuple[str, str]]:
    if kind == "watched":
        return [("Watched URL", str(resource["url"]))]
    serverless = resource.get("serverless")
    named = [
        ("Endpoint" if serverless else "Configuration endpoint", resource.get("configuration_endpoint")),
        ("Primary endpoint", resource.get("primary_endpoint")),
        ("Reader endpoint", resource.get("reader_endpoint")),
    ]
    found = [(title, str(endpoint)) for title, endpoint in named if endpoint]
    main = main_endpoint(resource)
    return found or ([("Node endpoint", main)] if main else [])


def _snippets(resource: Mapping[str, Any], kind: str) -> Mapping[str, str]:
    endpoint = main_endpoint(resource) if kind != "watched" else None
    if endpoint is None:
        return {}
    clustered = bool(resource.get("shards")) and bool(resource.get("configuration_endpoint"))
    return snippets(endpoint, clustered=clustered, memcached=resource["engine"] == "memcached")


def _backup(resource: Mapping[str, Any], kind: str) -> str:
    """The command that backs it up; "" where there is none."""
    if resource["engine"] in (None, "memcached"):
        return ""
    endpoint = main_endpoint(resource) if kind != "watched" else None
    scheme = "rediss" if resource.get("tls") else "redis"
    url = str(resource["url"]) if kind == "watched" else f"{scheme}://{endpoint}" if endpoint else ""
    return f"cachekeep backup run {shlex.quote(url)} ./backups" if url else ""


def _rank(level: object) -> int:
    return LEVELS.index(level) if isinstance(level, str) and level in LEVELS else LEVELS.index("unknown")


def _hours(text: str) -> float:
    try:
        hours = float(text)
    except ValueError:
        hours = math.nan
    if not 0 < hours <= MOST_HOURS:
        raise invalid_value(f"hours must be a number above 0 and up to {MOST_HOURS:g}.")
    return hours
