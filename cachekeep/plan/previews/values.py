"""Changes of node type and of parameters: what is set while engines run, and what waits for a reboot. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from cachekeep.domain.cache_cluster import CacheCluster
from cachekeep.domain.engine import Engine
from cachekeep.domain.parameters import ParameterGroup
from cachekeep.plan.parameters import why_recorded_only
from cachekeep.plan.placement import node_bytes
from cachekeep.plan.previews import figures, words
from cachekeep.plan.previews.scene import Part, Scene, gap


def node_type(scene: Scene, members: Sequence[CacheCluster], old: str, new: str, *, clustered: bool) -> Part:
    """members: as stored before; all get the type `new`."""
    types = scene.catalog.node_types
    engine = members[0].engine if members else Engine.VALKEY
    before, after = node_bytes(engine, types[old]), node_bytes(engine, types[new])
    steps = [f"maxmemory of {words.several(len(members), 'node')} is set while they run; no process is restarted."]
    warnings = []
    for member in members:
        wanted = scene.maxmemory(replace(member, node_type=new), clustered=clustered)
        used = scene.data_bytes(member)
        if wanted is not None and used is not None and used > wanted * 0.8:
            warnings.append(
                f"{member.id} uses {words.size(used)} of the {words.size(wanted)} that {new} leaves for data"
                + ("; it does not fit." if used > wanted else ".")
            )
    if after < before:
        steps.append("Every node is asked first what it uses: if it does not fit, the change is taken back.")
    unlike = types[old].maxclients != types[new].maxclients or types[old].vcpu != types[new].vcpu
    if unlike:
        steps.append(
            f"Limits of connections and processors are as of {new}: {types[new].maxclients} clients, "
            f"{types[new].vcpu} vCPU (processors are not limited on this machine)."
        )
    undo = (f"CacheNodeType={old} goes back in the same way, as long as the data fits.",)
    return Part(tuple(steps), undo=undo, warnings=tuple(warnings), most_s=1.0)


def parameters(scene: Scene, members: Sequence[CacheCluster], old: str, *, clustered: bool) -> Part:
    """members: as stored after, with the parameter group they shall have. old: the name of the one they had."""
    live: dict[str, str] = {}
    late: dict[str, str] = {}
    for member in members:
        change = scene.config_change(member, clustered=clustered)
        live |= change.live
        late |= change.restart
    names = [m.id for m in members]
    memcached = bool(members) and not members[0].engine.speaks_resp
    steps = []
    if live:
        steps.append(f"Set while {words.listed(names)} {words.do(len(names), 'run')}: {_pairs(live)}.")
    if late:
        what = "the new options" if memcached else _pairs(late)
        steps.append(
            f"{words.listed(names)} {words.do(len(names), 'show')} `pending-reboot`: {what} will be in effect after "
            "RebootCacheCluster, node by node, when you ask for it."
        )
    if not steps:
        steps.append("No engine gets another value: only the name of the group changes.")
    undo = (f"CacheParameterGroupName={old} sets the former values in the same way.",) if old else ()
    return Part(tuple(steps), undo=undo, warnings=_cautions({**live, **late}))


def _pairs(values: dict[str, str]) -> str:
    return words.listed([f"{name} {value!r}" if " " in value or not value else f"{name} {value}"
                         for name, value in sorted(values.items())], 12)  # fmt: skip


def _cautions(values: dict[str, str]) -> tuple[str, ...]:
    found = []
    if values.get("appendonly") == "yes":
        found.append("appendonly yes: each engine forks and writes all its data once, then every write to the disk.")
    if values.get("appendonly") == "no":
        found.append("appendonly no: from now on a process that dies leaves no data behind.")
    return tuple(found)


def group_values(scene: Scene, old: ParameterGroup, new: ParameterGroup) -> list[Part]:
    """New values of a parameter group: for every cluster that runs with it."""
    changed = sorted(n for n in old.values.keys() | new.values.keys() if old.values.get(n) != new.values.get(n))
    if not changed:
        return []
    idle = [f"{name} ({why})" for name in changed if (why := why_recorded_only(name)) is not None]
    users = [c for c in scene.after.clusters.values() if c.parameter_group == new.name]
    warnings = (f"Recorded only: {words.listed(idle)}.",) if idle else ()
    if not users:
        text = f"{words.listed(changed)} of {new.name} change; no cache runs with this group."
        return [Part((text,), undo=("Set the former values again.",), warnings=warnings)]
    parts = []
    for is_clustered in (False, True):
        mine = [c for c in users if _clustered(scene, c) is is_clustered]
        if mine:
            made = parameters(scene, mine, "", clustered=is_clustered)
            parts.append(replace(made, undo=("Set the former values again.",), warnings=made.warnings + warnings))
    return parts


def _clustered(scene: Scene, cluster: CacheCluster) -> bool:
    group = scene.after.groups.get(cluster.replication_group_id or "")
    return group is not None and group.clustered


def restart(scene: Scene, cluster: CacheCluster, why: str) -> Part:
    """A process that is ended with its data saved and started anew, and cannot be replaced meanwhile."""
    figure = figures.restart(scene.data_bytes(cluster))
    steps = (f"{cluster.id} saves its data, ends, and starts anew {why}.",)
    warnings = ("All its connections are cut, and nothing answers meanwhile: there is no replica to take over.",)
    return Part(steps, (gap(figure, f"reads and writes of {cluster.id}"),), (), warnings, most_s=figure.most_ms / 1000)
