"""The overview: every group, cluster and watched target of the region in one table that renews itself."""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from starlette.requests import Request
from starlette.responses import HTMLResponse, Response

from cachekeep.web.frame import Frame, region_of, shown_name
from cachekeep.web.ports import Json
from cachekeep.web.sessions import Session

# The worst first.
LEVELS = ("risk", "warning", "unknown", "safe")


@dataclass(frozen=True)
class Row:
    """memory in bytes, of the primaries; None for not known. endpoint: the one that applications use first."""

    kind: str
    id: str
    status: str
    level: str
    engine: str
    node_type: str
    nodes: int
    used_bytes: int | None
    limit_bytes: int | None
    endpoint: str
    note: str = ""

    def matches(self, words: Sequence[str]) -> bool:
        text = " ".join((self.kind, self.id, self.status, self.level, self.engine, self.node_type, self.endpoint))
        return all(word in text.lower() for word in words)

    @property
    def share(self) -> int | None:
        """Percent of the memory limit that is used."""
        if self.used_bytes is None or not self.limit_bytes:
            return None
        return min(100, round(100 * self.used_bytes / self.limit_bytes))


class Overview:
    def __init__(self, frame: Frame) -> None:
        self._frame = frame

    async def show(self, request: Request, session: Session) -> Response:
        table = self._table(request, session, session.region)
        words = request.query_params.get("q", "")
        return self._frame.page("overview.html", request, session, table=table, q=words, notice=session.take_notice())

    async def rows(self, request: Request, session: Session) -> Response:
        """The table alone; nothing (204) while it is still the one whose digest the page has."""
        table = self._table(request, session, region_of(self._frame.views, session, request.query_params))
        if request.query_params.get("seen") == digest_of(table):
            return Response(status_code=204)
        return HTMLResponse(table)

    def _table(self, request: Request, session: Session, region: str) -> str:
        words = request.query_params.get("q", "")[:200]
        views = self._frame.views
        health = views.health(region, None)
        every = rows_of(views.status(), views.watched(region), health, region)
        shown = [row for row in every if row.matches(words.lower().split())]
        facts = {"rows": shown, "total": len(every), "q": words, "counts": counts_of(every), "region": region}
        return with_digest(lambda mark: self._frame.render("rows.html", request, session, digest=mark, **facts))


def with_digest(render: Callable[[str], str]) -> str:
    """What is rendered with its own digest in it."""
    # Drawn anew each time: no text of a user can have it, and the digest is taken of the fragment without it.
    mark = secrets.token_hex(16)
    body = render(mark)
    return body.replace(mark, hashlib.sha256(body.replace(mark, "").encode()).hexdigest()[:32])


def digest_of(fragment: str) -> str:
    """The digest that stands in a rendered fragment, in its first line."""
    _, _, rest = fragment.partition('data-seen="')
    return rest.partition('"')[0]


def counts_of(rows: Sequence[Row]) -> dict[str, int]:
    return {level: sum(1 for row in rows if row.level == level) for level in LEVELS}


def rows_of(status: Json, watched: Sequence[Json], health: Json, region: str) -> list[Row]:
    """In order of their names, groups first."""
    levels, troubles = health.get("resources", {}), health.get("troubles", {})
    owned = [("group", group) for group in status["groups"]] + [("cluster", one) for one in status["clusters"]]
    owned = [("serverless" if one.get("serverless") else kind, one) for kind, one in owned]
    rows = [_row(kind, one, levels, troubles) for kind, one in owned if one["region"] == region]
    rows += [_watched(target, levels, troubles) for target in watched]
    return rows


def _row(
    kind: str, resource: Mapping[str, Any], levels: Mapping[str, str], troubles: Mapping[str, Sequence[str]]
) -> Row:
    nodes = [node for node in resource["nodes"] if not node.get("spare")]
    holders = [node for node in nodes if node.get("role") != "replica"] or nodes
    return Row(
        kind=kind,
        id=shown_name(resource),
        status=resource["status"],
        level=_level(levels, resource["id"]),
        engine=f"{resource['engine']} {resource['version']}",
        node_type="–" if kind == "serverless" else resource["node_type"],
        nodes=len(nodes),
        used_bytes=_sum(node.get("used_memory") for node in holders),
        limit_bytes=_sum(node.get("maxmemory") for node in holders),
        endpoint=main_endpoint(resource) or "",
        note=_silent(troubles, resource["id"]),
    )


def _silent(troubles: Mapping[str, Sequence[str]], name: str) -> str:
    """The first two nodes that cannot be asked, and how many more."""
    told = troubles.get(name, ())
    return "; ".join((*told[:2], f"and {len(told) - 2} more") if len(told) > 2 else told)


def _watched(target: Mapping[str, Any], levels: Mapping[str, str], troubles: Mapping[str, Sequence[str]]) -> Row:
    return Row(
        kind="watched",
        id=target["id"],
        status="unreachable" if target.get("trouble") else "watched",
        level=_level(levels, target["id"]),
        engine=f"{target.get('engine') or '–'} {target.get('version') or ''}".strip(),
        node_type=target.get("node_type") or "–",
        nodes=len(target.get("nodes") or ()) or 1,
        used_bytes=target.get("used_memory"),
        limit_bytes=target.get("maxmemory"),
        endpoint=target["url"],
        note=target.get("trouble") or _silent(troubles, target["id"]) or target.get("note") or "",
    )


def main_endpoint(resource: Mapping[str, Any]) -> str | None:
    """Configuration endpoint, else that of the primary, else the first node's address."""
    for name in ("configuration_endpoint", "primary_endpoint"):
        if resource.get(name):
            return str(resource[name])
    nodes = resource.get("nodes") or ()
    return str(nodes[0]["address"]) if nodes else None


def _level(levels: Mapping[str, str], name: str) -> str:
    level = levels.get(name, "unknown")
    return level if level in LEVELS else "unknown"


def _sum(values: Iterable[int | None]) -> int | None:
    known = [int(value) for value in values if value is not None]
    return sum(known) if known else None
