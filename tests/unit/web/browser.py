"""A small browser for tests: keeps cookies, sends forms, and speaks ASGI to the dashboard directly."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, MutableMapping, Sequence
from dataclasses import dataclass
from html.parser import HTMLParser
from typing import Any
from urllib.parse import urlencode

from starlette.applications import Starlette

from cachekeep.domain.faults import Fault
from cachekeep.web import build

HOST = "127.0.0.1:6380"
PLAN = {
    "resources": ["orders"],
    "changes": True,
    "steps": ["Make a replica in shard 0001."],
    "gaps": [{"least_ms": 20.0, "most_ms": 1500.0, "what": "writes to 0001", "source": "measured", "times": 1}],
    "memory": {"now_bytes": 1 << 20, "meanwhile_bytes": 3 << 20, "afterwards_bytes": 2 << 20},
    "undo": ["Decrease the number of replicas."],
    "warnings": ["Clients lose their connections."],
    "begins_at": None,
    "least_s": 2.0,
    "most_s": 9.0,
}


class FakeOperator:
    """Knows one key. Keeps what it was asked; raises `fault` where one is set."""

    def __init__(self) -> None:
        self.rehearsed: list[dict[str, str]] = []
        self.performed: list[tuple[str, str, dict[str, str]]] = []
        self.fault: Fault | None = None

    def verify_key(self, access_key: str, secret: str) -> bool:
        return (access_key, secret) == ("AKIA1", "right")

    def rehearse(self, region: str, access_key: str, fields: Mapping[str, str]) -> Mapping[str, Any]:
        if self.fault:
            raise self.fault
        self.rehearsed.append(dict(fields))
        return PLAN

    def perform(self, region: str, access_key: str, fields: Mapping[str, str]) -> Mapping[str, Any]:
        if self.fault:
            raise self.fault
        self.performed.append((region, access_key, dict(fields)))
        return {}


def node(name: str, role: str, offset: int) -> dict[str, Any]:
    return {
        "id": name, "node_id": "0001", "instance": "0001", "shard": "0001", "spare": None, "status": "available",
        "address": "127.64.0.7:6379", "pid": 1, "version": "8.1.3", "role": role,
        "in_sync": True if role == "replica" else None, "offset": offset, "used_memory": 3 << 20,
        "maxmemory": 4 << 20, "keys": 7, "clients": 2,
    }  # fmt: skip


def group(name: str = "orders", **others: Any) -> dict[str, Any]:
    return {
        "id": name, "region": "us-east-1", "status": "available", "engine": "valkey", "version": "8.1", "runs": None,
        "node_type": "cache.t4g.micro", "parameter_group": "default.valkey8", "waits_for_window": None,
        "cluster_mode": "disabled", "cluster_mode_before": None, "automatic_failover": "enabled",
        "primary_endpoint": "127.64.0.1:6379", "reader_endpoint": "127.64.0.2:6379", "configuration_endpoint": None,
        "shards": [], "resharding": None, "engine_change": None,
        "nodes": [node(f"{name}-001", "primary", 5000), node(f"{name}-002", "replica", 3976)],
    } | others  # fmt: skip


class FakeViews:
    def __init__(self) -> None:
        self.groups = [group()]
        self.note = "a-002 is promoted."
        self.level = "warning"
        self.sized: tuple[str, str, float, float] | None = None
        self.charted: list[tuple[str, str, str, float, float]] = []

    def regions(self) -> Sequence[str]:
        return ["us-east-1", "eu-west-1"]

    def node_types(self) -> Sequence[str]:
        return ["cache.t4g.micro", "cache.m7g.large"]

    def status(self) -> Mapping[str, Any]:
        clusters = [
            {
                "id": "sessions", "region": "us-east-1", "status": "available", "engine": "memcached",
                "version": "1.6.22", "runs": None, "node_type": "cache.t4g.micro", "parameter_group": "p",
                "waits_for_window": None, "configuration_endpoint": None,
                "nodes": [node("sessions", "primary", 0) | {"role": None, "shard": None, "offset": None}],
            }
        ]  # fmt: skip
        return {"service": {}, "groups": self.groups, "clusters": clusters}

    def watched(self, region: str) -> Sequence[Mapping[str, Any]]:
        return [{"id": "aws-cache", "url": "rediss://cache.example:6379", "engine": None, "version": None,
                 "role": None, "used_memory": None, "maxmemory": None, "trouble": "no answer for 12 s"}]  # fmt: skip

    def health(self, region: str, resource: str | None) -> Mapping[str, Any]:
        if resource is None:
            return {"resources": {"orders": self.level}}
        verdict = {"metric": "SwapUsage", "title": "Swap usage", "tier": "crucial", "level": self.level,
                   "value": "20 MB", "node": "orders-001", "sentence": "Swap is used.", "means": "Slow answers.",
                   "cause": "Too little memory.", "next": "Take a larger node type.", "evidence": []}  # fmt: skip
        return {"level": self.level, "verdicts": [verdict]}

    async def chart(self, region: str, resource: str, metric: str, start: float, end: float) -> Mapping[str, Any]:
        self.charted.append((region, resource, metric, start, end))
        return {"metric": metric, "title": "", "unit": "Percent", "starts": [60], "bands": [], "note": "",
                "series": [{"label": "orders-001", "values": [None]}]}  # fmt: skip

    async def right_size(self, region: str, resource: str, margin_pct: float, horizon_days: float) -> Mapping[str, Any]:
        self.sized = (region, resource, margin_pct, horizon_days)
        shape = {"engine": "valkey", "node_type": "cache.t4g.small", "shards": 1, "replicas": 1, "nodes": 2,
                 "usd_month": 37.96, "usable_bytes": 1e9, "why_not": None, "notes": ["burstable"]}  # fmt: skip
        less = shape | {"node_type": "cache.t4g.micro", "usd_month": None, "why_not": "the keys need 1.1 GB"}
        return {"answer": "Two of cache.t4g.small hold it.", "confidence": "low", "unknown": ["growth"],
                "need_bytes": 9e8, "present": shape, "candidates": [shape], "rejected": [less],
                "assumptions": [self.note]}  # fmt: skip

    def events(self, region: str, resource: str) -> Sequence[Mapping[str, Any]]:
        return [{"at": 0.0, "message": self.note}]

    def journal(self, region: str, resource: str) -> Sequence[Mapping[str, Any]]:
        return [{"at": 0.0, "sentence": self.note}]

    def alarms(self, region: str) -> Sequence[Mapping[str, Any]]:
        return [{"name": "full", "state": "ALARM", "reason": self.note, "metric": "SwapUsage", "of": "orders-001",
                 "resource": "orders", "updated_at": 0.0}]  # fmt: skip

    def backups(self, region: str) -> Sequence[Mapping[str, Any]]:
        return [{"name": "nightly", "resource": "orders", "at": 0.0, "size_bytes": 2048, "state": "complete"}]

    async def cost(self, region: str, resource: str | None) -> Mapping[str, Any]:
        row = {"resource": "orders", "node_type": "cache.t4g.micro", "count": 2, "hourly": None, "monthly": None}
        here = {"memory_share": 0.02, "cpu_share": None, "machine_usd_month": 40.0, "usd": 0.8}
        return {"rows": [row | {"source": "none"}], "total": None, "notes": ["Prices of us-east-1."], "here": here}


@dataclass
class Answer:
    status: int
    headers: list[tuple[str, str]]
    text: str

    def header(self, name: str) -> str:
        return next((value for known, value in self.headers if known == name), "")


class Browser:
    """One browser at one dashboard. `time` is the clock of its sessions, in seconds."""

    def __init__(self) -> None:
        self.operator, self.views = FakeOperator(), FakeViews()
        self.time = 1000.0
        self.cookie = ""
        routes = build(self.operator, self.views, {HOST}, now=lambda: 1e6, monotonic=lambda: self.time)
        self._app = Starlette(routes=routes)

    def get(self, path: str, **headers: str) -> Answer:
        return self._ask("GET", path, b"", headers)

    def post(self, path: str, form: Mapping[str, str], **headers: str) -> Answer:
        kind = {"content_type": "application/x-www-form-urlencoded"}
        return self._ask("POST", path, urlencode(form).encode(), kind | headers)

    def sign_in(self, given: str = "right") -> Answer:
        return self.post("/ui/sign-in", {"access_key": "AKIA1", "secret": given})

    def send(self, path: str, **fields: str) -> Answer:
        """A form with the session's CSRF token, as a page would send it."""
        return self.post(path, {"csrf": self.hidden("/ui/", "csrf"), **fields})

    def hidden(self, path: str, name: str) -> str:
        return hidden(self.get(path), name)

    def _ask(self, method: str, path: str, body: bytes, headers: Mapping[str, str]) -> Answer:
        path, _, query = path.partition("?")
        sent = {"host": HOST, "cookie": self.cookie} | {k.replace("_", "-"): v for k, v in headers.items()}
        scope = {
            "type": "http", "http_version": "1.1", "method": method, "scheme": sent.pop("scheme", "http"),
            "path": path, "raw_path": path.encode(), "query_string": query.encode(), "root_path": "",
            "headers": [(k.encode(), v.encode()) for k, v in sent.items() if v], "client": ("127.0.0.1", 5),
            "server": ("127.0.0.1", 6380),
        }  # fmt: skip
        messages: list[MutableMapping[str, Any]] = []

        sent_all: list[bool] = []

        async def receive() -> MutableMapping[str, Any]:
            if sent_all:
                await asyncio.Event().wait()  # stays connected, as browsers do
            sent_all.append(True)
            return {"type": "http.request", "body": body, "more_body": False}

        async def send(message: MutableMapping[str, Any]) -> None:
            messages.append(message)

        asyncio.run(self._app(scope, receive, send))
        found = [(k.decode(), v.decode()) for k, v in messages[0]["headers"]]
        answer = Answer(messages[0]["status"], found, b"".join(m.get("body", b"") for m in messages[1:]).decode())
        given = answer.header("set-cookie")
        if given:
            self.cookie = given.partition(";")[0]
        return answer


class Tags(HTMLParser):
    """Every start tag of a page with its attributes, and texts of script and style elements."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.code = ""
        self._within = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        self._within = tag

    def handle_endtag(self, tag: str) -> None:
        self._within = ""

    def handle_data(self, data: str) -> None:
        if self._within in ("script", "style"):
            self.code += data


def hidden(answer: Answer, name: str) -> str:
    """The value of the first input of that name."""
    for tag, attributes in Tags(answer.text).tags:
        if tag == "input" and attributes.get("name") == name:
            return attributes.get("value") or ""
    raise AssertionError(f"no input {name}: {answer.status} {answer.text[:300]}")
