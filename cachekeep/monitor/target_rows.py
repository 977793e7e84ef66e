"""A watched target as surfaces show it: JSON values, without its password. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from cachekeep.domain.metrics import Current, WatchedNode, WatchedTarget

# JSON's name of what the engine counts -> metrics, the first that is there.
_NUMBERS = {
    "used_memory": ("BytesUsedForCache", "BytesUsedForCacheItems"),
    "maxmemory": ("MaxMemory",),
    "keys": ("CurrItems",),
    "clients": ("CurrConnections",),
}


def row_of(
    target: WatchedTarget, currents: Sequence[Current | None], trouble: str | None, note: str | None
) -> dict[str, Any]:
    """currents: what its nodes showed last, in their order; empty where it is not measured. trouble: of the last look
    at the endpoint; the nodes know better, as they are asked every second. note: what that look could not find out.
    """
    rows = [_node(target, node, now) for node, now in zip(target.nodes, currents, strict=False)]
    reasons = [now.trouble for now in currents if now is not None and (now.at or now.trouble)]
    if reasons:
        trouble = None if None in reasons else reasons[0]
    primaries = [row for row in rows if row["role"] != "replica"] or rows
    return {
        "id": target.id,
        "region": target.region,
        "url": target.url,
        "username": target.username,
        "ca_file": target.ca_file,
        "node_type": target.node_type or None,
        "added_at": target.added_at,
        "engine": target.engine or None,
        "version": target.version or None,
        "role": _role(rows),
        **{name: _sum(row[name] for row in primaries) for name in ("used_memory", "maxmemory", "keys")},
        "clients": _sum(row["clients"] for row in rows),
        "nodes": rows,
        "trouble": trouble,
        "note": note,
    }


def _node(target: WatchedTarget, node: WatchedNode, now: Current | None) -> dict[str, Any]:
    """As the status page shows nodes of our own, where a fact is known."""
    values = now.values if now is not None else {}
    facts = now.facts if now is not None else {}
    seen = now is not None and now.at > 0
    return {
        "id": node.cluster_id,
        "node_id": node.node_id,
        "shard": node.shard or None,
        "role": facts.get("role") or None,
        "status": "unreachable" if now is not None and now.trouble else "available" if seen else "not asked yet",
        "address": str(node.address),
        "host_name": node.host_name or None,
        "engine": target.engine or None,
        "version": target.version or None,
        "offset": None,
        "in_sync": None,
        "spare": None,
        "trouble": now.trouble if now is not None else None,
        **{name: _number(values, metrics) if seen else None for name, metrics in _NUMBERS.items()},
    }


def _role(rows: Sequence[Mapping[str, Any]]) -> str | None:
    if not rows:
        return None
    if any(row["shard"] for row in rows):
        return "cluster"
    role: str | None = rows[0]["role"]
    return role if len(rows) == 1 else "group" if any(row["role"] for row in rows) else None


def _number(values: Mapping[str, float], metrics: Sequence[str]) -> int | None:
    return next((int(values[name]) for name in metrics if name in values), None)


def _sum(values: Iterable[int | None]) -> int | None:
    known = [value for value in values if value is not None]
    return sum(known) if known else None
