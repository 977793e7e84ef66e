"""Changes of cluster mode: disabled, compatible, enabled. Pure."""

from __future__ import annotations

from cachekeep.domain.replication_group import ClusterMode, ReplicationGroup
from cachekeep.plan.previews import figures, words
from cachekeep.plan.previews.scene import Part, Scene, gap


def cluster_mode(scene: Scene, old: ReplicationGroup, new: ReplicationGroup) -> Part:
    if new.cluster_mode is ClusterMode.ENABLED and old.clustered:
        return _enabled(old)
    return _restarted(scene, old, new)


def _enabled(old: ReplicationGroup) -> Part:
    endpoints = [str(e) for e in (old.primary_endpoint, old.reader_endpoint) if e is not None]
    steps = [f"Clients find the group at its configuration endpoint {old.configuration_endpoint} only."]
    if endpoints:
        steps.append(f"{words.listed(endpoints)} answer no more. No process is restarted, no data moves.")
    warnings = ("Clients that still use the primary or reader endpoint are cut and find nobody there.",)
    return Part(tuple(steps), undo=("Not at all: enabled is final, as on AWS.",), warnings=warnings, most_s=1.0)


def _restarted(scene: Scene, old: ReplicationGroup, new: ReplicationGroup) -> Part:
    shard = old.node_groups[0]
    figure = figures.restart(scene.data_bytes(scene.primary(shard)))
    into = "in cluster mode" if new.clustered else "without cluster mode"
    steps = [
        f"{shard.primary_id} saves its data, ends, and starts anew with it {into}: an engine changes its mode only "
        "by a restart.",
    ]
    if len(shard.member_ids) > 1:
        steps.append("The replicas start anew after it, empty, and copy its data.")
    if new.clustered:
        steps.append(
            f"Clients in cluster mode find it at {new.configuration_endpoint or 'its nodes'}; the primary and reader "
            "endpoints stay meanwhile."
        )
        undo = "ClusterMode=disabled goes back in the same way, until ClusterMode=enabled is asked for."
    else:
        steps.append("The configuration endpoint answers no more.")
        undo = "ClusterMode=compatible goes forward again in the same way."
    warnings = (
        "Every connection is cut, and nothing answers while the primary starts anew.",
        "While the replicas copy there is nobody to take over: its data is on the disk.",
    )
    gaps = (gap(figure, f"reads and writes of {new.id}"),)
    return Part(tuple(steps), gaps, (undo,), warnings, most_s=figure.most_ms / 1000 + 2)
