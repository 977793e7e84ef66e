"""A small browser for tests: keeps cookies, sends forms, and speaks ASGI to the dashboard directly."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, MutableMapping, Sequence
from dataclasses import dataclass
from html.parser import HTMLParser
from typing import Any
from urllib.parse import urlencode

from starlette.applications import Starlette

from cachekeep.domain.faults import Fault
from cachekeep.web import build

HOST = "127.0.0.1:6380"
FORM = {"content_type": "application/x-www-form-urlencoded"}
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
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
        self.refusal: str | None = None
        self.preview: dict[str, Any] = dict(PLAN)
        self.verified: list[tuple[str, str]] = []

    def verify_key(self, access_key: str, secret: str) -> bool:
        self.verified.append((access_key, secret))
        return (access_key, secret) == ("AKIA1", "right")

    def why_not(self, access_key: str, source: str) -> str | None:
        return self.refusal

    def rehearse(self, region: str, access_key: str, fields: Mapping[str, str], source: str = "") -> Mapping[str, Any]:
        if self.fault:
            raise self.fault
        self.rehearsed.append(dict(fields))
        return self.preview

    def perform(self, region: str, access_key: str, fields: Mapping[str, str], source: str = "") -> Mapping[str, Any]:
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
        "id": name, "region": "us-east-1", "status": "available", "created_at": 1e5, "engine": "valkey",
        "version": "8.1", "runs": None,
        "node_type": "cache.t4g.micro", "parameter_group": "default.valkey8", "waits_for_window": None,
        "cluster_mode": "disabled", "cluster_mode_before": None, "automatic_failover": "enabled",
        "primary_endpoint": "127.64.0.1:6379", "reader_endpoint": "127.64.0.2:6379", "configuration_endpoint": None,
        "shards": [], "resharding": None, "engine_change": None, "serverless": None, "tls": None, "guard": None,
        "nodes": [node(f"{name}-001", "primary", 5000), node(f"{name}-002", "replica", 3976)],
    } | others  # fmt: skip


class FakeViews:
    def __init__(self) -> None:
        self.groups = [group()]
        self.note = "a-002 is promoted."
        self.level = "warning"
        self.sized: tuple[str, str, float, float] | None = None
        self.charted: list[tuple[str, str, str, float, float]] = []
        self.priced: dict[str, str] = {}
        self.silent: list[str] = []

    def regions(self) -> Sequence[str]:
        return ["us-east-1", "eu-west-1"]

    def node_types(self) -> Sequence[str]:
        return ["cache.t4g.micro", "cache.m7g.large"]

    def status(self) -> Mapping[str, Any]:
        clusters = [
            {
                "id": "sessions", "region": "us-east-1", "status": "available", "created_at": 1e5,
                "engine": "memcached",
                "version": "1.6.22", "runs": None, "node_type": "cache.t4g.micro", "parameter_group": "p",
                "waits_for_window": None, "configuration_endpoint": None, "serverless": None, "tls": None,
                "guard": None,
                "nodes": [node("sessions", "primary", 0) | {"role": None, "shard": None, "offset": None}],
            }
        ]  # fmt: skip
        return {"service": {}, "groups": self.groups, "clusters": clusters}

    def watched(self, region: str) -> Sequence[Mapping[str, Any]]:
        return [{"id": "aws-cache", "url": "rediss://cache.example:6379", "engine": None, "version": None,
                 "role": None, "used_memory": None, "maxmemory": None, "trouble": "no answer for 12 s"}]  # fmt: skip

    def health(self, region: str, resource: str | None) -> Mapping[str, Any]:
        if resource is None:
            silent = [f"{name}: does not answer" for name in self.silent]
            return {"resources": {"orders": self.level}, "troubles": {"orders": silent}}
        verdict = {"metric": "SwapUsage", "title": "Swap usage", "tier": "crucial", "level": self.level,
                   "value": "20 MB", "node": "orders-001", "sentence": "Swap is used.", "means": "Slow answers.",
                   "cause": "Too little memory.", "next": "Take a larger node type.", "evidence": []}  # fmt: skip
        nodes = [{"id": name, "trouble": "does not answer"} for name in self.silent]
        return {"level": self.level, "sentence": f"{self.level}, they say", "nodes": nodes, "verdicts": [verdict]}

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
        return [{"name": "full", "state": "ALARM", "reason": self.note, "actions": "off",
                 "condition": "Average SwapUsage > 5 for one period", "of": "orders-001",
                 "resource": "orders", "updated_at": 0.0}]  # fmt: skip

    def alarm_history(self, region: str) -> Sequence[Mapping[str, Any]]:
        return [{"at": 0.0, "alarm": "full", "summary": "Alarm updated from OK to ALARM"}]

    def backups(self, region: str) -> Sequence[Mapping[str, Any]]:
        return [{"name": "nightly", "resource": "orders", "of": "orders", "serverless": False, "source": "automated",
                 "at": 0.0, "size_bytes": 2048, "state": "available"}]  # fmt: skip

    async def cost(self, region: str, resource: str | None) -> Mapping[str, Any]:
        row = {"resource": "orders", "node_type": "cache.t4g.micro", "count": 2, "hourly": None, "monthly": None}
        here = {"memory_share": 0.02, "cpu_share": None, "machine_usd_month": 40.0, "usd": 0.8}
        return {"rows": [row | {"source": "none"}], "total": None, "notes": ["Prices of us-east-1."], "here": here}

    async def prices(self, node_type: str, count: str, utilisation: str, hours: str, region: str) -> Mapping[str, Any]:
        self.priced = {"node_type": node_type, "count": count, "utilisation": utilisation, "hours": hours,
                       "region": region}  # fmt: skip
        if count == "many":
            raise Fault("InvalidParameterValue", "the count must be a whole number of nodes, not 'many'.")
        row = {"node_type": "cache.m5.large", "engine": "redis", "region": "unstated", "model": "on-demand",
               "usd_per_hour": 0.163, "usd": 118.99, "known": True, "formula": "1 x 0.163 = 118.99 USD",
               "source": "the calculator", "as_of": None}  # fmt: skip
        return {"rows": [row], "notes": ["1 of 2 prices are shown"]}


@dataclass
class Answer:
    status: int
    headers: list[tuple[str, str]]
    text: str

    def header(self, name: str) -> str:
        return next((value for known, value in self.headers if known == name), "")


class Browser:
    """One browser at one dashboard. `time` is the clock of its sessions, in seconds; `address` is where it is."""

    def __init__(self, form_deadline_s: float = 60.0) -> None:
        self.operator, self.views = FakeOperator(), FakeViews()
        self.time = 1000.0
        self.cookie = ""
        self.address = "127.0.0.1"
        routes = build(
            self.operator, self.views, {HOST}, now=lambda: 1e6, monotonic=lambda: self.time,
            form_deadline_s=form_deadline_s,
        )  # fmt: skip
        self._app = Starlette(routes=routes)

    def get(self, path: str, **headers: str) -> Answer:
        return self._ask("GET", path, b"", headers)

    def post(self, path: str, form: Mapping[str, str], **headers: str) -> Answer:
        return self._ask("POST", path, urlencode(form).encode(), FORM | headers)

    def sign_in(self, given: str = "right", access_key: str = "AKIA1") -> Answer:
        return self.post("/ui/sign-in", {"access_key": access_key, "secret": given})

    def send(self, path: str, **fields: str) -> Answer:
        """A form with the session's CSRF token, as a page would send it; the form of an action with its region."""
        region = {"region": "us-east-1"} if path.startswith("/ui/plan/") else {}
        return self.post(path, {"csrf": self.hidden("/ui/", "csrf"), **region, **fields})

    def hidden(self, path: str, name: str) -> str:
        return hidden(self.get(path), name)

    def _ask(self, method: str, path: str, body: bytes, headers: Mapping[str, str]) -> Answer:
        answer = asyncio.run(self.ask(method, path, headers, arriving(body)))
        given = answer.header("set-cookie")
        if given:
            self.cookie = given.partition(";")[0]
        return answer

    async def ask(self, method: str, path: str, headers: Mapping[str, str], receive: Receive) -> Answer:
        """receive: as of ASGI, for bodies that arrive in another way than at once."""
        path, _, query = path.partition("?")
        sent = {"host": HOST, "cookie": self.cookie} | {k.replace("_", "-"): v for k, v in headers.items()}
        scope = {
            "type": "http", "http_version": "1.1", "method": method, "scheme": sent.pop("scheme", "http"),
            "path": path, "raw_path": path.encode(), "query_string": query.encode(), "root_path": "",
            "headers": [(k.encode(), v.encode()) for k, v in sent.items() if v], "client": (self.address, 5),
            "server": ("127.0.0.1", 6380),
        }  # fmt: skip
        messages: list[Message] = []

        async def send(message: Message) -> None:
            messages.append(message)

        await self._app(scope, receive, send)
        found = [(k.decode(), v.decode()) for k, v in messages[0]["headers"]]
        return Answer(messages[0]["status"], found, b"".join(m.get("body", b"") for m in messages[1:]).decode())


def arriving(body: bytes, gate: asyncio.Event | None = None) -> Receive:
    """A body that arrives at once, or its second half once the gate is open; the browser stays connected."""
    parts = [body[:1], body[1:]] if gate else [body]

    async def receive() -> Message:
        if not parts:
            await asyncio.Event().wait()
        if gate and len(parts) == 1:
            await gate.wait()
        return {"type": "http.request", "body": parts.pop(0), "more_body": bool(parts)}

    return receive


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
