"""Whether a plan still is what its reader agreed to, by the same request rehearsed anew. Pure; called by web.plans.

Between the plan and its confirmation the resource may have been deleted and made again, or its nodes may have changed
their roles. What is measured (bytes, seconds, connections) moves all the time and is no such change: a busy cache could
never be confirmed.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from cachekeep.web.sessions import Plan

# As plan.previews words what was measured; the tests hold these against it.
_AMOUNT = re.compile(r"\b\d+(\.\d+)? (bytes|[KMGT]iB|s|min)\b")
_ASIDE = re.compile(r" \((\d+ now|[^()]* as last seen)\)")
_CONNECTIONS = re.compile(r"\d+ connections? to what leaves (is|are) cut\.")


def still_holds(shown: Plan, anew: Plan) -> bool:
    """Same resource, same request, same steps, warnings, pauses and memory, however much data there is by now."""
    return (shown.identity, shown.fields, _told(shown.preview)) == (anew.identity, anew.fields, _told(anew.preview))


def identity_of(target: Mapping[str, Any]) -> tuple[object, ...]:
    """What tells a resource from another one of its name, and who of its nodes is what. target: its row of the status
    page; empty for what is yet to be made."""
    if not target:
        return ()
    nodes = tuple((node["id"], node["node_id"], node.get("role")) for node in target.get("nodes", ()))
    primaries = tuple((shard["id"], shard.get("primary")) for shard in target.get("shards", ()))
    return target["created_at"], nodes, primaries


def _told(preview: Mapping[str, Any]) -> tuple[object, ...]:
    steps, warnings = (
        tuple(_AMOUNT.sub("#", _ASIDE.sub("", text)) for text in preview[part] if not _CONNECTIONS.fullmatch(text))
        for part in ("steps", "warnings")
    )
    gaps = tuple((gap["what"], gap["times"]) for gap in preview["gaps"])
    return preview["changes"], tuple(preview["resources"]), steps, warnings, gaps, preview["memory"]
