"""Words and colours in which status and groups show the same things."""

from __future__ import annotations

from typing import Any

STATUS_COLOURS = {"available": "green", "create-failed": "red", "restore-failed": "red"}


def extras(group: dict[str, Any]) -> list[str]:
    """What is under way in a group beside its status word."""
    found = []
    if group["resharding"] is not None:
        found.append(f"resharding {group['resharding']:.0f} %")
    change = group["engine_change"]
    if change is not None and not change["done"]:
        found.append(f"{change['from']} -> {change['to']}")
    if change is not None and change["done"]:
        found.append(f"can go back to {change['from']}")
    if group["cluster_mode_before"] is not None:
        found.append(f"cluster mode {group['cluster_mode_before']} -> {group['cluster_mode']}")
    # A service of an earlier version, which runs until it is started anew, does not tell these.
    if group.get("global_datastore") is not None:
        found.append(f"in {group['global_datastore']}")
    if group.get("migrates_from") is not None:
        found.append(f"follows {group['migrates_from']}")
    if any(shard["handing_over"] for shard in group["shards"]):
        found.append("handing over")
    return found
