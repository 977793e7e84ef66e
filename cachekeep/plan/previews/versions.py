"""Changes of engine and version: of groups node by node, of single nodes and Memcached by a restart. Pure."""

from __future__ import annotations

from cachekeep.domain.cache_cluster import CacheCluster, Spare
from cachekeep.domain.engine import Engine, EngineVersion
from cachekeep.domain.replication_group import NodeGroup, ReplicationGroup
from cachekeep.plan.previews import figures, values, words
from cachekeep.plan.previews.roles import switch_gap
from cachekeep.plan.previews.scene import Part, Scene, gap, known_sum
from cachekeep.plan.upgrades import Runs, why_not


def of_group(scene: Scene, old: ReplicationGroup, engine: Engine, version: EngineVersion) -> Part:
    """Every member's node is replaced by one of the new version, which was a replica before."""
    wanted = words.runs(engine, version)
    back = _returning(scene, old)
    steps = [_beginning(scene, old, wanted, back)]
    for shard in old.node_groups:
        steps += _shard_steps(scene, shard, wanted, back)
    before = _running(old)
    kept_s = scene.limits.rollback_s if version >= before.version else 0.0
    if kept_s > 0:
        steps.append(
            f"The former node of each primary ({before}) stays in sync for {words.hours(kept_s)}, then it is released."
        )
    data = known_sum([scene.data_bytes(scene.primary(s)) for s in old.node_groups])
    nodes = max((len(s.member_ids) for s in old.node_groups), default=1)
    copies = 0 if back else nodes * (figures.copy_s(data) if data is not None else 0.0)
    gaps = tuple(switch_gap(old, shard) for shard in old.node_groups)
    return Part(
        tuple(steps),
        gaps,
        _undo(old, Runs(engine, version), kept_s),
        _cautions(scene, old, str(before)),
        least_s=0.2,
        most_s=2 * copies + 2,
    )


def _running(group: ReplicationGroup) -> Runs:
    return Runs(group.substitute or group.engine, group.substitute_version or group.version)


def _returning(scene: Scene, old: ReplicationGroup) -> dict[str, Spare]:
    """Former instances that come back, by member: they are in sync already."""
    found = {}
    for name in old.member_ids:
        before, after = scene.before.clusters.get(name), scene.after.clusters.get(name)
        if before is None or after is None or before.spare is None or after.spare is None:
            continue
        if before.spare.former and not after.spare.former and before.spare.node == after.spare.node:
            found[name] = before.spare
    return found


def _beginning(scene: Scene, old: ReplicationGroup, wanted: str, back: dict[str, Spare]) -> str:
    fresh = len(old.member_ids) - len(back)
    text = f"Every member gets a second node with {wanted} beside its own, which serves on; replicas before primaries"
    if len(old.node_groups) > 1:
        text += f", the {len(old.node_groups)} shards side by side"
    if back:
        have = words.do(len(back), "have")
        text += f". {words.listed(sorted(back))} still {have} the one from before the last change, in sync"
        text += f"; {words.several(fresh, 'other')} {words.do(fresh, 'are')} new" if fresh else ""
    return text + "."


def _shard_steps(scene: Scene, shard: NodeGroup, wanted: str, back: dict[str, Spare]) -> list[str]:
    data = scene.data_bytes(scene.primary(shard))
    copies = "copies the data"
    if data is not None:
        copies = f"copies {words.size(data)} (about {words.seconds(figures.copy_s(data))})"
    steps = []
    for name in sorted(shard.member_ids, key=lambda n: (n == shard.primary_id, n)):
        brought = "the node of before takes over again" if name in back else f"the new node {copies}"
        if name == shard.primary_id:
            steps.append(
                f"{name}, the primary: {brought}, writes are paused until it has every one of them, and the role and "
                "the endpoints are handed to it."
            )
        else:
            steps.append(f"{name}, a replica: {brought}, takes the member's address and place; the old node ends.")
    return steps


def _undo(old: ReplicationGroup, wanted: Runs, kept_s: float) -> tuple[str, ...]:
    before = _running(old)
    asked = f"EngineVersion={before.version}"
    found = []
    if kept_s > 0:
        figure = figures.SWITCH_OVER
        asked_now = asked + ("" if before.engine is wanted.engine else f" Engine={before.engine.value}")
        found.append(
            f"For {words.hours(kept_s)}, or until `cachekeep down`: {asked_now} hands back to the former nodes at once "
            f"({figure.least_ms:g}-{figure.most_ms:g} ms a shard), unless a command was used that {before} does not "
            "know."
        )
    return (*found, _later(before, wanted, asked, by_file=False))


def _later(before: Runs, wanted: Runs, asked: str, *, by_file: bool) -> str:
    """Whether a change back is possible without the former instances."""
    if why_not(wanted, before, (), by_file=by_file) is not None:
        how = "read the files of" if by_file else "replicate from"
        reason = f"{before} cannot {how} {wanted}"
        if wanted.engine is not before.engine:
            reason = f"{wanted.engine.label} never changes back to {before.engine.label}"
        return f"Later: not at all, {reason}; take a backup first (`cachekeep backup`)."
    how = "by a restart" if by_file else "by new copies"
    return f"Later: {asked} changes back {how}, as long as the data holds nothing that {before} does not know."


def _cautions(scene: Scene, old: ReplicationGroup, before: str) -> tuple[str, ...]:
    clients = 0
    for member in scene.before.members(old):
        facts = scene.facts(member)
        clients += facts.clients if facts is not None else 0
    found = [f"Every connection is cut once ({clients} now)." if clients else "Every connection is cut once."]
    found.append(f"A node that cannot carry out what {before} replicates, or is not in sync within "
                 f"{words.seconds(scene.limits.sync_s)}, ends the change; the old nodes serve on.")  # fmt: skip
    if old.automatic_failover is False and len(old.member_ids) == 1:
        found.append("The group has one member: meanwhile its second node is the only replica.")
    return tuple(found)


def of_cluster(scene: Scene, old: CacheCluster, engine: Engine, version: EngineVersion) -> Part:
    """A node of its own is restarted; Memcached starts empty."""
    wanted = words.runs(engine, version)
    if not engine.speaks_resp:
        nodes = len(old.nodes)
        does = f"{words.do(nodes, 'end')} and {words.do(nodes, 'start')}"
        steps = (f"{words.several(nodes, 'node')} of {old.id} {does} empty with {wanted}.",)
        lost = (f"Everything that {old.id} holds is lost, as on AWS.",)
        times = gap(figures.empty_restart(), f"nodes of {old.id}", len(old.nodes))
        return Part(steps, (times,), (f"EngineVersion={old.version} goes back; the data not at all.",), lost)
    part = values.restart(scene, old, f"with {wanted}, which loads it")
    back = _later(Runs(*old.runs), Runs(engine, version), f"EngineVersion={old.version}", by_file=True)
    return Part(part.steps, part.gaps, (_sentence(back.removeprefix("Later: ")),), part.warnings, most_s=part.most_s)


def _sentence(text: str) -> str:
    return text[:1].upper() + text[1:]
