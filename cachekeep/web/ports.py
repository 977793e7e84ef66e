"""What the dashboard needs of the service. Protocols only; the composition root implements them.

All mappings are JSON values. Every method may raise domain.faults.Fault, whose sentence the user then reads. All are
called on the event loop and answer at once, save those that are awaited.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

Json = Mapping[str, Any]


class Operator(Protocol):
    """Carries out what users ask for, as the API would for the same key."""

    def verify_key(self, access_key: str, secret: str) -> bool:
        """Whether the secret is that of the key. Takes the same time for every wrong secret, and for unknown keys."""
        ...

    def why_not(self, access_key: str, source: str) -> str | None:
        """Why the key may not see the pages, in a sentence, None where it may. Asked at every page. source: the address
        that asks."""
        ...

    def perform(self, region: str, access_key: str, fields: Mapping[str, str], source: str = "") -> Json:
        """Carry out one Query request (`Action` and its parameters)."""
        ...

    def rehearse(self, region: str, access_key: str, fields: Mapping[str, str], source: str = "") -> Json:
        """What the request would do, with nothing done: resources, changes, steps, gaps (least_ms, most_ms, what,
        source, times), memory (now_bytes, meanwhile_bytes, afterwards_bytes), undo, warnings, begins_at, least_s,
        most_s. See plan.preview.Preview."""
        ...


class Views(Protocol):
    """What the pages show."""

    def regions(self) -> Sequence[str]:
        """Those that may be chosen, the usual one first."""
        ...

    def node_types(self) -> Sequence[str]: ...

    def status(self) -> Json:
        """`service`, `groups`, `clusters`: see cachekeep.status.status_of."""
        ...

    def watched(self, region: str) -> Sequence[Json]:
        """Targets that are only read: id, url, engine, version, role, used_memory, maxmemory (bytes), keys, clients,
        trouble (a sentence or None); absent facts None."""
        ...

    def health(self, region: str, resource: str | None) -> Json:
        """None: {"resources": {id: level}, "troubles": {id: [which node cannot be asked, and why]}}. Otherwise
        {"level", "sentence", "nodes": [{"id", "trouble" (a sentence or None)}], "verdicts": [{"metric", "title",
        "tier", "level", "value" (text), "node", "sentence", "means", "cause", "next", "evidence": [text]}]}.
        Levels: safe, warning, risk, unknown."""
        ...

    async def chart(self, region: str, resource: str, metric: str, start: float, end: float) -> Json:
        """{"metric", "title", "unit", "per_minute", "from", "to", "starts": [seconds], "series": [{"label", "values":
        [number or None]}], "bands": [{"level", "from", "to"}], "note"}: one series per node, gaps None, an open end of
        a band None. note: what is not drawn, "" for nothing. "judged_by": the metric whose verdict it has."""
        ...

    async def right_size(self, region: str, resource: str, margin_pct: float, horizon_days: float) -> Json:
        """What would hold the measured load, and for how much: see plan.right_size.as_json."""
        ...

    def events(self, region: str, resource: str) -> Sequence[Json]:
        """Newest first: at (seconds since 1970), message."""
        ...

    def journal(self, region: str, resource: str) -> Sequence[Json]:
        """Newest first: at (seconds since 1970), sentence."""
        ...

    def alarms(self, region: str) -> Sequence[Json]:
        """name, state (OK, ALARM, INSUFFICIENT_DATA), reason, condition and actions (texts), of (what it is on),
        resource (whose page shows it: for a member its group), updated_at."""
        ...

    def alarm_history(self, region: str) -> Sequence[Json]:
        """Newest first: at (seconds since 1970), alarm, summary."""
        ...

    def backups(self, region: str) -> Sequence[Json]:
        """Snapshots, newest first: name, resource (its id in `status`), of (its name as shown), serverless (of such a
        cache), source (manual or automated), at (seconds since 1970), size_bytes, state."""
        ...

    async def cost(self, region: str, resource: str | None) -> Json:
        """{"rows": [{"resource", "node_type", "count", "hourly", "monthly" (texts, None for not known), "source"}],
        "total" (text or None), "notes": [sentence], "here": what it takes of this machine (memory_share, cpu_share from
        0 to 1, machine_usd_month, usd; each None for not known)}; here may be absent."""
        ...

    async def prices(self, node_type: str, count: str, utilisation: str, hours: str, region: str) -> Json:
        """Known prices and what they come to: see report.price_table. All are texts as typed, "" for the usual, and for
        every node type or region."""
        ...
