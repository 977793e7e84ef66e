"""The signed page `/_cachekeep/health`: GET tells the health of all or of one, POST sets numbers of its own."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from cachekeep.domain.faults import invalid_value, missing_parameter
from cachekeep.report.health import HealthReports


async def told(reports: HealthReports, region: str, query: Mapping[str, str]) -> dict[str, Any]:
    """?name=: its report, after a closer look unless `look=no`. Without a name: the overview. Raises Fault."""
    name = query.get("name", "").lower()
    if not name:
        return reports.overview(region)
    if query.get("look") == "no":
        return reports.report(region, name)
    return await reports.examined(region, name)


def changed(reports: HealthReports, region: str, body: Mapping[str, Any]) -> dict[str, Any]:
    """body: `name`, `set` (metric -> warning, risk or both) and `unset` (metrics, or `all`). Answers `id` and
    `own_thresholds`: what it has of its own then. Raises Fault."""
    name, wish, unset = body.get("name"), body.get("set", {}), body.get("unset", [])
    if not name:
        raise missing_parameter("name")
    if not isinstance(name, str) or not isinstance(wish, dict) or not isinstance(unset, list):
        raise invalid_value("name must be a text, set an object, unset a list.")
    if not all(isinstance(metric, str) for metric in unset):
        raise invalid_value("unset must be a list of metrics.")
    values = reports.change(region, name.lower(), wish, unset)
    return {"id": name.lower(), "own_thresholds": {metric: dict(numbers) for metric, numbers in values.items()}}
