"""Watched targets as the status page would tell them. Called by report.cost and report.right_size."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from cachekeep.domain.metric_ports import Gauges
from cachekeep.domain.metrics import Subject, WatchedTarget

_Node = tuple[Subject, Mapping[str, str]]


def watched_resources(targets: Sequence[WatchedTarget], gauges: Gauges) -> list[dict[str, Any]]:
    """`id`, `region`, `engine` (None before it answered), `node_type` ("" for not said), `nodes` of each target: the
    target itself, or the members of the group that it is."""
    measured = _measured(gauges) if targets else {}
    return [_resource(target, measured.get((target.region, target.id), ())) for target in targets]


def _measured(gauges: Gauges) -> Mapping[tuple[str, str], list[_Node]]:
    """The nodes of now, by their own id and by their group's."""
    found: dict[tuple[str, str], list[_Node]] = {}
    for subject in gauges.subjects():
        current = gauges.current(subject) if subject.node_id else None
        if current is None:
            continue
        for name in {subject.id, current.facts.get("replication_group") or subject.id}:
            found.setdefault((subject.region, name), []).append((subject, current.facts))
    return found


def _resource(target: WatchedTarget, nodes: Sequence[_Node]) -> dict[str, Any]:
    return {
        "id": target.id,
        "region": target.region,
        "engine": next((facts["engine"] for _, facts in nodes if facts.get("engine")), None),
        "node_type": target.node_type,
        "nodes": [
            {
                "id": node.id,
                "node_id": node.node_id,
                "spare": None,
                "pid": None,
                "shard": facts.get("shard"),
                "role": facts.get("role"),
            }
            for node, facts in nodes
        ],
    }
