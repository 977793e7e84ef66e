"""Groups and members that come and go: create, delete, more and fewer replicas. Pure."""

from __future__ import annotations

from cachekeep.domain.cache_cluster import CacheCluster
from cachekeep.domain.replication_group import ClusterMode, ReplicationGroup
from cachekeep.domain.slots import slots_text
from cachekeep.plan.previews import figures, words
from cachekeep.plan.previews.scene import Part, Scene, gap, is_going, known_sum


def created(scene: Scene, group: ReplicationGroup) -> Part:
    """A group that comes to be, or takes up a cluster that there is."""
    members = scene.after.members(group)
    taken = [m.id for m in members if m.id in scene.before.clusters]
    fresh = [m for m in members if m.id not in taken]
    engine = words.runs(*members[0].runs) if members else words.runs(group.engine, group.version)
    steps = []
    if taken:
        steps.append(f"{words.listed(taken)}, which runs on with its data, becomes the primary of {group.id}.")
    if fresh:
        names = words.listed([m.id for m in fresh])
        starts = words.do(len(fresh), "start")
        steps.append(f"{words.several(len(fresh), 'node')} with {engine}, {group.node_type}, {starts}: {names}.")
    for shard in group.node_groups:
        count = len(shard.member_ids) - 1
        copy = (
            f", {words.several(count, 'replica')} {words.do(count, 'copy')} from it" if count else ", without replicas"
        )
        slots = f" with the slots {slots_text(shard.slots)}" if shard.slots else ""
        steps.append(f"Shard {shard.id}{slots}: {shard.primary_id} is the primary{copy}.")
    if group.restore is not None:
        begins = f"the snapshot {group.restore.snapshot}" if group.restore.snapshot else "the files of SnapshotArns"
        steps.append(f"It is filled from {begins}, and is creating until all of it is there.")
    steps.append(f"Then clients find it at {_addresses(group)}.")
    figure = figures.FORM_CLUSTER if group.clustered else figures.START_GROUP
    undo = ("Delete it again; nothing else is touched.",)
    return Part(tuple(steps), undo=undo, least_s=figure.least_ms / 1000, most_s=figure.most_ms / 1000)


def _addresses(group: ReplicationGroup) -> str:
    named = {
        "primary endpoint": group.primary_endpoint,
        "reader endpoint": group.reader_endpoint,
        "configuration endpoint": group.configuration_endpoint,
    }
    found = [f"the {name} {address}" for name, address in named.items() if address is not None]
    return words.listed(found) if found else "the addresses of its nodes"


def deleted(scene: Scene, group: ReplicationGroup) -> Part:
    """A group that is deleted, its primary kept or not."""
    members = scene.before.members(group)
    kept = [m.id for m in members if group.retain_primary and m.id == group.primary_id]
    going = [m for m in members if m.id not in kept]
    data = known_sum([scene.data_bytes(scene.primary(s)) for s in group.node_groups])
    steps = []
    if going:
        ends = words.do(len(going), "end")
        steps.append(f"{words.listed([m.id for m in going])} {ends}; folders and addresses are given back.")
    if kept:
        steps.append(f"{kept[0]} goes on with its data as a cluster of its own, at its own address.")
    steps.append(f"The endpoints of {group.id} answer no more.")
    if kept:
        return Part(tuple(steps), undo=("CreateReplicationGroup with PrimaryClusterId makes it a group again.",))
    if group.final_snapshot:
        first = f"Snapshot {group.final_snapshot} is taken and read back; if that fails, {group.id} stays."
        undo = f"Make it anew with the snapshot {group.final_snapshot}; what is written after that is lost."
        return Part((first, *steps), undo=(undo,))
    held = "" if data is None else f" ({words.size(data)} as last seen)"
    lost = f"All data of {group.id}{held} is lost. Nothing brings it back but a snapshot or a backup."
    return Part(tuple(steps), undo=("Not at all.",), warnings=(lost,))


def replicas(scene: Scene, old: ReplicationGroup, new: ReplicationGroup) -> list[Part]:
    """Members that come to, or leave, shards that stay."""
    parts = []
    for shard in new.node_groups:
        before = old.shard(shard.id)
        if before is None or shard.leaving:
            continue
        coming = [n for n in shard.member_ids if n not in before.member_ids and n in scene.after.clusters]
        going = [
            name
            for name in shard.member_ids
            if name in scene.after.clusters
            and is_going(scene.after.clusters[name])
            and not is_going(scene.before.clusters.get(name, scene.after.clusters[name]))
        ]
        if coming:
            parts.append(_coming(scene, shard.primary_id, coming))
        if going:
            parts.append(_going(new, scene, going, len(shard.member_ids) - len(going) - 1))
    return parts


def _coming(scene: Scene, primary: str, names: list[str]) -> Part:
    data = scene.data_bytes(scene.before.clusters.get(primary))
    copies = "the data" if data is None else words.size(data)
    nodes = "starts and copies" if len(names) == 1 else "start and copy"
    steps = (
        f"{words.listed(names)} {nodes} {copies} from {primary}, which serves on meanwhile.",
        "Once in sync they can be read from, and can take over." if len(names) > 1 else
        "Once in sync it can be read from, and can take over.",
    )  # fmt: skip
    most = figures.copy_s(data) * 2 * len(names) if data is not None else 0.0
    undo = ("DecreaseReplicaCount takes them away again.",)
    warnings: tuple[str, ...] = ()
    if data is not None and data > 1 << 30:
        warnings = (f"{primary} forks to write the copy: pages that change meanwhile take memory twice.",)
    return Part(steps, undo=undo, warnings=warnings, least_s=0.1, most_s=most)


def _going(group: ReplicationGroup, scene: Scene, names: list[str], left: int) -> Part:
    clients = sum(facts.clients for n in names if (facts := scene.facts(scene.before.clusters[n])) is not None)
    first = f"{words.listed(names)} {words.do(len(names), 'leave')}"
    steps = [f"{first}: the reader endpoint moves to a member that stays first."]
    if group.cluster_mode is ClusterMode.ENABLED:
        steps = [f"{first}: every other node forgets what has ended."]
    warnings = []
    if clients:
        warnings.append(f"{words.several(clients, 'connection')} to what leaves {words.do(clients, 'are')} cut.")
    if left == 0:
        warnings.append("No replica is left: if the primary dies, what its persistence did not keep is lost.")
    return Part(tuple(steps), undo=("IncreaseReplicaCount adds replicas again.",), warnings=tuple(warnings))


def single_created(scene: Scene, cluster: CacheCluster) -> Part:
    engine = words.runs(*cluster.runs)
    nodes = words.several(len(cluster.nodes), "node")
    starts = words.do(len(cluster.nodes), "start")
    places = words.listed([str(n.address) for n in cluster.nodes])
    steps = [f"{nodes} with {engine}, {cluster.node_type}, {starts} at {places}."]
    if cluster.configuration_endpoint is not None:
        steps.append(f"Clients discover them at the configuration endpoint {cluster.configuration_endpoint}.")
    return Part(tuple(steps), undo=("Delete it again; nothing else is touched.",), least_s=0.1, most_s=1.0)


def single_deleted(scene: Scene, cluster: CacheCluster) -> Part:
    data = scene.data_bytes(cluster)
    steps = (f"{cluster.id} ends; its folder and its addresses are given back.",)
    if cluster.final_snapshot:
        first = f"Snapshot {cluster.final_snapshot} is taken and read back; if that fails, {cluster.id} stays."
        return Part((first, *steps), undo=(f"Make it anew with the snapshot {cluster.final_snapshot}.",))
    held = "" if data is None else f" ({words.size(data)} as last seen)"
    lost = f"All data of {cluster.id}{held} is lost."
    if cluster.engine.speaks_resp:
        lost += " Nothing brings it back but a snapshot or a backup."
    return Part(steps, undo=("Not at all.",), warnings=(lost,))


def memcached_nodes(scene: Scene, old: CacheCluster, new: CacheCluster) -> list[Part]:
    """Nodes that are added or removed now (those that wait are told by plan.previews.waiting)."""
    have, will = {n.node_id for n in old.nodes}, {n.node_id: n for n in new.nodes}
    coming = [f"{name} at {will[name].address}" for name in sorted(will.keys() - have)]
    leaving = {n.node_id for n in new.nodes if n.status.value == "deleting"}
    leaving -= {n.node_id for n in old.nodes if n.status.value == "deleting"}
    going = sorted((have - will.keys()) | leaving)
    parts = []
    if coming:
        started = (f"Nodes start empty: {words.listed(coming)}.", "Then discovery names them to clients.")
        warning = "Clients that hash over the nodes look for some keys at other nodes than before: they miss once."
        parts.append(Part(started, undo=("Remove them again.",), warnings=(warning,), most_s=1.0))
    if going:
        steps = (f"Discovery leaves out {words.listed(going)}, then they end.",)
        warning = f"What {words.listed(going)} hold is lost, and clients hash over fewer nodes: they miss once."
        parts.append(Part(steps, undo=("New nodes can be added; they start empty.",), warnings=(warning,)))
    return parts


def rebooted(scene: Scene, old: CacheCluster, new: CacheCluster, group: ReplicationGroup | None) -> Part | None:
    """RebootCacheCluster."""
    before = {n.node_id: n for n in old.nodes}
    ids = [n.node_id for n in new.nodes if n.status.value == "rebooting" and before[n.node_id].status != n.status]
    if not ids:
        return None
    if not new.engine.speaks_resp:
        what = words.several(len(ids), "process", "processes")
        times = gap(figures.empty_restart(), f"nodes of {new.id}", len(ids))
        return Part(
            (f"{what} of {new.id} end and start empty, one by one.",),
            (times,),
            ("The data not at all.",),
            (f"What the nodes {words.listed(ids)} hold is lost.",),
        )
    data = scene.data_bytes(old)
    if group is not None and new.id not in [s.primary_id for s in group.node_groups]:
        steps = (f"{new.id}, a replica, ends and starts anew, and copies what it lacks from its primary.",)
        return Part(steps, undo=("There is nothing to undo.",), most_s=2.0)
    figure = figures.restart(data)
    steps = (f"{new.id} saves its data, ends, and starts anew with it.",)
    warnings: tuple[str, ...] = ("All its connections are cut.",)
    if group is not None:
        warnings += ("Writes wait meanwhile: TestFailover first, then a reboot of the replica, pauses them far less.",)
    undo = ("There is nothing to undo.",)
    return Part(steps, (gap(figure, f"reads and writes of {new.id}"),), undo, warnings, most_s=figure.most_ms / 1000)
